//! What the operator decides, and where this application server stands.

use agent::{Domains, Now};
use sip::{Limits, digest::Algorithm};
use siphasher::sip::SipHasher13;

/// An application server's part of the configuration, the same on every shard. Replaced as a whole by a reload; calls that
/// are there go on under the bounds that they began with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose domain is it.
    pub domains: Domains,
    /// Value of Server in responses and of User-Agent in requests; empty sends none.
    pub server: Box<str>,
    /// Bounds of what is parsed.
    pub limits: Limits,
    /// Whether a caller who claims an address in a domain of ours must prove it (407).
    pub authenticate: bool,
    /// What a 407 offers, in any order. The strongest stands first in it, as in the registrar's 401 (RFC 8760 §2.3).
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub nonce_secs: u32,
    /// Calls at a time on each shard. One more is answered with 503.
    pub max_calls: u32,
    /// Calls at a time of one user on each shard: those that he makes, and those that come in to him from others than users
    /// of ours, whose calls count as theirs. One more is answered with 486.
    pub max_calls_per_user: u32,
    /// Legs that one call may dial in all, redirections included. The next ones are not dialled.
    pub max_legs: u8,
    /// Redirections (3xx) that are followed one after another.
    pub max_redirects: u8,
    /// Incoming plans that a call may pass, one from within another.
    pub max_plan_depth: u8,
    /// How long a dial command rings that names no time.
    pub ring_secs: u32,
    /// How long a call may take from its INVITE to its answer.
    pub max_setup_secs: u32,
    /// How long an answered call may last; 0 for as long as it likes.
    pub max_call_secs: u32,
    /// The session interval that we ask for (RFC 4028); 0 asks for none and still obeys that of a peer.
    pub session_expires_secs: u32,
    /// The shortest session interval that we accept (RFC 4028 §5).
    pub min_session_expires_secs: u32,
    /// Requests inside one call that wait for their answer. The next one is answered with 503.
    pub max_passing: u8,
    /// Requests outside a dialog that are relayed at a time on each shard. One more is answered with 503.
    pub max_relays: u32,
    /// Whether such a request goes to all bindings at once; else to one after another, the best first.
    pub relay_to_all: bool,
    /// Value of Retry-After in a 503.
    pub retry_after_secs: u32,
    /// Reports for the authors of plans that are kept until they are taken; the newest ones.
    pub max_reports: usize,
    /// The bounds of plans, by which texts are compiled. Those of runs are the machine's.
    pub plans: dialplan::Limits,
    /// The timers' base values, and the bound of transactions.
    pub transactions: transaction::Settings,
}

impl Settings {
    /// The defaults for these domains.
    pub fn new(domains: Domains) -> Self {
        Self {
            domains,
            server: "".into(),
            limits: Limits::default(),
            authenticate: true,
            algorithms: vec![Algorithm::Md5],
            nonce_secs: 300,
            max_calls: 200_000,
            max_calls_per_user: 100,
            max_legs: 20,
            max_redirects: 5,
            max_plan_depth: 3,
            ring_secs: 180,
            max_setup_secs: 300,
            max_call_secs: 0,
            session_expires_secs: 1800,
            min_session_expires_secs: 90,
            max_passing: 8,
            max_relays: 50_000,
            relay_to_all: false,
            retry_after_secs: 5,
            max_reports: 1000,
            plans: dialplan::Limits::default(),
            transactions: transaction::Settings::default(),
        }
    }

    /// What challenges say, as the authenticator takes it.
    pub(crate) fn challenges(&self) -> registrar::Settings {
        let (algorithms, nonce_secs) = (self.algorithms.clone(), self.nonce_secs);
        registrar::Settings { algorithms, nonce_secs, ..registrar::Settings::default() }
    }
}

/// Which application server, and which of its shards.
///
/// The number of a call ends in 32 bits that tell both, so that a restart finds the shard whose call it was.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name that the configuration gives it.
    pub name: Box<str>,
    /// Its shard.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
}

impl Place {
    /// The number of a call of this shard that begins now: 48 bits of Unix time in milliseconds, so that the records of
    /// calls stand in the database in the order of their beginning, as a tree takes them best; 48 bits that are drawn; and
    /// the place.
    pub(crate) fn number(&self, now: Now, drawn: u64) -> u128 {
        let begun = now.unix.as_millis() << 80;
        let drawn = u128::from(drawn & 0xffff_ffff_ffff) << 32;
        begun | drawn | u128::from(self.name_hash()) << 16 | u128::from(self.shard)
    }

    /// Whether a call of that number is this shard's. Were there more shards once, those that are left share their calls.
    pub fn owns(&self, number: u128) -> bool {
        (number >> 16) as u16 == self.name_hash() && number as u16 % self.shards.max(1) == self.shard
    }

    fn name_hash(&self) -> u16 {
        // Numbers outlive the program, so the function is a fixed one.
        SipHasher13::new().hash(self.name.as_bytes()) as u16
    }
}
