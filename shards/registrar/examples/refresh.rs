//! Prints what a REGISTER costs in time and allocations, from the parse to the answer, new and as a refresh, without and
//! with digest: `cargo run --release -p registrar --example refresh -- [USERS]`. Nothing is written to a disk.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use agent::{Domains, Flow, ListenerId, Now, Outbox, Secret, Ticket};
use bumpalo::Bump;
use registrar::{Incoming, Registrar, Settings};
use sip::{
    Limits, Message, Transport,
    digest::{Algorithm, Challenge, Covered, Ha1},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use store::{Account, Accounts, Bindings};

/// From one user to the next: a prime that divides no round number, so that all come, far apart. In the order in which their
/// records were made the processor would fetch them in advance by itself.
const STEP: usize = 7_368_787;
/// Messages of a turn.
const TURN: usize = 32;
const NOW: Now = Now { monotonic: Duration::from_secs(1), unix: Duration::from_secs(1_800_000_000) };

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged; only their number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A shard as the turn drives it.
struct Shard {
    registrar: Registrar,
    arena: Bump,
    journal: Vec<u8>,
    next_ticket: u64,
}

fn main() {
    let users: usize = std::env::args().nth(1).map_or(100_000, |n| n.parse().expect("a number of users"));
    let mut open = shard(users, false);
    let registers = |cseq| -> Vec<_> { (0..users).map(|n| register(n, cseq, "")).collect() };
    let scattered = |cseq| -> Vec<_> { (0..users).map(|n| register(n * STEP % users, cseq, "")).collect() };
    open.measure("new", &registers(1));
    open.measure("refresh", &scattered(2));
    open.measure("retransmission", &scattered(2));
    for algorithm in Algorithm::STRONGEST_FIRST {
        let mut shard = shard(users, true);
        let requests = registers(1);
        let challenges = shard.measure("challenge", &requests);
        let answers: Vec<_> =
            challenges.iter().enumerate().map(|(n, c)| register(n, 2, &credentials(c, n, algorithm, 1))).collect();
        shard.measure(&format!("new, {}", algorithm.token()), &answers);
        let answers: Vec<_> =
            challenges.iter().enumerate().map(|(n, c)| register(n, 3, &credentials(c, n, algorithm, 2))).collect();
        shard.measure(&format!("refresh, {}", algorithm.token()), &answers);
    }
}

fn shard(users: usize, authenticate: bool) -> Shard {
    let accounts = Accounts::new([2; 16]);
    for n in 0..users {
        let octets = |algorithm| ha1(algorithm, n).octets().to_vec();
        let account = Account {
            ha1_md5: octets(Algorithm::Md5).try_into().expect("16 octets"),
            ha1_sha256: octets(Algorithm::Sha256).try_into().expect("32 octets"),
            ha1_sha512_256: octets(Algorithm::Sha512_256).try_into().expect("32 octets"),
            enabled: true,
            may_relay: false,
            max_bindings: None,
            max_expires_secs: None,
        };
        accounts.put(&format!("user{n}@example.com"), account);
    }
    let registrar = Registrar::new(
        NOW,
        1,
        &Secret::new([3; 32]),
        Settings { authenticate, ..Settings::default() },
        Domains::new(vec!["example.com".into()], vec![]),
        Arc::new(Bindings::new([1; 16])),
        Arc::new(accounts),
    );
    Shard { registrar, arena: Bump::new(), journal: Vec::new(), next_ticket: 1 }
}

impl Shard {
    /// Runs turns over all requests; gives the answers.
    fn measure(&mut self, what: &str, requests: &[String]) -> Vec<String> {
        let mut answers = Vec::with_capacity(requests.len());
        let (mut spent, mut allocations) = (Duration::ZERO, 0);
        for turn in requests.chunks(TURN) {
            // As received: in the cache.
            let turn = turn.to_vec();
            self.arena.reset();
            self.journal.clear();
            let mut out = Outbox::new(&self.arena, &mut [], &mut self.journal, &mut self.next_ticket);
            let (start, before) = (Instant::now(), ALLOCATIONS.load(Relaxed));
            turn.iter().for_each(|text| handle(&mut self.registrar, text, &mut out));
            self.registrar.handle_settled(NOW, Ticket(u64::MAX), true, &mut out);
            spent += start.elapsed();
            allocations += ALLOCATIONS.load(Relaxed) - before;
            assert_eq!(out.outgoing().len(), turn.len(), "each request is answered");
            answers.extend(out.outgoing().iter().map(|o| String::from_utf8(o.to_vec()).expect("ASCII")));
        }
        let each = requests.len();
        println!(
            "{what}: {} ns, {:.2} allocations each",
            spent.as_nanos() / each as u128,
            allocations as f64 / each as f64
        );
        answers
    }
}

fn handle<'t>(registrar: &mut Registrar, text: &'t str, out: &mut Outbox<'t>) {
    let message = Message::parse(text.as_bytes(), &Limits::default()).expect("it is well-formed");
    let request = message.request().expect("it is a request");
    let peer = SocketAddr::from(([203, 0, 113, 7], 40_001));
    let flow = Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None };
    registrar.handle(NOW, &Incoming { flow, message: &message, request: &request }, out);
}

fn register(n: usize, cseq: u32, credentials: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.20:5060;rport;branch=z9hG4bK{n}x{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:user{n}@example.com>;tag=f{n}\r\nTo: <sip:user{n}@example.com>\r\n\
         Call-ID: 3848276298220188511-{n}@192.168.1.20\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:user{n}@192.168.1.20:5060;line=a1b2c3>\r\nExpires: 3600\r\nUser-Agent: Yealink T46S 66.85.0\r\n\
         {credentials}Content-Length: 0\r\n\r\n"
    )
}

fn ha1(algorithm: Algorithm, n: usize) -> Ha1 {
    Ha1::new(algorithm, format!("user{n}").as_bytes(), b"example.com", b"secret")
}

/// The header line that answers a challenge's offer of `algorithm`.
fn credentials(challenge: &str, n: usize, algorithm: Algorithm, count: u32) -> String {
    let offers = challenge.split("\r\n").filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
    let offer = offers.map(|offer| Challenge::parse(offer.as_bytes()).expect("it is well-formed"));
    let offer = offer.into_iter().find(|o| o.algorithm == algorithm).expect("all are offered");
    let covered = Covered { method: b"REGISTER", uri: b"sip:example.com", body: b"" };
    let name = format!("user{n}");
    let answer = offer.answer(name.as_bytes(), &ha1(algorithm, n), &covered, count, b"c0ffee");
    let mut line = b"Authorization: ".to_vec();
    answer.expect("the algorithms are the same").write_to(&mut line);
    line.extend(b"\r\n");
    String::from_utf8(line).expect("ASCII")
}
