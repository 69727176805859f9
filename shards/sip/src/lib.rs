//! Zero-copy SIP (RFC 3261 and its extensions): scan, parse, edit, write, frame, digest.
//!
//! A stream's octets meet the framing first; a datagram is a frame as it comes. [`Message::parse`] finds the start-line
//! and the header lines and recognises their names; [`Message::request`] and [`Message::response`] parse what routing
//! needs, and any other header is parsed when it is asked for. All of it borrows from the receive buffer. [`Edit`] turns
//! a message into the slices of its successor; [`mod@write`] makes messages of our own.
//!
//! Nothing here reads a clock, a socket or entropy, and nothing from the wire makes it panic.

pub mod digest;
pub mod framing;
mod limits;
mod message;
mod headers;
mod via;
mod address;
mod uri;
mod host;
mod params;
mod parameterized;
mod lex;
mod walk;
mod scan;
mod start_line;
mod method;
mod name;
mod status;
mod transport;
mod error;
mod edit;
mod octets;
pub mod write;

pub use address::Address;
pub use edit::Edit;
pub use error::Error;
pub use headers::CSeq;
pub use host::Host;
pub use lex::number;
pub use limits::Limits;
pub use message::{Header, Message, Request, Response};
pub use method::Method;
pub use name::HeaderName;
pub use octets::{Octets, hex};
pub use parameterized::Parameterized;
pub use params::{Param, Params};
pub use start_line::StartLine;
pub use status::StatusCode;
pub use transport::Transport;
pub use uri::{SipUri, TelUri, Uri};
pub use via::{Rport, Via};
