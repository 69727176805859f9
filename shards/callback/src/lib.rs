//! IP impersonation for the two legs of a callback: one leg's gateway hears a few packets of silence that seem to come from
//! the other's, and so learns where to send.
//!
//! A leg's answer tells its [`Media`]. Two of them make an [`Impersonation`], which has room for nothing else: no script and no message
//! names an address, a payload or a count. [`Policy`] says which addresses are never taken, [`Budget`] how many packets go where, and
//! [`Rtp`] writes them. [`Order`] and [`Event`] are what the switch and the process that sends tell each other.
//!
//! Nothing here reads a clock, a socket or entropy, and nothing here sends.

mod media;
mod silence;
mod impersonation;
mod wire;
mod policy;
mod budget;
mod rtp;
mod refusal;

pub use budget::{Bounds, Budget};
pub use impersonation::{Impersonation, User};
pub use media::{Media, NoMedia};
pub use policy::{Interface, Policy, is_private};
pub use refusal::{End, Refusal};
pub use rtp::{PACKET_MSECS, Packet, Rtp};
pub use silence::{Encoding, MAX_PAYLOAD, Silence};
pub use wire::{Event, Garbled, MAX_OCTETS, Order, Outcome};
