//! Tests of the way from the pool's picture to the kernel's: gateway, translation sets, what is missing.

use super::*;
use crate::config::Config;

fn eni(ordinal: u8, subnet: &str, addresses: &[&str]) -> EniDatapath {
    EniDatapath {
        eni: format!("eni-{ordinal}").parse().unwrap(),
        mac: MacAddr::new([2, 0, 0, 0, 0, ordinal]),
        ordinal,
        subnet: subnet.parse().unwrap(),
        primary: IpAddr::from([10, 0, 16, 10 + ordinal]),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn pool() -> DatapathWanted {
    let enis = vec![
        eni(0, "subnet-a", &["10.0.1.20"]),
        eni(1, "subnet-b", &["10.0.16.30", "fd00::1", "10.0.16.31"]),
    ];
    DatapathWanted { generation: 1, enis }
}

pub(in crate::agent) fn inputs(pool: &str) -> NodeInputs {
    let pool = Config::parse(&format!("pool: {{{pool}}}")).unwrap().pool;
    NodeInputs {
        primary_mac: MacAddr::new([2, 0, 0, 0, 0, 0]),
        primary_address: Ipv4Addr::new(10, 0, 1, 10),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()],
        subnets: BTreeMap::from([("subnet-b".parse().unwrap(), "10.0.16.0/20".parse().unwrap())]),
        mode: pool.mode,
        granted: Granted::default(),
        nat: pool.nat,
        block_instance_metadata: pool.block_instance_metadata,
    }
}

fn texts(nets: &[Ipv4Net]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

#[test]
fn every_ordinal_that_the_pool_gives_has_a_place_in_the_kernel() {
    assert_eq!(spur_ipamd_core::MAX_ORDINAL, EniOrdinal::MAX);
}

#[test]
fn a_secondary_eni_gets_its_subnets_length_and_router() {
    let wanted = node_wanted(&pool(), &inputs("")).unwrap();
    let [secondary] = wanted.secondaries.as_slice() else { panic!("{wanted:?}") };
    assert_eq!(secondary.address.to_string(), "10.0.16.11/20");
    assert_eq!(secondary.gateway.to_string(), "10.0.16.1");
    assert_eq!(secondary.ordinal.number(), 1);
    assert_eq!(texts(&secondary.pod_addresses), ["10.0.16.30/32", "10.0.16.31/32"]);
    assert_eq!(wanted.primary.address.to_string(), "10.0.1.10");
}

#[test]
fn translation_covers_the_pods_of_all_enis_and_spares_the_vpc_and_the_excludes() {
    let nat = node_wanted(&pool(), &inputs("natExclude: [192.168.0.0/16]")).unwrap().nat;
    assert_eq!(texts(&nat.local), ["10.0.1.20/32", "10.0.16.30/32", "10.0.16.31/32"]);
    assert_eq!(texts(&nat.never), ["192.168.0.0/16", "10.0.0.0/16"]);
    let none = node_wanted(&pool(), &inputs("vpcDestinations: None")).unwrap().nat;
    assert_eq!((none.never, none.local.len()), (Vec::new(), 3));
    let off = node_wanted(&pool(), &inputs("natOutgoing: false")).unwrap().nat;
    assert_eq!(off.local, []);
}

#[test]
fn what_is_missing_is_named_and_nothing_is_guessed() {
    let mut inputs = inputs("");
    inputs.subnets.clear();
    let unknown = unknown_subnets(&pool(), &inputs);
    assert_eq!(
        unknown,
        BTreeSet::from(["subnet-b".parse().unwrap()]),
        "the primary's is the operating system's"
    );
    let error = node_wanted(&pool(), &inputs).unwrap_err();
    assert_eq!(error.to_string(), "the CIDR of subnet-b is not known yet");
    let mut far = pool();
    far.enis[1].ordinal = 120;
    assert!(matches!(node_wanted(&far, &self::inputs("")), Err(WantedError::Ordinal { .. })));
}

#[test]
fn instance_metadata_is_blocked_where_the_pool_says_so_and_nowhere_else() {
    assert!(!node_wanted(&pool(), &inputs("")).unwrap().block_instance_metadata);
    assert!(node_wanted(&pool(), &inputs("blockInstanceMetadata: true")).unwrap().block_instance_metadata);
}

#[test]
fn in_vpc_route_mode_covered_subnets_pods_and_nodes_are_spared_and_eni_only_destinations_are_not() {
    let mut inputs = inputs("natForce: [192.168.9.0/24]");
    inputs.mode = Mode::VpcRoute;
    inputs.nat.vpc_destinations = VpcDestinations::Covered;
    inputs.granted = Granted {
        grant: Some(
            spur_ipamd_core::vpcroute::NodeGrant::parse(
                r#"{"version": 1, "node": "a", "instance": "i-1", "placement": {"mode": "none"}, "ready": true,
                "waits": [], "vpc": null, "coveredSubnets": {"subnet-a": "10.0.1.0/24"}}"#,
            )
            .unwrap(),
        ),
        cluster: Some(
            spur_ipamd_core::vpcroute::ClusterFacts::parse(
                r#"{"version": 1, "cluster": "c", "poolCidrs": ["10.200.0.0/16", "fd00::/48"],
                "nodeAddresses": {"a": ["10.0.9.9", "fd00::9"]}}"#,
            )
            .unwrap(),
        ),
        ..Granted::default()
    };
    let nat = node_wanted(&pool(), &inputs).unwrap().nat;
    assert_eq!(texts(&nat.never), ["10.0.1.0/24", "10.200.0.0/16", "10.0.9.9/32"]);
    assert_eq!(texts(&nat.force), ["192.168.9.0/24", "169.254.0.0/16", "10.0.0.2/32"]);
    let never: Vec<_> = nat.v6.never.iter().map(ToString::to_string).collect();
    assert_eq!(never, ["fd00::/48", "fd00::9/128"]);
}

#[test]
fn in_eni_mode_the_clusters_other_pods_are_spared_and_nothing_is_forced() {
    let mut inputs = inputs("");
    inputs.granted.cluster = Some(
        spur_ipamd_core::vpcroute::ClusterFacts::parse(
            r#"{"version": 1, "cluster": "c", "poolCidrs": ["10.200.0.0/16"], "nodeAddresses": {}}"#,
        )
        .unwrap(),
    );
    let nat = node_wanted(&pool(), &inputs).unwrap().nat;
    assert_eq!(texts(&nat.never), ["10.0.0.0/16", "10.200.0.0/16"]);
    assert_eq!(nat.force, []);
}
