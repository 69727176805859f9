//! Who the proxy works with on its shard.

use agent::{Now, Outbox, Received};
use bumpalo::Bump;
use registrar::{Incoming, Target};
use sip::Message;

/// The neighbours of the proxy on its shard.
pub trait Agents {
    /// Where the user `aor` is reached.
    fn locate<'t>(&self, now: Now, aor: &str, arena: &'t Bump) -> Location<'t>;

    /// Takes a REGISTER for a domain of ours and answers it.
    fn register<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>);

    /// Whether the sender may go from outside to outside by right of an account. It answers where it needs
    /// to ask; ACK and CANCEL are never asked (§22.1).
    fn authorize_relay<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Relay;

    /// Gives a message to the application server of that number, which is on this shard.
    fn serve<'t>(&mut self, now: Now, app: usize, received: &Received<'t>, message: &Message<'t>, out: &mut Outbox<'t>);

    /// Gives a response to the one who has sent a probe.
    fn probed<'t>(&mut self, now: Now, message: &Message<'t>, out: &mut Outbox<'t>);
}

/// Where a user of ours is reached.
#[derive(Clone, Copy, Debug)]
pub enum Location<'t> {
    /// There is no such user.
    Unknown,
    /// The user has no binding now.
    Absent,
    /// Its bindings, the best first; one at least.
    Bound(&'t [Target<'t>]),
}

/// What an account gives the sender of a request from outside to outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// It may go.
    Allowed,
    /// The sender has been challenged.
    Challenged,
    /// No account of ours lets it go.
    Refused,
}
