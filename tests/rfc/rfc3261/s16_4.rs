//! RFC 3261 §16.4: route information preprocessing.

use crate::harness::{ALICE, BOB, TRUNK, Table, in_dialog, request, udp};
use sip::HeaderName;

#[test]
fn our_own_route_is_popped() {
    let route = "Route: <sip:192.0.2.1:5060;lr>, <sip:192.0.2.77;lr>";
    let text = request("OPTIONS", "sip:x@far.example", &[route]);
    let sent = Table::new().one(udp(TRUNK), text);
    assert_eq!(sent.all(HeaderName::Route), ["<sip:192.0.2.77;lr>"]);
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp("192.0.2.77:5060"), Some("sip:x@far.example")));
}

#[test]
fn a_route_that_stands_first_is_popped_too() {
    let text = request("OPTIONS", "sip:bob@example.com", &[])
        .replace("SIP/2.0\r\nVia", "SIP/2.0\r\nRoute: <sip:example.com;lr>\r\nVia");
    let sent = Table::new().one(udp(ALICE), text);
    assert_eq!((sent.flow, sent.all(HeaderName::Route)), (udp(BOB), vec![]));
}

#[test]
fn as_many_routes_of_ours_as_anybody_writes_are_popped() {
    let routes = ["Route: <sip:example.com;lr>"; 32];
    let sent = Table::new().one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &routes));
    assert_eq!((sent.flow, sent.all(HeaderName::Route)), (udp(BOB), vec![]));
    let routes = ["Route: <sip:example.com;lr>"; 33];
    let sent = Table::new().one(udp(ALICE), request("OPTIONS", "sip:bob@example.com", &routes));
    assert_eq!(sent.status(), Some(400));
}

#[test]
fn a_foreign_route_is_followed_and_stays() {
    let text = request("OPTIONS", "sip:bob@example.com", &["Route: <sip:192.0.2.77:5070;lr>"]);
    let sent = Table::new().one(udp(TRUNK), text);
    assert_eq!(sent.all(HeaderName::Route), ["<sip:192.0.2.77:5070;lr>"]);
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp("192.0.2.77:5070"), Some("sip:bob@example.com")));
}

#[test]
fn what_a_strict_router_did_before_us_is_undone() {
    let mut table = Table::recording();
    let invite = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@192.0.2.10>"]));
    let bye = in_dialog("BYE", "sip:alice@192.0.2.10", &invite, false);
    let own = invite.all(HeaderName::RecordRoute)[0].trim_matches(['<', '>']).to_owned();
    let strict = bye
        .replace("BYE sip:alice@192.0.2.10 ", &format!("BYE {own} "))
        .replace(&format!("Route: <{own}>"), "Route: <sip:192.0.2.77;lr>\r\nRoute: <sip:alice@192.0.2.10>");
    let sent = table.one(udp(BOB), strict);
    assert_eq!(sent.uri().as_deref(), Some("sip:alice@192.0.2.10"));
    assert_eq!(sent.all(HeaderName::Route), ["<sip:192.0.2.77;lr>"]);
    assert_eq!(sent.flow, udp("192.0.2.77:5060"));
}

#[test]
fn an_maddr_of_ours_is_taken_away() {
    let text = request("OPTIONS", "sip:x:pw@192.0.2.77;transport=udp;a=b;maddr=192.0.2.1", &[]);
    let sent = Table::new().one(udp(TRUNK), text);
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp("192.0.2.77:5060"), Some("sip:x:pw@192.0.2.77;a=b")));

    let text = request("OPTIONS", "sip:bob@example.com;maddr=192.0.2.1", &[]);
    assert_eq!(Table::new().one(udp(ALICE), text).flow, udp(BOB));
}

#[test]
fn a_foreign_maddr_is_the_only_target() {
    let text = request("OPTIONS", "sip:bob@example.com;maddr=192.0.2.77", &[]);
    let sent = Table::new().one(udp(TRUNK), &text);
    assert_eq!(
        (sent.flow, sent.uri().as_deref()),
        (udp("192.0.2.77:5060"), Some("sip:bob@example.com;maddr=192.0.2.77"))
    );
    assert_eq!(Table::new().one(udp(ALICE), &text).status(), Some(403));
}
