//! The To tag of an answer of which nothing is kept (RFC 3261 §8.2.7).

use crate::{PartsHash, Secret};
use sip::{HeaderName, Message, hex};

/// Gives such tags.
#[derive(Clone)]
pub struct StatelessTags(PartsHash);

impl StatelessTags {
    /// The tags of those who share `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self(PartsHash::new(secret, "to-tag"))
    }

    /// The tag that answers to `request` have: the same for every retransmission, which repeats these headers octet for octet
    /// (and not all of the message: see [`crate::Outgoing::slack`]).
    pub fn of(&self, request: &Message<'_>) -> [u8; 16] {
        let mut parts = self.0.begin();
        for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
            parts.put(request.value(name).unwrap_or_default());
        }
        hex(parts.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Limits;

    #[test]
    fn a_retransmission_gets_the_tag_of_the_first_one_whatever_blanks_it_has() {
        const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33;branch=z9hG4bK776\r\n\
            To: <sip:bob@example.com>\r\nFrom: <sip:alice@example.com>;tag=88\r\nCall-ID: id\r\nCSeq: 31 INVITE\r\n\r\n";
        let tags = StatelessTags::new(&Secret::new([5; 32]));
        let tag = |text: &str| tags.of(&Message::parse(text.as_bytes(), &Limits::default()).unwrap());
        assert_eq!(tag(INVITE), tag(&INVITE.replace("Via: ", "Via:      ")));
        for (what, other) in [("776", "777"), ("tag=88", "tag=89"), ("ID: id", "ID: other"), ("31 INVITE", "32 INVITE")]
        {
            assert_ne!(tag(INVITE), tag(&INVITE.replace(what, other)), "{other}");
        }
    }
}
