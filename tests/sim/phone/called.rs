//! The callee: an INVITE that comes (RFC 3261 §13.3), reliable provisional responses (RFC 3262 §3), CANCEL (§9.2).

use super::{Asked, Call, Outcome, Phase, Phone, Tag, call::Leg, with_body};
use crate::script::{Act, When};
use agent::{Flow, Now, Outbox, Way};
use dialog::{Contact, Dialog, End, Field, NewResponse, Place, Reliable, Resend, supports};
use sip::{HeaderName, Limits, Message, StatusCode};
use std::time::Duration;
use transaction::ServerId;

/// T1, by which reliable provisional responses are repeated.
const T1: Duration = Duration::from_millis(500);

impl Phone {
    pub(super) fn invited(&mut self, now: Now, id: ServerId, message: &Message<'_>, flow: Flow, out: &mut Outbox<'_>) {
        let script = (self.incoming)(&mut self.rng);
        let (number, tag) = (self.calls.len(), self.new_tag());
        let call_id = String::from_utf8_lossy(message.call_id().unwrap_or_default()).into_owned();
        let dialog = match Dialog::uas(message, tag.as_bytes(), flow.transport) {
            Ok(dialog) => dialog,
            Err(error) => return self.fault(format!("{error:?} in {message:?}")),
        };
        let mut call = Call::new(false, script, call_id, tag);
        call.invite = message.bytes().to_vec();
        call.flow = Some(flow);
        call.server = Some(id);
        call.see_media(message);
        call.session.received(Place::Invite, !message.body().is_empty()).expect("the first INVITE may have an offer");
        if call.script.is_reliable && supports(message, "100rel") {
            call.reliable = Some(Reliable::new(dialog.remote_cseq().unwrap_or_default(), self.rng.next()));
        }
        call.legs.push(Leg::new(dialog, call.session));
        self.calls.push(call);
        self.transactions.set_user(id, Tag { call: number, leg: 0, asked: Asked::Invite });
        self.transactions.trying(now, id, message, out);
        self.enter(number, Phase::Start, When::Start);
        if self.calls[number].lacks_format(message) {
            self.refuse(now, number, StatusCode::NOT_ACCEPTABLE_HERE.get(), Contact::Absent, &[], out);
        }
    }

    /// Responds to the INVITE that began a call.
    fn respond_to_invite<'t>(
        &mut self,
        now: Now,
        number: usize,
        response: &NewResponse<'_>,
        out: &mut Outbox<'t>,
    ) -> &'t [u8] {
        let call = &self.calls[number];
        let (id, flow) = (call.server.expect("it has been called"), call.flow.expect("it has been called"));
        let invite = Message::parse(&call.invite, &Limits::default()).expect("it was parsed before it was kept");
        let mut octets = out.draft();
        response.write(self.ua(), &invite, flow.peer, &mut octets);
        let octets: &'t [u8] = octets.into_bump_slice();
        self.transactions.respond(now, id, response.status, octets, out);
        octets
    }

    pub(super) fn progress(&mut self, now: Now, number: usize, status: u16, out: &mut Outbox<'_>) {
        let call = &mut self.calls[number];
        let is_reliable = call.reliable.is_some();
        if call.reliable.as_ref().is_some_and(|reliable| !reliable.may_send()) {
            // RFC 3262 §3: one after the other.
            self.agenda.push((T1, number, Act::Progress(status)));
            return;
        }
        let place = if is_reliable { Place::ReliableProvisional } else { Place::Provisional };
        let describes = status >= 183 && call.legs[0].session.would_send(place).is_ok();
        let body = describes.then(|| call.describe(self.media));
        let _ = call.legs[0].session.sent(place, body.is_some());
        let rseq = call.reliable.as_ref().map_or(0, Reliable::next_rseq).to_string();
        let fields = [Field::own(HeaderName::Require, b"100rel"), Field::own(HeaderName::RSeq, rseq.as_bytes())];
        let fields = if is_reliable { &fields[..] } else { &[] };
        let tag = call.local_tag.clone();
        let octets = self.respond_to_invite(now, number, &with_body(status, &tag, fields, body.as_deref()), out);
        let call = &mut self.calls[number];
        if let Some(reliable) = &mut call.reliable {
            reliable.sent(now, T1, octets, body.is_some());
        }
        call.phase = Phase::Ringing;
    }

    pub(super) fn resend_reliables(&mut self, now: Now, out: &mut Outbox<'_>) {
        for number in 0..self.calls.len() {
            let call = &mut self.calls[number];
            let Some(reliable) = &mut call.reliable else { continue };
            match reliable.handle_timeout(now) {
                Resend::Nothing => {}
                Resend::Response(octets) => {
                    let way = Way::Response(call.flow.expect("it has been called"));
                    out.post(way, out.arena().alloc_slice_copy(octets));
                }
                Resend::GiveUp => self.refuse(now, number, Resend::GIVE_UP_STATUS.get(), Contact::Absent, &[], out),
            }
        }
    }

    pub(super) fn answer(&mut self, now: Now, number: usize, out: &mut Outbox<'_>) {
        let call = &mut self.calls[number];
        if call.reliable.as_ref().is_some_and(|reliable| !reliable.may_send()) {
            // RFC 3262 §3: not while a description waits for its PRACK; here: not while anything does.
            self.agenda.push((T1, number, Act::Answer));
            return;
        }
        let session = &call.legs[0].session;
        let describes = session.outstanding() == Some(End::Remote) || !session.is_agreed();
        let body = describes.then(|| call.describe(self.media));
        let sent = call.legs[0].session.sent(Place::Success, body.is_some());
        sent.expect("a 2xx may have what is missing");
        call.legs[0].dialog.confirm();
        call.phase = Phase::Answered;
        call.talking = Some(0);
        call.was_answered = true;
        if let Some(reliable) = &mut call.reliable {
            reliable.stop();
        }
        let tag = call.local_tag.clone();
        self.respond_to_invite(now, number, &with_body(200, &tag, &[], body.as_deref()), out);
    }

    pub(super) fn refuse(
        &mut self,
        now: Now,
        number: usize,
        status: u16,
        contact: Contact<'_>,
        fields: &[Field<'_>],
        out: &mut Outbox<'_>,
    ) {
        if let Some(reliable) = &mut self.calls[number].reliable {
            reliable.stop();
        }
        let tag = self.calls[number].local_tag.clone();
        self.respond_to_invite(now, number, &NewResponse { contact, ..with_body(status, &tag, fields, None) }, out);
        self.over(number, Outcome::Refused(status));
    }

    pub(super) fn cancelled(
        &mut self,
        now: Now,
        id: ServerId,
        invite: Option<ServerId>,
        message: &Message<'_>,
        flow: Flow,
        out: &mut Outbox<'_>,
    ) {
        let Some(tag) = invite.and_then(|invite| self.transactions.server_user(invite)) else {
            let response = NewResponse::new(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST, b"none");
            self.respond(now, id, message, flow, &response, out);
            return;
        };
        // §9.2: the To tag is that of the responses to the INVITE.
        let local_tag = self.calls[tag.call].local_tag.clone();
        self.respond(now, id, message, flow, &NewResponse::new(StatusCode::OK, local_tag.as_bytes()), out);
        let is_waiting = matches!(self.calls[tag.call].phase, Phase::Start | Phase::Ringing);
        if tag.asked == Asked::Invite && is_waiting {
            self.refuse(now, tag.call, StatusCode::REQUEST_TERMINATED.get(), Contact::Absent, &[], out);
        }
    }

    /// An ACK for a 2xx.
    pub(super) fn acknowledged(&mut self, tag: Tag, message: &Message<'_>) {
        let call = &mut self.calls[tag.call];
        call.see_media(message);
        self.check(tag.call, tag.leg, Place::Ack, !message.body().is_empty(), message);
        if self.calls[tag.call].phase == Phase::Answered {
            self.enter(tag.call, Phase::Talking, When::Talking);
        }
    }
}
