//! Zero-copy SIP (RFC 3261 and its extensions).

mod transport;

pub use transport::Transport;
