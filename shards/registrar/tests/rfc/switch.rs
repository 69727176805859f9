//! A switch of some shards that only registers, and what its phones send.

use agent::{ConnectionId, Domains, Flow, ListenerId, Now, Outbox, Secret, Ticket};
use bumpalo::Bump;
use registrar::{Counters, Incoming, Registrar, Settings};
use sip::{
    HeaderName, Limits, Message, StartLine, Transport,
    digest::{Algorithm, Challenge, Covered, Ha1},
    write,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use store::{Account, Accounts, Bindings, Record, journal};

/// When the tests begin, in seconds since the Unix epoch.
pub const START: u64 = 1_800_000_000;
/// Where a phone sends from unless a test says otherwise: the host of its Via.
pub const PHONE: &str = "192.0.2.5:5060";

/// Some shards over one table. What they give to the journal stays in their hands until [`Switch::settle`].
pub struct Switch {
    pub now: Now,
    pub bindings: Arc<Bindings>,
    pub accounts: Arc<Accounts>,
    pub journal: Vec<u8>,
    shards: Vec<Shard>,
}

struct Shard {
    registrar: Registrar,
    next_ticket: u64,
}

/// An answer and the path it took.
#[derive(Debug)]
pub struct Sent {
    pub flow: Flow,
    pub text: String,
}

impl Switch {
    /// One shard without authentication.
    pub fn open() -> Self {
        Self::new(Settings { authenticate: false, ..Settings::default() }, 1)
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { authenticate: false, ..Settings::default() };
        change(&mut settings);
        Self::new(settings, 1)
    }

    pub fn new(settings: Settings, shards: u16) -> Self {
        Self::in_run(settings, shards, 1, Bindings::new([1; 16]))
    }

    /// The same switch started again, as the `run`-th time, with the bindings that were replayed.
    pub fn in_run(settings: Settings, shards: u16, run: u32, bindings: Bindings) -> Self {
        let now = Now { monotonic: Duration::from_secs(10), unix: Duration::from_secs(START) };
        let (bindings, accounts) = (Arc::new(bindings), Arc::new(Accounts::new([2; 16])));
        let domains = Domains::new(
            vec!["example.com".into(), "b.example".into()],
            vec!["192.0.2.1:5060".parse().expect("an address")],
        );
        let shard = |_| Shard {
            registrar: Registrar::new(
                now,
                run,
                &Secret::new([3; 32]),
                settings.clone(),
                domains.clone(),
                Arc::clone(&bindings),
                Arc::clone(&accounts),
            ),
            next_ticket: 1,
        };
        Self { now, shards: (0..shards).map(shard).collect(), bindings, accounts, journal: Vec::new() }
    }

    /// Gives `user@example.com` an account.
    pub fn add_account(&self, user: &str, password: &str) {
        self.accounts.put(&format!("{user}@example.com"), account(user, password));
    }

    pub fn advance(&mut self, secs: u64) {
        self.now.monotonic += Duration::from_secs(secs);
        self.now.unix += Duration::from_secs(secs);
    }

    /// One turn of a shard with one message from the phone. Nothing is settled.
    pub fn send(&mut self, shard: usize, text: &str) -> Vec<Sent> {
        self.send_from(shard, flow(PHONE), text)
    }

    pub fn send_from(&mut self, shard: usize, flow: Flow, text: &str) -> Vec<Sent> {
        self.turn(shard, |registrar, now, arena, out| {
            let octets: &[u8] = arena.alloc_slice_copy(text.as_bytes());
            let limits = Limits::default();
            let message = Message::parse(octets, &limits);
            let fault = match &message {
                Ok(message) => match message.request() {
                    Ok(request) => {
                        return registrar.handle(now, &Incoming { flow, message, request: &request }, out);
                    }
                    Err(fault) => fault,
                },
                Err(fault) => *fault,
            };
            // What the proxy does with a request that is none.
            let message = Message::salvage(octets, &limits).expect("a request line");
            let mut draft = out.draft();
            write::begin_response(&mut draft, &message, fault.response(), &fault.to_string(), b"t", flow.peer);
            write::finish(&mut draft, b"");
            out.send_draft(flow, draft);
        })
    }

    /// The journal has kept, or not kept, all that a shard gave it.
    pub fn settle(&mut self, shard: usize, ok: bool) -> Vec<Sent> {
        let up_to = Ticket(self.shards[shard].next_ticket - 1);
        self.turn(shard, |registrar, now, _, out| registrar.handle_settled(now, up_to, ok, out))
    }

    /// The answer to a message at the first shard, when the journal has kept its record.
    pub fn answer(&mut self, text: &str) -> String {
        self.answer_from(flow(PHONE), text)
    }

    pub fn answer_from(&mut self, flow: Flow, text: &str) -> String {
        let mut sent = self.send_from(0, flow, text);
        sent.extend(self.settle(0, true));
        assert_eq!(sent.len(), 1, "one answer to {text}");
        sent.remove(0).text
    }

    /// Sends without credentials, then with those that answer the strongest challenge; gives the last answer.
    pub fn answer_with(&mut self, user: &str, password: &str, register: Register) -> String {
        let challenge = self.answer(&register.text());
        let register = register.cseq_plus_one();
        let credentials = credentials(&challenge, user, password, 1, "sip:example.com");
        self.answer(&register.header(&credentials).text())
    }

    pub fn expire(&mut self) {
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.registrar.handle_timeout(now));
    }

    pub fn registrar(&mut self, shard: usize) -> &mut Registrar {
        &mut self.shards[shard].registrar
    }

    pub fn counters(&self) -> Counters {
        *self.shards[0].registrar.counters()
    }

    /// The contacts that `user@example.com` has, in the order of the record.
    pub fn contacts(&self, user: &str) -> Vec<String> {
        let contacts = |record: &Record| {
            let live = record.live(self.now.unix_secs());
            live.map(|b| String::from_utf8_lossy(b.contact).into_owned()).collect()
        };
        self.bindings.lookup(&format!("{user}@example.com"), self.now.unix_secs(), contacts).unwrap_or_default()
    }

    /// The table that a replay of all that was journaled gives.
    pub fn replayed(&self) -> Bindings {
        let table = Bindings::new([9; 16]);
        let segment = [&journal::SegmentHeader { number: 1 }.encode()[..], &self.journal].concat();
        let now = self.now.unix_secs();
        table.load(journal::Replay::new(&segment).filter_map(|item| item.expect("a whole frame").into_binding()), now);
        table.finish_replay(self.now.unix_secs());
        table
    }

    fn turn(
        &mut self,
        shard: usize,
        act: impl for<'t> FnOnce(&mut Registrar, Now, &'t Bump, &mut Outbox<'t>),
    ) -> Vec<Sent> {
        let arena = Bump::new();
        let Shard { registrar, next_ticket } = &mut self.shards[shard];
        let mut out = Outbox::new(&arena, &mut [], &mut self.journal, next_ticket);
        act(registrar, self.now, &arena, &mut out);
        let text = |octets| String::from_utf8(octets).expect("these tests write UTF-8");
        out.outgoing().iter().map(|sent| Sent { flow: sent.flow, text: text(sent.to_vec()) }).collect()
    }
}

pub fn account(user: &str, password: &str) -> Account {
    let ha1 = |algorithm| Ha1::new(algorithm, user.as_bytes(), b"example.com", password.as_bytes());
    fn octets<const N: usize>(ha1: Ha1) -> [u8; N] {
        ha1.octets().try_into().expect("as long as the algorithm makes them")
    }
    Account {
        ha1_md5: octets(ha1(Algorithm::Md5)),
        ha1_sha256: octets(ha1(Algorithm::Sha256)),
        ha1_sha512_256: octets(ha1(Algorithm::Sha512_256)),
        enabled: true,
        may_relay: false,
        max_bindings: None,
        max_expires_secs: None,
    }
}

pub fn flow(peer: &str) -> Flow {
    let peer: SocketAddr = peer.parse().expect("an address");
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None }
}

pub fn tcp(peer: &str) -> Flow {
    let connection = Some(ConnectionId { shard: 0, slot: 7, generation: 1 });
    Flow { transport: Transport::Tcp, connection, ..flow(peer) }
}

/// A REGISTER of Alice's, to be changed.
#[derive(Clone, Debug)]
pub struct Register {
    pub uri: String,
    pub to: String,
    pub via: String,
    pub call_id: String,
    pub cseq: u32,
    lines: Vec<String>,
}

impl Register {
    pub fn new() -> Self {
        Self::of("alice")
    }

    pub fn of(user: &str) -> Self {
        Self {
            uri: "sip:example.com".into(),
            to: format!("<sip:{user}@example.com>"),
            via: "SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bK".into(),
            call_id: format!("{user}-1"),
            cseq: 1,
            lines: Vec::new(),
        }
    }

    pub fn uri(self, uri: &str) -> Self {
        Self { uri: uri.into(), ..self }
    }

    pub fn to(self, to: &str) -> Self {
        Self { to: to.into(), ..self }
    }

    pub fn via(self, via: &str) -> Self {
        Self { via: via.into(), ..self }
    }

    pub fn call_id(self, call_id: &str) -> Self {
        Self { call_id: call_id.into(), ..self }
    }

    pub fn cseq(self, cseq: u32) -> Self {
        Self { cseq, ..self }
    }

    pub fn cseq_plus_one(self) -> Self {
        Self { cseq: self.cseq + 1, ..self }
    }

    pub fn contact(self, value: &str) -> Self {
        self.header(&format!("Contact: {value}"))
    }

    pub fn header(mut self, line: &str) -> Self {
        self.lines.push(line.into());
        self
    }

    pub fn text(&self) -> String {
        let Self { uri, to, via, call_id, cseq, lines } = self;
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: {via}{cseq}\r\nMax-Forwards: 70\r\nFrom: {to};tag=f\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{lines}Content-Length: 0\r\n\r\n"
        )
    }
}

/// The status code of an answer.
pub fn status(answer: &str) -> u16 {
    let message = Message::parse(answer.as_bytes(), &Limits::default()).expect("a well-formed answer");
    match message.start_line() {
        StartLine::Response { status, .. } => status.get(),
        StartLine::Request { .. } => panic!("a request: {answer}"),
    }
}

/// The values of all header lines of a name.
pub fn headers<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let line = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    answer.split("\r\n").filter_map(line).collect()
}

/// The header line that answers a challenge's topmost offer.
pub fn credentials(challenge: &str, user: &str, password: &str, count: u32, uri: &str) -> String {
    let offers = headers(challenge, HeaderName::WwwAuthenticate.canonical());
    answer_to(offers.first().expect("a challenge"), user, password, count, uri)
}

pub fn answer_to(offer: &str, user: &str, password: &str, count: u32, uri: &str) -> String {
    let challenge = Challenge::parse(offer.as_bytes()).expect("a well-formed challenge");
    let ha1 = Ha1::new(challenge.algorithm, user.as_bytes(), &challenge.realm, password.as_bytes());
    let covered = Covered { method: b"REGISTER", uri: uri.as_bytes(), body: b"" };
    let credentials = challenge.answer(user.as_bytes(), &ha1, &covered, count, b"c0ffee").expect("the same algorithm");
    let mut line = b"Authorization: ".to_vec();
    credentials.write_to(&mut line);
    String::from_utf8(line).expect("ASCII")
}
