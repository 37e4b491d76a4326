//! The metadata of one instance, read whole, and each nonsense in it refused by path. The server gives canned answers.

use super::*;
use crate::canned::Canned;

const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

fn tree() -> BTreeMap<String, String> {
    let mut tree: BTreeMap<String, String> = [
        ("mac", "0a:00:00:00:00:01"),
        ("instance-id", "i-1"),
        ("instance-type", "m5.large"),
        ("placement/region", "eu-central-1"),
        ("placement/availability-zone", "eu-central-1a"),
        ("network/interfaces/macs/", "0a:00:00:00:00:01/\n0a:00:00:00:00:02/"),
    ]
    .into_iter()
    .map(|(path, text)| (format!("/latest/meta-data/{path}"), text.to_owned()))
    .collect();
    for (number, address) in [(1, "10.0.1.4"), (2, "10.0.1.7\n10.0.1.8")] {
        let mut put = |name: &str, text: &str| {
            tree.insert(format!("{MACS}0a:00:00:00:00:0{number}/{name}"), text.to_owned());
        };
        put("interface-id", &format!("eni-{number}"));
        put("device-number", &(number - 1).to_string());
        put("local-ipv4s", address);
        put("vpc-id", "vpc-1");
        put("vpc-ipv4-cidr-blocks", "10.0.0.0/16\n10.4.0.0/16");
        put("subnet-id", "subnet-1");
        put("subnet-ipv4-cidr-block", "10.0.1.0/24");
        put("security-group-ids", "sg-1\nsg-2");
    }
    tree
}

async fn observe(tree: BTreeMap<String, String>) -> Result<InstanceIdentity, ImdsError> {
    let server = Canned::start(move |asked| {
        if asked.method == "PUT" {
            return Some((200, "token".to_owned()));
        }
        Some(tree.get(&asked.path).map_or((404, String::new()), |text| (200, text.clone())))
    })
    .await;
    InstanceIdentity::observe(&Imds::new(Some(&server.endpoint)).expect("a URL")).await
}

#[tokio::test]
async fn an_instance_learns_who_and_where_it_is() {
    let seen = observe(tree()).await.unwrap();
    assert_eq!((seen.instance.as_str(), seen.instance_type.as_str()), ("i-1", "m5.large"));
    assert_eq!((seen.region.as_str(), seen.zone.as_str()), ("eu-central-1", "eu-central-1a"));
    assert_eq!(seen.primary.eni.as_str(), "eni-1");
    assert_eq!(seen.primary.device_index, DeviceIndex(0));
    assert_eq!(seen.primary.vpc_cidrs.len(), 2);
    assert_eq!(seen.primary.security_groups.len(), 2);
    let second = &seen.secondary[&"0a:00:00:00:00:02".parse().unwrap()];
    assert_eq!(second.primary_address.to_string(), "10.0.1.7");
}

#[tokio::test]
async fn an_eni_that_comes_or_goes_just_now_is_left_out() {
    let mut tree = tree();
    tree.remove(&format!("{MACS}0a:00:00:00:00:02/subnet-id"));
    assert!(observe(tree).await.unwrap().secondary.is_empty());
}

#[tokio::test]
async fn a_missing_fact_of_the_primary_eni_is_an_error_that_names_the_path() {
    let mut tree = tree();
    tree.remove(&format!("{MACS}0a:00:00:00:00:01/vpc-id"));
    let error = observe(tree).await.unwrap_err();
    assert_eq!(error.to_string(), format!("instance metadata {MACS}0a:00:00:00:00:01/vpc-id: not found"));
}

#[tokio::test]
async fn nonsense_is_refused_with_the_path_and_what_would_be_right() {
    let first = format!("{MACS}0a:00:00:00:00:01/");
    let rows = [
        ("/latest/meta-data/mac", "02:00", "\"02:00\": \"02:00\" is no MAC address"),
        ("/latest/meta-data/instance-id", "<html>", "expected i- and lower-case letters or digits"),
        (&format!("{first}device-number"), "-1", "\"-1\": invalid digit"),
        (&format!("{first}vpc-ipv4-cidr-blocks"), "", "is empty, expected at least one CIDR"),
        (
            &format!("{first}vpc-ipv4-cidr-blocks"),
            "10.0.0.1/16",
            "10.0.0.1/16 has host bits, expected 10.0.0.0/16",
        ),
        (
            &format!("{first}vpc-ipv4-cidr-blocks"),
            "10.0.0.0/16\n0.0.0.0/0",
            "0.0.0.0/0 is no IPv4 CIDR from /16 to /28",
        ),
        (
            &format!("{first}subnet-ipv4-cidr-block"),
            "2001:db8::/64",
            "2001:db8::/64 is no IPv4 CIDR from /16 to /28",
        ),
        (&format!("{first}subnet-ipv4-cidr-block"), "10.9.0.0/24", "10.9.0.0/24 is in no CIDR of the VPC"),
        (&format!("{first}local-ipv4s"), "10.0.2.4", "10.0.2.4 is not in the subnet 10.0.1.0/24"),
        (&format!("{first}security-group-ids"), "sg-1\nfoo", "\"foo\": \"foo\" is no security group id"),
    ];
    for (path, text, expected) in rows {
        let mut tree = tree();
        tree.insert(path.to_owned(), text.to_owned());
        let message = observe(tree).await.unwrap_err().to_string();
        assert!(message.starts_with(&format!("instance metadata {path}: ")), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn an_unreachable_service_is_an_error_that_names_the_path() {
    let imds = Imds::new(Some("http://127.0.0.1:1")).unwrap();
    let error = InstanceIdentity::observe(&imds).await.unwrap_err();
    assert_eq!(error.to_string(), "read instance metadata /latest/meta-data/mac");
    assert!(Imds::new(Some("not a url")).is_err());
}
