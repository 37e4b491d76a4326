//! An in-memory cloud that obeys quotas and is eventually consistent, for unit tests.
