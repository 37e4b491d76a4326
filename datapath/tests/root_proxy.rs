//! Services of kube-proxy beside Spur's translation, in both modes of either, by real packets. The rules are the real kube-proxy's: captured,
//! or, with `make kube-proxy`, written by itself while the test runs.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;
use support::matrix::{COVERED, ENI, Flow, INTERNET, NODE, bind, listen, seen, through_service};
use support::proxy::{CASES, Case, version};
use support::world::{World, assert_nothing_left_by_the_wrong_eni};

#[test]
fn the_captured_rules_are_of_the_version_that_is_built() {
    let captured = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy")).unwrap();
    let texts: Vec<_> = captured.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(texts.len(), CASES.len());
    for text in texts {
        assert_eq!(
            text.lines().next(),
            Some(format!("# kube-proxy {}", version()).as_str()),
            "capture again"
        );
    }
}

/// Services of the cluster, as pods, the node and hosts outside use them. The second pod is the local endpoint.
fn services_work(world: &World, pods: [&str; 3], asked: &[&str]) {
    let remote = bind(&world.router, &format!("{COVERED}:7777"));
    let local = bind(&world.pods[1], "0.0.0.0:7777");
    for (pod, own) in pods.iter().enumerate() {
        let client = bind(&world.pods[pod], "0.0.0.0:0");
        assert_eq!(through_service(&client, "172.20.0.1:80", &remote), *own, "a remote endpoint");
        assert_ne!(
            through_service(&client, &format!("{NODE}:30082"), &remote),
            *own,
            "the same by the node's port"
        );
    }
    let listener = listen(&world.pods[1]);
    for pod in [0, 2] {
        let client = bind(&world.pods[pod], "0.0.0.0:0");
        for service in ["172.20.0.2:80", "172.20.0.4:80", "172.20.0.4:80", &format!("{NODE}:30081")] {
            assert_eq!(through_service(&client, service, &local), pods[pod], "an endpoint on this node");
            assert_eq!(Flow::through(&world.pods[pod], service, &listener).seen, pods[pod], "and by TCP");
        }
    }
    let hairpin = through_service(&bind(&world.pods[1], "0.0.0.0:0"), "172.20.0.2:80", &local);
    assert_ne!(hairpin, pods[1], "who reaches itself must see somebody else");
    let host = bind(&world.node, "0.0.0.0:0");
    assert_eq!(through_service(&host, "172.20.0.1:80", &remote), NODE);
    for service in ["172.20.0.2:80", &format!("{NODE}:30080"), &format!("{NODE}:30081")] {
        assert_eq!(through_service(&host, service, &local), NODE, "the node itself");
    }

    // NodePort from outside, to a pod on another ENI than the one it came in by, if there is another.
    for address in asked {
        for client_address in [COVERED, INTERNET] {
            let client = bind(&world.router, &format!("{client_address}:0"));
            let masqueraded = through_service(&client, &format!("{address}:30080"), &local);
            assert_ne!(masqueraded, client_address, "externalTrafficPolicy: Cluster");
            let kept = through_service(&client, &format!("{address}:30081"), &local);
            assert_eq!(kept, client_address, "externalTrafficPolicy: Local");
        }
        for service in ["30080", "30081"] {
            Flow::through(&world.router, &format!("{address}:{service}"), &listener).works();
        }
        // And to an endpoint elsewhere: in by one ENI, out by the primary one, and back the same way.
        let client = bind(&world.router, &format!("{INTERNET}:0"));
        assert_eq!(through_service(&client, &format!("{address}:30082"), &remote), NODE);
    }
    assert_eq!(seen(world, 1, INTERNET), NODE, "and the internet still sees the node");
    a_service_without_endpoints_is_refused(world);
}

fn a_service_without_endpoints_is_refused(world: &World) {
    // Not the pod that has just reached itself: Linux tells it of a shorter way, and then nothing else for a second.
    let client = bind(&world.pods[0], "0.0.0.0:0");
    client.connect("172.20.0.5:80").unwrap();
    client.send(b"ping").unwrap();
    let refused = client.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
}

fn beside_kube_proxy(case: Case) {
    let world = case.world();
    let _proxy = case.start(&world);
    // In iptables mode kube-proxy listens on all addresses of the node, in nftables mode on the primary one.
    let asked: &[&str] = if case.nftables || case.block { &[NODE] } else { &[NODE, ENI] };
    services_work(&world, case.pods(), asked);
    let guard = world.node.exec("nft list counter ip spur spoofed");
    assert!(guard.contains("packets 0 "), "{guard}");
    assert_nothing_left_by_the_wrong_eni(&world);
}

#[test]
#[ignore = "needs root"]
fn services_of_kube_proxy_in_iptables_mode_work_beside_translation() {
    CASES.into_iter().filter(|case| !case.nftables).for_each(beside_kube_proxy);
}

#[test]
#[ignore = "needs root"]
fn services_of_kube_proxy_in_nftables_mode_work_beside_translation() {
    CASES.into_iter().filter(|case| case.nftables).for_each(beside_kube_proxy);
}

#[test]
#[ignore = "needs root"]
fn a_masquerader_that_covers_pods_is_found_and_kube_proxy_is_not_one() {
    for case in CASES {
        let world = case.world();
        let _proxy = case.start(&world);
        let found = || {
            let mut nft = spur_datapath::nft::Nft::open_in(&world.node.ns).unwrap();
            nft.masqueraders("spur", &case.wanted().nat.local).unwrap().len()
        };
        assert_eq!(found(), 0, "{case:?}");
        world.node.exec("iptables-nft -t nat -A POSTROUTING ! -d 10.0.0.0/8 -j MASQUERADE");
        assert_eq!(found(), 1, "{case:?}");
    }
}
