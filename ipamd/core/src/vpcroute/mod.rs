//! Pure decisions of the controller in `vpcRoute` mode: which route tables are managed, which block of pod addresses a node has, and
//! which calls make the tables say so. [`Controller`] is the state machine; everything else is what goes in and comes out of it.
//!
//! # Guarantees
//! - A route that is not ours is neither deleted nor replaced: ours has the origin CreateRoute, leads to an ENI, and has a block of the
//!   [`Record`] as destination.
//! - The route of a node that stays is never deleted; a wrong target is replaced, so that there is no gap.
//! - A block is one node's at a time, and nobody's again before reads show it in no table.
//! - Nothing is deleted before nodes, record and tables are known, nor much at once without the operator's word.
//! - A failure of one table, node or route stops nothing else.
//!
//! What a node learns of it stands in [`NodeGrant`] and [`ClusterFacts`].

mod blocks;
mod call;
mod controller;
mod discovery;
mod family;
mod grant;
mod plan;
mod pool;
mod problem;
mod record;
mod settings;
mod sight;
mod targets;

pub use call::{Action, Event, Reason, RouteCall, RouteDone};
pub use controller::{CallCounts, Condition, Controller, Counters, DriftCounts, NodeCounts, TableView, View};
pub use discovery::{Discovery, Why, discover, effective};
pub use family::Family;
pub use grant::{
    BadFile, CLUSTER_FILE, ClusterFacts, GRANT_VERSION, NodeGrant, NodeName, NodeNameError, Placement,
    TableReadiness, VpcFacts,
};
pub use plan::{Hold, Planned};
pub use pool::PoolMistake;
pub use problem::Problem;
pub use record::{BlockRecord, BlockState, Change, Record, TableRecord};
pub use settings::{
    BLOCKS_MAX, BlocksFrom, CLAIM_TAG, NodeSpec, Nodes, PoolSpec, Quota, Settings, TableChoice, Timings,
};
