//! Tests of the books: every change of the record survives the way to the file and back; rows that make no sense are refused.

use super::*;
use crate::store::{Origin, Store};
use spur_cloud::{AddressRequest, CardIndex, ClientToken, CreateEni, DeviceIndex};
use spur_ipamd_core::{EniRecord, Holding, Intent, Place, PodName, Timestamp};
use spur_quotas::Hypervisor;
use std::collections::BTreeSet;
use std::time::Duration;

fn attachment(number: u8) -> AttachmentKey {
    AttachmentKey {
        network: "spur".to_owned(),
        container_id: format!("c{number}"),
        if_name: "eth0".to_owned(),
    }
}

fn holding(number: u8) -> Holding {
    Holding {
        address: [10, 0, 0, number].into(),
        eni: "eni-1".parse().unwrap(),
        pod: Some(PodName { namespace: "n".into(), name: "p".into(), uid: None }),
        sandbox: Some("/run/netns/p".into()),
        since: Timestamp::from_epoch(Duration::from_millis(1_700_000_000_123)),
    }
}

fn eni() -> EniRecord {
    EniRecord {
        id: "eni-1".parse().unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        subnet: "subnet-1".parse().unwrap(),
        primary: [10, 0, 0, 1].into(),
        place: Some(Place { card: CardIndex(0), index: DeviceIndex(1), ordinal: 1 }),
    }
}

fn create() -> Intent {
    Intent::Create {
        create: CreateEni {
            subnet: "subnet-1".parse().unwrap(),
            security_groups: BTreeSet::from(["sg-1".parse().unwrap()]),
            request: AddressRequest::Count(9),
            description: "spur".into(),
            tags: BTreeMap::from([("a".into(), "b".into())]),
            token: ClientToken("t".into()),
        },
        made: Some(eni()),
        since: Timestamp::from_epoch(Duration::from_secs(7)),
    }
}

fn changes() -> Vec<StoreChange> {
    let address = |last| IpAddr::from([10, 0, 0, last]);
    let until = Timestamp::from_epoch(Duration::new(1, 5));
    vec![
        StoreChange::PutEni(eni()),
        StoreChange::Hold(attachment(1), holding(1)),
        StoreChange::Hold(attachment(2), holding(2)),
        StoreChange::Hold(attachment(3), holding(3)),
        StoreChange::Release(attachment(2)),
        StoreChange::Cool(address(2), until),
        StoreChange::Cool("fd00::1".parse().unwrap(), until),
        StoreChange::Uncool(address(9)),
        StoreChange::PutIntent(IntentId(1), create()),
        StoreChange::PutIntent(IntentId(u64::MAX), Intent::Remove { eni: eni() }),
        StoreChange::PutIntent(
            IntentId(2),
            Intent::Unassign {
                eni: "eni-1".parse().unwrap(),
                addresses: BTreeSet::from([address(5)]),
                prefixes: BTreeSet::new(),
            },
        ),
        StoreChange::DropIntent(IntentId(2)),
    ]
}

#[test]
fn every_change_survives_the_way_to_the_file_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, books, _) = Store::open(dir.path(), Books::decode).unwrap();
    assert_eq!(books, Books::default());
    let mut expected = Books::default();
    for change in changes() {
        expected.record.apply(&change);
        store.commit(&[write_of(&change)]).unwrap();
    }
    let limits = InstanceLimits::new(3, 10, Vec::new(), 0, Hypervisor::Nitro, false).unwrap();
    expected.limits.insert("m5.large".parse().unwrap(), limits.clone());
    expected.node = Some(NodeMark {
        boot_id: "b".into(),
        instance: "i-1".parse().unwrap(),
        moved_to: Some("fallback".into()),
    });
    store
        .commit(&[
            write_limits(&"m5.large".parse().unwrap(), &limits),
            write_node(expected.node.as_ref().unwrap()),
        ])
        .unwrap();
    drop(store);
    let (_store, books, origin) = Store::open(dir.path(), Books::decode).unwrap();
    assert_eq!((books, origin), (expected, Origin::Restored));
}

#[test]
fn the_writes_between_two_records_lead_from_one_to_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Record::default();
    changes().iter().for_each(|change| old.apply(change));
    let mut new = Record::default();
    new.apply(&StoreChange::Hold(attachment(3), holding(30)));
    new.apply(&StoreChange::Hold(attachment(4), holding(4)));
    new.apply(&StoreChange::Cool([10, 0, 0, 7].into(), Timestamp::default()));
    let (mut store, ..) = Store::open(dir.path(), Books::decode).unwrap();
    store.commit(&writes_between(&Record::default(), &Record::default())).unwrap();
    store.commit(&changes().iter().map(write_of).collect::<Vec<_>>()).unwrap();
    store.commit(&writes_between(&old, &new)).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path(), Books::decode).unwrap().1.record, new);
}

#[test]
fn a_row_that_makes_no_sense_sets_the_store_aside_and_is_named() {
    for (table, key, value, word) in [
        (Table::Assignments, "no-separator", "{}", "no attachment"),
        (Table::Assignments, "n/c/eth0", "{\"address\": 1}", "expected"),
        (Table::Cooldowns, "10.0.0.256", "{}", "no address"),
        (Table::Intents, "x", "{}", "no number"),
        (Table::Enis, "eni-1", "[]", "expected"),
        (Table::Limits, "m5.large", "{\"enis\": ", "EOF"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, ..) = Store::open(dir.path(), Books::decode).unwrap();
        store.commit(&[Write { table, key: key.into(), value: Some(value.into()) }]).unwrap();
        drop(store);
        let (_store, books, origin) = Store::open(dir.path(), Books::decode).unwrap();
        let Origin::SetAside { why, .. } = origin else { panic!("{key}: {origin:?}") };
        assert!(why.contains(key) && why.contains(word), "{why}");
        assert_eq!(books, Books::default());
    }
}
