//! Reading single fields of an answer, each with an error that names it.

use aws_sdk_ec2::types::Tag;
use ipnet::IpNet;
use spur_cloud::{Api, CloudError, ErrorClass};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

/// Which thing of which answer is being read.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    api: Api,
    thing: String,
}

impl Answer {
    /// An answer of the action as a whole.
    pub(crate) const fn of(api: Api) -> Self {
        Self { api, thing: String::new() }
    }

    /// The same answer, now about one thing in it.
    pub(crate) fn about(&self, thing: impl Display) -> Self {
        Self { api: self.api, thing: format!("{thing}: ") }
    }

    /// The field makes no sense.
    pub(crate) fn bug(&self, field: &str, problem: impl Display) -> CloudError {
        self.error(ErrorClass::Bug, format!("EC2's answer makes no sense: {}{field} {problem}", self.thing))
    }

    /// The thing that was asked for is not in the answer.
    pub(crate) fn not_found(&self, problem: impl Display) -> CloudError {
        self.error(ErrorClass::NotFound, format!("{}{problem}", self.thing))
    }

    fn error(&self, class: ErrorClass, message: String) -> CloudError {
        CloudError { api: self.api, class, code: None, message, request_id: None }
    }

    /// The field, which must be there.
    pub(crate) fn some<T>(&self, field: &str, value: Option<T>) -> Result<T, CloudError> {
        value.ok_or_else(|| self.bug(field, "is missing"))
    }

    /// A text that must be there and must parse: an id, a hardware address, a zone.
    pub(crate) fn parsed<T>(&self, field: &str, value: Option<&str>) -> Result<T, CloudError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.some(field, value)?;
        text.parse().map_err(|error| self.bug(field, error))
    }

    /// A number that must be there and cannot be negative.
    pub(crate) fn count(&self, field: &str, value: Option<i32>) -> Result<u32, CloudError> {
        let number = self.some(field, value)?;
        u32::try_from(number).map_err(|_| self.bug(field, format_args!("is {number}, expected 0 or more")))
    }

    /// An IPv4 address.
    pub(crate) fn ipv4(&self, field: &str, value: Option<&str>) -> Result<IpAddr, CloudError> {
        let text = self.some(field, value)?;
        match text.parse() {
            Ok(address @ IpAddr::V4(_)) => Ok(address),
            _ => Err(self.bug(field, format_args!("is {text:?}, expected an IPv4 address"))),
        }
    }

    /// An IPv4 CIDR without host bits.
    pub(crate) fn ipv4_net(&self, field: &str, value: Option<&str>) -> Result<IpNet, CloudError> {
        let text = self.some(field, value)?;
        match text.parse::<IpNet>() {
            Ok(net @ IpNet::V4(_)) if net == net.trunc() => Ok(net),
            _ => Err(self.bug(field, format_args!("is {text:?}, expected an IPv4 CIDR without host bits"))),
        }
    }
}

/// Tags; EC2 never sends one without a key.
pub(super) fn tags(tags: Option<&[Tag]>) -> BTreeMap<String, String> {
    tags.unwrap_or_default()
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect()
}
