//! A short torture with a fixed seed; `make torture` runs long ones with seeds of its own choice.

use spur_e2e::torture::Torture;
use spur_e2e::world::Mode;

#[test]
#[ignore = "needs root"]
fn killed_agents_and_plugins_lose_double_leak_and_cut_off_nothing() {
    survive("tort", Mode::Eni, (8, 3));
}

#[test]
#[ignore = "needs root"]
fn killed_controllers_lead_no_table_astray() {
    survive("tort-mixed", Mode::Mixed, (7, 2));
}

/// With an odd seed nodes in `eni` mode use prefixes.
fn survive(name: &str, mode: Mode, (seed, rounds): (u64, u64)) {
    let run = Torture { name: format!("t{}-{name}", std::process::id()), mode, seed, first: 1, rounds };
    let survived =
        run.run(&|line| println!("{line}"), &|| Ok(())).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(survived.kills > 10 * rounds, "only {}", survived.summary);
}
