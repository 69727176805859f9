//! The caller: INVITE and the responses to it (RFC 3261 §13.2), challenges (§22.2), PRACK (RFC 3262 §4).

use super::{Asked, Call, Outcome, Phase, Phone, Tag, call::Leg, sdp_body, user_agent};
use crate::script::{Script, When};
use agent::{Now, Outbox, Way};
use dialog::{Conflict, Dialog, Field, NewRequest, Party, Place, RAck, Session, rseq};
use sip::{
    CSeq, HeaderName, Limits, Message, Method, StatusCode,
    digest::{Challenge, Covered, Ha1},
};

impl Phone {
    /// Calls `target`; the number of the call.
    pub fn call(&mut self, now: Now, target: &str, script: Script, out: &mut Outbox<'_>) -> usize {
        let number = self.calls.len();
        let call_id = format!("{:016x}@{}", self.rng.next(), self.name);
        let mut call = Call::new(true, script, call_id, self.new_tag());
        call.target = target.to_owned();
        self.calls.push(call);
        self.send_invite(now, number, None, out);
        self.enter(number, Phase::Start, When::Start);
        number
    }

    fn send_invite(
        &mut self,
        now: Now,
        number: usize,
        credentials: Option<(HeaderName, Vec<u8>)>,
        out: &mut Outbox<'_>,
    ) {
        let (branch, from) = (self.rng.next(), self.aor());
        let call = &mut self.calls[number];
        call.cseq += 1;
        let body = (!call.script.is_late_offer).then(|| call.describe(self.media));
        call.session = Session::new();
        call.session.sent(Place::Invite, body.is_some()).expect("the first INVITE may have an offer");
        let mut fields = Vec::new();
        if call.script.is_reliable {
            fields.push(Field::own(HeaderName::Supported, b"100rel"));
        }
        if let Some((name, value)) = &credentials {
            fields.push(Field::own(*name, value));
        }
        let from = Party::new(b"", from.as_bytes(), call.local_tag.as_bytes()).expect("a phone has a good name");
        let to = Party::new(b"", call.target.as_bytes(), b"").expect("scripts call URIs");
        let mut request = NewRequest::new(Method::Invite, call.target.as_bytes(), from, to, call.call_id.as_bytes())
            .expect("scripts call URIs");
        request.cseq = call.cseq;
        request.fields = &fields;
        request.body = body.as_deref().map(sdp_body);
        let mut octets = out.draft();
        request.write(user_agent(&self.name, &self.tokens), branch, &mut octets);
        let octets = octets.into_bump_slice();
        call.invite = octets.to_vec();
        let client =
            self.send(now, Tag { call: number, leg: 0, asked: Asked::Invite }, Method::Invite, branch, octets, out);
        self.calls[number].client = Some(client);
    }

    pub(super) fn hear_invite(
        &mut self,
        now: Now,
        tag: Tag,
        message: &Message<'_>,
        status: StatusCode,
        out: &mut Outbox<'_>,
    ) {
        match status.get() {
            100 => {}
            101..200 => self.hear_progress(now, tag.call, message, out),
            200..300 => self.hear_answer(now, tag.call, message, out),
            401 | 407 if self.calls[tag.call].script.password.is_some() && !self.calls[tag.call].has_tried_password => {
                self.try_password(now, tag.call, message, status, out);
            }
            refused => self.over(tag.call, Outcome::Refused(refused)),
        }
    }

    /// The leg that a response belongs to, a new one where its To tag is new.
    fn leg_of(&mut self, number: usize, message: &Message<'_>) -> Option<usize> {
        let call = &mut self.calls[number];
        let invite = Message::parse(&call.invite, &Limits::default()).expect("it was written here");
        let uri = invite.request().expect("it was written here").uri;
        match Dialog::uac(uri, message) {
            Ok(dialog) => Some(
                call.legs.iter().position(|leg| leg.dialog.remote_tag() == dialog.remote_tag()).unwrap_or_else(|| {
                    call.legs.push(Leg::new(dialog, call.session));
                    call.legs.len() - 1
                }),
            ),
            Err(error) => {
                self.fault(format!("{error:?} in {message:?}"));
                None
            }
        }
    }

    fn hear_progress(&mut self, now: Now, number: usize, message: &Message<'_>, out: &mut Outbox<'_>) {
        let Some(index) = self.leg_of(number, message) else { return };
        let rseq = rseq(message);
        if rseq.is_some() && !self.calls[number].script.is_reliable {
            self.fault(format!("100rel without being asked: {message:?}"));
        }
        let call = &mut self.calls[number];
        let leg = &mut call.legs[index];
        // RFC 3262 §4: a copy, or one out of order, is as if it had never come.
        if rseq.is_some_and(|rseq| !leg.acknowledging.receive(rseq)) {
            return;
        }
        let place = if rseq.is_some() { Place::ReliableProvisional } else { Place::Provisional };
        let has_description = !message.body().is_empty();
        call.see_media(message);
        self.check(number, index, place, has_description, message);
        if let Some(rseq) = rseq {
            self.send_prack(now, number, index, rseq, out);
        }
        if self.calls[number].phase == Phase::Start {
            self.enter(number, Phase::Ringing, When::Ringing);
        }
    }

    fn send_prack(&mut self, now: Now, number: usize, index: usize, rseq: u32, out: &mut Outbox<'_>) {
        let cseq = CSeq { number: self.calls[number].cseq, method: Method::Invite };
        let mut value = Vec::new();
        RAck { rseq, cseq }.write(&mut value);
        let answers = self.calls[number].legs[index].session.outstanding() == Some(dialog::End::Remote);
        let body = answers.then(|| self.calls[number].describe(self.media));
        let _ = self.calls[number].legs[index].session.sent(Place::Prack, body.is_some());
        let fields = [Field::own(HeaderName::RAck, &value)];
        self.send_inside(now, number, index, Asked::Prack, Method::Prack, &fields, body.as_deref(), out);
    }

    fn hear_answer(&mut self, now: Now, number: usize, message: &Message<'_>, out: &mut Outbox<'_>) {
        let Some(index) = self.leg_of(number, message) else { return };
        let cseq = self.calls[number].cseq;
        if self.repeat_ack(number, index, cseq, out) {
            return;
        }
        let call = &mut self.calls[number];
        if let Err(error) = call.legs[index].dialog.confirm_by(message) {
            self.fault(format!("{error:?} in {message:?}"));
        }
        self.calls[number].see_media(message);
        self.check(number, index, Place::Success, !message.body().is_empty(), message);
        self.send_ack(number, index, cseq, out);
        let call = &mut self.calls[number];
        // §13.2.2.4: a 2xx of another fork, or one that crossed the CANCEL, makes a call that is ended at once.
        if call.phase == Phase::Over || call.is_cancelled || call.talking.is_some() {
            self.hang_up(now, number, index, out);
        } else {
            call.talking = Some(index);
            call.was_answered = true;
            self.enter(number, Phase::Talking, When::Talking);
        }
    }

    /// Sends the ACK for a 2xx, with the answer where the 2xx had the offer.
    pub(super) fn send_ack(&mut self, number: usize, index: usize, cseq: u32, out: &mut Outbox<'_>) {
        let branch = self.rng.next();
        let call = &mut self.calls[number];
        let answers = call.legs[index].session.outstanding() == Some(dialog::End::Remote);
        let body = answers.then(|| call.describe(self.media));
        let leg = &mut call.legs[index];
        let _ = leg.session.sent(Place::Ack, body.is_some());
        let mut octets = out.draft();
        let ua = user_agent(&self.name, &self.tokens);
        leg.dialog.write_ack(ua, branch, cseq, &[], body.as_deref().map(sdp_body), &mut octets);
        let octets = octets.into_bump_slice();
        leg.acks.push((cseq, octets.to_vec()));
        out.post(Way::Uri, octets);
    }

    /// §13.2.2.4: the ACK goes out again for each 2xx that comes again.
    pub(super) fn repeat_ack(&self, number: usize, index: usize, cseq: u32, out: &mut Outbox<'_>) -> bool {
        let ack = self.calls[number].legs[index].acks.iter().find(|(number, _)| *number == cseq);
        if let Some((_, octets)) = ack {
            out.post(Way::Uri, out.arena().alloc_slice_copy(octets));
        }
        ack.is_some()
    }

    /// Holds a message of the peer's to the rules of offer and answer.
    pub(super) fn check(
        &mut self,
        number: usize,
        index: usize,
        place: Place,
        has_description: bool,
        message: &Message<'_>,
    ) {
        let taken = self.calls[number].legs[index].session.received(place, has_description);
        if taken == Err(Conflict::Unexpected) {
            self.fault(format!("no place for a description, or none where one must be: {message:?}"));
        }
    }

    fn try_password(
        &mut self,
        now: Now,
        number: usize,
        message: &Message<'_>,
        status: StatusCode,
        out: &mut Outbox<'_>,
    ) {
        let (asks, answers) = match status {
            StatusCode::UNAUTHORIZED => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            _ => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        };
        let challenges = message.all(asks).filter_map(|header| Challenge::parse(header.value).ok());
        let Some(challenge) = challenges.min_by_key(|challenge| challenge.algorithm.octets()) else {
            return self.fault(format!("no challenge in {message:?}"));
        };
        let call = &mut self.calls[number];
        call.has_tried_password = true;
        let password = call.script.password.expect("the script has one");
        let ha1 = Ha1::new(challenge.algorithm, self.name.as_bytes(), &challenge.realm, password.as_bytes());
        let invite = Message::parse(&call.invite, &Limits::default()).expect("it was written here");
        let covered = Covered { method: b"INVITE", uri: call.target.as_bytes(), body: invite.body() };
        let credentials = challenge.answer(self.name.as_bytes(), &ha1, &covered, 1, b"5ca1ab1e");
        let mut value = Vec::new();
        credentials.expect("the digest is of the challenge's algorithm").write_to(&mut value);
        self.send_invite(now, number, Some((answers, value)), out);
    }
}
