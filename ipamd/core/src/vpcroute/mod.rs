//! Pure decisions of the controller in `vpcRoute` mode: which route tables are managed, which block of pod addresses a node has, and
//! which calls make the tables say so.
//!
//! What a node learns of it stands in [`NodeGrant`] and [`ClusterFacts`].

mod grant;

pub use grant::{
    BadFile, CLUSTER_FILE, ClusterFacts, GRANT_VERSION, NodeGrant, NodeName, NodeNameError, Placement,
    TableReadiness, VpcFacts,
};
