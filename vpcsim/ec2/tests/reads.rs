//! The Describe actions: ids, filters, pages; and what is said of a request that makes no sense. Shapes of answers are
//! judged elsewhere (`witness/`); here it is about what is in them, and what is not. Texts of callers come back as they were
//! sent.

mod common;

use common::Lab;

const ID: &str = "networkInterfaceSet/item/networkInterfaceId";

#[test]
fn filters_narrow_by_value_by_pattern_and_by_tag() {
    let mut lab = Lab::new();
    let eni = lab.create(
        "b",
        "Description=spur%2Fnode-1&TagSpecification.1.ResourceType=network-interface\
         &TagSpecification.1.Tag.1.Key=owner&TagSpecification.1.Tag.1.Value=spur",
    );
    let (subnet, instance) = (lab.subnet("b"), lab.instance("n2"));
    for (filter, expected, why) in [
        ("Filter.1.Name=description&Filter.1.Value.1=spur%2F*".to_owned(), 1, "a star"),
        ("Filter.1.Name=description&Filter.1.Value.1=spur%2Fnode-%3F".to_owned(), 1, "a question mark"),
        ("Filter.1.Name=tag:owner&Filter.1.Value.1=spur".to_owned(), 1, "a tag"),
        ("Filter.1.Name=tag-key&Filter.1.Value.1=owner".to_owned(), 1, "a tag's key"),
        ("Filter.1.Name=status&Filter.1.Value.1=available".to_owned(), 1, "unattached"),
        (format!("Filter.1.Name=attachment.instance-id&Filter.1.Value.1={instance}"), 1, "n2's primary one"),
        (
            format!("Filter.1.Name=subnet-id&Filter.1.Value.1={subnet}&Filter.1.Value.2=x"),
            2,
            "one of the values",
        ),
        (
            format!(
                "Filter.1.Name=subnet-id&Filter.1.Value.1={subnet}&Filter.2.Name=status&Filter.2.Value.1=in-use"
            ),
            1,
            "all of the filters",
        ),
    ] {
        assert_eq!(lab.call("DescribeNetworkInterfaces", &filter).all(ID).len(), expected, "{why}");
    }
    let by_id = format!("NetworkInterfaceId.1={eni}&Filter.1.Name=status&Filter.1.Value.1=in-use");
    assert!(lab.call("DescribeNetworkInterfaces", &by_id).all(ID).is_empty());
    let unknown = "Filter.1.Name=colour&Filter.1.Value.1=red";
    assert_eq!(lab.refusal("DescribeNetworkInterfaces", unknown), "InvalidParameterValue");
}

#[test]
fn pages_hold_everything_once_even_when_the_world_changes_in_between() {
    let mut lab = Lab::new();
    let made: Vec<String> = (0..13).map(|_| lab.create("a", "")).collect();
    let filter = "Filter.1.Name=status&Filter.1.Value.1=available&MaxResults=5";
    let (mut seen, mut token) = (Vec::new(), String::new());
    for page in 0..3 {
        let doc = lab.call("DescribeNetworkInterfaces", &format!("{filter}{token}"));
        seen.extend(doc.all(ID));
        match doc.all("nextToken").first() {
            Some(next) => token = format!("&NextToken={next}"),
            None => assert_eq!(page, 2),
        }
        if page == 0 {
            // The item that the token names goes away; the page behind it is still found.
            lab.call("DeleteNetworkInterface", &format!("NetworkInterfaceId={}", seen[4]));
        }
    }
    let mut expected = made;
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(lab.refusal("DescribeSubnets", &format!("MaxResults=5{token}")), "InvalidPaginationToken");
    let tampered = token.replace("&NextToken=", "&NextToken=00");
    assert_eq!(
        lab.refusal("DescribeNetworkInterfaces", &format!("{filter}{tampered}")),
        "InvalidPaginationToken"
    );
}

#[test]
fn types_come_in_pages_and_count_the_enis_of_all_cards() {
    let mut lab = Lab::new();
    let doc = lab.call("DescribeInstanceTypes", "");
    assert_eq!(doc.all("instanceTypeSet/item/instanceType").len(), 100);
    assert_eq!(doc.all("nextToken").len(), 1);
    let doc = lab.call("DescribeInstanceTypes", "InstanceType.1=c6in.32xlarge&InstanceType.2=m5.large");
    assert_eq!(doc.all("instanceTypeSet/item/networkInfo/maximumNetworkInterfaces"), ["16", "3"]);
    assert_eq!(doc.all("instanceTypeSet/item/networkInfo/ipv4AddressesPerInterface"), ["50", "10"]);
    assert_eq!(lab.refusal("DescribeInstanceTypes", "InstanceType.1=m5.tiny"), "InvalidInstanceType");
}

#[test]
fn a_request_that_makes_no_sense_is_named_and_refused() {
    let mut lab = Lab::new();
    for (form, code) in [
        ("", "MissingAction"),
        ("Action=DescribeVpcs", "MissingParameter"),
        ("Action=DescribeVpcs&Version=2010-01-01", "NoSuchVersion"),
        ("Action=RunAway&Version=2016-11-15", "InvalidAction"),
        ("Action=DescribeVpcs&Version=2016-11-15&Colour=red", "UnknownParameter"),
        ("Action=DescribeVpcs&Version=2016-11-15&MaxResults=4", "InvalidParameterValue"),
        ("Action=DescribeVpcs&Version=2016-11-15&MaxResults=many", "InvalidParameterValue"),
        ("Action=DescribeVpcs&Version=2016-11-15&DryRun=maybe", "InvalidParameterValue"),
        ("Action=%ff", "MalformedQueryString"),
        ("Action=DescribeVpcs&Action=DescribeVpcs", "MalformedQueryString"),
    ] {
        let answer = lab.raw(form);
        assert_eq!(common::Doc::read(&answer.body).one("Errors/Error/Code"), code, "{form}");
        assert!(answer.body.contains(&answer.request_id));
    }
}

#[test]
fn a_callers_text_comes_back_as_it_was_sent() {
    let mut lab = Lab::new();
    let eni = lab.create("a", "Description=%3Ca%3E+%26+%22b%22%0D%0A+%C3%A4");
    let seen = lab.call("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={eni}"));
    assert_eq!(seen.one("networkInterfaceSet/item/description"), "<a> & \"b\"\r\n ä");
}
