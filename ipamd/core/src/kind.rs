//! Short names of the variants of an enum, for metric labels. Who counts them can tell of all from the start: a counter that appears with its first event
//! hides that event from `increase`.

/// Gives each variant a name, and the enum the list of all. A variant without a name does not compile.
macro_rules! kinds {
    ($type:ident { $($variant:ident => $kind:literal),+ $(,)? }) => {
        impl $type {
            /// Whatever [`Self::kind`] can be.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// A short name, for a metric label.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $kind,)+
                }
            }
        }
    };
}

pub(crate) use kinds;
