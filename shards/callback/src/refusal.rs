//! Why nothing is sent.

use std::fmt;

/// Which of the two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The one that a packet seems to come from.
    Source,
    /// The one that it goes to.
    Destination,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Why an impersonation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// 127.0.0.0/8, ::1.
    #[error("the {0} is a loopback address")]
    Loopback(End),
    /// 224.0.0.0/4, ff00::/8.
    #[error("the {0} is a multicast address")]
    Multicast(End),
    /// 255.255.255.255, and those of our own networks.
    #[error("the {0} is a broadcast address")]
    Broadcast(End),
    /// 0.0.0.0/8, ::.
    #[error("the {0} is no address")]
    Unspecified(End),
    /// 169.254.0.0/16, fe80::/10.
    #[error("the {0} is a link-local address")]
    LinkLocal(End),
    /// One of ours, or one that we go by.
    #[error("the {0} is an address of this switch")]
    Own(End),
    /// ::ffff:0:0/96 and ::/96, which are IPv4 addresses in disguise.
    #[error("the {0} is an IPv4 address in the form of an IPv6 one")]
    Mapped(End),
    /// RFC 1918, RFC 6598, RFC 4193, RFC 3879, RFC 8215, and not in `callback.networks`.
    #[error("the {0} is a private address; callback.networks does not list its network")]
    Private(End),
    /// 240.0.0.0/4.
    #[error("the {0} is a reserved address")]
    Reserved(End),
    /// Below 1024: no media gateway, but perhaps a service that answers.
    #[error("the port of the {0} is below 1024")]
    LowPort(End),
    /// One address is of IPv4, the other of IPv6.
    #[error("source and destination are of different families")]
    Families,
    /// The two are one.
    #[error("source and destination are the same")]
    Same,
    /// None of the leg's codecs has a silence that is known without its encoder.
    #[error("the leg takes no codec whose silence is known")]
    NoSilence,
    /// The leg has had its packets.
    #[error("the leg has had its packets")]
    Again,
    /// The leg was asked for with other addresses before.
    #[error("the addresses are not those that the leg was asked for with before")]
    Changed,
    /// `callback.max_packets_per_call`.
    #[error("the call has had as many packets as it may")]
    Call,
    /// `callback.max_packets_per_destination`.
    #[error("the destination has had as many packets in a minute as it may")]
    Destination,
    /// `callback.max_packets_per_sec`.
    #[error("as many packets go out in a second as may")]
    Rate,
    /// As many orders wait for the process that sends as may.
    #[error("the process that sends has too many orders before this one")]
    Queue,
    /// Nobody is there who could send: the process has died and is started again after a pause.
    #[error("the process that sends is not there")]
    Away,
}

/// All of them, in the order of their numbers on the wire: those about an address first, for the source and then for the destination.
pub(crate) const ABOUT_AN_END: [fn(End) -> Refusal; 10] = [
    Refusal::Loopback,
    Refusal::Multicast,
    Refusal::Broadcast,
    Refusal::Unspecified,
    Refusal::LinkLocal,
    Refusal::Own,
    Refusal::Mapped,
    Refusal::Private,
    Refusal::Reserved,
    Refusal::LowPort,
];
pub(crate) const OTHERS: [Refusal; 10] = [
    Refusal::Families,
    Refusal::Same,
    Refusal::NoSilence,
    Refusal::Again,
    Refusal::Changed,
    Refusal::Call,
    Refusal::Destination,
    Refusal::Rate,
    Refusal::Queue,
    Refusal::Away,
];

impl Refusal {
    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let ends = [End::Source, End::Destination];
        ends.into_iter().flat_map(|end| ABOUT_AN_END.into_iter().map(move |about| about(end))).chain(OTHERS)
    }

    /// Its number on the wire.
    pub(crate) fn number(self) -> u8 {
        Self::all().position(|refusal| refusal == self).expect("all() has all of them") as u8
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::all().nth(number.into())
    }
}
