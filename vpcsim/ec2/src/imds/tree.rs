//! The metadata tree of one node, as paths with contents below a version. It shows what EC2 knows at this moment: an ENI
//! from the moment its attachment landed until its detachment has, addresses as soon as they are assigned. A directory is
//! nothing of its own, only what paths have in common.

use super::ROLE;
use crate::random::seal;
use crate::time::SimTime;
use crate::world::eni::{AttachmentStatus, Eni};
use crate::world::subnet::Subnet;
use crate::world::{Instance, World};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

/// How long a set of credentials lasts; the real service gives about six hours.
const CREDENTIALS_LAST: Duration = Duration::from_secs(6 * 3_600);

/// Image that every instance claims to run.
pub(crate) const IMAGE: &str = "ami-0123456789abcdef0";

type Tree = BTreeMap<String, String>;

/// Everything there is.
pub(super) fn build(world: &World, instance: &Instance, now: SimTime) -> Tree {
    let mut tree = Tree::new();
    let primary = world.enis_of(&instance.id).into_iter().next();
    let mut meta = |path: &str, value: String| {
        tree.insert(format!("meta-data/{path}"), value);
    };
    meta("ami-id", IMAGE.to_owned());
    meta("ami-launch-index", "0".to_owned());
    meta("instance-id", instance.id.to_string());
    meta("instance-life-cycle", "on-demand".to_owned());
    meta("instance-type", instance.instance_type.clone());
    meta("placement/availability-zone", instance.zone.clone());
    meta("placement/availability-zone-id", crate::world::zone_id(&world.region, &instance.zone));
    meta("placement/region", world.region.clone());
    meta("reservation-id", instance.reservation.clone());
    meta("services/domain", "amazonaws.com".to_owned());
    meta("services/partition", "aws".to_owned());
    meta("iam/info", iam_info(world, instance, now));
    meta(&format!("iam/security-credentials/{ROLE}"), credentials(instance, now));
    let groups: Vec<&str> = names_of_groups(world, instance.groups.iter());
    meta("security-groups", groups.join("\n"));
    if let Some(eni) = primary {
        let name = Eni::dns_name(eni.primary, &world.region);
        meta("hostname", name.clone());
        meta("local-hostname", name);
        meta("local-ipv4", eni.primary.to_string());
        meta("mac", eni.mac.to_string());
    }
    for eni in world.enis_of(&instance.id) {
        interface(&mut tree, world, eni);
    }
    tree.insert("dynamic/instance-identity/document".to_owned(), identity(world, instance, primary));
    tree
}

/// `network/interfaces/macs/<mac>/`, once the ENI has arrived.
fn interface(tree: &mut Tree, world: &World, eni: &Eni) {
    let Some(place) = eni.attachment.as_ref().filter(|place| place.status != AttachmentStatus::Attaching)
    else {
        return;
    };
    let mut put = |name: &str, value: String| {
        tree.insert(format!("meta-data/network/interfaces/macs/{}/{name}", eni.mac), value);
    };
    put("device-number", place.device_index.to_string());
    put("interface-id", eni.id.to_string());
    put("local-hostname", Eni::dns_name(eni.primary, &world.region));
    put("local-ipv4s", lines(std::iter::once(&eni.primary).chain(&eni.secondary)));
    put("mac", eni.mac.to_string());
    put("network-card", place.card.to_string());
    put("owner-id", world.account.clone());
    put("security-group-ids", lines(&eni.groups));
    put("security-groups", names_of_groups(world, eni.groups.iter()).join("\n"));
    put("subnet-id", eni.subnet.to_string());
    put("vpc-id", world.vpc.id.to_string());
    if let Some(cidr) = world.subnets.get(&eni.subnet).map(Subnet::cidr) {
        put("subnet-ipv4-cidr-block", cidr.to_string());
    }
    if let Some(first) = world.vpc.ranges().next() {
        put("vpc-ipv4-cidr-block", first.to_string());
    }
    put("vpc-ipv4-cidr-blocks", lines(world.vpc.ranges()));
    if !eni.prefixes.is_empty() {
        put("ipv4-prefix", lines(&eni.prefixes));
    }
}

fn lines<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join("\n")
}

fn names_of_groups<'w>(
    world: &'w World,
    ids: impl Iterator<Item = &'w crate::id::SecurityGroupId>,
) -> Vec<&'w str> {
    ids.filter_map(|id| world.groups.get(id)).map(|group| group.name.as_str()).collect()
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can always be written")
}

fn iam_info(world: &World, instance: &Instance, now: SimTime) -> String {
    pretty(&json!({
        "Code": "Success",
        "LastUpdated": now.to_string(),
        "InstanceProfileArn": format!("arn:aws:iam::{}:instance-profile/{ROLE}", world.account),
        "InstanceProfileId": format!("AIPA{:016X}", seal(1, instance.id.as_str().as_bytes())),
    }))
}

/// The access key names the node in the record of calls; nobody checks the secret.
fn credentials(instance: &Instance, now: SimTime) -> String {
    let secret = format!("{:016x}", seal(2, instance.access_key.as_bytes()));
    pretty(&json!({
        "Code": "Success",
        "LastUpdated": now.to_string(),
        "Type": "AWS-HMAC",
        "AccessKeyId": instance.access_key,
        "SecretAccessKey": format!("vpcsim-no-secret-{secret}"),
        "Token": format!("vpcsim-session-{secret}"),
        "Expiration": now.after(CREDENTIALS_LAST).to_string(),
    }))
}

fn identity(world: &World, instance: &Instance, primary: Option<&Eni>) -> String {
    pretty(&json!({
        "accountId": world.account,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": IMAGE,
        "instanceId": instance.id.as_str(),
        "instanceType": instance.instance_type,
        "kernelId": null,
        "pendingTime": world.launched.to_string(),
        "privateIp": primary.map(|eni| eni.primary.to_string()),
        "ramdiskId": null,
        "region": world.region,
        "version": "2017-09-30",
    }))
}

/// The content of a path, or the list of a directory.
pub(super) fn look(tree: &Tree, path: &str) -> Option<String> {
    if let Some(content) = tree.get(path) {
        return Some(content.clone());
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let below =
        tree.range(prefix.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&prefix));
    let entries: BTreeSet<String> = below.map(|path| entry(&path[prefix.len()..])).collect();
    (!entries.is_empty()).then(|| entries.into_iter().collect::<Vec<_>>().join("\n"))
}

fn entry(rest: &str) -> String {
    match rest.split_once('/') {
        Some((directory, _)) => format!("{directory}/"),
        None => rest.to_owned(),
    }
}
