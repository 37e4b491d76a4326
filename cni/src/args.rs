//! `CNI_ARGS`: `KEY=VALUE` pairs joined by semicolons, in any order. Kubernetes' runtimes put the pod's name here; other
//! runtimes put nothing. Unknown keys are a mistake unless the runtime says `IgnoreUnknown=1`, as libcni's own parser has it.
//! Does not judge whether a pod's name is one that Kubernetes would accept.

use crate::mistake::Mistake;
use spur_wire::PodRef;

/// The pod of `CNI_ARGS`; `None` outside Kubernetes.
pub(crate) fn parse_pod(args: &str) -> Result<Option<PodRef>, Mistake> {
    let refuse = |why: String| Err(Mistake::Args { args: args.to_owned(), why });
    let (mut namespace, mut name, mut uid) = (None, None, None);
    let (mut ignore_unknown, mut unknown) = (false, Vec::new());
    for pair in args.split(';') {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return refuse(format!("{pair:?} is not KEY=VALUE"));
        };
        match key {
            "IgnoreUnknown" => match parse_bool(value) {
                Some(flag) => ignore_unknown = flag,
                None => return refuse(format!("IgnoreUnknown is {value:?}, expected 1, 0, true or false")),
            },
            "K8S_POD_NAMESPACE" => namespace = given(value),
            "K8S_POD_NAME" => name = given(value),
            "K8S_POD_UID" => uid = given(value),
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            other => unknown.push(other),
        }
    }
    if !ignore_unknown && !unknown.is_empty() {
        return refuse(format!("unknown keys {} without IgnoreUnknown=1", unknown.join(", ")));
    }
    match (namespace, name) {
        (Some(namespace), Some(name)) => Ok(Some(PodRef { namespace, name, uid })),
        (None, None) => Ok(None),
        _ => refuse("K8S_POD_NAMESPACE and K8S_POD_NAME come together".to_owned()),
    }
}

fn given(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// What libcni accepts as a boolean, upper or lower case.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" => Some(true),
        "0" => Some(false),
        _ if value.eq_ignore_ascii_case("true") => Some(true),
        _ if value.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_sends_names_the_pod() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1";
        let pod = parse_pod(args).unwrap().unwrap();
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_deref()),
            ("shop", "web-0", Some("u-1"))
        );
        let reordered =
            "K8S_POD_UID=u-1;K8S_POD_NAME=web-0;FUTURE=x;K8S_POD_NAMESPACE=shop;IgnoreUnknown=true";
        assert_eq!(parse_pod(reordered).unwrap(), Some(pod));
    }

    #[test]
    fn without_a_pod_there_is_none() {
        assert_eq!(parse_pod("IgnoreUnknown=1").unwrap(), None);
        assert_eq!(parse_pod("K8S_POD_NAMESPACE=;K8S_POD_NAME=").unwrap(), None);
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (args, expected) in [
            ("novalue", "\"novalue\" is not KEY=VALUE"),
            ("A=1;;B=2", "\"\" is not KEY=VALUE"),
            ("=x", "\"=x\" is not KEY=VALUE"),
            ("IgnoreUnknown=maybe", "IgnoreUnknown is \"maybe\""),
            ("FOO=1;IgnoreUnknown=0;BAR=2", "unknown keys FOO, BAR without"),
            ("K8S_POD_NAME=web-0", "come together"),
        ] {
            let error = parse_pod(args).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("CNI_ARGS"), "{args}: {error}");
        }
    }
}
