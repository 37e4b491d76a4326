//! Statements about the plugin and an agent that refuses, misbehaves or is not there. No test here gets an address, so nothing
//! is wired and no privileges are needed: ADD runs with the override for the plugin's own namespace, which lets it come as far
//! as the agent.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use common::{Behaviour, FakeAgent, Invocation, Ran, refused};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
use serde_json::json;
use spur_wire::{
    DelReply, MAX_FRAME, RefusalKind, Request, RequestBody, Response, SpooledRelease, StatusReply, VERSION,
};
use std::time::Duration;

/// Far above the configured second, for machines that are busy; what hangs does so for ever.
const PATIENCE: Duration = Duration::from_secs(20);

const OWN: &str = "/proc/self/ns/net";

fn add_to(agent: &FakeAgent) -> Invocation {
    agent
        .invocation("ADD", "c1", OWN)
        .with("CNI_NETNS_OVERRIDE", "1")
        .edit(|conf| conf["timeoutSeconds"] = json!(1))
}

fn del_to(agent: &FakeAgent) -> Invocation {
    agent.invocation("DEL", "c1", "/run/netns/gone").edit(|conf| conf["timeoutSeconds"] = json!(1))
}

/// Runs it until it took less than a second, which it must do at least once on a machine that is busy with other things.
fn quickest(invocation: &Invocation) -> Ran {
    let mut runs = (0..10).map(|_| invocation.run());
    runs.find(|ran| ran.took < Duration::from_secs(1)).expect("one of ten runs takes less than a second")
}

fn released() -> Behaviour {
    Behaviour::Answer(Response::Del(DelReply { addresses: vec![], reaps_links: false }))
}

fn verbs(requests: &[Request]) -> Vec<&'static str> {
    let verb = |request: &Request| match request.body {
        RequestBody::Add(_) => "add",
        RequestBody::Del(_) => "del",
        RequestBody::Check(_) => "check",
        RequestBody::Gc(_) => "gc",
        RequestBody::Status => "status",
    };
    requests.iter().map(verb).collect()
}

/// Ways to fail that take no time.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let frame =
        |text: &str| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    vec![
        ("no JSON", frame("nonsense")),
        ("JSON of another protocol", frame(r#"{"jsonrpc":"2.0"}"#)),
        ("an answer to another verb", frame(r#"{"status":{"ready":true,"reason":null}}"#)),
        ("oversize", (MAX_FRAME + 1).to_le_bytes().to_vec()),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ]
}

#[test]
fn c27_what_passes_is_code_11_with_the_reason() {
    for kind in [RefusalKind::TryAgain, RefusalKind::NotReady, RefusalKind::Version] {
        let agent = FakeAgent::start(move |_| {
            Behaviour::Answer(refused(kind, "subnet-1 has no free address until 12:00"))
        });
        let message = add_to(&agent).run().failure(11);
        assert!(message.contains("subnet-1 has no free address until 12:00"), "{message}");
        assert_eq!(verbs(&agent.requests()), ["add"], "nothing was granted, so nothing is released");
    }
}

#[test]
fn refusals_that_do_not_pass_have_their_own_codes() {
    for (kind, code) in
        [(RefusalKind::AlreadyAttached, 100), (RefusalKind::Invalid, 7), (RefusalKind::Internal, 999)]
    {
        let agent = FakeAgent::start(move |_| Behaviour::Answer(refused(kind, "because")));
        assert!(add_to(&agent).run().failure(code).contains("because"));
        assert_eq!(verbs(&agent.requests()), ["add"], "{kind:?}");
    }
}

#[test]
fn c28_an_agent_that_is_not_there_is_code_11_at_once() {
    let message = quickest(&add_to(&FakeAgent::absent())).failure(11);
    assert!(message.contains("connect to the agent at") && message.contains("No such file"), "{message}");
    // A socket that nobody listens on any more.
    let agent = FakeAgent::absent();
    drop(std::os::unix::net::UnixListener::bind(agent.socket()).unwrap());
    assert!(add_to(&agent).run().failure(11).contains("refused"));
}

#[test]
fn c28_an_agent_that_hangs_or_drips_costs_no_more_than_the_timeout() {
    for behave in [|_: &Request| Behaviour::Hang, |_: &Request| Behaviour::Drip] {
        let agent = FakeAgent::start(behave);
        let ran = add_to(&agent).run();
        assert!(ran.failure(11).contains("in time"), "{ran:?}");
        assert!((Duration::from_millis(900)..PATIENCE).contains(&ran.took), "{ran:?}");
    }
}

#[test]
fn c28_an_agent_that_does_not_accept_costs_no_more_than_the_timeout() {
    let agent = FakeAgent::absent();
    let address = SocketAddrUnix::new(agent.socket()).unwrap();
    let unix = || socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let listener = unix();
    bind(&listener, &address).unwrap();
    listen(&listener, 0).unwrap();
    let waiting = unix();
    connect(&waiting, &address).unwrap();
    let ran = add_to(&agent).run();
    assert!(ran.failure(11).contains("in time"), "{ran:?}");
    assert!((Duration::from_millis(900)..PATIENCE).contains(&ran.took), "{ran:?}");
}

#[test]
fn c28_an_agent_that_closes_is_code_11_and_one_that_talks_nonsense_is_101() {
    let agent = FakeAgent::start(|_| Behaviour::Close);
    add_to(&agent).run().failure(11);
    let torn = FakeAgent::start(|_| Behaviour::Bytes(b"\x40\0\0\0{".to_vec()));
    add_to(&torn).run().failure(11);
    for (what, bytes) in garbage() {
        let agent = FakeAgent::start(move |_| Behaviour::Bytes(bytes.clone()));
        let ran = add_to(&agent).run();
        assert!(ran.failure(101).contains("the agent at"), "{what}: {ran:?}");
        assert_eq!(verbs(&agent.requests()), ["add"], "{what}");
    }
}

#[test]
fn add_tells_the_agent_everything_about_the_pod() {
    let agent = FakeAgent::start(|_| Behaviour::Close);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";
    add_to(&agent).with("CNI_ARGS", args).run().failure(11);
    let expected = json!({
        "version": VERSION, "network": "spur-test",
        "body": {"add": {
            "attachment": {"containerId": "c1", "ifName": "eth0"},
            "pod": {"namespace": "default", "name": "web-0", "uid": "u-1"},
            "netns": OWN, "hostIfName": "eni0d7763386da",
        }},
    });
    assert_eq!(serde_json::to_value(&agent.requests()[0]).unwrap(), expected);
}

#[test]
fn c37_a_release_that_nobody_takes_is_spooled_and_del_succeeds() {
    let mut broken = vec![
        FakeAgent::absent(),
        FakeAgent::start(|_| Behaviour::Hang),
        FakeAgent::start(|_| Behaviour::Close),
    ];
    broken.extend(
        garbage().into_iter().map(|(_, bytes)| FakeAgent::start(move |_| Behaviour::Bytes(bytes.clone()))),
    );
    broken.extend(
        [RefusalKind::Version, RefusalKind::NotReady, RefusalKind::TryAgain]
            .map(|kind| FakeAgent::start(move |_| Behaviour::Answer(refused(kind, "not now")))),
    );
    for agent in broken {
        for _ in 0..2 {
            del_to(&agent).run().assert_silent_success();
            let spooled = agent.spooled();
            assert_eq!(spooled.len(), 1, "{spooled:?}");
            assert_eq!((spooled[0].version, spooled[0].network.as_str()), (VERSION, "spur-test"));
            assert_eq!(spooled[0].request.attachment.container_id, "c1");
            assert!(spooled[0].released_unix_ms > 1_700_000_000_000);
        }
    }
}

#[test]
fn c37_a_release_that_can_neither_be_sent_nor_kept_fails_with_11() {
    let agent = FakeAgent::absent();
    let ran = del_to(&agent).edit(|conf| conf["spoolDir"] = json!("/proc/spur")).run();
    let message = ran.failure(11);
    assert!(message.contains("connect to the agent") && message.contains("/proc/spur"), "{message}");
}

#[test]
fn c37_an_agent_that_works_but_fails_makes_del_fail() {
    for (kind, code) in [(RefusalKind::Internal, 999), (RefusalKind::Invalid, 7)] {
        let agent = FakeAgent::start(move |_| Behaviour::Answer(refused(kind, "the disk is full")));
        assert!(del_to(&agent).run().failure(code).contains("the disk is full"));
        assert!(agent.spooled().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_del_that_reaches_the_agent_empties_the_spool() {
    let mut agent = FakeAgent::absent();
    del_to(&agent).run().assert_silent_success();
    assert_eq!(agent.spooled().len(), 1);
    agent.listen(|_| released());
    del_to(&agent).run().assert_silent_success();
    assert!(agent.spooled().is_empty());
}

#[test]
fn an_add_hands_in_the_spooled_release_of_its_own_attachment_first() {
    let mut agent = FakeAgent::absent();
    del_to(&agent).run().assert_silent_success();
    del_to(&agent).with("CNI_CONTAINERID", "c2").run().assert_silent_success();
    agent.listen(|request| match request.body {
        RequestBody::Del(_) => released(),
        _ => Behaviour::Answer(refused(RefusalKind::TryAgain, "no address")),
    });
    add_to(&agent).run().failure(11);
    assert_eq!(verbs(&agent.requests()), ["del", "add"]);
    let left: Vec<_> =
        agent.spooled().into_iter().map(|release| release.request.attachment.container_id).collect();
    assert_eq!(left, ["c2"]);
}

#[test]
fn an_add_whose_spooled_release_is_not_taken_asks_for_nothing() {
    let mut agent = FakeAgent::absent();
    del_to(&agent).run().assert_silent_success();
    agent.listen(|_| Behaviour::Answer(refused(RefusalKind::NotReady, "starting")));
    assert!(add_to(&agent).run().failure(11).contains("starting"));
    assert_eq!(verbs(&agent.requests()), ["del"]);
    assert_eq!(agent.spooled().len(), 1);
}

#[test]
fn what_the_plugin_spools_the_agent_can_read_with_wire_alone() {
    let agent = FakeAgent::absent();
    del_to(&agent).run().assert_silent_success();
    let spool = SpooledRelease::read_all(&agent.spool()).unwrap();
    let (path, release) = &spool.releases[0];
    assert_eq!(*path, SpooledRelease::path(&agent.spool(), "spur-test", &release.request.attachment));
    assert!(SpooledRelease::remove(path).unwrap());
}

#[test]
fn c40_check_requires_a_previous_result() {
    let agent = FakeAgent::absent();
    let check = agent.invocation("CHECK", "c1", OWN).with("CNI_NETNS_OVERRIDE", "1");
    assert!(check.clone().run().failure(7).contains("prevResult"));
    assert!(
        check.clone().edit(|conf| conf["prevResult"] = json!(null)).run().failure(7).contains("prevResult")
    );
    assert!(
        check
            .clone()
            .edit(|conf| conf["prevResult"] = json!([]))
            .run()
            .failure(7)
            .contains("prevResult = []")
    );
    check.edit(|conf| conf["cniVersion"] = json!("0.3.1")).run().failure(1);
}

#[test]
fn c47_c54_status_and_gc_need_no_attachment_but_version_1_1_0() {
    let agent = FakeAgent::start(|_| {
        Behaviour::Answer(Response::Status(StatusReply { ready: true, reason: None, limited: false }))
    });
    let conf = agent.conf("1.1.0").to_string();
    Invocation::bare("STATUS", conf.clone()).run().assert_silent_success();
    assert!(Invocation::bare("GC", conf).run().failure(4).contains("CNI_PATH"));
    for verb in ["STATUS", "GC"] {
        for version in ["0.4.0", "1.0.0"] {
            let old =
                Invocation::bare(verb, agent.conf(version).to_string()).with("CNI_PATH", "/opt/cni/bin");
            assert!(old.run().failure(1).contains(&format!("{verb} needs cniVersion 1.1.0")));
        }
    }
}

#[test]
fn c48_status_says_why_add_cannot_be_served() {
    let answer = |ready, reason: Option<&str>| {
        Response::Status(StatusReply { ready, reason: reason.map(str::to_owned), limited: false })
    };
    for (response, expected) in [
        (answer(false, Some("waiting for the first ENI")), "waiting for the first ENI"),
        (answer(false, None), "has not prepared the node"),
        (refused(RefusalKind::Internal, "the store is broken"), "the store is broken"),
    ] {
        let agent = FakeAgent::start(move |_| Behaviour::Answer(response.clone()));
        let message = agent.invocation("STATUS", "c1", OWN).run().failure(50);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn c49_a_data_plane_that_is_known_to_be_broken_is_51() {
    let reason = Some("the nft table is gone".to_owned());
    let agent = FakeAgent::start(move |_| {
        let reply = StatusReply { ready: false, reason: reason.clone(), limited: true };
        Behaviour::Answer(Response::Status(reply))
    });
    let message = agent.invocation("STATUS", "c1", OWN).run().failure(51);
    assert!(message.contains("the nft table is gone"), "{message}");
}

#[test]
fn c49_status_without_an_agent_is_50_within_a_second() {
    let ran = quickest(&FakeAgent::absent().invocation("STATUS", "c1", OWN));
    assert!(ran.failure(50).contains("connect to the agent"));
}

#[test]
fn c61_gc_without_a_list_is_refused_and_the_agent_not_asked() {
    let agent = FakeAgent::start(|_| Behaviour::Close);
    let message = agent.invocation("GC", "c1", OWN).run().failure(7);
    assert!(message.contains("cni.dev/valid-attachments"), "{message}");
    assert!(agent.requests().is_empty());
}
