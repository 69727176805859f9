//! RFC 3261 §16.5: determining request targets.

use crate::harness::{ALICE, BOB, DAVE, Table, request, udp};

#[test]
fn a_user_of_ours_is_reached_at_his_binding() {
    for uri in ["sip:bob@example.com", "sip:%62ob@EXAMPLE.com;transport=tcp", "sips:bob@192.0.2.1"] {
        let sent = Table::new().one(udp(ALICE), request("INVITE", uri, &[]));
        assert_eq!((sent.flow, sent.uri().as_deref()), (udp(BOB), Some("sip:bob@192.0.2.20:5062")), "{uri}");
    }
}

#[test]
fn a_binding_with_a_flow_is_reached_there() {
    let sent = Table::new().one(udp(ALICE), request("INVITE", "sip:dave@example.com", &[]));
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp(DAVE), Some("sip:dave@10.0.0.9:5060")));
}

#[test]
fn a_user_who_is_not_there_is_480_and_nobody_is_404() {
    let mut table = Table::new();
    assert_eq!(table.one(udp(ALICE), request("INVITE", "sip:carol@example.com", &[])).status(), Some(480));
    assert_eq!(table.one(udp(ALICE), request("INVITE", "sip:mallory@example.com", &[])).status(), Some(404));
    assert_eq!(table.one(udp(ALICE), request("MESSAGE", "sip:example.com", &[])).status(), Some(404));
}

#[test]
fn a_number_may_be_a_user_of_ours() {
    let sent = Table::new().one(udp(ALICE), request("INVITE", "tel:+1-201-555-0123", &[]));
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp(BOB), Some("sip:bob@192.0.2.20:5062")));
    assert_eq!(Table::new().one(udp(ALICE), request("INVITE", "tel:+1-201-555-9999", &[])).status(), Some(404));
}

#[test]
fn a_register_for_a_domain_of_ours_goes_to_the_registrar() {
    let mut table = Table::new();
    assert_eq!(table.one(udp(ALICE), request("REGISTER", "sip:example.com", &[])).status(), Some(200));
    assert_eq!(table.registrar.registered, 1);
    assert_eq!(table.one(udp(ALICE), request("REGISTER", "sip:far.example", &[])).status(), Some(403));
    assert_eq!(table.registrar.registered, 1);
}

#[test]
fn an_unknown_method_is_forwarded_like_any() {
    let sent = Table::new().one(udp(ALICE), request("RE%47ISTER", "sip:bob@example.com", &[]));
    assert!(sent.text().starts_with("RE%47ISTER sip:bob@192.0.2.20:5062 SIP/2.0\r\n"));
}
