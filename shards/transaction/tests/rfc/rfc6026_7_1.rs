//! RFC 6026 §7.1: the INVITE server transaction, Accepted; and RFC 3261 §13.3.1.4, the 2xx's own retransmissions.

use crate::user::{User, events, incoming, tcp, udp};
use transaction::Arrived;

const INVITE: &str = "z9hG4bKinvite";

/// The ACK for a 2xx: a branch of its own, and the tag of the response.
fn ack() -> String {
    incoming("ACK", "z9hG4bKack").replace("To: <sip:b@example.com>", "To: <sip:b@example.com>;tag=ours")
}

#[test]
fn a_2xx_is_retransmitted_until_its_ack_over_any_transport() {
    for flow in [udp(), tcp()] {
        let mut user = User::new();
        let id = user.accept_on(flow, &incoming("INVITE", INVITE));
        user.respond(id, 180);
        user.respond(id, 200);
        assert_eq!(user.sent(), ["180", "200"]);
        assert_eq!(user.pass(8000), events(&[(500, "200"), (1500, "200"), (3500, "200"), (7500, "200")]));
        assert_eq!(user.receive_on(flow, &ack()), Arrived::Ack(Some(id)));
        // An ACK that is repeated is the TU's as well.
        assert_eq!(user.receive_on(flow, &ack()), Arrived::Ack(Some(id)));
        // Timer L runs from the 2xx.
        user.ends_quietly_after(24_000);
        assert_eq!(user.receive_on(flow, &ack()), Arrived::Ack(None));
    }
}

#[test]
fn a_2xx_without_an_ack_is_given_up_when_timer_l_fires() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 200);
    user.sent();
    let at = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = at.iter().map(|&at| (at, "200")).collect();
    expected.push((32_000, "no ACK for 7"));
    assert_eq!(user.pass(40_000), events(&expected));
    assert!(user.transactions.is_empty());
    assert_eq!(user.transactions.counters().unacknowledged, 1);
}

#[test]
fn accepted_absorbs_retransmissions_of_the_invite() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 200);
    user.sent();
    assert_eq!((user.receive(&incoming("INVITE", INVITE)), user.sent()), (Arrived::Absorbed, vec![]));
    user.receive(&ack());
    assert_eq!((user.receive(&incoming("INVITE", INVITE)), user.sent()), (Arrived::Absorbed, vec![]));
}

#[test]
fn accepted_sends_every_2xx_of_the_user_and_nothing_else() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 200);
    user.sent();
    for status in [180, 200, 202, 486] {
        user.respond(id, status);
    }
    assert_eq!(user.sent(), ["200", "202"]);
}

#[test]
fn an_ack_with_the_branch_of_its_invite_is_one_for_the_2xx_that_was_sent() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 200);
    user.sent();
    assert_eq!(user.receive(&incoming("ACK", INVITE)), Arrived::Ack(Some(id)));
    user.ends_quietly_after(32_000);
}

#[test]
fn an_ack_finds_the_invite_that_it_acknowledges() {
    let mut user = User::new();
    let first = user.accept(&incoming("INVITE", INVITE));
    user.respond(first, 200);
    let other = incoming("INVITE", "z9hG4bKre")
        .replace("CSeq: 1", "CSeq: 2")
        .replace("b@example.com>", "b@example.com>;tag=ours");
    let second = user.accept(&other);
    user.respond(second, 200);
    user.sent();
    assert_eq!(user.receive(&ack().replace("CSeq: 1", "CSeq: 2")), Arrived::Ack(Some(second)));
    assert_eq!(user.pass(500), events(&[(500, "200")]));
    assert_eq!(user.receive(&ack()), Arrived::Ack(Some(first)));
    assert_eq!(user.pass(5000), []);
    assert_eq!(user.receive(&ack().replace("theirs", "other")), Arrived::Ack(None));
}

#[test]
fn an_ack_of_another_branch_does_not_end_a_refusal() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 486);
    user.sent();
    assert_eq!(user.receive(&ack()), Arrived::Ack(None));
    assert_eq!(user.pass(500), events(&[(500, "486")]));
}
