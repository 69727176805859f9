//! RFC 3261 §16.11 and §18.1.2: a stateless proxy's responses, and what it repeats.

use crate::harness::{ALICE, BOB, Table, request, response, tcp, udp};
use sip::HeaderName;

#[test]
fn a_response_loses_our_via_and_goes_back() {
    let mut table = Table::new();
    let forwarded = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
    for status in ["100 Trying", "180 Ringing", "200 OK", "486 Busy Here"] {
        let answer = response(status, &forwarded);
        let sent = table.one(udp(BOB), &answer);
        let own = format!("Via: SIP/2.0/UDP 192.0.2.1:5060;branch={}\r\n", forwarded.branch());
        assert_eq!(sent.text(), answer.replace(&own, ""));
        assert_eq!(sent.flow, udp(ALICE));
    }
}

#[test]
fn our_via_in_one_line_with_others_is_taken_out_of_it() {
    let mut table = Table::new();
    let forwarded = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
    let answer = response("200 OK", &forwarded).replace("\r\nVia: SIP/2.0/UDP 192.0.2.10", " , SIP/2.0/UDP 192.0.2.10");
    let sent = table.one(udp(BOB), answer);
    assert_eq!(sent.all(HeaderName::Via), ["SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKalice"]);
}

#[test]
fn a_response_is_dropped_unless_it_answers_what_we_forwarded() {
    let mut table = Table::new();
    let forwarded = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
    let answer = response("200 OK", &forwarded);
    let branch = forwarded.branch();
    let forged = branch.replace(&branch[7..9], if &branch[7..9] == "00" { "11" } else { "00" });
    for stray in [
        answer.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.2:5060"),
        answer.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.1:5070"),
        answer.replace(&branch, &forged),
        answer.replace(&branch, "z9hG4bKshort"),
        answer.replace("Call-ID: call", "Call-ID: other"),
        answer.replace("CSeq: 1", "CSeq: 2"),
        answer.replace("192.0.2.10:5060;branch", "203.0.113.9:5060;branch"),
        answer.replace("Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKalice\r\n", ""),
    ] {
        assert_ne!(stray, answer);
        assert_eq!(table.receive(udp(BOB), stray), []);
    }
    assert_eq!(table.proxy.counters.stray_responses, 8);
}

#[test]
fn a_response_goes_back_on_the_connection_that_the_request_came_on() {
    let mut table = Table::new();
    let caller = tcp("192.0.2.10:41234", 5);
    let text = request("INVITE", "sip:bob@example.com", &[]).replace("UDP 192.0.2.10:5060", "TCP 192.0.2.10:5060");
    let forwarded = table.one(caller, text);
    let sent = table.one(udp(BOB), response("200 OK", &forwarded));
    // §18.2.2: if the connection is gone, a new one goes to the port of sent-by.
    assert_eq!(sent.flow, agent::Flow { peer: ALICE.parse().unwrap(), ..caller });
}

#[test]
fn a_retransmission_is_forwarded_octet_for_octet() {
    let text = request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@192.0.2.10>"]);
    let mut table = Table::recording();
    let first = table.one(udp(ALICE), &text);
    assert_eq!(table.one(udp(ALICE), &text), first);
    // Another shard or machine of the cluster makes the same of it.
    assert_eq!(Table::recording().one(udp(ALICE), &text), first);
}

#[test]
fn another_transaction_gets_another_branch() {
    let mut table = Table::new();
    let text = request("OPTIONS", "sip:bob@example.com", &[]);
    let first = table.one(udp(ALICE), &text).branch();
    assert_ne!(table.one(udp(ALICE), text.replace("z9hG4bKalice", "z9hG4bKagain")).branch(), first);
    // RFC 4475 §3.2.1 and RFC 2543: without an identifier in the branch, the rest tells requests apart.
    for bare in [";branch=z9hG4bK", ""] {
        let text = text.replace(";branch=z9hG4bKalice", bare);
        let one = table.one(udp(ALICE), &text).branch();
        assert_ne!(table.one(udp(ALICE), text.replace("CSeq: 1", "CSeq: 2")).branch(), one);
        assert_ne!(table.one(udp(ALICE), text.replace("Call-ID: call", "Call-ID: other")).branch(), one);
    }
}
