//! What the proxy answers itself, statelessly (RFC 3261 §8.2.7, §16.3), and why.

use super::{AtWork, Incoming, hop::NoHop, serve::is_inward};
use agent::{Draft, Flow, Outbox, Received, Way};
use sip::{Error, HeaderName, Message, Method, Octets, StatusCode, write};

/// Methods that are answered when they are for us (§20.5).
const ALLOW: &[u8] =
    b"INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH, REFER, UPDATE, PRACK, INFO";

/// Extensions that the proxy and the registrar know.
const EXTENSIONS: [&str; 2] = ["path", "outbound"];

/// Why a request is not forwarded.
pub(super) enum Refusal {
    /// It breaks the grammar.
    Fault(Error),
    /// It gets this answer.
    Status(StatusCode),
    /// It asks for unknown extensions in this header (§16.3 step 5, §8.2.2.3).
    BadExtension(HeaderName),
    /// Nobody is well who could serve it.
    Unserved,
    /// It was answered already, or given to whom it is for.
    Answered,
}

impl From<Error> for Refusal {
    fn from(fault: Error) -> Self {
        Self::Fault(fault)
    }
}

impl AtWork<'_> {
    /// Answers a request that is refused.
    pub(super) fn answer_refusal<'t>(
        &mut self,
        received: &Received<'t>,
        message: &Message<'t>,
        refusal: Refusal,
        out: &mut Outbox<'t>,
    ) {
        match refusal {
            Refusal::Answered => {}
            Refusal::Fault(fault) => self.refuse(received, message, fault, out),
            Refusal::Status(status) => self.answer(received, message, status, status.reason(), |_| (), out),
            Refusal::BadExtension(name) => {
                let status = StatusCode::BAD_EXTENSION;
                let unsupported = |draft: &mut Draft<'t>| {
                    for tag in unknown_extensions(message, name) {
                        write::header(draft, HeaderName::Unsupported, tag);
                    }
                };
                self.answer(received, message, status, status.reason(), unsupported, out);
            }
            Refusal::Unserved => {
                self.counters.unserved += 1;
                self.refuse_for_now(received, message, out);
            }
        }
    }

    /// A request for the proxy itself: it has a domain of ours and no user part.
    pub(super) fn serve_own<'t>(&mut self, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Refusal {
        let Incoming { received, message, request, .. } = incoming;
        // §11.2: an OPTIONS without a user part asks the proxy itself.
        if request.method != Method::Options {
            return Refusal::Status(StatusCode::NOT_FOUND);
        }
        // §8.2.2.3: here we are the UAS.
        if unknown_extensions(message, HeaderName::Require).next().is_some() {
            return Refusal::BadExtension(HeaderName::Require);
        }
        let status = StatusCode::OK;
        let capabilities = |draft: &mut Draft<'t>| {
            draft.put(b"Allow: ");
            draft.put(ALLOW);
            draft.put(b"\r\nAccept: application/sdp\r\n");
            for extension in EXTENSIONS {
                write::header(draft, HeaderName::Supported, extension.as_bytes());
            }
        };
        self.answer(received, message, status, status.reason(), capabilities, out);
        Refusal::Answered
    }

    /// Refuses a new request because there is more to do than time for it (§21.5.4).
    pub fn refuse_overloaded<'t>(&mut self, received: &Received<'t>, message: &Message<'t>, out: &mut Outbox<'t>) {
        self.counters.overloaded += 1;
        self.refuse_for_now(received, message, out);
    }

    /// 503 with the time after which to come back.
    fn refuse_for_now<'t>(&mut self, received: &Received<'t>, message: &Message<'t>, out: &mut Outbox<'t>) {
        let (status, secs) = (StatusCode::SERVICE_UNAVAILABLE, self.settings.retry_after_secs);
        let retry_after = |draft: &mut Draft<'t>| {
            draft.put(b"Retry-After: ");
            draft.put_number(secs.into());
            draft.put(b"\r\n");
        };
        self.answer(received, message, status, status.reason(), retry_after, out);
    }

    /// Answers what could not even be parsed, if enough of it can be read (§16.3 step 1); drops it else.
    pub fn refuse_unparsed<'t>(&mut self, received: &Received<'t>, fault: Error, out: &mut Outbox<'t>) {
        match Message::salvage(received.octets, &self.settings.limits) {
            Some(message) if message.is_request() => self.refuse(received, &message, fault, out),
            _ => self.counters.unreadable += 1,
        }
    }

    fn refuse<'t>(&mut self, received: &Received<'t>, message: &Message<'t>, fault: Error, out: &mut Outbox<'t>) {
        self.counters.malformed += 1;
        let status = fault.response();
        self.answer(received, message, status, &fault.to_string(), |_| (), out);
    }

    pub(super) fn unroutable(&mut self, no_hop: NoHop) -> Refusal {
        self.counters.unroutable += 1;
        Refusal::Status(match no_hop {
            // RFC 3263 §4.3: no server found is as good as a 503 from it; §16.7 makes that a 500 for those upstream.
            NoHop::Name | NoHop::Address => StatusCode::SERVER_INTERNAL_ERROR,
            NoHop::Transport => StatusCode::UNSUPPORTED_URI_SCHEME,
        })
    }

    /// Answers a request ourselves, statelessly (§8.2.7). Nobody answers an ACK (§17.1.1.3), nor what has no Via.
    pub(super) fn answer<'t>(
        &mut self,
        received: &Received<'t>,
        message: &Message<'t>,
        status: StatusCode,
        reason: &str,
        more: impl FnOnce(&mut Draft<'t>),
        out: &mut Outbox<'t>,
    ) {
        let is_ack = matches!(message.start_line(), sip::StartLine::Request { method: Method::Ack, .. });
        if is_ack || message.value(HeaderName::Via).is_none() {
            self.counters.unreadable += u64::from(!is_ack);
            return;
        }
        let settings = self.settings;
        let mut draft = out.draft();
        let tag = settings.keys.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, reason, &tag, received.flow.peer);
        more(&mut draft);
        if !settings.server.is_empty() {
            draft.put(b"Server: ");
            draft.put(settings.server.as_bytes());
            draft.put(b"\r\n");
        }
        write::finish(&mut draft, b"");
        match is_inward(&received.flow) {
            true => out.post(Way::Response(received.flow), draft.into_bump_slice()),
            false => out.send_draft(answer_flow(received.flow, message), draft),
        }
        self.counters.answered += 1;
    }
}

/// The extensions that `message` asks for in header `name` and that we do not know.
pub(super) fn unknown_extensions<'m, 't>(
    message: &'m Message<'t>,
    name: HeaderName,
) -> impl Iterator<Item = &'t [u8]> + 'm {
    let is_known = move |tag: &[u8]| {
        name == HeaderName::Require && EXTENSIONS.iter().any(|e| tag.eq_ignore_ascii_case(e.as_bytes()))
    };
    message.tokens(name).filter(move |tag| !is_known(tag))
}

/// Where an answer of ours to `message`, which came on `flow`, goes: by its topmost Via if that can be read, else back.
pub(crate) fn answer_flow(flow: Flow, message: &Message<'_>) -> Flow {
    match message.vias().next() {
        Some(Ok(via)) => flow.for_response(&via),
        _ => flow,
    }
}
