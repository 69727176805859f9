//! Mangling of session descriptions for peers behind a NAT.

use crate::harness::{message, parse};
use dialog::{is_private, mangle};
use proptest::prelude::*;
use std::net::IpAddr;

const PUBLIC: &str = "203.0.113.7";

fn mangled(body: &str, source: &str) -> (String, bool) {
    let text = message(&["INVITE sip:x SIP/2.0", "Content-Type: application/sdp"]) + body;
    let mut out = Vec::new();
    let is_changed = mangle(&parse(&text), source.parse().unwrap(), &mut out);
    (String::from_utf8(out).unwrap(), is_changed)
}

#[test]
fn private_addresses_give_way_and_ports_stay() {
    let body = "v=0\r\no=- 1 2 IN IP4 192.168.1.2\r\ns=IN IP4 10.0.0.1\r\nc=IN IP4 192.168.1.2\r\nt=0 0\r\n\
        m=audio 5004 RTP/AVP 0\r\nc=IN IP4 10.1.2.3\r\na=rtcp:5005 IN IP4 10.1.2.3\r\nm=video 5006 RTP/AVP 31\r\nc=IN IP4 198.51.100.9\r\n";
    let expected = body
        .replace("o=- 1 2 IN IP4 192.168.1.2", "o=- 1 2 IN IP4 203.0.113.7")
        .replace("c=IN IP4 192.168.1.2", "c=IN IP4 203.0.113.7")
        .replace("c=IN IP4 10.1.2.3", "c=IN IP4 203.0.113.7");
    assert_eq!(mangled(body, PUBLIC), (expected, true));
}

#[test]
fn the_family_goes_with_the_address() {
    let body = "o=- 1 2 IN IP4 10.0.0.1\nc=IN  IP4\t10.0.0.1 \n";
    assert_eq!(mangled(body, "2001:db8::7"), ("o=- 1 2 IN IP6 2001:db8::7\nc=IN  IP6 2001:db8::7 \n".to_owned(), true));
    assert_eq!(mangled("c=IN IP6 fd00::1\r\n", PUBLIC), ("c=IN IP4 203.0.113.7\r\n".to_owned(), true));
}

#[test]
fn hold_public_addresses_names_and_multicast_stay() {
    for body in
        ["c=IN IP4 0.0.0.0\r\n", "c=IN IP4 198.51.100.1\r\n", "c=IN IP4 host.example\r\n", "c=IN IP4 224.2.1.1/127\r\n"]
    {
        assert_eq!(mangled(body, PUBLIC), (body.to_owned(), false));
    }
}

#[test]
fn a_peer_in_our_own_network_is_left_alone() {
    let body = "c=IN IP4 192.168.1.2\r\n";
    assert_eq!(mangled(body, "10.0.0.9"), (body.to_owned(), false));
}

#[test]
fn a_peer_that_does_ice_is_left_alone() {
    let body =
        "c=IN IP4 192.168.1.2\r\nm=audio 9 RTP/AVP 0\r\na=candidate:1 1 UDP 2130706431 192.168.1.2 9 typ host\r\n";
    assert_eq!(mangled(body, PUBLIC), (body.to_owned(), false));
}

#[test]
fn only_the_description_within_a_multipart_body_is_changed() {
    let body = "--b\r\nContent-Type: text/plain\r\n\r\nc=IN IP4 10.0.0.1\r\n--b\r\nContent-Type: application/sdp\r\n\r\n\
        c=IN IP4 10.0.0.1\r\n--b--\r\n";
    let text = message(&["INVITE sip:x SIP/2.0", "Content-Type: multipart/mixed;boundary=b"]) + body;
    let mut out = Vec::new();
    assert!(mangle(&parse(&text), PUBLIC.parse().unwrap(), &mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "--b\r\nContent-Type: text/plain\r\n\r\nc=IN IP4 10.0.0.1\r\n--b\r\n\
        Content-Type: application/sdp\r\n\r\nc=IN IP4 203.0.113.7\r\n--b--\r\n"
    );
}

#[test]
fn addresses_that_lead_nowhere_from_outside_are_private() {
    for (address, expected) in [
        ("10.0.0.1", true),
        ("172.31.0.1", true),
        ("172.32.0.1", false),
        ("192.168.0.1", true),
        ("100.64.0.1", true),
        ("100.128.0.1", false),
        ("169.254.1.1", true),
        ("127.0.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("fd12::1", true),
        ("fe80::1", true),
        ("2001:db8::1", false),
        ("0.0.0.0", false),
        ("8.8.8.8", false),
    ] {
        assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
    }
}

fn line() -> impl Strategy<Value = String> {
    let value =
        prop_oneof!["IN IP4 (10\\.0\\.0\\.[0-9]|198\\.51\\.100\\.1|x)", "- 1 2 IN IP4 10\\.9\\.8\\.7", "[ -~]{0,20}"];
    ("[vocmas]", value, prop_oneof![Just("\r\n"), Just("\n")])
        .prop_map(|(kind, value, end)| format!("{kind}={value}{end}"))
}

proptest! {
    #[test]
    fn mangling_changes_only_private_addresses(lines in proptest::collection::vec(line(), 0..12)) {
        // The twin: line by line, by splitting and joining.
        let expected: String = lines
            .iter()
            .map(|line| {
                let words: Vec<&str> = line[2..].split_whitespace().collect();
                let place = match &line[..2] { "c=" => 2, "o=" => 5, _ => return line.clone() };
                let is_network = words.len() > place && words[place - 2] == "IN";
                match words.get(place).and_then(|w| w.parse::<IpAddr>().ok()) {
                    Some(ip) if is_network && is_private(ip) => {
                        let network = format!("{} {}", words[place - 1], words[place]);
                        line.replacen(&network, &format!("IP4 {PUBLIC}"), 1)
                    }
                    _ => line.clone(),
                }
            })
            .collect();
        let body: String = lines.concat();
        prop_assume!(!body.contains("a=candidate:"));
        let is_changed = expected != body;
        prop_assert_eq!(mangled(&body, PUBLIC), (expected, is_changed));
    }
}
