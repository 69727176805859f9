//! RFC 3261 §16.6: request forwarding.

use crate::harness::{ALICE, BOB, TRUNK, Table, bound, request, tcp, udp};
use sip::HeaderName;

#[test]
fn only_what_must_be_changed_is_changed() {
    let text = request("MESSAGE", "sip:bob@example.com", &["x-OWN :  ;;,,;", "k:a", "S:"])
        .replace("Content-Length: 0\r\n\r\n", "l : 5\r\n\r\nbody\0");
    let sent = Table::new().one(udp(ALICE), &text);
    let via = format!("Via: SIP/2.0/UDP 192.0.2.1:5060;branch={}\r\n", sent.branch());
    let expected = text
        .replace(
            "MESSAGE sip:bob@example.com SIP/2.0\r\n",
            &format!("MESSAGE sip:bob@192.0.2.20:5062 SIP/2.0\r\n{via}"),
        )
        .replace("Max-Forwards: 70", "Max-Forwards: 69");
    assert_eq!(sent.text(), expected);
    assert_eq!(sent.flow, udp(BOB));
}

#[test]
fn octets_behind_the_body_are_left_out() {
    let text = request("MESSAGE", "sip:bob@example.com", &[]);
    let mut table = Table::new();
    assert_eq!(table.one(udp(ALICE), text.clone() + "INVITE sip:x SIP/2.0\r\n\r\n"), table.one(udp(ALICE), text));
}

#[test]
fn hops_are_counted_down_and_added_where_they_are_missing() {
    for (given, left) in [("Max-Forwards: 0068\r\n", "67"), ("Max-Forwards: 1\r\n", "0"), ("", "70")] {
        let text = request("INVITE", "sip:bob@example.com", &[]).replace("Max-Forwards: 70\r\n", given);
        assert_eq!(Table::new().one(udp(ALICE), text).all(HeaderName::MaxForwards), [left]);
    }
}

#[test]
fn headers_of_a_contact_do_not_get_into_the_request_uri() {
    let mut table = Table::new();
    let contact = "sip:bob@192.0.2.20:5062;ob?Route=%3Csip:evil%3E";
    table.registrar.users.insert("bob@example.com", bound(contact, None, ""));
    let sent = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
    assert_eq!(sent.uri().as_deref(), Some("sip:bob@192.0.2.20:5062;ob"));
    assert_eq!(sent.all(HeaderName::Route), [""; 0]);
}

#[test]
fn a_record_route_is_written_when_configured_and_for_what_may_begin_a_dialog() {
    let count = |table: &mut Table, method, more: &[&str]| {
        table.one(udp(ALICE), request(method, "sip:bob@example.com", more)).all(HeaderName::RecordRoute).len()
    };
    assert_eq!(count(&mut Table::new(), "INVITE", &[]), 0);
    for (method, written) in [("INVITE", 1), ("SUBSCRIBE", 1), ("REFER", 1), ("OPTIONS", 0), ("MESSAGE", 0), ("BYE", 0)]
    {
        assert_eq!(count(&mut Table::recording(), method, &[]), written, "{method}");
    }
    let again = request("INVITE", "sip:bob@example.com", &[]).replace("To: <sip:bob@example.com>", "$0;tag=bob");
    let again = again.replace("$0", "To: <sip:bob@example.com>");
    assert_eq!(Table::recording().one(udp(ALICE), again).all(HeaderName::RecordRoute).len(), 0);
}

#[test]
fn our_record_route_stands_on_top_and_is_a_loose_router() {
    let text = request("INVITE", "sip:bob@example.com", &["Record-Route: <sip:first.example;lr>"]);
    let routes = Table::recording().one(udp(ALICE), text).all(HeaderName::RecordRoute);
    assert!(routes[0].starts_with("<sip:") && routes[0].ends_with("@192.0.2.1:5060;lr>"), "{routes:?}");
    assert_eq!(routes[1], "<sip:first.example;lr>");
}

#[test]
fn a_strict_router_next_gets_its_own_uri_as_request_uri() {
    let routes = ["Route: <sip:192.0.2.1;lr>", "Route: <sip:192.0.2.77:5070;a?h=v>, <sip:192.0.2.78;lr>"];
    let sent = Table::new().one(udp(TRUNK), request("OPTIONS", "sip:x@far.example", &routes));
    assert_eq!(sent.uri().as_deref(), Some("sip:192.0.2.77:5070;a"));
    assert_eq!(sent.all(HeaderName::Route), ["<sip:192.0.2.78;lr>", "<sip:x@far.example>"]);
    assert_eq!(sent.flow, udp("192.0.2.77:5070"));
}

#[test]
fn the_next_hop_is_found_by_transport_name_and_address() {
    let next = |uri: &str| Table::new().one(udp(TRUNK), request("OPTIONS", uri, &[]));
    assert_eq!(next("sip:x@proxy.EXAMPLE.net.").flow, udp("192.0.2.77:5060"));
    assert_eq!(next("sip:x@[2001:db8::77]:5080").flow, udp("[2001:db8::77]:5080"));
    let over_tcp = next("sip:x@192.0.2.77;transport=TCP");
    assert_eq!(over_tcp.flow, agent::Flow { connection: None, ..tcp("192.0.2.77:5060", 0) });
    assert!(over_tcp.all(HeaderName::Via)[0].starts_with("SIP/2.0/TCP 192.0.2.1:5060;"));
    let over_ipv6 = next("sip:x@[2001:db8::77]");
    assert!(over_ipv6.all(HeaderName::Via)[0].starts_with("SIP/2.0/UDP [2001:db8::1]:5060;"));
}

#[test]
fn where_no_next_hop_is_known_the_sender_is_told() {
    let status = |uri: &str| Table::new().one(udp(TRUNK), request("OPTIONS", uri, &[])).status();
    assert_eq!(status("sip:x@nowhere.example"), Some(500));
    assert_eq!(status("sips:x@192.0.2.77"), Some(416));
    assert_eq!(status("sips:x@192.0.2.77;transport=udp"), Some(416));
    assert_eq!(status("sip:x@192.0.2.77;transport=sctp"), Some(416));
}
