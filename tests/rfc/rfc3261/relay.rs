//! RFC 3261 §16.3 step 6 and §26.1: from outside to outside goes only who may.

use crate::harness::{ALICE, BOB, OUTSIDER, TRUNK, Table, in_dialog, request, udp};
use ringswitch::proxy::Relay;
use sip::HeaderName;

const FAR: &str = "sip:x@198.51.100.200";

#[test]
fn an_outsider_is_403() {
    let mut table = Table::new();
    for text in [
        request("INVITE", FAR, &[]),
        request("INVITE", "sip:bob@example.com", &["Route: <sip:198.51.100.200;lr>"]),
        request("INVITE", FAR, &["Route: <sip:example.com;lr>"]),
        request("REGISTER", "sip:far.example", &[]),
    ] {
        assert_eq!(table.one(udp(OUTSIDER), text).status(), Some(403));
    }
    assert_eq!(table.proxy.counters.relays_refused, 4);
}

#[test]
fn a_trusted_source_may_relay() {
    assert_eq!(Table::new().one(udp(TRUNK), request("INVITE", FAR, &[])).flow, udp("198.51.100.200:5060"));
}

#[test]
fn an_account_may_relay_once_it_has_shown_itself() {
    let mut table = Table::new();
    table.registrar.relay = Relay::Challenged;
    assert_eq!(table.one(udp(ALICE), request("INVITE", FAR, &[])).status(), Some(407));
    table.registrar.relay = Relay::Allowed;
    assert_eq!(table.one(udp(ALICE), request("INVITE", FAR, &[])).flow, udp("198.51.100.200:5060"));
}

#[test]
fn a_member_of_a_dialog_through_us_may_relay_inside_it() {
    let mut table = Table::recording();
    let invite = table.one(udp(OUTSIDER), request("INVITE", "sip:bob@example.com", &["Contact: <sip:a@203.0.113.5>"]));
    for method in ["ACK", "BYE", "INVITE", "UPDATE"] {
        let sent = table.one(udp(OUTSIDER), in_dialog(method, "sip:bob@192.0.2.20:5062", &invite, true));
        assert_eq!((sent.flow, sent.all(HeaderName::Route)), (udp(BOB), vec![]), "{method}");
        let sent = table.one(udp(BOB), in_dialog(method, "sip:a@203.0.113.5", &invite, false));
        assert_eq!((sent.flow, sent.all(HeaderName::Route)), (udp(OUTSIDER), vec![]), "{method}");
    }
}

#[test]
fn the_token_of_a_dialog_gives_no_right_outside_of_it() {
    let mut table = Table::recording();
    let invite = table.one(udp(OUTSIDER), request("INVITE", "sip:bob@example.com", &["Contact: <sip:a@203.0.113.5>"]));
    let bye = in_dialog("BYE", FAR, &invite, true);
    assert_eq!(table.one(udp(OUTSIDER), &bye).status(), None);
    let token = invite.all(HeaderName::RecordRoute)[0].clone();
    let forged = token.replacen(&token[5..7], if &token[5..7] == "AA" { "BB" } else { "AA" }, 1);
    for text in [
        bye.replace("Call-ID: call", "Call-ID: other"),
        bye.replace(";tag=alice", ";tag=stranger"),
        // A new request, though with the Call-ID of the dialog.
        bye.replace("BYE", "INVITE").replace(";tag=bob", ""),
        bye.replace(&token, &forged),
        bye.replace(&token, "<sip:192.0.2.1:5060;lr>"),
        bye.replace(&token, "<sip:short@192.0.2.1:5060;lr>"),
    ] {
        assert_ne!(text, bye);
        assert_eq!(table.one(udp(OUTSIDER), text).status(), Some(403));
    }
}
