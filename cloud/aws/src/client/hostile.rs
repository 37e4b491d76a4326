//! Answers that are damaged on the way or written by something that is no EC2: whatever arrives, a call ends with an answer or an
//! error, never with a panic, and a failure is told to be one of those that can come of reading.
//!
//! The readers take the SDK's own types, so the fuzz targets, which build without the SDK, cannot reach them. Here good answers are
//! damaged at random, from fixed seeds, and read by the real client.

use super::*;
use crate::canned::Canned;
use spur_cloud::{CloudRoutes, ErrorClass, RouteTableQuery};
use std::sync::{Arc, Mutex};

const ENIS: &str = "<DescribeNetworkInterfacesResponse><requestId>r</requestId><networkInterfaceSet><item>\
    <networkInterfaceId>eni-1</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
    <availabilityZone>eu-central-1a</availabilityZone><description>d</description><status>in-use</status>\
    <macAddress>0a:00:00:00:00:01</macAddress><privateIpAddress>10.0.0.4</privateIpAddress>\
    <sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-1</groupId></item></groupSet>\
    <attachment><attachmentId>eni-attach-1</attachmentId><instanceId>i-1</instanceId>\
    <deviceIndex>1</deviceIndex><networkCardIndex>0</networkCardIndex><status>attached</status>\
    <deleteOnTermination>true</deleteOnTermination></attachment><tagSet><item><key>k</key><value>v</value>\
    </item></tagSet><privateIpAddressesSet><item><privateIpAddress>10.0.0.4</privateIpAddress>\
    <primary>true</primary></item><item><privateIpAddress>10.0.0.5</privateIpAddress><primary>false</primary>\
    </item></privateIpAddressesSet><ipv4PrefixSet><item><ipv4Prefix>10.0.0.16/28</ipv4Prefix></item>\
    </ipv4PrefixSet></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>";

const SUBNETS: &str = "<DescribeSubnetsResponse><requestId>r</requestId><subnetSet><item>\
    <subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><availabilityZone>a</availabilityZone>\
    <cidrBlock>10.0.0.0/24</cidrBlock><availableIpAddressCount>5</availableIpAddressCount></item></subnetSet>\
    </DescribeSubnetsResponse>";

const INSTANCES: &str = "<DescribeInstancesResponse><requestId>r</requestId><reservationSet><item><instancesSet>\
    <item><instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
    <instanceType>m5.large</instanceType><placement><availabilityZone>a</availabilityZone></placement>\
    <vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId><networkInterfaceSet><item>\
    <networkInterfaceId>eni-1</networkInterfaceId></item></networkInterfaceSet></item></instancesSet></item>\
    </reservationSet></DescribeInstancesResponse>";

const TYPES: &str = "<DescribeInstanceTypesResponse><requestId>r</requestId><instanceTypeSet><item>\
    <instanceType>m5.large</instanceType><bareMetal>false</bareMetal><hypervisor>nitro</hypervisor><networkInfo>\
    <maximumNetworkInterfaces>3</maximumNetworkInterfaces><ipv4AddressesPerInterface>10</ipv4AddressesPerInterface>\
    <defaultNetworkCardIndex>0</defaultNetworkCardIndex><networkCards><item><networkCardIndex>0</networkCardIndex>\
    <maximumNetworkInterfaces>3</maximumNetworkInterfaces></item></networkCards></networkInfo></item>\
    </instanceTypeSet></DescribeInstanceTypesResponse>";

const ASSIGNED: &str = "<AssignPrivateIpAddressesResponse><requestId>r</requestId>\
    <networkInterfaceId>eni-1</networkInterfaceId><assignedPrivateIpAddressesSet><item>\
    <privateIpAddress>10.0.0.9</privateIpAddress></item></assignedPrivateIpAddressesSet><return>true</return>\
    </AssignPrivateIpAddressesResponse>";

const TABLES: &str = "<DescribeRouteTablesResponse><requestId>r</requestId><routeTableSet><item>\
    <routeTableId>rtb-1</routeTableId><vpcId>vpc-1</vpcId><associationSet><item><main>true</main>\
    <associationState><state>associated</state></associationState></item><item><subnetId>subnet-1</subnetId>\
    <main>false</main></item></associationSet><routeSet><item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock>\
    <gatewayId>local</gatewayId><origin>CreateRouteTable</origin><state>active</state></item><item>\
    <destinationIpv6CidrBlock>fd00::/64</destinationIpv6CidrBlock><networkInterfaceId>eni-1</networkInterfaceId>\
    <origin>CreateRoute</origin><state>blackhole</state></item></routeSet><tagSet><item><key>k</key>\
    <value>v</value></item></tagSet></item></routeTableSet></DescribeRouteTablesResponse>";

const VPCS: &str = "<DescribeVpcsResponse><requestId>r</requestId><vpcSet><item><vpcId>vpc-1</vpcId>\
    <cidrBlock>10.0.0.0/16</cidrBlock><cidrBlockAssociationSet><item><cidrBlock>10.0.0.0/16</cidrBlock>\
    <cidrBlockState><state>associated</state></cidrBlockState></item><item><cidrBlock>10.1.0.0/16</cidrBlock>\
    <cidrBlockState><state>associating</state></cidrBlockState></item></cidrBlockAssociationSet></item></vpcSet>\
    </DescribeVpcsResponse>";

/// What damage puts in the place of a text.
const TEXTS: [&str; 12] = [
    "",
    " ",
    "-1",
    "4294967296",
    "99999999999999999999",
    "true",
    "x",
    "10.0.0.0/33",
    "::1",
    "10.0.0.5",
    "é\u{200b}",
    "&#0;",
];

/// A small generator (splitmix64): the same seed damages in the same way.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    /// Damages once or twice: a text replaced, an element left out or doubled, the end cut off, a byte changed.
    fn damage(&mut self, answer: &str) -> String {
        let mut pieces: Vec<String> = answer.split_inclusive('>').map(str::to_owned).collect();
        for _ in 0..=self.below(2) {
            let at = self.below(pieces.len());
            match self.below(5) {
                0 | 1 => {
                    let end = pieces[at].find('<').unwrap_or(0);
                    pieces[at].replace_range(..end, TEXTS[self.below(TEXTS.len())]);
                }
                2 => drop(pieces.remove(at)),
                3 => pieces.insert(at, pieces[at].clone()),
                _ => pieces.truncate(at.max(1)),
            }
        }
        pieces.concat()
    }
}

#[tokio::test]
async fn no_answer_makes_a_reader_panic_and_what_makes_no_sense_is_an_error_of_its_class() {
    let body = Arc::new(Mutex::new(String::new()));
    let given = Arc::clone(&body);
    let server = Canned::start(move |_| Some((200, given.lock().expect("unpoisoned").clone()))).await;
    let mut options = AwsOptions::new("eu-central-1".parse().expect("a region"));
    options.endpoint = Some(server.endpoint.clone());
    let cloud = AwsCloud::with_credentials(&options, "id", "secret").await;
    let (eni, instance): (EniId, InstanceId) = ("eni-1".parse().unwrap(), "i-1".parse().unwrap());
    let vpc: VpcId = "vpc-1".parse().unwrap();
    let tagged = RouteTableQuery::Tagged(vpc.clone(), BTreeMap::new());
    let (mut read, mut refused) = (0, 0);
    for (number, answer) in [ENIS, SUBNETS, INSTANCES, TYPES, ASSIGNED, TABLES, VPCS].into_iter().enumerate()
    {
        for seed in 0..=160 {
            // The first is whole, to show that it is the damage that is refused.
            let sent = if seed == 0 { answer.to_owned() } else { Chance(seed).damage(answer) };
            body.lock().expect("unpoisoned").clone_from(&sent);
            let result = match number {
                0 => cloud.enis(&EniQuery::OfInstance(instance.clone())).await.map(drop),
                1 => cloud.subnets(&SubnetQuery::ByIds(["subnet-1".parse().unwrap()].into())).await.map(drop),
                2 => cloud.instance(&instance).await.map(drop),
                3 => cloud.instance_limits(&["m5.large".parse().unwrap()].into()).await.map(drop),
                4 => cloud.assign(&eni, &AddressRequest::Count(1)).await.map(drop),
                5 => cloud.route_tables(&tagged).await.map(drop),
                _ => cloud.vpc(&vpc).await.map(drop),
            };
            match result {
                Ok(()) => read += 1,
                Err(error) => {
                    refused += 1;
                    assert!(seed > 0, "{} refuses a good answer: {error}", error.api);
                    let class = error.class();
                    let known =
                        [ErrorClass::Bug, ErrorClass::NotFound, ErrorClass::Transient].contains(&class);
                    assert!(known && !error.message.is_empty(), "{error:?} for {sent}");
                }
            }
        }
    }
    assert!(read > 60 && refused > 150, "{read} read, {refused} refused: the damage does nothing");
}
