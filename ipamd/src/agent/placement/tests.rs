//! Tests of the placement: which subnets and groups are found, by id and by tag, and what is remembered.

use super::*;
use crate::config::Config;
use spur_cloud::Priority;
use spur_cloud::budget::Terms;
use spur_cloud::fake::{FakeCloud, World};

use spur_cloud_aws::imds::InterfaceFacts;
use spur_cloud_budget::{Budgeted, Prioritized};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::agent) fn identity() -> InstanceIdentity {
    InstanceIdentity {
        instance: "i-1".parse().unwrap(),
        instance_type: "m5.large".parse().unwrap(),
        region: "region-a".parse().unwrap(),
        zone: "zone-a".parse().unwrap(),
        primary: InterfaceFacts {
            mac: "02:00:00:00:00:01".parse().unwrap(),
            eni: "eni-1".parse().unwrap(),
            device_index: spur_cloud::DeviceIndex(0),
            primary_address: [10, 0, 1, 10].into(),
            vpc: "vpc-a".parse().unwrap(),
            vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
            subnet: "subnet-home".parse().unwrap(),
            subnet_cidr: "10.0.1.0/24".parse().unwrap(),
            security_groups: BTreeSet::from(["sg-primary".parse().unwrap()]),
        },
        secondary: BTreeMap::new(),
    }
}

/// Two usable subnets, one in another zone, one in another VPC; all but the small one carry `role: pods`.
pub(in crate::agent) fn cloud() -> FakeCloud {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let other = world.add_vpc("b", &["10.0.0.0/16".parse().unwrap()]);
    for (name, vpc, zone, cidr) in [
        ("small", &vpc, "zone-a", "10.0.1.0/28"),
        ("large", &vpc, "zone-a", "10.0.2.0/24"),
        ("far", &vpc, "zone-b", "10.0.3.0/24"),
        ("foreign", &other, "zone-a", "10.0.4.0/24"),
    ] {
        let subnet = world.add_subnet(name, vpc, zone, cidr.parse().unwrap());
        if name != "small" {
            world.tag_subnet(&subnet, "role", "pods");
        }
    }
    world.add_security_group("pods", &vpc, &[("role", "pods")]);
    world.add_security_group("other", &vpc, &[("role", "nodes")]);
    FakeCloud::new(world)
}

/// The cloud with this share of the API budget, of which others spend some first: at 1 %, each of their questions about subnets takes 5 s.
pub(in crate::agent) async fn busy(
    cloud: &FakeCloud,
    share_percent: u32,
    ahead: usize,
) -> Arc<Prioritized<FakeCloud>> {
    let terms = Terms { share_percent, longest_wait: Duration::from_secs(3600) };
    let busy = Arc::new(Budgeted::new(cloud.clone(), terms).with_priority(Priority::Pod));
    for number in 0..ahead {
        let tags = BTreeMap::from([("number".to_owned(), number.to_string())]);
        let (busy, query) = (Arc::clone(&busy), SubnetQuery::Tagged("vpc-a".parse().unwrap(), tags));
        tokio::spawn(async move { busy.subnets(&query).await });
    }
    tokio::task::yield_now().await;
    busy
}

async fn found(pool: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let config = Config::parse(&format!("pool: {pool}")).unwrap();
    let placement = find(&cloud(), &identity(), &config.pool).await.map_err(|error| error.to_string())?;
    let subnets = placement.subnets.iter().map(|(id, _)| id.to_string());
    Ok((subnets.collect(), placement.security_groups.iter().map(ToString::to_string).collect()))
}

#[tokio::test]
async fn subnets_and_groups_are_found_by_id_and_by_tag_and_in_the_nodes_zone_only() {
    for (pool, subnets, groups) in [
        ("{}", vec!["subnet-home"], vec!["sg-primary"]),
        (
            "{subnets: [subnet-small, subnet-far, subnet-large]}",
            vec!["subnet-large", "subnet-small"],
            vec!["sg-primary"],
        ),
        ("{subnetTags: {role: pods}, securityGroups: [sg-own]}", vec!["subnet-large"], vec!["sg-own"]),
        ("{securityGroupTags: {role: pods}}", vec!["subnet-home"], vec!["sg-pods"]),
    ] {
        let found = found(pool).await.unwrap();
        assert_eq!(found, (strings(&subnets), strings(&groups)), "{pool}");
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn nothing_usable_is_an_error_that_says_what_would_be_right() {
    for (pool, words) in [
        (
            "{subnets: [subnet-far]}",
            "no subnet that pool.subnets asks for is in zone-a and vpc-a; expected at least one",
        ),
        ("{subnetTags: {role: none}}", "no subnet that pool.subnetTags asks for is in zone-a and vpc-a"),
        (
            "{securityGroupTags: {role: none}}",
            "no security group of vpc-a has the tags of pool.securityGroupTags",
        ),
        ("{subnets: [subnet-none]}", "read the subnets of the configuration"),
    ] {
        let error = found(pool).await.unwrap_err();
        assert!(error.contains(words), "{pool}: {error}");
    }
}

#[tokio::test]
async fn an_answer_is_remembered_for_the_same_question_only() {
    let config = |text: &str| Config::parse(&format!("pool: {text}")).unwrap().pool;
    let asked = config("{subnetTags: {role: pods}, warmIpTarget: 3}");
    let placement = find(&cloud(), &identity(), &asked).await.unwrap();
    let stored = serde_json::to_vec(&Remembered::of(&asked, &placement)).unwrap();
    let remembered: Remembered = serde_json::from_slice(&stored).unwrap();
    let same = config("{subnetTags: {role: pods}, warmIpTarget: 5}");
    assert_eq!(remembered.clone().answer(&same), Some(placement.clone()));
    assert_eq!(remembered.clone().answer(&config("{subnetTags: {role: nodes}}")), None);
    assert_eq!(remembered.answer(&config("{}")), None);
    assert_eq!(known_cidrs(&identity(), &placement).len(), 2, "that one, and the primary ENI's");
}
