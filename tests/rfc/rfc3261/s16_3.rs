//! RFC 3261 §16.3: request validation.

use crate::harness::{ALICE, OUTSIDER, Sent, Table, request, udp};
use sip::HeaderName;

#[test]
fn a_request_without_what_it_must_have_is_400() {
    for line in ["From: <sip:alice@example.com>;tag=alice\r\n", "Call-ID: call\r\n", "CSeq: 1 OPTIONS\r\n"] {
        let sent = Table::new().one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &[]).replace(line, ""));
        assert_eq!(sent.status(), Some(400), "{line}");
    }
}

#[test]
fn nothing_is_said_to_a_request_without_a_via() {
    let text = request("OPTIONS", "sip:bob@example.com", &[])
        .replace("Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKalice\r\n", "");
    assert_eq!(Table::new().receive(udp(ALICE), text), []);
}

#[test]
fn an_unknown_scheme_is_416() {
    let sent = Table::new().one(udp(ALICE), request("OPTIONS", "soap.beep://192.0.2.103:3002", &[]));
    assert_eq!(sent.status(), Some(416));
}

#[test]
fn a_request_without_hops_left_is_483() {
    let text = request("INVITE", "sip:bob@example.com", &[]).replace("Max-Forwards: 70", "Max-Forwards: 0");
    let mut table = Table::new();
    assert_eq!(table.one(udp(ALICE), text).status(), Some(483));
    assert_eq!(table.proxy.counters.too_many_hops, 1);
}

#[test]
fn an_options_to_the_proxy_itself_needs_no_hops() {
    for uri in ["sip:example.com", "sip:192.0.2.1", "sip:192.0.2.1:5060;transport=udp"] {
        let text = request("OPTIONS", uri, &[]).replace("Max-Forwards: 70", "Max-Forwards: 0");
        let sent = Table::new().one(udp(ALICE), text);
        assert_eq!(sent.status(), Some(200), "{uri}");
        assert!(sent.text().contains("\r\nAllow: INVITE, ACK"));
        assert_eq!(sent.all(HeaderName::Supported), ["path", "outbound"]);
    }
}

#[test]
fn the_proxy_itself_does_not_do_what_it_is_required_but_does_not_know() {
    let text = request("OPTIONS", "sip:example.com", &["Require: path, teleport"]);
    let sent = Table::new().one(udp(ALICE), text);
    assert_eq!((sent.status(), sent.all(HeaderName::Unsupported)), (Some(420), vec!["teleport".to_owned()]));
}

/// What was sent to Bob comes back, with the Request-URI that it had when we saw it.
fn back(sent: &Sent, to: &str) -> String {
    sent.text().replace("OPTIONS sip:bob@192.0.2.20:5062", &format!("OPTIONS sip:{to}@example.com"))
}

#[test]
fn a_request_that_would_go_the_same_way_again_is_a_loop() {
    let mut table = Table::new();
    let first = table.one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &[]));
    // The first round tells only that it has been here.
    assert!(!first.text().contains(";loop="));
    let second = table.one(udp(OUTSIDER), back(&first, "bob"));
    assert_eq!((second.status(), table.proxy.counters.loops), (None, 0));
    assert_eq!(table.one(udp(OUTSIDER), back(&second, "bob")).status(), Some(482));
    assert_eq!(table.proxy.counters.loops, 1);
}

#[test]
fn a_spiral_is_forwarded() {
    let mut table = Table::new();
    let first = table.one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &[]));
    let second = table.one(udp(OUTSIDER), back(&first, "bob"));
    let third = table.one(udp(OUTSIDER), back(&second, "dave"));
    assert_eq!(third.uri().as_deref(), Some("sip:dave@10.0.0.9:5060"));
    assert_ne!(first.branch(), second.branch());
    assert_ne!(second.branch(), third.branch());
    assert_eq!(third.text().matches(";loop=").count(), 2);
}

#[test]
fn the_cancel_of_a_spiral_has_the_branch_of_its_request() {
    let mut table = Table::new();
    let first = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
    // A stateful proxy sends it back, and cancels it there by its own Via alone (§9.1).
    let own = "Via: SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bKtheirs\r\n";
    let spiral = first.text().replace("INVITE sip:bob@192.0.2.20:5062", "INVITE sip:dave@example.com");
    let spiral = spiral.replacen("Via:", &format!("{own}Via:"), 1);
    let lines = spiral.split_inclusive("\r\n").filter(|line| !line.starts_with("Via:") || *line == own);
    let cancel = lines.collect::<String>().replace("INVITE", "CANCEL");
    let (spiral, cancel) = (table.one(udp(OUTSIDER), spiral), table.one(udp(OUTSIDER), cancel));
    assert!(spiral.text().contains(";loop=") && !cancel.text().contains(";loop="));
    assert_eq!(spiral.branch(), cancel.branch());
}

#[test]
fn a_foreign_via_with_a_branch_of_ours_is_no_loop() {
    let mut table = Table::new();
    let first = table.one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &[]));
    let second = table.one(udp(OUTSIDER), back(&first, "bob"));
    let foreign = back(&second, "bob").replace("UDP 192.0.2.1:5060", "UDP 192.0.2.2:5060");
    assert_eq!(table.one(udp(OUTSIDER), foreign).status(), None);
}

#[test]
fn extensions_that_the_proxy_must_know_are_420() {
    let text = request("INVITE", "sip:bob@example.com", &["Proxy-Require: one,\r\n two", "Proxy-Require: three"]);
    let sent = Table::new().one(udp(ALICE), text);
    assert_eq!(sent.status(), Some(420));
    assert_eq!(sent.all(HeaderName::Unsupported), ["one", "two", "three"]);
}

#[test]
fn ack_and_cancel_are_not_asked_for_extensions() {
    for method in ["ACK", "CANCEL"] {
        let sent = Table::new().one(udp(ALICE), request(method, "sip:bob@example.com", &["Proxy-Require: one"]));
        assert_eq!((sent.status(), sent.flow), (None, udp("192.0.2.20:5062")));
    }
}
