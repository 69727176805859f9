//! RFC 4475 and RFC 5118: every torture message meets the proxy, and so do mutations of them all.
//!
//! The proxy is not responsible for the domains that the messages name, and their senders may relay, so that what may be
//! forwarded is. The expected outcomes are those of each section's prose; the `proxy` column of the manifests sums them up.
#![expect(clippy::disallowed_methods, reason = "a test reads its vectors from files")]

#[path = "rfc/harness.rs"]
#[expect(dead_code, reason = "the harness serves other tests too")]
mod harness;

use agent::{Domains, Flow};
use harness::{OUTSIDER, Sent, TRUNK, Table, tcp, udp};
use proptest::{prelude::*, test_runner::TestRunner};
use ringswitch::proxy::Names;
use sip::{HeaderName, Limits, Message};
use std::{collections::BTreeSet, path::PathBuf};

/// Names that the messages are sent to, each with an address.
const HOSTS: &str = "\
192.0.2.77 example.com example.net example.org services.example.com registrar.example.com company.com host.example.net
192.0.2.78 host5.example.net host129.example.com";

fn vectors(rfc: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shards/sip/tests/vectors").join(rfc)
}

fn read(path: &str) -> Vec<u8> {
    let path = vectors(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rfc4475(name: &str) -> Vec<u8> {
    read(&format!("rfc4475/dat/{name}.dat"))
}

fn rfc5118(name: &str) -> Vec<u8> {
    read(&format!("rfc5118/wire/{name}.dat"))
}

/// A proxy on the way: nothing is local, everybody may relay.
fn relaying() -> Table {
    Table::with(|settings| {
        let listening = settings.listeners.addresses().collect();
        settings.domains = Domains::new(vec!["switch.invalid".into()], listening);
        settings.names = Names::from_hosts(HOSTS);
        settings.relay_from = ["0.0.0.0/0", "::/0"].map(|n| n.parse().expect("a network")).into();
    })
}

/// The flow that the message's Via claims: TCP and TLS come on a connection.
fn came_on(octets: &[u8]) -> Flow {
    let is_stream = [b"/TCP".as_slice(), b"/TLS"].iter().any(|t| octets.windows(4).any(|w| w == *t));
    if is_stream { tcp(TRUNK, 1) } else { udp(TRUNK) }
}

/// What the proxy made of a message.
enum Outcome {
    Forwarded(Sent),
    Answered(u16, Sent),
    Dropped,
}

fn outcome(octets: &[u8]) -> Outcome {
    let mut sent = relaying().receive(came_on(octets), octets);
    assert!(sent.len() <= 1, "one message in, at most one out");
    match sent.pop() {
        None => Outcome::Dropped,
        Some(sent) => match sent.status() {
            Some(status) => Outcome::Answered(status, sent),
            None => Outcome::Forwarded(sent),
        },
    }
}

#[track_caller]
fn forwarded(octets: &[u8]) -> Sent {
    match outcome(octets) {
        Outcome::Forwarded(sent) => sent,
        Outcome::Answered(status, sent) => panic!("answered with {status}: {:?}", sent.message()),
        Outcome::Dropped => panic!("dropped"),
    }
}

#[track_caller]
fn answered(octets: &[u8]) -> (u16, Sent) {
    match outcome(octets) {
        Outcome::Answered(status, sent) => (status, sent),
        Outcome::Forwarded(sent) => panic!("forwarded: {:?}", sent.message()),
        Outcome::Dropped => panic!("dropped"),
    }
}

/// Header lines of `octets` as they stand, except those that forwarding may change.
fn untouched_lines(octets: &[u8]) -> Vec<Vec<u8>> {
    let message = Message::parse(octets, &Limits::default()).expect("it was forwarded");
    let is_touched = |name| matches!(name, HeaderName::Via | HeaderName::MaxForwards | HeaderName::Route);
    message.headers().filter(|h| !is_touched(h.name)).map(|h| h.line.to_vec()).collect()
}

/// What forwarding leaves as it was: the start-line unless `restricted` to the rest, every Via below ours, every other
/// header line, the body.
#[track_caller]
fn assert_untouched(octets: &[u8], sent: &Sent) {
    let (before, after) = (Message::parse(octets, &Limits::default()).expect("it was forwarded"), sent.message());
    assert_eq!(after.start_line(), before.start_line());
    assert_eq!(untouched_lines(&sent.octets), untouched_lines(octets));
    assert_eq!(after.body(), before.body());
    let hops = before.request().expect("it was forwarded").max_forwards.map_or(70, |hops| hops - 1);
    assert_eq!(after.request().expect("it is a request").max_forwards, Some(hops));
    // Of the Vias only the topmost one gets marks.
    let vias = |m: &Message<'_>| m.all(HeaderName::Via).map(|h| h.value.to_vec()).collect::<Vec<_>>();
    let (before, after) = (vias(&before), vias(&after));
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[2..], before[1..]);
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|w| w == part)
}

/// The messages of RFC 4475 §3.1.1 and §3.3 that a proxy sends on as they are.
const FORWARDED: &[&str] = &[
    "baddate",
    "cparam01",
    "cparam02",
    "dblreq",
    "esc01",
    "esc02",
    "escnull",
    "intmeth",
    "inv2543",
    "invut",
    "longreq",
    "lwsdisp",
    "regaut01",
    "regbadct",
    "regescrt",
    "sdp01",
    "semiuri",
    "transports",
    "unksm2",
    "badbranch",
    "wsinv",
];

/// Those that it refuses, with the status.
const REFUSED: &[(&str, u16)] = &[
    ("badaspec", 400),
    ("baddn", 400),
    ("badinv01", 400),
    ("badvers", 505),
    ("bext01", 420),
    ("clerr", 400),
    ("insuf", 400),
    ("ltgtruri", 400),
    ("lwsruri", 400),
    ("lwsstart", 400),
    ("mcl01", 400),
    ("mismatch01", 400),
    ("mismatch02", 400),
    ("multi01", 400),
    ("ncl", 400),
    ("novelsc", 416),
    ("quotbal", 400),
    ("scalar02", 400),
    ("trws", 400),
    ("unkscm", 416),
    ("zeromf", 483),
];

/// Responses that answer nothing of ours or break the grammar, and the file that is no message at all.
const DROPPED: &[&str] = &["bcast", "bigcode", "noreason", "scalarlg", "unreason", "test"];

/// Those with a test of their own.
const OTHER: &[&str] = &["escruri", "mpart01"];

#[test]
fn every_message_of_rfc_4475_has_its_outcome() {
    let files: BTreeSet<_> = std::fs::read_dir(vectors("rfc4475/dat"))
        .expect("the vectors are in the repository")
        .map(|f| f.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let refused = REFUSED.iter().map(|(name, _)| name);
    let listed = FORWARDED.iter().chain(refused).chain(DROPPED).chain(OTHER).map(|&name| name.to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), files);
    assert_eq!(files.len(), 50);

    for &name in FORWARDED {
        eprintln!("{name}");
        let octets = rfc4475(name);
        assert_untouched(&octets, &forwarded(&octets));
    }
    for &(name, expected) in REFUSED {
        eprintln!("{name}");
        let octets = rfc4475(name);
        let (status, sent) = answered(&octets);
        assert_eq!(status, expected);
        assert_eq!(sent.flow.peer.ip(), came_on(&octets).peer.ip(), "answers go to the source");
    }
    for &name in DROPPED {
        assert!(matches!(outcome(&rfc4475(name)), Outcome::Dropped), "{name}");
    }
}

#[test]
fn a_tortuous_invite_follows_its_route() {
    // §3.1.1.1.
    let sent = forwarded(&rfc4475("wsinv"));
    assert_eq!(sent.flow.peer, "192.0.2.77:5060".parse().unwrap());
    assert!(contains(&sent.octets, b"MaX-fOrWaRdS: 67\r\n"));
    assert!(contains(&sent.octets, b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"));
    assert!(contains(&sent.octets, b"NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"));
    assert_eq!(sent.message().vias().count(), 4);
    let message = sent.message();
    let request = message.request().unwrap();
    assert_eq!((request.from.tag, request.to.tag), (Some(&b"98asjd8"[..]), Some(&b"1918181833n"[..])));
}

#[test]
fn a_tortuous_invite_to_us_loses_our_route() {
    let mut table = relaying();
    let octets = rfc4475("wsinv");
    let text = String::from_utf8(octets).unwrap().replace("services.example.com", "switch.invalid");
    let text = text.replace("chair-dnrc.example.com;unknownparam SIP", "example.com;unknownparam SIP");
    let sent = table.one(udp(TRUNK), text);
    assert_eq!(sent.all(HeaderName::Route), [""; 0]);
}

#[test]
fn escapes_are_neither_read_into_names_nor_undone() {
    // §3.1.1.5: RE%47IST%45R is no REGISTER, even where we are the registrar.
    let octets = rfc4475("esc02");
    let mut table = Table::with(|settings| {
        let listening = settings.listeners.addresses().collect();
        settings.domains = Domains::new(vec!["registrar.example.com".into()], listening);
    });
    assert_eq!(table.one(tcp(TRUNK, 1), &octets).status(), Some(404));
    assert_eq!(table.registrar.registered, 0);

    // §3.1.1.3: the user is sips:user@example.com of example.net.
    let mut table = Table::with(|settings| {
        let listening = settings.listeners.addresses().collect();
        settings.domains = Domains::new(vec!["example.net".into()], listening);
    });
    assert_eq!(table.one(udp(TRUNK), rfc4475("esc01")).status(), Some(404));
    assert_eq!(*table.registrar.located.borrow(), ["sips%3Auser%40example.com@example.net"]);
}

#[test]
fn semicolons_belong_to_the_user() {
    // §3.1.1.9.
    let mut table = Table::new();
    assert_eq!(table.one(udp(TRUNK), rfc4475("semiuri")).status(), Some(404));
    assert_eq!(*table.registrar.located.borrow(), ["user;par=u%40example.net@example.com"]);
}

#[test]
fn unusual_octets_reach_the_other_side() {
    // §3.1.1.2.
    let sent = forwarded(&rfc4475("intmeth"));
    assert!(contains(&sent.octets, b"NUL:\\\0 DEL:"));
    assert!(contains(&sent.octets, b"\xEF\xBB\xBF"));
    assert!(contains(&sent.octets, b"Max-Forwards: 254\r\n"));
}

#[test]
fn only_the_first_request_of_a_datagram_counts() {
    // §3.1.1.8.
    let sent = forwarded(&rfc4475("dblreq"));
    assert!(!contains(&sent.octets, b"INVITE"));
}

#[test]
fn a_long_request_keeps_every_via_in_its_place() {
    // §3.1.1.7.
    let sent = forwarded(&rfc4475("longreq"));
    assert_eq!(sent.message().vias().filter(Result::is_ok).count(), 35);
}

#[test]
fn a_binary_body_passes_octet_for_octet() {
    // §3.1.1.11: its Route names a strict router, so the Request-URI gives way.
    let octets = rfc4475("mpart01");
    let sent = forwarded(&octets);
    assert_eq!(sent.flow, udp("127.0.0.1:5080"));
    assert_eq!(sent.uri().as_deref(), Some("sip:127.0.0.1:5080"));
    assert_eq!(sent.all(HeaderName::Route), ["<sip:kumiko@example.org>"]);
    assert_eq!(sent.message().body(), &octets[octets.len() - 553..]);
    assert!(sent.all(HeaderName::Via)[1].ends_with(";rport=5060;received=192.0.2.99"));
}

#[test]
fn headers_in_a_request_uri_become_no_headers() {
    // §3.1.2.11: such a request may be refused with 400, or sent on without them.
    let sent = forwarded(&rfc4475("escruri"));
    assert_eq!(sent.uri().as_deref(), Some("sip:user@example.com"));
    assert_eq!(sent.all(HeaderName::Route), [""; 0]);
}

#[test]
fn an_rfc_2543_invite_gets_hops_and_a_branch() {
    // §3.4.1.
    let sent = forwarded(&rfc4475("inv2543"));
    assert_eq!(sent.all(HeaderName::MaxForwards), ["70"]);
    assert!(sent.branch().starts_with("z9hG4bK"));
}

#[test]
fn unsupported_extensions_are_named() {
    // §3.3.5.
    let (_, sent) = answered(&rfc4475("bext01"));
    assert_eq!(sent.all(HeaderName::Unsupported), ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]);
}

#[test]
fn an_answer_to_a_request_without_from_to_and_call_id_has_none() {
    // §3.3.1.
    let (_, sent) = answered(&rfc4475("insuf"));
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
        assert_eq!(sent.all(name), [""; 0]);
    }
}

#[test]
fn a_cookie_alone_tells_requests_apart_by_the_rest() {
    // §3.2.1.
    let octets = rfc4475("badbranch");
    let other = String::from_utf8(octets.clone()).unwrap().replace("CSeq: 8", "CSeq: 9");
    assert_ne!(forwarded(&octets).branch(), forwarded(other.as_bytes()).branch());
}

#[test]
fn a_register_for_us_is_left_to_the_registrar() {
    for name in ["cparam01", "cparam02", "dblreq", "escnull", "regaut01", "regbadct", "regescrt", "unksm2"] {
        let mut table = Table::new();
        let octets = rfc4475(name);
        assert_eq!(table.receive(came_on(&octets), &octets).len(), 1, "{name}");
        assert_eq!(table.registrar.registered, 1, "{name}");
    }
}

#[test]
fn every_message_of_rfc_5118_has_its_outcome() {
    for name in ["ipv6-good", "port-ambiguous", "port-unambiguous", "via-received-param-with-delim"]
        .into_iter()
        .chain(["via-received-param-no-delim", "ipv6-in-sdp", "mult-ip-in-header", "mult-ip-in-sdp"])
        .chain(["ipv4-mapped-ipv6", "ipv6-correct-abnf-2-colons"])
    {
        eprintln!("{name}");
        let octets = rfc5118(name);
        let sent = forwarded(&octets);
        assert_untouched(&octets, &sent);
    }
    for name in ["ipv6-bad", "ipv6-bug-abnf-3-colons"] {
        assert_eq!(answered(&rfc5118(name)).0, 400, "{name}");
    }
}

#[test]
fn a_port_stands_behind_the_bracket_only() {
    // RFC 5118 §4.3, §4.4.
    assert_eq!(forwarded(&rfc5118("port-ambiguous")).flow, udp("[2001:db8::10:5070]:5060"));
    assert_eq!(forwarded(&rfc5118("port-unambiguous")).flow, udp("[2001:db8::10]:5070"));
}

#[test]
fn a_made_up_received_is_replaced_in_either_form() {
    // RFC 5118 §4.5: what we write has no brackets.
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let source = udp("[2001:db8::9:256]:5060");
        let sent = relaying().one(source, rfc5118(name));
        assert!(sent.all(HeaderName::Via)[1].contains(";received=2001:db8::9:256;"), "{name}");
    }
}

/// One change of some octets: at a place, this many give way to these.
#[derive(Clone, Debug)]
struct Mutation {
    at: prop::sample::Index,
    remove: usize,
    insert: Vec<u8>,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let insert = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3),
        prop::sample::select(b" \r\n\t;,:<>@\"\\=%?[]0".as_slice()).prop_map(|b| vec![b]),
        prop::sample::select(vec![
            "\r\n",
            "\r\n ",
            "\r\n\r\n",
            ";rport",
            ";lr",
            ";maddr=",
            ";received=",
            "Route: ",
            "Via: "
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), 0usize..4, insert).prop_map(|(at, remove, insert)| Mutation { at, remove, insert })
}

#[test]
fn mutations_neither_bring_the_proxy_down_nor_get_through_it_broken() {
    let mut seeds: Vec<Vec<u8>> = FORWARDED.iter().chain(OTHER).map(|name| rfc4475(name)).collect();
    seeds.extend(REFUSED.iter().map(|(name, _)| rfc4475(name)));
    // A request and a response of a dialog through us, so that those ways are walked too.
    let mut tables = [Table::recording(), relaying()];
    let contact = ["Contact: <sip:a@10.0.0.5>"];
    let invite = tables[0].one(udp(OUTSIDER), harness::request("INVITE", "sip:bob@example.com", &contact));
    seeds.push(harness::in_dialog("BYE", "sip:a@10.0.0.5", &invite, false).into_bytes());
    seeds.push(harness::response("200 OK", &invite).into_bytes());

    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner =
        TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()));
    let tables = std::cell::RefCell::new(tables);
    let cases = (prop::sample::select(seeds), prop::collection::vec(mutation(), 1..6), 0usize..2);
    runner
        .run(&cases, |(mut octets, mutations, table)| {
            for Mutation { at, remove, insert } in mutations {
                let at = at.index(octets.len() + 1);
                let end = (at + remove).min(octets.len());
                octets.splice(at..end, insert);
            }
            for sent in tables.borrow_mut()[table].receive(udp(TRUNK), &octets) {
                let parsed = Message::parse(&sent.octets, &Limits::default());
                prop_assert!(parsed.is_ok(), "{:?}: {}", parsed, String::from_utf8_lossy(&sent.octets));
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
