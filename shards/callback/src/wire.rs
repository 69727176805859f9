//! What the switch and the process that sends tell each other, one message a packet of their socket.
//!
//! ```text
//! order        1, call u128, leg u16, user, source, destination, silence     an impersonation
//!              2, call u128                                                  stop
//! event        3, that impersonation, outcome                                about one
//!              4, signal or status u8, pause u32 (milliseconds)              the process has died
//!              5, u32                                                        so many events were lost
//!              6                                                             an order was garbled
//! user         length u8, UTF-8
//! address      4 or 6, the address's octets, port u16
//! silence      payload type u8, encoding u8, rate u16 (0 where the encoding has but one)
//! outcome      0 number u8 of u8 · 1 refusal u8 · 2 errno i32 · 3 number u8
//! ```
//!
//! Numbers are in network order. What has another form in any place is refused as a whole.

use crate::{Encoding, Impersonation, Refusal, Silence, User};
use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of the longest message.
pub const MAX_OCTETS: usize = 256;

/// A message as it is sent.
type Octets = ArrayVec<u8, MAX_OCTETS>;

/// What the switch says.
#[expect(clippy::large_enum_variant, reason = "it lives on a stack, from one message to what is done about it")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send a leg its packets.
    Impersonate(Impersonation),
    /// Send no more of a call's: it is over, or its media may be elsewhere soon.
    Stop {
        /// The call's number.
        call: u128,
    },
}

/// What the process that sends says.
#[expect(clippy::large_enum_variant, reason = "it lives on a stack, from one message to what is done about it")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What has become of an impersonation.
    Of(Impersonation, Outcome),
    /// The process has died, of a signal or with an exit status (plus 128), and another one is there after a pause.
    Died {
        /// As a shell tells it.
        status: u8,
        /// Until the next one is there.
        pause_msecs: u32,
    },
    /// Nobody has read so many events in time.
    Lost(u32),
    /// An order was no order.
    Garbled,
}

/// What has become of an impersonation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A packet has been sent.
    Sent {
        /// Its number, from 1.
        number: u8,
        /// How many there are to be.
        of: u8,
    },
    /// Nothing is sent.
    Refused(Refusal),
    /// The kernel would not; the rest is not sent.
    Failed {
        /// As errno(3) numbers it.
        errno: i32,
    },
    /// By an order; the rest is not sent.
    Stopped {
        /// How many have been.
        sent: u8,
    },
}

/// A message that is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no known form")]
pub struct Garbled;

impl Order {
    /// As a message.
    pub fn encode(&self) -> Octets {
        let mut out = Octets::new();
        match self {
            Self::Impersonate(wanted) => {
                out.push(1);
                put_impersonation(&mut out, wanted);
            }
            Self::Stop { call } => {
                out.push(2);
                out.extend(call.to_be_bytes());
            }
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no order.
    pub fn decode(octets: &[u8]) -> Result<Self, Garbled> {
        let mut reader = Reader(octets);
        let order = match reader.octet()? {
            1 => Self::Impersonate(reader.impersonation()?),
            2 => Self::Stop { call: u128::from_be_bytes(reader.array()?) },
            _ => return Err(Garbled),
        };
        reader.end(order)
    }
}

impl Event {
    /// As a message.
    pub fn encode(&self) -> Octets {
        let mut out = Octets::new();
        match self {
            Self::Of(wanted, outcome) => {
                out.push(3);
                put_impersonation(&mut out, wanted);
                match outcome {
                    Outcome::Sent { number, of } => out.extend([0, *number, *of]),
                    Outcome::Refused(refusal) => out.extend([1, refusal.number()]),
                    Outcome::Failed { errno } => {
                        out.push(2);
                        out.extend(errno.to_be_bytes());
                    }
                    Outcome::Stopped { sent } => out.extend([3, *sent]),
                }
            }
            Self::Died { status, pause_msecs } => {
                out.extend([4, *status]);
                out.extend(pause_msecs.to_be_bytes());
            }
            Self::Lost(events) => {
                out.push(5);
                out.extend(events.to_be_bytes());
            }
            Self::Garbled => out.push(6),
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no event.
    pub fn decode(octets: &[u8]) -> Result<Self, Garbled> {
        let mut reader = Reader(octets);
        let event = match reader.octet()? {
            3 => Self::Of(
                reader.impersonation()?,
                match reader.octet()? {
                    0 => Outcome::Sent { number: reader.octet()?, of: reader.octet()? },
                    1 => Outcome::Refused(Refusal::of_number(reader.octet()?).ok_or(Garbled)?),
                    2 => Outcome::Failed { errno: i32::from_be_bytes(reader.array()?) },
                    3 => Outcome::Stopped { sent: reader.octet()? },
                    _ => return Err(Garbled),
                },
            ),
            4 => Self::Died { status: reader.octet()?, pause_msecs: u32::from_be_bytes(reader.array()?) },
            5 => Self::Lost(u32::from_be_bytes(reader.array()?)),
            6 => Self::Garbled,
            _ => return Err(Garbled),
        };
        reader.end(event)
    }
}

fn put_impersonation(out: &mut Octets, wanted: &Impersonation) {
    out.extend(wanted.call.to_be_bytes());
    out.extend(wanted.leg.to_be_bytes());
    out.push(wanted.user.len() as u8);
    out.extend(wanted.user.bytes());
    for address in [wanted.source, wanted.destination] {
        match address.ip() {
            IpAddr::V4(v4) => {
                out.push(4);
                out.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                out.push(6);
                out.extend(v6.octets());
            }
        }
        out.extend(address.port().to_be_bytes());
    }
    let (encoding, rate) = match wanted.silence.encoding() {
        Encoding::Pcmu => (0, 0),
        Encoding::Pcma => (1, 0),
        Encoding::G722 => (2, 0),
        Encoding::Gsm => (3, 0),
        Encoding::L16 { rate } => (4, rate),
        Encoding::Opus => (5, 0),
        Encoding::ComfortNoise { rate } => (6, rate),
    };
    out.extend([wanted.silence.payload_type(), encoding]);
    out.extend(rate.to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Garbled)?;
        self.0 = rest;
        Ok(*array)
    }

    fn octet(&mut self) -> Result<u8, Garbled> {
        self.array().map(|[octet]| octet)
    }

    fn impersonation(&mut self) -> Result<Impersonation, Garbled> {
        Ok(Impersonation {
            call: u128::from_be_bytes(self.array()?),
            leg: u16::from_be_bytes(self.array()?),
            user: self.user()?,
            source: self.address()?,
            destination: self.address()?,
            silence: self.silence()?,
        })
    }

    fn user(&mut self) -> Result<User, Garbled> {
        let length = self.octet()?.into();
        let (user, rest) = self.0.split_at_checked(length).ok_or(Garbled)?;
        self.0 = rest;
        let user = std::str::from_utf8(user).map_err(|_| Garbled)?;
        User::from(user).map_err(|_| Garbled)
    }

    fn address(&mut self) -> Result<SocketAddr, Garbled> {
        let ip: IpAddr = match self.octet()? {
            4 => Ipv4Addr::from(self.array::<4>()?).into(),
            6 => Ipv6Addr::from(self.array::<16>()?).into(),
            _ => return Err(Garbled),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)))
    }

    fn silence(&mut self) -> Result<Silence, Garbled> {
        let [payload_type, encoding] = self.array()?;
        let rate = u16::from_be_bytes(self.array()?);
        let encoding = match (encoding, rate) {
            (0, 0) => Some(Encoding::Pcmu),
            (1, 0) => Some(Encoding::Pcma),
            (2, 0) => Some(Encoding::G722),
            (3, 0) => Some(Encoding::Gsm),
            (4, rate) => Encoding::l16(rate.into()),
            (5, 0) => Some(Encoding::Opus),
            (6, rate) => Encoding::comfort_noise(rate.into()),
            _ => None,
        };
        encoding.and_then(|encoding| Silence::new(payload_type, encoding)).ok_or(Garbled)
    }

    /// `whole`, if nothing is left.
    fn end<T>(self, whole: T) -> Result<T, Garbled> {
        if self.0.is_empty() { Ok(whole) } else { Err(Garbled) }
    }
}
