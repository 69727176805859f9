//! Calls back by a controller of a few lines: it refuses who asks, calls the first party, then the second, and joins them.
#![expect(clippy::disallowed_methods, reason = "the controller needs a thread and a socket of its own")]

mod common;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use bench::{
    calls::{self, Begins, Calls, HangsUp, Media, Outcome},
    message::{self, DOMAIN},
    mmsg,
};
use common::loopback;

const COUNT: u64 = 200;

#[test]
fn every_call_back_is_joined_and_hung_up_by_either_party() {
    for media in [Media::Loopback, Media::Documentation] {
        let outcome = calls_back(Conduct::Joins, |calls| calls.begins = Begins::CalledBack(media));
        assert_eq!((outcome.sent, outcome.answered, outcome.completed), (COUNT, COUNT, COUNT), "{outcome}");
        assert_eq!((outcome.answering.count, outcome.hanging_up.count), (COUNT, COUNT), "{outcome}");
        assert!(outcome.most_at_a_time > 1 && outcome.retransmissions == 0, "{outcome}");
    }
}

#[test]
fn parties_are_not_joined_before_the_first_one_has_the_ack_and_repeat_their_200_until_then() {
    let outcome = calls_back(Conduct::LosesAck, |_| {});
    assert_eq!((outcome.completed, outcome.retransmissions), (COUNT, COUNT), "{outcome}");
    assert!(outcome.answering.p50_us > 400_000.0, "{outcome}");
}

#[test]
fn what_is_left_incomplete_is_told_by_what_came_and_in_place_of_what() {
    let gives_up = calls_back(Conduct::GivesUp, |_| {});
    let why = "BYE SIP ;cause=486 in place of the call of the second party".into();
    assert_eq!(gives_up.failures, BTreeMap::from([(why, COUNT)]));
    let forgets = calls_back(Conduct::Forgets, |calls| calls.patience = Duration::from_millis(700));
    assert_eq!(forgets.failures, BTreeMap::from([("silence in place of the call of the first party".into(), COUNT)]));
    assert_eq!((forgets.answered, forgets.completed), (0, 0));
}

fn calls_back(conduct: Conduct, change: impl FnOnce(&mut Calls)) -> Outcome {
    let parties = mmsg::bind(0).expect("a port");
    let server = controller(conduct);
    calls::register(server, DOMAIN, 0..10, &parties).expect("the controller registers");
    let mut calls = Calls {
        callees: 0..10,
        rate: 1000.0,
        count: COUNT,
        hold: Duration::from_millis(20),
        begins: Begins::CalledBack(Media::Loopback),
        hangs_up: HangsUp::Alternately,
        sources: 2,
        ..Calls::new(server, DOMAIN)
    };
    change(&mut calls);
    calls::run(&calls, &parties).expect("the calls run")
}

/// What the controller does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Joins,
    /// It joins them, and the ACK to the first party is lost once.
    LosesAck,
    /// It hangs up once the first party has answered.
    GivesUp,
    /// It calls nobody.
    Forgets,
}

/// Runs the controller until nothing has come for five seconds.
fn controller(conduct: Conduct) -> SocketAddrV4 {
    let socket = mmsg::bind(0).expect("a port");
    let address = mmsg::address(&socket);
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    thread::spawn(move || {
        let mut controller =
            Controller { conduct, socket, contact: None, asked: HashSet::new(), parties: HashMap::new() };
        let mut buffer = [0; mmsg::DATAGRAM];
        while let Ok((octets, source)) = controller.socket.recv_from(&mut buffer) {
            controller.hear(&buffer[..octets], source);
        }
    });
    address
}

struct Controller {
    conduct: Conduct,
    socket: UdpSocket,
    /// Where all parties are.
    contact: Option<SocketAddrV4>,
    /// The Call-IDs of the INVITEs that have asked.
    asked: HashSet<String>,
    /// To of each leg that has answered, by Call-ID.
    parties: HashMap<String, String>,
}

impl Controller {
    fn hear(&mut self, message: &[u8], source: impl Into<std::net::SocketAddr>) {
        let text = String::from_utf8_lossy(message).into_owned();
        let source = source.into();
        let answer = |octets: Vec<u8>| drop(self.socket.send_to(&octets, source));
        match text.split(' ').next() {
            Some("REGISTER") => {
                self.contact = text.split("Contact: ").nth(1).and_then(loopback);
                self.socket.send_to(&message::ok_to(message), source).expect("the source listens");
            }
            Some("INVITE") => {
                answer(message::response_to(message, "480 Calling You Back", "c", "Content-Length: 0\r\n\r\n"));
                let call_id = field(&text, "Call-ID");
                if self.asked.insert(call_id.into()) && self.conduct != Conduct::Forgets {
                    self.send("INVITE", 1, &format!("1-{call_id}"), "s=-\r\na=inactive\r\n");
                }
            }
            Some("BYE") => {
                answer(message::ok_to(message));
                self.send("BYE", 3, &other_leg(field(&text, "Call-ID")), "");
            }
            Some("SIP/2.0") if text.starts_with("SIP/2.0 200 ") => self.hear_ok(&text),
            _ => {}
        }
    }

    fn hear_ok(&mut self, ok: &str) {
        let (call_id, body) = (field(ok, "Call-ID"), ok.split("\r\n\r\n").nth(1).unwrap_or_default());
        let is_new = self.parties.insert(call_id.into(), field(ok, "To").into()).is_none();
        match (field(ok, "CSeq"), &call_id[..2]) {
            ("1 INVITE", "1-") if self.conduct == Conduct::GivesUp => {
                self.send("ACK", 1, call_id, "");
                self.send("BYE", 2, call_id, "");
            }
            ("1 INVITE", leg) => {
                self.send("ACK", 1, call_id, "");
                match leg {
                    "1-" => self.send("INVITE", 1, &other_leg(call_id), body),
                    _ => self.send("INVITE", 2, &other_leg(call_id), body),
                }
            }
            ("2 INVITE", _) => {
                let joined = format!("joined {call_id}");
                let is_first = self.parties.insert(joined, String::new()).is_none();
                if !(self.conduct == Conduct::LosesAck && is_first) {
                    self.send("ACK", 2, call_id, "");
                }
            }
            _ => assert!(!is_new, "an answer to nothing: {ok}"),
        }
    }

    fn send(&self, method: &str, cseq: u32, call_id: &str, body: &str) {
        let Some(contact) = self.contact else { return };
        let to = self.parties.get(call_id).map_or("<sip:party@bench.example>", |to| to);
        let name = &call_id[2..];
        let request = format!(
            "{method} sip:party@{contact} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{cseq}{method}{call_id}\r\n\
             From: \"{name}\" <sip:caller@bench.example>;tag=c\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:controller@{}>\r\nReason: SIP ;cause=486\r\n\
             Content-Length: {}\r\n\r\n{body}",
            mmsg::address(&self.socket),
            mmsg::address(&self.socket),
            body.len()
        );
        // A party who has given up takes nothing any more.
        drop(self.socket.send_to(request.as_bytes(), contact));
    }
}

/// The Call-ID of the other party's leg.
fn other_leg(call_id: &str) -> String {
    match call_id.strip_prefix("1-") {
        Some(asked) => format!("2-{asked}"),
        None => call_id.replacen("2-", "1-", 1),
    }
}

/// The value of a header field.
fn field<'a>(message: &'a str, name: &str) -> &'a str {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}
