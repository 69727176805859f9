//! Why a REGISTER is not done, and what its sender is told.

use sip::{HeaderName, StatusCode};
use store::TooLong;

/// Why a request changes nothing. Each variant knows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal<'t> {
    /// Something in it breaks the grammar.
    Malformed(sip::Error),
    /// Its credentials break the rules.
    MalformedCredentials(&'static str),
    /// The Request-URI is for a domain that is not ours, or the address-of-record is not in that domain (RFC 3261 §10.3
    /// steps 1 and 5).
    NotInDomain,
    /// It requires an extension that we do not have (§8.2.2.3).
    BadExtension,
    /// It needs credentials, for this realm.
    Unauthorized {
        /// One of our domains.
        realm: &'t str,
        /// Why it has to show them again.
        why: Challenged,
    },
    /// The credentials are another user's (§10.3 step 4).
    Forbidden,
    /// `*` beside another contact, or without `Expires: 0` (§10.3 step 6).
    WildcardMisused,
    /// A contact has more than one flow in one request (RFC 5626 §6).
    SeveralFlows,
    /// The first hop does not do outbound (RFC 5626 §6).
    FirstHopLacksOutbound,
    /// The interval is shorter than this many seconds (§10.3 step 7).
    TooBrief(u32),
    /// The binding was made by a later request of the same Call-ID (§10.3 steps 6 and 7).
    OutOfOrder,
    /// More bindings than there may be.
    TooManyBindings,
    /// The bindings are longer than a record.
    TooLong,
    /// Too many answers wait for the journal, or it fails.
    Unavailable,
}

/// Why credentials are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenged {
    /// There were none.
    Missing,
    /// They were right, but for their nonce.
    Stale,
    /// They were wrong.
    Wrong,
}

impl Refusal<'_> {
    /// The answer.
    pub(crate) fn response(&self) -> StatusCode {
        match self {
            Self::Malformed(error) => error.response(),
            Self::MalformedCredentials(_) | Self::WildcardMisused | Self::SeveralFlows => StatusCode::BAD_REQUEST,
            Self::NotInDomain => StatusCode::NOT_FOUND,
            Self::BadExtension => StatusCode::BAD_EXTENSION,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::TooManyBindings => StatusCode::FORBIDDEN,
            Self::FirstHopLacksOutbound => StatusCode::FIRST_HOP_LACKS_OUTBOUND_SUPPORT,
            Self::TooBrief(_) => StatusCode::INTERVAL_TOO_BRIEF,
            // §10.3 names no status. As for a request out of order within a dialog (§12.2.2): the client may count on.
            Self::OutOfOrder => StatusCode::SERVER_INTERNAL_ERROR,
            Self::TooLong => StatusCode::MESSAGE_TOO_LARGE,
            // §10.3 step 7 wants a 500 where the back end fails. 503 says the same and that it may pass (§21.5.4).
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The reason phrase.
    pub(crate) fn write_reason(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        match self {
            Self::Malformed(error) => write!(out, "{error}"),
            Self::MalformedCredentials(reason) => out.write_str(reason),
            Self::WildcardMisused => out.write_str("Wildcard Contact Misused"),
            Self::SeveralFlows => out.write_str("Several Flows In One Request"),
            Self::TooManyBindings => out.write_str("Too Many Bindings"),
            Self::OutOfOrder => out.write_str("CSeq Out Of Order"),
            _ => out.write_str(self.response().reason()),
        }
    }
}

impl From<sip::Error> for Refusal<'_> {
    fn from(error: sip::Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<TooLong> for Refusal<'_> {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// A Contact value that breaks its grammar.
pub(crate) const BAD_CONTACT: Refusal<'static> = Refusal::Malformed(sip::Error::Malformed(HeaderName::Contact));
