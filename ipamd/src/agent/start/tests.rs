//! Tests of the start's pure parts: which subnets can be used, which are known, what the pool is told.

use super::*;
use spur_cloud::fake::World;
use spur_cloud_aws::imds::InterfaceFacts;

fn identity() -> InstanceIdentity {
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

fn subnets() -> Vec<Subnet> {
    let mut world = World::new();
    let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
    let other = world.add_vpc("b", &["10.0.0.0/16".parse().unwrap()]);
    world.add_subnet("small", &vpc, "zone-a", "10.0.1.0/28".parse().unwrap());
    world.add_subnet("large", &vpc, "zone-a", "10.0.2.0/24".parse().unwrap());
    world.add_subnet("far", &vpc, "zone-b", "10.0.3.0/24".parse().unwrap());
    world.add_subnet("foreign", &other, "zone-a", "10.0.4.0/24".parse().unwrap());
    world.subnets(&SubnetQuery::Tagged(vpc, BTreeMap::new())).into_iter().flatten().collect()
}

#[test]
fn subnets_of_the_nodes_zone_are_used_the_freest_first() {
    let usable = usable(subnets(), &identity()).unwrap();
    let names: Vec<String> = usable.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(names, ["subnet-large", "subnet-small"]);
    let known = known_subnets(&identity(), usable);
    assert_eq!(known.len(), 3, "those, and the primary ENI's");
}

#[test]
fn no_usable_subnet_is_an_error_that_says_what_would_be_right() {
    let far = subnets().into_iter().filter(|subnet| subnet.zone.as_str() == "zone-b").collect();
    let error = usable(far, &identity()).unwrap_err();
    assert_eq!(error.to_string(), "none of pool.subnets is in zone zone-a and vpc-a; expected at least one");
}

#[test]
fn new_enis_are_marked_as_this_clusters_and_this_nodes() {
    let subnets = vec!["subnet-home".parse().unwrap()];
    let config = Config::parse("clusterName: blue\npool: {tags: {team: net}, cooldownSeconds: 5}").unwrap();
    let settings = settings(&config, &identity(), subnets.clone());
    let owned = &settings.eni.ownership;
    assert_eq!((owned[CLUSTER_TAG].as_str(), owned[NODE_TAG].as_str()), ("blue", "i-1"));
    assert_eq!(settings.eni.tags["team"], "net");
    assert_eq!(settings.eni.security_groups, identity().primary.security_groups);
    assert_eq!(settings.timings.cooldown, Duration::from_secs(5));
    let config = Config::parse("pool: {securityGroups: [sg-own]}").unwrap();
    let groups = super::settings(&config, &identity(), subnets).eni.security_groups;
    assert_eq!(groups, BTreeSet::from(["sg-own".parse().unwrap()]));
}

#[test]
fn the_defaults_of_the_configuration_are_those_that_the_pool_is_measured_with() {
    let config = Config::parse("").unwrap();
    let settings = settings(&config, &identity(), vec!["subnet-home".parse().unwrap()]);
    assert_eq!((settings.targets, settings.timings), (Targets::default(), Timings::default()));
}
