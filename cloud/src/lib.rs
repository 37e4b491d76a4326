//! The cloud as Spur sees it: ENIs, subnets and addresses in our own words, one [`Cloud`] trait with the facts and
//! effects that Spur needs, [`CloudRoutes`] for route tables, one [`CloudError`] whose [`ErrorClass`] callers decide on.
//!
//! This crate names no SDK and does no I/O: the real implementation is `cloud/aws` (`spur-cloud-aws`), the in-memory
//! one for unit tests is [`fake`]. [`budget`] decides what may be asked and when; `cloud/budget` (`spur-cloud-budget`) puts it
//! around a cloud. Types are family-neutral: an address is an [`std::net::IpAddr`].

pub mod budget;
mod error;
pub mod fake;
mod id;
mod mac;
mod model;
mod provider;
mod route;
mod routing;

pub use budget::Priority;
pub use error::{Api, CloudError, ErrorClass};
pub use id::{
    AttachmentId, AvailabilityZone, CardIndex, DeviceIndex, EniId, IdError, InstanceId, InstanceType, Region,
    RouteTableId, SecurityGroupId, SubnetId, VpcId,
};
pub use mac::{MacAddr, MacError};
pub use model::{Assigned, Attachment, AttachmentStatus, Eni, EniStatus, Instance, Subnet, Vpc};
pub use provider::{AddressRequest, ClientToken, Cloud, CreateEni, EniQuery, SubnetQuery};
pub use route::{Association, Destination, Route, RouteOrigin, RouteState, RouteTable, RouteTarget};
pub use routing::{CloudRoutes, RouteTableQuery};
