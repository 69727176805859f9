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
//! The order of frames means nothing: each record is the full state of its AOR, and the highest version holds. So segments
//! are replayed in parallel, records are copied from one to another, and shards append without agreeing on an order.
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

mod frame;
mod replay;
mod segments;

pub use frame::{BadHeader, FRAME_HEADER_OCTETS, Kind, MAX_PAYLOAD_OCTETS, SegmentHeader, frame, framed_octets, pad};
pub use replay::{Damage, Fault, Replay};
pub use segments::{Segment, Segments};
