//! Whatever comes from the wire: nothing panics, the parser agrees with its twin, what is cut from a stream is what is
//! parsed, and time grows with length.
//!
//! A plain test run gives it ten seconds of random accidents (`BOLERO_RANDOM_TEST_TIME_MS` says otherwise); under
//! `cargo bolero test` the same target is guided by coverage.

#![expect(clippy::disallowed_methods, reason = "a test of time reads the clock")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod corpus;
mod twin;

use corpus::{Mutation, SEEDS};
use sip::{
    Edit, Error, HeaderName, Limits, Message, StatusCode, Uri,
    framing::{Frame, Framer},
    write,
};
use std::{
    hint::black_box,
    net::SocketAddr,
    time::{Duration, Instant},
};

#[test]
fn octets_from_the_wire_do_no_harm() {
    bolero::check!().with_test_time(Duration::from_secs(10)).with_max_len(512).for_each(|script: &[u8]| {
        let octets = play(script);
        twin::assert_agreement(&octets);
        read_everything(&octets);
        frame(&octets);
    });
}

#[test]
fn time_grows_with_length_and_no_faster() {
    let message = |header: &str, unit: &str, octets: usize| {
        let value = unit.repeat(octets / unit.len());
        let fixed = "OPTIONS sip:a SIP/2.0\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: i\r\nCSeq: 1 OPTIONS\r\n";
        let via = if header == "Via" { "" } else { "Via: SIP/2.0/UDP h\r\n" };
        format!("{fixed}{via}{header}: {value}\r\n\r\n").into_bytes()
    };
    let units = [
        ("Via", "SIP/2.0/UDP h;a;b;c=d,"),
        ("Via", "SIP/2.0/UDP h"),
        ("Via", "SIP/2.0/UDP h;a=\""),
        ("Via", "SIP/2.0/UDP h;a\r\n "),
        ("Contact", "<sip:a@b;c;d?e=f>;g,"),
        ("Contact", "<"),
        ("Contact", "a "),
        ("Contact", "\\\""),
        ("Contact", ";"),
        ("Route", "<sip:%41%42@c;%6c%72>,"),
        ("Route", "\"\","),
        ("Require", ",,,a"),
        ("Expires", "0"),
        ("X", " \r\n "),
        ("X", "\t"),
        ("X:", ":"),
    ];
    let fastest = |octets: &[u8]| {
        let once = |_| {
            let start = Instant::now();
            read_everything(octets);
            start.elapsed()
        };
        (0..7).map(once).min().unwrap()
    };
    for (header, unit) in units {
        let (short, long) = (message(header, unit, 3_000), message(header, unit, 48_000));
        let (short, long) = (fastest(&short), fastest(&long));
        // Sixteen times the octets: 16 is linear, 256 is quadratic.
        assert!(long < short * 64 + Duration::from_millis(2), "{header}: {unit:?}: {short:?}, then {long:?}");
    }
}

/// A script of accidents: which seed, then five octets each. Or else, behind 0xff, the message itself.
fn play(script: &[u8]) -> Vec<u8> {
    let Some((&first, rest)) = script.split_first() else { return Vec::new() };
    if first == 0xff {
        return rest.to_vec();
    }
    let mut octets = SEEDS[usize::from(first) % SEEDS.len()].to_vec();
    for &[kind, a, b, c, d] in rest.as_chunks().0.iter().take(12) {
        Mutation { kind, at: u16::from_le_bytes([a, b]), what: u16::from_le_bytes([c, d]) }.apply(&mut octets);
    }
    octets
}

/// Calls all that a proxy or a registrar calls.
fn read_everything(octets: &[u8]) {
    let limits = Limits { max_line: u16::MAX, ..Limits::default() };
    let source: SocketAddr = "[2001:db8::1]:5060".parse().unwrap();
    match Message::parse(octets, &limits) {
        Ok(message) => {
            edit(&message, source);
            values(&message);
            if message.is_request() {
                answer(&message, Error::Empty, source);
            }
        }
        Err(error) => {
            if let Some(message) = Message::salvage(octets, &limits).filter(Message::is_request) {
                values(&message);
                answer(&message, error, source);
            }
        }
    }
}

fn values(message: &Message<'_>) {
    let uris = [HeaderName::From, HeaderName::To, HeaderName::Contact, HeaderName::Route, HeaderName::Path]
        .map(|name| message.addresses(name).filter_map(Result::ok).map(|address| address.uri).collect::<Vec<_>>());
    for uri in uris.concat() {
        let Ok(Uri::Sip(uri)) = Uri::parse(uri) else { continue };
        assert!(uri.is_equivalent(&uri), "{:?}", uri.raw.escape_ascii());
        let (mut canonical, mut again) = (b"sip:".to_vec(), b"sip:".to_vec());
        uri.write_aor("example.com", &mut canonical);
        Uri::parse(&canonical).and_then(Uri::sip).unwrap().write_aor("example.com", &mut again);
        assert_eq!(canonical, again);
        black_box((uri.transport().ok(), uri.is_loose(), uri.params().count()));
    }
    let mut vias = message.vias();
    if let Some(Ok(top)) = vias.next() {
        let raw = |via: Result<sip::Via<'_>, Error>| via.map(|v| v.raw.to_vec());
        assert!(message.vias_below(&top).map(raw).eq(vias.map(raw)), "{message:?}");
    }
    let tokens = [HeaderName::Require, HeaderName::ProxyRequire].map(|name| message.tokens(name).count());
    black_box((message.expires(), message.call_id(), tokens));
}

/// An answer is a message of ours: it parses, whatever the request was.
fn answer(request: &Message<'_>, error: Error, source: SocketAddr) {
    let mut answer = Vec::new();
    write::begin_response(&mut answer, request, StatusCode::BAD_REQUEST, &error.to_string(), b"tag", source);
    write::finish(&mut answer, b"body");
    // It may have become longer than what we take ourselves, no more.
    match Message::parse(&answer, &Limits { max_line: u16::MAX, ..Limits::default() }) {
        Ok(parsed) => assert_eq!(parsed.body(), b"body"),
        Err(error) => assert_eq!(error, Error::MessageTooLarge, "{}", answer.escape_ascii()),
    }
}

/// What a proxy does to a request on its way leaves a message that parses.
fn edit(message: &Message<'_>, source: SocketAddr) {
    let arena = bumpalo::Bump::new();
    let mut edit = Edit::new(message, &arena);
    edit.set_request_uri(b"sip:elsewhere");
    edit.set_max_forwards(69);
    edit.push_lines(b"Via: SIP/2.0/UDP proxy\r\n");
    if let Some(Ok(via)) = message.vias().next() {
        edit.mark_received(&via, source);
    }
    if let Some(Ok(route)) = message.addresses(HeaderName::Route).next() {
        edit.pop(HeaderName::Route, route.raw);
    }
    let edited = edit.finish().concat();
    let faults = [Error::MessageTooLarge, Error::TooManyHeaders];
    match Message::parse(&edited, &Limits { max_line: u16::MAX, ..Limits::default() }) {
        Ok(edited) => assert_eq!(edited.body(), message.body()),
        Err(error) => assert!(faults.contains(&error), "{error}: {}", edited.escape_ascii()),
    }
}

/// A stream's frame is a message with nothing behind it.
fn frame(octets: &[u8]) {
    let octets = &octets[octets.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()..];
    let Ok(Frame::Message { octets: length }) = Framer::new(Limits::default()).next(octets) else { return };
    if let Ok(message) = Message::parse(&octets[..length], &Limits::default()) {
        assert_eq!(message.bytes().len(), length, "{}", octets.escape_ascii());
    }
}
