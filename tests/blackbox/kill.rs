//! `kill -9` under load: what was answered with 200 is there after the next start, and nothing else is.

use crate::{
    phone::{Request, header, status},
    rig::{Home, Switch},
};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::{
    collections::HashMap,
    net::UdpSocket,
    time::{Duration, Instant},
};

const ROUNDS: u8 = 5;

/// Addresses of record; fewer than the command line lists at most.
const AORS: u32 = 2_000;

/// Requests that wait for their answer at a time.
const WINDOW: usize = 64;

/// The last CSeq that a phone has registered with; none where it has removed its binding.
type State = Option<u32>;

/// What a phone knows of its own binding.
#[derive(Default)]
struct Known {
    cseq: u32,
    acknowledged: State,
    /// Asked for, and not answered.
    pending: Option<State>,
}

#[test]
fn every_acknowledged_binding_refresh_and_removal_outlives_kill_9() {
    let home = Home::new("[cores]\nswitch = 2\n[registrar]\nauthenticate = false\n[journal]\nsegment_bytes = 1048576");
    let mut phones: HashMap<u32, Known> = HashMap::new();
    let mut switch = home.start();
    let mut phone = switch.udp();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[round; 32]);
        let lasts = Duration::from_millis(300 + u64::from(random.next_u32() % 1_200));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(switch.address()).unwrap();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                load(
                    &socket,
                    &phone.address().to_string(),
                    &mut phones,
                    &mut random,
                    lasts + Duration::from_millis(300),
                )
            });
            std::thread::sleep(lasts);
            switch.kill();
            acknowledged += load.join().unwrap();
        });
        switch = home.start();
        check(&switch, &mut phones, round);
    }
    assert!(acknowledged > 1_000, "{acknowledged} changes are no load");

    let mut caller = switch.udp();
    let (bound, removed): (Vec<_>, Vec<_>) = phones.iter().partition(|(_, known)| known.acknowledged.is_some());
    for (user, _) in bound.iter().take(20) {
        caller.send_request(&Request::new("MESSAGE", &format!("sip:u{user}@example.com")));
        assert!(phone.expect().starts_with(&format!("MESSAGE sip:u{user}@{} ", phone.address())));
    }
    for (user, _) in removed.iter().take(20) {
        let request = Request::new("MESSAGE", &format!("sip:u{user}@example.com"));
        assert_eq!(status(&caller.ask(&request)), 404);
    }
}

/// Registers, refreshes and removes at random, as fast as the answers come. Gives the number of acknowledged changes.
fn load(
    socket: &UdpSocket,
    contact: &str,
    phones: &mut HashMap<u32, Known>,
    random: &mut TestRng,
    lasts: Duration,
) -> u32 {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let started = Instant::now();
    let (mut waiting, mut acknowledged) = (0, 0);
    let mut buffer = [0; 4096];
    while started.elapsed() < lasts {
        while waiting < WINDOW {
            let user = random.next_u32() % AORS;
            let known = phones.entry(user).or_default();
            if known.pending.is_some() {
                continue;
            }
            known.cseq += 1;
            let removes = known.acknowledged.is_some() && random.next_u32().is_multiple_of(4);
            known.pending = Some((!removes).then_some(known.cseq));
            // A socket whose peer is gone refuses; the phone does not know.
            let _ = socket.send(register(user, contact, known.cseq, removes).as_bytes());
            waiting += 1;
        }
        // Nothing comes where the switch is dead or a datagram was lost: others are sent in its place.
        let Ok(octets) = socket.recv(&mut buffer) else {
            waiting = 0;
            continue;
        };
        waiting = waiting.saturating_sub(1);
        let answer = std::str::from_utf8(&buffer[..octets]).unwrap();
        assert_eq!(status(answer), 200, "{answer}");
        let user = header(answer, "Call-ID").trim_start_matches('u').parse().unwrap();
        let known: &mut Known = phones.get_mut(&user).unwrap();
        known.acknowledged = known.pending.take().expect("each request is sent once");
        acknowledged += 1;
    }
    acknowledged
}

fn register(user: u32, contact: &str, cseq: u32, removes: bool) -> String {
    let contact = format!("<sip:u{user}@{contact}>");
    let expires = if removes { 0 } else { 3_000 };
    let mut request = Request::register(&format!("u{user}"), &contact).line(format!("Expires: {expires}"));
    (request.call_id, request.cseq) = (format!("u{user}"), cseq);
    request.text("UDP 127.0.0.1:9")
}

/// Compares what the switch has with what the phones know, and lets them know what became of what was not answered.
fn check(switch: &Switch<'_>, phones: &mut HashMap<u32, Known>, round: u8) {
    let listed = switch.home.ask_json(&["bindings", "--limit", "10000"]);
    let mut found: HashMap<u32, u32> = HashMap::new();
    for binding in listed["bindings"].as_array().unwrap() {
        let user = binding["aor"].as_str().unwrap().trim_start_matches('u').split('@').next().unwrap().parse().unwrap();
        assert!(found.insert(user, binding["cseq"].as_u64().unwrap() as u32).is_none(), "one binding each: {binding}");
    }
    for (user, known) in phones {
        let found = found.remove(user);
        let may_be = found == known.acknowledged || known.pending == Some(found);
        let (acknowledged, pending) = (known.acknowledged, known.pending);
        assert!(may_be, "seed {round}: u{user} was {acknowledged:?}, asked for {pending:?}, is {found:?}");
        (known.acknowledged, known.pending) = (found, None);
    }
    assert!(found.is_empty(), "nobody has registered {found:?}");
}
