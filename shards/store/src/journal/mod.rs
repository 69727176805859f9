//! The journal's format and rules. Its files are the clerk's.
//!
//! A **segment** is a file: a header, then frames.
//!
//! ```text
//! header   magic 8 octets, format version u32, segment number u64, CRC-32 of these u32
//! frame    sync marker 4 octets, kind u8 above length u24, CRC-32 of kind, length and payload u32, payload
//! ```
//!
//! Numbers are little endian. A payload is at most 64 KiB. Behind the last frame there may be zeros, where the file was
//! made longer in advance.
//!
//! | kind | its payload is the full state of | it must be kept |
//! | --- | --- | --- |
//! | record | an address of record | while [`Bindings::holds`](crate::Bindings::holds) it |
//! | call | an established call | while [`CallIndex::holds`](crate::CallIndex::holds) it |
//! | end of a call | | as long as its segment |
//! | CDR | a leg that has ended | while [`CdrIndex::holds`](crate::CdrIndex::holds) it: until the database has it |
//! | CDRs written | the names of such as the database has | as long as its segment |
//! | floor | | until the next one |
//!
//! The order of frames means nothing: each is the full state of what it is about, and the highest version holds. So
//! segments are replayed in parallel, frames are copied from one to another, and shards append without agreeing on an
//! order.
//!
//! # Compaction, and why no binding is lost by it
//!
//! The clerk takes the segment that [`Segments::to_compact`] names, copies forward each of its records that
//! [`Bindings::holds`](crate::Bindings::holds), and deletes it **only** behind a barrier: after the last of these looks
//! every shard has pushed a mark into its stream, and all up to the marks, and the copies, is on the disk. For a record
//! that was not copied had been superseded in the table, perhaps by one still on its way to the disk; behind the barrier
//! that one is there. If any write fails meanwhile, the update is undone, and the superseded record stands again: the
//! segment stays, and its compaction starts anew after a barrier.
//!
//! A tombstone, and any record that overrules an older one with a later expiry, is held by the table until its
//! `forget_at`, and so copied forward until no older record can matter.

//!
//! # Calls and CDRs
//!
//! What stands of calls and CDRs is known by what was committed, in the clerk's own indexes, so that they need no
//! barrier. The end of a call is written behind all that tells of the call, and segments are deleted oldest first: when
//! the segment of the end is the oldest, nothing older is left for it to overrule, and it is not copied. The same holds
//! for the names of CDRs that the database has. A deletion may fail, though, or be undone by a crash. Therefore each compaction writes the number of the segment that it looks at as
//! a floor, and a replay takes no call and no CDR from a segment below the highest floor.

mod frame;
mod replay;
mod segments;

pub use frame::{
    BadHeader, FRAME_HEADER_OCTETS, Kind, MAX_PAYLOAD_OCTETS, SegmentHeader, frame, framed_octets, frames, pad,
};
pub(crate) use frame::{frame_with, put_stuffed, unstuffed};
pub use replay::{Damage, Fault, Item, Replay};
pub use segments::{Segment, Segments};

use crate::packed::Malformed;

/// Appends that the segments with lower numbers count no more: all that must be kept of them has been copied.
pub fn put_floor(out: &mut Vec<u8>, number: u64) {
    frame(out, Kind::Floor, &number.to_le_bytes());
}

fn floor(payload: &[u8]) -> Result<u64, Malformed> {
    payload.try_into().map(u64::from_le_bytes).map_err(|_| Malformed::Truncated)
}
