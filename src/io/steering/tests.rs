//! The program in the kernel of this machine, held against what user space says of the same messages.
//!
//! Who may not load it sees the refusal instead: every test ends in one or the other.
#![expect(clippy::disallowed_methods, reason = "a test plays the peers, with sockets and a clock of its own")]

use super::*;
use crate::io::{Listener, Settings};
use agent::Secret;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select, subsequence},
    test_runner::Config,
};
use rustix::net::{RecvFlags, recv};
use sip::{Limits, Message};
use std::iter;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long a datagram may take over the loopback.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most instructions that the verifier walks through (BPF_COMPLEXITY_LIMIT_INSNS), and those of a program.
const VERIFIER_LIMIT: u64 = 1_000_000;
const PROGRAM_LIMIT: usize = 512;

#[test]
fn the_verifier_takes_the_program_in_far_less_than_its_bound() {
    let (sockets, _) = bind("127.0.0.1:0", 256);
    let Some(program) = loaded(&sockets) else { return };
    let processed = program.log.split("processed ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let processed: u64 = processed.parse().unwrap();
    println!("{processed} instructions verified");
    assert!((10_000..VERIFIER_LIMIT / 4).contains(&processed), "{}", program.log);
}

#[test]
fn the_program_is_short_whatever_it_is_told() {
    let nothing = io::stdin();
    let maps = Maps { sockets: nothing.as_fd(), scratch: nothing.as_fd(), tally: nothing.as_fd() };
    let lengths = [(0, 0, 2), (u64::MAX, 1, u16::MAX)].map(|(k0, k1, n)| program::program(maps, (k0, k1), n).len());
    assert_eq!(lengths[0], lengths[1]);
    assert!(lengths[0] < PROGRAM_LIMIT, "{lengths:?}");
}

#[test]
fn one_pair_of_addresses_reaches_every_owner() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Some(rig) = Rig::steered(address, 3) else { return };
        let mut owned = [0; 3];
        for n in 0..300 {
            let call_id = format!("{n:x}@host.example.com");
            for name in ["Call-ID: ", "i:", "CALL-id\t :\t", "I : \r\n "] {
                let placed = rig.place(request(&format!("{name}{call_id}\r\n")).as_bytes());
                assert_eq!(
                    placed,
                    Placed { shard: rig.owner(call_id.as_bytes()), is_steered: true },
                    "{name}{call_id}"
                );
            }
            owned[usize::from(rig.owner(call_id.as_bytes()))] += 1;
        }
        assert!(owned.iter().all(|&n| n > 50), "{owned:?}");
    }
}

#[test]
fn call_ids_of_every_length_are_hashed_alike_up_to_the_bound() {
    let Some(rig) = Rig::steered("127.0.0.1:0", 7) else { return };
    for length in 1..=300 {
        let call_id = "0123456789abcdefghijklmnopqrstuvwxyz\u{e9}".chars().cycle().take(length).collect::<String>();
        let placed = rig.place(request(&format!("Call-ID: {call_id}\r\n")).as_bytes());
        assert_eq!(placed.is_steered, call_id.len() < program::LONGEST, "{}", call_id.len());
        assert!(!placed.is_steered || placed.shard == rig.owner(call_id.as_bytes()), "{call_id}");
    }
}

#[test]
fn a_call_id_is_found_wherever_it_begins_up_to_the_bound() {
    let Some(rig) = Rig::steered("127.0.0.1:0", 3) else { return };
    let line = "Call-ID: 1@host\r\n";
    // What is needed of the line behind it is one octet.
    let before = request("").len() - "\r\n".len() + "X: \r\n".len();
    let last = program::SCANNED - before - line.len() - 1;
    for filler in (0..40).chain(last - 40..last + 40).chain([8_000, 65_000]) {
        let padding: String = (0..filler).map(|n| if n % 60 < 58 { 'x' } else { [' ', '\t'][n % 2] }).collect();
        let placed = rig.place(request(&format!("X: {padding}\r\n{line}")).as_bytes());
        assert_eq!(placed.is_steered, filler <= last, "{filler} octets before it");
        assert!(!placed.is_steered || placed.shard == rig.owner(b"1@host"));
    }
}

#[test]
fn what_is_out_of_the_ordinary_is_left_to_the_kernel() {
    let Some(rig) = Rig::steered("127.0.0.1:0", 3) else { return };
    // The message before leaves a Call-ID in the scratch memory.
    let former = request(&format!("X: {}\r\nCall-ID: former@host\r\n", "x".repeat(500)));
    for octets in [
        "\r\n\r\n".to_owned(),
        "\0".to_owned(),
        String::new(),
        request(""),
        request("Call-ID:\r\n"),
        request("Call-ID: \r\n"),
        request("Call-ID: two words\r\n"),
        request("Call-ID: folded\r\n behind\r\n"),
        request("Call-ID: cut off"),
        request("Call-IDs: 1\r\nidentity: 1\r\nX-Call-ID: 1\r\n"),
        request("X: 1\r\n Call-ID: 1\r\n"),
        request(&format!("Call-ID:{}1\r\n", " ".repeat(40))),
        request("\r\nCall-ID: body\r\n"),
        format!("\r\n{}", request("Call-ID: 1\r\n")),
    ] {
        assert!(rig.place(former.as_bytes()).is_steered);
        assert!(!rig.place(octets.as_bytes()).is_steered, "{octets:?}");
    }
}

#[test]
fn sockets_that_another_process_takes_up_are_steered_to() {
    let Some(mut rig) = Rig::steered("127.0.0.1:0", 3) else { return };
    let handed: Vec<Vec<_>> = rig
        .sockets
        .of_shards
        .iter()
        .map(|of_shard| of_shard.iter().flatten().map(|s| Some(s.try_clone().unwrap())).collect())
        .collect();
    rig.sockets = Sockets { listeners: rig.sockets.listeners.clone(), of_shards: handed };
    for n in 0..50 {
        rig.expect_steered(&n.to_string());
    }
}

#[test]
fn a_socket_that_is_gone_loses_no_datagram() {
    let Some(mut rig) = Rig::steered("127.0.0.1:0", 3) else { return };
    rig.sockets.of_shards[1] = vec![None];
    for n in 0..100 {
        let call_id = n.to_string();
        let placed = rig.place(request(&format!("Call-ID: {call_id}\r\n")).as_bytes());
        let owner = rig.owner(call_id.as_bytes());
        assert_eq!(placed.is_steered, owner != 1);
        assert!(if owner == 1 { placed.shard != 1 } else { placed.shard == owner }, "{placed:?}");
    }
}

#[test]
fn what_comes_in_at_several_processors_at_once_is_not_mixed_up() {
    const SENDERS: usize = 4;
    const EACH: usize = 3_000;
    let Some(rig) = Rig::steered("127.0.0.1:0", 3) else { return };
    let address = rig.phone.peer_addr().unwrap();
    let send = |sender: usize| {
        let phone = phone(address);
        for n in 0..EACH {
            // Of many lengths, so that each leaves something behind the next.
            let filler = "x".repeat((n * 37 + sender * 11) % 900);
            phone.send(request(&format!("X: {filler}\r\ni: {sender}-{n}\r\n")).as_bytes()).unwrap();
            // A receive buffer holds some hundreds.
            if n % 50 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    };
    thread::scope(|scope| {
        (0..SENDERS).for_each(|sender| drop(scope.spawn(move || send(sender))));
        for _ in 0..SENDERS * EACH {
            let (shard, octets) = rig.receive();
            let message = Message::parse(&octets, &Limits::default()).unwrap();
            assert_eq!(rig.owner(message.call_id().unwrap()), shard, "{message:?}");
        }
    });
    assert_eq!(rig.tally.unwrap().read().unwrap(), ((SENDERS * EACH) as u64, 0));
}

#[test]
fn with_one_shard_or_no_datagrams_nothing_is_done() {
    let (sockets, _) = bind("127.0.0.1:0", 1);
    assert!(matches!(sockets.steer(&hash()), Steering::Needless));
    assert!(matches!(Sockets::vacant(2, 3).steer(&hash()), Steering::Needless));
}

#[test]
fn each_capability_that_is_missing_is_named_with_its_remedy_and_datagrams_come_in() {
    use CapabilitySet as Set;
    for (kept, missing) in
        [(Set::empty(), "CAP_BPF and CAP_PERFMON"), (Set::BPF, "CAP_PERFMON"), (Set::PERFMON, "CAP_BPF")]
    {
        // Capabilities are a thread's.
        let apart = || {
            if capabilities::keep(kept, kept).is_err() {
                return println!("not even {kept:?} can be kept");
            }
            let (sockets, address) = bind("127.0.0.1:0", 3);
            let steering = sockets.steer(&hash());
            assert_refused(&steering);
            assert!(steering.to_string().contains(&format!("lacks {missing}:")), "{steering}");
            let rig = Rig { sockets, phone: phone(address), tally: None };
            assert!(!rig.place(request("Call-ID: 1\r\n").as_bytes()).is_steered);
        };
        thread::scope(|scope| scope.spawn(apart).join().unwrap());
    }
}

#[test]
fn its_cost_is_counted_by_the_kernel() {
    const MESSAGES: u64 = 20_000;
    let (sockets, address) = bind("127.0.0.1:0", 3);
    let Some(program) = loaded(&sockets) else { return };
    program.attach(sockets.of_shards[0][0].as_ref().unwrap()).unwrap();
    let rig = Rig { sockets, phone: phone(address), tally: None };
    let Ok(_counting) = cost::count() else { return println!("the kernel does not count") };
    let late = |lines: usize| {
        let before = "Record-Route: <sip:a-hop@proxy.example.com;lr>\r\n".repeat(lines);
        request(&format!("{before}Call-ID: a84b4c76e66710@pc33.example.com\r\n"))
    };
    // The first, a keep-alive, is not looked at: it tells what counting costs.
    for message in ["\r\n\r\n".to_owned(), late(0), late(20), late(60)] {
        let before = cost::of(&program).unwrap();
        for _ in 0..MESSAGES {
            rig.place(message.as_bytes());
        }
        let after = cost::of(&program).unwrap();
        let (runs, nanoseconds) = (after.0 - before.0, after.1 - before.1);
        println!("{} octets, the Call-ID last: {} ns a message", message.len(), nanoseconds / runs);
        assert_eq!(runs, MESSAGES);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(1_000))]

    #[test]
    fn the_kernel_chooses_the_owner_or_nobody(messages in vec(hostile(), 16)) {
        let Some(rig) = Rig::shared() else { return Ok(()) };
        for octets in &messages {
            rig.agrees(octets)?;
        }
    }

    #[test]
    fn plain_messages_are_never_left_to_the_kernel(messages in vec(plain(), 16)) {
        let Some(rig) = Rig::shared() else { return Ok(()) };
        for message in &messages {
            prop_assert!(Message::parse(message.as_bytes(), &Limits::default()).is_ok(), "{}", message);
            prop_assert!(rig.agrees(message.as_bytes())?.is_steered, "{}", message);
        }
    }
}

// What is sent.

/// A request with these lines before the last ones.
fn request(lines: &str) -> String {
    let before = "INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport\r\n\
                  Max-Forwards: 70\r\nTo: Bob <sip:bob@example.net>\r\nFrom: Alice <sip:alice@example.com>;tag=1928301774\r\n";
    format!("{before}{lines}\r\n")
}

/// A message as phones and carriers write it.
fn plain() -> impl Strategy<Value = String> {
    let others = vec![
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport",
        "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK776asdhds",
        "Record-Route: <sip:192.0.2.9;lr;ftag=1928301774>",
        "From: \"Call-ID: x\" <sip:alice@example.com>;tag=1",
        "To: <sip:bob@example.net>",
        "In-Reply-To: 70710@saturn.bell-tel.com",
        "Identity: abc",
        "Call-Info: <http://www.example.com/alice/photo.jpg>",
        "CSeq: 1 INVITE",
        "Contact: <sip:alice@192.0.2.1>",
        "Content-Type: application/sdp",
    ];
    let name = select(vec!["Call-ID: ", "Call-ID:", "i: ", "CALL-ID: ", "call-id : ", "I:"]);
    let start =
        select(vec!["INVITE sip:bob@example.net SIP/2.0", "SIP/2.0 200 OK", "REGISTER sip:example.net SIP/2.0"]);
    let others = subsequence(others, 0..11).prop_shuffle();
    let parts = (start, others, name, "[!-~]{1,80}", any::<Index>(), "[ -~\r\n]{0,400}");
    parts.prop_map(|(start, others, name, call_id, place, body)| {
        let call_id = format!("{name}{call_id}");
        let mut lines = others;
        lines.insert(place.index(lines.len() + 1), &call_id);
        format!("{start}\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
    })
}

/// A message that may be anything between a sound one and none at all; about half are sound.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        20 => select(vec!["OPTIONS sip:h SIP/2.0\r\n", "SIP/2.0 200 OK\r\n", "i :1 SIP/2.0\r\n"]),
        1 => select(vec!["\r\nOPTIONS sip:h SIP/2.0\r\n", "\r\n\r\ni :1 SIP/2.0\r\n", "Call-ID: 1\r\n", "A sip:h SIP/2.0\n", ""]),
    ];
    let call_ids = prop_oneof![1 => vec(call_id(), 0), 12 => vec(call_id(), 1), 1 => vec(call_id(), 2)];
    let body = prop_oneof![
        6 => select(vec!["\r\n", "\r\nCall-ID: body\r\n\r\n", "\r\n\r\ni: body\r\n", "\r\n\ni:1\r\n\r\n"]),
        1 => Just(""),
    ];
    let damage = (any::<Index>(), select(b"\r\n :\tiIcC-\0\x0b\x8d\xff".to_vec()));
    let damage = prop_oneof![4 => vec(damage.clone(), 0), 1 => vec(damage, 1..4)];
    let rest = prop_oneof![30 => Just(0usize), 1 => 0..65_000usize];
    let parts = (start, vec(other_line(), 0..10), call_ids, any::<Index>(), body, damage, rest);
    parts.prop_map(|(start, mut lines, call_ids, place, body, damage, rest)| {
        for call_id in call_ids {
            lines.insert(place.index(lines.len() + 1), call_id);
        }
        let mut octets = [start, &lines.concat(), body].concat().into_bytes();
        let length = octets.len();
        for (at, octet) in damage {
            // There may be none to damage.
            if let Some(place) = octets.get_mut(at.index(length.max(1))) {
                *place = octet;
            }
        }
        octets.extend(iter::repeat_n(b'z', rest));
        // The largest datagram (RFC 768, RFC 791).
        octets.truncate(65_507);
        octets
    })
}

fn call_id() -> impl Strategy<Value = String> {
    let blanks = || {
        let odd = vec!["\r\n ", "\r\n\t ", " \r\n \r\n  ", "\r\n", "                 ", "\t  \t"];
        prop_oneof![6 => select(vec!["", " ", "  "]), 1 => select(odd)]
    };
    let name = prop_oneof![
        8 => select(vec!["Call-ID", "call-id", "CALL-ID", "cAlL-iD", "i", "I"]),
        1 => select(vec!["Call-IDs", "Call\rID", "X-Call-ID", "ii", "j", "Call_ID", "To", ""]),
    ];
    let value = prop_oneof![
        12 => "[!-~]{1,40}",
        2 => "[!-~]{0,300}",
        1 => "[ -~]{0,40}",
        1 => "[\\x00-\\x20a]{0,6}",
        1 => "[!-~]{3}\r\n [!-~]{3}",
        1 => "\\PC{0,20}",
    ];
    let colon = prop_oneof![20 => Just(":"), 1 => Just("::"), 1 => Just("")];
    (name, blanks(), colon, blanks(), value, blanks(), line_end()).prop_map(
        |(name, before, colon, behind, value, last, end)| [name, before, colon, behind, &value, last, end].concat(),
    )
}

fn other_line() -> impl Strategy<Value = String> {
    let lines = vec![
        "Via: h",
        "Subject: Call-ID: 1",
        "X: 1\r\n Call-ID: 2",
        "X: 1\r\n\ti: 2",
        "Identity: i",
        "Call-Info: C",
        "A:",
    ];
    let padding = prop_oneof![20 => 0..30usize, 2 => 0..3_000usize, 1 => Just(8_000usize)];
    (select(lines), padding, line_end()).prop_map(|(line, padding, end)| format!("{line}{}{end}", "y".repeat(padding)))
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![200 => Just("\r\n"), 1 => select(vec!["\n", "\r", "\r\n\r\n", ""])]
}

// Where it comes in.

/// Sockets of some shards, and a phone that sends to them from one address.
struct Rig {
    sockets: Sockets,
    phone: UdpSocket,
    tally: Option<Tally>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    shard: u16,
    is_steered: bool,
}

impl Rig {
    /// None where the kernel has refused, as it should.
    fn steered(address: &str, shards: u16) -> Option<Self> {
        let (sockets, address) = bind(address, shards);
        match sockets.steer(&hash()) {
            Steering::On(tally) => Some(Self { sockets, phone: phone(address), tally: Some(tally) }),
            steering => {
                assert_refused(&steering);
                None
            }
        }
    }

    /// One that all cases of a thread share.
    fn shared() -> Option<&'static Self> {
        thread_local!(static RIG: Option<&'static Rig> = Rig::steered("127.0.0.1:0", 5).map(|rig| &*Box::leak(Box::new(rig))));
        RIG.with(|rig| *rig)
    }

    fn owner(&self, call_id: &[u8]) -> u16 {
        hash().owner(call_id, self.sockets.of_shards.len() as u16)
    }

    /// Sends it, and finds out where it has come in and who has chosen.
    fn place(&self, octets: &[u8]) -> Placed {
        let count = || self.tally.as_ref().map_or((0, 0), |tally| tally.read().unwrap());
        let before = count();
        self.phone.send(octets).unwrap();
        let (shard, received) = self.receive();
        assert_eq!(received, octets);
        let now = count();
        assert!(self.tally.is_none() || now.0 + now.1 == before.0 + before.1 + 1, "it is counted once");
        Placed { shard, is_steered: now.0 > before.0 }
    }

    /// What comes next, and the shard that it comes in at.
    fn receive(&self) -> (u16, Vec<u8>) {
        let began = Instant::now();
        let mut buffer = vec![0; 65_536];
        loop {
            for (shard, of_shard) in (0..).zip(&self.sockets.of_shards) {
                if let Some(socket) = &of_shard[0]
                    && let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)
                {
                    buffer.truncate(length);
                    return (shard, buffer);
                }
            }
            assert!(began.elapsed() < PATIENCE, "it is lost");
        }
    }

    fn expect_steered(&self, call_id: &str) {
        let placed = self.place(request(&format!("Call-ID: {call_id}\r\n")).as_bytes());
        assert_eq!(placed, Placed { shard: self.owner(call_id.as_bytes()), is_steered: true });
    }

    /// Whether the kernel agrees with user space, or has left the choice.
    fn agrees(&self, octets: &[u8]) -> Result<Placed, TestCaseError> {
        let placed = self.place(octets);
        // A message that is refused is nobody's.
        if let (true, Ok(message)) = (placed.is_steered, Message::parse(octets, &Limits::default())) {
            let owner = message.call_id().map(|call_id| self.owner(call_id));
            prop_assert_eq!(owner, Some(placed.shard), "{}", octets.escape_ascii());
        }
        Ok(placed)
    }
}

fn hash() -> ShardHash {
    ShardHash::new(&Secret::new([7; 32]))
}

fn bind(address: &str, shards: u16) -> (Sockets, SocketAddr) {
    let listener = Listener { transport: Transport::Udp, address: address.parse().unwrap(), optional: false };
    let sockets = Sockets::bind(&Settings { listeners: vec![listener], shards, ..Settings::default() }).unwrap();
    let address = sockets.listeners()[0].unwrap().1;
    (sockets, address)
}

fn phone(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let phone = UdpSocket::bind(any).unwrap();
    phone.connect(address).unwrap();
    phone
}

/// The program for the sockets' first listener; None where the kernel has refused, as it should.
fn loaded(sockets: &Sockets) -> Option<Program> {
    let listener: Vec<_> = sockets.of_shards.iter().filter_map(|of_shard| of_shard[0].as_ref()).collect();
    let program = tally().map_err(Lack::at("making a map")).and_then(|tally| prepare(&listener, &hash(), &tally));
    match program {
        Ok(program) => Some(program),
        Err(lack) => {
            assert_refused(&Steering::Lacking(lack));
            None
        }
    }
}

/// The kernel refuses this thread, for the reason that it lacks a capability, and that is said with its remedy.
#[track_caller]
fn assert_refused(steering: &Steering) {
    let Steering::Lacking(lack) = steering else { panic!("{steering}") };
    assert!(matches!(lack, Lack::Capabilities(_)), "{lack}");
    assert!(lack.to_string().contains("AmbientCapabilities=CAP_BPF CAP_PERFMON"), "{lack}");
    println!("refused, as it should be: {lack}");
}
