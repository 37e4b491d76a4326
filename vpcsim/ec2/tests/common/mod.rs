//! A small world to drive in process, and just enough XML reading to look at its answers: elements become paths such as
//! `networkInterfaceSet/item/status` with their texts in order. The shapes themselves are judged by botocore (`witness/`).
//! Nothing here knows the model's inside.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "a test helper; each binary uses its own part"
)]

use quick_xml::Reader;
use quick_xml::events::Event;
use std::time::Duration;
use vpcsim_ec2::{Answer, Caller, Ec2, Happening, Scenario, SimTime};

pub(crate) const WORLD: &str = "
name: test
seed: 7
vpc: {cidrs: [10.0.0.0/16]}
securityGroups: [{name: pods, tags: {role: pods}}]
subnets:
  - {name: a, zone: eu-central-1a, cidr: 10.0.0.0/24}
  - {name: b, zone: eu-central-1b, cidr: 10.0.1.0/24}
  - {name: tiny, zone: eu-central-1a, cidr: 10.0.2.0/28, tags: {size: tiny}}
nodes:
  - {name: n1, type: m5.large, subnet: a}
  - {name: n2, type: m5.large, subnet: b}
  - {name: old, type: m4.large, subnet: a}
  - {name: cards, type: c6in.32xlarge, subnet: a}
delays: {attachMillis: 1000, detachMillis: 2000}
";

/// The beginning of the tests' time.
pub(crate) const START: SimTime = SimTime(Duration::from_secs(1_780_000_000));

pub(crate) struct Lab {
    pub(crate) ec2: Ec2,
    pub(crate) now: SimTime,
    pub(crate) caller: Caller,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::of(WORLD)
    }

    pub(crate) fn of(scenario: &str) -> Self {
        let scenario = Scenario::parse(scenario).unwrap();
        let mut ec2 = Ec2::new(&scenario, START);
        ec2.advance(START);
        Self { ec2, now: START, caller: Caller::Key("AKIDOPERATOR".to_owned()) }
    }

    pub(crate) fn raw(&mut self, form: &str) -> Answer {
        self.ec2.call(self.now, &self.caller, form.as_bytes())
    }

    pub(crate) fn ask(&mut self, action: &str, parameters: &str) -> Answer {
        self.raw(&format!("Action={action}&Version=2016-11-15&{parameters}"))
    }

    /// The answer's elements; the call must succeed.
    pub(crate) fn call(&mut self, action: &str, parameters: &str) -> Doc {
        let answer = self.ask(action, parameters);
        assert_eq!(answer.status, 200, "{action} {parameters}: {}", answer.body);
        Doc::read(&answer.body)
    }

    /// The error code; the call must fail.
    pub(crate) fn refusal(&mut self, action: &str, parameters: &str) -> String {
        let answer = self.ask(action, parameters);
        assert!(answer.status >= 400, "{action} {parameters} succeeded: {}", answer.body);
        Doc::read(&answer.body).one("Errors/Error/Code")
    }

    pub(crate) fn wait(&mut self, millis: u64) -> Vec<Happening> {
        self.now = self.now.after(Duration::from_millis(millis));
        self.ec2.advance(self.now)
    }

    pub(crate) fn subnet(&self, name: &str) -> String {
        let state = self.ec2.state();
        state.subnets.iter().find(|subnet| subnet.name == name).unwrap().id.to_string()
    }

    pub(crate) fn free(&self, name: &str) -> u32 {
        self.ec2.state().subnets.iter().find(|subnet| subnet.name == name).unwrap().free
    }

    pub(crate) fn instance(&self, name: &str) -> String {
        self.ec2.state().nodes.iter().find(|node| node.name == name).unwrap().instance.to_string()
    }

    pub(crate) fn primary_eni(&self, name: &str) -> String {
        self.ec2.state().nodes.iter().find(|node| node.name == name).unwrap().enis[0].to_string()
    }

    pub(crate) fn create(&mut self, subnet: &str, parameters: &str) -> String {
        let subnet = self.subnet(subnet);
        let made = self.call("CreateNetworkInterface", &format!("SubnetId={subnet}&{parameters}"));
        made.one("networkInterface/networkInterfaceId")
    }

    pub(crate) fn attach(&mut self, eni: &str, node: &str, index: u32) -> String {
        let instance = self.instance(node);
        let parameters = format!("NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex={index}");
        self.call("AttachNetworkInterface", &parameters).one("attachmentId")
    }
}

/// An answer as paths below the root, with their texts.
#[derive(Debug)]
pub(crate) struct Doc(Vec<(String, String)>);

impl Doc {
    pub(crate) fn read(body: &str) -> Self {
        let mut reader = Reader::from_str(body);
        let (mut path, mut found) = (Vec::<String>::new(), Vec::<(String, String)>::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(tag) => {
                    path.push(tag.name().as_ref().to_owned());
                    found.push((path[1..].join("/"), String::new()));
                }
                Event::Text(text) => {
                    if let (Some((_, value)), false) = (found.last_mut(), path.is_empty()) {
                        value.push_str(&text);
                    }
                }
                Event::GeneralRef(name) => {
                    let letter = match &*name {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "#xD" => '\r',
                        other => panic!("an unexpected reference {other}"),
                    };
                    found.last_mut().unwrap().1.push(letter);
                }
                Event::End(_) => drop(path.pop()),
                Event::Eof => break,
                _ => {}
            }
        }
        assert!(path.is_empty(), "unfinished: {body}");
        Self(found)
    }

    pub(crate) fn all(&self, path: &str) -> Vec<String> {
        self.0.iter().filter(|(found, _)| found == path).map(|(_, text)| text.clone()).collect()
    }

    pub(crate) fn one(&self, path: &str) -> String {
        let all = self.all(path);
        assert_eq!(all.len(), 1, "{path} in {self:?}");
        all[0].clone()
    }
}
