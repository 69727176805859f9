//! The bench: what the switch costs, beside the floor that no proxy can go below, in one run on one machine.
//!
//! A load's way through this crate: a [`message`] template is stamped and sent in batches ([`mmsg`]) at the pace of
//! [`load`] and from its [`sources`], to a [`server`] under test (the switch, a [`rival`], or the null forwarder of
//! [`floor`]), whose CPU time and memory [`process`] reads; [`compare`] puts the figures side by side and against the
//! [`goals`], and [`sweep`] tells with a [`plot`] how latency grows, [`spread`]
//! who of several shards does the work, [`pauses`] what the machine itself adds to latencies. [`calls`] are complete ones, with phones at both ends;
//! [`waiting`], [`isolation`], [`callbacks`] and [`kills`] make them under hard conditions, or find how long others wait
//! [`beside`] them. Everything stays on the loopback, and every run has a bound in messages and in time.
#![expect(clippy::disallowed_methods, reason = "a load generator is all edge: clocks, sockets and files are its work")]

pub mod beside;
pub mod callbacks;
pub mod calls;
pub mod compare;
pub mod digest;
pub mod floor;
pub mod goals;
pub mod isolation;
pub mod kills;
pub mod load;
pub mod message;
pub mod mmsg;
pub mod pauses;
pub mod plot;
pub mod process;
pub mod rival;
mod search;
pub mod server;
pub mod sources;
pub mod spread;
pub mod sweep;
pub mod waiting;
