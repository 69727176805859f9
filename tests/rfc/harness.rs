//! A proxy on a table: what it is told, what it sends.
//!
//! We are example.com at 192.0.2.1 and 2001:db8::1. Bob's phone is at 192.0.2.20, Carol's is switched off, Dave's is
//! behind a NAT. 192.0.2.99 is a trunk that may relay.

use agent::{ConnectionId, Domains, Flow, ListenerId, Now, Outbox, Received, Secret};
use bumpalo::Bump;
use registrar::{Incoming, Target};
use ringswitch::proxy::{Agents, Apps, Interface, Keys, Listener, Listeners, Location, Names, Proxy, Relay, Settings};
use sip::{HeaderName, Limits, Message, StatusCode, Transport, write};
use std::{collections::HashMap, sync::Arc, time::Duration};

pub const UDP: u16 = 0;
pub const TCP: u16 = 1;
pub const UDP_V6: u16 = 2;
/// On which other processes of ours are met.
pub const HOP: u16 = 3;

pub const ALICE: &str = "192.0.2.10:5060";
pub const BOB: &str = "192.0.2.20:5062";
pub const DAVE: &str = "198.51.100.7:31000";
pub const TRUNK: &str = "192.0.2.99:5060";
pub const OUTSIDER: &str = "203.0.113.5:5060";

/// When everything happens.
pub const NOW: Now = Now { monotonic: Duration::from_secs(1), unix: Duration::from_secs(1_700_000_000) };

/// The flow over UDP to `peer`.
pub fn udp(peer: &str) -> Flow {
    let peer: std::net::SocketAddr = peer.parse().expect("the test names a socket address");
    let listener = ListenerId(if peer.is_ipv4() { UDP } else { UDP_V6 });
    Flow { listener, transport: Transport::Udp, peer, connection: None }
}

/// The TCP connection in `slot` to `peer`.
pub fn tcp(peer: &str, slot: u32) -> Flow {
    let peer = peer.parse().expect("the test names a socket address");
    let connection = Some(ConnectionId { shard: 0, slot, generation: 1 });
    Flow { listener: ListenerId(TCP), transport: Transport::Tcp, peer, connection }
}

/// The settings of the table.
pub fn settings() -> Settings {
    let listen = |transport, address: &str| Listener {
        transport,
        address: address.parse().expect("a socket address"),
        advertise: None,
    };
    let listeners = Listeners::new(
        vec![
            listen(Transport::Udp, "192.0.2.1:5060"),
            listen(Transport::Tcp, "192.0.2.1:5060"),
            listen(Transport::Udp, "[2001:db8::1]:5060"),
        ],
        &[Interface { address: [192, 0, 2, 1].into(), prefix: 24 }],
    );
    let secret = Secret::new([7; 32]);
    Settings {
        domains: Domains::new(vec!["example.com".into()], listeners.addresses().collect()),
        listeners,
        names: Names::from_hosts("192.0.2.77 proxy.example.net"),
        record_route: false,
        relay_from: vec!["192.0.2.99".parse().expect("a network")],
        limits: Limits::default(),
        server: "".into(),
        retry_after_secs: 7,
        apps: Apps::none(&secret),
        hop: ListenerId(HOP),
        keys: Keys::new(&secret),
    }
}

/// Stands in for the registrar.
pub struct Registrar {
    /// Every user, and where he is.
    pub users: HashMap<&'static str, Location<'static>>,
    /// What accounts give to those who would relay.
    pub relay: Relay,
    /// REGISTER requests seen.
    pub registered: usize,
    /// Users looked for.
    pub located: std::cell::RefCell<Vec<String>>,
    /// What application servers on this shard were given, each with the server's number.
    pub served: Vec<(usize, Sent)>,
    /// Responses that the prober was given.
    pub probed: usize,
}

impl Agents for Registrar {
    fn locate<'t>(&self, _: Now, aor: &str, _: &'t Bump) -> Location<'t> {
        self.located.borrow_mut().push(aor.to_owned());
        self.users.get(aor).copied().unwrap_or(Location::Unknown)
    }

    fn register<'t>(&mut self, _: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) {
        self.registered += 1;
        answer(StatusCode::OK, incoming.flow, incoming.message, out);
    }

    fn authorize_relay<'t>(&mut self, _: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Relay {
        if self.relay == Relay::Challenged {
            answer(StatusCode::PROXY_AUTHENTICATION_REQUIRED, incoming.flow, incoming.message, out);
        }
        self.relay
    }

    fn serve<'t>(&mut self, _: Now, app: usize, received: &Received<'t>, message: &Message<'t>, _: &mut Outbox<'t>) {
        assert!(std::ptr::eq(received.octets, message.bytes()), "both are one message");
        self.served.push((app, Sent { flow: received.flow, octets: received.octets.to_vec() }));
    }

    fn probed<'t>(&mut self, _: Now, _: &Message<'t>, _: &mut Outbox<'t>) {
        self.probed += 1;
    }
}

/// A binding: its contact, its flow where only that leads to it, its path.
pub fn bound(contact: &'static str, flow: Option<Flow>, path: &'static str) -> Location<'static> {
    let target = Target {
        contact: contact.as_bytes(),
        q: 1000,
        route: path.as_bytes(),
        flow,
        expires_secs: 60,
        user_agent: b"",
    };
    Location::Bound(Box::leak(Box::new([target])))
}

fn answer<'t>(status: StatusCode, flow: Flow, message: &Message<'t>, out: &mut Outbox<'t>) {
    let mut draft = out.draft();
    write::begin_response(&mut draft, message, status, status.reason(), b"registrar", flow.peer);
    write::finish(&mut draft, b"");
    out.send_draft(flow, draft);
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub flow: Flow,
    pub octets: Vec<u8>,
}

impl Sent {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.octets).expect("the test sends UTF-8")
    }

    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.octets, &Limits::default()).expect("what we send can be parsed")
    }

    /// The status, if it is a response.
    pub fn status(&self) -> Option<u16> {
        match self.message().start_line() {
            sip::StartLine::Response { status, .. } => Some(status.get()),
            sip::StartLine::Request { .. } => None,
        }
    }

    /// The Request-URI, if it is a request.
    pub fn uri(&self) -> Option<String> {
        match self.message().start_line() {
            sip::StartLine::Request { uri, .. } => Some(String::from_utf8_lossy(uri).into_owned()),
            sip::StartLine::Response { .. } => None,
        }
    }

    /// Every value line of a header.
    pub fn all(&self, name: HeaderName) -> Vec<String> {
        self.message().all(name).map(|h| String::from_utf8_lossy(h.value).into_owned()).collect()
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> String {
        let message = self.message();
        let via = message.vias().next().expect("there is a Via").expect("it is sound");
        String::from_utf8_lossy(via.branch.expect("it has a branch")).into_owned()
    }
}

/// The proxy with its registrar.
pub struct Table {
    pub proxy: Proxy,
    pub registrar: Registrar,
}

impl Table {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A table with other settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let users = HashMap::from([
            ("bob@example.com", bound("sip:bob@192.0.2.20:5062", None, "")),
            ("carol@example.com", Location::Absent),
            ("dave@example.com", bound("sip:dave@10.0.0.9:5060", Some(udp(DAVE)), "")),
            ("+12015550123@example.com", bound("sip:bob@192.0.2.20:5062", None, "")),
        ]);
        let registrar = Registrar {
            users,
            relay: Relay::Refused,
            registered: 0,
            located: Default::default(),
            served: Vec::new(),
            probed: 0,
        };
        Self { proxy: Proxy::new(Arc::new(settings)), registrar }
    }

    /// A table that stays in the path of dialogs.
    pub fn recording() -> Self {
        Self::with(|settings| settings.record_route = true)
    }

    /// Runs one turn and gives what it sends.
    pub fn turn(&mut self, run: impl for<'t> FnOnce(&mut Self, &'t Bump, &mut Outbox<'t>)) -> Vec<Sent> {
        let (arena, mut journal, mut ticket) = (Bump::new(), Vec::new(), 0);
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        run(self, &arena, &mut out);
        out.outgoing().iter().map(|o| Sent { flow: o.flow, octets: o.to_vec() }).collect()
    }

    /// Receives a message as a shard does.
    pub fn receive(&mut self, flow: Flow, octets: impl AsRef<[u8]>) -> Vec<Sent> {
        self.turn(|table, arena, out| {
            let octets = arena.alloc_slice_copy(octets.as_ref());
            table.handle(&Received { flow, octets, passed: false }, out);
        })
    }

    /// Handles a message in a turn that is under way.
    pub fn handle<'t>(&mut self, received: &Received<'t>, out: &mut Outbox<'t>) {
        match Message::parse(received.octets, &self.proxy.settings().limits) {
            Err(fault) => self.proxy.at_work().refuse_unparsed(received, fault, out),
            Ok(message) if message.is_request() => {
                self.proxy.at_work().handle_request(NOW, received, &message, &mut self.registrar, out);
            }
            Ok(message) => self.proxy.at_work().handle_response(NOW, received, &message, &mut self.registrar, out),
        }
    }

    /// Receives a message to which one message is sent.
    #[track_caller]
    pub fn one(&mut self, flow: Flow, octets: impl AsRef<[u8]>) -> Sent {
        let mut sent = self.receive(flow, octets);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }
}

/// A request from Alice to `uri`; `more` are header lines without their ends.
pub fn request(method: &str, uri: &str, more: &[&str]) -> String {
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKalice\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=alice\r\nTo: <sip:bob@example.com>\r\nCall-ID: call\r\nCSeq: 1 {method}\r\n\
         {more}Content-Length: 0\r\n\r\n"
    )
}

/// The response of who got `request`.
pub fn response(status: &str, request: &Sent) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for header in request.message().headers() {
        let line = String::from_utf8_lossy(header.line);
        match header.name {
            HeaderName::To if !line.contains(";tag=") => text += &line.replace("\r\n", ";tag=bob\r\n"),
            HeaderName::Via | HeaderName::RecordRoute | HeaderName::From | HeaderName::To => text += &line,
            HeaderName::CallId | HeaderName::CSeq => text += &line,
            _ => {}
        }
    }
    text + "Content-Length: 0\r\n\r\n"
}

/// A request inside the dialog that the forwarded `invite` set up, sent by its callee, or by its caller if `from_caller`.
/// `uri` is the other side's Contact; the route set is the one that Record-Route gave (§12.1).
pub fn in_dialog(method: &str, uri: &str, invite: &Sent, from_caller: bool) -> String {
    let mut routes = invite.all(HeaderName::RecordRoute);
    let mut ends = ["<sip:bob@example.com>;tag=bob", "<sip:alice@example.com>;tag=alice"];
    let mut via = "192.0.2.20:5062;branch=z9hG4bKbob";
    if from_caller {
        routes.reverse();
        ends.reverse();
        via = "192.0.2.10:5060;branch=z9hG4bKnext";
    }
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    let [from, to] = ends;
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nMax-Forwards: 70\r\n{routes}From: {from}\r\nTo: {to}\r\n\
         Call-ID: call\r\nCSeq: 2 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}
