//! Names and hardware addresses that are computed, not stored: the host end of a pod's veth and the MAC addresses of both
//! ends. The plugin that is called to delete computes the same ones without asking anybody.
//!
//! The veth's name depends on the pod, so a new sandbox of the same pod reuses it; the MAC addresses depend on the
//! container id, so a late DEL of the old sandbox sees that the veth is no longer its own.

use crate::{IfName, MacAddr, layout};
use sha1::{Digest, Sha1};

/// The interface name that a Kubernetes pod's main interface has.
pub(crate) const MAIN_IF_NAME: &str = "eth0";

/// Name of the host end of the veth for interface `if_name` of the pod (namespace, name), or of the container when the
/// runtime names no pod: `eni` and the first 11 hexadecimal digits of a SHA-1.
#[must_use]
pub fn host_veth_name(pod: Option<(&str, &str)>, container_id: &str, if_name: &str) -> IfName {
    let hashed = match pod {
        // What Calico and the VPC CNI compute, so that their policy engines find the interface.
        Some((namespace, name)) if if_name == MAIN_IF_NAME => format!("{namespace}.{name}"),
        Some((namespace, name)) => format!("{namespace}.{name}.{if_name}"),
        None => format!("{container_id}.{if_name}"),
    };
    let digest = Sha1::digest(hashed.as_bytes());
    let mut name = String::from(layout::HOST_VETH_PREFIX);
    for byte in digest.iter().take(6) {
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate(layout::HOST_VETH_PREFIX.len() + 11);
    name.parse().expect("3 letters and 11 hexadecimal digits are an interface name")
}

/// MAC address of the veth's end on the host.
#[must_use]
pub fn host_mac(container_id: &str, if_name: &str) -> MacAddr {
    derived_mac(container_id, if_name, "host")
}

/// MAC address of the veth's end in the pod.
#[must_use]
pub fn pod_mac(container_id: &str, if_name: &str) -> MacAddr {
    derived_mac(container_id, if_name, "pod")
}

fn derived_mac(container_id: &str, if_name: &str, end: &str) -> MacAddr {
    // A container id and an interface name hold no '/', so the three parts cannot be mixed up.
    let digest = Sha1::digest(format!("{container_id}/{if_name}/{end}").as_bytes());
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    // Locally administered, not multicast.
    bytes[0] = bytes[0] & 0xfc | 0x02;
    MacAddr::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_veth_of_a_pod_is_what_calico_expects() {
        // printf default.web-0 | sha1sum
        let name = host_veth_name(Some(("default", "web-0")), "c1", "eth0");
        assert_eq!(name.as_str(), "eni0d7763386da");
    }

    #[test]
    fn names_differ_by_pod_interface_and_container() {
        let names = [
            host_veth_name(Some(("a", "b")), "c1", "eth0"),
            host_veth_name(Some(("a", "c")), "c1", "eth0"),
            host_veth_name(Some(("a", "b")), "c1", "net1"),
            host_veth_name(None, "c1", "eth0"),
            host_veth_name(None, "c2", "eth0"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(
            names[0],
            host_veth_name(Some(("a", "b")), "another", "eth0"),
            "a new sandbox has the same name"
        );
    }

    #[test]
    fn macs_are_local_unicast_and_depend_on_the_container() {
        for container in 0..200 {
            let container = format!("c{container}");
            for mac in [host_mac(&container, "eth0"), pod_mac(&container, "eth0")] {
                assert_eq!(mac.octets()[0] & 3, 2, "{mac}");
            }
            assert_ne!(host_mac(&container, "eth0"), pod_mac(&container, "eth0"));
        }
        assert_ne!(host_mac("c1", "eth0"), host_mac("c2", "eth0"));
    }
}
