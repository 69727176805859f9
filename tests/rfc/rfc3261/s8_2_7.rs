//! RFC 3261 §8.2.6 and §8.2.7: what a stateless element answers.

use crate::harness::{ALICE, Table, request, udp};
use sip::HeaderName;

#[test]
fn a_retransmission_gets_the_same_tag_and_another_request_another_one() {
    let mut table = Table::new();
    let text = request("INVITE", "sip:mallory@example.com", &[]);
    let first = table.one(udp(ALICE), &text);
    assert!(first.all(HeaderName::To)[0].starts_with("<sip:bob@example.com>;tag="));
    assert_eq!(table.one(udp(ALICE), &text), first);
    let other = table.one(udp(ALICE), text.replace("Call-ID: call", "Call-ID: other"));
    assert_ne!(other.all(HeaderName::To), first.all(HeaderName::To));
}

#[test]
fn a_tag_that_is_there_is_kept() {
    let text =
        request("BYE", "sip:mallory@example.com", &[]).replace("bob@example.com>", "bob@example.com>;tag=theirs");
    assert_eq!(Table::new().one(udp(ALICE), text).all(HeaderName::To), ["<sip:bob@example.com>;tag=theirs"]);
}

#[test]
fn an_answer_carries_what_identifies_the_transaction() {
    let mut table = Table::with(|settings| settings.server = "ringswitch".into());
    let text = request("INVITE", "sip:carol@example.com", &["Via: SIP/2.0/UDP 192.0.2.11;branch=z9hG4bKbelow"]);
    let sent = table.one(udp(ALICE), text);
    assert_eq!(
        sent.all(HeaderName::Via),
        ["SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKalice", "SIP/2.0/UDP 192.0.2.11;branch=z9hG4bKbelow"]
    );
    assert_eq!(sent.all(HeaderName::CSeq), ["1 INVITE"]);
    assert!(sent.text().contains("\r\nServer: ringswitch\r\n") && sent.text().contains("\r\nContent-Length: 0\r\n"));
}
