//! A hostile hour in a minute: the torture messages of RFC 4475, a hundred thousand mutations of them, and connections
//! that send an octet a second. All the while the switch answers others in time, and grows by no more than it may.

use crate::{
    phone::{Phone, Request, status},
    rig::{Home, Switch, wait_at_most},
};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use std::{
    fs,
    io::Write,
    net::{Shutdown, TcpStream, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

const MUTATIONS: usize = 100_000;

/// Of them over TCP, so many on a connection; one that cannot be framed ends it.
const OVER_TCP: usize = 20_000;
const ON_A_CONNECTION: usize = 10;

/// Datagrams that are sent at once, and the pause behind them. This many datagrams a second leave an honest client its
/// share of the socket's buffer.
const BURST: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

const SLOW_CONNECTIONS: usize = 10;

/// What one in a hundred answers may take longer than, on a machine whose cores other tests keep busy.
const P99: Duration = Duration::from_millis(400);

/// What the switch may grow by, once its buffers have been used.
const GROWTH_KIB: u64 = 32 << 10;

#[test]
fn torture_and_mutations_of_it_neither_stop_nor_slow_nor_swell_the_switch() {
    let messages = torture();
    assert_eq!(messages.len(), 50);
    let home = Home::new("[cores]\nswitch = 2\n[tcp]\nmessage_secs = 3\n[registrar]\nauthenticate = false");
    home.add_account("user@example.com", &[]);
    let mut switch = home.start();

    warm_up(&switch, &messages);
    let warm = switch.resident_kib();
    let ends = AtomicBool::new(false);
    let (latencies, cut) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe(&switch, &ends));
        let slow = scope.spawn(|| drip(&switch, &ends));
        let streams = scope.spawn(|| attack_by_stream(&switch, &messages));
        attack_by_datagram(&switch, &messages, 1, MUTATIONS - OVER_TCP);
        streams.join().unwrap();
        ends.store(true, Ordering::Relaxed);
        (probe.join().unwrap(), slow.join().unwrap())
    });
    switch.assert_alive();

    assert!(latencies.len() > 500, "{} answers in all that time", latencies.len());
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 < P99, "p99 of {} answers is {p99:?}", latencies.len());
    assert!(cut >= SLOW_CONNECTIONS, "{cut} slow connections were cut");
    assert!(switch.counter("edge.cut_incomplete").iter().sum::<u64>() >= cut as u64);
    let grown = switch.resident_kib().saturating_sub(warm);
    eprintln!(
        "{} answers, p99 {p99:?}; grown by {grown} KiB from {warm} KiB; {cut} slow connections cut",
        latencies.len()
    );
    assert!(grown < GROWTH_KIB, "it has grown by {grown} KiB from {warm} KiB");
    wait_at_most(Duration::from_secs(10), "every connection is closed", || {
        switch.counter("edge.connections").iter().sum::<u64>() == 0
    });
    assert!(!switch.log().contains("panicked"), "{}", switch.log());
}

/// The messages of RFC 4475, in the order of their names.
fn torture() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("shards/sip/tests/vectors/rfc4475/dat");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Has every buffer used, as the attack does, and every message handled once as it is.
fn warm_up(switch: &Switch<'_>, messages: &[Vec<u8>]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for message in messages {
        socket.send_to(message, switch.address()).unwrap();
        let mut stream = TcpStream::connect(switch.address()).unwrap();
        stream.write_all(message).unwrap();
        assert_eq!(status(&switch.udp().ask(&Request::options())), 200);
    }
    attack_by_datagram(switch, messages, 0, 10_000);
}

fn attack_by_datagram(switch: &Switch<'_>, messages: &[Vec<u8>], seed: u8, count: usize) {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..count {
        if n % BURST == 0 {
            sleep(PAUSE);
        }
        let message = mutation(messages, &mut random);
        socket.send_to(&message, switch.address()).unwrap();
    }
}

fn attack_by_stream(switch: &Switch<'_>, messages: &[Vec<u8>]) {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[2; 32]);
    for _ in 0..OVER_TCP / ON_A_CONNECTION {
        let mut stream = TcpStream::connect(switch.address()).unwrap();
        for _ in 0..ON_A_CONNECTION {
            // Refused where the switch has ended the connection already.
            let _ = stream.write_all(&mutation(messages, &mut random));
        }
        let _ = stream.shutdown(Shutdown::Write);
        sleep(PAUSE);
    }
}

/// A message with one to eight changes: an octet replaced, a piece taken out, doubled, or brought from another message.
fn mutation(messages: &[Vec<u8>], random: &mut TestRng) -> Vec<u8> {
    let mut below = |bound: usize| random.next_u32() as usize % bound.max(1);
    let mut message = messages[below(messages.len())].clone();
    for _ in 0..=below(8) {
        let at = below(message.len());
        let end = (at + 1 + below(40)).min(message.len());
        match below(5) {
            0 => message[at] = below(256) as u8,
            1 => message[at] = b"\r\n :;,<>\"\0%@=[]"[below(15)],
            2 => drop(message.drain(at..end)),
            3 => {
                let piece = message[at..end].to_vec();
                message.splice(at..at, piece);
            }
            _ => {
                let other = &messages[below(messages.len())];
                let from = below(other.len());
                let piece = other[from..(from + 1 + below(80)).min(other.len())].to_vec();
                message.splice(at..end, piece);
            }
        }
        if message.is_empty() {
            message.push(b'\r');
        }
    }
    // No longer than a datagram may be.
    message.truncate(60_000);
    message
}

/// How long answers take, the shortest first.
fn probe(switch: &Switch<'_>, ends: &AtomicBool) -> Vec<Duration> {
    let mut phone = switch.udp();
    let mut latencies = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let asked = Instant::now();
        assert_eq!(status(&phone.ask(&Request::options())), 200);
        latencies.push(asked.elapsed());
        sleep(Duration::from_millis(20));
    }
    latencies.sort_unstable();
    latencies
}

/// Connections which send an octet a second. Gives how many times one was cut; another takes its place.
fn drip(switch: &Switch<'_>, ends: &AtomicBool) -> usize {
    let request = Request::options().text("TCP 127.0.0.1:9");
    let mut slow: Vec<(Phone, usize)> = (0..SLOW_CONNECTIONS).map(|_| (switch.tcp(), 0)).collect();
    let mut cut = 0;
    while !ends.load(Ordering::Relaxed) {
        for (phone, sent) in &mut slow {
            if phone.is_ended(Duration::from_millis(1)) {
                cut += 1;
                (*phone, *sent) = (switch.tcp(), 0);
            }
            phone.send(&request.as_bytes()[*sent..=*sent]);
            *sent += 1;
        }
        sleep(Duration::from_secs(1));
    }
    cut
}
