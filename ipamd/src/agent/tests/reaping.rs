//! Veths of pods that are gone: deleted after DEL, together, without anybody waiting; and what no grant stands for is found at the
//! start, never what an ADD is wiring.

use super::bed::{Bed, add_request, attachment, wait_until};
use spur_datapath::IfName;
use spur_datapath::names::{host_mac, host_veth_name};
use spur_datapath::pod::PodLink;
use spur_wire::{DelRequest, RequestBody, Response};

fn link_of(container: &str) -> PodLink {
    PodLink { name: name_of(container), mac: Some(host_mac(container, "eth0")) }
}

fn name_of(container: &str) -> IfName {
    host_veth_name(None, container, "eth0")
}

#[test]
fn what_del_detached_is_reaped_soon_and_together() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let containers: Vec<_> = (0..6).map(|number| format!("c{number}")).collect();
    agent.add_all(&containers);
    bed.kernel.with(|state| {
        state.reaped.clear();
        state.detached = containers.iter().map(|container| name_of(container)).collect();
    });
    std::thread::scope(|scope| {
        for container in &containers {
            let agent = &agent;
            scope.spawn(move || {
                let del = RequestBody::Del(DelRequest { attachment: attachment(container) });
                let Some(Response::Del(reply)) = agent.ask(del) else { panic!("{container}") };
                assert!(reply.reaps_links, "the plugin need not wait for the kernel");
            });
        }
    });
    wait_until("reaped", || bed.kernel.with(|state| state.reaped.iter().map(Vec::len).sum::<usize>() == 6));
    let rounds = bed.kernel.with(|state| state.reaped.len());
    assert!(rounds < 6, "{rounds} rounds for 6 veths");
}

#[test]
fn c62_a_start_sweeps_veths_without_a_grant_and_no_others() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    agent.address("held");
    agent.kill();
    let unknown = PodLink { name: "eniwithoutmac".parse().unwrap(), mac: None };
    bed.kernel.with(|state| {
        state.links = vec![link_of("held"), link_of("left"), unknown.clone()];
        state.detached = vec![name_of("marked")];
        state.reaped.clear();
    });
    let mut agent = bed.start_ready();
    let gone = [name_of("marked"), name_of("left")];
    wait_until("swept", || bed.kernel.with(|state| state.reaped.iter().flatten().count() == 2));
    assert_eq!(bed.kernel.with(|state| state.reaped.concat()), gone);
    assert_eq!(bed.kernel.with(|state| state.links.clone()), [link_of("held"), unknown]);
    assert!(matches!(agent.ask(add_request("held")), Some(Response::Refused(_))), "it is held as before");
    // What was promised before a stop is done before it.
    agent.del("held");
    bed.kernel.with(|state| state.detached = vec![name_of("held")]);
    agent.stop().unwrap();
    assert!(bed.kernel.with(|state| state.detached.is_empty()));
}

#[test]
fn a_start_forgets_the_flows_of_what_rests_because_nobody_knows_what_a_killed_agent_still_had_to_do() {
    let bed = Bed::new();
    let agent = bed.start_ready();
    let (rests, held) = (agent.address("gone"), agent.address("held"));
    agent.del("gone");
    agent.kill();
    bed.kernel.with(|state| state.forgotten.clear());
    let _agent = bed.start_ready();
    wait_until("forgotten", || bed.kernel.with(|state| state.forgotten.contains(&rests)));
    assert!(!bed.kernel.with(|state| state.forgotten.contains(&held)), "flows of a pod that lives");
}
