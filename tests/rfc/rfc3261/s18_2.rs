//! RFC 3261 §18.2.1 and §18.2.2: marking where a request came from, and answering there.

use crate::harness::{ALICE, BOB, Sent, Table, request, response, udp};
use sip::HeaderName;

/// What goes back when Alice, with this in her Via behind the transport, sends from `source`.
fn there_and_back(via: &str, source: &str) -> (String, Vec<Sent>) {
    let mut table = Table::new();
    let text = request("INVITE", "sip:bob@example.com", &[]).replace("UDP 192.0.2.10:5060", &format!("UDP {via}"));
    let forwarded = table.one(udp(source), text);
    let marked = forwarded.all(HeaderName::Via)[1].clone();
    (marked, table.receive(udp(BOB), response("200 OK", &forwarded)))
}

#[test]
fn a_sender_at_another_address_than_he_says_is_marked_and_answered_at_his_port() {
    for (via, source, marked, back_to) in [
        ("192.0.2.10:5070", "192.0.2.10:5070", "", "192.0.2.10:5070"),
        ("192.0.2.10", "192.0.2.10:6000", "", "192.0.2.10:5060"),
        ("10.0.0.5:5070", "198.51.100.1:6000", ";received=198.51.100.1", "198.51.100.1:5070"),
        ("phone.example:5070", "198.51.100.1:6000", ";received=198.51.100.1", "198.51.100.1:5070"),
        ("[2001:db8::5]:5070", "[2001:db8::6]:6000", ";received=2001:db8::6", "[2001:db8::6]:5070"),
    ] {
        let (via_below, sent) = there_and_back(via, source);
        assert_eq!(via_below, format!("SIP/2.0/UDP {via};branch=z9hG4bKalice{marked}"));
        assert_eq!(sent[0].flow, udp(back_to), "{via}");
    }
}

#[test]
fn a_received_that_the_sender_made_up_is_replaced() {
    let (marked, sent) = there_and_back("10.0.0.5;received=203.0.113.9", "198.51.100.1:6000");
    assert_eq!(marked, "SIP/2.0/UDP 10.0.0.5;received=198.51.100.1;branch=z9hG4bKalice");
    assert_eq!(sent[0].flow, udp("198.51.100.1:5060"));
}

#[test]
fn an_maddr_takes_the_response_unless_it_is_no_single_host() {
    let (_, sent) = there_and_back("192.0.2.10:5070;maddr=192.0.2.11;rport", "192.0.2.10:6000");
    assert_eq!(sent[0].flow, udp("192.0.2.11:5070"));
    for nobody in ["239.1.1.1", "255.255.255.255", "0.0.0.0", "nowhere.example"] {
        let (_, sent) = there_and_back(&format!("192.0.2.10;maddr={nobody}"), "192.0.2.10:5060");
        assert_eq!(sent, [], "{nobody}");
    }
}

#[test]
fn answers_of_our_own_go_to_the_source_address() {
    let text = request("INVITE", "sip:carol@example.com", &[]).replace("UDP 192.0.2.10:5060", "UDP 10.0.0.5:5070");
    let sent = Table::new().one(udp("198.51.100.1:6000"), text);
    assert_eq!(sent.flow, udp("198.51.100.1:5070"));
    assert!(sent.all(HeaderName::Via)[0].ends_with(";received=198.51.100.1"));
    let malformed = request("INVITE", "sip:carol@example.com", &[]).replace(";branch", ";;,;,,branch");
    assert_eq!(Table::new().one(udp(ALICE), malformed).flow, udp(ALICE));
}
