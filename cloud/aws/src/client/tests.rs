//! What goes over the wire, and what becomes of every way in which a call can fail. The server gives canned answers.

use super::*;
use crate::canned::{Asked, Canned};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use spur_cloud::{ClientToken, CloudRoutes, ErrorClass, RouteTableQuery};

fn options(endpoint: &str) -> AwsOptions {
    let mut options = AwsOptions::new("eu-central-1".parse().expect("a region"));
    options.endpoint = Some(endpoint.to_owned());
    options
}

async fn cloud(endpoint: &str) -> AwsCloud {
    with(&options(endpoint)).await
}

async fn with(options: &AwsOptions) -> AwsCloud {
    AwsCloud::with_credentials(options, "id", "secret").await
}

fn fields(asked: &Asked) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let mut parts = text.split('%');
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (code, rest) = part.split_at(2);
            plain.push(char::from(u8::from_str_radix(code, 16).expect("two digits")));
            plain.push_str(rest);
        }
        plain
    };
    asked
        .body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn subnet_page(id: &str, token: &str) -> String {
    format!(
        "<DescribeSubnetsResponse><requestId>r</requestId><subnetSet><item><subnetId>{id}</subnetId>\
         <vpcId>vpc-1</vpcId><availabilityZone>a</availabilityZone><cidrBlock>10.0.0.0/24</cidrBlock>\
         <availableIpAddressCount>5</availableIpAddressCount></item></subnetSet><nextToken>{token}</nextToken>\
         </DescribeSubnetsResponse>"
    )
}

#[tokio::test]
async fn filtered_reads_follow_the_pages_and_escape_wildcards() {
    let server = Canned::in_turn(&[&subnet_page("subnet-1", "more"), &subnet_page("subnet-2", "")]).await;
    let tags = BTreeMap::from([("role".to_owned(), "a*b?".to_owned())]);
    let query = SubnetQuery::Tagged("vpc-1".parse().unwrap(), tags);
    let found = cloud(&server.endpoint).await.subnets(&query).await.unwrap();
    assert_eq!(found.iter().map(|subnet| subnet.id.as_str()).collect::<Vec<_>>(), ["subnet-1", "subnet-2"]);
    let asked: Vec<_> = server.asked().iter().map(fields).collect();
    assert_eq!(asked[0]["MaxResults"], "1000");
    assert_eq!(
        (asked[0]["Filter.1.Name"].as_str(), asked[0]["Filter.1.Value.1"].as_str()),
        ("vpc-id", "vpc-1")
    );
    assert_eq!(asked[0]["Filter.2.Name"], "tag:role");
    assert_eq!(asked[0]["Filter.2.Value.1"], "a\\*b\\?");
    assert!(!asked[0].contains_key("NextToken"));
    assert_eq!(asked[1]["NextToken"], "more");
}

#[tokio::test]
async fn reads_by_id_ask_for_no_page_size_and_reads_of_nothing_ask_nothing() {
    let server = Canned::in_turn(&[&subnet_page("subnet-1", "")]).await;
    let cloud = cloud(&server.endpoint).await;
    let ids = BTreeSet::from(["subnet-1".parse().unwrap()]);
    assert_eq!(cloud.subnets(&SubnetQuery::ByIds(ids)).await.unwrap().len(), 1);
    assert!(!fields(&server.asked()[0]).contains_key("MaxResults"));
    assert!(cloud.subnets(&SubnetQuery::ByIds(BTreeSet::new())).await.unwrap().is_empty());
    assert!(cloud.enis(&EniQuery::ByIds(BTreeSet::new())).await.unwrap().is_empty());
    let eni = "eni-1".parse().unwrap();
    cloud.unassign(&eni, &BTreeSet::new(), &BTreeSet::new()).await.unwrap();
    cloud.assign(&eni, &AddressRequest::Count(0)).await.unwrap();
    cloud.tag_eni(&eni, &BTreeMap::new()).await.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_create_carries_token_groups_tags_and_counts() {
    let server = Canned::start(|_| Some((200, "<CreateNetworkInterfaceResponse/>".to_owned()))).await;
    let wanted = CreateEni {
        subnet: "subnet-1".parse().unwrap(),
        security_groups: BTreeSet::from(["sg-1".parse().unwrap()]),
        request: AddressRequest::Count(3),
        description: "pods of node a".to_owned(),
        tags: BTreeMap::from([("owner".to_owned(), "spur".to_owned())]),
        token: ClientToken("t-1".to_owned()),
    };
    let error = cloud(&server.endpoint).await.create_eni(&wanted).await.unwrap_err();
    assert_eq!(error.message, "EC2's answer makes no sense: networkInterface is missing");
    let asked = fields(&server.asked()[0]);
    let expected = [
        ("Action", "CreateNetworkInterface"),
        ("SubnetId", "subnet-1"),
        ("SecurityGroupId.1", "sg-1"),
        ("SecondaryPrivateIpAddressCount", "3"),
        ("Description", "pods of node a"),
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "owner"),
        ("ClientToken", "t-1"),
    ];
    for (key, value) in expected {
        assert_eq!(asked.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[tokio::test]
async fn ec2s_refusal_keeps_code_message_and_request_id() {
    let body = "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow down</Message></Error>\
                </Errors><RequestID>r-7</RequestID></Response>";
    let server = Canned::start(move |_| Some((503, body.to_owned()))).await;
    let error = cloud(&server.endpoint).await.delete_eni(&"eni-1".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Throttled);
    assert_eq!(error.to_string(), "DeleteNetworkInterface: RequestLimitExceeded: slow down (request r-7)");
    assert_eq!(server.asked().len(), 1, "the SDK does not retry on its own");
}

#[tokio::test]
async fn what_is_no_ec2_answer_is_classed_by_who_is_to_blame() {
    let rows = [
        (200, "<html>", ErrorClass::Bug),
        (400, "<html>go away</html>", ErrorClass::Bug),
        (403, "", ErrorClass::Denied),
        (502, "<html>bad gateway</html>", ErrorClass::Transient),
    ];
    for (status, body, class) in rows {
        let server = Canned::start(move |_| Some((status, body.to_owned()))).await;
        let error = cloud(&server.endpoint).await.vpc(&"vpc-1".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.class(), class, "{status} {body}: {error}");
    }
}

#[tokio::test]
async fn a_lost_answer_a_silent_server_and_no_server_are_transient() {
    let closing = Canned::start(|_| None).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [closing.endpoint.as_str(), &silent_endpoint, "http://127.0.0.1:1"] {
        let options = AwsOptions { call_timeout: Duration::from_millis(500), ..options(endpoint) };
        let error = with(&options).await.vpc(&"vpc-1".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Transient, "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn ipv6_is_refused_before_ec2_is_asked() {
    let server = Canned::in_turn(&[]).await;
    let addresses = BTreeSet::from(["fd00::1".parse().unwrap()]);
    let result =
        cloud(&server.endpoint).await.unassign(&"eni-1".parse().unwrap(), &addresses, &BTreeSet::new()).await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::Bug);
    assert!(server.asked().is_empty());
}

/// Credentials that cannot be had.
#[derive(Debug)]
struct Without(fn() -> CredentialsError);

impl ProvideCredentials for Without {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err((self.0)()))
    }
}

#[tokio::test]
async fn credentials_that_do_not_exist_are_denied_and_a_provider_in_trouble_is_transient() {
    let rows: [(fn() -> CredentialsError, ErrorClass); 2] = [
        (|| CredentialsError::not_loaded("none configured"), ErrorClass::Denied),
        (|| CredentialsError::provider_error("metadata service is slow"), ErrorClass::Transient),
    ];
    for (cause, class) in rows {
        let options = AwsOptions::new("eu-central-1".parse().unwrap());
        let cloud =
            AwsCloud::from_config(&loader(&options).credentials_provider(Without(cause)).load().await);
        let error = cloud.vpc(&"vpc-1".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
    }
}

fn table_page(id: &str, token: &str) -> String {
    format!(
        "<DescribeRouteTablesResponse><requestId>r</requestId><routeTableSet><item><routeTableId>{id}</routeTableId>\
         <vpcId>vpc-1</vpcId></item></routeTableSet><nextToken>{token}</nextToken></DescribeRouteTablesResponse>"
    )
}

#[tokio::test]
async fn route_tables_are_read_by_filter_and_in_pages_even_by_id() {
    let server = Canned::in_turn(&[&table_page("rtb-1", "more"), &table_page("rtb-2", "")]).await;
    let ids = BTreeSet::from(["rtb-1".parse().unwrap(), "rtb-2".parse().unwrap()]);
    let cloud = cloud(&server.endpoint).await;
    let found = cloud.route_tables(&RouteTableQuery::ByIds(ids)).await.unwrap();
    assert_eq!(found.iter().map(|table| table.id.as_str()).collect::<Vec<_>>(), ["rtb-1", "rtb-2"]);
    let asked = fields(&server.asked()[0]);
    let expected = [
        ("Action", "DescribeRouteTables"),
        ("MaxResults", "100"),
        ("Filter.1.Name", "route-table-id"),
        ("Filter.1.Value.1", "rtb-1"),
        ("Filter.1.Value.2", "rtb-2"),
    ];
    for (key, value) in expected {
        assert_eq!(asked.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!asked.contains_key("RouteTableId.1"));
    assert!(cloud.route_tables(&RouteTableQuery::ByIds(BTreeSet::new())).await.unwrap().is_empty());
    assert_eq!(server.asked().len(), 2, "reading none asks nothing");
}

#[tokio::test]
async fn a_route_of_each_family_goes_over_the_wire_in_its_own_parameter() {
    let server =
        Canned::in_turn(&["<CreateRouteResponse><return>true</return></CreateRouteResponse>"; 3]).await;
    let cloud = cloud(&server.endpoint).await;
    let (table, eni) = ("rtb-1".parse().unwrap(), "eni-1".parse().unwrap());
    cloud.create_route(&table, "10.4.0.0/25".parse().unwrap(), &eni).await.unwrap();
    cloud.replace_route(&table, "2001:db8::/80".parse().unwrap(), &eni).await.unwrap();
    cloud.delete_route(&table, "2001:db8::/80".parse().unwrap()).await.unwrap();
    let asked: Vec<_> = server.asked().iter().map(fields).collect();
    assert_eq!(asked[0]["DestinationCidrBlock"], "10.4.0.0/25");
    assert!(!asked[0].contains_key("DestinationIpv6CidrBlock"));
    for call in &asked[1..] {
        assert_eq!(call["DestinationIpv6CidrBlock"], "2001:db8::/80");
        assert!(!call.contains_key("DestinationCidrBlock"));
    }
    assert!(asked.iter().all(|call| call["RouteTableId"] == "rtb-1"));
    assert_eq!(asked[1]["NetworkInterfaceId"], "eni-1");
}

#[tokio::test]
async fn no_tags_make_no_call_above_all_not_a_delete_of_them_all() {
    let server = Canned::in_turn(&["<DeleteTagsResponse><return>true</return></DeleteTagsResponse>"]).await;
    let cloud = cloud(&server.endpoint).await;
    let table = "rtb-1".parse().unwrap();
    cloud.tag_route_table(&table, &BTreeMap::new()).await.unwrap();
    cloud.untag_route_table(&table, &BTreeSet::new()).await.unwrap();
    assert!(server.asked().is_empty());
    cloud.untag_route_table(&table, &BTreeSet::from(["owner".to_owned()])).await.unwrap();
    let asked = fields(&server.asked()[0]);
    assert_eq!((asked["Tag.1.Key"].as_str(), asked.get("Tag.1.Value")), ("owner", None));
}

#[tokio::test]
async fn a_service_that_never_comes_to_an_end_is_not_followed_forever() {
    let query = SubnetQuery::Tagged("vpc-1".parse().unwrap(), BTreeMap::new());
    // The same page again and again; then another token each time.
    for (is_new, most) in [(false, 2), (true, 1_000)] {
        let mut number = 0;
        let server = Canned::start(move |_| {
            number += 1;
            Some((200, subnet_page("subnet-1", &format!("t{}", if is_new { number } else { 0 }))))
        })
        .await;
        let error = cloud(&server.endpoint).await.subnets(&query).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Bug, "{error}");
        assert!(error.message.contains("nextToken"), "{error}");
        assert_eq!(server.asked().len(), most);
    }
}

#[tokio::test]
async fn an_eni_and_a_subnet_without_ipv4_hide_nothing_else() {
    let eni = |id: &str, addresses: &str| {
        format!(
            "<item><networkInterfaceId>{id}</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
             <availabilityZone>a</availabilityZone><status>in-use</status><macAddress>0a:00:00:00:00:01</macAddress>\
             {addresses}<sourceDestCheck>true</sourceDestCheck></item>"
        )
    };
    // As of an EFA-only interface.
    let without = eni("eni-1", "<interfaceType>efa-only</interfaceType><privateIpAddressesSet/>");
    let with = eni(
        "eni-2",
        "<privateIpAddress>10.0.0.4</privateIpAddress><privateIpAddressesSet><item>\
         <privateIpAddress>10.0.0.4</privateIpAddress><primary>true</primary></item></privateIpAddressesSet>",
    );
    let enis = format!(
        "<DescribeNetworkInterfacesResponse><networkInterfaceSet>{without}{with}</networkInterfaceSet>\
         </DescribeNetworkInterfacesResponse>"
    );
    let subnets = subnet_page("subnet-1", "").replace(
        "</subnetSet>",
        "<item><subnetId>subnet-2</subnetId><vpcId>vpc-1</vpcId><availabilityZone>a</availabilityZone>\
         <availableIpAddressCount>0</availableIpAddressCount><ipv6Native>true</ipv6Native></item></subnetSet>",
    );
    let server = Canned::in_turn(&[&enis, &subnets]).await;
    let cloud = cloud(&server.endpoint).await;
    let enis = cloud.enis(&EniQuery::OfInstance("i-1".parse().unwrap())).await.unwrap();
    let seen: Vec<_> = enis.iter().map(|eni| (eni.id.as_str(), eni.has_address())).collect();
    assert_eq!(seen, [("eni-1", false), ("eni-2", true)]);
    let query = SubnetQuery::Tagged("vpc-1".parse().unwrap(), BTreeMap::new());
    let subnets = cloud.subnets(&query).await.unwrap();
    assert_eq!(subnets.iter().map(|subnet| subnet.id.as_str()).collect::<Vec<_>>(), ["subnet-1"]);
}
