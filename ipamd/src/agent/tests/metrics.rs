//! Metrics of a whole agent, scraped as Prometheus does.

use super::bed::{Bed, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// The value of a sample; none while nobody answers.
fn value(address: SocketAddr, sample: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn an_eni_that_comes_is_no_repair_and_what_others_flush_is_one() {
    let mut bed = Bed::new();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    bed.config.metrics_listen = Some(address);
    let agent = bed.start_ready();
    let repairs = || value(address, "spur_kernel_repairs_total");
    let pods: Vec<_> = (0..12).map(|number| format!("c{number}")).collect();
    assert!(agent.add_all(&pods).iter().all(Result::is_ok), "two ENIs' worth");
    assert_eq!(value(address, "spur_pool_addresses{state=\"held\"}"), Some(12.0));
    assert_eq!(value(address, "spur_pool_enis{phase=\"ready\"}"), Some(2.0));
    assert_eq!(repairs(), Some(0.0));

    bed.kernel.with(|state| state.flushed = true);
    wait_until("the repair is counted", || repairs() == Some(1.0));
    bed.kernel.with(|state| (state.flushed, state.broken) = (true, true));
    wait_until("the failed attempt is counted", || {
        value(address, "spur_kernel_failed_updates_total") >= Some(1.0)
    });
    assert_eq!(value(address, "spur_kernel_state{state=\"failing\"}"), Some(1.0));
}
