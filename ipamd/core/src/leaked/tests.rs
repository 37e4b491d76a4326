//! One row per rule, and the rules together on random clusters.

use super::*;
use proptest::prelude::*;
use spur_cloud::fake::World;
use spur_cloud::{
    AddressRequest, Attachment, AttachmentStatus, CardIndex, ClientToken, CreateEni, DeviceIndex,
};
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp::from_epoch(Duration::from_secs(1_800_000_000));
const HOUR: Duration = Duration::from_secs(3600);

fn rules(most: usize) -> CollectRules {
    CollectRules { cluster: "shop".to_owned(), grace: HOUR, most }
}

fn ago(seconds: u64) -> String {
    Timestamp::from_epoch(NOW.since_epoch() - Duration::from_secs(seconds)).rfc3339()
}

/// Unattached ENIs as the cloud shows them, with these tags.
fn enis(tags: &[&[(&str, &str)]]) -> Vec<Eni> {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let subnet = world.add_subnet("a", &vpc, "zone-a", "10.0.0.0/18".parse().unwrap());
    let one = |(index, tags): (usize, &&[(&str, &str)])| {
        let wanted = CreateEni {
            subnet: subnet.clone(),
            security_groups: BTreeSet::new(),
            request: AddressRequest::Count(0),
            description: String::new(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            token: ClientToken(index.to_string()),
        };
        world.create_eni(&wanted).unwrap()
    };
    tags.iter().enumerate().map(one).collect()
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn decision_of(eni: Eni) -> Decision {
    judge(&[eni], &BTreeSet::from([id("i-here")]), &rules(9), NOW).remove(0).decision
}

#[test]
fn an_eni_is_deleted_only_if_every_rule_allows_it() {
    let old = ago(7200);
    let (young, future) = (ago(3599), "2126-01-01T00:00:00Z");
    let base = [(CLUSTER_TAG, "shop"), (CREATED_TAG, old.as_str()), (NODE_TAG, "i-gone")];
    let with = |key, value| base.into_iter().filter(move |tag| tag.0 != key).chain([(key, value)]);
    let delete = |owner| Decision::Delete(Leak { age: 2 * HOUR, owner });
    let keep = Decision::Keep;
    for (tags, expected, why) in [
        (with("", ""), delete(Owner::Gone(id("i-gone"))), "its node is gone"),
        (with(NODE_TAG, "i-here"), delete(Owner::Forgetful(id("i-here"))), "its node does not use it"),
        (with(NODE_TAG, "no id"), delete(Owner::Unknown), "nobody knows whose it was"),
        (with(CLUSTER_TAG, "other"), keep(Keep::Foreign), "another cluster's"),
        (with(NO_MANAGE_TAG, "true"), keep(Keep::NotManaged), "out of our hands"),
        (with(NO_MANAGE_TAG, "false"), delete(Owner::Gone(id("i-gone"))), "only true means it"),
        (with(CREATED_TAG, &young), keep(Keep::Young { age: Duration::from_secs(3599) }), "too young"),
        (with(CREATED_TAG, future), keep(Keep::Young { age: Duration::ZERO }), "another's clock is ahead"),
        (with(CREATED_TAG, "yesterday"), Decision::Mark, "its age is not known"),
    ] {
        let tags: Vec<_> = tags.filter(|tag| !tag.0.is_empty()).collect();
        assert_eq!(decision_of(enis(&[&tags]).remove(0)), expected, "{why}");
    }
    let mut nobodys = enis(&[&base]).remove(0);
    nobodys.tags.remove(CLUSTER_TAG);
    assert_eq!(decision_of(nobodys), Decision::Keep(Keep::Foreign));
}

#[test]
fn what_is_attached_or_on_its_way_is_kept_however_old() {
    let old = ago(1_000_000);
    let eni = enis(&[&[(CLUSTER_TAG, "shop"), (CREATED_TAG, &old)]]).remove(0);
    for status in [EniStatus::Pending, EniStatus::Attaching, EniStatus::InUse, EniStatus::Detaching] {
        let eni = Eni { status, ..eni.clone() };
        assert_eq!(decision_of(eni), Decision::Keep(Keep::InUse), "{status:?}");
    }
    let attachment = Attachment {
        id: "eni-attach-1".parse().unwrap(),
        instance: None,
        device_index: DeviceIndex(1),
        card: CardIndex(0),
        status: AttachmentStatus::Detaching,
        delete_on_termination: true,
    };
    let eni = Eni { attachment: Some(attachment), ..eni };
    assert_eq!(
        decision_of(eni),
        Decision::Keep(Keep::InUse),
        "an attachment counts whatever the status says"
    );
}

#[test]
fn only_owners_of_what_may_be_deleted_are_asked_about() {
    let seen = enis(&[
        &[(CLUSTER_TAG, "shop"), (NODE_TAG, "i-one")],
        &[(CLUSTER_TAG, "shop"), (NODE_TAG, "i-one")],
        &[(CLUSTER_TAG, "shop")],
        &[(CLUSTER_TAG, "other"), (NODE_TAG, "i-two")],
        &[(CLUSTER_TAG, "shop"), (NODE_TAG, "i-three"), (NO_MANAGE_TAG, "true")],
    ]);
    assert_eq!(owners_to_ask(&seen, &rules(9)), BTreeSet::from([id("i-one")]));
}

#[test]
fn a_pass_deletes_the_oldest_first_and_no_more_than_it_may() {
    let ages: Vec<String> = [5000, 9000, 7000, 100].into_iter().map(ago).collect();
    let tags: Vec<Vec<_>> =
        ages.iter().map(|age| vec![(CLUSTER_TAG, "shop"), (CREATED_TAG, age.as_str())]).collect();
    let tags: Vec<&[_]> = tags.iter().map(Vec::as_slice).collect();
    let seen = enis(&tags);
    let verdicts = judge(&seen, &BTreeSet::new(), &rules(2), NOW);
    let of = |index: usize| &verdicts.iter().find(|v| v.eni == seen[index].id).unwrap().decision;
    assert_eq!(*of(0), Decision::Keep(Keep::Enough));
    assert!(matches!(of(1), Decision::Delete(_)) && matches!(of(2), Decision::Delete(_)));
    assert!(matches!(of(3), Decision::Keep(Keep::Young { .. })));
}

#[test]
fn a_decision_says_why_in_words() {
    let leak = Leak { age: Duration::from_secs(10_800), owner: Owner::Gone(id("i-gone")) };
    let text = Decision::Delete(leak).to_string();
    assert_eq!(text, "delete: unattached, 3 h old, made for i-gone, which is no more");
    let young = Keep::Young { age: Duration::from_secs(119) };
    assert_eq!(Decision::Keep(young).to_string(), "keep: only 119 s old");
    assert_eq!(span(Duration::from_secs(200_000)), "2 days");
}

/// A random ENI: its tags, and whether it is attached.
fn any_eni() -> impl Strategy<Value = (BTreeMap<&'static str, String>, bool)> {
    let tag = |key: &'static str, values: Vec<Option<String>>| {
        prop::sample::select(values).prop_map(move |value| value.map(|value| (key, value)))
    };
    let text = |text: &str| Some(text.to_owned());
    (
        tag(CLUSTER_TAG, vec![text("shop"), text("shop"), text("shop"), text("other"), None]),
        tag(NODE_TAG, vec![text("i-here"), text("i-gone"), None, text("?")]),
        tag(CREATED_TAG, vec![Some(ago(10)), Some(ago(3600)), Some(ago(99_999)), text("x"), None]),
        tag(NO_MANAGE_TAG, vec![None, None, text("true")]),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(one, two, three, four, attached)| {
            ([one, two, three, four].into_iter().flatten().collect(), attached)
        })
}

proptest! {
    /// The oracle says of each ENI, from its tags alone, whether it may go.
    #[test]
    fn nothing_is_deleted_that_may_not_be_and_all_that_may_is_up_to_the_limit(
        cluster in prop::collection::vec(any_eni(), 0..40),
        most in 0..12_usize,
    ) {
        let tags: Vec<Vec<(&str, &str)>> = cluster
            .iter()
            .map(|(tags, _)| tags.iter().map(|(key, value)| (*key, value.as_str())).collect())
            .collect();
        let tags: Vec<&[_]> = tags.iter().map(Vec::as_slice).collect();
        let mut seen = enis(&tags);
        for (eni, (_, attached)) in seen.iter_mut().zip(&cluster) {
            eni.status = if *attached { EniStatus::InUse } else { EniStatus::Available };
        }
        let may = |(tags, attached): &(BTreeMap<&str, String>, bool)| {
            let is = |key, value: &str| tags.get(key).is_some_and(|found| found == value);
            let old = is(CREATED_TAG, &ago(3600)) || is(CREATED_TAG, &ago(99_999));
            is(CLUSTER_TAG, "shop") && !is(NO_MANAGE_TAG, "true") && old && !attached
        };
        let allowed: BTreeSet<EniId> = seen
            .iter()
            .zip(&cluster)
            .filter(|(_, described)| may(described))
            .map(|(eni, _)| eni.id.clone())
            .collect();
        let verdicts = judge(&seen, &BTreeSet::from([id("i-here")]), &rules(most), NOW);
        prop_assert_eq!(verdicts.len(), seen.len());
        let deleted: BTreeSet<EniId> = verdicts
            .into_iter()
            .filter(|verdict| matches!(verdict.decision, Decision::Delete(_)))
            .map(|verdict| verdict.eni)
            .collect();
        prop_assert!(deleted.is_subset(&allowed));
        prop_assert_eq!(deleted.len(), allowed.len().min(most));
    }
}
