//! From the configuration, the node's identity and the placement of its ENIs to the settings of the pool. Pure.

use super::placement::Placement;
use crate::config::Config;
use spur_cloud_aws::imds::InstanceIdentity;
use spur_ipamd_core::leaked::{CLUSTER_TAG, NODE_TAG};
use spur_ipamd_core::{EniTemplate, PoolSettings, Targets, Timings};
use std::collections::BTreeMap;

/// What the pool is told.
pub(super) fn settings(config: &Config, identity: &InstanceIdentity, placement: &Placement) -> PoolSettings {
    let pool = &config.pool;
    PoolSettings {
        targets: Targets {
            warm_ip_target: pool.warm_ip_target,
            minimum_ip_target: pool.minimum_ip_target,
            warm_eni_target: pool.warm_eni_target,
            warm_prefix_target: pool.warm_prefix_target,
            max_above_warm: pool.max_above_warm,
            max_enis: pool.max_enis,
            prefix_delegation: pool.prefix_delegation,
        },
        eni: EniTemplate {
            subnets: placement.subnets.iter().map(|(subnet, _)| subnet.clone()).collect(),
            security_groups: placement.security_groups.clone(),
            ownership: BTreeMap::from([
                (CLUSTER_TAG.to_owned(), config.cluster_name.clone()),
                (NODE_TAG.to_owned(), identity.instance.to_string()),
            ]),
            tags: pool.tags.clone(),
            description: format!("spur: pods of {}", identity.instance),
        },
        timings: Timings {
            cooldown: pool.cooldown,
            shrink_delay: pool.shrink_delay,
            reconcile: config.reconcile,
            settle: config.settle,
            ..Timings::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::placement::tests::identity;
    use super::*;
    use std::time::Duration;

    fn home() -> Placement {
        let primary = identity().primary;
        let subnets = vec![(primary.subnet, primary.subnet_cidr)];
        Placement { subnets, security_groups: primary.security_groups }
    }

    #[test]
    fn new_enis_are_marked_as_this_clusters_and_this_nodes() {
        let config =
            Config::parse("clusterName: blue\npool: {tags: {team: net}, cooldownSeconds: 5}").unwrap();
        let settings = settings(&config, &identity(), &home());
        let owned = &settings.eni.ownership;
        assert_eq!((owned[CLUSTER_TAG].as_str(), owned[NODE_TAG].as_str()), ("blue", "i-1"));
        assert_eq!(settings.eni.tags["team"], "net");
        assert_eq!(settings.eni.security_groups, identity().primary.security_groups);
        assert_eq!(settings.timings.cooldown, Duration::from_secs(5));
    }

    #[test]
    fn the_defaults_of_the_configuration_are_those_that_the_pool_is_measured_with() {
        let config = Config::parse("").unwrap();
        let settings = settings(&config, &identity(), &home());
        assert_eq!((settings.targets, settings.timings), (Targets::default(), Timings::default()));
    }
}
