//! What an answered call costs in memory, everything that this crate and those below it keep for it included.

use agent::{Domains, Flow, ListenerId, Now, Outbox, Received, Secret, Ticket};
use appserver::{Answer, AppServer, Place, Query, QueryId, Settings, Surroundings, Tables, Target};
use bumpalo::Bump;
use sip::{Message, Transport};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use store::{Account, Accounts, Plans, Providers};

/// Counts what is allocated and not given back.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator; the count beside it touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

const CALLS: usize = 5000;
const MAX_OCTETS: usize = 4096;

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
    next_ticket: u64,
}

impl World {
    /// One message in; what goes out.
    fn receive(&mut self, peer: &str, text: &str) -> Vec<String> {
        let arena = Bump::new();
        let (mut room, mut journal) = ([], Vec::new());
        let mut out = Outbox::new(&arena, &mut room, &mut journal, &mut self.next_ticket);
        let message = Message::parse(text.as_bytes(), &sip::Limits::default()).expect("it is whole");
        let received = Received { flow: flow(peer), octets: text.as_bytes(), passed: false };
        self.app.handle_message(self.now, &received, &message, &mut Around, &mut out);
        let next = out.records().1;
        if next > Ticket(0) {
            self.app.handle_settled(self.now, Ticket(next.0 - 1), true, &mut Around, &mut out);
        }
        out.take_posted().iter().map(|posted| String::from_utf8_lossy(posted.octets).into_owned()).collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now.monotonic += time;
        let arena = Bump::new();
        let (mut room, mut journal) = ([], Vec::new());
        let mut out = Outbox::new(&arena, &mut room, &mut journal, &mut self.next_ticket);
        self.app.handle_timeout(self.now, &mut Around, &mut out);
    }
}

fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find(|line| line.starts_with(name)).expect("the header is there")
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n";

#[test]
fn an_answered_call_takes_at_most_4_kib() {
    let domains = Domains::new(vec!["example.com".into()], vec!["192.0.2.1:5060".parse().expect("it is an address")]);
    let accounts = Accounts::new([1; 16]);
    let zeros = ([0; 16], [0; 32], [0; 32]);
    let account = Account {
        ha1_md5: zeros.0,
        ha1_sha256: zeros.1,
        ha1_sha512_256: zeros.2,
        enabled: true,
        may_relay: false,
        max_bindings: None,
        max_expires_secs: None,
    };
    accounts.put("bob@example.com", account);
    for n in 0..CALLS {
        accounts.put(&format!("alice{n}@example.com"), account);
    }
    let tables = Tables {
        accounts: Arc::new(accounts),
        providers: Arc::new(Providers::new([2; 16])),
        plans: Arc::new(Plans::new([3; 16])),
    };
    let now = Now { monotonic: Duration::from_secs(1), unix: Duration::from_secs(1_800_000_000) };
    let place = Place { name: "stable".into(), shard: 0, shards: 1 };
    let app = AppServer::new(now, Settings::new(domains), place, &Secret::new([7; 32]), 1, 1, tables, None);
    let mut world = World { app, now, next_ticket: 0 };
    let before = HELD.load(Relaxed);
    for n in 0..CALLS {
        let invite = format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: \"Alice\" <sip:alice{n}@example.com>;tag=t{n:016}\r\nTo: <sip:bob@example.com>\r\n\
             Call-ID: {n}-3848276298220188511@10.0.0.1\r\nCSeq: 1 INVITE\r\nContact: <sip:alice{n}@10.0.0.1:5060;transport=udp>\r\n\
             Supported: timer, replaces\r\nUser-Agent: phone\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        );
        let sent = world.receive("10.0.0.1:5060", &invite);
        let leg = &sent[1];
        let respond = |status: &str, body: &str| {
            format!(
                "SIP/2.0 {status}\r\n{}\r\n{}\r\n{};tag=b{n:016}\r\n{}\r\n{}\r\nContact: <sip:bob@10.0.0.2:5060>\r\n\
                 Session-Expires: 1800;refresher=uac\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                line(leg, "Via"),
                line(leg, "From"),
                line(leg, "To"),
                line(leg, "Call-ID"),
                line(leg, "CSeq"),
                body.len()
            )
        };
        world.receive("10.0.0.2:5060", &respond("180 Ringing", ""));
        let sent = world.receive("10.0.0.2:5060", &respond("200 OK", SDP));
        let answer = sent.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("the caller is answered");
        let target = line(answer, "Contact").trim_start_matches("Contact: <").trim_end_matches('>');
        let ack = format!(
            "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa{n}\r\nMax-Forwards: 70\r\n{}\r\n{}\r\n{}\r\n\
             CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            line(answer, "From"),
            line(answer, "To"),
            line(answer, "Call-ID"),
        );
        world.receive("10.0.0.1:5060", &ack);
    }
    let at_answer = (HELD.load(Relaxed) - before) / CALLS;
    // Transactions stay for 32 seconds more.
    world.wait(Duration::from_secs(40));
    assert_eq!((world.app.census().established, world.app.census().transactions), (CALLS, 0));
    let each = (HELD.load(Relaxed) - before) / CALLS;
    println!("an answered call: {each} octets, {at_answer} within 32 seconds of its answer");
    assert!(each <= MAX_OCTETS && at_answer <= MAX_OCTETS, "{each}, {at_answer}");
}
