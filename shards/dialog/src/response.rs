//! The responses that a UA writes (RFC 3261 §8.2.6, §12.1.1).

use crate::{
    request::{UserAgent, end, is_sips},
    text::{self, Body, Field},
};
use sip::{HeaderName, Message, Octets, StatusCode, write};
use std::{borrow::Cow, net::SocketAddr};

/// A response to a request.
#[derive(Clone, Copy)]
pub struct NewResponse<'a> {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase; what is no text of one line in it is left out.
    pub reason: &'a str,
    /// Our tag. It may be empty in a 100 and where To has a tag already.
    pub to_tag: &'a [u8],
    /// Whose Contact it carries.
    pub contact: Contact<'a>,
    /// More headers.
    pub fields: &'a [Field<'a>],
    /// The body.
    pub body: Option<Body<'a>>,
}

/// The Contact of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact<'a> {
    /// None.
    Absent,
    /// Ours, if the response makes a dialog or may refresh its target (§12.1.1): 101 to 299, to a method that does.
    Ours,
    /// Other places to try (§8.1.3.4): values of a 3xx, comma-separated.
    Elsewhere(&'a [u8]),
}

impl<'a> NewResponse<'a> {
    /// A response with the usual reason phrase, our Contact where one belongs, and nothing else.
    pub fn new(status: StatusCode, to_tag: &'a [u8]) -> Self {
        let (contact, fields, body) = (Contact::Ours, &[][..], None);
        Self { status, reason: status.reason(), to_tag, contact, fields, body }
    }

    /// Writes it as the answer to `request`, which came from `source` (§18.2.1).
    pub fn write(&self, ua: UserAgent<'_>, request: &Message<'_>, source: SocketAddr, out: &mut impl Octets) {
        let (parsed, reason) = (request.request().ok(), single_line(self.reason));
        match &parsed {
            Some(parsed) => {
                write::begin_response_to(out, request, parsed, self.status, &reason, self.to_tag, source);
            }
            None => write::begin_response(out, request, self.status, &reason, self.to_tag, source),
        }
        let makes_dialog = (StatusCode::TRYING.get() + 1..300).contains(&self.status.get());
        match (self.contact, parsed) {
            (Contact::Ours, Some(received)) if makes_dialog && crate::refreshes_target(received.method) => {
                // §12.1.1: the response that makes a dialog takes all Record-Routes over, in order. Within a dialog the
                // route set stays as it is, so nobody needs them.
                if received.to.tag.is_none() {
                    for line in request.all(HeaderName::RecordRoute) {
                        text::put_line(out, HeaderName::RecordRoute.canonical().as_bytes(), line.value);
                    }
                }
                let route = request.addresses(HeaderName::RecordRoute).next().and_then(Result::ok);
                // §12.1.1: SIPS where the Request-URI or the topmost Record-Route is.
                let is_secure = is_sips(received.uri) || route.is_some_and(|r| is_sips(r.uri));
                ua.write_contact(received.call_id, is_secure, out);
            }
            (Contact::Elsewhere(list), _) => text::put_line(out, HeaderName::Contact.canonical().as_bytes(), list),
            _ => {}
        }
        end(out, self.fields, self.body);
    }
}

/// `reason` without the characters that would end its line.
fn single_line(reason: &str) -> Cow<'_, str> {
    if reason.contains(char::is_control) {
        Cow::Owned(reason.chars().filter(|c| !c.is_control()).collect())
    } else {
        Cow::Borrowed(reason)
    }
}
