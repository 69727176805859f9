//! The I/O edge from outside: small cores behind real sockets on the loopback.
#![expect(clippy::disallowed_methods, reason = "a test plays the peers, with sockets and clocks of its own")]
#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

#[path = "common/own_network.rs"]
mod own_network;

use agent::{ConnectionId, Flow, ListenerId, Now, Outbox, Received, Ticket};
use own_network::in_its_own_network;
use ringswitch::io::{
    Backlog, Core, Counters, Edge, JournalInlet, Listener, Running, Settings, StreamSettings, Waker, journal,
};
use sip::{Transport, framing::FrameError};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn datagrams_are_answered_over_both_address_families() {
    let both = [udp("127.0.0.1:0"), udp("[::1]:0")];
    let edge = Switch::start(settings(both), |_| Echo::default());
    for (listener, from) in [(0, "127.0.0.1:0"), (1, "[::1]:0")] {
        let phone = phone(from);
        phone.send_to(b"OPTIONS", edge.addresses[listener]).unwrap();
        assert_eq!(receive(&phone), (b"OPTIONS".to_vec(), edge.addresses[listener]));
    }
    let count = edge.end();
    assert_eq!((count.received, count.sent, count.dropped_send), (2, 2, 0));
}

#[test]
fn a_switch_that_has_ended_has_left_its_ports() {
    let edge = Switch::start(settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]), |_| Echo::default());
    let addresses = edge.addresses.clone();
    let mut phone = connect(addresses[1]);
    phone.write_all(&framed("hello")).unwrap();
    expect(&mut phone, &framed("hello"));
    edge.end();
    UdpSocket::bind(addresses[0]).unwrap();
    assert_eq!(phone.read(&mut [0]).unwrap(), 0, "its connections are closed");
}

#[test]
fn every_datagram_of_a_burst_is_answered() {
    const BURST: usize = 3000;
    let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo::default());
    let phone = phone("127.0.0.1:0");
    SockRef::from(&phone).set_recv_buffer_size(8 << 20).unwrap();
    let mut answers = vec![0u32; BURST];
    // In parts, because an unprivileged receive buffer holds a few hundred datagrams only.
    for part in (0..BURST).collect::<Vec<_>>().chunks(100) {
        for n in part {
            phone.send_to(format!("number {n}").as_bytes(), edge.addresses[0]).unwrap();
        }
        for _ in part {
            let (octets, _) = receive(&phone);
            let number = std::str::from_utf8(&octets).unwrap().strip_prefix("number ").unwrap();
            answers[number.parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(answers.iter().all(|&n| n == 1));
    assert_eq!(edge.end().dropped_send, 0);
}

#[test]
fn one_turn_may_send_more_than_the_ring_takes_at_once() {
    const COPIES: usize = 5000;
    let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo { copies: COPIES, ..Echo::default() });
    let phone = phone("127.0.0.1:0");
    phone.send_to(b"many", edge.addresses[0]).unwrap();
    assert_eq!(receive(&phone).0, b"many");
    let count = edge.end();
    assert_eq!(count.sent, COPIES as u64);
    assert_eq!(count.dropped_send, 0);
}

#[test]
fn datagrams_of_one_turn_arrive_whole_and_in_order_with_and_without_trains() {
    // Runs of one size, shorter ones that end them, longer ones, more than a train takes, and one that is longer than a frame.
    let sizes = [400, 400, 400, 30, 400, 500, 500, 2000, 2000, 60_000, 500]
        .into_iter()
        .chain(std::iter::repeat_n(700, 150))
        .chain(std::iter::repeat_n(1400, 70));
    let parts: Vec<Vec<u8>> =
        sizes.enumerate().map(|(n, size)| format!("{n:04}").repeat(size / 4).into_bytes()).collect();
    for trains in [true, false] {
        let far = Switch::start(Settings { trains, ..settings([udp("127.0.0.1:0")]) }, |_| Echo::default());
        let near = Settings { trains, ..settings([udp("127.0.0.1:0")]) };
        let (tell, told) = channel();
        let near = Switch::start(near, |_| Scatter {
            parts: parts.clone(),
            to: far.addresses[0],
            slack: None,
            tell: tell.clone(),
        });
        phone("127.0.0.1:0").send_to(b"go on", near.addresses[0]).unwrap();
        // The far one sends everything back: what it received came whole, as a train or not.
        for part in &parts {
            let back = told.recv_timeout(PATIENCE).unwrap();
            assert!(back == *part, "with trains {trains}: {} octets instead of {}", back.len(), part.len());
        }
        let (far, near) = (far.end(), near.end());
        let all = parts.len() as u64;
        assert_eq!((far.received, far.sent, near.sent, near.received), (all, all, all, all + 1));
        assert_eq!((near.dropped_send, far.dropped_send), (0, 0));
        let in_trains = [near.sent_in_trains, far.received_in_trains];
        assert!(in_trains.iter().all(|&count| if trains { count > 200 } else { count == 0 }), "{in_trains:?}");
    }
}

#[test]
fn what_has_come_at_once_is_taken_up_in_turns_and_in_order() {
    const SENT: usize = 3000;
    for trains in [true, false] {
        let (told, tells) = channel();
        let (go_on, goes_on) = channel();
        let cores = Mutex::new(Some(Turns { told, goes_on }));
        let far = Settings { trains, receive_octets: 8 << 20, ..settings([udp("127.0.0.1:0")]) };
        let far = Switch::start(far, |_| cores.lock().unwrap().take().unwrap());
        let (tell, _back) = channel();
        let parts: Vec<Vec<u8>> = (0..SENT).map(|n| format!("{n:04}").repeat(50).into_bytes()).collect();
        let near = Switch::start(Settings { trains, ..settings([udp("127.0.0.1:0")]) }, |_| Scatter {
            parts: parts.clone(),
            to: far.addresses[0],
            slack: None,
            tell: tell.clone(),
        });
        let phone = phone("127.0.0.1:0");
        phone.send_to(b"stick", far.addresses[0]).unwrap();
        assert!(tells.recv_timeout(PATIENCE).unwrap().is_empty());
        phone.send_to(b"go on", near.addresses[0]).unwrap();
        poll(|| (near.count().sent == SENT as u64).then_some(()));
        near.end();
        go_on.send(()).unwrap();
        let mut turns: Vec<Vec<usize>> = Vec::new();
        while turns.iter().map(Vec::len).sum::<usize>() < SENT {
            turns.push(tells.recv_timeout(PATIENCE).unwrap());
        }
        assert_eq!(turns.concat(), (0..SENT).collect::<Vec<_>>());
        let longest = turns.iter().map(Vec::len).max().unwrap();
        let least = if trains { 128 } else { 1 };
        assert!((least..200).contains(&longest), "with trains {trains}: {longest}");
        assert_eq!(far.end().received, SENT as u64 + 1);
    }
}

#[test]
fn the_cars_of_a_train_that_has_no_route_come_back_one_by_one() {
    let (tell, told) = channel();
    let parts: Vec<Vec<u8>> = (0..20).map(|n| format!("number {n:02}").into_bytes()).collect();
    // No route leads there from a socket that is bound to the loopback.
    let to = "203.0.113.1:5060".parse().unwrap();
    let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Scatter {
        parts: parts.clone(),
        to,
        slack: None,
        tell: tell.clone(),
    });
    phone("127.0.0.1:0").send_to(b"go on", edge.addresses[0]).unwrap();
    let mut returned: Vec<_> = parts.iter().map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    returned.sort();
    assert_eq!(returned, parts);
    let count = edge.end();
    assert_eq!((count.undeliverable, count.sent_in_trains), (20, 20));
}

#[test]
fn what_may_get_blanks_goes_as_one_and_is_otherwise_what_it_was() {
    let parts: Vec<Vec<u8>> = (0..60).map(|n| format!("Via: {n:02}{}", "x".repeat(n * 7 % 31)).into_bytes()).collect();
    for train_blanks in [32, 0] {
        let far = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo::default());
        let near = Settings { train_blanks, ..settings([udp("127.0.0.1:0")]) };
        let (tell, told) = channel();
        let (to, slack) = (far.addresses[0], Some(1));
        let near = Switch::start(near, |_| Scatter { parts: parts.clone(), to, slack, tell: tell.clone() });
        phone("127.0.0.1:0").send_to(b"go on", near.addresses[0]).unwrap();
        let came: Vec<_> =
            parts.iter().map(|_| String::from_utf8(told.recv_timeout(PATIENCE).unwrap()).unwrap()).collect();
        for (came, part) in came.iter().zip(&parts) {
            let (name, value) = came.split_once(':').unwrap();
            assert_eq!(format!("{name}: {}", value.trim_start()).as_bytes(), part);
        }
        let longest = parts.iter().map(Vec::len).max().unwrap();
        let count = near.end();
        assert_eq!(came.iter().all(|came| came.len() == longest), train_blanks > 0);
        assert_eq!(count.sent_in_trains == 60, train_blanks > 0, "{}", count.sent_in_trains);
        far.end();
    }
}

#[test]
fn a_train_that_the_path_refuses_goes_car_by_car_and_is_not_tried_again() {
    in_its_own_network("a_train_that_the_path_refuses_goes_car_by_car_and_is_not_tried_again", || {
        // The kernel cuts a datagram that is longer than a frame in pieces, but not the cars of a train.
        let up = Command::new("ip").args(["link", "set", "lo", "up", "mtu", "1000"]).status().unwrap();
        assert!(up.success());
        let parts: Vec<Vec<u8>> = (0..20).map(|n| format!("{n:04}").repeat(300).into_bytes()).collect();
        let far = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo::default());
        let (tell, told) = channel();
        let (to, slack) = (far.addresses[0], None);
        let near = Switch::start(settings([udp("127.0.0.1:0")]), |_| Scatter {
            parts: parts.clone(),
            to,
            slack,
            tell: tell.clone(),
        });
        for _ in 0..3 {
            phone("127.0.0.1:0").send_to(b"go on", near.addresses[0]).unwrap();
            let back: Vec<_> = parts.iter().map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
            assert!(back == parts, "each comes once, whole");
        }
        let count = near.end();
        assert_eq!((count.sent, count.dropped_send, count.undeliverable), (60, 0, 0));
        assert_eq!(count.sent_in_trains, 20, "only the first turn tries");
        far.end();
    });
}

#[test]
fn what_is_too_long_for_its_path_goes_in_fragments_and_all_else_without_an_identification() {
    in_its_own_network(
        "what_is_too_long_for_its_path_goes_in_fragments_and_all_else_without_an_identification",
        || {
            let up = Command::new("ip").args(["link", "set", "lo", "up", "mtu", "1000"]).status().unwrap();
            assert!(up.success());
            let watcher = Socket::new(Domain::IPV4, Type::from(libc::SOCK_RAW), Some(Protocol::UDP)).unwrap();
            watcher.set_read_timeout(Some(PATIENCE)).unwrap();
            let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo::default());
            let from = edge.addresses[0].port().to_be_bytes();
            let phone = phone("127.0.0.1:0");
            let [long, short] = [1200, 400].map(|octets| vec![b'x'; octets]);
            for _ in 0..3 {
                for message in [&short, &long, &short] {
                    phone.send_to(message, edge.addresses[0]).unwrap();
                }
                let mut back: Vec<_> = (0..3).map(|_| receive(&phone).0).collect();
                back.sort_by_key(Vec::len);
                assert!(back == [&short[..], &short, &long]);
            }
            let count = edge.end();
            assert_eq!((count.sent, count.dropped_send, count.undeliverable), (9, 0, 0));

            let mut seen = 0;
            while seen < 6 {
                let mut packet = [0; 2048];
                let octets = (&watcher).read(&mut packet).unwrap();
                let (header, datagram) = packet[..octets].split_at(20);
                if datagram[..2] == from && datagram.len() == 8 + short.len() {
                    assert_eq!(header[4..6], [0, 0], "no identification is drawn");
                    assert_eq!(header[6] & 0x40, 0x40, "it is not to be fragmented on its way");
                    seen += 1;
                }
            }
            let snmp = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
            let of_ip: Vec<Vec<&str>> =
                snmp.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' ').collect()).collect();
            let made = of_ip[0].iter().position(|&name| name == "FragOKs").unwrap();
            assert_eq!(of_ip[1][made], "6", "each long one, both ways");
        },
    );
}

#[test]
fn what_waits_in_a_socket_is_told_while_a_shard_is_busy_and_what_it_drops_is_counted() {
    const SENT: u64 = 2000;
    let (told, tells) = channel();
    let (go_on, goes_on) = channel();
    let cores = Mutex::new(Some(Stuck { told, goes_on }));
    let settings = Settings { receive_octets: 1 << 18, ..settings([udp("127.0.0.1:0")]) };
    let edge = Switch::start(settings, |_| cores.lock().unwrap().take().unwrap());
    let phone = phone("127.0.0.1:0");
    let send = |octets| phone.send_to(octets, edge.addresses[0]).unwrap();
    send(b"stick");
    for _ in 1..SENT {
        send(&[b'x'; 400]);
    }
    // The turns after it are to look.
    sleep(Duration::from_millis(20));
    go_on.send(()).unwrap();
    // The shard has come to its end with all that there was, and sleeps.
    let Counters { received, dropped_by_kernel, .. } = poll(|| {
        let count = edge.count();
        (count.received + count.dropped_by_kernel == SENT).then_some(count)
    });
    assert!(received > 100 && dropped_by_kernel > 100, "{received} received, {dropped_by_kernel} dropped");
    let mut told: Vec<Backlog> = Vec::new();
    poll(|| {
        told.extend(tells.try_iter());
        told.last().filter(|last| **last == Backlog::default()).map(drop)
    });
    let fullest = told.iter().map(|backlog| backlog.level).fold(0.0, f64::max);
    assert!(fullest > 0.5 && told.iter().any(|backlog| backlog.lost > 0), "{told:?}");
    edge.end();
}

#[test]
fn keepalive_datagrams_and_those_that_exceed_the_buffer_are_counted_and_not_handled() {
    let small = Settings { datagram_octets: 1999, ..settings([udp("127.0.0.1:0")]) };
    let edge = Switch::start(small, |_| Echo::default());
    let phone = phone("127.0.0.1:0");
    for octets in [b"\r\n\r\n".as_slice(), b"\0\0\0\0", b"\r\n", b"", &[b'x'; 2000], b"whole"] {
        phone.send_to(octets, edge.addresses[0]).unwrap();
    }
    assert_eq!(receive(&phone).0, b"whole");
    let count = edge.end();
    assert_eq!((count.keepalives, count.truncated, count.received), (4, 1, 1));
}

#[test]
fn a_datagram_without_a_route_comes_back_and_those_beside_it_go() {
    let (tell, told) = channel();
    let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Echo {
        also_to: Some("[::1]:9".parse().unwrap()),
        tell: Some(tell.clone()),
        ..Echo::default()
    });
    let phone = phone("127.0.0.1:0");
    phone.send_to(b"hello", edge.addresses[0]).unwrap();
    assert_eq!(receive(&phone).0, b"hello");
    let (flow, octets) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((flow.peer.to_string().as_str(), &*octets), ("[::1]:9", b"hello".as_slice()));
    assert_eq!(edge.end().dropped_send, 1);
}

#[test]
fn messages_are_passed_to_the_shard_that_owns_them_and_sent_from_there() {
    let two = Settings { shards: 2, ..settings([udp("127.0.0.1:0")]) };
    let edge = Switch::start(two, |shard| ByFirstOctet::new(shard, 2));
    for n in 0..50u8 {
        // A source port of its own each, so that the kernel spreads them over both shards' sockets.
        let phone = phone("127.0.0.1:0");
        for owner in [b'0', b'1'] {
            phone.send_to(&[owner, b' ', n, b'!'], edge.addresses[0]).unwrap();
            let (octets, from) = receive(&phone);
            assert_eq!(octets, [owner, b' ', n, b'!', b'@', owner]);
            assert_eq!(from, edge.addresses[0], "both shards send from the listener's address");
        }
    }
    let count = edge.end();
    assert_eq!((count.received, count.sent), (100, 100));
    assert!(count.passed_on > 0, "{count:?}");
    assert_eq!(count.passed_on, count.taken_over);
}

#[test]
fn a_full_ring_is_refused_to_the_core_and_has_room_again_later() {
    let two = Settings { shards: 2, mesh_messages: 4, ..settings([udp("127.0.0.1:0")]) };
    let gate = Arc::new(AtomicBool::new(false));
    let edge = Switch::start(two, |shard| ByFirstOctet {
        gate: (shard == 1).then(|| gate.clone()),
        ..ByFirstOctet::new(shard, 2)
    });
    // Shard 1 holds still as soon as it has something; then some of these find its ring full and are told so.
    let phones: Vec<_> = (0..32).map(|_| phone("127.0.0.1:0")).collect();
    let mut full = 0;
    for phone in &phones {
        phone.send_to(b"1 hold", edge.addresses[0]).unwrap();
        phone.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut octets = [0; 100];
        if let Ok(octet_count) = phone.recv(&mut octets) {
            assert_eq!(&octets[..octet_count], b"full");
            full += 1;
        }
    }
    assert!(full > 0, "no ring was full");
    gate.store(true, Ordering::Release);
    let phone = phones.last().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        phone.send_to(b"1 again", edge.addresses[0]).unwrap();
        let mut octets = [0; 100];
        let answer = phone.recv(&mut octets).map(|n| octets[..n].to_vec());
        if answer.is_ok_and(|octets| octets == b"1 again@1") {
            break;
        }
        assert!(Instant::now() < deadline, "the ring never had room again");
    }
    edge.end();
}

#[test]
fn timers_are_handled_when_they_are_due() {
    let (tell, told) = channel();
    let begun = Instant::now();
    let edge = Switch::start(settings([udp("127.0.0.1:0")]), |_| Clockwork {
        due: Some(Duration::from_millis(50)),
        tell: tell.clone(),
    });
    let now = told.recv_timeout(PATIENCE).unwrap();
    assert!(now.monotonic >= Duration::from_millis(50) && begun.elapsed() >= Duration::from_millis(45));
    assert!(now.unix_secs() > 1_700_000_000);
    edge.end();
}

#[test]
fn an_answer_waits_until_the_clerk_has_settled_its_record() {
    let (to_test, inlets) = channel();
    let clerk = Arc::new(Waker::new().unwrap());
    let edge = Switch::start_with(settings([udp("127.0.0.1:0")]), |_, wakers| {
        let (link, inlet) = journal(4, wakers[0].clone(), clerk.clone());
        to_test.send(inlet).unwrap();
        (Recorder::default(), Some(link))
    });
    let mut inlet: JournalInlet = inlets.recv().unwrap();
    let phone = phone("127.0.0.1:0");
    for (message, ok) in [(b"first", true), (b"other", false)] {
        phone.send_to(message, edge.addresses[0]).unwrap();
        let batch = poll(|| inlet.batches.pop());
        assert_eq!(batch.records, message);
        inlet.settle(batch.number, ok);
        assert_eq!(receive(&phone).0, if ok { b"kept".as_slice() } else { b"lost" });
    }
    inlet.ask_barrier(3);
    let batch = poll(|| inlet.batches.pop());
    assert_eq!((batch.records.len(), batch.barrier), (0, 3));
    inlet.settle(batch.number, true);
    assert_eq!(edge.end().journal_batches, 3);
}

#[test]
fn a_drain_waits_for_what_the_clerk_owes_but_not_for_ever() {
    let (to_test, inlets) = channel();
    let quick = Settings { drain: Duration::from_millis(300), ..settings([udp("127.0.0.1:0")]) };
    let edge = Switch::start_with(quick, |_, wakers| {
        let (link, inlet) = journal(4, wakers[0].clone(), Arc::new(Waker::new().unwrap()));
        to_test.send(inlet).unwrap();
        (Recorder::default(), Some(link))
    });
    let mut inlet: JournalInlet = inlets.recv().unwrap();
    phone("127.0.0.1:0").send_to(b"never settled", edge.addresses[0]).unwrap();
    poll(|| inlet.batches.pop());
    let begun = Instant::now();
    edge.end();
    assert!((250..2000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[test]
fn stream_messages_are_framed_wherever_the_segments_are_cut() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let edge = Switch::start(settings([tcp(address)]), |_| Echo::default());
        let mut phone = connect(edge.addresses[0]);
        phone.set_nodelay(true).unwrap();
        let long = "l".repeat(30_000);
        let octets: Vec<u8> = ["one", "two", "three", &long, "five"].into_iter().flat_map(framed).collect();
        // In one piece, cut within messages and within header fields.
        for piece in [octets.len(), 4, 7000] {
            let mut sent = 0;
            for octets in octets.chunks(piece).take(40) {
                phone.write_all(octets).unwrap();
                sent += octets.len();
                sleep(Duration::from_millis(2));
            }
            phone.write_all(&octets[sent..]).unwrap();
            expect(&mut phone, &octets);
        }
        let count = edge.end();
        assert_eq!((count.received, count.sent, count.accepted), (15, 15, 1));
    }
}

#[test]
fn a_double_crlf_on_a_stream_is_answered_with_one() {
    let edge = Switch::start(settings([tcp("127.0.0.1:0")]), |_| Echo::default());
    let mut phone = connect(edge.addresses[0]);
    phone.write_all(b"\r\n\r\n").unwrap();
    expect(&mut phone, b"\r\n");
    phone.write_all(&framed("hello")).unwrap();
    expect(&mut phone, &framed("hello"));
    edge.end();
}

#[test]
fn a_connection_is_opened_once_and_used_again_both_ways() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap();
    let edge = Switch::start(settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]), |_| Bridge::to(target));
    let phone = phone("127.0.0.1:0");
    phone.send_to(b"first, ", edge.addresses[0]).unwrap();
    phone.send_to(b"second", edge.addresses[0]).unwrap();
    let (mut accepted, _) = upstream.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    expect(&mut accepted, b"first, second");
    phone.send_to(b"third", edge.addresses[0]).unwrap();
    expect(&mut accepted, b"third");
    // What comes back on it goes to whoever sent last.
    accepted.write_all(&framed("back")).unwrap();
    assert_eq!(receive(&phone).0, framed("back"));
    let count = edge.end();
    assert_eq!((count.connected, count.accepted, count.connect_failed), (1, 0, 0));
}

#[test]
fn what_a_refused_connection_should_have_carried_comes_back_whole_and_in_order() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let edge = Switch::start(settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]), |_| Bridge::to(nobody));
    let phone = phone("127.0.0.1:0");
    for message in ["first", "other"] {
        phone.send_to(message.as_bytes(), edge.addresses[0]).unwrap();
        assert_eq!(receive(&phone).0, format!("undeliverable {message}").as_bytes());
    }
    let count = edge.end();
    assert_eq!((count.connect_failed, count.undeliverable, count.connections), (2, 2, 0));
}

#[test]
fn a_connection_that_is_not_opened_in_time_gives_its_messages_back() {
    // A listener whose queue of two is full answers no further SYN.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let target = full.local_addr().unwrap().as_socket().unwrap();
    let _filling: Vec<_> = (0..3).map(|_| TcpStream::connect_timeout(&target, Duration::from_millis(100))).collect();
    let impatient = streams(|limits| limits.connect = Duration::from_millis(200));
    let edge = Switch::start(Settings { listeners: vec![udp("127.0.0.1:0"), tcp("127.0.0.1:0")], ..impatient }, |_| {
        Bridge::to(target)
    });
    let phone = phone("127.0.0.1:0");
    phone.send_to(b"hello", edge.addresses[0]).unwrap();
    assert_eq!(receive(&phone).0, b"undeliverable hello");
    assert_eq!(edge.end().connect_failed, 1);
}

#[test]
fn a_slow_reader_is_cut_off_and_what_it_did_not_take_comes_back() {
    let limits = streams(|limits| limits.queue_octets = 100_000);
    let (tell, told) = channel();
    let edge = Switch::start(Settings { listeners: vec![tcp("127.0.0.1:0")], ..limits }, |_| Echo {
        copies: 200,
        tell: Some(tell.clone()),
        ..Echo::default()
    });
    let mut phone = connect(edge.addresses[0]);
    let message = framed(&"m".repeat(10_000));
    let deadline = Instant::now() + PATIENCE;
    while edge.count().cut_slow == 0 {
        assert!(Instant::now() < deadline, "never cut: {:?}", edge.count());
        // It never reads; when it is cut, its own writes may fail.
        let _ = phone.write_all(&message);
        sleep(Duration::from_millis(10));
    }
    let (flow, octets) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((flow.peer, octets.len()), (phone.local_addr().unwrap(), message.len()));
    edge.end();
}

#[test]
fn a_connection_that_carries_nothing_and_one_that_never_completes_a_message_are_closed() {
    let limits = streams(|limits| {
        limits.idle = Duration::from_millis(400);
        limits.message = Duration::from_millis(400);
    });
    let edge = Switch::start(Settings { listeners: vec![tcp("127.0.0.1:0")], ..limits }, |_| Echo::default());
    let mut idle = connect(edge.addresses[0]);
    idle.write_all(&framed("hello")).unwrap();
    expect(&mut idle, &framed("hello"));
    let mut slow = connect(edge.addresses[0]);
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // One octet every tenth of a second keeps a connection busy, and is no message.
    while slow.write_all(b"x").and_then(|()| slow.read(&mut [0])).is_err_and(|e| e.kind() == ErrorKind::WouldBlock) {
        assert!(Instant::now() < deadline, "never cut");
    }
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    poll(|| (edge.count().connections == 0).then_some(()));
    let count = edge.end();
    assert_eq!((count.cut_idle, count.cut_incomplete, count.connections), (1, 1, 0));
}

#[test]
fn what_cannot_be_framed_is_answered_and_closes_its_connection_only() {
    let limits = streams(|limits| limits.longest.max_message = 1000);
    let edge = Switch::start(Settings { listeners: vec![tcp("127.0.0.1:0")], ..limits }, |_| Echo::default());
    let mut good = connect(edge.addresses[0]);
    let (whole, too_long) = (framed("ok"), framed(&"x".repeat(1000)));
    for (octets, answer) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"NotSip".to_vec()),
        (&[&whole, &too_long[..100]].concat(), [&*whole, b"MessageTooLarge"].concat()),
    ] {
        let mut phone = connect(edge.addresses[0]);
        phone.write_all(octets).unwrap();
        let mut rest = Vec::new();
        phone.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, answer);
    }
    good.write_all(&whole).unwrap();
    expect(&mut good, &whole);
    let count = edge.end();
    assert_eq!((count.cut_malformed, count.accepted, count.connections), (2, 3, 1));
}

#[test]
fn connections_beyond_a_limit_are_refused_until_others_go() {
    for limits in [streams(|l| l.connections = 2), streams(|l| l.connections_per_address = 2)] {
        let edge = Switch::start(Settings { listeners: vec![tcp("127.0.0.1:0")], ..limits }, |_| Echo::default());
        let answers = |phone: &mut TcpStream| {
            let _ = phone.write_all(&framed("hello"));
            phone.read_exact(&mut [0; 6]).is_ok()
        };
        let (mut first, mut second) = (connect(edge.addresses[0]), connect(edge.addresses[0]));
        assert!(answers(&mut first) && answers(&mut second));
        assert!(!answers(&mut connect(edge.addresses[0])));
        drop(first);
        poll(|| answers(&mut connect(edge.addresses[0])).then_some(()));
        assert!(edge.end().refused >= 1);
    }
}

#[test]
fn a_send_reaches_the_connection_wherever_it_lives() {
    // The sender's shard is chosen by the kernel, the connection's as well: with enough of both, all pairs occur.
    let four = Settings { shards: 4, ..settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]) };
    let edge = Switch::start(four, |_| ToNamedPeer);
    let mut phones: Vec<_> = (0..8).map(|_| connect(edge.addresses[1])).collect();
    for phone in &mut phones {
        phone.write_all(&framed("here")).unwrap();
        expect(phone, b"done");
    }
    for _ in 0..8 {
        let sender = phone("127.0.0.1:0");
        for phone in &mut phones {
            sender.send_to(phone.local_addr().unwrap().to_string().as_bytes(), edge.addresses[0]).unwrap();
            expect(phone, b"call");
        }
    }
    let count = edge.end();
    assert_eq!((count.accepted, count.connected, count.ring_full), (8, 0, 0));
    assert!(count.taken_over > 0, "{count:?}");
}

#[test]
fn an_alias_leads_to_its_connection_from_every_shard_until_that_closes() {
    let four = Settings { shards: 4, ..settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]) };
    let edge = Switch::start(four, |_| ToNamedPeer);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut behind = connect(edge.addresses[1]);
    behind.write_all(&framed(&format!("alias {nobody}"))).unwrap();
    expect(&mut behind, b"done");
    for _ in 0..8 {
        phone("127.0.0.1:0").send_to(nobody.to_string().as_bytes(), edge.addresses[0]).unwrap();
        expect(&mut behind, b"call");
    }
    drop(behind);
    poll(|| (edge.count().connections == 0).then_some(()));
    phone("127.0.0.1:0").send_to(nobody.to_string().as_bytes(), edge.addresses[0]).unwrap();
    poll(|| (edge.count().connect_failed == 1).then_some(()));
    edge.end();
}

#[test]
fn a_message_for_a_connection_that_is_gone_comes_back() {
    let (tell, told) = channel();
    let edge = Switch::start(settings([udp("127.0.0.1:0"), tcp("127.0.0.1:0")]), |_| ToLastConnection {
        last: None,
        tell: tell.clone(),
    });
    let mut connected = connect(edge.addresses[1]);
    connected.write_all(&framed("here")).unwrap();
    poll(|| (edge.count().received == 1).then_some(()));
    drop(connected);
    poll(|| (edge.count().connections == 0).then_some(()));
    phone("127.0.0.1:0").send_to(b"late", edge.addresses[0]).unwrap();
    let (flow, octets) = told.recv_timeout(PATIENCE).unwrap();
    assert!(flow.connection.is_some());
    assert_eq!(octets, b"late");
    edge.end();
}

#[test]
fn a_core_that_cannot_be_pinned_and_a_transport_that_is_not_served_are_told() {
    let nowhere = Settings { cores: vec![1023], ..settings([udp("127.0.0.1:0")]) };
    let refused = Edge::open(nowhere).unwrap().start(vec![(Echo::default(), None)]).err().unwrap().to_string();
    assert!(refused.contains("pinning"), "{refused}");
    let tls = settings([Listener { transport: Transport::Tls, ..tcp("127.0.0.1:0") }]);
    assert!(Edge::open(tls).err().unwrap().to_string().contains("not served"));
}

// The edge under test.

struct Switch {
    running: Running,
    addresses: Vec<SocketAddr>,
    stats: Vec<Arc<ringswitch::io::EdgeStats>>,
}

impl Switch {
    fn start<C: Core + Send>(settings: Settings, core: impl Fn(u16) -> C) -> Self {
        Self::start_with(settings, |shard, _| (core(shard), None))
    }

    fn start_with<C: Core + Send>(
        settings: Settings,
        core: impl Fn(u16, &[Arc<Waker>]) -> (C, Option<ringswitch::io::JournalLink>),
    ) -> Self {
        let shards = settings.shards;
        let edge = Edge::open(settings).unwrap();
        let addresses = edge.listeners().iter().map(|listener| listener.unwrap().1).collect();
        let stats = edge.stats().to_vec();
        let cores = (0..shards).map(|shard| core(shard, edge.wakers())).collect();
        Self { running: edge.start(cores).unwrap(), addresses, stats }
    }

    fn count(&self) -> Counters {
        let mut sum = Counters::default();
        self.stats.iter().for_each(|stats| sum += stats.read());
        sum
    }

    /// Drains the edge; returns what it has counted.
    fn end(self) -> Counters {
        self.running.stopper().drain();
        self.running.join().unwrap();
        let mut sum = Counters::default();
        self.stats.iter().for_each(|stats| sum += stats.read());
        sum
    }
}

fn settings<const N: usize>(listeners: [Listener; N]) -> Settings {
    Settings { listeners: listeners.into(), ..Settings::default() }
}

fn streams(change: impl FnOnce(&mut StreamSettings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings.streams);
    settings
}

fn udp(address: &str) -> Listener {
    Listener { transport: Transport::Udp, address: address.parse().unwrap(), optional: false }
}

fn tcp(address: &str) -> Listener {
    Listener { transport: Transport::Tcp, address: address.parse().unwrap(), optional: false }
}

fn phone(address: &str) -> UdpSocket {
    let phone = UdpSocket::bind(address).unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    phone
}

fn connect(address: SocketAddr) -> TcpStream {
    let phone = TcpStream::connect(address).unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    phone
}

/// A message that carries `body` on a stream.
fn framed(body: &str) -> Vec<u8> {
    format!("TEST sip:x SIP/2.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Reads so much as `octets` from a stream.
#[track_caller]
fn expect(stream: &mut TcpStream, octets: &[u8]) {
    let mut read = vec![0; octets.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, octets);
}

fn receive(phone: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut octets = [0; 65_536];
    loop {
        match phone.recv_from(&mut octets) {
            Ok((length, from)) => return (octets[..length].to_vec(), from),
            // A socket with a timeout is not restarted when its process was stopped for a while.
            Err(e) => assert_eq!(e.kind(), ErrorKind::Interrupted, "nothing came: {e}"),
        }
    }
}

fn poll<T>(mut come: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = come() {
            return value;
        }
        assert!(Instant::now() < deadline, "it never came");
        sleep(Duration::from_millis(2));
    }
}

// Cores.

/// What a core has nothing to do for.
macro_rules! quiet {
    (undeliverable) => {
        fn handle_undeliverable<'t>(&mut self, _: Now, _: Flow, _: &'t [u8], _: &mut Outbox<'t>) {}
    };
    (settled) => {
        fn handle_settled<'t>(&mut self, _: Now, _: Ticket, _: bool, _: &mut Outbox<'t>) {}
    };
    (timers) => {
        fn next_timeout(&self) -> Option<Duration> {
            None
        }
        fn handle_timeout<'t>(&mut self, _: Now, _: &mut Outbox<'t>) {}
    };
}

fn send<'t>(out: &mut Outbox<'t>, flow: Flow, slices: &[&'t [u8]]) {
    let slices = out.arena().alloc_slice_copy(slices);
    out.send(flow, slices);
}

type Told = Sender<(Flow, Vec<u8>)>;

/// Sends every message back, in two slices.
#[derive(Default)]
struct Echo {
    /// So many times, if not once.
    copies: usize,
    also_to: Option<SocketAddr>,
    tell: Option<Told>,
}

impl Core for Echo {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            assert!(!message.passed);
            let (first, second) = message.octets.split_at(1);
            (0..self.copies.max(1)).for_each(|_| send(out, message.flow, &[first, second]));
            if let Some(peer) = self.also_to {
                send(out, Flow { peer, ..message.flow }, &[message.octets]);
            }
        }
    }

    fn handle_undeliverable<'t>(&mut self, _: Now, flow: Flow, octets: &'t [u8], _: &mut Outbox<'t>) {
        if let Some(tell) = &self.tell {
            let _ = tell.send((flow, octets.to_vec()));
        }
    }

    fn handle_unframed<'t>(&mut self, _: Now, received: Received<'t>, error: FrameError, out: &mut Outbox<'t>) {
        let error = out.arena().alloc_str(&format!("{error:?}")).as_bytes();
        send(out, received.flow, &[error]);
    }

    quiet!(settled);
    quiet!(timers);
}

/// Handles `stick` for as long as it is not told to go on, and tells what waits meanwhile.
struct Stuck {
    told: Sender<Backlog>,
    goes_on: Receiver<()>,
}

impl Core for Stuck {
    fn handle_backlog(&mut self, _: Now, backlog: Backlog) {
        let _ = self.told.send(backlog);
    }

    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], _: &mut Outbox<'t>) {
        if batch.iter().any(|message| message.octets == b"stick") {
            self.goes_on.recv_timeout(PATIENCE).unwrap();
        }
    }

    quiet!(undeliverable);
    quiet!(settled);
    quiet!(timers);
}

/// Handles `stick` for as long as it is not told to go on, and tells the numbers of each turn's messages, of that one none.
struct Turns {
    told: Sender<Vec<usize>>,
    goes_on: Receiver<()>,
}

impl Core for Turns {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], _: &mut Outbox<'t>) {
        if batch[0].octets == b"stick" {
            self.told.send(Vec::new()).unwrap();
            return self.goes_on.recv_timeout(PATIENCE).unwrap();
        }
        let number = |message: &Received<'_>| std::str::from_utf8(&message.octets[..4]).unwrap().parse().unwrap();
        self.told.send(batch.iter().map(number).collect()).unwrap();
    }

    quiet!(undeliverable);
    quiet!(settled);
    quiet!(timers);
}

/// Sends many messages in one turn when it is told to, and tells what comes back.
struct Scatter {
    parts: Vec<Vec<u8>>,
    to: SocketAddr,
    slack: Option<u32>,
    tell: Sender<Vec<u8>>,
}

impl Core for Scatter {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            if message.octets != b"go on" {
                self.tell.send(message.octets.to_vec()).unwrap();
                continue;
            }
            for part in &self.parts {
                let part: &[u8] = out.arena().alloc_slice_copy(part);
                let (first, second) = part.split_at(4);
                let slices = out.arena().alloc_slice_copy(&[first, second]);
                out.send_with_slack(Flow { peer: self.to, ..message.flow }, (slices, self.slack));
            }
        }
    }

    fn handle_undeliverable<'t>(&mut self, _: Now, _: Flow, octets: &'t [u8], _: &mut Outbox<'t>) {
        self.tell.send(octets.to_vec()).unwrap();
    }

    quiet!(settled);
    quiet!(timers);
}

/// The first octet of a message is the number of the shard that owns it.
struct ByFirstOctet {
    number: u16,
    shards: u16,
    /// Holds still until it opens.
    gate: Option<Arc<AtomicBool>>,
}

impl ByFirstOctet {
    fn new(number: u16, shards: u16) -> Self {
        Self { number, shards, gate: None }
    }
}

impl Core for ByFirstOctet {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            let owner = u16::from(message.octets[0] - b'0') % self.shards;
            if owner != self.number {
                assert!(!message.passed, "nothing is passed on twice");
                if out.pass_on(owner, *message).is_err() {
                    send(out, message.flow, &[b"full"]);
                }
                continue;
            }
            while self.gate.as_ref().is_some_and(|gate| !gate.load(Ordering::Acquire)) {
                sleep(Duration::from_millis(1));
            }
            let mine: &[u8] = if owner == 0 { b"@0" } else { b"@1" };
            send(out, message.flow, &[message.octets, mine]);
        }
    }

    quiet!(undeliverable);
    quiet!(settled);
    quiet!(timers);
}

/// Has one timer.
struct Clockwork {
    due: Option<Duration>,
    tell: Sender<Now>,
}

impl Core for Clockwork {
    fn handle_batch<'t>(&mut self, _: Now, _: &[Received<'t>], _: &mut Outbox<'t>) {}

    fn next_timeout(&self) -> Option<Duration> {
        self.due
    }

    fn handle_timeout<'t>(&mut self, now: Now, _: &mut Outbox<'t>) {
        self.due = None;
        self.tell.send(now).unwrap();
    }

    quiet!(undeliverable);
    quiet!(settled);
}

/// Keeps a record of every message and answers when it is settled.
#[derive(Default)]
struct Recorder {
    waiting: Vec<(Ticket, Flow)>,
}

impl Core for Recorder {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            let ticket = out.persist(|records| records.extend_from_slice(message.octets));
            self.waiting.push((ticket, message.flow));
        }
    }

    fn handle_settled<'t>(&mut self, _: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'t>) {
        for (_, flow) in self.waiting.extract_if(.., |(ticket, _)| *ticket <= up_to) {
            send(out, flow, &[if ok { b"kept" } else { b"lost" }]);
        }
    }

    quiet!(undeliverable);
    quiet!(timers);
}

/// From datagrams to one stream peer and back.
struct Bridge {
    target: SocketAddr,
    caller: Option<Flow>,
}

impl Bridge {
    fn to(target: SocketAddr) -> Self {
        Self { target, caller: None }
    }
}

impl Core for Bridge {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            match message.flow.transport {
                Transport::Udp => {
                    self.caller = Some(message.flow);
                    send(out, stream_to(self.target), &[message.octets]);
                }
                _ => send(out, self.caller.unwrap(), &[message.octets]),
            }
        }
    }

    fn handle_undeliverable<'t>(&mut self, _: Now, flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>) {
        assert_eq!((flow.transport, flow.peer), (Transport::Tcp, self.target));
        send(out, self.caller.unwrap(), &[b"undeliverable ", octets]);
    }

    quiet!(settled);
    quiet!(timers);
}

/// A datagram names the peer to call; a stream's message is answered, after the alias that it asks for.
struct ToNamedPeer;

impl Core for ToNamedPeer {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            let body = std::str::from_utf8(message.octets).unwrap().rsplit('\n').next().unwrap();
            if message.flow.transport == Transport::Udp {
                send(out, stream_to(body.parse().unwrap()), &[b"call"]);
                continue;
            }
            if let Some(address) = body.strip_prefix("alias ") {
                out.alias(message.flow.connection.unwrap(), address.parse().unwrap());
            }
            send(out, message.flow, &[b"done"]);
        }
    }

    quiet!(undeliverable);
    quiet!(settled);
    quiet!(timers);
}

/// Sends every datagram to the connection that was last heard of.
struct ToLastConnection {
    last: Option<ConnectionId>,
    tell: Told,
}

impl Core for ToLastConnection {
    fn handle_batch<'t>(&mut self, _: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for message in batch {
            match message.flow.connection {
                Some(connection) => self.last = Some(connection),
                None => {
                    let flow = stream_to("127.0.0.1:9".parse().unwrap());
                    send(out, Flow { connection: self.last, ..flow }, &[message.octets]);
                }
            }
        }
    }

    fn handle_undeliverable<'t>(&mut self, _: Now, flow: Flow, octets: &'t [u8], _: &mut Outbox<'t>) {
        self.tell.send((flow, octets.to_vec())).unwrap();
    }

    quiet!(settled);
    quiet!(timers);
}

fn stream_to(peer: SocketAddr) -> Flow {
    Flow { listener: ListenerId(1), transport: Transport::Tcp, peer, connection: None }
}
