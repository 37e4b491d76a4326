//! `vpcsim serve` as any program uses it: no privileges, one line to read, an endpoint to call, a signal to end it.

use super::support::{THREE, World, call, eventually, request, scenario, text_of, unique_name};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn serve() -> World {
    World::start("serve", &scenario(THREE), &unique_name(), &[])
}

#[test]
fn the_line_on_standard_output_has_what_a_client_needs() {
    let world = serve();
    assert!(world.endpoint().starts_with("127.0.0.1:"));
    assert_eq!(world.ready["name"], world.name.as_str());
    assert!(world.ready.get("fabricNetns").is_none(), "there is no network");
    let node = world.node("a1");
    for key in ["instanceId", "subnet", "primaryAddress", "primaryMac", "accessKeyId", "secretAccessKey"] {
        assert!(node[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {node}");
    }
    let (status, body) = world.call("a1", "DescribeSubnets", &[]);
    assert_eq!(status, 200);
    assert!(body.contains("10.0.1.0/24"), "{body}");
}

#[test]
fn an_attachment_lands_by_itself_when_its_time_has_come() {
    let world = serve();
    let subnet = world.node("a1")["subnet"].as_str().unwrap();
    let eni = world.must("a1", "CreateNetworkInterface", &[("SubnetId", subnet)], "networkInterfaceId");
    let instance = world.node("a1")["instanceId"].as_str().unwrap();
    let place = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance), ("DeviceIndex", "1")];
    let begun = Instant::now();
    world.must("a1", "AttachNetworkInterface", &place, "attachmentId");
    // Only looked at from the side: no call lets time pass.
    let status = || world.inspect("state")["enis"][&eni]["attachment"]["status"].clone();
    eventually("the attachment", || (status() == "attached").then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[test]
fn the_operators_key_may_do_what_an_unknown_node_may_not() {
    let world = serve();
    let key = world.ready["accessKeyId"].as_str().unwrap();
    assert_eq!(call(world.endpoint(), key, "DescribeVpcs", &[]).0, 200);
    let (status, body) = call(world.endpoint(), "ASIANOBODY", "DescribeVpcs", &[]);
    assert_eq!((status, text_of(&body, "Code")), (401, Some("AuthFailure")), "{body}");
    let (_, _, body) = request(world.endpoint(), "POST", "/", &[], "Action=DescribeVpcs&Version=2016-11-15");
    assert_eq!(text_of(&body, "Code"), Some("MissingAuthenticationToken"), "{body}");
}

#[test]
fn a_request_id_is_in_head_and_body() {
    let world = serve();
    let signed = [("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAX/1/r/ec2/aws4_request")];
    let path = "/?Action=DescribeVpcs&Version=2016-11-15";
    let (status, head, body) = request(world.endpoint(), "GET", path, &signed, "");
    assert_eq!(status, 200, "{body}");
    let id = text_of(&body, "requestId").unwrap();
    assert!(head.contains(&format!("x-amzn-requestid: {id}")), "{head}");
    assert!(head.contains("content-type: text/xml;charset=utf-8"), "{head}");
}

#[test]
fn an_answer_that_is_lost_ends_the_connection_without_a_byte() {
    let world = serve();
    let set = |faults: &str| request(world.endpoint(), "POST", "/_vpcsim/faults", &[], faults);
    let (status, _, body) = set("[{kind: lostReply, millis: 3}]");
    assert_eq!((status, body.contains("faults[0].millis")), (400, true), "{body}");
    let (status, _, body) = set("[{kind: lostReply, actions: [CreateTags], calls: [1]}]");
    assert_eq!((status, body.contains("lostreply-0")), (200, true), "{body}");
    let subnet = world.node("a1")["subnet"].as_str().unwrap();
    let form =
        format!("Action=CreateTags&Version=2016-11-15&ResourceId.1={subnet}&Tag.1.Key=a&Tag.1.Value=b");
    let mut stream = std::net::TcpStream::connect(world.endpoint()).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: ec2\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAX/1/r/ec2/aws4_request";
    let content = "Content-Type: application/x-www-form-urlencoded";
    write!(stream, "{head}\r\n{content}\r\nContent-Length: {}\r\n\r\n{form}", form.len()).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), "");
    let record = world.inspect("record");
    let last = record.as_array().unwrap().last().unwrap();
    assert_eq!((&last["outcome"], &last["status"]), (&"OK".into(), &0.into()), "{last}");
    // The next one is answered, and everybody else always was.
    let parameters = [("ResourceId.1", subnet), ("Tag.1.Key", "a"), ("Tag.1.Value", "c")];
    assert_eq!(world.call("a1", "CreateTags", &parameters).0, 200);
}

#[test]
fn a_body_that_no_call_needs_is_refused() {
    let world = serve();
    let (status, ..) = request(world.endpoint(), "POST", "/", &[], &"x".repeat(300 << 10));
    assert_eq!(status, 413);
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut world = serve();
    world.signal(Signal::TERM);
    assert_eq!(world.wait().code(), Some(0));
}
