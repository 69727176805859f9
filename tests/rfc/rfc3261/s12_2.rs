//! RFC 3261 §12.2 and §16.12: requests inside a dialog come back through us, from either side.

use crate::harness::{ALICE, BOB, Table, in_dialog, request, tcp, udp};
use sip::HeaderName;

#[test]
fn a_dialog_that_crosses_transports_has_a_route_on_each_side() {
    let mut table = Table::recording();
    let caller = tcp("192.0.2.10:41234", 5);
    let text = request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@192.0.2.10;transport=tcp>"])
        .replace("UDP 192.0.2.10", "TCP 192.0.2.10");
    let invite = table.one(caller, text);
    let routes = invite.all(HeaderName::RecordRoute);
    assert!(routes[0].ends_with("@192.0.2.1:5060;lr>"), "{routes:?}");
    assert!(routes[1].ends_with("@192.0.2.1:5060;transport=tcp;lr>"), "{routes:?}");
    assert_eq!(routes.len(), 2);

    let to_callee = table.one(caller, in_dialog("BYE", "sip:bob@192.0.2.20:5062", &invite, true));
    assert_eq!((to_callee.flow, to_callee.all(HeaderName::Route)), (udp(BOB), vec![]));
    let to_caller = table.one(udp(BOB), in_dialog("BYE", "sip:alice@192.0.2.10;transport=tcp", &invite, false));
    assert_eq!((to_caller.flow, to_caller.all(HeaderName::Route)), (caller, vec![]));
}

#[test]
fn a_dialog_that_crosses_from_ipv6_to_ipv4_has_a_route_on_each_side() {
    let mut table = Table::recording();
    let caller = udp("[2001:db8::10]:5060");
    let text = request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@[2001:db8::10]>"])
        .replace("192.0.2.10:5060", "[2001:db8::10]:5060");
    let invite = table.one(caller, text);
    let routes = invite.all(HeaderName::RecordRoute);
    assert!(routes[0].ends_with("@192.0.2.1:5060;lr>") && routes[1].ends_with("@[2001:db8::1]:5060;lr>"), "{routes:?}");
    let sent = table.one(udp(BOB), in_dialog("BYE", "sip:alice@[2001:db8::10]", &invite, false));
    assert_eq!((sent.flow, sent.all(HeaderName::Route)), (caller, vec![]));
}

#[test]
fn what_follows_our_route_is_followed() {
    let mut table = Table::recording();
    let text = request("INVITE", "sip:bob@example.com", &["Record-Route: <sip:192.0.2.77;lr>"]);
    let invite = table.one(udp(ALICE), text);
    let sent = table.one(udp(BOB), in_dialog("BYE", "sip:alice@10.0.0.5", &invite, false));
    assert_eq!(sent.flow, udp("192.0.2.77:5060"));
    assert_eq!(sent.all(HeaderName::Route), ["<sip:192.0.2.77;lr>"]);
}
