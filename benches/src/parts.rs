//! Where the time goes: parts of ADD and DEL on their own, beside the whole, in the same rounds and on the node with few pods.
//!
//! Parts that are the plugin's are measured by executing it with less to do; the kernel's by doing the same from here, without a process.

use crate::node::Node;
use crate::samples::Samples;
use anyhow::{Context, Result};
use spur_datapath::netlink::{Netlink, VethSpec};
use spur_datapath::pod::{self, PodWiring};
use spur_datapath::{TableId, names};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

/// A table that nothing reads.
const TABLE: TableId = TableId::new(4999);

/// Something on its own, in milliseconds.
#[derive(Debug, Clone)]
pub struct Part {
    /// What.
    pub what: &'static str,
    /// How long.
    pub took: Samples,
}

/// Measures the parts on Spur's node and the start of the reference's plugin; `disk` is where the agent's store is.
///
/// # Errors
/// When one fails.
pub fn measure(spur: &mut Node, reference: &Node, disk: &Path, rounds: u32) -> Result<Vec<Part>> {
    let whats = [
        "the reference's plugin starts and ends, nothing asked",
        "Spur's plugin starts and ends, nothing asked",
        "… reads its configuration and asks the agent (STATUS)",
        "ADD as a whole",
        "DEL as a whole",
        "a pod is wired, by the same code without a process",
        "a veth pair is deleted, one netlink message",
        "one page is written to the store's disk, durably (fdatasync)",
    ];
    let mut parts = whats.map(|what| Part { what, took: Samples::default() });
    let sandbox = spur.sandbox()?;
    let mut kernel = Netlink::open_in(spur.netns())?;
    let page = disk.join("bench.page");
    let mut file = std::fs::File::create(&page).context("make a file beside the store")?;
    for _ in 0..rounds {
        let (add, pods) = spur.add(1)?;
        let del = spur.del(pods)?.returned;
        let (wire, delete) = wire_and_delete(&mut kernel, &sandbox.netns)?;
        let begin = Instant::now();
        file.write_all(&[0; 4096]).context("write a page")?;
        file.sync_data().context("make a page durable")?;
        let durable = begin.elapsed();
        let start = [reference.execute(None)?, spur.execute(None)?, spur.execute(Some("STATUS"))?];
        let took = start.into_iter().chain([add, del, wire, delete, durable]);
        for (part, took) in parts.iter_mut().zip(took) {
            part.took.push(took.as_secs_f64() * 1e3);
        }
    }
    std::fs::remove_file(&page).context("remove the file beside the store")?;
    Ok(parts.into())
}

fn wire_and_delete(
    kernel: &mut Netlink,
    sandbox: &spur_datapath::netns::NetNs,
) -> Result<(std::time::Duration, std::time::Duration)> {
    let (id, eth0) = ("part", "eth0");
    let wiring = PodWiring {
        pod_name: eth0.parse()?,
        pod_mac: names::pod_mac(id, eth0),
        host_name: "spurpart0".parse()?,
        host_mac: names::host_mac(id, eth0),
        addresses: vec![Ipv4Addr::new(198, 18, 0, 1).into()],
        mtu_bytes: 9001,
        pods_table: TABLE,
        node_address: Ipv4Addr::LOCALHOST.into(),
        queues: 1,
    };
    let begin = Instant::now();
    pod::add(kernel, sandbox, &wiring, &mut pod::every_step).context("wire a pod")?;
    let wired = begin.elapsed();
    kernel.remove_link(&wiring.host_name)?;
    // A pair without routes and addresses: what deleting alone takes.
    let spec = VethSpec {
        name: &wiring.host_name,
        mac: None,
        netns: None,
        up: false,
        peer_name: &"spurpart1".parse()?,
        peer_mac: None,
        peer_netns: None,
        mtu_bytes: 1500,
        queues: 1,
    };
    kernel.create_veth(&spec)?;
    let begin = Instant::now();
    kernel.remove_link(&wiring.host_name)?;
    Ok((wired, begin.elapsed()))
}
