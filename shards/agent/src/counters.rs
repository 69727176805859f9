//! Counters: plain numbers of one agent on one shard, with their names.

/// Declares `pub struct Counters` of public `u64` fields, each with its documentation, and `figures()`, which gives every
/// one with its name, in order.
#[macro_export]
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one shard has counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in order.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> + Clone + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}
