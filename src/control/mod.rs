//! The control socket: what the command line and a running switch say to each other there ([`Request`], [`Answer`]), and
//! the socket of the switch ([`ControlServer`]).

mod orders;
mod server;
mod start;

pub use orders::*;
pub use server::{ControlHandler, ControlServer};
pub use start::{InUse, StartError};
