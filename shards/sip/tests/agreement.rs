//! The parser and its twin agree on every message: on those of a generator that knows the grammar, and on torture
//! messages that have met with accidents.

mod corpus;
mod twin;

use corpus::{Mutation, SEEDS};
use proptest::{collection::vec, option, prelude::*, sample::select};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_messages_that_follow_the_grammar_or_nearly(message in message()) {
        twin::assert_agreement(message.as_bytes());
    }

    #[test]
    fn on_such_messages_after_accidents(message in message(), accidents in vec(mutation(), 1..4)) {
        let mut octets = message.into_bytes();
        accidents.iter().for_each(|a| a.apply(&mut octets));
        twin::assert_agreement(&octets);
    }

    #[test]
    fn on_torture_messages_after_accidents(seed in select(SEEDS), accidents in vec(mutation(), 1..6)) {
        let mut octets = seed.to_vec();
        accidents.iter().for_each(|a| a.apply(&mut octets));
        twin::assert_agreement(&octets);
    }
}

#[test]
fn on_the_torture_messages_as_they_are() {
    SEEDS.iter().for_each(|seed| twin::assert_agreement(seed));
}

#[test]
fn at_each_limit_and_one_beyond() {
    let message = |headers: usize, line: usize, body: usize| {
        let lines = "Y: y\r\n".repeat(headers - 1);
        format!("BYE sip:a SIP/2.0\r\n{lines}Y: {}\r\n\r\n{}", "y".repeat(line - 3), "b".repeat(body)).into_bytes()
    };
    for (headers, line) in [(128, 8192), (129, 8192), (128, 8193)] {
        twin::assert_agreement(&message(headers, line, 0));
    }
    for octets in [8192, 8193] {
        let uri = "u".repeat(octets - "BYE  SIP/2.0".len());
        twin::assert_agreement(format!("BYE {uri} SIP/2.0\r\n\r\n").as_bytes());
        twin::assert_agreement(format!("SIP/2.0 200 {}\r\n\r\n", "r".repeat(octets - 12)).as_bytes());
    }
    let without_body = message(1, 10, 0).len();
    for total in [65_535, 65_536] {
        let octets = message(1, 10, total - without_body);
        assert_eq!(octets.len(), total);
        twin::assert_agreement(&octets);
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    any::<(u8, u16, u16)>().prop_map(|(kind, at, what)| Mutation { kind, at, what })
}

/// A start-line, header lines in any order, a body of about the length that one of them says.
fn message() -> impl Strategy<Value = String> {
    let body = "[ -~\r\n]{0,20}";
    let length = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => (0usize..30).prop_map(Some)];
    (start_line(), mandatory().prop_shuffle(), vec(header(), 0..6), length, body).prop_map(
        |(start_line, mut lines, more, length, body)| {
            lines.extend(more);
            match length {
                Some(0) => lines.push(format!("Content-Length: {}", body.len())),
                Some(octets) => lines.push(format!("l:{octets}")),
                None => {}
            }
            format!("{start_line}\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
        },
    )
}

fn start_line() -> impl Strategy<Value = String> {
    let method = prop_oneof![4 => Just("INVITE".to_owned()), 1 => token()];
    prop_oneof![
        6 => (method, uri()).prop_map(|(method, uri)| format!("{method} {uri} SIP/2.0")),
        2 => (100u16..800, "[ -~]{0,9}").prop_map(|(code, reason)| format!("SIP/2.0 {code} {reason}")),
        1 => select(&["SIP/2.0 200", "INVITE sip:a  SIP/2.0", "INVITE sip:a SIP/3.0", "invite sip:a sip/2.0"][..])
            .prop_map(str::to_owned),
    ]
}

/// The lines that every request has, sometimes one less.
fn mandatory() -> impl Strategy<Value = Vec<String>> {
    let line = |names: &'static [&'static str], value: BoxedStrategy<String>| {
        option::weighted(0.97, (select(names), select(&[":", ": ", " : ", "\t:\r\n "][..]), value))
            .prop_map(|line| line.map(|(name, colon, value)| format!("{name}{colon}{value}")))
    };
    let number = || prop_oneof![9 => (0u32..300).prop_map(|n| n.to_string()), 1 => "[0-9+-]{0,12}"].boxed();
    let call_id = prop_oneof![9 => "[!-~]{1,20}", 1 => "[ -~]{0,8}"].boxed();
    let cseq = (number(), lws(1), prop_oneof![9 => Just("INVITE".to_owned()), 1 => token()])
        .prop_map(|(number, lws, method)| format!("{number}{lws}{method}"))
        .boxed();
    (
        line(&["Via", "v", "VIA"], list(via()).boxed()),
        line(&["From", "f", "fROM"], address().boxed()),
        line(&["To", "t"], address().boxed()),
        line(&["Call-ID", "i", "call-id"], call_id),
        line(&["CSeq", "cseq"], cseq),
        line(&["Max-Forwards"], number()),
    )
        .prop_map(|(via, from, to, call_id, cseq, hops)| {
            [via, from, to, call_id, cseq, hops].into_iter().flatten().collect()
        })
}

fn header() -> impl Strategy<Value = String> {
    let of_addresses = (select(&["Contact", "m", "Route", "RECORD-ROUTE", "Record-Route"][..]), list(address()));
    let of_vias = (select(&["Via", "v"][..]), list(via()));
    let of_others = (prop_oneof![token(), Just("Content-Type".to_owned())], "[ -~]{0,30}");
    prop_oneof![
        4 => of_addresses.prop_map(|(name, value)| format!("{name}: {value}")),
        2 => of_vias.prop_map(|(name, value)| format!("{name}:{value}")),
        2 => of_others.prop_map(|(name, value)| format!("{name}: {value}")),
        1 => "[ -~]{1,20}",
    ]
}

fn list(element: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let comma = (lws(0), lws(0)).prop_map(|(before, behind)| format!("{before},{behind}"));
    (vec(element, 1..4), comma).prop_map(|(elements, comma)| elements.join(&comma))
}

fn via() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        Just("branch=z9hG4bKabc".to_owned()),
        Just("rport".to_owned()),
        (0u32..70_000).prop_map(|port| format!("rport={port}")),
        ip().prop_map(|ip| format!("received={ip}")),
        host().prop_map(|host| format!("MADDR={host}")),
        Just("alias".to_owned()),
    ];
    let protocol = select(
        &["SIP/2.0/UDP", "SIP/2.0/TCP", "sip / 2.0 / tcp", "SIP/2.0/TLS-SCTP", "SIP/2.1/UDP", "SIP/ 2.0 /\r\n ws"][..],
    );
    let port = option::of((lws(0), lws(0), 0u32..70_000));
    let params = vec((lws(0), prop_oneof![3 => known, 1 => param()]), 0..4);
    (protocol, lws(1), host(), port, params).prop_map(|(protocol, lws, host, port, params)| {
        let port = port.map(|(before, behind, port)| format!("{before}:{behind}{port}")).unwrap_or_default();
        let params: String = params.into_iter().map(|(lws, param)| format!("{lws};{lws}{param}")).collect();
        format!("{protocol}{lws}{host}{port}{params}")
    })
}

fn address() -> impl Strategy<Value = String> {
    let display = prop_oneof![
        Just(String::new()),
        vec(token(), 1..3).prop_map(|words| format!("{} ", words.join(" "))),
        quoted(),
        Just("Ünicode ".to_owned()),
    ];
    let uri = prop_oneof![
        8 => (display, lws(0), uri()).prop_map(|(display, lws, uri)| format!("{display}{lws}<{uri}>")),
        4 => uri(),
        1 => Just("*".to_owned()),
        1 => "[ -~]{0,12}",
    ];
    let params = vec((lws(0), prop_oneof![2 => param(), 1 => token().prop_map(|t| format!("tag={t}"))]), 0..3);
    (uri, params).prop_map(|(uri, params)| {
        let params: String = params.into_iter().map(|(lws, param)| format!("{lws};{lws}{param}")).collect();
        format!("{uri}{params}")
    })
}

fn uri() -> impl Strategy<Value = String> {
    let user = option::of("[a-z0-9;,?/%:.+&=$]{1,9}").prop_map(|user| user.map(|u| u + "@").unwrap_or_default());
    let tail = select(&["", ":5060", ";lr", ";transport=tcp;lr", "?Subject=a%20b", ";x=\"", ";a,b"][..]);
    (select(&["sip:", "SIPS:", "tel:", "urn:"][..]), user, host(), tail)
        .prop_map(|(scheme, user, host, tail)| format!("{scheme}{user}{host}{tail}"))
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z][a-z0-9-]{0,5}(\\.[a-z][a-z0-9_]{0,4}){0,2}\\.?",
        4 => ip(),
        1 => "[a-z0-9._:\\[\\]]{0,9}",
    ]
}

fn ip() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        5 => any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        1 => any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        1 => select(&["192.0.2.256", "192.0.02.1", "192.0.2", "[::1", "[1:2]"][..]).prop_map(str::to_owned),
    ]
}

fn param() -> impl Strategy<Value = String> {
    let value = prop_oneof![9 => token(), 3 => quoted(), 1 => "[ -~]{0,9}", 2 => host()];
    (token(), option::of((lws(0), lws(0), value))).prop_map(|(name, value)| match value {
        Some((before, behind, value)) => format!("{name}{before}={behind}{value}"),
        None => name,
    })
}

fn quoted() -> impl Strategy<Value = String> {
    r#""([ !#-\[\]-~]|\\[ -~]|\r\n |é){0,9}""#
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.!%*_+`'~-]{1,9}"
}

/// White space as it may stand between two parts; at least one blank if `least` is 1.
fn lws(least: usize) -> impl Strategy<Value = String> {
    let spaces: &[&str] = if least == 0 { &["", "", "", " ", "\r\n\t"] } else { &[" ", "\t", " \r\n ", "\r\n  "] };
    select(spaces.to_vec()).prop_map(str::to_owned)
}
