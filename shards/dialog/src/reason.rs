//! Reason (RFC 3326): why a request was sent, or a call ended.

use crate::text;
use sip::{HeaderName, Message, Octets, Parameterized};

/// One value of Reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850`, …
    pub protocol: &'a [u8],
    /// The `cause`: a status code, or a cause of the other protocol.
    pub cause: Option<u32>,
    /// The `text`; in one that was read, escapes stand as they were.
    pub text: &'a [u8],
}

impl<'a> Reason<'a> {
    /// Every value of a message, in order. What breaks the grammar is passed over with the rest of its line.
    pub fn all(message: &Message<'a>) -> impl Iterator<Item = Self> {
        message.all(HeaderName::Reason).flat_map(|line| Parameterized::list(line.value)).map(|value| {
            let text = value.params.value("text").unwrap_or_default();
            Self {
                protocol: value.value,
                cause: value.params.value("cause").and_then(sip::number),
                text: text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text),
            }
        })
    }

    /// Writes the value.
    pub fn write(&self, out: &mut impl Octets) {
        text::put_clean(out, self.protocol);
        if let Some(cause) = self.cause {
            out.put(b" ;cause=");
            out.put_number(cause.into());
        }
        if !self.text.is_empty() {
            out.put(b" ;text=");
            text::put_quoted(out, self.text);
        }
    }
}
