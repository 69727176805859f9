//! RFC 5626 §6: bindings to flows.

use crate::switch::*;
use agent::Flow;
use bumpalo::Bump;

const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";

/// A client that has two flows to us.
fn client(port: u16, reg_id: u32) -> Register {
    Register::new()
        .contact(&format!("<sip:alice@10.0.0.5:{port}>;reg-id={reg_id};{INSTANCE}"))
        .header("Supported: path, outbound")
}

fn flows(switch: &mut Switch) -> Vec<Option<Flow>> {
    let (arena, now) = (Bump::new(), switch.now);
    switch.registrar(0).targets(now, "alice@example.com", &arena).iter().map(|t| t.flow).collect()
}

#[test]
fn a_binding_is_to_an_instance_and_a_flow_whatever_its_uri() {
    let mut switch = Switch::open();
    let [first, second, moved] = [4001, 4002, 4003].map(|port| flow(&format!("203.0.113.9:{port}")));
    switch.answer_from(first, &client(5060, 1).text());
    switch.advance(1);
    switch.answer_from(second, &client(5060, 2).cseq(2).text());
    assert_eq!(flows(&mut switch), [Some(second), Some(first)]);
    switch.advance(1);
    let answer = switch.answer_from(moved, &client(5070, 1).call_id("after-boot").text());
    assert_eq!(flows(&mut switch), [Some(moved), Some(second)]);
    assert_eq!(headers(&answer, "Contact").len(), 2);
    assert!(headers(&answer, "Contact")[0].contains(&format!("{INSTANCE};reg-id=1")));
}

#[test]
fn the_answer_requires_outbound_where_it_was_done() {
    let mut switch = Switch::open();
    assert_eq!(headers(&switch.answer(&client(5060, 1).text()), "Require"), ["outbound"]);
    let plain = Register::new().cseq(2).contact("<sip:alice@192.0.2.5>").header("Supported: outbound");
    assert!(headers(&switch.answer(&plain.text()), "Require").is_empty());
}

#[test]
fn a_reg_id_without_an_instance_or_without_outbound_is_ignored() {
    let mut switch = Switch::open();
    let alone = Register::new().contact("<sip:a@10.0.0.5>;reg-id=1").header("Supported: outbound");
    let unsupported = Register::new().cseq(2).contact(&format!("<sip:b@10.0.0.5>;reg-id=1;{INSTANCE}"));
    for register in [alone, unsupported] {
        let answer = switch.answer(&register.text());
        assert_eq!((status(&answer), headers(&answer, "Require")), (200, vec![]));
        assert!(!answer.contains("reg-id"));
    }
}

#[test]
fn a_first_hop_that_does_not_do_outbound_is_told() {
    let via = "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK";
    let mut switch = Switch::open();
    assert_eq!(status(&switch.answer(&client(5060, 1).via(via).text())), 439);
    let path = client(5060, 1).via(via).header("Path: <sip:edge.example;lr>");
    assert_eq!(status(&switch.answer(&path.text())), 439);
    let ob = client(5060, 1).via(via).header("Path: <sip:token@edge.example;lr;ob>");
    let answer = switch.answer(&ob.text());
    assert_eq!((status(&answer), headers(&answer, "Require")), (200, vec!["outbound"]));
    assert_eq!(flows(&mut switch), [None]);
}

#[test]
fn without_outbound_a_first_hop_need_not_do_it() {
    let via = "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK";
    let register = Register::new().via(via).contact(&format!("<sip:a@10.0.0.5>;reg-id=1;{INSTANCE}"));
    assert_eq!(status(&Switch::open().answer(&register.text())), 200);
}

#[test]
fn a_request_binds_one_flow_only() {
    let mut switch = Switch::open();
    let two = client(5060, 1).contact("<sip:other@10.0.0.5>");
    assert_eq!(status(&switch.answer(&two.text())), 400);
    let and_a_removal = client(5060, 1).contact("<sip:other@10.0.0.5>;expires=0");
    assert_eq!(status(&switch.answer(&and_a_removal.text())), 200);
}

#[test]
fn a_flow_is_removed_by_its_instance_and_reg_id() {
    let mut switch = Switch::open();
    switch.answer(&client(5060, 1).text());
    switch.answer(&client(5060, 2).cseq(2).text());
    let gone = Register::new().cseq(3).header("Supported: outbound");
    let gone = gone.contact(&format!("<sip:alice@10.0.0.99>;expires=0;reg-id=1;{INSTANCE}"));
    let answer = switch.answer(&gone.text());
    assert_eq!(headers(&answer, "Contact").len(), 1);
    assert!(headers(&answer, "Contact")[0].ends_with(";reg-id=2"));
}
