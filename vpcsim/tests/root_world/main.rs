//! The running binary, from outside: what `vpcsim` promises to whoever starts it, checked with sockets, `ip` and `ping` as
//! witnesses. One test program, because each would link the whole server.
//!
//! Every test makes a world of its own under a name that no other has, and takes it down; they run in parallel. Those in
//! `serve` need no privileges; all others need root and fail without it.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod hotplug;
#[cfg(test)]
mod imds;
#[cfg(test)]
mod life;
#[cfg(test)]
mod network;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod support;
