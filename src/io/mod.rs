//! The I/O edge: the only place of a shard that enters the kernel, and all of the edge's `unsafe`.
//!
//! A shard is one thread with one io_uring and one synchronous loop, the [turn](Core). Datagrams and streams come
//! in by multishot receives into provided buffers; the [`Core`] sees a whole turn's messages where they lie; what it sends
//! goes out in the next enter. Shards reach each other over bounded rings ([`spsc`]), the clerk over a
//! [journal link](journal()), and wake each other by eventfd ([`Waker`]).
//!
//! Nothing here reads a SIP message beyond its frame in a stream, and nothing here waits except the one enter of a turn.

mod alarm;
mod backlog;
mod child;
mod clock;
mod edge;
mod fragments;
mod journal;
mod mapped;
mod memory;
mod mesh;
mod pool;
mod ring;
mod settings;
pub(crate) mod share;
mod socket;
pub mod spsc;
mod start;
mod stats;
mod steering;
mod tcp;
mod trains;
mod turn;
mod udp;
mod waker;
mod window;

pub use backlog::Backlog;
pub(crate) use child::{follow_parent, ignore_stops};
pub(crate) use clock::clock;
pub use edge::{Edge, Running, Stopper};
pub use journal::{Batch, JournalInlet, JournalLink, journal};
pub use mapped::Mapped;
pub use memory::Memory;
pub use settings::{Listener, Settings, StreamSettings};
pub use socket::Sockets;
pub(crate) use start::explain_here;
pub use start::{OLDEST_KERNEL, StartError};
pub use stats::{Counters, EdgeStats};
pub use steering::{Lack, Steering, Tally};
pub use turn::{Core, Seed};
pub use waker::Waker;
