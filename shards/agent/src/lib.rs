//! The contract between an agent and the turn that runs it.
//!
//! A packet meets these in order: it arrives on a [`Flow`], its Call-ID names the owner ([`ShardHash`]), its Request-URI may
//! name a domain of ours ([`Domains`]), an agent reads
//! the time as [`Now`] and puts its messages into an [`Outbox`]; an agent behind the proxy says which [`Way`] they take.
//! What must come back to us unforged carries a seal ([`Seal`]), or a hash where that is enough ([`PartsHash`]); what is due later waits in a [`Wheel`]. Nothing here reads a clock, a socket or entropy.

mod counters;
mod domains;
mod flow;
mod now;
mod outbox;
mod owner;
mod pages;
mod parts;
mod seal;
mod tag;
mod way;
mod wheel;

pub use domains::Domains;
pub use flow::{ConnectionId, Flow, ListenerId, Received};
pub use now::Now;
pub use outbox::{Draft, Outbox, Outgoing, RingFull, Ticket};
pub use owner::ShardHash;
pub use pages::Pages;
pub use parts::{Parts, PartsHash};
pub use seal::{Seal, Secret, Veil};
pub use tag::StatelessTags;
pub use way::{Agent, AppBranch, AppToken, PLACEHOLDER, Posted, Way};
pub use wheel::Wheel;
