//! The daemon: agent (one per node)
