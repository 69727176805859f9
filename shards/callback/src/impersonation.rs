//! One leg's part: that it hears a few packets of silence which seem to come from the other leg's media address.

use crate::{Media, Refusal, Silence};
use arrayvec::ArrayString;
use std::net::SocketAddr;

/// Whose call it is, as the log names him: the rest of a longer name is cut off.
pub type User = ArrayString<128>;

/// What is asked of the process that sends. How many packets it sends, how far apart and what is in them is not for anybody to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    pub(crate) call: u128,
    pub(crate) user: User,
    pub(crate) leg: u16,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) silence: Silence,
}

impl Impersonation {
    /// That leg `leg` of a user's call, whose answer told `to`, hears what seems to come from `from`, which the other leg's answer
    /// told.
    ///
    /// # Errors
    /// The leg takes no codec that we can be silent in.
    pub fn new(call: u128, user: &str, leg: u16, from: &Media, to: &Media) -> Result<Self, Refusal> {
        let silence = to.silence().ok_or(Refusal::NoSilence)?;
        let mut end = user.len().min(User::new_const().capacity());
        while !user.is_char_boundary(end) {
            end -= 1;
        }
        let user = User::from(&user[..end]).expect("it has been cut to the capacity");
        Ok(Self { call, user, leg, source: from.address(), destination: to.address(), silence })
    }

    /// The call's number.
    pub fn call(&self) -> u128 {
        self.call
    }

    /// Whose call it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The leg's number in its call.
    pub fn leg(&self) -> u16 {
        self.leg
    }

    /// The other leg's media address.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The leg's own.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// What the leg takes for silence.
    pub fn silence(&self) -> Silence {
        self.silence
    }
}
