//! Prints what a whole call costs an application server: INVITE, 180, 200, ACK, BYE and 200 in, eight messages out, two legs,
//! the journal's records and the CDRs, from the parse to the post; and its allocations. Without a plan, and with one that dials:
//! `cargo run --release -p appserver --example calls -- [CALLS [AT_A_TIME]]`. With many at a time, what a message finds is no longer
//! in the processor's caches, as in a busy switch. Nothing is sent or written to a disk.
//!
//! Instructions: `valgrind --tool=callgrind --toggle-collect='*measured*' target/release/examples/calls 1000`, which stops where
//! the plan begins.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use agent::{Domains, Flow, ListenerId, Now, Outbox, Received, Secret, Ticket};
use appserver::{Answer, AppServer, Place, Query, QueryId, Settings, Surroundings, Tables, Target};
use bumpalo::Bump;
use dialplan::{Counted, Limits, Machine};
use mimalloc::MiMalloc;
use sip::{Message, Transport};
use std::{
    alloc::{GlobalAlloc, Layout},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use store::{Account, Accounts, Plan, PlanText, Plans, Providers};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes on to the switch's allocator unchanged; only their number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted<Counting> = Counted::new(Counting);

fn main() {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse().expect("a number of calls"));
    let calls: usize = numbers.next().unwrap_or(20_000);
    let at_a_time: usize = numbers.next().unwrap_or(1);
    for (name, plan) in [("no plan", None), ("a plan with one dial", Some(r#"sys.dial("bob@example.com");"#))] {
        let mut world = World::new(plan);
        let rounds = calls.div_ceil(at_a_time);
        let mut costs: Vec<(Duration, u64)> =
            (0..rounds).map(|round| world.round(round * at_a_time, at_a_time)).collect();
        costs.sort_unstable();
        let (median, allocations) = costs[rounds / 2];
        let micros = median.as_secs_f64() * 1e6 / at_a_time as f64;
        println!("{name}: {micros:.1} us a call, {} allocations", allocations / at_a_time as u64);
    }
}

struct Around;

impl Surroundings for Around {
    fn ask(&mut self, _: Now, _: QueryId, _: &Query<'_>) -> Option<Answer> {
        let target = Target {
            uri: b"sip:bob@10.0.0.2:5060;transport=udp".as_slice().into(),
            route: Box::default(),
            flow: Some(flow("10.0.0.2:5060")),
            q: 1000,
            expires_secs: 600,
            user_agent: "".into(),
        };
        Some(Answer::Bindings(vec![target]))
    }

    fn is_trusted(&self, _: IpAddr) -> bool {
        true
    }
}

fn flow(peer: &str) -> Flow {
    let peer = peer.parse().expect("it is an address");
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None }
}

struct World {
    app: AppServer,
    now: Now,
    arena: Bump,
    journal: Vec<u8>,
    next_ticket: u64,
    spent: (Duration, u64),
}

fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find(|line| line.starts_with(name)).expect("the header is there")
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n";
const ALICE: &str = "10.0.0.1:5060";
const BOB: &str = "10.0.0.2:5060";

impl World {
    fn new(plan: Option<&str>) -> Self {
        let domains = Domains::new(vec!["example.com".into()], vec!["192.0.2.1:5060".parse().expect("an address")]);
        let accounts = Accounts::new([1; 16]);
        let account = Account {
            ha1_md5: [0; 16],
            ha1_sha256: [0; 32],
            ha1_sha512_256: [0; 32],
            enabled: true,
            may_relay: false,
            max_bindings: None,
            max_expires_secs: None,
        };
        let plans = Plans::new([3; 16]);
        accounts.put("bob@example.com", account);
        for n in 0..1000 {
            let owner: Box<str> = format!("alice{n}@example.com").into();
            accounts.put(&owner, account);
            if let Some(source) = plan {
                let text = PlanText { owner, name: "main".into(), source: source.into(), version: 1 };
                plans.put(Plan { text: Arc::new(text), is_in: false, is_out: true });
            }
        }
        let providers = Arc::new(Providers::new([2; 16]));
        let tables = Tables { accounts: Arc::new(accounts), providers, plans: Arc::new(plans) };
        let now = Now { monotonic: Duration::from_secs(1), unix: Duration::from_secs(1_800_000_000) };
        let place = Place { name: "stable".into(), shard: 0, shards: 1 };
        let settings = dialplan::Settings { limits: Limits::default(), clock: || Duration::ZERO };
        let machine = plan.map(|_| Machine::new(settings).expect("the limits of this example fit"));
        let app = AppServer::new(now, Settings::new(domains), place, &Secret::new([7; 32]), 1, 1, tables, machine);
        Self { app, now, arena: Bump::new(), journal: Vec::new(), next_ticket: 0, spent: (Duration::ZERO, 0) }
    }

    /// One message in; what goes out.
    fn receive(&mut self, peer: &str, text: &str) -> Vec<String> {
        self.arena.reset();
        self.journal.clear();
        let (mut room, mut journal, mut ticket) = ([], std::mem::take(&mut self.journal), self.next_ticket);
        let arena = std::mem::take(&mut self.arena);
        let mut out = Outbox::new(&arena, &mut room, &mut journal, &mut ticket);
        let (began, allocations) = (Instant::now(), ALLOCATIONS.load(Relaxed));
        measured(&mut self.app, self.now, flow(peer), text.as_bytes(), &mut out);
        self.spent.1 += ALLOCATIONS.load(Relaxed) - allocations;
        self.spent.0 += began.elapsed();
        let posted = out.take_posted();
        let texts = posted.iter().map(|posted| String::from_utf8_lossy(posted.octets).into_owned()).collect();
        drop((posted, out));
        (self.arena, self.journal, self.next_ticket) = (arena, journal, ticket);
        texts
    }

    /// So many whole calls from number `first` on, the first message of each, then the second of each, and so on; what they cost.
    fn round(&mut self, first: usize, calls: usize) -> (Duration, u64) {
        self.spent = (Duration::ZERO, 0);
        let mut calls: Vec<Call> = (first..first + calls).map(|n| Call { n, ..Call::default() }).collect();
        for call in &mut calls {
            // A millisecond after the one before.
            self.now.monotonic += Duration::from_millis(1);
            self.now.unix += Duration::from_millis(1);
            let sent = self.receive(ALICE, &call.invite());
            call.leg = sent.into_iter().find(|text| text.starts_with("INVITE")).expect("bob is called");
        }
        for call in &calls {
            self.receive(BOB, &call.respond(&call.leg, "180 Ringing", ""));
        }
        for call in &mut calls {
            let sent = self.receive(BOB, &call.respond(&call.leg, "200 OK", SDP));
            call.answer = sent.into_iter().find(|text| text.starts_with("SIP/2.0 200")).expect("alice is answered");
        }
        for call in &calls {
            self.receive(ALICE, &call.inside("ACK", 1));
        }
        for call in &mut calls {
            let sent = self.receive(ALICE, &call.inside("BYE", 2));
            call.leg = sent.into_iter().find(|text| text.starts_with("BYE")).expect("bob is hung up");
        }
        for call in &calls {
            self.receive(BOB, &call.respond(&call.leg, "200 OK", ""));
        }
        self.spent
    }
}

/// What a message costs.
#[inline(never)]
fn measured<'t>(app: &mut AppServer, now: Now, flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>) {
    let message = Message::parse(octets, &sip::Limits::default()).expect("it is whole");
    let received = Received { flow, octets, passed: false };
    app.handle_message(now, &received, &message, &mut Around, out);
    let next = out.records().1;
    if next > Ticket(0) {
        app.handle_settled(now, Ticket(next.0 - 1), true, &mut Around, out);
    }
    if app.next_timeout().is_some_and(|due| due <= now.monotonic) {
        app.handle_timeout(now, &mut Around, out);
    }
}

/// What the phones know of a call.
#[derive(Default)]
struct Call {
    n: usize,
    /// The request that bob has to answer.
    leg: String,
    answer: String,
}

impl Call {
    fn invite(&self) -> String {
        let (n, user) = (self.n, self.n % 1000);
        format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: \"Alice\" <sip:alice{user}@example.com>;tag=t{n:016}\r\nTo: <sip:bob@example.com>\r\n\
             Call-ID: {n}-3848276298220188511@10.0.0.1\r\nCSeq: 1 INVITE\r\nContact: <sip:alice{user}@{ALICE};transport=udp>\r\n\
             Supported: timer, replaces\r\nUser-Agent: phone\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )
    }

    fn respond(&self, request: &str, status: &str, body: &str) -> String {
        let to = line(request, "To");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag=b{:016}", self.n) };
        format!(
            "SIP/2.0 {status}\r\n{}\r\n{}\r\n{to}{tag}\r\n{}\r\n{}\r\nContact: <sip:bob@{BOB}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            line(request, "Via"),
            line(request, "From"),
            line(request, "Call-ID"),
            line(request, "CSeq"),
            body.len()
        )
    }

    fn inside(&self, method: &str, cseq: u32) -> String {
        let (n, answer) = (self.n, &self.answer);
        let target = line(answer, "Contact").trim_start_matches("Contact: <").trim_end_matches('>');
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{method}{n}\r\nMax-Forwards: 70\r\n\
             {}\r\n{}\r\n{}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
            line(answer, "From"),
            line(answer, "To"),
            line(answer, "Call-ID"),
        )
    }
}
