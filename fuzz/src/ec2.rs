//! vpcsim's edges: its EC2 API in the Query protocol, its scenario, its metadata service. What must hold beyond "no panic": every
//! answer is well-formed XML, a refused call changes nothing, and the books agree with the ENIs whatever was called.
//! HTTP itself is axum's and not covered.

use quick_xml::Reader;
use quick_xml::events::Event;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;
use vpcsim_ec2::{Caller, Ec2, ImdsRequest, Scenario, SimTime, State};

/// Calls of one input; more would only make it slow.
const CALLS: usize = 32;

const START: SimTime = SimTime(Duration::from_secs(1_780_000_000));

/// The world that is called: two subnets, one of them small, and two nodes, one of which may not do everything.
static WORLD: LazyLock<Scenario> = LazyLock::new(|| {
    let text = include_str!("world.yaml");
    Scenario::parse(text).expect("the fuzzer's own world is possible")
});

fn world() -> Ec2 {
    let mut ec2 = Ec2::new(&WORLD, START);
    let _ = ec2.advance(START);
    ec2
}

/// A request body per line; a line `+<milliseconds>` lets time pass, a line `@<Authorization header>` changes the caller. True when
/// the last call succeeded.
pub(crate) fn query(bytes: &[u8]) -> bool {
    let (mut ec2, mut now) = (world(), START);
    let mut caller = Caller::Key("AKIDOPERATOR".to_owned());
    let mut succeeded = false;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(CALLS) {
        let text = || String::from_utf8_lossy(&line[1..]);
        match line[0] {
            b'+' => now = now.after(Duration::from_millis(text().parse().unwrap_or(1))),
            b'@' => caller = Caller::of_header(Some(&text())),
            _ => {
                let _ = ec2.advance(now);
                let before = ec2.state();
                let answer = ec2.call(now, &caller, line);
                check_xml(&answer.body);
                succeeded = answer.status == 200;
                assert!(succeeded || ec2.state() == before, "a refused call changed something");
            }
        }
        let _ = ec2.advance(now);
        check_books(&ec2.state());
    }
    succeeded
}

/// A scenario. True when it describes a possible world, which is then made.
pub(crate) fn scenario(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Scenario::parse(text) {
        Ok(scenario) => {
            let mut ec2 = Ec2::new(&scenario, START);
            let _ = ec2.advance(START);
            let state = ec2.state();
            check_books(&state);
            assert_eq!(state.nodes.len(), scenario.nodes.len());
            let first = state.nodes.first().expect("a scenario has a node");
            assert!(ec2.imds(&first.name, "/latest/meta-data/", START).is_some());
            true
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a refusal says why");
            assert!(mistakes.iter().all(|mistake| !mistake.path.is_empty() && !mistake.problem.is_empty()));
            false
        }
    }
}

/// A request to the metadata service: method, path, token and lifetime, a line each; the token `@` is a good one. True when
/// there is content.
pub(crate) fn metadata(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut ec2 = world();
    let lines: Vec<&str> = text.splitn(4, '\n').collect();
    let line = |at: usize| lines.get(at).copied().filter(|line| !line.is_empty());
    let mut ask = |request: &ImdsRequest<'_>| ec2.imds_request("n1", request, START);
    let issue =
        ImdsRequest { method: "PUT", path: "/latest/api/token", ttl: Some("60"), ..ImdsRequest::default() };
    let good = ask(&issue).body;
    let token = line(2).map(|token| if token == "@" { good.as_str() } else { token });
    let (method, path) = (line(0).unwrap_or_default(), line(1).unwrap_or_default());
    let reply = ask(&ImdsRequest { method, path, token, ttl: line(3), forwarded: false });
    assert!(matches!(reply.status, 200 | 400 | 401 | 403 | 404 | 405), "{reply:?}");
    let is_seen = reply.status == 200 && method != "PUT";
    assert!(!is_seen || token.is_some_and(|token| token.starts_with("AQAEA")), "seen without a token");
    assert_eq!(reply.ttl.is_some(), method == "PUT" && reply.status == 200);
    assert_ne!(ec2.imds_request("nobody", &issue, START).status, 200, "no node, no service");
    reply.status == 200
}

fn check_xml(body: &str) {
    let carried = |letter: char| matches!(letter, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(body.chars().all(carried), "XML cannot carry this: {body:?}");
    let mut reader = Reader::from_str(body);
    let mut depth = 0_u32;
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => depth += 1,
            Ok(Event::End(_)) => depth -= 1,
            Ok(Event::Eof) => break,
            Ok(_) => {}
            Err(error) => panic!("{error}: {body}"),
        }
    }
    assert_eq!(depth, 0, "unfinished: {body}");
}

/// No address has two owners, none is one that EC2 keeps, and what is not free is taken.
fn check_books(state: &State) {
    let mut owned = BTreeSet::new();
    for subnet in &state.subnets {
        // EC2 keeps five addresses of each subnet.
        let mut taken = 5;
        for eni in state.enis.values().filter(|eni| eni.subnet == subnet.id) {
            let single = std::iter::once(eni.primary).chain(eni.secondary.iter().copied());
            let covered = eni.prefixes.iter().flat_map(|prefix| {
                (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
            });
            for address in single.chain(covered) {
                taken += 1;
                assert!(owned.insert(address), "{address} has two owners");
                let place = u32::from(address).wrapping_sub(u32::from(subnet.cidr.network()));
                assert!(subnet.cidr.contains(&address) && place >= 4, "{address} in {}", subnet.cidr);
            }
        }
        assert_eq!(subnet.free + subnet.held + taken, 1 << (32 - subnet.cidr.prefix_len()), "{}", subnet.name);
    }
}
