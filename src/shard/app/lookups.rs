//! Asking the switch where users are reached: one request each, repeated until its answer comes or its time is over.

use super::{AppBranch, HopTokens, PLACEHOLDER, QueryId, proxy};
use crate::{proxy::Errand, shard::neighbours};
use agent::{Agent, Draft, Now};
use arrayvec::ArrayString;
use bumpalo::Bump;
use sip::{Message, Octets};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt::Write,
    time::Duration,
};

/// When a question is asked again that has no answer; each time it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// When no answer is awaited any more.
const GIVE_UP: Duration = Duration::from_secs(3);

/// The Call-ID of a question: run, shard, number.
pub(super) type CallId = ArrayString<32>;

/// The questions that have no answer yet.
pub(super) struct Lookups {
    pub place: appserver::Place,
    run: u32,
    asked: u64,
    open: HashMap<u64, Lookup>,
    /// When to look at each again.
    due: BinaryHeap<Reverse<(Duration, u64)>>,
}

struct Lookup {
    id: QueryId,
    aor: Box<str>,
    call_id: CallId,
    until: Duration,
    wait: Duration,
}

impl Lookups {
    pub fn new(place: appserver::Place, run: u32) -> Self {
        Self { place, run, asked: 0, open: HashMap::new(), due: BinaryHeap::new() }
    }

    /// Takes a question on; [`Lookups::next_to_send`] gives it at once.
    pub fn begin(&mut self, now: Now, id: QueryId, aor: &str) {
        self.asked += 1;
        let mut call_id = CallId::new();
        write!(call_id, "{:08x}{:04x}{:016x}", self.run, self.place.shard, self.asked).expect("28 digits fit");
        let until = now.monotonic + GIVE_UP;
        self.open.insert(self.asked, Lookup { id, aor: aor.into(), call_id, until, wait: FIRST_RETRY });
        self.due.push(Reverse((now.monotonic, self.asked)));
    }

    /// A question to ask, or to ask again, by its Call-ID.
    pub fn next_to_send(&mut self, now: Now) -> Option<CallId> {
        while let Some(&Reverse((due, number))) = self.due.peek()
            && due <= now.monotonic
        {
            let Some(lookup) = self.open.get_mut(&number) else {
                self.due.pop();
                continue;
            };
            if lookup.until <= now.monotonic {
                return None;
            }
            self.due.pop();
            self.due.push(Reverse(((now.monotonic + lookup.wait).min(lookup.until), number)));
            lookup.wait *= 2;
            return Some(lookup.call_id);
        }
        None
    }

    /// A question whose time is over. It is forgotten.
    pub fn next_lost(&mut self, now: Now) -> Option<QueryId> {
        let &Reverse((due, number)) = self.due.peek().filter(|Reverse((due, _))| *due <= now.monotonic)?;
        let is_lost = self.open.get(&number).is_some_and(|lookup| lookup.until <= due);
        if !is_lost {
            return None;
        }
        self.due.pop();
        self.open.remove(&number).map(|lookup| lookup.id)
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.due.peek().map(|&Reverse((due, _))| due)
    }

    /// Writes the question of that Call-ID.
    pub fn write(&self, call_id: &str, tokens: &HopTokens, out: &mut Draft<'_>) {
        let Some((number, lookup)) = number_of(call_id).and_then(|number| Some((number, self.open.get(&number)?)))
        else {
            return;
        };
        let aor = &lookup.aor;
        out.put_display(format_args!("OPTIONS sip:{aor} SIP/2.0\r\n"));
        tokens.write_errand(call_id.as_bytes(), Errand::Lookup, out);
        out.put_display(format_args!("Via: SIP/2.0/UDP {PLACEHOLDER};branch="));
        AppBranch { agent: Agent { name: &self.place.name, shard: self.place.shard }, id: number }.write(out);
        out.put_display(format_args!(
            "\r\nMax-Forwards: 1\r\nFrom: <sip:{}@{PLACEHOLDER}>;tag={call_id}\r\nTo: <sip:{aor}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            self.place.name
        ));
    }

    /// What `response` tells, if it answers a question; that is forgotten then.
    pub fn answered(&mut self, response: &Message<'_>, arena: &Bump) -> Option<(QueryId, Vec<appserver::Target>)> {
        let call_id = std::str::from_utf8(response.call_id()?).ok()?;
        let number = number_of(call_id)?;
        if &*self.open.get(&number)?.call_id != call_id {
            return None;
        }
        let lookup = self.open.remove(&number)?;
        Some((lookup.id, proxy::read_targets(response, arena).iter().map(neighbours::target).collect()))
    }
}

/// The number at the end of a Call-ID of ours.
fn number_of(call_id: &str) -> Option<u64> {
    (call_id.len() == 28).then_some(())?;
    u64::from_str_radix(call_id.get(12..)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::Secret;
    use sip::Limits;

    fn at(millis: u64) -> Now {
        Now { monotonic: Duration::from_millis(millis), unix: Duration::from_secs(1) }
    }

    fn lookups() -> Lookups {
        Lookups::new(appserver::Place { name: "stable".into(), shard: 1, shards: 2 }, 7)
    }

    #[test]
    fn a_question_is_repeated_until_its_time_is_over() {
        let mut lookups = lookups();
        lookups.begin(at(0), QueryId(9), "bob@example.com");
        let mut sent = Vec::new();
        for millis in 0..4_000 {
            sent.extend(lookups.next_to_send(at(millis)).map(|_| millis));
            if let Some(id) = lookups.next_lost(at(millis)) {
                assert_eq!((id, millis), (QueryId(9), 3_000));
            }
        }
        assert_eq!(sent, [0, 100, 300, 700, 1_500]);
        assert_eq!(lookups.next_timeout(), None);
    }

    #[test]
    fn an_answer_ends_its_own_question_only() {
        let (mut lookups, arena) = (lookups(), Bump::new());
        lookups.begin(at(0), QueryId(1), "bob@example.com");
        let call_id = lookups.next_to_send(at(0)).unwrap();
        let mut request = bumpalo::collections::Vec::new_in(&arena);
        lookups.write(&call_id, &HopTokens::new(&Secret::new([1; 32])), &mut request);
        let request = String::from_utf8(request.to_vec()).unwrap();
        assert!(Message::parse(request.as_bytes(), &Limits::default()).unwrap().request().is_ok());
        let answer = |call_id: &str| {
            format!("SIP/2.0 302 x\r\nCall-ID: {call_id}\r\nContact: <sip:bob@192.0.2.1>;q=0.500;expires=60\r\n\r\n")
        };
        let mut answered =
            |text: &str| lookups.answered(&Message::parse(text.as_bytes(), &Limits::default()).unwrap(), &arena);
        let mut other = call_id.to_string();
        other.replace_range(0..1, "f");
        assert!(answered(&answer(&other)).is_none());
        let (id, targets) = answered(&answer(&call_id)).unwrap();
        assert_eq!((id, &*targets[0].uri, targets[0].q), (QueryId(1), &b"sip:bob@192.0.2.1"[..], 500));
        assert!(answered(&answer(&call_id)).is_none());
    }
}
