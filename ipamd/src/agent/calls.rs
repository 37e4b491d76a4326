//! Cloud calls: each action of the pool becomes one method of [`Cloud`], once, with a limit on how long it may take. No retry and
//! no decision here: the outcome goes back to the pool, which knows why it asked.

use spur_cloud::{Api, Cloud, CloudError, ErrorClass};
use spur_ipamd_core::{CallDone, CloudCall};
use std::time::Duration;

/// Above the limit that the SDK's client has of its own and the longest wait for the budget together: it ends a call whose client does not
/// end it, and never one that was not sent yet.
const CALL_LIMIT: Duration = Duration::from_secs(45);

/// Makes the call. After [`ErrorClass::Transient`] nobody knows whether it had its effect.
///
/// # Errors
/// What the cloud says, or `Transient` when it says nothing in time.
pub(super) async fn perform<C: Cloud>(cloud: &C, call: &CloudCall) -> Result<CallDone, CloudError> {
    in_time(call.api(), dispatch(cloud, call)).await
}

/// Gives up waiting for a call after the limit; nobody knows then whether it had its effect.
pub(crate) async fn in_time<T>(
    api: Api,
    call: impl Future<Output = Result<T, CloudError>>,
) -> Result<T, CloudError> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| {
        Err(CloudError {
            api,
            class: ErrorClass::Transient,
            code: None,
            message: format!("no answer within {} s", CALL_LIMIT.as_secs()),
            request_id: None,
        })
    })
}

async fn dispatch<C: Cloud>(cloud: &C, call: &CloudCall) -> Result<CallDone, CloudError> {
    let done = |()| CallDone::Done;
    match call {
        CloudCall::ReadEnis(query) => cloud.enis(query).await.map(CallDone::Enis),
        CloudCall::CreateEni(wanted) => {
            cloud.create_eni(wanted).await.map(|eni| CallDone::Created(Box::new(eni)))
        }
        CloudCall::AttachEni { eni, instance, index, card } => {
            cloud.attach_eni(eni, instance, *index, *card).await.map(CallDone::Attached)
        }
        CloudCall::SetDeleteOnTermination { eni, attachment } => {
            cloud.set_delete_on_termination(eni, attachment, true).await.map(done)
        }
        CloudCall::DetachEni { attachment, .. } => cloud.detach_eni(attachment).await.map(done),
        CloudCall::DeleteEni { eni } => cloud.delete_eni(eni).await.map(done),
        CloudCall::Assign { eni, request } => cloud.assign(eni, request).await.map(CallDone::Assigned),
        CloudCall::Unassign { eni, addresses, prefixes } => {
            cloud.unassign(eni, addresses, prefixes).await.map(done)
        }
    }
}
