//! A node in `vpcRoute` mode that the controller may send to an `eni` pool, because the route tables are too full for another node. It decides so before
//! the node has its first block, and for good. So does the agent: where the node went is in the store before the first ENI is made, because an agent
//! that forgot it would take the ENIs from pods that live.

use super::granted::Granted;
use super::status::Phase;
use crate::config::{Config, Mode, PoolConfig, VpcDestinations};
use crate::store::books::{Books, NodeMark};
use spur_cloud_aws::imds::InstanceIdentity;
use spur_ipamd_core::vpcroute::Placement;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The `eni` pool that this node was moved to; none if its addresses come from where the configuration says. Waits for the controller to
/// decide, once per machine and only where the configuration names such a pool.
pub(super) async fn moved_to(
    config: &Config,
    identity: &InstanceIdentity,
    books: &Books,
    mut granted: watch::Receiver<Granted>,
    phase: &watch::Sender<Phase>,
) -> Option<String> {
    if config.pool.mode == Mode::Eni {
        return None;
    }
    let ours = books.node.as_ref().filter(|mark| mark.instance == identity.instance);
    if let Some(NodeMark { moved_to: Some(pool), .. }) = ours {
        return Some(pool.clone());
    }
    let fallback = config.pool.fallback.as_ref()?;
    if ours.is_some() && !books.record.holdings.is_empty() {
        // Pods have addresses of its blocks.
        return None;
    }
    loop {
        let decision = decide(&granted.borrow_and_update(), fallback);
        match decision {
            Decision::Stays => return None,
            Decision::Moves => return Some(fallback.clone()),
            Decision::Open { reason } => {
                phase.send_replace(Phase::Starting { reason });
            }
        }
        // Nobody looks when the agent goes down, and without a name for the node, which the agent says as on any other.
        granted.changed().await.ok()?;
    }
}

/// What the controller says of where the node belongs.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It has blocks.
    Stays,
    /// It belongs to the fallback pool.
    Moves,
    /// Nothing yet, or nothing that can be followed.
    Open { reason: String },
}

fn decide(granted: &Granted, fallback: &str) -> Decision {
    match granted.grant.as_ref().map(|grant| &grant.placement) {
        Some(Placement::VpcRoute { .. }) => Decision::Stays,
        Some(Placement::EniPool { pool }) if pool == fallback => Decision::Moves,
        Some(Placement::EniPool { pool }) => Decision::Open {
            reason: format!(
                "the controller moved this node to the eni pool {pool}, and pool.fallbackPool is {fallback}"
            ),
        },
        Some(Placement::None) | None => Decision::Open { reason: granted.waits() },
    }
}

/// The configuration of a node in the fallback pool, as it changes.
pub(super) fn in_eni_mode(
    mut config: watch::Receiver<Arc<Config>>,
    stop: &CancellationToken,
) -> watch::Receiver<Arc<Config>> {
    let (sender, receiver) = watch::channel(eni(&config.borrow_and_update()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        while config.changed().await.is_ok() {
            sender.send_replace(eni(&config.borrow_and_update()));
        }
    }));
    receiver
}

fn eni(config: &Config) -> Arc<Config> {
    let mut config = config.clone();
    let PoolConfig { mode, nat, .. } = &mut config.pool;
    *mode = Mode::Eni;
    // Which subnets have a way back to blocks is nothing to a pod that the whole VPC can reach.
    if nat.vpc_destinations == VpcDestinations::Covered {
        nat.vpc_destinations = VpcDestinations::AllCidrs;
    }
    Arc::new(config)
}
