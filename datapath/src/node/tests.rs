//! Plans from observed and wanted state, without a kernel: a small model of one applies them.

use super::*;
use crate::layout::EniOrdinal;
use crate::netlink::RouteScope;
use crate::nft::{Content, Family, Parts, SetDiff, TableDiff, Verdict};
use crate::{IfName, LinkIndex, MacAddr, TableId};
use ipnet::{IpNet, Ipv4Net};

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

fn link(index: u32, name: &str, last: u8) -> Link {
    Link {
        index: LinkIndex(index),
        name: name.parse().unwrap(),
        mac: Some(mac(last)),
        mtu_bytes: 1500,
        up: false,
        kind: Some("veth".into()),
        lower: None,
        group: 0,
    }
}

fn eni(ordinal: u32, pods: &[&str]) -> SecondaryEni {
    SecondaryEni {
        ordinal: EniOrdinal::new(ordinal).unwrap(),
        mac: mac(ordinal.to_le_bytes()[0]),
        address: net(&format!("10.0.{ordinal}.10/24")),
        gateway: format!("10.0.{ordinal}.1").parse().unwrap(),
        pod_addresses: pods.iter().map(|text| net(text)).collect(),
        mtu_bytes: Some(9001),
    }
}

fn wanted() -> NodeWanted {
    NodeWanted {
        primary: PrimaryEni { mac: mac(0), address: "10.0.0.10".parse().unwrap() },
        secondaries: vec![eni(1, &["10.0.1.20/32", "10.0.1.21/32"]), eni(2, &["10.0.2.16/28"])],
        nat: NatWanted {
            local: vec![net("10.0.0.20/32"), net("10.0.1.20/32"), net("10.0.1.21/32")],
            never: vec![net("10.0.0.0/16")],
            force: vec![],
            ports: PortRange::default(),
            v6: Nat6Wanted::default(),
        },
        block_instance_metadata: false,
    }
}

fn observed() -> NodeObserved {
    NodeObserved {
        links: vec![link(2, "eth0", 0), link(3, "eth1", 1), link(4, "eth2", 2)],
        ..NodeObserved::default()
    }
}

/// What the kernel would have after the plan.
fn after(mut state: NodeObserved, plan: &NodePlan) -> NodeObserved {
    for change in &plan.changes {
        match change.action.clone() {
            Action::SetSysctl { key, value } => drop(state.sysctls.insert(key, Some(value))),
            Action::SetLink { link, mtu_bytes, .. } => {
                let link = state.links.iter_mut().find(|one| one.index == link).unwrap();
                link.up = true;
                link.mtu_bytes = mtu_bytes.unwrap_or(link.mtu_bytes);
            }
            Action::AddAddress(address) => state.addresses.push(address),
            Action::RemoveAddress(address) => state.addresses.retain(|one| *one != address),
            Action::SetRoute(route) => {
                state.routes.retain(|one| (one.table, one.destination) != (route.table, route.destination));
                state.routes.push(route);
            }
            Action::RemoveRoute(route) => state.routes.retain(|one| *one != route),
            Action::AddRule(rule) => state.rules.push(rule),
            Action::RemoveRule(rule) => state.rules.retain(|one| *one != rule),
            Action::UpdateTable { table, .. } => drop(state.tables.insert(table.family, table.shape())),
            Action::DeleteTable(family) => drop(state.tables.remove(&family)),
        }
    }
    state
}

type Loss = fn(&mut NodeObserved);

fn lines(plan: &NodePlan) -> Vec<String> {
    plan.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_fresh_node_is_planned_completely_and_then_is_in_sync() {
    let plan = NodePlan::new(&observed(), &wanted());
    let expected = include_str!("tests/fresh_node.txt");
    assert_eq!(lines(&plan).join("\n"), expected.trim_end());
    let settled = after(observed(), &plan);
    let again = NodePlan::new(&settled, &wanted());
    assert!(again.is_in_sync(), "{:#?}", lines(&again));
}

#[test]
fn half_of_a_change_is_no_loss_and_what_both_states_need_is_one() {
    let settled = after(observed(), &NodePlan::new(&observed(), &wanted()));
    let mut next = wanted();
    drop(next.secondaries.remove(1));
    next.nat.never.push(net("172.31.0.0/16"));
    let lost = |state: &NodeObserved| {
        NodePlan::new(state, &next).shares_a_loss_with(&NodePlan::new(state, &wanted()))
    };
    let change = NodePlan::new(&settled, &next);
    assert!(change.changes.len() > 3, "{:#?}", lines(&change));
    for done in 0..=change.changes.len() {
        let half = NodePlan { changes: change.changes[..done].to_vec(), missing: Vec::new() };
        assert!(!lost(&after(settled.clone(), &half)), "after {:#?}", lines(&half));
    }
    let losses: [Loss; 4] = [
        |state| drop(state.tables.remove(&Family::Ip)),
        |state| state.rules.retain(|rule| rule.priority != layout::PODS_RULE),
        |state| state.routes.retain(|route| route.table != TableId::new(5001)),
        |state| state.sysctls.values_mut().for_each(|value| *value = Some("0".into())),
    ];
    for lose in losses {
        let mut damaged = settled.clone();
        lose(&mut damaged);
        assert!(lost(&damaged), "{:#?}", lines(&NodePlan::new(&damaged, &next)));
    }
}

#[test]
fn every_single_loss_is_repaired_by_changes_that_name_it() {
    let settled = after(observed(), &NodePlan::new(&observed(), &wanted()));
    let losses: [(&str, Loss); 7] = [
        ("rule", |state| state.rules.truncate(2)),
        ("route", |state| state.routes.truncate(1)),
        ("address", |state| state.addresses.truncate(0)),
        ("nft", |state| drop(state.tables.remove(&Family::Ip))),
        ("nft", |state| drop(state.tables.remove(&Family::Ip6))),
        ("sysctl", |state| state.sysctls.values_mut().for_each(|value| *value = Some("0".into()))),
        ("link", |state| state.links[1].up = false),
    ];
    for (kind, lose) in losses {
        let mut damaged = settled.clone();
        lose(&mut damaged);
        let plan = NodePlan::new(&damaged, &wanted());
        assert!(
            !plan.changes.is_empty() && plan.changes.iter().all(|change| change.action.kind() == kind),
            "{kind}: {plan:?}"
        );
        assert!(NodePlan::new(&after(damaged, &plan), &wanted()).is_in_sync(), "{kind}");
    }
}

#[test]
fn more_addresses_cost_one_update_of_the_sets_that_changed() {
    let settled = after(observed(), &NodePlan::new(&observed(), &wanted()));
    let mut more = wanted();
    more.secondaries[0].pod_addresses.push(net("10.0.1.22/32"));
    let plan = NodePlan::new(&settled, &more);
    let [Change { action: Action::UpdateTable { diff, .. }, reason }] = &plan.changes[..] else {
        panic!("{plan:?}")
    };
    let entries =
        Content::PrefixVerdicts(vec![(net("10.0.1.22/32"), Verdict::Goto("eni-1".into()))]).entries();
    let one = SetDiff { name: "eni_of".into(), gone: Some(vec![]), new: entries };
    let parts = Parts { elements: vec![one], ..Parts::default() };
    assert_eq!((diff, reason.as_str()), (&TableDiff::Parts(parts), "changed sets: eni_of"));
}

#[test]
fn an_eni_that_goes_takes_its_rules_routes_and_address_along_after_its_marks() {
    let settled = after(observed(), &NodePlan::new(&observed(), &wanted()));
    let mut less = wanted();
    less.secondaries.pop();
    let plan = NodePlan::new(&settled, &less);
    let kinds: Vec<_> = plan.changes.iter().map(|change| change.action.kind()).collect();
    assert_eq!(kinds, ["nft", "rule", "rule", "route", "route", "address"]);
    assert!(NodePlan::new(&after(settled, &plan), &less).is_in_sync());
}

#[test]
fn an_eni_whose_link_is_not_there_yet_is_missing_and_nothing_is_done_for_it() {
    let mut early = observed();
    early.links.pop();
    let plan = NodePlan::new(&early, &wanted());
    assert_eq!(plan.missing, [mac(2)]);
    assert!(!lines(&plan).iter().any(|line| line.contains("5002")), "{:#?}", lines(&plan));
    let mut settled = after(early, &plan);
    assert!(NodePlan::new(&settled, &wanted()).changes.is_empty());
    settled.links.push(link(4, "eth2", 2));
    let plan = NodePlan::new(&settled, &wanted());
    let reason = plan.changes.last().map(|change| change.reason.as_str());
    assert_eq!(
        reason,
        Some("new chains: eni-2; changed sets: eni_itself, eni_of"),
        "the table is not replaced"
    );
}

#[test]
fn what_others_made_is_left_alone() {
    let mut state = after(observed(), &NodePlan::new(&observed(), &wanted()));
    let foreign: IpNet = "10.7.0.0/16".parse().unwrap();
    let mut route = RouteSpec::on_link(TableId::new(5001), foreign, LinkIndex(3));
    route.protocol = 4;
    state.routes.push(route);
    let mut address = AddressSpec::new(LinkIndex(2), "10.0.0.99/24".parse().unwrap());
    address.protocol = 0;
    state.addresses.push(address);
    // Another agent's own address for an ENI, with a route for its prefix, is as good as ours.
    state.addresses[0].no_prefix_route = false;
    state.addresses[0].protocol = 0;
    assert!(NodePlan::new(&state, &wanted()).is_in_sync());
    let removal = NodePlan::removal(&state);
    let left = after(state, &removal);
    assert_eq!((left.rules.len(), left.routes.len(), left.addresses.len(), left.tables.len()), (0, 1, 2, 0));
}

#[test]
fn a_route_that_leads_elsewhere_is_replaced_not_doubled() {
    let mut state = after(observed(), &NodePlan::new(&observed(), &wanted()));
    state.routes[1].gateway = Some("10.0.1.254".parse().unwrap());
    state.routes[0].scope = RouteScope::Universe;
    let plan = NodePlan::new(&state, &wanted());
    assert_eq!(plan.changes.len(), 2);
    assert!(plan.changes.iter().all(|change| change.reason == "leads elsewhere"), "{plan:?}");
}

#[test]
fn a_pods_veth_with_an_enis_mac_is_not_taken_for_the_eni() {
    let mut state = observed();
    state.links.insert(0, link(9, "eni0123456789a", 1));
    let plan = NodePlan::new(&state, &wanted());
    assert!(!lines(&plan).iter().any(|line| line.contains("eni0123456789a")), "{:#?}", lines(&plan));
    let eth1: IfName = "eth1".parse().unwrap();
    assert!(
        plan.changes
            .iter()
            .any(|change| matches!(&change.action, Action::SetLink { name, .. } if *name == eth1))
    );
}

#[test]
fn port_ranges_that_would_run_dry_are_refused() {
    assert!(PortRange::new(1024, 65535).is_ok() && PortRange::new(10_000, 14_095).is_ok());
    for (first, last) in [(1023, 65535), (10_000, 14_094), (20_000, 10_000)] {
        assert!(PortRange::new(first, last).unwrap_err().to_string().contains("4096"));
    }
}
