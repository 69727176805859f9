//! RFC 5626 §5.3: a flow that a NAT keeps open is the only way to who is behind it.

use crate::harness::{ALICE, BOB, DAVE, Table, bound, in_dialog, request, udp};
use agent::{Flow, ListenerId};
use ringswitch::proxy::{Listener, Listeners};
use sip::Transport;

const NAT: &str = "198.51.100.1:41000";

#[test]
fn a_caller_behind_a_nat_is_reached_on_his_flow() {
    let mut table = Table::recording();
    let invite = table.one(udp(NAT), request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@10.0.0.5>"]));
    assert_eq!(table.one(udp(BOB), in_dialog("BYE", "sip:alice@10.0.0.5", &invite, false)).flow, udp(NAT));
    assert_eq!(table.one(udp(NAT), in_dialog("BYE", "sip:bob@192.0.2.20:5062", &invite, true)).flow, udp(BOB));
}

#[test]
fn a_callee_behind_a_nat_is_reached_on_the_flow_of_his_binding() {
    let mut table = Table::recording();
    let invite = table.one(udp(ALICE), request("INVITE", "sip:dave@example.com", &["Contact: <sip:alice@192.0.2.10>"]));
    assert_eq!(table.one(udp(ALICE), in_dialog("ACK", "sip:dave@10.0.0.9", &invite, true)).flow, udp(DAVE));
    assert_eq!(table.one(udp(DAVE), in_dialog("BYE", "sip:alice@192.0.2.10", &invite, false)).flow, udp(ALICE));
}

#[test]
fn sides_are_told_apart_though_the_nat_gives_them_other_addresses() {
    let mut table = Table::recording();
    let invite = table.one(udp(NAT), request("INVITE", "sip:dave@example.com", &["Contact: <sip:alice@10.0.0.5>"]));
    let moved = "198.51.100.1:42000";
    assert_eq!(table.one(udp(moved), in_dialog("BYE", "sip:dave@10.0.0.9", &invite, true)).flow, udp(DAVE));
    assert_eq!(table.one(udp(moved), in_dialog("BYE", "sip:alice@10.0.0.5", &invite, false)).flow, udp(NAT));
}

#[test]
fn who_listens_on_another_port_than_he_sends_from_is_reached_at_his_contact() {
    let mut table = Table::recording();
    let contact = ["Contact: <sip:alice@192.0.2.10:5070>"];
    let invite = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &contact));
    let sent = table.one(udp(BOB), in_dialog("BYE", "sip:alice@192.0.2.10:5070", &invite, false));
    assert_eq!(sent.flow, udp("192.0.2.10:5070"));
}

#[test]
fn the_flow_comes_before_a_contact_that_looks_like_a_user_of_ours() {
    let mut table = Table::recording();
    let contact = ["Contact: <sip:alice@192.0.2.10>"];
    let invite = table.one(udp(ALICE), request("INVITE", "sip:dave@example.com", &contact));
    let sent = table.one(udp(ALICE), in_dialog("BYE", "sip:bob@example.com", &invite, true));
    assert_eq!(sent.flow, udp(DAVE));
}

#[test]
fn a_flow_whose_listener_is_gone_is_taken_from_another_socket() {
    let gone = |peer| Flow { listener: ListenerId(9), ..udp(peer) };
    let mut table = Table::recording();
    table.registrar.users.insert("dave@example.com", bound("sip:dave@10.0.0.9:5060", Some(gone(DAVE)), ""));
    assert_eq!(table.one(udp(ALICE), request("INVITE", "sip:dave@example.com", &[])).flow, udp(DAVE));

    let v6 = "[2001:db8::7]:41000";
    let invite = table.one(udp(v6), request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@10.0.0.5>"]));
    let listen = |address: &str| Listener {
        transport: Transport::Udp,
        address: address.parse().expect("a socket address"),
        advertise: None,
    };
    let mut restarted = Table::with(|settings| {
        settings.listeners = Listeners::new(vec![listen("192.0.2.1:5060"), listen("[2001:db8::1]:5060")], &[]);
    });
    let bye = restarted.one(udp(BOB), in_dialog("BYE", "sip:alice@10.0.0.5", &invite, false));
    assert_eq!(bye.flow, Flow { listener: ListenerId(1), ..udp(v6) });
}
