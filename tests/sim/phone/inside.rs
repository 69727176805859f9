//! Inside a dialog: BYE (RFC 3261 §15), re-INVITE (§14), UPDATE (RFC 3311), PRACK, INFO, REFER.

use super::{Asked, Outcome, Phase, Phone, Tag, sdp_body, user_agent, with_body};
use crate::script::Act;
use agent::{Flow, Now, Outbox};
use dialog::{Conflict, Contact, Field, Meaning, NewResponse, Place, RAck, glare_retry, retry_after_secs};
use sip::{HeaderName, Message, Method, Request, StatusCode};
use std::time::Duration;
use transaction::ServerId;

impl Phone {
    #[expect(clippy::too_many_arguments, reason = "a request's parts")]
    pub(super) fn send_inside<'t>(
        &mut self,
        now: Now,
        number: usize,
        index: usize,
        asked: Asked,
        method: Method<'t>,
        fields: &[Field<'_>],
        body: Option<&str>,
        out: &mut Outbox<'t>,
    ) {
        let branch = self.rng.next();
        let mut octets = out.draft();
        let dialog = &mut self.calls[number].legs[index].dialog;
        let ua = user_agent(&self.name, &self.tokens);
        dialog.write_request(ua, branch, method, fields, body.map(sdp_body), &mut octets).expect("methods are tokens");
        self.send(now, Tag { call: number, leg: index, asked }, method, branch, octets.into_bump_slice(), out);
    }

    /// Ends a call, or one leg of it that nobody wants.
    pub(super) fn hang_up(&mut self, now: Now, number: usize, index: usize, out: &mut Outbox<'_>) {
        self.send_inside(now, number, index, Asked::Bye, Method::Bye, &[], None, out);
        if self.calls[number].talking.is_none_or(|talking| talking == index) {
            self.over(number, Outcome::HungUp);
        }
    }

    pub(super) fn act_inside(&mut self, now: Now, number: usize, act: Act, out: &mut Outbox<'_>) {
        let call = &mut self.calls[number];
        let index = call.talking.expect("it is talking");
        match act {
            Act::Move(address) => {
                (self.address, self.media) = (address, address.ip());
                self.act_inside(now, number, Act::Resume, out);
            }
            Act::Hold | Act::Resume => {
                if !call.legs[index].session.may_invite() {
                    self.agenda.push((Duration::from_secs(1), number, act));
                    return;
                }
                call.is_holding = act == Act::Hold;
                let body = call.describe(self.media);
                call.legs[index].session.sent(Place::Invite, true).expect("it may invite");
                self.send_inside(now, number, index, Asked::Reinvite, Method::Invite, &[], Some(&body), out);
            }
            Act::Update => {
                if !call.legs[index].session.may_offer() {
                    self.agenda.push((Duration::from_secs(1), number, act));
                    return;
                }
                let body = call.describe(self.media);
                call.legs[index].session.sent(Place::Update, true).expect("it may offer");
                self.send_inside(now, number, index, Asked::Update, Method::Update, &[], Some(&body), out);
            }
            Act::Info => self.send_inside(now, number, index, Asked::Other, Method::Info, &[], None, out),
            Act::Refer(target) => {
                let fields = [Field::own(HeaderName::ReferTo, target.as_bytes())];
                self.send_inside(now, number, index, Asked::Other, Method::Refer, &fields, None, out);
            }
            Act::Progress(_)
            | Act::Answer
            | Act::Refuse(_)
            | Act::Redirect(_)
            | Act::Challenge
            | Act::Cancel
            | Act::HangUp => {}
        }
    }

    pub(super) fn hear_reinvite(
        &mut self,
        now: Now,
        tag: Tag,
        message: &Message<'_>,
        cseq: u32,
        status: StatusCode,
        out: &mut Outbox<'_>,
    ) {
        if status.is_provisional() || (status.is_success() && self.repeat_ack(tag.call, tag.leg, cseq, out)) {
            return;
        }
        if status.is_success() {
            let call = &mut self.calls[tag.call];
            call.see_media(message);
            if let Err(error) = call.legs[tag.leg].dialog.refresh_target(message) {
                self.fault(format!("{error:?} in {message:?}"));
            }
            self.check(tag.call, tag.leg, Place::Success, !message.body().is_empty(), message);
            self.send_ack(tag.call, tag.leg, cseq, out);
            return;
        }
        self.check(tag.call, tag.leg, Place::Failure, false, message);
        let call = &self.calls[tag.call];
        match status {
            _ if call.phase == Phase::Over => {}
            StatusCode::REQUEST_PENDING => {
                let after = glare_retry(call.legs[tag.leg].dialog.owns_call_id(), self.rng.next());
                let act = if call.is_holding { Act::Hold } else { Act::Resume };
                self.agenda.push((after, tag.call, act));
            }
            // §12.2.1.2: the peer knows nothing of the dialog.
            StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST | StatusCode::REQUEST_TIMEOUT => {
                self.hang_up(now, tag.call, tag.leg, out);
            }
            _ => {}
        }
    }

    pub(super) fn hear_inside(&mut self, tag: Tag, message: &Message<'_>, status: StatusCode) {
        if status.is_provisional() {
            return;
        }
        let place = match (tag.asked, status.is_success()) {
            (Asked::Prack, true) => Place::PrackSuccess,
            (Asked::Prack, false) => Place::PrackFailure,
            (Asked::Update, true) => Place::UpdateSuccess,
            (Asked::Update, false) => Place::UpdateFailure,
            _ => return,
        };
        self.calls[tag.call].see_media(message);
        let has_description = status.is_success() && !message.body().is_empty();
        self.check(tag.call, tag.leg, place, has_description, message);
    }

    pub(super) fn timed_out(&mut self, now: Now, tag: Tag, out: &mut Outbox<'_>) {
        let place = match tag.asked {
            Asked::Invite => return self.over(tag.call, Outcome::TimedOut),
            Asked::Reinvite if self.calls[tag.call].phase != Phase::Over => {
                return self.hang_up(now, tag.call, tag.leg, out);
            }
            Asked::Prack => Place::PrackFailure,
            Asked::Update => Place::UpdateFailure,
            Asked::Reinvite | Asked::Bye | Asked::Other => return,
        };
        // The offer that it had is withdrawn.
        let _ = self.calls[tag.call].legs[tag.leg].session.received(place, false);
    }

    /// A request inside a dialog (§12.2.2).
    pub(super) fn receive_inside(
        &mut self,
        now: Now,
        id: ServerId,
        message: &Message<'_>,
        request: &Request<'_>,
        flow: Flow,
        out: &mut Outbox<'_>,
    ) {
        let tags = (request.to.tag.unwrap_or_default(), request.from.tag.unwrap_or_default());
        let found = self.calls.iter().enumerate().rev().find_map(|(number, call)| {
            let index = call.legs.iter().position(|leg| leg.dialog.matches(request.call_id, tags.0, tags.1))?;
            Some((number, index))
        });
        let refusal = |status| NewResponse::new(status, b"");
        let Some((number, index)) = found else {
            self.respond(now, id, message, flow, &refusal(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST), out);
            return;
        };
        let call = &mut self.calls[number];
        if call.phase == Phase::Over && request.method != Method::Bye {
            self.respond(now, id, message, flow, &refusal(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST), out);
            return;
        }
        if let Err(late) = call.legs[index].dialog.receive(request) {
            self.respond(now, id, message, flow, &refusal(late.response()), out);
            return;
        }
        call.received.push(String::from_utf8_lossy(request.method.as_bytes()).into_owned());
        let asked = if request.method == Method::Invite { Asked::Reinvite } else { Asked::Other };
        self.transactions.set_user(id, Tag { call: number, leg: index, asked });
        match request.method {
            Method::Bye => {
                let reason = message.value(HeaderName::Reason);
                self.calls[number].reason = reason.map(|reason| String::from_utf8_lossy(reason).into_owned());
                self.respond(now, id, message, flow, &refusal(StatusCode::OK), out);
                let call = &mut self.calls[number];
                let is_waiting = !call.is_caller && matches!(call.phase, Phase::Start | Phase::Ringing);
                if is_waiting {
                    // §15.1.2: what is pending gets a 487.
                    self.refuse(now, number, StatusCode::REQUEST_TERMINATED.get(), Contact::Absent, &[], out);
                }
                if self.calls[number].talking.is_none_or(|talking| talking == index) {
                    self.over(number, Outcome::HungUpByPeer);
                }
            }
            Method::Invite if self.calls[number].lacks_format(message) => {
                self.respond(now, id, message, flow, &refusal(StatusCode::NOT_ACCEPTABLE_HERE), out);
            }
            Method::Invite => {
                self.calls[number].wander();
                self.take_offer(now, id, (number, index), [Place::Invite, Place::Success], message, flow, out)
            }
            Method::Update => {
                let places = [Place::Update, Place::UpdateSuccess];
                self.take_offer(now, id, (number, index), places, message, flow, out);
            }
            Method::Prack => {
                let rack = message.value(HeaderName::RAck).and_then(|value| RAck::parse(value).ok());
                let reliable = self.calls[number].reliable.as_mut();
                let acknowledged =
                    rack.zip(reliable).is_some_and(|(rack, reliable)| reliable.acknowledge(&rack).is_ok());
                if acknowledged {
                    let places = [Place::Prack, Place::PrackSuccess];
                    self.take_offer(now, id, (number, index), places, message, flow, out);
                } else {
                    self.respond(now, id, message, flow, &refusal(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST), out);
                }
            }
            Method::Refer => {
                self.respond(now, id, message, flow, &refusal(StatusCode::DECLINE), out);
            }
            _ => {
                self.respond(now, id, message, flow, &refusal(StatusCode::OK), out);
            }
        }
    }

    /// A request that may have an offer: `places` are its own and that of its 2xx.
    #[expect(clippy::too_many_arguments, reason = "a request and all that belongs to it")]
    fn take_offer(
        &mut self,
        now: Now,
        id: ServerId,
        (number, index): (usize, usize),
        places: [Place; 2],
        message: &Message<'_>,
        flow: Flow,
        out: &mut Outbox<'_>,
    ) {
        let call = &mut self.calls[number];
        let taken = call.legs[index].session.received(places[0], !message.body().is_empty());
        let meaning = match taken {
            Ok(meaning) => meaning,
            Err(conflict) => {
                let retry_after = retry_after_secs(self.rng.next()).to_string();
                let fields = [Field::own(HeaderName::RetryAfter, retry_after.as_bytes())];
                let fields = if conflict == Conflict::Unanswered { &fields[..] } else { &[] };
                let status = conflict.response().unwrap_or(StatusCode::BAD_REQUEST);
                self.respond(now, id, message, flow, &NewResponse { fields, ..NewResponse::new(status, b"") }, out);
                return;
            }
        };
        if let Err(error) = call.legs[index].dialog.refresh_target(message) {
            self.faults.push(format!("{error:?} in {message:?}"));
        }
        call.see_media(message);
        // A re-INVITE without an offer asks for one (§14.1).
        let describes = meaning == Meaning::Offer || places[0] == Place::Invite;
        let body = describes.then(|| call.describe(self.media));
        let sent = call.legs[index].session.sent(places[1], body.is_some());
        sent.expect("a 2xx may have what the request calls for");
        self.respond(now, id, message, flow, &with_body(200, "", &[], body.as_deref()), out);
    }
}
