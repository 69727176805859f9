//! Complete calls through a server of a few lines: it keeps the last contact registered, and sends every message on as its
//! Request-URI or its topmost Via says.
#![expect(clippy::disallowed_methods, reason = "the server needs a thread and a socket of its own")]

mod common;

use std::{
    collections::BTreeMap,
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use bench::{
    calls::{self, Answer, Calls, HangsUp, Outcome},
    message::{self, DOMAIN},
    mmsg,
};
use common::loopback;

const COUNT: u64 = 200;

#[test]
fn every_call_is_answered_and_hung_up_by_either_end() {
    let outcome = calls_through(server(|_| Verdict::Pass), |calls| calls.hangs_up = HangsUp::Alternately);
    assert_eq!((outcome.sent, outcome.answered, outcome.completed), (COUNT, COUNT, COUNT), "{outcome}");
    let latencies = [outcome.ringing, outcome.answering, outcome.hanging_up];
    assert!(latencies.iter().all(|latency| latency.count == COUNT && latency.p50_us > 0.0), "{outcome}");
    assert_eq!(outcome.answered_call_ids.len() as u64, COUNT);
    assert!(outcome.most_at_a_time > 1, "calls overlap: {outcome}");
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut seen = 0;
    let dropping = move |_: &[u8]| {
        seen += 1;
        if seen % 20 == 0 { Verdict::Drop } else { Verdict::Pass }
    };
    let outcome = calls_through(server(dropping), |calls| calls.patience = Duration::from_secs(10));
    assert_eq!(outcome.completed, COUNT, "{outcome}");
    assert!(outcome.retransmissions > 0 && !outcome.sustained(), "{outcome}");
}

#[test]
fn a_refusal_is_acknowledged_and_counted_by_its_status() {
    let refusing = |message: &[u8]| match message.starts_with(b"INVITE ") {
        true => Verdict::Refuse,
        false => Verdict::Pass,
    };
    let outcome = calls_through(server(refusing), |_| {});
    assert_eq!((outcome.answered, outcome.completed), (0, 0));
    assert_eq!(outcome.failures, BTreeMap::from([("INVITE 486 Busy Here".into(), COUNT)]));
}

#[test]
fn silence_ends_after_the_patience_of_the_caller() {
    let silent = |message: &[u8]| if message.starts_with(b"BYE ") { Verdict::Drop } else { Verdict::Pass };
    let outcome = calls_through(server(silent), |calls| calls.patience = Duration::from_millis(700));
    assert_eq!((outcome.answered, outcome.completed), (COUNT, 0));
    assert_eq!(outcome.failures, BTreeMap::from([("BYE without a final response".into(), COUNT)]));
}

#[test]
fn a_phone_that_only_rings_completes_a_call_by_its_180_and_a_sleeping_load_is_as_good() {
    let outcome = calls_through(server(|_| Verdict::Pass), |calls| {
        (calls.answer, calls.sleeps) = (Answer::Never, true);
    });
    assert_eq!((outcome.completed, outcome.answered, outcome.ringing.count), (COUNT, 0, COUNT), "{outcome}");
}

fn calls_through(server: SocketAddrV4, change: impl FnOnce(&mut Calls)) -> Outcome {
    let phone = mmsg::bind(0).expect("a port");
    calls::register(server, DOMAIN, 0..100, &phone).expect("the server registers");
    let mut calls = Calls {
        callees: 0..100,
        rate: 1000.0,
        count: COUNT,
        hold: Duration::from_millis(20),
        sources: 2,
        ..Calls::new(server, DOMAIN)
    };
    change(&mut calls);
    calls::run(&calls, &phone).expect("the calls run")
}

/// What becomes of a message.
enum Verdict {
    Pass,
    Drop,
    Refuse,
}

/// Runs the server until nothing has come for five seconds; `judge` sees what is no REGISTER.
fn server(mut judge: impl FnMut(&[u8]) -> Verdict + Send + 'static) -> SocketAddrV4 {
    let socket: UdpSocket = mmsg::bind(0).expect("a port");
    let address = mmsg::address(&socket);
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    thread::spawn(move || {
        let mut buffer = [0; mmsg::DATAGRAM];
        let mut contact = None;
        while let Ok((octets, source)) = socket.recv_from(&mut buffer) {
            let message = &buffer[..octets];
            let text = String::from_utf8_lossy(message);
            if text.starts_with("REGISTER ") {
                contact = text.split("Contact: ").nth(1).and_then(loopback);
                socket.send_to(&message::ok_to(message), source).expect("the source listens");
                continue;
            }
            let to = match text.starts_with("SIP/2.0 ") {
                true => text.split("Via: ").nth(1).and_then(loopback),
                false => text.lines().next().and_then(loopback).or(contact),
            };
            let refused = message::response_to(message, "486 Busy Here", "busy", "Content-Length: 0\r\n\r\n");
            // A caller who has given up takes nothing any more.
            match (judge(message), to) {
                (Verdict::Pass, Some(to)) => drop(socket.send_to(message, to)),
                (Verdict::Refuse, _) => drop(socket.send_to(&refused, source)),
                _ => {}
            }
        }
    });
    address
}
