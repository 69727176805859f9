//! Which headers go from one side of a call to the other.
//!
//! Everything that tells of the topology (Via, Route, Record-Route, Contact, Call-ID, CSeq, Server, User-Agent, Warning) is
//! written anew or left out; what the far user is to read goes through, and nothing that is not known.

use dialog::Field;
use dialplan::Refer;
use sip::{Header, HeaderName, Message};
use std::borrow::Cow;

/// What we can do (RFC 3261 §20.5).
const METHODS: [&str; 12] =
    ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "NOTIFY", "MESSAGE", "REFER", "SUBSCRIBE"];

const ALL: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY, MESSAGE, REFER, SUBSCRIBE";
const ALL_BUT_REFER: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY, MESSAGE, SUBSCRIBE";

/// In requests and responses, whatever they are about.
const ALWAYS: &[&str] = &[
    "Accept-Language",
    "Alert-Info",
    "Call-Info",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Date",
    "Error-Info",
    "MIME-Version",
    "Organization",
    "P-Early-Media",
    "Priority",
    "Privacy",
    "Reason",
    "Reply-To",
    "Subject",
];

/// With [`ALWAYS`], in requests that pass inside a call or to a user, and in the responses to them.
const OTHER_THAN_INVITE: &[&str] = &[
    "Accept",
    "Allow-Events",
    "Event",
    "Expires",
    "Info-Package",
    "In-Reply-To",
    "Min-Expires",
    "Recv-Info",
    "Refer-Sub",
    "Refer-To",
    "Referred-By",
    "SIP-ETag",
    "SIP-If-Match",
    "Subscription-State",
];

/// The compact forms among them that no [`HeaderName`] knows (RFC 3261 §7.3.3, RFC 6665 §8.4).
const COMPACT: &[(u8, &str)] = &[(b's', "Subject"), (b'e', "Content-Encoding"), (b'u', "Allow-Events")];

/// The headers of `message` that go on to the other side.
pub(crate) fn passing<'b>(message: &Message<'b>, is_invite: bool) -> impl Iterator<Item = Field<'b>> {
    let passes = move |header: &Header<'b>| {
        if never_passes(header.name) {
            return false;
        }
        let name = long_name(header);
        let is_in = |list: &[&str]| list.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        is_in(ALWAYS) || !is_invite && is_in(OTHER_THAN_INVITE)
    };
    message.headers().filter(move |header| passes(header)).filter_map(|header| Field::received(&header))
}

/// Fields as a list, with room for those that we add.
pub(crate) fn with_room<'b>(passing: impl Iterator<Item = Field<'b>>) -> Vec<Field<'b>> {
    let mut fields = Vec::with_capacity(16);
    fields.extend(passing);
    fields
}

/// Those that are in most messages and in neither list: no list is searched for them.
fn never_passes(name: HeaderName) -> bool {
    use HeaderName::*;
    matches!(
        name,
        Via | From
            | To
            | CallId
            | CSeq
            | Contact
            | MaxForwards
            | Route
            | RecordRoute
            | ContentType
            | ContentLength
            | Supported
            | Allow
            | UserAgent
            | SessionExpires
            | MinSe
    )
}

fn long_name<'b>(header: &Header<'b>) -> &'b [u8] {
    if header.name != HeaderName::Other {
        return header.name.canonical().as_bytes();
    }
    match header.raw_name() {
        [letter] => COMPACT.iter().find(|(c, _)| c.eq_ignore_ascii_case(letter)).map_or(b"", |(_, n)| n.as_bytes()),
        name => name,
    }
}

/// Whether a header that is a list of tokens has `token`.
pub(crate) fn has_token(message: &Message<'_>, name: HeaderName, token: &str) -> bool {
    message.tokens(name).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether the sender can do an extension: he supports or requires it.
pub(crate) fn supports(message: &Message<'_>, option: &str) -> bool {
    has_token(message, HeaderName::Supported, option) || has_token(message, HeaderName::Require, option)
}

/// What one side is told that the other can do: his Allow as far as it passes through us, or ours where he says nothing.
pub(crate) fn allow(from: &Message<'_>, refer: Refer) -> Cow<'static, str> {
    let says = from.value(HeaderName::Allow).is_some();
    if !says {
        return Cow::Borrowed(if refer == Refer::Refuse { ALL_BUT_REFER } else { ALL });
    }
    let allowed = |method: &&&str| {
        let passes = from.tokens(HeaderName::Allow).any(|t| t == method.as_bytes());
        // We do these whatever he does.
        let is_ours = matches!(**method, "INVITE" | "ACK" | "CANCEL" | "BYE" | "OPTIONS");
        (passes || is_ours) && (refer != Refer::Refuse || **method != "REFER")
    };
    METHODS.iter().filter(allowed).copied().collect::<Vec<_>>().join(", ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Limits;

    #[test]
    fn what_tells_of_the_topology_stays_behind() {
        let text = "INFO sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\ns: dinner\r\nRecord-Route: <sip:p;lr>\r\n\
            User-Agent: X\r\nWarning: 399 h \"x\"\r\no: dialog\r\nX-Secret: 1\r\n\r\n";
        let message = Message::parse(text.as_bytes(), &Limits::default()).unwrap();
        let values = |is_invite| passing(&message, is_invite).map(|f| f.value()).collect::<Vec<_>>();
        assert_eq!(values(true), [b"dinner"]);
        assert_eq!(values(false), [&b"dinner"[..], b"dialog"]);
    }
}
