//! A dial command: steps one after another, each of legs that ring together.

pub(crate) mod parse;
mod substitute;

use crate::ask::{HeaderField, Response};

/// What `sys.dial` wants done.
#[derive(Clone, Debug, PartialEq)]
pub struct Dial {
    /// One after another until a leg answers. None is empty.
    pub steps: Vec<Vec<Leg>>,
    /// How long each step rings; None leaves it to the application server.
    pub ring_secs: Option<u32>,
    /// How long an answered call lasts at most; None for no bound of the plan's.
    pub max_call_secs: Option<u32>,
    /// What the plan changes in the requests of all legs.
    pub shape: Shape,
}

/// What a plan changes in the requests that it sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Header fields that each request carries: set replaces those of the name.
    pub headers: Vec<HeaderField>,
    /// Header fields of the caller's request that are not passed on.
    pub removed: Vec<Box<str>>,
    /// What the From says.
    pub from: From,
    /// Content-Type and body that stand in for the caller's.
    pub body: Option<(Box<str>, Box<str>)>,
}

/// What a plan changes in From. None leaves it as the application server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct From {
    /// Display name.
    pub name: Option<Box<str>>,
    /// User part.
    pub user: Option<Box<str>>,
    /// Host.
    pub host: Option<Box<str>>,
}

/// One leg.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// Whom to call.
    pub target: Target,
    /// What its brackets say.
    pub options: LegOptions,
}

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `user@host`; the host is tried as a local domain, as a provider's name, and as the host of a SIP URI.
    Address {
        /// User part.
        user: Box<str>,
        /// Domain, provider or host.
        host: Box<str>,
    },
    /// A URI as it stands: `sip:`, `sips:` or `tel:`.
    Uri(Box<str>),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { user, host } => write!(f, "{user}@{host}"),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// What a leg's brackets say: `[delay=5,redirect=script]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LegOptions {
    /// `delay`: starts so long after its step. If every live leg has failed, the shortest-delayed starts at once.
    pub delay_secs: u32,
    /// `ring`: rings at most so long.
    pub ring_secs: Option<u32>,
    /// `max`: lasts at most so long once answered.
    pub max_call_secs: Option<u32>,
    /// `mangle`: whether the media addresses of a caller behind a NAT are put right; None leaves it to the switch.
    pub mangle: Option<bool>,
    /// `name`, `user` and `host`: the From of this leg.
    pub from: From,
    /// `redirect`: what becomes of a 3xx.
    pub redirect: Redirect,
    /// `refer`: what becomes of a REFER.
    pub refer: Refer,
    /// `account`: the account code in the call's record.
    pub account_code: Option<Box<str>>,
}

/// What becomes of a 3xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    /// `follow`: the contacts are called in its place.
    #[default]
    Follow,
    /// `script`: the dial command ends with [`DialResult::Redirect`](crate::DialResult::Redirect).
    Script,
    /// `pass`: the caller gets it.
    Pass,
}

/// What becomes of a REFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refer {
    /// `refuse`: 603.
    #[default]
    Refuse,
    /// `pass`: the other party gets it.
    Pass,
    /// `place`: the switch places the call.
    Place,
}

impl Response {
    /// A response of this status, with the reason of RFC 3261 and no further header fields.
    pub fn new(status: u16) -> Self {
        Self { status, reason: "".into(), headers: Vec::new() }
    }
}
