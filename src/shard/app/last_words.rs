//! When the last words of calls are written, and when those of a process before are said.
//!
//! They are kept in memory that outlives this process ([`Setups`]): a refusal for each INVITE that comes in, a CANCEL for each that
//! goes out, and the final response that was sent, until its ACK comes. What a process before has left is said at once, and a few
//! times again.

use super::{Link, setups::Setups};
use crate::shard::is_new_request;
use agent::{Draft, Flow, Now, Outbox, Posted, Way};
use sip::{Address, CSeq, HeaderName, Limits, Message, Method, StartLine, StatusCode, write};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

/// When the last words of a process before are said again, from one time to the next: a datagram may be lost, and nothing
/// acknowledges them.
const REPEATS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// The last words of one shard's calls.
pub(super) struct LastWords {
    setups: Setups,
    /// What a process before had to say, how often it has been said again, and when it is once more.
    left: Vec<Box<[u8]>>,
    repeat_at: Option<(usize, Duration)>,
}

impl LastWords {
    pub fn new(setups: Setups) -> Self {
        Self { setups, left: Vec::new(), repeat_at: None }
    }

    /// A message has come in on that flow. `is_known` tells whether it belongs to something that the server has: a copy of an
    /// INVITE that was answered a moment ago is no set-up that begins.
    pub fn note_received(
        &mut self,
        now: Now,
        message: &Message<'_>,
        flow: Flow,
        is_known: impl FnOnce() -> bool,
        link: &Link,
        out: &Outbox<'_>,
    ) {
        match setup(message) {
            Some(Setup::Begins) if !is_known() => self.keep_refusal(now, message, flow, link, out),
            Some(Setup::Begins) => {}
            Some(Setup::Ends) => self.setups.forget(transaction(message)),
            Some(Setup::Acknowledged) => self.setups.forget(acknowledgement(message)),
            None => {}
        }
    }

    /// The server sends a message.
    pub fn note_posted(&mut self, now: Now, message: &Message<'_>, posted: &Posted<'_>, link: &Link, out: &Outbox<'_>) {
        let Some(call_id) = message.call_id() else { return };
        match setup(message) {
            Some(Setup::Begins) => {
                let cancel = transaction::cancel_for(posted.octets);
                self.keep(now, transaction(message), link.posted(call_id, posted.way, &cancel, out));
            }
            Some(Setup::Ends) => {
                if let Some(answer) = link.posted(call_id, posted.way, posted.octets, out) {
                    let (before, key) = (transaction(message), acknowledgement(message));
                    self.setups.replace(now.monotonic, before, key, &answer);
                }
            }
            Some(Setup::Acknowledged) | None => {}
        }
    }

    /// Keeps what is to be answered to an INVITE if this process dies before it is: 500, by the next one.
    fn keep_refusal(&mut self, now: Now, invite: &Message<'_>, flow: Flow, link: &Link, out: &Outbox<'_>) {
        let Some(call_id) = invite.call_id() else { return };
        let key = transaction(invite);
        let mut refusal = out.draft();
        let status = StatusCode::SERVER_INTERNAL_ERROR;
        let tag = format!("{key:016x}");
        write::begin_response(&mut refusal, invite, status, status.reason(), tag.as_bytes(), flow.peer);
        write::finish(&mut refusal, b"");
        self.keep(now, key, link.posted(call_id, Way::Response(flow), &refusal, out));
    }

    fn keep(&mut self, now: Now, key: u64, datagram: Option<Draft<'_>>) {
        if let Some(datagram) = datagram {
            self.setups.keep(now.monotonic, key, &datagram);
        }
    }

    /// Takes up what a process before has left: it is to be said now, and kept until it has been said often enough.
    pub fn take_up(&mut self, now: Now, left: Vec<Box<[u8]>>) {
        self.setups.keep_left(now.monotonic, &left);
        self.left.extend(left);
        if !self.left.is_empty() {
            self.repeat_at = Some((0, now.monotonic));
        }
    }

    /// Says what the process before had to say, if it is time.
    pub fn say(&mut self, now: Now, limits: &Limits, link: &Link, out: &mut Outbox<'_>) {
        let Some((times, _)) = self.repeat_at.filter(|(_, at)| *at <= now.monotonic) else { return };
        for datagram in &self.left {
            let Some(call_id) =
                Message::parse(datagram, limits).ok().and_then(|message| message.call_id().map(<[u8]>::to_vec))
            else {
                continue;
            };
            let octets = &*out.arena().alloc_slice_copy(datagram);
            out.send(link.to_switch(&call_id), out.arena().alloc([octets]));
        }
        self.repeat_at = REPEATS.get(times).map(|pause| (times + 1, now.monotonic + *pause));
        if self.repeat_at.is_none() {
            self.setups.forget_left(&std::mem::take(&mut self.left));
        }
    }

    /// When something is to be said again.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.repeat_at.map(|(_, at)| at)
    }
}

/// The calls whose callers are about to hear that nothing came of them: Call-ID, and the caller's tag.
pub(super) fn refused<'w>(left: &'w [Box<[u8]>], limits: &Limits) -> HashSet<(&'w [u8], &'w [u8])> {
    let refused = left.iter().filter_map(|datagram| {
        let message = Message::parse(datagram, limits).ok()?;
        let is_refusal = message.response().is_ok_and(|response| !response.status.is_success());
        let from = message.value(HeaderName::From).and_then(Address::from_value)?;
        Some((message.call_id()?, from.tag?)).filter(|_| is_refusal)
    });
    refused.collect()
}

/// What a message means for a call that is being set up.
enum Setup {
    Begins,
    Ends,
    Acknowledged,
}

/// An INVITE outside a dialog begins one, its final response ends it, and an ACK tells that it was heard.
fn setup(message: &Message<'_>) -> Option<Setup> {
    match message.start_line() {
        StartLine::Request { method: Method::Invite, .. } if is_new_request(message) => Some(Setup::Begins),
        StartLine::Request { method: Method::Ack, .. } => Some(Setup::Acknowledged),
        StartLine::Request { .. } => None,
        StartLine::Response { .. } => {
            let response = message.response().ok()?;
            (response.cseq.method == Method::Invite && !response.status.is_provisional()).then_some(Setup::Ends)
        }
    }
}

/// What the messages of an INVITE transaction have in common and no other message has (RFC 3261 §17.1.3, §17.2.3).
fn transaction(message: &Message<'_>) -> u64 {
    let mut hash = DefaultHasher::new();
    if let Some(Ok(via)) = message.vias().next() {
        hash.write(via.branch.unwrap_or_default());
    }
    hash.write(message.call_id().unwrap_or_default());
    hash.write(message.value(HeaderName::CSeq).unwrap_or_default());
    hash.finish()
}

/// What the final response to an INVITE and its ACK have in common, whose branch may be another (RFC 3261 §13.2.2.4): the Call-ID,
/// the number and who called.
fn acknowledgement(message: &Message<'_>) -> u64 {
    let from = message.value(HeaderName::From).and_then(Address::from_value);
    let cseq = message.value(HeaderName::CSeq).and_then(|cseq| CSeq::parse(cseq).ok());
    let mut hash = DefaultHasher::new();
    hash.write(message.call_id().unwrap_or_default());
    hash.write(from.and_then(|from| from.tag).unwrap_or_default());
    hash.write_u32(cseq.map_or(0, |cseq| cseq.number));
    hash.finish()
}
