//! The dialog: what both ends of a call must remember to send requests to each other (RFC 3261 §12).
//!
//! A dialog is one allocation of packed text and a few numbers. Offers and answers are [`crate::Session`]'s, and whether
//! a request is a retransmission was decided by its transaction before it came here.

use crate::{
    Error,
    key::{DialogHash, DialogKey},
    request::{is_route_list, is_sips},
    text::{self, Party},
};
use sip::{Address, HeaderName, Message, Method, Request, StatusCode, Transport, Uri};

/// A dialog (§12), seen from our end.
#[derive(Clone, PartialEq, Eq)]
pub struct Dialog {
    /// Every [`Part`], one behind the other.
    pub(crate) text: Box<[u8]>,
    /// Where each part ends.
    pub(crate) ends: [u16; Part::COUNT],
    /// The sequence number of our last request; 0 before the first.
    pub(crate) local_cseq: u32,
    /// The sequence number of the peer's last request, once there was one.
    pub(crate) remote_cseq: Option<u32>,
    pub(crate) state: DialogState,
    pub(crate) is_uac: bool,
    pub(crate) is_secure: bool,
}

/// The states of §12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogState {
    /// Made by a provisional response.
    Early,
    /// Made or confirmed by a 2xx.
    Confirmed,
    /// Ended by a BYE, a final response that is no 2xx, or a request that nobody answered.
    Terminated,
}

/// The pieces of text that a dialog keeps.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    CallId,
    LocalTag,
    RemoteTag,
    /// Display name and URI as From names us, without parameters.
    Local,
    /// The same of the peer.
    Remote,
    /// The URI of the peer's Contact.
    RemoteTarget,
    /// The route set, comma-separated, in the order in which requests of ours take it.
    RouteSet,
}

impl Part {
    pub(crate) const COUNT: usize = 7;

    const ALL: [Self; Self::COUNT] =
        [Self::CallId, Self::LocalTag, Self::RemoteTag, Self::Local, Self::Remote, Self::RemoteTarget, Self::RouteSet];

    /// Whether `text` may be this part.
    fn is_sound(self, text: &[u8]) -> bool {
        match self {
            Self::CallId => text::is_word(text),
            Self::LocalTag => text::is_tag(text),
            Self::RemoteTag => text.is_empty() || text::is_tag(text),
            Self::Local | Self::Remote => {
                text::is_clean(text) && Address::from_value(text).is_some_and(|a| text::is_enclosed(a.uri))
            }
            Self::RemoteTarget => Uri::parse(text).is_ok(),
            Self::RouteSet => text.is_empty() || is_route_list(text),
        }
    }

    /// The header that it comes from.
    fn header(self, is_uac: bool) -> HeaderName {
        match self {
            Self::CallId => HeaderName::CallId,
            Self::LocalTag | Self::Local if is_uac => HeaderName::From,
            Self::RemoteTag | Self::Remote if !is_uac => HeaderName::From,
            Self::LocalTag | Self::Local | Self::RemoteTag | Self::Remote => HeaderName::To,
            Self::RemoteTarget => HeaderName::Contact,
            Self::RouteSet => HeaderName::RecordRoute,
        }
    }
}

/// A request's sequence number is not above that of the one before (§12.2.2). The answer is a 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

impl OutOfOrder {
    /// The answer.
    pub fn response(self) -> StatusCode {
        StatusCode::SERVER_INTERNAL_ERROR
    }
}

impl Dialog {
    /// Longest text that a dialog keeps: identifiers, addresses, target and route set together.
    pub const MAX_TEXT_OCTETS: usize = 8 * 1024;

    /// The dialog that a response makes to a request of ours for `uri` which began it (§12.1.2): early by a provisional one,
    /// confirmed by a 2xx. All else of the request that counts comes back with the response (§8.2.6.2).
    ///
    /// # Errors
    /// A provisional response has no To tag; or one of the headers is missing, malformed or too long.
    pub fn uac(uri: &[u8], response: &Message<'_>) -> Result<Self, Error> {
        let received = response.response()?;
        let status = received.status;
        let local = address(response, HeaderName::From)?;
        let remote = address(response, HeaderName::To)?;
        let remote_tag = match remote.tag {
            Some(tag) => tag,
            // §12.1.2: a UA of RFC 2543 has none. Its provisional responses make no dialog.
            None if status.is_success() => &[],
            None => return Err(Error::MissingTag),
        };
        Self::pack(
            [
                received.call_id,
                local.tag.ok_or(Error::MissingTag)?,
                remote_tag,
                &address_text(&local)?,
                &address_text(&remote)?,
                // Phones leave Contact out of a 180; until they name their target, the Request-URI leads there.
                target(response)?.unwrap_or(uri),
                &route_set(response, true)?,
            ],
            Self {
                text: Box::default(),
                ends: [0; _],
                local_cseq: received.cseq.number,
                remote_cseq: None,
                state: if status.is_success() { DialogState::Confirmed } else { DialogState::Early },
                is_uac: true,
                is_secure: is_sips(uri),
            },
        )
    }

    /// The dialog that a response of ours with `local_tag` makes to a request that came over `transport` (§12.1.1). It is
    /// early until [`Dialog::confirm`].
    ///
    /// # Errors
    /// One of the headers is missing, malformed or too long: the request is answered with [`Error::response`].
    pub fn uas(request: &Message<'_>, local_tag: &[u8], transport: Transport) -> Result<Self, Error> {
        let received = request.request()?;
        let is_encrypted = matches!(transport, Transport::Tls | Transport::Wss);
        Self::pack(
            [
                received.call_id,
                local_tag,
                // §12.1.1: a UA of RFC 2543 has none.
                received.from.tag.unwrap_or_default(),
                &address_text(&received.to)?,
                &address_text(&received.from)?,
                target(request)?.ok_or(sip::Error::Missing(HeaderName::Contact))?,
                &route_set(request, false)?,
            ],
            Self {
                text: Box::default(),
                ends: [0; _],
                local_cseq: 0,
                remote_cseq: Some(received.cseq.number),
                state: DialogState::Early,
                is_uac: false,
                is_secure: is_encrypted && is_sips(received.uri),
            },
        )
    }

    /// `dialog` with these parts. Whatever they come from, a dialog in hand writes sound messages and can be kept.
    pub(crate) fn pack(parts: [&[u8]; Part::COUNT], dialog: Self) -> Result<Self, Error> {
        if let Some(part) = Part::ALL.into_iter().find(|part| !part.is_sound(parts[*part as usize])) {
            return Err(sip::Error::Malformed(part.header(dialog.is_uac)).into());
        }
        if parts.iter().map(|p| p.len()).sum::<usize>() > Self::MAX_TEXT_OCTETS {
            return Err(Error::TooLong);
        }
        let text: Box<[u8]> = parts.concat().into();
        let mut end = 0;
        let ends = parts.map(|p| {
            end += p.len() as u16;
            end
        });
        Ok(Self { text, ends, ..dialog })
    }

    pub(crate) fn part(&self, part: Part) -> &[u8] {
        let index = part as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[usize::from(start)..usize::from(self.ends[index])]
    }

    pub(crate) fn parts(&self) -> [&[u8]; Part::COUNT] {
        Part::ALL.map(|part| self.part(part))
    }

    /// Puts `with` in the place of one part.
    fn replace(&mut self, part: Part, with: &[u8]) -> Result<(), Error> {
        let mut parts = self.parts();
        parts[part as usize] = with;
        *self = Self::pack(parts, Self { text: Box::default(), ..*self })?;
        Ok(())
    }

    /// Takes note of a request within the dialog (§12.2.2). ACK and CANCEL carry the number of their INVITE and pass.
    ///
    /// # Errors
    /// It is out of order: its answer is a 500, and nothing has changed.
    pub fn receive(&mut self, request: &Request<'_>) -> Result<(), OutOfOrder> {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        // §12.2.2 speaks of lower numbers. An equal one in another transaction is out of order just as well: the sender
        // counts each request up by one (§12.2.1.1).
        if self.remote_cseq.is_some_and(|last| request.cseq.number <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(request.cseq.number);
        Ok(())
    }

    /// Takes the peer's Contact as the new remote target (§12.2.1.2, §12.2.2) from a target refresh request or a 2xx to
    /// one ([`refreshes_target`]). Call it as the request is accepted (RFC 6141 §4, RFC 5057 §5.4): one that is refused changes nothing.
    /// True if the target is another one now.
    ///
    /// # Errors
    /// The Contact is malformed or too long; the target stays.
    pub fn refresh_target(&mut self, message: &Message<'_>) -> Result<bool, Error> {
        match target(message)? {
            Some(new) if new != self.remote_target() => self.replace(Part::RemoteTarget, new).map(|()| true),
            _ => Ok(false),
        }
    }

    /// As the UAC: takes a 2xx to the INVITE which made the early dialog. The route set is computed anew (§13.2.2.4).
    ///
    /// # Errors
    /// A header of it is malformed or too long; then the dialog is confirmed all the same, with the route set and the
    /// target that it has.
    pub fn confirm_by(&mut self, response: &Message<'_>) -> Result<(), Error> {
        self.confirm();
        let routes = route_set(response, true)?;
        self.refresh_target(response)?;
        if routes != self.route_set() {
            self.replace(Part::RouteSet, &routes)?;
        }
        Ok(())
    }

    /// As the UAS: our 2xx has been sent.
    pub fn confirm(&mut self) {
        if self.state == DialogState::Early {
            self.state = DialogState::Confirmed;
        }
    }

    /// Counts requests of ours that were sent in it before it was made anew: the next one's number is above `cseq`
    /// (§12.2.1.1).
    pub fn count_from(&mut self, cseq: u32) {
        self.local_cseq = self.local_cseq.max(cseq);
    }

    /// The number of a further request of ours (§12.2.1.1), one that is not written by [`Dialog::write_request`].
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.local_cseq
    }

    /// Ends it.
    pub fn terminate(&mut self) {
        self.state = DialogState::Terminated;
    }

    /// The state.
    pub fn state(&self) -> DialogState {
        self.state
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &[u8] {
        self.part(Part::CallId)
    }

    /// Our tag.
    pub fn local_tag(&self) -> &[u8] {
        self.part(Part::LocalTag)
    }

    /// The peer's tag; empty where he has none.
    pub fn remote_tag(&self) -> &[u8] {
        self.part(Part::RemoteTag)
    }

    /// Our address as From carries it, without the tag.
    pub fn local(&self) -> &[u8] {
        self.part(Part::Local)
    }

    /// The peer's address as To carries it, without the tag.
    pub fn remote(&self) -> &[u8] {
        self.part(Part::Remote)
    }

    /// The URI that requests of ours are for.
    pub fn remote_target(&self) -> &[u8] {
        self.part(Part::RemoteTarget)
    }

    /// The values of Route that requests of ours take, comma-separated.
    pub fn route_set(&self) -> &[u8] {
        self.part(Part::RouteSet)
    }

    /// The sequence number of our last request; 0 before the first.
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The sequence number of the peer's last request, if there was one.
    pub fn remote_cseq(&self) -> Option<u32> {
        self.remote_cseq
    }

    /// Whether the Call-ID is ours: we sent the request that began the dialog (§14.1 asks for it at a glare).
    pub fn owns_call_id(&self) -> bool {
        self.is_uac
    }

    /// Whether it may only use SIPS (§12.1.1).
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it has that identifier (§12).
    pub fn matches(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> bool {
        self.call_id() == call_id && self.local_tag() == local_tag && self.remote_tag() == remote_tag
    }

    /// Its key in a table.
    pub fn key(&self, hash: &DialogHash) -> DialogKey {
        hash.key(self.call_id(), self.local_tag(), self.remote_tag())
    }

    /// Octets of memory that it takes, itself included.
    pub fn octets(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

impl std::fmt::Debug for Dialog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.state, self.parts().map(String::from_utf8_lossy).join(" | "))
    }
}

/// Whether a request of that method, or a 2xx to it, may move the remote target (RFC 3261 §12.2; RFC 3311 §5.2;
/// RFC 5057 §5.4). Such a request carries our Contact.
pub fn refreshes_target(method: Method<'_>) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer)
}

fn address<'b>(message: &Message<'b>, name: HeaderName) -> Result<Address<'b>, Error> {
    let value = message.value(name).ok_or(sip::Error::Missing(name))?;
    Ok(Address::from_value(value).ok_or(sip::Error::Malformed(name))?)
}

/// Display name and URI, on one line.
fn address_text(address: &Address<'_>) -> Result<Vec<u8>, Error> {
    let party = Party::received(address, &[]).map_err(|_| sip::Error::MalformedUri)?;
    let mut out = Vec::with_capacity(address.raw.len() + 2);
    party.write(&mut out);
    Ok(out)
}

/// The URI of the first Contact. §12.1.1: it is a SIP or SIPS URI. Its headers cannot stand in a Request-URI (§19.1.5).
fn target<'b>(message: &Message<'b>) -> Result<Option<&'b [u8]>, Error> {
    let Some(contact) = message.addresses(HeaderName::Contact).next() else { return Ok(None) };
    Ok(Some(contact?.parse_uri()?.sip()?.without_headers()))
}

/// The values of Record-Route, comma-separated; for a UAC from the last to the first (§12.1.2).
fn route_set(message: &Message<'_>, is_reversed: bool) -> Result<Vec<u8>, Error> {
    let mut routes = Vec::new();
    for route in message.addresses(HeaderName::RecordRoute) {
        let route = route?;
        route.parse_uri()?.sip()?;
        routes.push(route);
        if routes.len() > Dialog::MAX_TEXT_OCTETS / MIN_ROUTE_OCTETS {
            return Err(Error::TooLong);
        }
    }
    if is_reversed {
        routes.reverse();
    }
    let mut out = Vec::new();
    for (i, route) in routes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'<');
        out.extend_from_slice(route.uri);
        out.push(b'>');
        text::put_clean(&mut out, route.params.as_bytes());
    }
    Ok(out)
}

/// `<sip:a>`.
const MIN_ROUTE_OCTETS: usize = 7;
