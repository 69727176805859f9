//! The REGISTER workloads against a registrar of a few lines, which challenges and remembers nothing.
#![expect(clippy::disallowed_methods, reason = "the registrar needs a thread and a socket of its own")]

mod common;

use std::{
    collections::BTreeMap,
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use bench::{
    digest::{Algorithm, Credentials},
    load::{self, Load, Workload},
    message, mmsg,
};

const COUNT: u64 = 300;

#[test]
fn every_address_of_record_is_registered_once() {
    let server = registrar(COUNT, |request| answer(request, "200 OK", ""));
    let outcome = register(server, None);
    assert_eq!((outcome.completed, outcome.next_cseq), (COUNT, 2));
    assert_eq!(outcome.statuses, BTreeMap::from([(200, COUNT)]));
}

#[test]
fn a_challenge_is_answered_and_both_requests_count_as_one() {
    let server =
        registrar(2 * COUNT, |request| match text(request).contains("\r\nAuthorization: Digest username=\"user") {
            true => answer(request, "200 OK", ""),
            false => answer(
                request,
                "401 Unauthorized",
                "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n",
            ),
        });
    let outcome = register(server, Some(Credentials { password: "secret".into(), algorithm: Algorithm::Md5 }));
    assert_eq!((outcome.completed, outcome.latency.count, outcome.next_cseq), (COUNT, COUNT, 3));
    assert_eq!(outcome.statuses, BTreeMap::from([(200, COUNT), (401, COUNT)]));
}

#[test]
fn an_error_is_counted_by_its_status_and_completes_nothing() {
    let server = registrar(COUNT, |request| answer(request, "503 Service Unavailable", "Retry-After: 1\r\n"));
    let outcome = register(server, None);
    assert_eq!((outcome.completed, outcome.loss, outcome.lost_aors.len() as u64), (0, 1.0, COUNT));
    assert_eq!(outcome.statuses, BTreeMap::from([(503, COUNT)]));
    assert!(!outcome.sustained());
}

#[test]
fn a_server_that_asks_whether_the_sink_is_there_gets_its_200() {
    let probe = mmsg::bind(0).expect("a port");
    probe.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let server = registrar(COUNT, move |request| {
        let request_text = text(request);
        let contact = request_text.lines().find(|line| line.starts_with("Contact: ")).expect("a contact");
        let sink = common::loopback(contact).expect("its address");
        let options = "OPTIONS sip:sink SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKprobe\r\n\r\n";
        probe.send_to(options.as_bytes(), sink).expect("the sink listens");
        let mut buffer = [0; mmsg::DATAGRAM];
        match probe.recv(&mut buffer) {
            Ok(octets) if buffer[..octets].starts_with(b"SIP/2.0 200 ") => answer(request, "200 OK", ""),
            _ => answer(request, "503 Service Unavailable", ""),
        }
    });
    assert_eq!(register(server, None).statuses, BTreeMap::from([(200, COUNT)]));
}

fn register(server: SocketAddrV4, credentials: Option<Credentials>) -> load::Outcome {
    let aors: Vec<u32> = (0..COUNT as u32).collect();
    let load = Load {
        server,
        workload: Workload::Register { credentials },
        aors: &aors,
        first_cseq: 1,
        rate: 2000.0,
        count: COUNT,
        sources: 2,
        trains: false,
        patience: Duration::from_secs(2),
        pid: None,
    };
    load::run(&load, &mmsg::bind(0).expect("a port")).expect("the load runs")
}

/// Answers `requests` requests, or gives up when none has come for five seconds.
fn registrar(requests: u64, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddrV4 {
    let socket: UdpSocket = mmsg::bind(0).expect("a port");
    let address = mmsg::address(&socket);
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    thread::spawn(move || {
        let mut buffer = [0; mmsg::DATAGRAM];
        for _ in 0..requests {
            let Ok((octets, source)) = socket.recv_from(&mut buffer) else { return };
            socket.send_to(&answer(&buffer[..octets]), source).expect("the source listens");
        }
    });
    address
}

/// A response with another status and one more header line than the sink's 200.
fn answer(request: &[u8], status: &str, line: &str) -> Vec<u8> {
    text(&message::ok_to(request)).replacen("200 OK\r\n", &format!("{status}\r\n{line}"), 1).into_bytes()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
