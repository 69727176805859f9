//! RFC 3261 §21.5.4 and §16.9: 503, from us and for those who cannot be reached.

use crate::harness::{ALICE, Table, bound, request, tcp, udp};
use agent::Received;
use sip::{HeaderName, Limits, Message};

#[test]
fn who_comes_while_there_is_too_much_to_do_is_told_when_to_come_back() {
    let mut table = Table::new();
    let text = request("INVITE", "sip:bob@example.com", &[]);
    let sent = table.turn(|table, arena, out| {
        let octets = arena.alloc_slice_copy(text.as_bytes());
        let message = Message::parse(octets, &Limits::default()).unwrap();
        table.proxy.at_work().refuse_overloaded(&Received { flow: udp(ALICE), octets, passed: false }, &message, out);
    });
    assert_eq!((sent[0].status(), sent[0].flow), (Some(503), udp(ALICE)));
    assert_eq!(sent[0].all(HeaderName::RetryAfter), ["7"]);
    assert_eq!(table.proxy.counters.overloaded, 1);
}

#[test]
fn what_a_stream_could_not_deliver_is_503_by_the_way_that_it_came() {
    for came_on in [udp(ALICE), tcp("192.0.2.10:41234", 5)] {
        let mut table = Table::new();
        let contact = "sip:bob@192.0.2.20;transport=tcp";
        table.registrar.users.insert("bob@example.com", bound(contact, None, ""));
        let via = format!("{} 192.0.2.10:5060", came_on.transport.token());
        let text = request("INVITE", "sip:bob@example.com", &[]).replace("UDP 192.0.2.10:5060", &via);
        let undeliverable = |table: &mut Table, text: &str| {
            let forwarded = table.one(came_on, text);
            table.turn(|table, arena, out| {
                let octets = arena.alloc_slice_copy(&forwarded.octets);
                if let Some(received) = table.proxy.at_work().handle_undeliverable(forwarded.flow, octets, out) {
                    table.handle(&received, out);
                }
            })
        };
        let sent = undeliverable(&mut table, &text);
        assert_eq!(sent[0].flow, agent::Flow { peer: ALICE.parse().unwrap(), ..came_on });
        assert_eq!(sent[0].status(), Some(503));
        assert_eq!(sent[0].all(HeaderName::Via), [format!("SIP/2.0/{via};branch=z9hG4bKalice")]);
        assert_eq!(undeliverable(&mut table, &text), sent, "a retransmission gets the same answer");
        assert_eq!(undeliverable(&mut table, &text.replace("INVITE", "ACK")), []);
    }
}
