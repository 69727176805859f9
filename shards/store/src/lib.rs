//! What outlives a process: bindings, calls and CDRs with their journal; accounts, providers and dial plans. Formats and
//! tables; no I/O, no clock, no thread.
//!
//! The path of a record, from a REGISTER to the day it is forgotten:
//!
//! 1. The registrar has an AOR hashed and its record brought into the cache ([`Bindings::hashed`]), then asks
//!    [`Bindings::update`]. Under that AOR's lock it sees the [`Record`] in force and packs the one that follows,
//!    [`Binding`] by [`Binding`], into a [`Draft`].
//! 2. The table numbers it with the next version, and [`journal::frame`] puts it behind the turn's journal octets.
//! 3. From then on [`Bindings::lookup`] serves it; its AOR's [`AorId`] waits in a shard's timing wheel.
//! 4. The clerk writes the frames into a segment ([`journal::Segments`] says which). If that fails,
//!    [`Bindings::restore`] puts the record before it back; if not, the 200 goes out.
//! 5. The wheel fires: [`Bindings::expire`] drops what has run out, and the record once no older one can matter.
//! 6. A record in the oldest segment that [`Bindings::holds`] is copied forward, and the segment deleted.
//! 7. After a restart [`journal::Replay`] reads the records back, [`Bindings::load`] keeps the highest version of each.
//!
//! Established calls ([`put_call`], [`put_call_end`]) and CDRs ([`put_cdr`]) take the same way through the journal;
//! [`CallIndex`] and [`CdrIndex`] tell the clerk which of them stand, and a restart gives back each [`KeptCall`].
//!
//! Beside it, [`Accounts`] tells the shards who may register here and by which digests, [`Providers`] where calls go out
//! to and come in from, [`Plans`] which script decides about them.

mod accounts;
mod binding;
mod bindings;
mod calls;
mod cdr;
mod hash;
pub mod journal;
mod network;
mod packed;
mod plans;
mod prefetch;
mod providers;
mod record;

pub use accounts::{Account, Accounts};
pub use binding::{Binding, Connection, Source};
pub use bindings::{Bindings, Census, HashedAor, Updated};
pub use calls::{
    Call, CallEnd, CallIndex, CallReplay, CallTold, CallTooLong, ENDED_CALLS_SECS, KeptCall, MAX_CALL_OCTETS, put_call,
    put_call_end,
};
pub use cdr::{
    Cdr, CdrId, CdrIndex, CdrsWritten, EndedBy, LegDirection, MAX_CDR_TEXT_OCTETS, MAX_WRITTEN_IDS, PackedCdr, put_cdr,
    put_cdrs_written,
};
pub use hash::AorId;
pub use network::{Network, NoNetwork};
pub use packed::Malformed;
pub use plans::{Direction, Plan, PlanText, Plans};
pub use providers::{Password, Provider, ProviderList, Providers, Source as ProviderSource};
pub use record::{Draft, MAX_AOR_OCTETS, MAX_RECORD_OCTETS, Record, TooLong};
