//! RFC 3261 §18.2 and RFC 3581: where an answer goes.

use crate::switch::*;

#[test]
fn an_answer_goes_to_the_port_of_via_or_where_it_is_asked_for() {
    let mut switch = Switch::open();
    for (via, to) in [
        ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK", "203.0.113.9:5070"),
        ("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK", "203.0.113.9:5060"),
        ("SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bK", "203.0.113.9:40001"),
        ("SIP/2.0/UDP 10.0.0.1;maddr=192.0.2.99;branch=z9hG4bK", "203.0.113.9:5060"),
    ] {
        let sent = switch.send_from(0, flow("203.0.113.9:40001"), &Register::new().via(via).text());
        assert_eq!(sent[0].flow, flow(to), "{via}");
        assert!(headers(&sent[0].text, "Via")[0].contains("received=203.0.113.9"));
    }
}

#[test]
fn an_answer_goes_over_the_connection_of_its_request() {
    let via = "SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bK";
    let sent = Switch::open().send_from(0, tcp("203.0.113.9:40001"), &Register::new().via(via).text());
    assert_eq!(sent[0].flow, tcp("203.0.113.9:40001"));
}
