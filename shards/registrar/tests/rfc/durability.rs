//! What is answered is kept: RFC 3261 §10.3 step 7, "committed if and only if".

use crate::switch::*;
use agent::Domains;
use registrar::Settings;

fn settings() -> Settings {
    Settings { authenticate: false, ..Settings::default() }
}

fn contact(n: u32) -> Register {
    Register::new().cseq(n).contact(&format!("<sip:{n}@192.0.2.5>"))
}

#[test]
fn the_200_waits_until_its_record_is_kept() {
    let mut switch = Switch::open();
    assert!(switch.send(0, &contact(1).text()).is_empty());
    assert!(!switch.journal.is_empty());
    let sent = switch.settle(0, true);
    assert_eq!((sent.len(), status(&sent[0].text)), (1, 200));
    assert!(switch.settle(0, true).is_empty());
    assert_eq!(switch.counters().held, 1);
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let mut switch = Switch::open();
    for n in 1..=3 {
        assert!(switch.send(0, &contact(n).text()).is_empty());
    }
    let sent = switch.settle(0, true);
    let cseqs: Vec<_> = sent.iter().map(|s| headers(&s.text, "CSeq")[0]).collect();
    assert_eq!(cseqs, ["1 REGISTER", "2 REGISTER", "3 REGISTER"]);
    assert_eq!(sent.iter().map(|s| headers(&s.text, "Contact").len()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_cannot_be_kept_is_undone_and_answered_with_503() {
    let mut switch = Switch::open();
    switch.answer(&contact(1).text());
    for n in 2..=3 {
        switch.send(0, &contact(n).text());
    }
    assert_eq!(switch.contacts("alice").len(), 3);
    let sent = switch.settle(0, false);
    assert_eq!(switch.contacts("alice"), ["sip:1@192.0.2.5"]);
    assert_eq!(switch.counters().failed, 2);
    assert_eq!(sent.len(), 2);
    let text = &sent[0].text;
    assert_eq!((status(text), headers(text, "Retry-After"), headers(text, "Contact")), (503, vec!["5"], vec![]));
    assert_eq!(headers(text, "CSeq"), ["2 REGISTER"]);
    assert!(headers(text, "To")[0].contains(";tag="));
    // A retransmission is not taken for one whose change stands.
    switch.advance(5);
    assert_eq!(status(&switch.answer(&contact(2).text())), 200);
    assert_eq!(switch.contacts("alice").len(), 2);
}

#[test]
fn while_the_journal_fails_one_change_in_each_interval_is_tried() {
    let mut switch = Switch::open();
    let first = contact(1);
    switch.answer(&first.text());
    switch.send(0, &contact(2).text());
    switch.settle(0, false);
    let journaled = switch.journal.len();
    let refused = switch.send(0, &contact(3).text());
    assert_eq!((status(&refused[0].text), headers(&refused[0].text, "Retry-After")), (503, vec!["5"]));
    // What needs no journal goes on.
    assert_eq!(status(&switch.send(0, &Register::new().text())[0].text), 200);
    assert_eq!(status(&switch.send(0, &first.text())[0].text), 200);
    assert_eq!(switch.journal.len(), journaled);
    switch.advance(5);
    assert!(switch.send(0, &contact(4).text()).is_empty());
    assert_eq!(status(&switch.send(0, &contact(5).text())[0].text), 503);
    assert_eq!(status(&switch.settle(0, true)[0].text), 200);
    assert!(switch.send(0, &contact(6).text()).is_empty());
    assert_eq!(switch.counters().shed, 2);
}

#[test]
fn no_more_answers_are_held_than_there_is_room_for() {
    let mut switch = Switch::with(|s| s.max_pending = 2);
    for n in 1..=2 {
        assert!(switch.send(0, &contact(n).text()).is_empty());
    }
    let refused = switch.send(0, &contact(3).text());
    assert_eq!((status(&refused[0].text), headers(&refused[0].text, "Retry-After")), (503, vec!["5"]));
    assert_eq!(switch.contacts("alice").len(), 2);
    assert_eq!(switch.settle(0, true).len(), 2);
    assert!(switch.send(0, &contact(3).text()).is_empty());
}

#[test]
fn a_retransmission_of_a_request_whose_answer_is_held_waits_with_it() {
    let mut switch = Switch::open();
    assert!(switch.send(0, &contact(1).text()).is_empty());
    assert!(switch.send(0, &contact(1).text()).is_empty());
    assert_eq!(switch.settle(0, true).len(), 1);
    assert_eq!(switch.counters().absorbed, 1);
    assert_eq!(status(&switch.send(0, &contact(1).text())[0].text), 200);
}

#[test]
fn a_replay_of_the_journal_gives_the_bindings_back() {
    let mut switch = Switch::open();
    switch.answer(&contact(1).text());
    switch.answer(&contact(2).text());
    switch.answer(&Register::new().cseq(3).contact("<sip:1@192.0.2.5>;expires=0").text());
    switch.answer(&Register::of("bob").contact("<sip:bob@192.0.2.6>").text());
    switch.answer(&Register::of("bob").cseq(2).contact("*").header("Expires: 0").text());
    let mut restarted = Switch::in_run(settings(), 2, 2, switch.replayed());
    assert_eq!(restarted.contacts("alice"), ["sip:2@192.0.2.5"]);
    assert!(restarted.contacts("bob").is_empty());
    // The order of requests outlives the process.
    let answer = restarted.answer(&Register::new().cseq(1).contact("<sip:2@192.0.2.5>").text());
    assert_eq!(status(&answer), 500);
    // Every replayed binding is in some shard's wheel.
    restarted.advance(3600);
    restarted.expire();
    restarted.advance(3600);
    restarted.expire();
    assert_eq!(restarted.bindings.census().bindings, 0);
}

#[test]
fn shards_that_register_one_user_at_once_lose_nothing() {
    let mut switch = Switch::new(settings(), 2);
    let phone = |shard: usize, n: u32| {
        Register::new().call_id(&format!("phone-{shard}")).cseq(n).contact(&format!("<sip:{shard}@192.0.2.5>"))
    };
    for n in 1..=5 {
        for shard in 0..2 {
            assert!(switch.send(shard, &phone(shard, n).text()).is_empty());
        }
        for shard in [1, 0] {
            let sent = switch.settle(shard, true);
            assert_eq!((sent.len(), status(&sent[0].text)), (1, 200));
        }
    }
    assert_eq!(switch.contacts("alice"), ["sip:0@192.0.2.5", "sip:1@192.0.2.5"]);
    assert_eq!(switch.replayed().census().bindings, 2);
}

#[test]
fn a_change_of_one_shard_survives_the_failure_of_another() {
    let mut switch = Switch::new(settings(), 2);
    switch.send(0, &Register::new().call_id("0").contact("<sip:0@192.0.2.5>").text());
    switch.send(1, &Register::new().call_id("1").contact("<sip:1@192.0.2.5>").text());
    assert_eq!(status(&switch.settle(1, true)[0].text), 200);
    assert_eq!(status(&switch.settle(0, false)[0].text), 503);
    assert!(switch.contacts("alice").contains(&"sip:1@192.0.2.5".to_owned()));
}

#[test]
fn a_reload_holds_from_the_next_request_on_and_forgets_no_answer() {
    let mut switch = Switch::open();
    assert!(switch.send(0, &contact(1).text()).is_empty());
    let settings = Settings { max_bindings: 1, ..settings() };
    switch.registrar(0).configure(settings, Domains::new(vec!["example.com".into()], vec![]));
    assert_eq!(status(&switch.settle(0, true)[0].text), 200);
    assert_eq!(status(&switch.answer(&contact(2).text())), 403);
    assert_eq!(status(&switch.answer(&Register::new().uri("sip:b.example").to("<sip:alice@b.example>").text())), 404);
}
