//! What outlives a process: bindings, their journal, accounts. Formats and tables; no I/O, no clock, no thread.
//!
//! The path of a record, from a REGISTER to the day it is forgotten:
//!
//! 1. The registrar asks [`Bindings::update`] for an AOR. Under that AOR's lock it sees the [`Record`] in force and
//!    packs the one that follows, [`Binding`] by [`Binding`], into a [`Draft`].
//! 2. The table numbers it with the next version, and [`journal::frame`] puts it behind the turn's journal octets.
//! 3. From then on [`Bindings::lookup`] serves it; its AOR's [`AorId`] waits in a shard's [`Wheel`].
//! 4. The clerk writes the frames into a segment ([`journal::Segments`] says which). If that fails,
//!    [`Bindings::restore`] puts the record before it back; if not, the 200 goes out.
//! 5. The wheel fires: [`Bindings::expire`] drops what has run out, and the record once no older one can matter.
//! 6. A record in the oldest segment that [`Bindings::holds`] is copied forward, and the segment deleted.
//! 7. After a restart [`journal::Replay`] reads the records back, [`Bindings::load`] keeps the highest version of each.
//!
//! Beside it, [`Accounts`] tells the shards who may register here and by which digests.

mod accounts;
mod binding;
mod bindings;
mod hash;
pub mod journal;
mod packed;
mod record;
mod wheel;

pub use accounts::{Account, Accounts};
pub use binding::{Binding, Connection, Source};
pub use bindings::{Bindings, Census, Updated};
pub use hash::AorId;
pub use packed::Malformed;
pub use record::{Draft, MAX_AOR_OCTETS, MAX_RECORD_OCTETS, Record, TooLong};
pub use wheel::Wheel;
