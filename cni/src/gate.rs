//! Where ADD and DEL can be made to fail. A [`Gate`] is asked before each thing that changes anything or that can fail; the
//! product's answers `true` always and is compiled in, so no environment and no configuration can shut it. The binary in
//! `cni/faults` passes another one, and its tests go through every point in turn.
//!
//! Nothing is decided here: what follows from a failure is what follows from the real one that it stands for.

use spur_datapath::pod::Step;

/// A point of ADD or DEL, in the order in which they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// ADD hands in an earlier release of its own attachment that waits in the spool.
    Redeem,
    /// ADD asks the agent for an address.
    Ask,
    /// ADD has the agent's grant and begins to plan.
    Plan,
    /// ADD wires the pod.
    Wire(Step),
    /// ADD puts its result into words.
    Encode,
    /// ADD writes its result.
    Print,
    /// ADD undoes the wiring, because its result did not reach anybody.
    Unwire,
    /// ADD gives the address back.
    GiveBack,
    /// DEL detaches the pod.
    Detach,
    /// DEL, or ADD that undoes, tells the agent.
    Release,
    /// The agent took the release; what is in the spool of it goes.
    Released,
    /// The agent did not take the release: it goes into the spool.
    Spool,
    /// DEL deletes the pair itself, because no agent does.
    Unlink,
    /// DEL lets the kernel forget the address's flows itself, because no agent does.
    Forget,
}

/// Asked before each point whether it may be passed; what answers `false` fails there.
pub type Gate<'a> = &'a dyn Fn(Point) -> bool;

/// The product's gate.
pub(crate) fn open(_: Point) -> bool {
    true
}
