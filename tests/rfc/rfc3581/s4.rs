//! RFC 3581 §4: who asks for `rport` is answered where he sent from.

use crate::harness::{BOB, Table, request, response, udp};
use sip::HeaderName;

const NAT: &str = "198.51.100.1:41000";

fn asking(uri: &str) -> String {
    request("INVITE", uri, &[]).replace("192.0.2.10:5060;", "10.0.0.5:5060;rport;")
}

#[test]
fn the_port_is_filled_in_beside_the_address() {
    let mut table = Table::new();
    let forwarded = table.one(udp(NAT), asking("sip:bob@example.com"));
    let marked = "SIP/2.0/UDP 10.0.0.5:5060;rport=41000;branch=z9hG4bKalice;received=198.51.100.1";
    assert_eq!(forwarded.all(HeaderName::Via)[1], marked);
    assert_eq!(table.one(udp(BOB), response("200 OK", &forwarded)).flow, udp(NAT));
}

#[test]
fn the_address_is_filled_in_even_where_it_is_the_one_in_sent_by() {
    let text = asking("sip:bob@example.com").replace("10.0.0.5", "198.51.100.1");
    let marked = "SIP/2.0/UDP 198.51.100.1:5060;rport=41000;branch=z9hG4bKalice;received=198.51.100.1";
    assert_eq!(Table::new().one(udp(NAT), text).all(HeaderName::Via)[1], marked);
}

#[test]
fn our_own_answers_go_there_too() {
    let sent = Table::new().one(udp(NAT), asking("sip:carol@example.com"));
    assert_eq!(sent.flow, udp(NAT));
    assert!(sent.all(HeaderName::Via)[0].contains(";rport=41000;"));
}
