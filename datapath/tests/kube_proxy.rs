//! Spur on a node beside a live kube-proxy, which starts anew and is told of changes: `make kube-proxy`. What can be tried with captured rules is in
//! `root_proxy.rs`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use spur_datapath::node::{NodePlan, NodeWanted};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::matrix::{COVERED, Flow, INTERNET, NODE, bind, listen, through_service};
use support::proxy::{CASES, Case, KubeProxy, cluster};
use support::world::{World, net};

/// What translates to one more destination, and to one less.
fn turned(case: Case) -> NodeWanted {
    let mut turned = case.wanted();
    turned.nat.never.retain(|never| *never != net("10.0.9.0/24"));
    turned.nat.never.push(net("198.51.100.0/24"));
    turned
}

fn in_sync(world: &mut World, wanted: &NodeWanted) -> bool {
    NodePlan::new(&world.kernel.observe().unwrap(), wanted).is_in_sync()
}

/// The rules name this pod as an endpoint, and that one no longer.
fn moved(rules: &str, to: &str, from: &str) -> bool {
    let endpoint = |pod| rules.contains(&format!("{pod}:7777")) || rules.contains(&format!("{pod} . 7777"));
    endpoint(to) && !endpoint(from)
}

#[test]
#[ignore = "needs root and kube-proxy"]
fn flows_live_on_while_kube_proxy_writes_all_its_rules_anew() {
    for case in CASES {
        let mut world = case.world();
        let proxy = KubeProxy::start(case, &world);
        let service = listen(&world.pods[1]);
        let mut flows = [
            Flow::open(&world, 1, INTERNET),
            Flow::open(&world, 1, COVERED),
            Flow::through(&world.router, &format!("{NODE}:30081"), &service),
        ];
        let local = bind(&world.pods[1], "0.0.0.0:7777");
        let client = bind(&world.router, &format!("{INTERNET}:0"));
        let stop = AtomicBool::new(false);
        let rounds = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    flows.iter_mut().for_each(Flow::works);
                    assert_eq!(through_service(&client, &format!("{NODE}:30081"), &local), INTERNET);
                    rounds += 1;
                }
                rounds
            });
            drop(proxy);
            let proxy = KubeProxy::start(case, &world);
            for wanted in [turned(case), case.wanted()] {
                world.settle(&wanted);
            }
            stop.store(true, Ordering::Relaxed);
            drop(proxy);
            asking.join().unwrap()
        });
        assert!(rounds > 1, "{case:?}: the flows were asked {rounds} times");
    }
}

#[test]
#[ignore = "needs root and kube-proxy"]
fn neither_spur_nor_kube_proxy_touches_what_the_other_wrote() {
    for case in CASES {
        let [other, endpoint, _] = case.pods();
        let mut world = case.world();
        let mut proxy = KubeProxy::start(case, &world);
        assert!(in_sync(&mut world, &case.wanted()), "{case:?}: kube-proxy's first rules");
        let rules = case.rules(&world.node);
        world.settle(&turned(case));
        assert_eq!(case.rules(&world.node), rules, "{case:?}");
        proxy.tell(&world, &cluster(other), |rules| moved(rules, other, endpoint));
        assert!(in_sync(&mut world, &turned(case)), "{case:?}: kube-proxy's change");
    }
}

/// A flow of datagrams from the second pod to a server outside.
struct Datagrams {
    pod: UdpSocket,
    server: UdpSocket,
}

impl Datagrams {
    fn to(world: &World, port: &str) -> Self {
        Self {
            pod: bind(&world.pods[1], "0.0.0.0:0"),
            server: bind(&world.router, &format!("{INTERNET}:{port}")),
        }
    }

    /// There and back; whom the server saw.
    fn ask(&self) -> SocketAddr {
        self.pod.send_to(b"ping", self.server.local_addr().unwrap()).unwrap();
        let (_, seen) = self.server.recv_from(&mut [0; 8]).unwrap();
        self.server.send_to(b"pong", seen).unwrap();
        self.pod.recv_from(&mut [0; 8]).unwrap();
        seen
    }
}

/// Asks until the datagram reaches the endpoint: kube-proxy forgets flows to the one before after it has written its rules.
fn reaches(client: &UdpSocket, service: &str, endpoint: &UdpSocket) {
    endpoint.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let arrives = || {
        client.send_to(b"ping", service).unwrap();
        endpoint.recv_from(&mut [0; 8]).is_ok()
    };
    assert!((0..50).any(|_| arrives()), "{service} never leads to the new endpoint");
}

#[test]
#[ignore = "needs root and kube-proxy"]
fn a_flow_follows_its_service_to_a_pod_of_another_eni_and_translated_flows_stay() {
    for case in CASES {
        let [other, endpoint, _] = case.pods();
        let world = case.world();
        let mut proxy = KubeProxy::start(case, &world);
        let client = bind(&world.router, &format!("{INTERNET}:0"));
        let [first, second] = [1, 0].map(|pod: usize| bind(&world.pods[pod], "0.0.0.0:7777"));
        for service in ["30080", "30081"] {
            through_service(&client, &format!("{NODE}:{service}"), &first);
        }
        // kube-proxy forgets every flow to the number of a NodePort, whatever its address.
        let (kept, forgotten) = (Datagrams::to(&world, "0"), Datagrams::to(&world, "30080"));
        let before = kept.ask();
        forgotten.ask();
        proxy.tell(&world, &cluster(other), |rules| moved(rules, other, endpoint));
        for service in ["30080", "30081"] {
            let service = format!("{NODE}:{service}");
            reaches(&client, &service, &second);
            assert_ne!(through_service(&client, &service, &second), endpoint, "{case:?}");
        }
        assert_eq!(kept.ask(), before, "{case:?}: the translated flow keeps address and port");
        assert_eq!(forgotten.ask().ip().to_string(), NODE, "{case:?}: and the other begins anew");
    }
}
