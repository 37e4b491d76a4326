//! Metrics of a whole agent, scraped as Prometheus does, and what scrapes cost whose clients hang up.

use super::bed::{Bed, FakeKernel, wait_until};
use crate::agent::handle::PoolHandle;
use crate::agent::recovered::Recovered;
use crate::agent::scrape::Scraped;
use crate::agent::status::{NodeStatus, Phase, Running};
use crate::config::Config;
use crate::metrics::Source;
use spur_cloud::fake::FakeCloud;
use spur_ipamd_core::DatapathWanted;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;

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

/// An agent that can be scraped, without a pool that answers.
fn scraped(kernel: &Arc<FakeKernel>) -> Arc<Scraped<FakeKernel>> {
    let running = Running {
        pool: PoolHandle::new(mpsc::unbounded_channel().0),
        node: watch::channel(NodeStatus::unknown()).1,
        wanted: watch::channel(DatapathWanted::default()).1,
        granted: None,
        node_address: Ipv4Addr::LOCALHOST,
        recovered: Recovered::default(),
    };
    Arc::new(Scraped {
        phase: watch::channel(Phase::Running(Arc::new(running))).1,
        config: watch::channel(Arc::new(Config::parse("").unwrap())).1,
        requests: Arc::default(),
        kernel: Arc::clone(kernel),
        flows: Default::default(),
    })
}

#[tokio::test(start_paused = true)]
async fn however_many_clients_hang_up_the_table_is_walked_once_and_the_last_gets_it() {
    let kernel = Arc::new(FakeKernel::new(FakeCloud::default()));
    let scraped = scraped(&kernel);
    let scrape = || {
        let scraped = Arc::clone(&scraped);
        tokio::spawn(async move { scraped.text().await })
    };
    let gate = kernel.walk_gate.lock().await;
    let first = scrape();
    while kernel.with(|state| state.walks) == 0 {
        yield_now().await;
    }
    first.abort();
    assert!(first.await.is_err());
    // Longer than what was counted is told again: the table is large.
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(20)).await;
        let next = scrape();
        for _ in 0..10 {
            yield_now().await;
        }
        next.abort();
        assert!(next.await.is_err(), "it waits for the walk");
    }
    let last = scrape();
    yield_now().await;
    drop(gate);
    let text = last.await.unwrap();
    assert!(text.contains("\nspur_nat_translated_flows 1.0\n"), "{text}");
    assert_eq!(kernel.with(|state| state.walks), 1);
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(scrape().await.unwrap().contains("\nspur_nat_translated_flows 2.0\n"));
}
