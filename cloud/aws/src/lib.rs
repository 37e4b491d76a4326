//! EC2 behind the [`spur_cloud::Cloud`] trait, and the instance's own metadata.
//!
//! The only crate of the product in which a type of the AWS SDK is named: it takes minutes and gigabytes to compile, so
//! nothing that changes often lives here. Every answer is parsed once, at this edge, into the types of `spur-cloud`;
//! what makes no sense becomes an error of class `Bug` that names the field. Nothing here retries, caches or decides.

#[cfg(test)]
mod canned;
mod client;
mod error;
pub mod imds;
mod parse;
mod request;

pub use client::{AwsCloud, AwsOptions};
