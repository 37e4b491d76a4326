//! Golden frames: what is on the socket, byte for byte, so that a change an older plugin or agent would misread shows as a
//! failing test. And: bytes from the socket never panic.
//! A golden text may gain a field, never lose or rename one without a new version of the protocol.

use super::*;
use crate::{MAX_FRAME, read_frame, write_frame};
use proptest::prelude::*;

fn attachment() -> Attachment {
    Attachment { container_id: "c1".into(), if_name: "eth0".into() }
}

fn request(body: RequestBody) -> Request {
    Request { version: VERSION, network: "spur".into(), body }
}

fn assert_golden<T>(message: &T, golden: &str)
where
    T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(message).unwrap(), golden);
    assert_eq!(serde_json::from_str::<T>(golden).unwrap(), *message);
    let mut frame = Vec::new();
    write_frame(&mut frame, message).unwrap();
    assert_eq!(read_frame::<T>(&mut frame.as_slice()).unwrap(), *message);
}

#[test]
fn requests_keep_their_golden_form() {
    let add = AddRequest {
        attachment: attachment(),
        pod: Some(PodRef { namespace: "default".into(), name: "web-0".into(), uid: Some("u".into()) }),
        netns: "/run/netns/x".into(),
        host_if_name: "eni0123456789a".into(),
    };
    assert_golden(
        &request(RequestBody::Add(add)),
        concat!(
            r#"{"version":1,"network":"spur","body":{"add":{"attachment":{"containerId":"c1","ifName":"eth0"},"#,
            r#""pod":{"namespace":"default","name":"web-0","uid":"u"},"netns":"/run/netns/x","hostIfName":"eni0123456789a"}}}"#
        ),
    );
    assert_golden(
        &request(RequestBody::Del(DelRequest { attachment: attachment() })),
        r#"{"version":1,"network":"spur","body":{"del":{"attachment":{"containerId":"c1","ifName":"eth0"}}}}"#,
    );
    assert_golden(
        &request(RequestBody::Check(CheckRequest { attachment: attachment() })),
        r#"{"version":1,"network":"spur","body":{"check":{"attachment":{"containerId":"c1","ifName":"eth0"}}}}"#,
    );
    assert_golden(
        &request(RequestBody::Gc(GcRequest { valid: vec![attachment()], started_unix_ms: 7 })),
        concat!(
            r#"{"version":1,"network":"spur","body":{"gc":{"valid":[{"containerId":"c1","ifName":"eth0"}],"#,
            r#""startedUnixMs":7}}}"#
        ),
    );
    assert_golden(&request(RequestBody::Status), r#"{"version":1,"network":"spur","body":"status"}"#);
}

#[test]
fn responses_keep_their_golden_form() {
    let address: IpAddr = "10.0.1.7".parse().unwrap();
    let add = AddReply {
        addresses: vec![address],
        mtu_bytes: 9001,
        pods_table: 5000,
        node_address: "10.0.1.4".parse().unwrap(),
    };
    assert_golden(
        &Response::Add(add),
        r#"{"add":{"addresses":["10.0.1.7"],"mtuBytes":9001,"podsTable":5000,"nodeAddress":"10.0.1.4"}}"#,
    );
    assert_golden(
        &Response::Del(DelReply { addresses: vec![address], reaps_links: false }),
        r#"{"del":{"addresses":["10.0.1.7"]}}"#,
    );
    assert_golden(
        &Response::Del(DelReply { addresses: vec![], reaps_links: true }),
        r#"{"del":{"addresses":[],"reapsLinks":true}}"#,
    );
    assert_golden(
        &Response::Check(CheckReply { addresses: vec![address], problems: vec!["no rule".into()] }),
        r#"{"check":{"addresses":["10.0.1.7"],"problems":["no rule"]}}"#,
    );
    assert_golden(
        &Response::Gc(GcReply { released: vec![attachment()], problems: vec![] }),
        r#"{"gc":{"released":[{"containerId":"c1","ifName":"eth0"}],"problems":[]}}"#,
    );
    assert_golden(
        &Response::Status(StatusReply { ready: false, reason: Some("starting".into()), limited: false }),
        r#"{"status":{"ready":false,"reason":"starting"}}"#,
    );
    assert_golden(
        &Response::Status(StatusReply { ready: false, reason: Some("broken".into()), limited: true }),
        r#"{"status":{"ready":false,"reason":"broken","limited":true}}"#,
    );
    for (kind, name) in [
        (RefusalKind::TryAgain, "tryAgain"),
        (RefusalKind::NotReady, "notReady"),
        (RefusalKind::AlreadyAttached, "alreadyAttached"),
        (RefusalKind::Invalid, "invalid"),
        (RefusalKind::Version, "version"),
        (RefusalKind::Internal, "internal"),
    ] {
        assert_golden(
            &Response::Refused(Refusal { kind, reason: "subnet full".into() }),
            &format!(r#"{{"refused":{{"kind":"{name}","reason":"subnet full"}}}}"#),
        );
    }
}

#[test]
fn a_newer_peer_may_add_fields() {
    let newer = r#"{"version":1,"network":"n","traceparent":"00-1","body":{"del":{"attachment":{"containerId":"c","ifName":"i","x":1},"y":[]}}}"#;
    assert!(serde_json::from_str::<Request>(newer).is_ok());
}

proptest! {
    #[test]
    fn bytes_from_the_socket_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read_frame::<Request>(&mut bytes.as_slice());
        let _ = read_frame::<Response>(&mut bytes.as_slice());
    }

    #[test]
    fn framed_bytes_never_panic(text in r#"[\[\]{}":,a-z0-9 ]{0,200}"#) {
        let mut frame = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        frame.extend(text.as_bytes());
        let _ = read_frame::<Request>(&mut frame.as_slice());
        let _ = read_frame::<Response>(&mut frame.as_slice());
    }

    #[test]
    fn any_text_survives_the_socket(container_id in ".{0,80}", if_name in ".{0,20}", network in ".{0,40}") {
        let attachment = Attachment { container_id, if_name };
        let sent = Request { version: VERSION, network, body: RequestBody::Del(DelRequest { attachment }) };
        let mut frame = Vec::new();
        write_frame(&mut frame, &sent).unwrap();
        prop_assert!(frame.len() <= MAX_FRAME as usize + 4);
        prop_assert_eq!(read_frame::<Request>(&mut frame.as_slice()).unwrap(), sent);
    }
}
