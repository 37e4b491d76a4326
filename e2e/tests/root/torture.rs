//! A short torture with a fixed seed; `make torture` runs long ones with seeds of its own choice.

use spur_e2e::torture::Torture;

#[test]
#[ignore = "needs root"]
fn killed_agents_and_plugins_lose_double_leak_and_cut_off_nothing() {
    let run =
        Torture { name: format!("t{}-tort", std::process::id()), nodes: 2, seed: 7, first: 1, rounds: 3 };
    let survived =
        run.run(&|line| println!("{line}"), &|| Ok(())).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(survived.kills > 30, "only {}", survived.summary);
}
