//! Looks for others who translate pods' traffic, and warns. They cannot be overruled: the first translation of a flow wins, whoever
//! makes it, so a pod whose traffic should be seen with its own address is not.

use super::kernel::Kernel;
use super::status::NodeStatus;
use super::wanted::pod_addresses;
use crate::chain::chain;
use spur_ipamd_core::DatapathWanted;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Rules of others change when something is installed, which is seldom.
const INTERVAL: Duration = Duration::from_secs(60);
/// After the start: whoever starts with the node has written its rules then.
const FIRST: Duration = Duration::from_secs(5);

/// Looks every so often; never ends by itself.
pub(super) async fn watch<K: Kernel>(
    kernel: Arc<K>,
    wanted: watch::Receiver<DatapathWanted>,
    status: watch::Sender<NodeStatus>,
) {
    tokio::time::sleep(FIRST).await;
    loop {
        let pods: Vec<_> = wanted.borrow().enis.iter().flat_map(pod_addresses).collect();
        let kernel = Arc::clone(&kernel);
        match tokio::task::spawn_blocking(move || kernel.masqueraders(&pods)).await {
            Ok(Ok(found)) => {
                status.send_if_modified(|status| report(&mut status.masqueraders, found));
            }
            Ok(Err(error)) => tracing::warn!(error = %chain(&error), "cannot tell who else translates"),
            Err(error) => tracing::warn!(%error, "cannot tell who else translates"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Notes what was found, and says what is new; whether anything changed.
fn report(known: &mut Vec<String>, found: Vec<String>) -> bool {
    for new in found.iter().filter(|line| !known.contains(line)) {
        tracing::warn!(rule = new, "another program translates pods' traffic; Spur cannot prevent it");
    }
    for gone in known.iter().filter(|line| !found.contains(line)) {
        tracing::info!(rule = gone, "the other program does not translate pods' traffic any more");
    }
    let changed = *known != found;
    *known = found;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_noted_once_and_forgotten_when_it_is_gone() {
        let (mut known, found) = (Vec::new(), || vec!["chain X".to_owned()]);
        assert!(report(&mut known, found()));
        assert!(!report(&mut known, found()));
        assert_eq!(known, found());
        assert!(report(&mut known, Vec::new()) && known.is_empty());
    }
}
