//! SIP transactions (RFC 3261 §17, RFC 6026, RFC 4320): the four machines, their matching and their timers, on one shard.
//!
//! A request meets the matching rules (§17.2.3) first: what repeats an earlier one is answered from memory, a CANCEL and an
//! ACK find their INVITE, and what is new gets a server transaction and goes to the transaction user, the TU. The TU
//! responds through it, and sends requests of its own through client transactions, to which responses come back by the
//! branch. What a timer does to any of them, [`Transactions::handle_timeout`] does.
//!
//! Nothing here reads a clock, a socket or entropy, or knows what a call is.
//!
//! A transaction takes a slot of 168 octets as a server or 160 as a client, where the user takes 8; 5 to 20 in the tables that
//! find it; 16 in the timing wheel. Messages are kept as long as a timer or a peer may ask for them:
//!
//! | state | what a transaction keeps beside its slot |
//! | --- | --- |
//! | INVITE server, Proceeding | the last provisional response |
//! | INVITE server, Accepted; Completed | the response until its ACK; then nothing |
//! | non-INVITE server | the last response; in Trying a 100 if the TU gave one |
//! | INVITE client, Calling | the INVITE |
//! | INVITE client, Proceeding | the INVITE; after T4 the header lines of it that an ACK or a CANCEL repeats |
//! | INVITE client, Completed; Accepted | the ACK; nothing |
//! | non-INVITE client, Trying and Proceeding; Completed | the request; nothing |

mod settings;
mod matching;
mod transactions;
mod step;
mod table;
mod server;
mod client;
mod derived;
mod pool;
mod counters;

pub use counters::Counters;
pub use derived::cancel_for;
pub use settings::Settings;
pub use transactions::{Arrived, ClientId, Expired, Full, ServerId, Transactions, Undelivered, Written};
