//! Passes over the in-memory cloud: what goes, what stays, and what a failure leaves.

use super::*;
use spur_cloud::fake::{FakeCloud, Fault, World};
use spur_cloud::{AddressRequest, Api, ClientToken, CreateEni, DeviceIndex, InstanceId, SubnetId};
use spur_ipamd_core::leaked::NODE_TAG;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_epoch(Duration::from_secs(1_800_000_000));

struct Bed {
    cloud: FakeCloud,
    vpc: VpcId,
    subnet: SubnetId,
    here: InstanceId,
    gone: InstanceId,
    made: u32,
}

impl Bed {
    fn new() -> Self {
        let mut world = World::new();
        let vpc = world.add_vpc("a", &["10.0.0.0/16".parse().unwrap()]);
        let subnet = world.add_subnet("a", &vpc, "zone-a", "10.0.1.0/24".parse().unwrap());
        let here = world.add_instance("here", "m5.large", &subnet).unwrap();
        let gone = world.add_instance("gone", "m5.large", &subnet).unwrap();
        Self { cloud: FakeCloud::new(world), vpc, subnet, here, gone, made: 0 }
    }

    /// An ENI of cluster `shop`, so many seconds old.
    fn eni(&mut self, of: &InstanceId, age: Option<u64>) -> EniId {
        self.made += 1;
        let mut tags = BTreeMap::from([
            (CLUSTER_TAG.to_owned(), "shop".to_owned()),
            (NODE_TAG.to_owned(), of.to_string()),
        ]);
        let at = |age| Timestamp::from_epoch(NOW.since_epoch() - Duration::from_secs(age)).rfc3339();
        tags.extend(age.map(|age| (CREATED_TAG.to_owned(), at(age))));
        let wanted = CreateEni {
            subnet: self.subnet.clone(),
            security_groups: BTreeSet::new(),
            request: AddressRequest::Count(2),
            description: String::new(),
            tags,
            token: ClientToken(self.made.to_string()),
        };
        self.cloud.with(|world| world.create_eni(&wanted).unwrap().id)
    }

    async fn pass(&self, mode: Mode) -> (Result<Pass, CollectError>, Vec<String>) {
        let rules = CollectRules { cluster: "shop".to_owned(), grace: Duration::from_secs(3600), most: 10 };
        let mut told = Vec::new();
        let pass = collect(&self.cloud, &self.vpc, &rules, (NOW, mode), |line| told.push(line)).await;
        (pass, told)
    }

    fn there(&self, eni: &EniId) -> bool {
        self.cloud.with(|world| world.true_enis().contains_key(eni))
    }
}

#[tokio::test]
async fn what_a_lost_node_left_goes_and_everything_else_stays() {
    let mut bed = Bed::new();
    let (here, gone) = (bed.here.clone(), bed.gone.clone());
    let leaked = bed.eni(&gone, Some(7200));
    let young = bed.eni(&gone, Some(60));
    let unmarked = bed.eni(&gone, None);
    let attached = bed.eni(&here, Some(7200));
    bed.cloud.with(|world| {
        world.attach_eni(&attached, &here, DeviceIndex(1), spur_cloud::CardIndex(0)).unwrap();
        world.terminate(&gone);
    });
    let before = bed.cloud.with(|world| world.true_enis().clone());
    let (dry, shown) = bed.pass(Mode::DryRun).await;
    let expected = Pass { seen: 4, deleted: 1, marked: 1, kept: 2, failed: 0 };
    assert_eq!(dry.unwrap(), expected);
    assert_eq!(bed.cloud.with(|world| world.true_enis().clone()), before, "a dry run changes nothing");
    let line = format!("{leaked} delete: unattached, 2 h old, made for {gone}, which is no more");
    assert!(shown.contains(&line), "{shown:?}");
    let (pass, told) = bed.pass(Mode::Act).await;
    assert_eq!(pass.unwrap(), expected);
    assert!(told.contains(&format!("{line}; deleted")), "{told:?}");
    assert!(!bed.there(&leaked) && bed.there(&young) && bed.there(&attached) && bed.there(&unmarked));
    let tags = bed.cloud.with(|world| world.true_enis()[&unmarked].tags.clone());
    assert_eq!(tags[CREATED_TAG], NOW.rfc3339());
    let (again, _) = bed.pass(Mode::Act).await;
    assert_eq!(again.unwrap(), Pass { seen: 3, deleted: 0, marked: 0, kept: 3, failed: 0 });
}

#[tokio::test]
async fn without_a_complete_view_nothing_is_changed() {
    for api in [Api::DescribeNetworkInterfaces, Api::DescribeInstances] {
        let mut bed = Bed::new();
        let gone = bed.gone.clone();
        let leaked = bed.eni(&gone, Some(7200));
        bed.cloud.with(|world| {
            world.terminate(&gone);
            world.inject(api, Fault::Refuse(ErrorClass::Transient));
        });
        let (pass, told) = bed.pass(Mode::Act).await;
        let error = chain(&pass.unwrap_err()).to_string();
        assert!(error.contains("nothing was changed") && told.is_empty(), "{error}");
        assert!(bed.there(&leaked));
    }
}

#[tokio::test]
async fn a_deletion_that_fails_is_told_and_the_others_go_on() {
    let mut bed = Bed::new();
    let gone = bed.gone.clone();
    let leaked = [bed.eni(&gone, Some(7200)), bed.eni(&gone, Some(7200)), bed.eni(&gone, Some(7200))];
    bed.cloud.with(|world| {
        for class in [ErrorClass::Denied, ErrorClass::Conflict] {
            world.inject(Api::DeleteNetworkInterface, Fault::Refuse(class));
        }
    });
    let (pass, told) = bed.pass(Mode::Act).await;
    assert_eq!(pass.unwrap(), Pass { seen: 3, deleted: 3, marked: 0, kept: 0, failed: 1 });
    assert!(told[0].contains("; failed: DeleteNetworkInterface"), "{told:?}");
    assert!(told[1].ends_with("; in use by now, kept") && told[2].ends_with("; deleted"), "{told:?}");
    assert_eq!(leaked.iter().filter(|eni| bed.there(eni)).count(), 2);
}
