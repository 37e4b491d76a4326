use crate::{
    Action, AttachmentKey, BlockGrant, EniDatapath, EniRecord, EniTemplate, Event, Finding, Holding,
    NodeFacts, Place, Pool, PoolSettings, Record, Reply, StoreChange, Targets, Ticket, Timestamp, Timings,
    Wait,
};
use spur_cloud::{CardIndex, DeviceIndex};
use spur_quotas::{Hypervisor, InstanceLimits, NetworkCard};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A pool with the store and the kernel that the shell would be.
struct Node {
    pool: Pool,
    record: Record,
    now: Timestamp,
    replies: BTreeMap<Ticket, Reply>,
    findings: Vec<Finding>,
    /// What the kernel was told to know.
    kernel: Vec<EniDatapath>,
    last_ticket: u64,
}

fn settings() -> PoolSettings {
    PoolSettings {
        targets: Targets::default(),
        eni: EniTemplate {
            subnets: vec!["subnet-1".parse().unwrap()],
            security_groups: BTreeSet::new(),
            ownership: BTreeMap::new(),
            tags: BTreeMap::new(),
            description: String::new(),
        },
        timings: Timings::default(),
    }
}

impl Node {
    fn start(record: Record, now: Timestamp) -> Self {
        let cards = vec![NetworkCard { index: 0, max_enis: 3 }];
        let facts = NodeFacts {
            instance: "i-1".parse().unwrap(),
            limits: InstanceLimits::new(10, 10, cards, 0, Hypervisor::Nitro, false).unwrap(),
            primary: "eni-1".parse().unwrap(),
        };
        let primary = EniRecord {
            id: "eni-1".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            subnet: "subnet-1".parse().unwrap(),
            primary: [10, 0, 0, 4].into(),
            place: None,
        };
        let pool = Pool::with_blocks(settings(), facts, record.clone(), primary, 1, now);
        let (replies, findings, kernel) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut node = Self { pool, record, now, replies, findings, kernel, last_ticket: 0 };
        node.step(Event::Tick);
        node
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.pool.step(self.now, event) {
                match action {
                    Action::Store { id, changes } => {
                        changes.iter().for_each(|change| self.record.apply(change));
                        events.push(Event::Stored(id));
                    }
                    Action::Reply { ticket, reply } => drop(self.replies.insert(ticket, reply)),
                    Action::Datapath(wanted) => {
                        let ready = wanted.enis.iter().map(|eni| eni.eni.clone()).collect();
                        events.push(Event::DatapathApplied { generation: wanted.generation, ready });
                        self.kernel = wanted.enis;
                    }
                    Action::Report(finding) => self.findings.push(finding),
                    Action::ProbeFlows { .. } => events.push(Event::FlowsSeen(Ok(BTreeSet::new()))),
                    Action::Call { call, .. } => panic!("called {call:?}"),
                }
            }
        }
    }

    fn ask(&mut self, event: impl FnOnce(Ticket) -> Event) -> Option<Reply> {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.step(event(ticket));
        self.replies.remove(&ticket)
    }

    fn add(&mut self, pod: &str) -> Option<IpAddr> {
        let attachment = key(pod);
        match self.ask(|ticket| Event::Add { ticket, attachment, pod: None, sandbox: None })? {
            Reply::Granted { address, .. } => Some(address),
            other => panic!("{other:?}"),
        }
    }

    fn del(&mut self, pod: &str) -> Option<Reply> {
        let attachment = key(pod);
        self.ask(|ticket| Event::Del { ticket, attachment })
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(std::time::Duration::from_secs(seconds));
        self.step(Event::Tick);
    }

    fn grant(&mut self, blocks: &[&str], waits: &[&str]) {
        self.step(Event::Blocks(BlockGrant {
            blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
            waits: waits.iter().map(|wait| (*wait).to_owned()).collect(),
        }));
    }

    fn waits(&self) -> String {
        let view = self.pool.view();
        let waits: Option<Vec<String>> =
            view.waiting.first().map(|waiting| waiting.waits.iter().map(ToString::to_string).collect());
        waits.unwrap_or_default().join("; ")
    }
}

fn key(pod: &str) -> AttachmentKey {
    AttachmentKey { network: "spur".to_owned(), container_id: pod.to_owned(), if_name: "eth0".to_owned() }
}

fn start() -> Node {
    Node::start(Record::default(), Timestamp::from_epoch(std::time::Duration::from_secs(1_000)))
}

#[test]
fn a_pod_waits_for_the_grant_and_for_its_routes_and_is_told_so() {
    let mut node = start();
    assert_eq!(node.add("a"), None);
    assert!(node.waits().contains("granted no block"), "{}", node.waits());
    node.grant(&["10.200.0.0/29"], &["10.200.0.0/29 in rtb-1: no route yet"]);
    assert!(node.waits().contains("10.200.0.0/29 in rtb-1: no route yet"), "{}", node.waits());
    assert!(node.replies.is_empty());
    node.grant(&["10.200.0.0/29"], &[]);
    assert!(matches!(node.replies.get(&Ticket(1)), Some(Reply::Granted { .. })), "{:?}", node.replies);
}

#[test]
fn a_block_gives_all_but_its_first_and_last_address_and_then_says_that_it_is_full() {
    let mut node = start();
    node.grant(&["10.200.0.0/29", "10.200.0.16/31"], &[]);
    let given: BTreeSet<_> = (0..8).map(|pod| node.add(&format!("pod-{pod}")).unwrap().to_string()).collect();
    let expected =
        (1..=6).map(|last| format!("10.200.0.{last}")).chain(["10.200.0.16".into(), "10.200.0.17".into()]);
    assert_eq!(given, expected.collect());
    assert_eq!(node.add("one-more"), None);
    assert!(
        node.waits().contains("8 pod addresses in its blocks 10.200.0.0/29 and 10.200.0.16/31"),
        "{}",
        node.waits()
    );
    node.del("pod-0");
    node.pass(29);
    assert!(node.replies.is_empty(), "it rests first");
    node.pass(2);
    assert_eq!(node.replies.len(), 1, "who waited has it");
}

#[test]
fn a_restart_keeps_who_has_what_and_what_rests() {
    let mut node = start();
    node.grant(&["10.200.0.0/30"], &[]);
    let (first, second) = (node.add("a").unwrap(), node.add("b").unwrap());
    node.del("b");
    let mut node = Node::start(node.record.clone(), node.now);
    node.grant(&["10.200.0.0/30"], &[]);
    let attachment = key("a");
    let held = node.ask(|ticket| Event::Add { ticket, attachment, pod: None, sandbox: None });
    assert_eq!(held, Some(Reply::AlreadyHeld { attachment: key("a"), address: first }));
    assert_eq!(node.add("c"), None, "{second} rests");
    node.pass(31);
    assert_eq!(node.replies.len(), 1);
}

#[test]
fn a_pod_keeps_its_address_when_the_block_goes_and_nobody_gets_it_afterwards() {
    let mut node = start();
    node.grant(&["10.200.0.0/30"], &[]);
    let address = node.add("a").unwrap();
    node.grant(&["10.200.1.0/30"], &[]);
    assert!(node.findings.contains(&Finding::HeldOutsideBlocks { address }));
    assert!(node.record.holdings.values().any(|holding| holding.address == address));
    assert!(node.add("b").unwrap().to_string().starts_with("10.200.1."));
    assert_eq!(node.pool.view().findings.len(), 1);
    assert_eq!(node.del("a"), Some(Reply::Released { addresses: vec![address] }));
    assert_eq!(node.pool.view().findings, [], "it was about the pod");
    node.pass(31);
    let view = node.pool.view();
    let left: Vec<_> = view.enis.iter().flat_map(|eni| &eni.addresses).map(|one| one.address).collect();
    assert!(!left.contains(&address), "{left:?}");
    assert!(!node.record.cooling.contains_key(&address) || node.add("c").is_some());
}

#[test]
fn a_node_whose_blocks_were_taken_away_is_told_so_and_is_not_called_full() {
    let mut node = start();
    node.grant(&[], &["the controller moved this node to another pool"]);
    assert_eq!(node.add("a"), None);
    assert!(node.waits().contains("granted no block") && node.waits().contains("moved"), "{}", node.waits());
    assert!(!node.waits().contains("full"), "{}", node.waits());
}

#[test]
fn a_pod_that_is_deleted_while_it_waits_is_told_so() {
    let mut node = start();
    assert_eq!(node.add("a"), None);
    node.del("a");
    let Some(Reply::Refused { waits }) = node.replies.get(&Ticket(1)) else { panic!("{:?}", node.replies) };
    assert_eq!(waits[..], [Wait::Deleted]);
}

#[test]
fn a_pod_whose_time_is_over_while_its_grant_is_stored_is_told_of_the_store() {
    let mut node = start();
    node.grant(&["10.200.0.0/29"], &[]);
    let add = Event::Add { ticket: Ticket(1), attachment: key("a"), pod: None, sandbox: None };
    let chosen = node.pool.step(node.now, add);
    assert!(matches!(chosen[..], [Action::Store { .. }]), "{chosen:?}");
    let told = node.pool.step(node.now, Event::Cancel { ticket: Ticket(1) });
    let [Action::Reply { reply: Reply::Refused { waits }, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(waits[..], [Wait::Storing], "nobody deleted it");
}

#[test]
fn an_address_that_rests_when_its_block_goes_still_rests_when_the_block_comes_back() {
    let mut node = start();
    node.grant(&["10.200.0.0/30"], &[]);
    let address = node.add("a").unwrap();
    node.del("a");
    node.grant(&["10.200.1.0/30"], &[]);
    node.grant(&["10.200.0.0/30"], &[]);
    assert_ne!(node.add("b"), Some(address));
    assert_eq!(node.add("c"), None, "{address} rests");
    node.pass(31);
    assert_eq!(node.replies.len(), 1, "who waited has it");
}

#[test]
fn a_block_of_no_use_is_reported_and_the_others_serve() {
    let mut node = start();
    node.grant(&["10.0.0.0/8", "fd00::/120", "10.200.0.0/30"], &[]);
    assert_eq!(node.findings.len(), 2, "{:?}", node.findings);
    assert!(node.add("a").is_some());
}

#[test]
fn a_restart_after_which_nothing_changed_writes_nothing() {
    let mut node = start();
    node.grant(&["10.200.0.0/30"], &[]);
    node.add("a").unwrap();
    let mut again = Node::start(node.record.clone(), node.now);
    let before = again.record.clone();
    again.grant(&["10.200.0.0/30"], &[]);
    again.pass(60);
    assert_eq!(again.record, before);
    assert!(!before.holdings.is_empty() && matches!(before.enis.len(), 1));
}

#[test]
fn a_node_that_was_in_eni_mode_keeps_its_pods_and_their_enis_in_the_kernel() {
    let mut record = Record::default();
    let eni = |number: u8, ordinal: u8| EniRecord {
        id: format!("eni-{number}").parse().unwrap(),
        mac: format!("02:00:00:00:00:0{number}").parse().unwrap(),
        subnet: "subnet-1".parse().unwrap(),
        primary: [10, 0, 0, 3 + number].into(),
        place: Some(Place { card: CardIndex(0), index: DeviceIndex(ordinal.into()), ordinal }),
    };
    let held = [("a", 1, [10, 0, 0, 20]), ("b", 2, [10, 0, 0, 30])];
    for (number, ordinal) in [(1, 0), (2, 1)] {
        record.apply(&StoreChange::PutEni(eni(number, ordinal)));
    }
    for (pod, number, address) in held {
        let holding = Holding {
            address: address.into(),
            eni: format!("eni-{number}").parse().unwrap(),
            pod: None,
            sandbox: None,
            since: Timestamp::default(),
        };
        record.apply(&StoreChange::Hold(key(pod), holding));
    }
    let mut node = Node::start(record, Timestamp::from_epoch(std::time::Duration::from_secs(1_000)));
    assert_eq!(node.kernel, [], "before the first grant the kernel stays as it is");
    node.grant(&["10.200.0.0/29"], &[]);
    let known = |node: &Node, address: [u8; 4], number: u8| {
        let eni = node.kernel.iter().find(|eni| eni.eni.as_str() == format!("eni-{number}"));
        eni.is_some_and(|eni| eni.addresses.contains(&IpAddr::from(address)))
    };
    assert!(held.iter().all(|(_, number, address)| known(&node, *address, *number)), "{:?}", node.kernel);
    assert!(node.add("c").unwrap().to_string().starts_with("10.200."));
    node.del("b");
    node.pass(600);
    assert!(known(&node, [10, 0, 0, 20], 1) && !known(&node, [10, 0, 0, 30], 2), "{:?}", node.kernel);
    assert!(
        node.add("d").unwrap().to_string().starts_with("10.200."),
        "what was given back is not ours to give"
    );
}
