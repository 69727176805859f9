//! What is known of one leg for its CDR, and the record of its end.

use agent::{Flow, Now, Outbox, Ticket};
use store::{Cdr, CdrId, EndedBy, LegDirection, put_cdr};

/// The texts of a record, in the order in which [`Facts`] keeps them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Texts<'a> {
    /// The caller's URI.
    pub caller: &'a str,
    /// The URI that is called on this leg.
    pub callee: &'a str,
    /// The user whose call or plan it is.
    pub user: &'a str,
    /// The plan.
    pub plan: &'a str,
    /// The provider that the leg goes through.
    pub provider: &'a str,
    /// What the plan says whom to charge.
    pub account_code: &'a str,
    /// The far end's address.
    pub source: &'a str,
}

/// How many texts there are.
const TEXTS: usize = 7;

impl<'a> Texts<'a> {
    fn all(&self) -> [&'a str; TEXTS] {
        [self.caller, self.callee, self.user, self.plan, self.provider, self.account_code, self.source]
    }
}

/// A leg so far. Its texts are one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Number of the leg within its call; 0 is the caller's.
    pub leg: u16,
    /// Whether it came to us.
    pub direction: LegDirection,
    /// Milliseconds since the Unix epoch, as all times here; 0 for never.
    pub attempted_at: u64,
    /// Its first response from 180 to 199.
    pub progress_at: u64,
    /// Its 2xx.
    pub answered_at: u64,
    text: Box<str>,
    ends: [u16; TEXTS],
}

/// How a leg ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub by: EndedBy,
    /// The final response to its INVITE; 0 for none.
    pub status: u16,
    pub reason: &'a str,
}

impl Facts {
    pub fn new(now: Now, leg: u16, direction: LegDirection, texts: Texts<'_>) -> Self {
        let (mut text, mut ends) = (String::new(), [0; TEXTS]);
        text.reserve_exact(texts.all().iter().map(|t| t.len()).sum());
        for (part, end) in texts.all().into_iter().zip(&mut ends) {
            text.push_str(&part[..part.floor_char_boundary(store::MAX_CDR_TEXT_OCTETS)]);
            *end = text.len() as u16;
        }
        Self { leg, direction, attempted_at: millis(now), progress_at: 0, answered_at: 0, text: text.into(), ends }
    }

    /// The same leg as its record of an earlier run of the process tells it.
    pub fn kept(leg: u16, direction: LegDirection, times: [u64; 3], texts: Texts<'_>) -> Self {
        let [attempted_at, progress_at, answered_at] = times;
        let fresh = Self::new(Now { monotonic: Default::default(), unix: Default::default() }, leg, direction, texts);
        Self { attempted_at, progress_at, answered_at, ..fresh }
    }

    /// Those of a caller who is none: nobody has called. There is no record of them.
    pub fn nobody(texts: Texts<'_>) -> Self {
        Self::kept(0, LegDirection::In, [0; 3], texts)
    }

    /// Whether they are nobody's.
    pub fn is_nobody(&self) -> bool {
        self.attempted_at == 0
    }

    pub fn texts(&self) -> Texts<'_> {
        let mut start = 0;
        let [caller, callee, user, plan, provider, account_code, source] = self.ends.map(|end| {
            let text = &self.text[start..usize::from(end)];
            start = usize::from(end);
            text
        });
        Texts { caller, callee, user, plan, provider, account_code, source }
    }

    /// A response to its INVITE came or went.
    pub fn note_status(&mut self, now: Now, status: u16) {
        match status {
            180..200 if self.progress_at == 0 => self.progress_at = millis(now),
            200..300 if self.answered_at == 0 => self.answered_at = millis(now),
            _ => {}
        }
    }

    /// Writes the record of its end.
    pub fn close(&self, now: Now, call: u128, call_id: &[u8], ended: Ended<'_>, out: &mut Outbox<'_>) -> Ticket {
        let Texts { caller, callee, user, plan, provider, account_code, source } = self.texts();
        let cdr = Cdr {
            id: CdrId { call, leg: self.leg },
            direction: self.direction,
            attempted_at: self.attempted_at,
            progress_at: Some(self.progress_at).filter(|&at| at != 0),
            answered_at: Some(self.answered_at).filter(|&at| at != 0),
            ended_at: millis(now),
            ended_by: ended.by,
            status: ended.status,
            reason: ended.reason,
            caller,
            callee,
            user,
            plan,
            provider,
            account_code,
            call_id: str::from_utf8(call_id).unwrap_or_default(),
            source,
        };
        out.persist(|octets| put_cdr(octets, &cdr))
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn millis(now: Now) -> u64 {
    now.unix.as_millis() as u64
}

/// A far end's address as CDRs have it.
pub(crate) fn source_text(flow: &Flow) -> String {
    format!("{} {}", flow.transport.param(), flow.peer)
}
