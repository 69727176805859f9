//! SIP dialogs and sessions (RFC 3261 §12, RFC 3264) and the messages of a user agent. No I/O.
//!
//! A call meets these in order: a [`NewRequest`] is written and sent; its response, or a [`NewResponse`] of ours to a request
//! that came, makes a [`Dialog`], which a table finds by its [`DialogKey`]. What a message may say about media is its
//! [`Session`]'s to judge; who must acknowledge a provisional response, [`Reliable`]'s and [`Acknowledging`]'s; when a call
//! that nobody hears of is over, [`SessionTimer`]'s. [`Sdp`] reads what media was agreed on, and [`mangle`] mends it for a peer behind
//! a NAT. [`ReferTo`], [`Replaces`], [`Reason`] and [`Progress`] are what moves a call and tells why.
//!
//! Nothing here reads a clock, a socket or entropy: seeds and [`agent::Now`] come in. Nothing here knows a transaction.

mod text;
mod request;
mod response;
mod dialog;
mod key;
mod record;
mod session;
mod reliable;
mod timer;
mod sdp;
mod reason;
mod transfer;
mod error;

pub use dialog::{Dialog, DialogState, OutOfOrder, refreshes_target};
pub use error::Error;
pub use key::{DialogHash, DialogKey};
pub use reason::Reason;
pub use record::Malformed;
pub use reliable::{Acknowledging, NoMatch, RAck, Reliable, Resend, rseq};
pub use request::{MAX_FORWARDS, NewRequest, UserAgent, write_again};
pub use response::{Contact, NewResponse};
pub use sdp::{Codec, Direction, Line, Media, Network, Origin, Sdp, is_private, mangle, write_placeholder};
pub use session::{Conflict, End, Meaning, Place, Session, glare_retry, retry_after_secs};
pub use text::{BadText, Body, Field, Party};
pub use timer::{
    Accepted, Due, Refresher, SessionExpires, SessionTimer, TimerSettings, TooSmall, allows, min_se_of, supports,
};
pub use transfer::{Progress, ReferTo, Replaces, SubscriptionState};
