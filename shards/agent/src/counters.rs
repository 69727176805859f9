//! Counters: plain numbers of one agent on one shard, with their names.

/// Declares `pub struct Counters` of public `u64` fields, each with its documentation; their `NAMES`, and their `values()` in the
/// same order.
#[macro_export]
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one shard has counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// What every counter is called, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Every counter, in order.
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$name),*]
            }
        }
    };
}
