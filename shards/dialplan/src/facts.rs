//! What a run knows about its call when it starts.

use sip::{Address, HeaderName, Host, Message, StartLine, Uri};
use std::time::Duration;

/// Which of an account's two plans runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The call is for the user.
    In,
    /// The user places the call.
    Out,
}

/// The call that a plan decides about.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which plan of the user's this is.
    pub direction: Direction,
    /// Whose plan it is: the user part of the account. With `domain` the key that `max_runs_per_user` counts by.
    pub user: Box<str>,
    /// The account's domain, in its canonical spelling.
    pub domain: Box<str>,
    /// Where the request came from: address and port.
    pub source: Box<str>,
    /// The user's time zone by its IANA name; empty is UTC.
    pub zone: Box<str>,
    /// Since the Unix epoch, when the run starts.
    pub unix: Duration,
    /// Names of the user's provider accounts.
    pub providers: Box<[Box<str>]>,
    /// The request as it came.
    pub request: Box<[u8]>,
}

/// Somebody whom the request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// The Request-URI.
    Target,
    From,
    To,
}

/// What the request says of a party, as text; empty for what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartyText {
    /// The display name without its quotes.
    pub name: String,
    /// The user part, or the number of a `tel:` URI; escaped as it stands.
    pub user: String,
    pub host: String,
    pub uri: String,
    pub tag: String,
}

impl Facts {
    /// Reads the request. None if it is none.
    pub(crate) fn with_message<T>(&self, read: impl FnOnce(&Message<'_>) -> T) -> Option<T> {
        // The switch has taken the request under its own limits.
        let limits = sip::Limits { max_line: u16::MAX, ..sip::Limits::default() };
        Message::parse(&self.request, &limits).ok().as_ref().map(read)
    }

    /// What the request says of a party.
    pub(crate) fn party(&self, party: Party) -> PartyText {
        self.with_message(|message| match party {
            Party::Target => PartyText::of_uri(request_uri(message)),
            Party::From => PartyText::of_address(message, HeaderName::From),
            Party::To => PartyText::of_address(message, HeaderName::To),
        })
        .unwrap_or_default()
    }
}

/// The Request-URI; empty in what is no request.
pub(crate) fn request_uri<'b>(message: &Message<'b>) -> &'b [u8] {
    match message.start_line() {
        StartLine::Request { uri, .. } => uri,
        StartLine::Response { .. } => b"",
    }
}

/// Octets as a script gets them.
pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

impl PartyText {
    fn of_uri(uri: &[u8]) -> Self {
        let mut party = Self { uri: text(uri), ..Self::default() };
        match Uri::parse(uri) {
            Ok(Uri::Sip(sip)) => {
                party.user = text(sip.user.unwrap_or_default());
                party.host = match sip.host {
                    Host::Name(name) => text(name),
                    Host::V4(address) => address.to_string(),
                    Host::V6(address) => format!("[{address}]"),
                };
            }
            Ok(Uri::Tel(tel)) => party.user = text(tel.number),
            Ok(Uri::Other { .. }) | Err(_) => {}
        }
        party
    }

    fn of_address(message: &Message<'_>, header: HeaderName) -> Self {
        let Some(address) = message.value(header).and_then(Address::from_value) else { return Self::default() };
        Self {
            name: unquoted(address.display),
            tag: text(address.tag.unwrap_or_default()),
            ..Self::of_uri(address.uri)
        }
    }
}

/// A display name without its quotes and their escapes (§25.1: quoted-pair).
fn unquoted(display: &[u8]) -> String {
    let display = text(display);
    let display = display.trim();
    let Some(inside) = display.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return display.to_owned();
    };
    let mut escaped = false;
    inside
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}
