//! A model of EC2's VPC API without sockets, clocks or threads: bytes of the Query protocol in, XML out.
//!
//! [`Scenario`] describes a world, [`Ec2`] is that world: [`Ec2::call`] answers requests with EC2's own rules (quotas,
//! states, error codes), [`Ec2::advance`] lets time pass and says what somebody with a kernel has to do about it,
//! [`Ec2::imds_request`] answers a node's metadata service, [`Ec2::state`] shows everything. Time is an argument, chance
//! comes from the scenario's seed: the same scenario and calls give the same world, at thousands of calls a second.

mod action;
mod actions;
mod ec2;
mod error;
mod fault;
mod form;
mod id;
mod imds;
mod random;
mod record;
mod scenario;
mod time;
mod view;
mod world;
mod xml;

pub use ec2::{Answer, Caller, Ec2};
pub use fault::{Delivery, Fault, FaultView};
pub use id::{
    AttachmentId, EniId, GatewayId, InstanceId, Mac, RouteTableAssociationId, RouteTableId, SecurityGroupId,
    SubnetId, VpcId,
};
pub use imds::{ImdsReply, ImdsRequest};
pub use record::Record;
pub use scenario::{
    Delays, Mistake, NodeSpec, Quotas, RouteOrigin, RouteSpec, RouteTableSpec, Scenario, SecurityGroupSpec,
    SubnetSpec,
};
pub use time::SimTime;
pub use view::{
    AttachmentView, EniView, Happening, NodeView, RouteTableView, RouteView, State, SubnetView, TargetView,
};
