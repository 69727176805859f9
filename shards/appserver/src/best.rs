//! The best of several final responses (RFC 3261 §16.7 step 6).

use crate::headers;
use sip::{HeaderName, Message, StartLine, StatusCode};

/// A final response other than 2xx, as far as it goes on: to a script, to the caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub status: StatusCode,
    /// The reason phrase; empty for the registered one.
    pub reason: Box<str>,
    /// Headers that go with it: Retry-After, what a script adds.
    pub fields: Vec<(Box<str>, Box<str>)>,
    /// The contacts of a redirection, comma-separated.
    pub contacts: Box<[u8]>,
}

impl Failure {
    /// One of our own.
    pub fn of(status: StatusCode) -> Self {
        Self::told(status, "")
    }

    /// One of our own, with a reason phrase.
    pub fn told(status: StatusCode, reason: &str) -> Self {
        Self { status, reason: reason.into(), fields: Vec::new(), contacts: Box::default() }
    }

    /// What a peer's final response says, and what of it the other side may read.
    pub fn read(message: &Message<'_>) -> Self {
        let StartLine::Response { status, reason } = message.start_line() else {
            return Self::of(StatusCode::SERVER_INTERNAL_ERROR);
        };
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into();
        let mut fields: Vec<_> = headers::passing(message, true).map(|f| (text(f.name()), text(f.value()))).collect();
        if let Some(value) = message.value(HeaderName::RetryAfter) {
            fields.push((HeaderName::RetryAfter.canonical().into(), text(value)));
        }
        let mut contacts = Vec::new();
        for header in message.all(HeaderName::Contact).filter(|_| (300..400).contains(&status.get())) {
            contacts.extend_from_slice(if contacts.is_empty() { b"" } else { b", " });
            contacts.extend_from_slice(header.value);
        }
        Self { status, reason: text(reason), fields, contacts: contacts.into() }
    }

    /// What a script wants the caller to be told.
    pub fn of_script(response: dialplan::Response) -> Self {
        let status = StatusCode::new(response.status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
        Self { status, reason: response.reason, fields: response.headers, contacts: Box::default() }
    }

    /// The reason phrase to write.
    pub fn reason(&self) -> &str {
        if self.reason.is_empty() { self.status.reason() } else { &self.reason }
    }

    /// As the caller gets it. A challenge is for whoever has the leg's credentials, which the caller has not (§22.3 has
    /// the challenge reach him; between him and it we stand as a user agent).
    pub fn for_caller(self) -> Self {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Self::of(StatusCode::FORBIDDEN),
            _ => self,
        }
    }

    /// The better of two: `self` stays where neither is.
    pub fn or_better(self, other: Self) -> Self {
        if rank(other.status) < rank(self.status) { other } else { self }
    }
}

/// Lower is better. A 6xx ends all search; else the lowest class. Within 4xx, first what the caller can mend, last what
/// only says that nobody was there.
fn rank(status: StatusCode) -> (u16, u8) {
    let within = match status.get() {
        401 | 407 | 415 | 420 | 484 => 0,
        486 => 1,
        408 | 480 | 487 => 3,
        // §16.7: a 503 says something about one element only.
        503 => 3,
        _ => 2,
    };
    let class = status.get() / 100;
    (if class == 6 { 0 } else { class }, within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(statuses: &[u16]) -> u16 {
        let failures = statuses.iter().map(|&s| Failure::of(StatusCode::new(s).unwrap()));
        failures.reduce(Failure::or_better).unwrap().status.get()
    }

    #[test]
    fn a_6xx_wins_then_the_lowest_class() {
        assert_eq!(best(&[486, 603, 302]), 603);
        assert_eq!(best(&[500, 404, 302]), 302);
        assert_eq!(best(&[503, 500]), 500);
        assert_eq!(best(&[480, 486, 408]), 486);
        assert_eq!(best(&[404, 484]), 484);
        assert_eq!(best(&[404, 403]), 404);
    }

    #[test]
    fn a_challenge_to_a_leg_is_none_to_the_caller() {
        assert_eq!(Failure::of(StatusCode::UNAUTHORIZED).for_caller().status, StatusCode::FORBIDDEN);
    }
}
