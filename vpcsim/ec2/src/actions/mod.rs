//! Dispatch (first cut).
use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::time::SimTime;
use crate::world::World;

pub(crate) fn perform(
    _world: &mut World,
    _seal: u64,
    _now: SimTime,
    action: Action,
    _params: Params,
) -> Result<String, ApiError> {
    Err(Code::UnsupportedOperation.because(action.name()))
}
