//! Which value of [`Config`] stands under which key, and when a new one is used. A test compares with the table of keys, so that no
//! key is forgotten when the configuration changes under a running agent.

use super::Config;

/// When a new value of a key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// As soon as it is read.
    Effect,
    /// At the next start.
    Restart,
}

/// A key and its place in [`Config`].
pub(super) struct Field {
    /// Path of the key.
    pub(super) key: &'static str,
    /// When a new value is used.
    pub(super) takes: Takes,
    differs: fn(&Config, &Config) -> bool,
    copy: fn(&mut Config, &Config),
}

macro_rules! fields {
    ($($key:literal $takes:ident $($($field:ident).+),+;)*) => {
        /// Every key, with when a new value is used.
        pub(super) const FIELDS: &[Field] = &[$(Field {
            key: $key,
            takes: Takes::$takes,
            differs: |one, other| $(one.$($field).+ != other.$($field).+)||+,
            copy: |to, from| { $(to.$($field).+.clone_from(&from.$($field).+);)+ },
        }),*];
    };
}

fields! {
    "clusterName" Restart cluster_name;
    "socket" Restart socket;
    "stateDir" Restart state_dir;
    "spoolDir" Restart spool_dir;
    "cni.confDir" Restart cni.conf_dir;
    "cni.confName" Restart cni.conf_name;
    "cni.networkName" Restart cni.network_name;
    "cni.socketPath" Restart cni.socket_path;
    "cni.chain" Effect cni.chain;
    "cni.version" Effect cni.version;
    "addWaitSeconds" Effect add_wait;
    "reconcileSeconds" Effect reconcile;
    "settleSeconds" Effect settle;
    "mtuBytes" Effect mtu_bytes;
    "nodeName" Restart node_name;
    "grantDir" Restart grant_dir;
    "api.budgetPercent" Restart budget;
    "collect.graceSeconds" Effect collect.grace;
    "collect.maxDeletions" Effect collect.max_deletions;
    "metrics.listen" Restart metrics_listen;
    "log.level" Effect log.level;
    "log.format" Restart log.format;
    "pool.mode" Restart pool.mode;
    "pool.fallbackPool" Restart pool.fallback;
    "pool.warmIpTarget" Effect pool.warm_ip_target;
    "pool.minimumIpTarget" Effect pool.minimum_ip_target;
    "pool.warmEniTarget" Effect pool.warm_eni_target;
    "pool.warmPrefixTarget" Effect pool.warm_prefix_target;
    "pool.prefixDelegation" Effect pool.prefix_delegation;
    "pool.maxAboveWarm" Effect pool.max_above_warm;
    "pool.maxEnis" Effect pool.max_enis;
    "pool.cooldownSeconds" Effect pool.cooldown;
    "pool.shrinkDelaySeconds" Effect pool.shrink_delay;
    "pool.subnets" Effect pool.subnets;
    "pool.subnetTags" Effect pool.subnets;
    "pool.securityGroups" Effect pool.security_groups;
    "pool.securityGroupTags" Effect pool.security_groups;
    "pool.tags" Effect pool.tags;
    "pool.natOutgoing" Effect pool.nat.outgoing;
    "pool.natExclude" Effect pool.nat.exclude;
    "pool.natForce" Effect pool.nat.force;
    "pool.natPortRange" Effect pool.nat.first_port, pool.nat.last_port;
    "pool.vpcDestinations" Effect pool.nat.vpc_destinations;
    "pool.blockInstanceMetadata" Effect pool.block_instance_metadata;
}

/// The keys of this kind under which the two have different values.
#[must_use]
pub fn differing(one: &Config, other: &Config, takes: Takes) -> Vec<&'static str> {
    let fields = FIELDS.iter().filter(|field| field.takes == takes);
    fields.filter(|field| (field.differs)(one, other)).map(|field| field.key).collect()
}

/// Gives `new` the values of `old` that only a restart may change.
pub fn keep(new: &mut Config, old: &Config) {
    for field in FIELDS.iter().filter(|field| field.takes == Takes::Restart) {
        (field.copy)(new, old);
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    #[test]
    fn every_key_is_a_field_once_and_each_value_of_the_configuration_is_under_a_key() {
        let keys: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        for field in FIELDS {
            assert!(keys.contains(&field.key), "{} is no key", field.key);
        }
        for key in &keys {
            assert_eq!(FIELDS.iter().filter(|field| field.key == *key).count(), 1, "{key}");
        }
        // Copying every field makes two configurations equal, so none is without a key.
        let mut one = Config::parse("").unwrap();
        let other = Config::parse(
        "{clusterName: a, socket: /a, stateDir: /b, spoolDir: /c, addWaitSeconds: 1, reconcileSeconds: 10, settleSeconds: 5, mtuBytes: 1500, nodeName: a, grantDir: /e, api: {budgetPercent: 3}, metrics: {listen: off}, collect: {graceSeconds: 1000, maxDeletions: 3}, \
         cni: {confDir: /d, confName: a.conflist, networkName: pods, chain: [{type: portmap}]}, log: {level: warn, format: text}, \
         pool: {warmIpTarget: 1, minimumIpTarget: 1, maxAboveWarm: 1, maxEnis: 2, cooldownSeconds: 1, shrinkDelaySeconds: 1, \
         subnets: [subnet-1], securityGroupTags: {a: b}, tags: {a: b}, mode: vpcRoute, fallbackPool: a, natExclude: [10.0.0.0/8], natForce: [10.1.0.0/16], natPortRange: 2000-9000, \
         vpcDestinations: None, blockInstanceMetadata: true, warmEniTarget: 1, warmPrefixTarget: 1, prefixDelegation: auto}}",
    )
    .unwrap();
        FIELDS.iter().for_each(|field| (field.copy)(&mut one, &other));
        assert_eq!(one, other);
    }
}
