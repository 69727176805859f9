//! RFC 3261 §16.5: where the proxy finds an address-of-record.

use crate::switch::*;
use agent::{ConnectionId, Flow};
use bumpalo::Bump;
use registrar::Settings;
use sip::Transport;

/// Contacts and flows of Alice's targets.
fn targets(switch: &mut Switch) -> Vec<(String, Option<Flow>)> {
    let (arena, now) = (Bump::new(), switch.now);
    let targets = switch.registrar(0).targets(now, "alice@example.com", &arena);
    targets.iter().map(|t| (String::from_utf8_lossy(t.contact).into_owned(), t.flow)).collect()
}

fn contacts(switch: &mut Switch) -> Vec<String> {
    targets(switch).into_iter().map(|(contact, _)| contact).collect()
}

#[test]
fn targets_come_by_preference_and_then_the_newest_first() {
    let mut switch = Switch::open();
    for (n, contact) in (1..).zip(["<sip:a@p>;q=0.5", "<sip:b@p>;q=0.9", "<sip:c@p>;q=0.5", "<sip:d@p>, <sip:e@p>"]) {
        switch.answer(&Register::new().cseq(n).contact(contact).text());
        switch.advance(1);
    }
    assert_eq!(contacts(&mut switch), ["sip:e@p", "sip:d@p", "sip:b@p", "sip:c@p", "sip:a@p"]);
    switch.answer(&Register::new().cseq(9).contact("<sip:a@p>;q=0.5").text());
    assert_eq!(contacts(&mut switch)[3..], ["sip:a@p", "sip:c@p"]);
}

#[test]
fn what_has_run_out_is_no_target() {
    let mut switch = Switch::open();
    switch.answer(&Register::new().contact("<sip:a@p>;expires=60").text());
    switch.advance(60);
    assert!(contacts(&mut switch).is_empty());
}

#[test]
fn a_phone_behind_a_nat_is_reached_where_it_sent_from() {
    let mut switch = Switch::open();
    let nat = flow("203.0.113.9:40001");
    switch.answer_from(nat, &Register::new().contact("<sip:alice@192.168.1.20:5060>").text());
    assert_eq!(targets(&mut switch), [("sip:alice@192.168.1.20:5060".into(), Some(nat))]);
}

#[test]
fn a_name_is_resolved_unless_nobody_has_it() {
    let mut switch = Switch::open();
    let browser = Flow { transport: Transport::Wss, ..tcp("203.0.113.9:40001") };
    switch.answer(&Register::new().cseq(1).contact("<sip:alice@phone.example.com>").text());
    assert_eq!(targets(&mut switch)[0].1, None);
    switch.answer_from(browser, &Register::new().cseq(2).contact("<sip:x@df7jal23ls0d.INVALID;transport=ws>").text());
    assert_eq!(targets(&mut switch)[0].1, Some(browser));
}

#[test]
fn a_connection_of_an_earlier_run_is_not_taken_for_one_of_this_run() {
    let mut switch = Switch::open();
    let connection = tcp("192.0.2.5:40001");
    switch.answer_from(connection, &Register::new().contact("<sip:alice@192.0.2.5:5060;transport=tcp>").text());
    // Where the phone listens is what is connected to once the connection is gone.
    let listens_at = "192.0.2.5:5060".parse().unwrap();
    assert_eq!(targets(&mut switch)[0].1, Some(Flow { peer: listens_at, ..connection }));
    assert_eq!(connection.connection, Some(ConnectionId { shard: 0, slot: 7, generation: 1 }));
    let settings = Settings { authenticate: false, ..Settings::default() };
    let mut restarted = Switch::in_run(settings, 1, 2, switch.replayed());
    assert_eq!(targets(&mut restarted)[0].1, None, "its contact leads there");
}

#[test]
fn a_phone_that_sends_from_one_port_and_listens_on_another_is_reached_at_its_contact() {
    let mut switch = Switch::open();
    switch.answer_from(flow("192.0.2.5:40001"), &Register::new().contact("<sip:alice@192.0.2.5:5070>").text());
    assert_eq!(targets(&mut switch)[0].1, None);
}

#[test]
fn an_account_that_is_not_registered_is_known() {
    let mut switch = Switch::open();
    switch.add_account("alice", "secret");
    assert!(switch.registrar(0).knows("alice@example.com"));
    assert!(!switch.registrar(0).knows("bob@example.com"));
}
