//! One run of calls: both ends of every call as a state machine, their timers, and the loop over the sockets.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{SocketAddrV4, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    Answer, Begins, Calls, HangsUp, Outcome,
    phone::{self, Asked, Dialog, End, Heard, Mark},
};
use crate::{
    load::{LONGEST, Latency, unreachable_server},
    message::{Numbers, SDP, Template, response_to},
    mmsg::{self, Inbox, Mailer},
    process::Memory,
};

/// The round-trip time that phones assume, and the longest pause between retransmissions (§17.1.1.1, §17.1.2.2).
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// Most calls that one turn begins.
const BATCH: u64 = 16;
/// The longest sleep, so that a call that is due is late by no more.
const NAP: Duration = Duration::from_millis(1);

/// Where the caller of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// INVITE sent, nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// The INVITE has asked for a call back and been refused, as it is to be; the parties are not joined.
    CallingBack,
    /// Answered, or joined.
    Talking,
    /// BYE sent by that end.
    HangingUp(End),
    /// The 200 of the BYE came; the far end has not heard it yet.
    HungUp,
    /// Complete or failed.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The INVITE again (Timer A), or its end (Timer B).
    Invite { sent: u8 },
    /// No final response in all the time, or no call back.
    Unanswered,
    /// The 200 of an end to the INVITE of this CSeq again until the ACK comes (§13.3.1.4).
    Ok { end: End, cseq: u32, sent: u8 },
    /// The talk is over.
    HangUp,
    /// The BYE again (Timer E), or its end (Timer F).
    Bye { sent: u8 },
    /// The far end should have heard the BYE.
    FarBye,
}

#[derive(Debug)]
pub(super) struct Call {
    pub stage: Stage,
    is_ringing_heard: bool,
    /// A 200 came to the caller, or the parties of a call back were joined.
    pub is_answer_heard: bool,
    is_far_bye_heard: bool,
    /// When the request that is under way was sent first, since the run's start.
    since: Duration,
    /// When the hang-up was due.
    hang_up_due: Duration,
    pub caller: Option<Box<Dialog>>,
    pub callee: Option<Box<Dialog>>,
    /// The 200s to INVITEs that are not acknowledged yet, the caller's and the callee's.
    oks: [Option<Accepted>; 2],
}

impl Call {
    pub fn dialog(&mut self, end: End) -> &mut Option<Box<Dialog>> {
        match end {
            End::Caller => &mut self.caller,
            End::Callee => &mut self.callee,
        }
    }
}

/// An INVITE with a 200 that waits for its ACK.
#[derive(Debug)]
struct Accepted {
    cseq: u32,
    ok: Box<[u8]>,
    is_within_dialog: bool,
}

/// A run under way.
pub(super) struct Run<'a> {
    pub calls: &'a Calls<'a>,
    callee: &'a UdpSocket,
    sources: Vec<UdpSocket>,
    /// Those of the sources; the last is the callee's.
    addresses: Vec<SocketAddrV4>,
    pub mark: Mark,
    invite: Template,
    start: Instant,
    /// When none is begun any more: a generator that cannot keep its pace ends after twice the time, with less begun.
    last: Duration,
    turns: usize,
    pub table: Vec<Call>,
    timers: BinaryHeap<Reverse<(Duration, u64, Timer)>>,
    /// What waits to be sent, by source; the last is the callee's.
    letters: Vec<Vec<Vec<u8>>>,
    mailer: Mailer,
    over: u64,
    completed: u64,
    talking: u64,
    most_at_a_time: u64,
    failures: BTreeMap<String, u64>,
    retransmissions: u64,
    behind: Duration,
    sending: Duration,
    ringing: Histogram<u64>,
    answering: Histogram<u64>,
    hanging_up: Histogram<u64>,
    memory: Option<Memory>,
}

impl<'a> Run<'a> {
    pub(super) fn new(calls: &'a Calls<'a>, callee: &'a UdpSocket) -> Result<Self> {
        let mut sources = Vec::new();
        for _ in 0..calls.sources {
            let source = mmsg::bind(0)?;
            source.connect(calls.server)?;
            source.set_nonblocking(true)?;
            sources.push(source);
        }
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).context("the bounds are in order");
        let mark = Mark::new(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u32);
        Ok(Self {
            calls,
            callee,
            addresses: sources.iter().chain([callee]).map(mmsg::address).collect(),
            invite: phone::invite(&mark, calls.caller, calls.domain),
            mark,
            start: Instant::now(),
            last: Duration::from_secs_f64(2.0 * calls.count as f64 / calls.rate) + calls.patience,
            turns: 0,
            table: Vec::with_capacity(calls.count as usize),
            timers: BinaryHeap::new(),
            letters: vec![Vec::new(); sources.len() + 1],
            mailer: Mailer::default(),
            sources,
            over: 0,
            completed: 0,
            talking: 0,
            most_at_a_time: 0,
            failures: BTreeMap::new(),
            retransmissions: 0,
            behind: Duration::ZERO,
            sending: Duration::ZERO,
            ringing: histogram()?,
            answering: histogram()?,
            hanging_up: histogram()?,
            memory: None,
        })
    }

    /// Begins the calls that are due, sends, and takes what has come; false when all calls are over.
    pub(super) fn turn(&mut self, inbox: &mut Inbox) -> Result<bool> {
        let (calls, now) = (self.calls, self.start.elapsed());
        self.begin(now);
        self.run_timers(now);
        if let (Some(pid), Some(at), None) = (calls.pid, calls.memory_at, self.memory)
            && now >= at
        {
            self.memory = Some(Memory::read(pid)?);
        }
        let sent = self.send()?;
        self.turns += 1;
        let received = match calls.sleeps {
            true => (0..self.sources.len())
                .try_fold(0, |sum, number| anyhow::Ok(sum + self.take_at(Some(number), inbox)?))?,
            false => self.take_at(Some(self.turns % self.sources.len()), inbox)?,
        } + self.take_at(None, inbox)?;
        let all_begun = self.table.len() as u64 == calls.count || now >= self.last;
        if all_begun && self.over == self.table.len() as u64 {
            return self.send().map(|_| false); // What the last of them are answered with.
        }
        if calls.sleeps && sent + received == 0 {
            self.sleep()?;
        }
        Ok(true)
    }

    fn send(&mut self) -> Result<usize> {
        let mut sent = 0;
        for (number, letters) in self.letters.iter_mut().enumerate().filter(|(_, letters)| !letters.is_empty()) {
            let (socket, to) = match self.sources.get(number) {
                Some(source) => (source, None),
                None => (self.callee, Some(self.calls.server)),
            };
            sent += self
                .mailer
                .send(socket, to, letters.iter().map(Vec::as_slice))
                .map_err(|error| unreachable_server(error, self.calls.server))?;
            letters.clear();
        }
        Ok(sent)
    }

    fn sleep(&self) -> Result<()> {
        let sockets = self.sources.iter().chain([self.callee]);
        let mut polled: Vec<PollFd> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let nap = Timespec { tv_sec: 0, tv_nsec: NAP.as_nanos() as i64 };
        match poll(&mut polled, Some(&nap)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn due(&self, ordinal: u64) -> Duration {
        Duration::from_secs_f64(ordinal as f64 / self.calls.rate)
    }

    fn source_of(&self, ordinal: u64) -> usize {
        (ordinal % self.sources.len() as u64) as usize
    }

    fn numbers(&self, ordinal: u64) -> Numbers {
        let port = self.addresses[self.source_of(ordinal)].port();
        let callees = &self.calls.callees;
        let aor = callees.start + (ordinal % callees.len() as u64) as u32;
        Numbers { ordinal, attempt: 0, aor, cseq: 1, port }
    }

    /// The socket of an end: both parties of a call back have that of the callees.
    fn seat(&self, ordinal: u64, end: End) -> usize {
        match (end, self.calls.begins) {
            (End::Caller, Begins::Called) => self.source_of(ordinal),
            _ => self.sources.len(),
        }
    }

    pub(super) fn post(&mut self, ordinal: u64, from: End, octets: Vec<u8>) {
        let seat = self.seat(ordinal, from);
        self.letters[seat].push(octets);
    }

    /// Sends what belongs to the INVITE that calls, or asks for a call back.
    fn post_at_source(&mut self, ordinal: u64, octets: Vec<u8>) {
        let source = self.source_of(ordinal);
        self.letters[source].push(octets);
    }

    pub(super) fn address_of(&self, ordinal: u64, end: End) -> SocketAddrV4 {
        self.addresses[self.seat(ordinal, end)]
    }

    fn begin(&mut self, now: Duration) {
        let begun = self.table.len() as u64;
        let due = ((now.as_secs_f64() * self.calls.rate) as u64 + 1).min(self.calls.count);
        if due <= begun || now >= self.last {
            return;
        }
        self.behind = self.behind.max(now.saturating_sub(self.due(begun)));
        self.sending = now;
        for ordinal in begun..due.min(begun + BATCH) {
            self.table.push(Call {
                stage: Stage::Calling,
                is_ringing_heard: false,
                is_answer_heard: false,
                is_far_bye_heard: false,
                since: now,
                hang_up_due: Duration::ZERO,
                caller: None,
                callee: None,
                oks: [None, None],
            });
            self.post_at_source(ordinal, self.invite.stamped(&self.numbers(ordinal)));
            self.timers.push(Reverse((now + T1, ordinal, Timer::Invite { sent: 1 })));
            self.timers.push(Reverse((now + self.calls.patience, ordinal, Timer::Unanswered)));
        }
    }

    fn run_timers(&mut self, now: Duration) {
        while let Some(&Reverse((at, ordinal, timer))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            self.fire(now, at, ordinal, timer);
        }
    }

    fn fire(&mut self, now: Duration, at: Duration, ordinal: u64, timer: Timer) {
        let call = &mut self.table[ordinal as usize];
        let is_too_late = now >= call.since + self.calls.patience;
        match (timer, call.stage) {
            (Timer::Invite { sent }, Stage::Calling) if !is_too_late => {
                self.retransmissions += 1;
                self.post_at_source(ordinal, self.invite.stamped(&self.numbers(ordinal)));
                self.timers.push(Reverse((now + T1 * (1 << sent), ordinal, Timer::Invite { sent: sent + 1 })));
            }
            (Timer::Unanswered, Stage::Calling) => self.fail(ordinal, "INVITE without any response".into()),
            (Timer::Unanswered, Stage::Proceeding) => self.fail(ordinal, "INVITE without a final response".into()),
            (Timer::Unanswered, Stage::CallingBack) => self.fail_to_join(ordinal, "silence"),
            (Timer::Ok { end, cseq, sent }, _) => {
                // 64 * T1 without an ACK: the callee gives up (§13.3.1.4); the switch has gone away in between.
                let accepted = call.oks[end as usize].as_ref().filter(|accepted| accepted.cseq == cseq && sent < 11);
                let Some(ok) = accepted.map(|accepted| accepted.ok.to_vec()) else { return };
                self.again(ordinal, end, ok);
                self.timers.push(Reverse((now + pause(sent), ordinal, Timer::Ok { end, cseq, sent: sent + 1 })));
            }
            (Timer::HangUp, Stage::Talking) => {
                (call.since, call.hang_up_due) = (now, at);
                let end = self.who_hangs_up(ordinal);
                self.table[ordinal as usize].stage = Stage::HangingUp(end);
                self.send_bye(now, ordinal, end, 0);
            }
            (Timer::Bye { sent }, Stage::HangingUp(end)) => match is_too_late {
                true => self.fail(ordinal, "BYE without a final response".into()),
                false => {
                    self.retransmissions += 1;
                    self.send_bye(now, ordinal, end, sent);
                }
            },
            (Timer::FarBye, Stage::HungUp) => self.fail(ordinal, "hung up, and the far end never hears it".into()),
            _ => {}
        }
    }

    fn again(&mut self, ordinal: u64, from: End, octets: Vec<u8>) {
        self.retransmissions += 1;
        self.post(ordinal, from, octets);
    }

    fn who_hangs_up(&self, ordinal: u64) -> End {
        match self.calls.hangs_up {
            HangsUp::Alternately if ordinal % 2 == 1 => End::Callee,
            _ => End::Caller,
        }
    }

    fn send_bye(&mut self, now: Duration, ordinal: u64, end: End, sent: u8) {
        let address = self.address_of(ordinal, end);
        let dialog = self.table[ordinal as usize].dialog(end);
        let Some(dialog) = dialog else { return self.fail(ordinal, "answered without a Contact".into()) };
        let bye = dialog.bye(&self.mark, ordinal, end, address);
        self.post(ordinal, end, bye);
        self.timers.push(Reverse((now + pause(sent + 1), ordinal, Timer::Bye { sent: sent + 1 })));
    }

    /// Takes what has come to a source or, with None, to the callees; returns how many datagrams.
    fn take_at(&mut self, source: Option<usize>, inbox: &mut Inbox) -> Result<usize> {
        let socket = source.map_or(self.callee, |number| &self.sources[number]);
        let taken = inbox.receive(socket).map_err(|error| unreachable_server(error, self.calls.server))?;
        if taken == 0 {
            return Ok(0);
        }
        let now = self.start.elapsed();
        for datagram in inbox.datagrams() {
            let Some(heard) = self.mark.read(datagram) else { continue };
            match heard {
                Heard::Response { ordinal, .. } | Heard::Call { ordinal, .. } | Heard::Request { ordinal, .. }
                    if ordinal >= self.table.len() as u64 => {}
                Heard::Response { ordinal, status, to: Asked::Invite } => {
                    self.hear_answer(now, ordinal, status, datagram)
                }
                Heard::Response { ordinal, status, to: Asked::Bye(_) } => {
                    self.hear_bye_answer(now, ordinal, status, datagram)
                }
                Heard::Call { ordinal, end } => self.hear_call(now, ordinal, end, datagram),
                Heard::Request { ordinal, method, end } => self.hear_request(now, ordinal, method, end, datagram),
            }
        }
        Ok(taken)
    }

    fn hear_answer(&mut self, now: Duration, ordinal: u64, status: u16, response: &[u8]) {
        let due = self.due(ordinal);
        let call = &mut self.table[ordinal as usize];
        let is_setting_up = matches!(call.stage, Stage::Calling | Stage::Proceeding);
        match status {
            100..200 if is_setting_up => {
                call.stage = Stage::Proceeding;
                if status == 180 && !call.is_ringing_heard {
                    call.is_ringing_heard = true;
                    self.ringing.saturating_record(now.saturating_sub(due).as_nanos() as u64);
                    if self.calls.answer == Answer::Never {
                        self.complete(ordinal);
                    }
                }
            }
            200..300 => {
                if is_setting_up {
                    call.caller = Dialog::of_caller(response).map(Box::new);
                    self.answered(now, ordinal);
                    self.talk(now, ordinal);
                }
                // §13.2.2.4: every 2xx is acknowledged, also one that comes again.
                let address = self.address_of(ordinal, End::Caller);
                if let Some(dialog) = &self.table[ordinal as usize].caller {
                    let ack = dialog.ack(&self.mark, ordinal, address);
                    self.post(ordinal, End::Caller, ack);
                }
            }
            300.. => {
                if let Some(ack) = phone::ack_of_refusal(&self.invite, &self.numbers(ordinal), response) {
                    self.post_at_source(ordinal, ack);
                }
                if is_setting_up && self.calls_back() && status == 480 {
                    self.asked(now, ordinal);
                } else if is_setting_up {
                    let status = phone::status_line(response);
                    self.fail(ordinal, format!("INVITE {status}"));
                }
            }
            _ => {}
        }
    }

    fn hear_bye_answer(&mut self, now: Duration, ordinal: u64, status: u16, response: &[u8]) {
        let call = &mut self.table[ordinal as usize];
        let Stage::HangingUp(_) = call.stage else { return };
        match status {
            100..200 => {}
            200..300 => {
                let took = now.saturating_sub(call.hang_up_due);
                call.stage = Stage::HungUp;
                let is_far_bye_heard = call.is_far_bye_heard;
                self.hanging_up.saturating_record(took.as_nanos() as u64);
                match is_far_bye_heard {
                    true => self.complete(ordinal),
                    false => self.timers.push(Reverse((now + self.calls.patience, ordinal, Timer::FarBye))),
                }
            }
            _ => {
                let far = if call.is_far_bye_heard { "hears it" } else { "hears nothing" };
                self.fail(ordinal, format!("BYE {}, and the far end {far}", phone::status_line(response)));
            }
        }
    }

    fn hear_call(&mut self, now: Duration, ordinal: u64, end: End, invite: &[u8]) {
        let (tag, address) = (self.mark.tag(ordinal, end), self.address_of(ordinal, end));
        let call = &mut self.table[ordinal as usize];
        // A retransmission gets the response that it missed (§17.2.1); the timer brings that of a 200.
        let is_new = call.dialog(end).is_none() && call.stage != Stage::Over;
        if is_new {
            *call.dialog(end) = Dialog::of_callee(invite, &tag).map(Box::new);
        }
        self.post(ordinal, end, phone::ringing(invite, &tag, address));
        if is_new && self.calls.answer == Answer::AtOnce {
            self.accept(now, ordinal, end, invite, false);
        }
    }

    /// Answers an INVITE with 200, until it is acknowledged.
    fn accept(&mut self, now: Duration, ordinal: u64, end: End, invite: &[u8], is_within_dialog: bool) {
        let ok = self.ok_to(ordinal, end, invite);
        let accepted = &mut self.table[ordinal as usize].oks[end as usize];
        if let Some(cseq) = phone::cseq(invite).filter(|cseq| accepted.as_ref().is_none_or(|it| it.cseq != *cseq)) {
            *accepted = Some(Accepted { cseq, ok: ok.clone().into(), is_within_dialog });
            self.timers.push(Reverse((now + T1, ordinal, Timer::Ok { end, cseq, sent: 1 })));
        }
        self.post(ordinal, end, ok);
    }

    fn ok_to(&self, ordinal: u64, end: End, request: &[u8]) -> Vec<u8> {
        let (tag, contact) = (self.mark.tag(ordinal, end), self.address_of(ordinal, end));
        match self.calls.begins {
            Begins::Called => phone::answer(request, &tag, contact, SDP),
            Begins::CalledBack(media) => {
                let media = media.address(ordinal, end);
                phone::answer(request, &tag, contact, &phone::description(&self.mark, ordinal, media, request))
            }
        }
    }

    fn hear_request(&mut self, now: Duration, ordinal: u64, method: &[u8], end: End, request: &[u8]) {
        let nothing_else = "Content-Length: 0\r\n\r\n";
        match method {
            b"ACK" => self.hear_ack(now, ordinal, end, request),
            b"BYE" => {
                self.post(ordinal, end, response_to(request, "200 OK", "late", nothing_else));
                let calls_back = self.calls_back();
                let call = &mut self.table[ordinal as usize];
                call.oks = [None, None];
                match call.stage {
                    Stage::HangingUp(by) if by == end.other() => call.is_far_bye_heard = true,
                    Stage::HungUp => self.complete(ordinal),
                    Stage::Talking => self.fail(ordinal, "hung up by the switch".into()),
                    Stage::Calling | Stage::Proceeding | Stage::CallingBack if calls_back => {
                        self.fail_to_join(ordinal, &phone::reason(request));
                    }
                    _ => {}
                }
            }
            b"CANCEL" => {
                self.post(ordinal, end, response_to(request, "200 OK", "late", nothing_else));
                self.table[ordinal as usize].oks[end as usize] = None;
            }
            b"INVITE" => self.accept(now, ordinal, end, request, true),
            b"UPDATE" => {
                let ok = self.ok_to(ordinal, end, request);
                self.post(ordinal, end, ok);
            }
            _ => self.post(ordinal, end, response_to(request, "200 OK", "late", nothing_else)),
        }
    }

    fn hear_ack(&mut self, now: Duration, ordinal: u64, end: End, ack: &[u8]) {
        let call = &mut self.table[ordinal as usize];
        let accepted = &mut call.oks[end as usize];
        let accepted = accepted.take_if(|accepted| phone::cseq(ack) == Some(accepted.cseq));
        if end == End::Caller && accepted.is_some_and(|accepted| accepted.is_within_dialog) {
            self.joined(now, ordinal);
        }
    }

    /// Its 200 has come, or its parties have been joined.
    pub(super) fn answered(&mut self, now: Duration, ordinal: u64) {
        let due = self.due(ordinal);
        self.table[ordinal as usize].is_answer_heard = true;
        self.talking += 1;
        self.most_at_a_time = self.most_at_a_time.max(self.talking);
        self.answering.saturating_record(now.saturating_sub(due).as_nanos() as u64);
    }

    pub(super) fn talk(&mut self, now: Duration, ordinal: u64) {
        self.table[ordinal as usize].stage = Stage::Talking;
        self.timers.push(Reverse((now + self.calls.hold, ordinal, Timer::HangUp)));
    }

    pub(super) fn fail(&mut self, ordinal: u64, why: String) {
        if self.end(ordinal) {
            *self.failures.entry(why).or_default() += 1;
        }
    }

    fn complete(&mut self, ordinal: u64) {
        if self.end(ordinal) {
            self.completed += 1;
        }
    }

    /// Ends a call, once; what is left of it answers retransmissions.
    fn end(&mut self, ordinal: u64) -> bool {
        let call = &mut self.table[ordinal as usize];
        if call.stage == Stage::Over {
            return false;
        }
        call.stage = Stage::Over;
        (call.caller, call.callee, call.oks) = (None, None, [None, None]);
        self.talking -= u64::from(call.is_answer_heard);
        self.over += 1;
        true
    }

    /// What was found.
    pub(super) fn outcome(self) -> Outcome {
        let sent = self.table.len() as u64;
        let answered = self.table.iter().zip(0..).filter(|(call, _)| call.is_answer_heard);
        let answered_call_ids: Vec<String> = answered.map(|(_, ordinal)| self.mark.call_id(ordinal)).collect();
        Outcome {
            rate: self.calls.rate,
            // The last is due an interval before the end of its time.
            sent_rate: sent.saturating_sub(1).max(1) as f64 / self.sending.as_secs_f64().max(1e-9),
            sent,
            answered: answered_call_ids.len() as u64,
            completed: self.completed,
            loss: (sent - self.completed) as f64 / sent.max(1) as f64,
            failures: self.failures,
            retransmissions: self.retransmissions,
            most_at_a_time: self.most_at_a_time,
            behind_max_us: self.behind.as_secs_f64() * 1e6,
            ringing: Latency::from(&self.ringing),
            answering: Latency::from(&self.answering),
            hanging_up: Latency::from(&self.hanging_up),
            cpu: None,
            memory: self.memory,
            answered_call_ids,
        }
    }
}

/// The pause before the next transmission, of which `sent` have gone out.
fn pause(sent: u8) -> Duration {
    (T1 * (1 << sent.saturating_sub(1).min(8))).min(T2)
}
