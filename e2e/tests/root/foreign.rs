//! ENIs on the node that are not Spur's to change: one that somebody else attached, and one of Spur's own that an operator took out of its hands
//! with the tag `no_manage`. Neither gets an address, gives one up or is detached; both count against the instance's quota.

use crate::common::{add_pods, quick_world};
use serde_json::Value;
use spur_e2e::world::World;
use std::time::{Duration, Instant};

fn between<'a>(xml: &'a str, tag: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("no {tag} in {xml}"));
    rest.split_once("</").unwrap().0
}

/// Makes an ENI in the node's subnet with two addresses and attaches it, as somebody else would.
fn attach(world: &World, index: &str, tags: &[(&str, &str)]) -> String {
    let instance = world.nodes[0].instance_id.as_str();
    let told = world.ec2("DescribeInstances", &[("InstanceId.1", instance)]).unwrap();
    let mut wanted = vec![("SubnetId", between(&told, "subnetId")), ("SecondaryPrivateIpAddressCount", "2")];
    let keys: Vec<_> = (1..=tags.len())
        .map(|number| ["Key", "Value"].map(|part| format!("TagSpecification.1.Tag.{number}.{part}")))
        .collect();
    if !tags.is_empty() {
        wanted.push(("TagSpecification.1.ResourceType", "network-interface"));
    }
    for ([key, value], (name, text)) in keys.iter().zip(tags) {
        wanted.extend([(key.as_str(), *name), (value.as_str(), *text)]);
    }
    let eni =
        between(&world.ec2("CreateNetworkInterface", &wanted).unwrap(), "networkInterfaceId").to_owned();
    let attached = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance), ("DeviceIndex", index)];
    world.ec2("AttachNetworkInterface", &attached).unwrap();
    eni
}

#[test]
#[ignore = "needs root"]
fn enis_of_others_and_those_marked_no_manage_are_left_alone() {
    let world = quick_world("foreign", 1);
    let instance = world.nodes[0].instance_id.clone();
    let cluster = world.name().to_owned();
    let foreign = attach(&world, "1", &[]);
    let no_manage = [
        ("spur.dev/cluster", cluster.as_str()),
        ("spur.dev/instance", instance.as_str()),
        ("node.k8s.amazonaws.com/no_manage", "true"),
    ];
    let taken_out = attach(&world, "2", &no_manage);
    world.start_agent(0).unwrap();

    // The quota is three ENIs: the primary one's nine addresses are all there is, and the ADD after them says so.
    let pods = add_pods(&world, 0, 1..=9);
    let cloud = world.cloud().unwrap();
    for placed in &pods {
        let owner = cloud.owner("node-1", placed.pod.address.unwrap()).unwrap();
        assert_eq!(owner.device_index, 0, "{owner:?}");
    }
    let tenth = world.pod(0, 10).unwrap();
    let refused = world.runtime(0).unwrap().execute("ADD", &tenth, &tenth.netns_path()).unwrap();
    assert!(!refused.success && refused.failure().contains("the node is full"), "{}", refused.failure());
    for placed in &pods {
        world.runtime(0).unwrap().del(&placed.pod).unwrap();
    }

    // Shrinking gives back what is surplus, of its own only.
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        let enis = world.cloud().unwrap().nodes["node-1"].clone();
        let addresses = |id: &str| enis.iter().find(|eni| eni.id == id).unwrap().addresses.len();
        assert_eq!((enis.len(), addresses(&foreign), addresses(&taken_out)), (3, 2, 2), "{enis:?}");
        if enis[0].addresses.len() == 3 {
            break;
        }
        assert!(Instant::now() < deadline, "nothing is given back: {enis:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let touched = |call: &Value| {
        let reads = call["action"].as_str().unwrap().starts_with("Describe");
        let parameters = call["parameters"].as_str().unwrap();
        call["caller"] == "node-1"
            && !reads
            && [&foreign, &taken_out].iter().any(|eni| parameters.contains(*eni))
    };
    let record = world.record().unwrap();
    assert!(record.iter().any(|call| call["caller"] == "node-1"), "the agent is known by its calls");
    assert!(!record.iter().any(touched), "{record:?}");
    let log = std::fs::read_to_string(world.nodes[0].log()).unwrap();
    for eni in [&foreign, &taken_out] {
        assert!(log.contains(&format!("{eni} is not ours: left alone")), "{log}");
    }
    world.down().unwrap();
}
