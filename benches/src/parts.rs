//! Where the time goes: parts of ADD and DEL on their own, beside the whole, in the same rounds; on a node with many pods and on one with few.
//!
//! Parts that are the plugin's are measured by executing it with less to do; the kernel's by doing the same from here, without a process.

use crate::rounds::{Nodes, Side};
use crate::samples::Samples;
use anyhow::{Context, Result};
use spur_datapath::netlink::{Netlink, VethSpec};
use spur_datapath::netns::NetNs;
use spur_datapath::pod::{self, PodWiring};
use spur_datapath::{TableId, names};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// A table that nothing reads.
const TABLE: TableId = TableId::new(4999);

/// What is measured, in this order.
const WHATS: [&str; 9] = [
    "the reference's plugin starts and ends, nothing asked",
    "Spur's plugin starts and ends, nothing asked",
    "… reads its configuration and asks the agent (STATUS)",
    "ADD as a whole",
    "DEL as a whole",
    "a pod is wired, by the same code without a process",
    "… of that, the veth pair is created, one netlink message",
    "a veth pair is deleted, one netlink message",
    "one page is written to the store's disk, durably (fdatasync)",
];

/// The parts by name, for the text: medians in milliseconds on the node with few pods.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// The plugin starts and ends.
    pub start: f64,
    /// It asks the agent, and nothing else.
    pub exchange: f64,
    /// A page becomes durable.
    pub durable: f64,
    /// A pod is wired.
    pub wire: f64,
    /// Of that, the pair is created.
    pub create: f64,
    /// ADD as a whole.
    pub add: f64,
    /// DEL as a whole.
    pub del: f64,
}

impl Profile {
    /// From what [`measure`] gave.
    #[must_use]
    pub fn of(parts: &[Part]) -> Option<Self> {
        let medians: Vec<f64> = parts.iter().map(|part| part.few.median()).collect();
        let [_, start, status, add, del, wire, create, _, durable] = medians[..] else { return None };
        Some(Self { start, exchange: status - start, durable, wire, create, add, del })
    }
}

/// Something on its own, in milliseconds.
#[derive(Debug, Clone)]
pub struct Part {
    /// What.
    pub what: &'static str,
    /// How long on the node with many pods.
    pub many: Samples,
    /// How long on the node with few.
    pub few: Samples,
}

/// Measures the parts; `disk` is a directory beside the agents' stores.
///
/// # Errors
/// When one fails.
pub fn measure(nodes: &mut Nodes<'_>, disk: &Path, rounds: u32) -> Result<Vec<Part>> {
    let mut parts: Vec<_> =
        WHATS.map(|what| Part { what, many: Samples::default(), few: Samples::default() }).into();
    let sandbox = nodes.side(Side::Small).sandbox()?;
    let file = disk.join("bench.page");
    let mut page = File::create(&file).context("make a file beside the stores")?;
    for _ in 0..rounds {
        for side in [Side::Spur, Side::Small] {
            let took = once(nodes, side, &sandbox.netns, &mut page)?;
            for (part, took) in parts.iter_mut().zip(took) {
                let samples = if side == Side::Spur { &mut part.many } else { &mut part.few };
                samples.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    std::fs::remove_file(&file).context("remove the file beside the stores")?;
    Ok(parts)
}

fn once(nodes: &mut Nodes<'_>, side: Side, sandbox: &NetNs, page: &mut File) -> Result<[Duration; 9]> {
    let reference = nodes.look(Side::Reference).execute(None)?;
    let spur = nodes.side(side);
    let (start, status) = (spur.execute(None)?, spur.execute(Some("STATUS"))?);
    let (add, pods) = spur.add(1)?;
    let del = spur.del(pods)?.returned;
    let [wire, create, delete] = wire_and_delete(&mut Netlink::open_in(spur.netns())?, sandbox)?;
    let begin = Instant::now();
    page.write_all(&[0; 4096]).context("write a page")?;
    page.sync_data().context("make a page durable")?;
    Ok([reference, start, status, add, del, wire, create, delete, begin.elapsed()])
}

fn wire_and_delete(kernel: &mut Netlink, sandbox: &NetNs) -> Result<[Duration; 3]> {
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
    // A pair without routes and addresses: what creating and deleting alone take.
    let spec = VethSpec {
        name: &wiring.pod_name,
        mac: Some(wiring.pod_mac),
        netns: Some(sandbox),
        up: true,
        peer_name: &wiring.host_name,
        peer_mac: Some(wiring.host_mac),
        peer_netns: None,
        mtu_bytes: wiring.mtu_bytes,
        queues: wiring.queues,
    };
    let begin = Instant::now();
    kernel.create_veth(&spec)?;
    let created = begin.elapsed();
    let begin = Instant::now();
    kernel.remove_link(&wiring.host_name)?;
    Ok([wired, created, begin.elapsed()])
}
