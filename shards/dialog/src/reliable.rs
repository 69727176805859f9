//! Reliable provisional responses (RFC 3262): RSeq and RAck, at both ends.

use agent::Now;
use sip::{CSeq, Error, HeaderName, Message, Octets, StatusCode};
use std::time::Duration;

/// The value of RAck (RFC 3262 §7.2): which provisional response a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'b> {
    /// Its RSeq.
    pub rseq: u32,
    /// Number and method of its CSeq.
    pub cseq: CSeq<'b>,
}

impl<'b> RAck<'b> {
    /// Reads a value.
    ///
    /// # Errors
    /// It breaks the grammar: `1*DIGIT LWS 1*DIGIT LWS Method`.
    pub fn parse(value: &'b [u8]) -> Result<Self, Error> {
        let bad = Error::Malformed(HeaderName::RAck);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let (rseq, cseq) = value.split_at(digits);
        if !cseq.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(bad);
        }
        let rseq = sip::number(rseq).ok_or(bad)?;
        let cseq = CSeq::parse(cseq.trim_ascii_start()).map_err(|_| bad)?;
        Ok(Self { rseq, cseq })
    }

    /// Writes the value.
    pub fn write(&self, out: &mut impl Octets) {
        out.put_number(self.rseq.into());
        out.put(b" ");
        out.put_number(self.cseq.number.into());
        out.put(b" ");
        out.put(self.cseq.method.as_bytes());
    }
}

/// The RSeq of a response that asks to be acknowledged: it requires 100rel and has one (§4). `None` for any other.
pub fn rseq(response: &Message<'_>) -> Option<u32> {
    let is_required = response.tokens(HeaderName::Require).any(|t| t.eq_ignore_ascii_case(b"100rel"));
    let rseq = response.value(HeaderName::RSeq).and_then(sip::number);
    rseq.filter(|&n| is_required && n > 0)
}

/// The UAC's side, of one early dialog (§4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledging {
    last: Option<u32>,
}

impl Acknowledging {
    /// Whether to send a PRACK for a reliable provisional response with that RSeq. A copy of the one before is not
    /// acknowledged again, for the PRACK's own transaction repeats it; one out of order is dropped as if it had never come.
    pub fn receive(&mut self, rseq: u32) -> bool {
        let is_next = self.last.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if is_next {
            self.last = Some(rseq);
        }
        is_next
    }
}

/// The UAS's side, of one INVITE (§3): at most one response waits for its PRACK.
#[derive(Clone, Debug)]
pub struct Reliable {
    rseq: u32,
    cseq: u32,
    unacknowledged: Option<Unacknowledged>,
    repeating: Option<Box<Repeating>>,
}

/// What is known of a response that has not been acknowledged.
#[derive(Clone, Copy, Debug)]
struct Unacknowledged {
    has_description: bool,
}

/// A response that is sent again and again.
#[derive(Clone, Debug)]
struct Repeating {
    octets: Box<[u8]>,
    interval: Duration,
    resend_at: Duration,
    give_up_at: Duration,
}

/// What time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend<'a> {
    /// Nothing.
    Nothing,
    /// To send this response again.
    Response(&'a [u8]),
    /// To refuse the INVITE with [`Resend::GIVE_UP_STATUS`]: nobody has acknowledged for 64 times T1.
    GiveUp,
}

impl Resend<'_> {
    /// §3 wants a 5xx.
    pub const GIVE_UP_STATUS: StatusCode = StatusCode::SERVER_TIMEOUT;
}

/// No response with that RAck waits: the PRACK is answered with a 481 (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMatch;

impl NoMatch {
    /// The answer.
    pub fn response(self) -> StatusCode {
        StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST
    }
}

impl Reliable {
    /// For the INVITE whose CSeq has that number. §3: the first RSeq is chosen uniformly from 1 to 2^31 - 1, by `seed`.
    pub fn new(cseq: u32, seed: u64) -> Self {
        // The first response takes the number after this one.
        Self { rseq: (seed % ((1 << 31) - 1)) as u32, cseq, unacknowledged: None, repeating: None }
    }

    /// Whether a further reliable response may be sent: none waits for its PRACK.
    pub fn may_send(&self) -> bool {
        self.unacknowledged.is_none()
    }

    /// Whether a 2xx may be sent: no response with a session description waits for its PRACK (§3).
    pub fn may_succeed(&self) -> bool {
        self.unacknowledged.is_none_or(|u| !u.has_description)
    }

    /// The RSeq for the next response.
    pub fn next_rseq(&self) -> u32 {
        self.rseq + 1
    }

    /// Takes note that the response with [`Reliable::next_rseq`] has been sent, and keeps it to repeat it until its PRACK
    /// comes.
    pub fn sent(&mut self, now: Now, t1: Duration, response: &[u8], has_description: bool) {
        debug_assert!(self.may_send(), "the caller waits for the PRACK");
        self.rseq += 1;
        self.unacknowledged = Some(Unacknowledged { has_description });
        self.repeating = Some(Box::new(Repeating {
            octets: response.into(),
            interval: t1,
            resend_at: now.monotonic + t1,
            give_up_at: now.monotonic + 64 * t1,
        }));
    }

    /// Takes a PRACK's RAck.
    ///
    /// # Errors
    /// It is for no response that waits.
    pub fn acknowledge(&mut self, rack: &RAck<'_>) -> Result<(), NoMatch> {
        let is_for_us = rack.rseq == self.rseq
            && rack.cseq.number == self.cseq
            && rack.cseq.method == sip::Method::Invite
            && self.unacknowledged.is_some();
        if !is_for_us {
            return Err(NoMatch);
        }
        (self.unacknowledged, self.repeating) = (None, None);
        Ok(())
    }

    /// A final response has been sent: nothing is repeated any more, though a PRACK may still come (§3).
    pub fn stop(&mut self) {
        self.repeating = None;
    }

    /// When to call [`Reliable::handle_timeout`], on the monotonic clock.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.repeating.as_ref().map(|r| r.resend_at.min(r.give_up_at))
    }

    /// Does what is due. §3: the interval doubles with each repetition, without T2's bound.
    pub fn handle_timeout(&mut self, now: Now) -> Resend<'_> {
        if self.repeating.as_ref().is_some_and(|r| now.monotonic >= r.give_up_at) {
            self.repeating = None;
            return Resend::GiveUp;
        }
        match &mut self.repeating {
            Some(repeating) if now.monotonic >= repeating.resend_at => {
                repeating.interval *= 2;
                repeating.resend_at = now.monotonic + repeating.interval;
                Resend::Response(&repeating.octets)
            }
            _ => Resend::Nothing,
        }
    }
}
