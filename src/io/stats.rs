//! What a shard counts. It counts in plain integers and publishes them once a turn; anyone may read those.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A shard's figures since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The figures as published by the shard at the end of its last turn.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct EdgeStats {
            $($name: AtomicU64,)*
        }

        impl EdgeStats {
            pub(crate) fn publish(&self, counters: &Counters) {
                $(self.$name.store(counters.$name, Ordering::Relaxed);)*
            }

            /// The figures now. They may be of two turns.
            pub fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counters {
            /// Every figure with its name, in order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        impl std::ops::AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Turns of the shard.
    turns,
    /// Messages received from outside.
    received,
    /// Messages handed to the kernel.
    sent,
    /// Of the messages received those that came in trains (UDP GRO).
    received_in_trains,
    /// Of the messages sent those that were handed over in trains (UDP GSO), whatever the kernel then made of them.
    sent_in_trains,
    /// Datagrams that the kernel had no room for, or refused.
    dropped_send,
    /// Datagrams, or trains of them, for which a socket had no room, the shard having more to do than time; and those that were damaged.
    dropped_by_kernel,
    /// Datagrams dropped because they exceed the receive buffer.
    truncated,
    /// Datagrams and stream octets that only keep a path open.
    keepalives,
    /// Messages passed on to the shard that owns them.
    passed_on,
    /// Messages taken from other shards.
    taken_over,
    /// Sends for another shard's connection that found its ring full.
    ring_full,
    /// Messages that could not be sent and were told to the core.
    undeliverable,
    /// Stream connections open now.
    connections,
    /// Connections accepted.
    accepted,
    /// Connections opened by us.
    connected,
    /// Connections that we could not open.
    connect_failed,
    /// Connections refused because a limit was reached.
    refused,
    /// Connections cut because the peer read too slowly.
    cut_slow,
    /// Connections cut because a message did not become whole in time.
    cut_incomplete,
    /// Connections closed because they carried nothing.
    cut_idle,
    /// Connections closed because their octets cannot be framed.
    cut_malformed,
    /// Batches of records handed to the clerk.
    journal_batches,
}
