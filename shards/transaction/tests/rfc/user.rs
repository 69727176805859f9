//! A transaction user under a virtual clock: it hands messages over and writes down what comes out.

use agent::{Agent, AppBranch, Flow, ListenerId, Now, Outbox, Way};
use bumpalo::Bump;
use sip::{Limits, Message, Method, StatusCode, Transport};
use std::time::Duration;
use transaction::{Arrived, ClientId, Expired, Full, ServerId, Settings, Transactions, Undelivered, Written};

/// The user that client transactions of the tests belong to.
pub const USER: u32 = 7;

/// The flow of the tests' requests: over datagrams, so everything is retransmitted.
pub fn udp() -> Flow {
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer: ([192, 0, 2, 1], 5060).into(), connection: None }
}

/// A flow over a stream, on which nothing is retransmitted but a 2xx to an INVITE.
pub fn tcp() -> Flow {
    Flow { transport: Transport::Tcp, ..udp() }
}

/// The settings of the tests: the values of table 4.
pub fn settings() -> Settings {
    Settings { streams_are_reliable: true, max: 100, ..Settings::default() }
}

/// The transactions of one user, and what time it is.
pub struct User {
    pub transactions: Transactions<u32>,
    pub now: Duration,
    /// What was posted and has not been taken.
    posted: Vec<(Way, String)>,
    next_branch: u64,
}

impl User {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let now = Duration::from_secs(1000);
        let transactions = Transactions::new(Self::at(now), settings, [9; 16]);
        Self { transactions, now, posted: Vec::new(), next_branch: 0xb000 }
    }

    fn at(now: Duration) -> Now {
        Now { monotonic: now, unix: now + Duration::from_secs(1_800_000_000) }
    }

    /// One turn.
    fn turn<R>(&mut self, f: impl for<'t> FnOnce(&mut Transactions<u32>, Now, &'t Bump, &mut Outbox<'t>) -> R) -> R {
        let (arena, mut journal, mut ticket) = (Bump::new(), Vec::new(), 0);
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        let result = f(&mut self.transactions, Self::at(self.now), &arena, &mut out);
        for posted in out.take_posted() {
            self.posted.push((posted.way, String::from_utf8(posted.octets.to_vec()).expect("tests write text")));
        }
        result
    }

    /// What has gone out since the last look: each message's start-line up to what follows the method or the status.
    pub fn sent(&mut self) -> Vec<String> {
        self.posted.drain(..).map(|(_, text)| name(&text)).collect()
    }

    /// The same with the ways and all the octets.
    pub fn sent_in_full(&mut self) -> Vec<(Way, String)> {
        std::mem::take(&mut self.posted)
    }

    /// A request comes on `flow`.
    pub fn receive_on(&mut self, flow: Flow, text: &str) -> Arrived {
        self.turn(|transactions, now, _, out| {
            let message = Message::parse(text.as_bytes(), &Limits::default()).expect("a well-formed request");
            transactions.handle_request(now, flow, &message.request().expect("a well-formed request"), out)
        })
    }

    pub fn receive(&mut self, text: &str) -> Arrived {
        self.receive_on(udp(), text)
    }

    /// A request that must be new.
    pub fn accept_on(&mut self, flow: Flow, text: &str) -> ServerId {
        match self.receive_on(flow, text) {
            Arrived::New(id) => {
                self.transactions.set_user(id, USER);
                id
            }
            other => panic!("{other:?}: {text}"),
        }
    }

    pub fn accept(&mut self, text: &str) -> ServerId {
        self.accept_on(udp(), text)
    }

    /// The user responds.
    pub fn respond(&mut self, id: ServerId, status: u16) {
        self.turn(|transactions, now, arena, out| {
            let text = arena.alloc_str(&format!("SIP/2.0 {status} Because\r\nContent-Length: 0\r\n\r\n"));
            transactions.respond(now, id, StatusCode::new(status).expect("a status"), text.as_bytes(), out);
        });
    }

    /// The user will respond later to `text`.
    pub fn trying(&mut self, id: ServerId, text: &str) {
        self.turn(|transactions, now, _, out| {
            let message = Message::parse(text.as_bytes(), &Limits::default()).expect("a well-formed request");
            transactions.trying(now, id, &message, out);
        });
    }

    /// The user sends a request that way.
    pub fn try_request(&mut self, way: Way, method: &str) -> Result<Sent, Full> {
        self.next_branch += 1;
        let branch = self.next_branch;
        let text = request(method, branch);
        let id = self.turn(|transactions, now, arena, out| {
            let octets = arena.alloc_str(&text).as_bytes();
            let method = Method::new(arena.alloc_str(method).as_bytes());
            transactions.request(now, USER, Written { method, way, branch, octets }, out)
        })?;
        Ok(Sent { id, branch, method: method.to_owned() })
    }

    pub fn request_on(&mut self, flow: Flow, method: &str) -> Sent {
        self.try_request(Way::Flow(flow), method).expect("there is room")
    }

    pub fn request(&mut self, method: &str) -> Sent {
        self.request_on(udp(), method)
    }

    pub fn cancel(&mut self, sent: &Sent) {
        self.turn(|transactions, now, _, out| transactions.cancel(now, sent.id, out));
    }

    /// A response comes; the user and transaction that it is for.
    pub fn hear_text(&mut self, text: &str) -> Option<(ClientId, u32)> {
        self.turn(|transactions, now, _, out| {
            let message = Message::parse(text.as_bytes(), &Limits::default()).expect("a well-formed response");
            transactions.handle_response(now, &message, &message.response().expect("a well-formed response"), out)
        })
    }

    /// `status` comes for what was sent; true if the user hears it.
    pub fn hear(&mut self, sent: &Sent, status: u16) -> bool {
        match self.hear_text(&sent.response(status, "remote")) {
            Some(heard) => {
                assert_eq!(heard, (sent.id, USER));
                true
            }
            None => false,
        }
    }

    /// A message of ours could not be sent.
    pub fn undeliverable(&mut self, text: &str) -> Option<Undelivered<u32>> {
        let message = Message::parse(text.as_bytes(), &Limits::default()).expect("a message of ours");
        self.transactions.undeliverable(&message)
    }

    /// Lets `millis` pass. What happens meanwhile comes back, with the milliseconds from now: what goes out by the start of
    /// its start-line, `timeout` and `no ACK` where the user is told.
    pub fn pass(&mut self, millis: u64) -> Vec<(u64, String)> {
        let (start, end) = (self.now, self.now + Duration::from_millis(millis));
        let mut happened = Vec::new();
        while let Some(next) = self.transactions.next_timeout().filter(|&next| next <= end) {
            // It may be past: the wheel's slots begin before what is in them.
            self.now = next.max(self.now);
            let mut told = Vec::new();
            self.turn(|transactions, now, _, out| transactions.handle_timeout(now, out, &mut |event| told.push(event)));
            let at = (self.now - start).as_millis() as u64;
            happened.extend(self.sent().into_iter().map(|sent| (at, sent)));
            happened.extend(told.into_iter().map(|event| match event {
                Expired::ClientTimeout(_, user) => (at, format!("timeout of {user}")),
                Expired::NotAcknowledged(_, user) => (at, format!("no ACK for {user}")),
            }));
        }
        self.now = end;
        happened
    }

    /// Lets time pass until nothing is left, and checks that nothing happens meanwhile.
    #[track_caller]
    pub fn ends_quietly_after(&mut self, millis: u64) {
        assert_eq!(self.pass(millis - 10), [], "quiet");
        assert!(!self.transactions.is_empty(), "not before its time");
        assert_eq!(self.pass(10), [], "quiet");
        assert!(self.transactions.is_empty(), "nothing is left");
    }
}

/// A request that the user has sent.
pub struct Sent {
    pub id: ClientId,
    pub branch: u64,
    method: String,
}

impl Sent {
    /// A response to it.
    pub fn response(&self, status: u16, tag: &str) -> String {
        self.response_to(&self.method, status, tag)
    }

    /// A response to another request of its branch: a CANCEL.
    pub fn response_to(&self, method: &str, status: u16, tag: &str) -> String {
        let via = via(self.branch);
        format!(
            "SIP/2.0 {status} Because\r\nVia: {via}\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:b@x>;tag={tag}\r\nCall-ID: ours\r\n\
             CSeq: 4711 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }
}

fn via(branch: u64) -> String {
    let mut text = Vec::new();
    AppBranch { agent: Agent { name: "stable", shard: 0 }, id: branch }.write(&mut text);
    format!("SIP/2.0/UDP {};branch={}", agent::PLACEHOLDER, String::from_utf8(text).expect("a branch is a token"))
}

/// A request of ours.
pub fn request(method: &str, branch: u64) -> String {
    let via = via(branch);
    format!(
        "{method} sip:b@192.0.2.9 SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nRoute: <sip:one;lr>, <sip:two;lr>\r\n\
         From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\nCall-ID: ours\r\nCSeq: 4711 {method}\r\n\
         Proxy-Authorization: Digest username=\"a\"\r\nContact: <sip:a@{}>\r\nContent-Type: text/plain\r\n\
         Content-Length: 4\r\n\r\nbody",
        agent::PLACEHOLDER
    )
}

/// A request from outside, with that branch.
pub fn incoming(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag=a\r\nTo: <sip:b@example.com>\r\nCall-ID: theirs\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The method or the status of a message.
pub fn name(text: &str) -> String {
    let mut words = text.split(' ');
    let first = words.next().expect("a start-line");
    if first == "SIP/2.0" { words.next().expect("a status").to_owned() } else { first.to_owned() }
}

/// What happens, as `pass` tells it.
pub fn events(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|&(at, what)| (at, what.to_owned())).collect()
}
