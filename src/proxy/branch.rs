//! Our Via branch (RFC 3261 §16.6 step 8, §16.11): computed, never drawn.
//!
//! `z9hG4bK` T F, maybe L, all in lower-case hexadecimal:
//! - T, 16 digits, names the transaction: a keyed hash over the Via below ours (its branch and sent-by), Call-ID, CSeq
//!   number and F. A retransmission, the CANCEL and the ACK for a non-2xx repeat all of these (§9.1, §17.1.1.3), so they
//!   get the INVITE's branch. A response brings them back, so T is checked before it is forwarded: nobody can push a
//!   response through us that answers nothing.
//! - F, where the request came from: listener, then the connection if it was on one. The response goes back there.
//! - L, 16 digits, where the Via below has no branch of RFC 3261 to tell requests apart (§16.11): the loop hash.
//!
//! The loop hash is a keyed one over what routing looks at: Request-URI, Route, From tag, Call-ID, CSeq number; not the method and
//! not the To tag, which a CANCEL or an ACK changes. A request that has a Via of ours already gets it in a parameter, `;loop=` and 16 digits.
//! The same one a second time is a loop, another one a spiral. So a loop is found one round later than it might be, and all else,
//! which is nearly everything, is not hashed for it. §16.6 step 8 would have it in the branch; but the CANCEL of a request that
//! spirals comes without the Vias below (§9.1), and must get the branch of its request. That its Via then lacks the
//! parameter does no harm: branch, sent-by and method match it (§17.2.3). RFC 5393 §4.2 asks proxies that fork to find loops at once;
//! this one does not fork.

use agent::{ConnectionId, Flow, ListenerId, PartsHash, Secret, StatelessTags};
use arrayvec::ArrayVec;
use sip::{HeaderName, Message, Octets, Request, Via, hex};

/// The parameter of our Via that has the loop hash.
pub(super) const LOOP: &str = "loop";

const HASH_DIGITS: usize = 16;
const LISTENER_DIGITS: usize = 4;
const CONNECTION_DIGITS: usize = 4 + 8 + 8;
const MAX_BRANCH: usize = Via::MAGIC_COOKIE.len() + 2 * HASH_DIGITS + LISTENER_DIGITS + CONNECTION_DIGITS;

/// Computes and checks branches under the cluster's secret.
#[derive(Clone)]
pub struct Branches {
    /// Each hash has a key of its own, so that none of them, chosen by an outsider, passes for another.
    transactions: PartsHash,
    loops: PartsHash,
    tags: StatelessTags,
}

/// A branch of ours, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBranch {
    transaction: u64,
    /// The listener that the request came in on.
    pub listener: ListenerId,
    /// The connection that it came on, if it did.
    pub connection: Option<ConnectionId>,
    /// L.
    loop_hash: Option<u64>,
}

impl Branches {
    /// Branches of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self {
            transactions: PartsHash::new(secret, "branch"),
            loops: PartsHash::new(secret, "loop"),
            tags: StatelessTags::new(secret),
        }
    }

    /// The branch for `request` which came on `flow`.
    pub fn compute(&self, message: &Message<'_>, request: &Request<'_>, flow: &Flow) -> OwnBranch {
        // RFC 4475 §3.2.1: the cookie alone is no branch.
        let has_branch =
            request.via.branch.and_then(|b| b.strip_prefix(Via::MAGIC_COOKIE)).is_some_and(|b| !b.is_empty());
        let loop_hash = if has_branch { None } else { Some(self.loop_hash(message, request)) };
        let mut branch = OwnBranch { transaction: 0, listener: flow.listener, connection: flow.connection, loop_hash };
        branch.transaction = self.transaction(&branch, &request.via, request.call_id, request.cseq.number);
        branch
    }

    /// Whether `branch`, from the topmost Via of a response, is one that we gave to the request with `below` on top.
    pub fn is_own(&self, branch: &OwnBranch, below: &Via<'_>, call_id: &[u8], cseq: u32) -> bool {
        self.transaction(branch, below, call_id, cseq) == branch.transaction
    }

    /// T of the branch that has the F of `branch`.
    fn transaction(&self, branch: &OwnBranch, below: &Via<'_>, call_id: &[u8], cseq: u32) -> u64 {
        let OwnBranch { listener, connection, .. } = *branch;
        let mut parts = self.transactions.begin();
        parts.put(below.branch.unwrap_or_default());
        // Of sent-by the host's text: it is part of the Via's value, which the response gives back unchanged.
        match below.host {
            sip::Host::Name(name) => parts.put(name),
            sip::Host::V4(v4) => parts.put(&v4.octets()),
            sip::Host::V6(v6) => parts.put(&v6.octets()),
        }
        parts.put(call_id);
        let numbers = u64::from(below.port_or_default()) << 48 | u64::from(listener.0) << 32 | u64::from(cseq);
        parts.put_number(numbers);
        if let Some(c) = connection {
            parts.put_number(u64::from(c.shard) << 32 | u64::from(c.slot));
            parts.put_number(c.generation.into());
        }
        parts.hash()
    }

    /// Hashes what decides where the request goes.
    pub fn loop_hash(&self, message: &Message<'_>, request: &Request<'_>) -> u64 {
        let mut parts = self.loops.begin();
        parts.put(request.uri);
        for route in message.all(HeaderName::Route) {
            parts.put(route.value);
        }
        parts.put(request.from.tag.unwrap_or_default());
        parts.put(request.call_id);
        parts.put_number(request.cseq.number.into());
        parts.hash()
    }

    /// The tag that answers of ours give the To of `message`.
    pub fn to_tag(&self, message: &Message<'_>) -> [u8; HASH_DIGITS] {
        self.tags.of(message)
    }
}

impl OwnBranch {
    /// Takes a branch apart; `None` where it is not shaped like one of ours.
    pub fn parse(branch: &[u8]) -> Option<Self> {
        let text = branch.strip_prefix(Via::MAGIC_COOKIE)?;
        let (transaction, text) = take_hex(text, HASH_DIGITS)?;
        let (listener, text) = take_hex(text, LISTENER_DIGITS)?;
        let (connection, text) = match text.len() {
            0 | HASH_DIGITS => (None, text),
            _ => {
                let (shard, text) = take_hex(text, 4)?;
                let (slot, text) = take_hex(text, 8)?;
                let (generation, text) = take_hex(text, 8)?;
                (Some(ConnectionId { shard: shard as u16, slot: slot as u32, generation: generation as u32 }), text)
            }
        };
        let (loop_hash, text) = match text {
            [] => (None, text),
            _ => {
                let (loop_hash, text) = take_hex(text, HASH_DIGITS)?;
                (Some(loop_hash), text)
            }
        };
        let branch = Self { transaction, listener: ListenerId(listener as u16), connection, loop_hash };
        text.is_empty().then_some(branch)
    }

    /// Writes it with its magic cookie.
    pub fn write(&self, out: &mut impl Octets) {
        let mut text = ArrayVec::<u8, MAX_BRANCH>::new();
        text.put(Via::MAGIC_COOKIE);
        text.put(&hex(self.transaction));
        text.put(&hex(self.listener.0.into())[HASH_DIGITS - LISTENER_DIGITS..]);
        if let Some(c) = self.connection {
            text.put(&hex(c.shard.into())[HASH_DIGITS - 4..]);
            text.put(&hex(c.slot.into())[HASH_DIGITS - 8..]);
            text.put(&hex(c.generation.into())[HASH_DIGITS - 8..]);
        }
        if let Some(loop_hash) = self.loop_hash {
            text.put(&hex(loop_hash));
        }
        out.put(&text);
    }
}

/// Writes the parameter that goes behind our branch.
pub(super) fn write_loop(loop_hash: u64, out: &mut impl Octets) {
    out.put(b";");
    out.put(LOOP.as_bytes());
    out.put(b"=");
    out.put(&hex(loop_hash));
}

fn take_hex(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let value = |n: u64, &d: &u8| {
        let digit = match d {
            b'0'..=b'9' => d - b'0',
            b'a'..=b'f' => d - b'a' + 10,
            _ => return None,
        };
        Some(n << 4 | u64::from(digit))
    };
    Some((digits.iter().try_fold(0, value)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::{Limits, Transport};

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33;branch=z9hG4bK776\r\nMax-Forwards: 70\r\n\
        To: <sip:bob@example.com>\r\nFrom: <sip:alice@example.com>;tag=88\r\nCall-ID: id\r\nCSeq: 31 INVITE\r\n\r\n";

    fn of<T>(text: &str, compute: impl FnOnce(&Branches, &Message<'_>, &Request<'_>) -> T) -> T {
        let message = Message::parse(text.as_bytes(), &Limits::default()).unwrap();
        compute(&branches(), &message, &message.request().unwrap())
    }

    fn compute(text: &str) -> OwnBranch {
        let flow = Flow {
            listener: ListenerId(3),
            transport: Transport::Tcp,
            peer: "192.0.2.1:1".parse().unwrap(),
            connection: Some(ConnectionId { shard: 1, slot: 0xabcd, generation: 7 }),
        };
        of(text, |branches, message, request| branches.compute(message, request, &flow))
    }

    fn branches() -> Branches {
        Branches::new(&Secret::new([5; 32]))
    }

    #[test]
    fn cancel_and_ack_follow_their_invite() {
        let cancel = INVITE.replace("INVITE", "CANCEL").replace("Max-Forwards: 70", "Max-Forwards: 69");
        let ack =
            INVITE.replace("INVITE", "ACK").replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=9");
        assert_eq!(compute(INVITE), compute(&cancel));
        assert_eq!(compute(INVITE), compute(&ack));
    }

    #[test]
    fn another_target_is_a_spiral_and_the_same_one_a_loop() {
        let again = INVITE.replace("branch=z9hG4bK776", "branch=z9hG4bK777");
        let spiral = again.replace("INVITE sip:bob@", "INVITE sip:carol@");
        let loop_hash = |text| of(text, Branches::loop_hash);
        assert_eq!(loop_hash(INVITE), loop_hash(&again));
        assert_ne!(loop_hash(INVITE), loop_hash(&spiral));
        assert_ne!(compute(INVITE).transaction, compute(&again).transaction);
    }

    #[test]
    fn a_branch_is_read_back_and_a_forged_one_is_told() {
        for below in [";branch=z9hG4bK776", ""] {
            let request = INVITE.replace(";branch=z9hG4bK776", below);
            for branch in [compute(&request), OwnBranch { connection: None, ..compute(&request) }] {
                let mut text = Vec::new();
                branch.write(&mut text);
                assert_eq!(OwnBranch::parse(&text), Some(branch));
                for bad in [
                    &b"z9hG4bK"[..],
                    b"z9hG4bK776asdhds",
                    &text[..text.len() - 1],
                    &text[1..],
                    &[&text[..], b"0"].concat(),
                ] {
                    assert_eq!(OwnBranch::parse(bad), None);
                }
            }
        }
        let branch = compute(INVITE);
        let message = Message::parse(INVITE.as_bytes(), &Limits::default()).unwrap();
        let via = message.vias().next().unwrap().unwrap();
        assert!(branches().is_own(&branch, &via, b"id", 31));
        assert!(!branches().is_own(&branch, &via, b"id", 32));
        assert!(!branches().is_own(&branch, &via, b"other", 31));
        let elsewhere = OwnBranch { connection: None, ..branch };
        assert!(!branches().is_own(&elsewhere, &via, b"id", 31));
    }

    #[test]
    fn requests_without_a_branch_are_told_apart_by_what_else_they_say() {
        // §16.11, and RFC 4475 §3.2.1: the cookie alone is none.
        for below in ["", ";branch=z9hG4bK", ";branch=1"] {
            let request = INVITE.replace(";branch=z9hG4bK776", below);
            for (old, new) in [
                ("id\r\n", "other\r\n"),
                ("sip:bob@example.com SIP", "sip:carol@example.com SIP"),
                ("tag=88", "tag=89"),
                ("31", "32"),
            ] {
                assert_ne!(compute(&request), compute(&request.replace(old, new)), "{below} {new}");
            }
            assert_eq!(compute(&request), compute(&request.replace("INVITE", "CANCEL")));
        }
    }
}
