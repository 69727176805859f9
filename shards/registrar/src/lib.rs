//! The SIP registrar (RFC 3261 §10.3), with Path (RFC 3327), Service-Route (RFC 3608), outbound's flows (RFC 5626) and
//! digest authentication (RFC 7616, RFC 8760).
//!
//! A REGISTER meets these in order: [`Registrar::handle`] asks whose address-of-record it is, the [`auth`] module who
//! sends it, its Contact values are read and all of them checked; then, under the lock of that address-of-record, the
//! bindings it has become the bindings it is to have, and the new record goes to the journal. The 200 is held until
//! [`Registrar::handle_settled`] tells that the record is kept. The proxy asks [`Registrar::targets`] where an
//! address-of-record is reached.
//!
//! Each shard has a registrar of its own over the one table of bindings. It does no I/O, reads no clock, and remembers no
//! request but those whose answers it holds.

pub mod auth;
mod contact;
mod counters;
mod date;
mod ha2;
mod incoming;
mod refusal;
mod registrar;
mod replay;
mod settings;
mod targets;
mod update;

pub use counters::Counters;
pub use incoming::{Incoming, address_of_record, number_of_record};
pub use registrar::Registrar;
pub use settings::{Settings, UserAgentRule, WhenFull};
pub use targets::Target;
