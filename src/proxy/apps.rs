//! Which application server a request is for.
//!
//! The domain says which servers come into question: those that name it, else those of the default release, which name
//! none. Among them that are well, the Call-ID decides by weighted rendezvous hashing (each server draws a number from the
//! Call-ID and its own name, and the best one wins), so that a server which leaves moves only its own share. All messages of a
//! call so far have that Call-ID, and the choice is a function of the message, the configuration and the health of the
//! servers: every shard makes the same.

use agent::Secret;
use sip::{SipUri, Uri};
use siphasher::sip::SipHasher13;
use std::{
    hash::Hasher,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// An application server.
#[derive(Clone, Debug)]
pub struct App {
    /// What branches and tokens call it.
    pub name: Box<str>,
    /// The domains whose users it serves, in lower case; none for those of the default release.
    pub domains: Vec<Box<str>>,
    /// Its share beside others that serve the same.
    pub weight: u16,
    /// Where it is.
    pub reach: Reach,
    /// What it takes.
    pub state: State,
}

/// What an application server takes, as the supervisor of its process says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Serving,
    /// What belongs to the calls that it has.
    Draining,
    /// Nothing.
    Down,
}

/// Where an application server is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// On these shards.
    Here,
    /// In another process of ours, whose shards listen there.
    Process(Vec<SocketAddr>),
    /// Where this SIP URI leads: no process of ours.
    Elsewhere(Box<str>),
}

impl Reach {
    /// The URI of a server elsewhere.
    pub(super) fn parse_uri(uri: &str) -> Option<SipUri<'_>> {
        Uri::parse(uri.as_bytes()).and_then(Uri::sip).ok()
    }
}

/// Which servers are well, for all shards of a process: one of them probes.
#[derive(Clone, Debug)]
pub struct HealthTable {
    well: Arc<[AtomicBool]>,
}

impl HealthTable {
    /// A table of so many servers, all of them well.
    pub fn new(servers: usize) -> Self {
        Self { well: (0..servers).map(|_| AtomicBool::new(true)).collect() }
    }

    /// Whether the server of that number is well.
    pub fn is_well(&self, server: usize) -> bool {
        self.well.get(server).is_some_and(|well| well.load(Ordering::Relaxed))
    }

    /// Says how it is.
    pub(super) fn set(&self, server: usize, is_well: bool) {
        self.well[server].store(is_well, Ordering::Relaxed);
    }
}

/// Every application server, in the order of the configuration.
#[derive(Clone)]
pub struct Apps {
    all: Vec<App>,
    health: HealthTable,
    keyed: SipHasher13,
}

/// What the servers for a domain come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// There is none: the proxy forwards by itself.
    Nobody,
    /// This one.
    App(usize),
    /// None of them is well.
    AllDown,
}

impl Apps {
    /// These servers, of which `health` tells which are well.
    pub fn new(secret: &Secret, all: Vec<App>, health: HealthTable) -> Self {
        Self { all, health, keyed: SipHasher13::new_with_key(&secret.derive("rendezvous")) }
    }

    /// None at all.
    pub fn none(secret: &Secret) -> Self {
        Self::new(secret, Vec::new(), HealthTable::new(0))
    }

    /// Every one, by its number.
    pub fn all(&self) -> &[App] {
        &self.all
    }

    /// Who is well.
    pub fn health(&self) -> &HealthTable {
        &self.health
    }

    /// The number of the one called so.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|app| *app.name == *name)
    }

    /// The one for a call of `domain`, which is a domain of ours.
    pub fn choose(&self, domain: &str, call_id: &[u8]) -> Choice {
        let names_it = |app: &App| app.domains.iter().any(|d| d.eq_ignore_ascii_case(domain));
        let is_named = self.all.iter().any(names_it);
        let serves = |app: &App| if is_named { names_it(app) } else { app.domains.is_empty() };
        let serving = || self.all.iter().enumerate().filter(|(_, app)| serves(app));
        let best = serving()
            .filter(|(number, app)| app.state == State::Serving && self.health.is_well(*number))
            .map(|(number, app)| (number, self.draw(app, call_id)))
            .reduce(|best, other| if other.1 > best.1 { other } else { best });
        match best {
            Some((number, _)) => Choice::App(number),
            None if serving().next().is_some() => Choice::AllDown,
            None => Choice::Nobody,
        }
    }

    /// A server's draw: with u evenly from 0 to 1, -weight / ln u is greatest for each with a chance in proportion to its
    /// weight, whoever else takes part.
    fn draw(&self, app: &App, call_id: &[u8]) -> f64 {
        let mut hash = self.keyed;
        hash.write(call_id);
        hash.write_u8(0xff);
        hash.write(app.name.as_bytes());
        // 53 bits are what an f64 tells apart; never 0 nor 1.
        let u = ((hash.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(app.weight) / u.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, domains: &[&str], weight: u16) -> App {
        let domains = domains.iter().map(|&d| d.into()).collect();
        App { name: name.into(), domains, weight, reach: Reach::Here, state: State::Serving }
    }

    fn apps(all: Vec<App>) -> Apps {
        let health = HealthTable::new(all.len());
        Apps::new(&Secret::new([6; 32]), all, health)
    }

    /// How many of 10,000 calls each server gets.
    fn shares(apps: &Apps) -> Vec<usize> {
        let mut shares = vec![0; apps.all().len()];
        for call in 0..10_000 {
            let Choice::App(number) = apps.choose("example.com", format!("call{call}").as_bytes()) else {
                panic!("one is well")
            };
            shares[number] += 1;
        }
        shares
    }

    #[test]
    fn calls_are_spread_by_weight() {
        let shares = shares(&apps(vec![app("a", &[], 100), app("b", &[], 100), app("c", &[], 200)]));
        assert!(shares[..2].iter().all(|share| (2_300..2_700).contains(share)), "{shares:?}");
        assert!((4_750..5_250).contains(&shares[2]), "{shares:?}");
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_share() {
        let apps = apps(vec![app("a", &[], 100), app("b", &[], 100), app("c", &[], 50)]);
        let calls: Vec<_> = (0..2_000).map(|call| format!("call{call}")).collect();
        let choices = || calls.iter().map(|call| apps.choose("example.com", call.as_bytes())).collect::<Vec<_>>();
        let before = choices();
        apps.health().set(1, false);
        for (before, after) in before.iter().zip(choices()) {
            assert_ne!(after, Choice::App(1));
            assert!(*before == Choice::App(1) || *before == after);
        }
        apps.health().set(1, true);
        assert_eq!(choices(), before);
    }

    #[test]
    fn one_that_is_drained_gets_no_new_calls() {
        let draining = App { state: State::Draining, ..app("a", &[], 1_000) };
        assert_eq!(shares(&apps(vec![draining, app("b", &[], 1)])), [0, 10_000]);
    }

    #[test]
    fn a_domain_is_served_by_those_that_name_it() {
        let apps = apps(vec![app("stable", &[], 100), app("edge", &["edge.example.com"], 100)]);
        assert_eq!(apps.choose("example.com", b"1"), Choice::App(0));
        assert_eq!(apps.choose("Edge.example.com", b"1"), Choice::App(1));
        apps.health().set(1, false);
        assert_eq!(apps.choose("edge.example.com", b"1"), Choice::AllDown);
        assert_eq!(apps.choose("example.com", b"1"), Choice::App(0));
    }

    #[test]
    fn without_servers_the_proxy_forwards_by_itself() {
        assert_eq!(apps(Vec::new()).choose("example.com", b"1"), Choice::Nobody);
        assert_eq!(apps(vec![app("edge", &["edge.example.com"], 1)]).choose("example.com", b"1"), Choice::Nobody);
    }
}
