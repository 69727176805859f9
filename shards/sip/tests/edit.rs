//! What an edit leaves, parsed again, is what was meant.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bumpalo::Bump;
use proptest::{collection::vec, option, prelude::*, sample::select};
use sip::{Edit, HeaderName, Limits, Message};
use std::net::{IpAddr, SocketAddr};

/// A request as its values, so that what an edit should make of it can be said without octets.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    uri: String,
    vias: Vec<String>,
    routes: Vec<String>,
    max_forwards: Option<u8>,
    others: Vec<String>,
    body: String,
}

/// How a request's values are laid out in lines.
#[derive(Clone, Debug)]
struct Layout {
    /// Whether the next value of a list begins a line of its own.
    new_lines: Vec<bool>,
    comma: &'static str,
    colon: &'static str,
    routes_first: bool,
    others_first: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_does_what_was_meant(
        plain in plain(),
        layout in layout(),
        new_uri in option::of("sip:[a-z]{1,30}"),
        hops in option::of(0u8..255),
        push_via in option::of(via()),
        push_route in option::of(route()),
        pop_via in any::<bool>(),
        pop_route in any::<bool>(),
        appended in option::of("[a-z]{1,9}"),
        order in any::<prop::sample::Index>(),
    ) {
        let octets = write(&plain, &layout);
        let message = Message::parse(octets.as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(&read(&message), &plain);

        // What is meant …
        let mut meant = plain.clone();
        if pop_via {
            meant.vias.remove(0);
        }
        if pop_route && !meant.routes.is_empty() {
            meant.routes.remove(0);
        }
        meant.vias.splice(0..0, push_via.clone());
        meant.routes.splice(0..0, push_route.clone());
        meant.uri = new_uri.clone().unwrap_or(meant.uri);
        meant.max_forwards = hops.or(meant.max_forwards);
        meant.others.extend(appended.iter().map(|value| format!("appended {value}")));

        // … in whatever order it is asked for, as long as what is pushed later stands before.
        let arena = Bump::new();
        let pushed = push_via.map(|via| format!("Via: {via}\r\n")).unwrap_or_default()
            + &push_route.map(|route| format!("Route: {route}\r\n")).unwrap_or_default();
        let pushed = arena.alloc_str(&pushed).as_bytes();
        let appended = appended.map(|value| format!("Y: appended {value}\r\n"));
        let appended = appended.map(|line| &*arena.alloc_slice_copy(line.as_bytes()));
        let mut edit = Edit::new(&message, &arena);
        for step in (0..6).cycle().skip(order.index(6)).take(6) {
            match step {
                0 if pop_via => edit.pop(HeaderName::Via, message.vias().next().unwrap().unwrap().raw),
                1 if pop_route => {
                    if let Some(route) = message.addresses(HeaderName::Route).next() {
                        edit.pop(HeaderName::Route, route.unwrap().raw);
                    }
                }
                2 => edit.push_lines(pushed),
                3 => new_uri.iter().for_each(|uri| edit.set_request_uri(arena.alloc_str(uri).as_bytes())),
                4 => hops.iter().for_each(|hops| edit.set_max_forwards(*hops)),
                5 => appended.iter().for_each(|line| edit.append_lines(line)),
                _ => {}
            }
        }
        let edited = edit.finish().concat();
        let edited = Message::parse(&edited, &Limits::default()).unwrap();
        prop_assert_eq!(read(&edited), meant, "{:?}", edited);
    }

    #[test]
    fn a_marked_via_tells_where_the_request_came_from(
        host in select(&["192.0.2.1", "[2001:db8::1]", "client.example.com"][..]),
        port in option::of(1u16..),
        params in vec(
            select(&[";branch=z9hG4bK1", " ; rport", ";received=10.1.1.1", ";alias", ";x = \"y\"", ";\r\n z=1"][..]), 0..6),
        source in any::<(IpAddr, u16)>(),
        other_via in any::<bool>(),
        same_host in any::<bool>(),
    ) {
        let mut params = params;
        params.sort_unstable();
        params.dedup();
        let mut source = SocketAddr::from(source);
        if same_host && let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            source.set_ip(ip);
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let rest = if other_via { " , SIP/2.0/UDP next;rport" } else { "" };
        let octets = format!("ACK sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {host}{port}{}{rest}\r\n\r\n", params.concat());
        let message = Message::parse(octets.as_bytes(), &Limits::default()).unwrap();
        let before = message.vias().next().unwrap().unwrap();

        let arena = Bump::new();
        let mut edit = Edit::new(&message, &arena);
        edit.mark_received(&before, source);
        let edited = edit.finish().concat();
        let edited = Message::parse(&edited, &Limits::default()).unwrap();
        let after = edited.vias().next().unwrap().unwrap();

        // RFC 3581 §4: who asks for rport gets both; RFC 3261 §18.2.1: else received where sent-by is another.
        let asks = params.contains(&" ; rport");
        let claims = params.contains(&";received=10.1.1.1");
        let is_elsewhere = before.host.ip() != Some(source.ip());
        let expected_rport = if asks { sip::Rport::Filled(source.port()) } else { sip::Rport::Absent };
        prop_assert_eq!(after.rport, expected_rport);
        prop_assert_eq!(after.received, (asks || is_elsewhere || claims).then_some(source.ip()));
        prop_assert_eq!((after.host, after.port, after.branch), (before.host, before.port, before.branch));
        prop_assert_eq!(edited.vias().count(), message.vias().count());

        // An answer of ours carries the same.
        let mut written = Vec::new();
        before.write_marked(&mut written, source);
        prop_assert_eq!(&written, after.raw);
        // Marked by the same hop again, it stays.
        let mut changes = 0;
        after.mark(source, |_, _, _| changes += 1);
        prop_assert_eq!(changes, 0);
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let others = vec("[!-~]([ -~]{0,10}[!-~])?", 0..4);
    ("sip:[a-z]{1,9}", vec(via(), 1..5), vec(route(), 0..5), option::of(any::<u8>()), others, "[ -~\r\n]{0,20}")
        .prop_map(|(uri, vias, routes, max_forwards, others, body)| Plain {
            uri,
            vias,
            routes,
            max_forwards,
            others,
            body,
        })
}

fn via() -> impl Strategy<Value = String> {
    "SIP/2\\.0/(UDP|TCP)  ?[a-z]{1,9}( ?: ?[1-9][0-9]{0,3})?( ?; ?(branch=[a-z]{1,4}|alias))?"
}

fn route() -> impl Strategy<Value = String> {
    "(\"[a-z, <;]{0,5}\" ?)?<sip:[a-z,;?]{0,4}[a-z]{1,4}@[a-z]{1,9}(;lr)?>( ?; ?[a-z]{1,4}=(x|\"[;,]\"))?"
}

fn layout() -> impl Strategy<Value = Layout> {
    let comma = select(&[",", ", ", " , ", "\r\n , ", ",\r\n\t"][..]);
    let colon = select(&[":", ": ", " : ", ":\r\n  "][..]);
    (vec(any::<bool>(), 10), comma, colon, any::<bool>(), any::<bool>()).prop_map(
        |(new_lines, comma, colon, routes_first, others_first)| Layout {
            new_lines,
            comma,
            colon,
            routes_first,
            others_first,
        },
    )
}

fn write(plain: &Plain, layout: &Layout) -> String {
    let mut new_lines = layout.new_lines.iter().cycle();
    let mut list = |name: &str, values: &[String]| {
        let mut text = String::new();
        for value in values {
            if text.is_empty() {
                text = format!("{name}{}{value}", layout.colon);
            } else if *new_lines.next().unwrap() {
                text += &format!("\r\n{name}{}{value}", layout.colon);
            } else {
                text += &format!("{}{value}", layout.comma);
            }
        }
        if text.is_empty() { text } else { text + "\r\n" }
    };
    let (vias, routes) = (list("v", &plain.vias), list("Route", &plain.routes));
    let (first, second) = if layout.routes_first { (routes, vias) } else { (vias, routes) };
    let hops = plain.max_forwards.map(|hops| format!("Max-Forwards{}{hops}\r\n", layout.colon)).unwrap_or_default();
    let others: String = plain.others.iter().map(|value| format!("Y{}{value}\r\n", layout.colon)).collect();
    let lines = if layout.others_first { [others, hops, first, second] } else { [first, hops, second, others] };
    format!("BYE {} SIP/2.0\r\n{}\r\n{}", plain.uri, lines.concat(), plain.body)
}

fn read(message: &Message<'_>) -> Plain {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let sip::StartLine::Request { uri, .. } = message.start_line() else { panic!("it is a request") };
    Plain {
        uri: text(uri),
        vias: message.vias().map(|via| text(via.unwrap().raw)).collect(),
        routes: message.addresses(HeaderName::Route).map(|route| text(route.unwrap().raw)).collect(),
        max_forwards: message.value(HeaderName::MaxForwards).map(|v| text(v).parse().unwrap()),
        others: message.all(HeaderName::Other).map(|h| text(h.value)).collect(),
        body: text(message.body()),
    }
}
