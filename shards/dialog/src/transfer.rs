//! Transfers: Refer-To (RFC 3515), Replaces (RFC 3891), and the NOTIFYs that tell how one goes (RFC 3515 §2.4, RFC 3420).

use crate::{Body, Dialog, DialogState, End, Field};
use sip::{Address, Error, HeaderName, Message, Octets, Parameterized, SipUri, StatusCode, Uri};

/// Refer-To (RFC 3515 §2.1): whom to call, and how.
#[derive(Clone, Copy, Debug)]
pub struct ReferTo<'b> {
    /// The value.
    pub address: Address<'b>,
    /// Its URI.
    pub uri: Uri<'b>,
}

impl<'b> ReferTo<'b> {
    /// The one that a REFER has. §2.4.2: one without exactly one is answered with a 400; the parser has seen to two.
    ///
    /// # Errors
    /// It is not there, or malformed.
    pub fn of(message: &Message<'b>) -> Result<Self, Error> {
        let value = message.value(HeaderName::ReferTo).ok_or(Error::Missing(HeaderName::ReferTo))?;
        let address = Address::from_value(value).ok_or(Error::Malformed(HeaderName::ReferTo))?;
        Ok(Self { address, uri: address.parse_uri()? })
    }

    /// The method that it asks for; INVITE where it says none.
    pub fn method(&self) -> &'b [u8] {
        self.sip().and_then(|uri| uri.param("method")).unwrap_or(b"INVITE")
    }

    /// Writes the URI to call: without headers and without the method, which no Request-URI may have (RFC 3261 §19.1.1).
    pub fn write_target(&self, out: &mut impl Octets) {
        let Some(uri) = self.sip() else { return out.put(self.address.uri) };
        let params = uri
            .params()
            .next()
            .map_or(uri.without_headers().len(), |first| first.name.as_ptr() as usize - uri.raw.as_ptr() as usize - 1);
        out.put(&uri.raw[..params]);
        for param in uri.params().filter(|p| !p.name.eq_ignore_ascii_case(b"method")) {
            out.put(b";");
            out.put(param.name);
            if let Some(value) = param.value {
                out.put(b"=");
                out.put(value);
            }
        }
    }

    /// The Replaces that the new INVITE is to carry, unescaped (RFC 3515 §2.1), for [`Replaces::parse`]. Any other header in the
    /// URI is left out: they are not the referrer's to write (RFC 3261 §19.1.5).
    pub fn replaces(&self) -> Option<Vec<u8>> {
        let fields = self.sip()?.headers().strip_prefix(b"?")?;
        fields.split(|&b| b == b'&').find_map(|field| {
            let (name, value) = field.split_at(memchr::memchr(b'=', field)?);
            name.eq_ignore_ascii_case(b"Replaces").then(|| unescape(&value[1..]))
        })
    }

    fn sip(&self) -> Option<SipUri<'b>> {
        self.uri.sip().ok()
    }
}

/// `text` with its escapes (`%` and two hexadecimal digits) undone.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let hex = |b: u8| char::from(b).to_digit(16);
        if let (b'%', [high, low, ..]) = (first, behind)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push((high * 16 + low) as u8);
            rest = &rest[3..];
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

/// Replaces (RFC 3891 §6.1): which dialog the INVITE that carries it takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaces<'b> {
    /// The Call-ID.
    pub call_id: &'b [u8],
    /// The tag of who gets the INVITE.
    pub to_tag: &'b [u8],
    /// The tag of the other end.
    pub from_tag: &'b [u8],
    /// Whether it may replace an early dialog only.
    pub early_only: bool,
}

impl<'b> Replaces<'b> {
    /// The one that an INVITE has.
    ///
    /// # Errors
    /// It is malformed.
    pub fn of(message: &Message<'b>) -> Result<Option<Self>, Error> {
        message.value(HeaderName::Replaces).map(Self::parse).transpose()
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It breaks the grammar, or has not exactly one `to-tag` and one `from-tag`.
    pub fn parse(value: &'b [u8]) -> Result<Self, Error> {
        let bad = Error::Malformed(HeaderName::Replaces);
        let parsed = Parameterized::parse(value).ok_or(bad)?;
        let one = |name: &str| {
            let mut values = parsed.params.iter().filter(|p| p.name.eq_ignore_ascii_case(name.as_bytes()));
            values.next().and_then(|p| p.value).filter(|_| values.next().is_none()).ok_or(bad)
        };
        Ok(Self {
            call_id: parsed.value,
            to_tag: one("to-tag")?,
            from_tag: one("from-tag")?,
            early_only: parsed.params.find("early-only").is_some(),
        })
    }

    /// Writes the value.
    pub fn write(&self, out: &mut impl Octets) {
        out.put(self.call_id);
        out.put(b";to-tag=");
        out.put(self.to_tag);
        out.put(b";from-tag=");
        out.put(self.from_tag);
        if self.early_only {
            out.put(b";early-only");
        }
    }

    /// Whether it names `dialog`, and which end of it is to get the INVITE: ours, as where a phone replaces its call with us;
    /// or the peer's, as where he is named in a Refer-To that passes through us.
    pub fn names(&self, dialog: &Dialog) -> Option<End> {
        // §3: a tag of 0 also stands for none, that of a UA of RFC 2543.
        let is_same = |given: &[u8], tag: &[u8]| given == tag || (given == b"0" && tag.is_empty());
        let are_same = |to: &[u8], from: &[u8]| is_same(self.to_tag, to) && is_same(self.from_tag, from);
        if self.call_id != dialog.call_id() {
            None
        } else if are_same(dialog.local_tag(), dialog.remote_tag()) {
            Some(End::Local)
        } else {
            are_same(dialog.remote_tag(), dialog.local_tag()).then_some(End::Remote)
        }
    }

    /// Whether our end of `dialog` may be replaced (§3).
    ///
    /// # Errors
    /// The status to answer the INVITE with.
    pub fn check(&self, dialog: &Dialog) -> Result<(), StatusCode> {
        match dialog.state() {
            DialogState::Terminated => Err(StatusCode::DECLINE),
            DialogState::Confirmed if self.early_only => Err(StatusCode::BUSY_HERE),
            // §3: an early dialog that the peer began is none that may be replaced.
            DialogState::Early if !dialog.owns_call_id() => Err(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
            DialogState::Early | DialogState::Confirmed => Ok(()),
        }
    }
}

/// A NOTIFY that tells the referrer how the call goes which he asked for (RFC 3515 §2.4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    event: Vec<u8>,
    state: Vec<u8>,
    body: Vec<u8>,
}

impl Progress {
    /// Tells of a response to the new INVITE. `refer_cseq` is the number of the REFER's CSeq (§2.4.6), `expires_secs` how
    /// long the subscription goes on; a final response ends it (§2.4.7).
    pub fn new(refer_cseq: u32, status: StatusCode, reason: &str, expires_secs: u32) -> Self {
        let state = if status.is_provisional() {
            SubscriptionState::Active { expires_secs: Some(expires_secs) }
        } else {
            SubscriptionState::Terminated { reason: b"noresource" }
        };
        let mut progress = Self { event: Vec::new(), state: Vec::new(), body: Vec::new() };
        progress.event.put(b"refer;id=");
        progress.event.put_number(refer_cseq.into());
        state.write(&mut progress.state);
        // RFC 3420 §2: a status line alone is enough of a message.
        progress.body.put(b"SIP/2.0 ");
        progress.body.put_number(status.get().into());
        progress.body.put(b" ");
        crate::text::put_clean(&mut progress.body, reason.as_bytes());
        progress.body.put(b"\r\n");
        progress
    }

    /// Event and Subscription-State.
    pub fn fields(&self) -> [Field<'_>; 2] {
        [Field::own(HeaderName::Event, &self.event), Field::own(HeaderName::SubscriptionState, &self.state)]
    }

    /// The body.
    pub fn body(&self) -> Body<'_> {
        Body { content_type: Body::SIPFRAG, octets: &self.body }
    }

    /// The status that a NOTIFY of a peer tells: that of its sipfrag's status line.
    pub fn status_of(notify: &Message<'_>) -> Option<StatusCode> {
        let value = notify.value(HeaderName::ContentType)?;
        if !Parameterized::parse(value)?.value.eq_ignore_ascii_case(b"message/sipfrag") {
            return None;
        }
        let (code, behind) = notify.body().strip_prefix(b"SIP/2.0 ")?.split_at_checked(3)?;
        let ends = matches!(behind.first(), None | Some(b' ' | b'\r' | b'\n'));
        sip::number(code).filter(|_| ends).and_then(|n| u16::try_from(n).ok()).and_then(StatusCode::new)
    }
}

/// Subscription-State (RFC 6665 §8.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState<'b> {
    /// `active`
    Active {
        /// Seconds that are left.
        expires_secs: Option<u32>,
    },
    /// `pending`
    Pending {
        /// Seconds that are left.
        expires_secs: Option<u32>,
    },
    /// `terminated`, with the reason; empty where none is given.
    Terminated {
        /// The reason.
        reason: &'b [u8],
    },
}

impl<'b> SubscriptionState<'b> {
    /// The one that a NOTIFY has.
    ///
    /// # Errors
    /// It is not there, malformed, or of a state that nobody knows.
    pub fn of(message: &Message<'b>) -> Result<Self, Error> {
        let name = HeaderName::SubscriptionState;
        let value = message.value(name).ok_or(Error::Missing(name))?;
        let parsed = Parameterized::parse(value).ok_or(Error::Malformed(name))?;
        let expires_secs = parsed.params.value("expires").and_then(sip::number);
        match parsed.value {
            v if v.eq_ignore_ascii_case(b"active") => Ok(Self::Active { expires_secs }),
            v if v.eq_ignore_ascii_case(b"pending") => Ok(Self::Pending { expires_secs }),
            v if v.eq_ignore_ascii_case(b"terminated") => {
                Ok(Self::Terminated { reason: parsed.params.value("reason").unwrap_or_default() })
            }
            _ => Err(Error::Malformed(name)),
        }
    }

    /// Writes the value.
    pub fn write(&self, out: &mut impl Octets) {
        let (state, expires_secs) = match *self {
            Self::Active { expires_secs } => (b"active".as_slice(), expires_secs),
            Self::Pending { expires_secs } => (b"pending".as_slice(), expires_secs),
            Self::Terminated { reason } => {
                out.put(b"terminated");
                if !reason.is_empty() {
                    out.put(b";reason=");
                    out.put(reason);
                }
                return;
            }
        };
        out.put(state);
        if let Some(secs) = expires_secs {
            out.put(b";expires=");
            out.put_number(secs.into());
        }
    }
}
