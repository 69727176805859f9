//! RFC 3261 §8.2.2.2: merged requests.

use crate::user::{User, incoming};
use transaction::Arrived;

#[test]
fn a_request_that_came_by_two_ways_is_told() {
    for method in ["INVITE", "MESSAGE"] {
        let mut user = User::new();
        let id = user.accept(&incoming(method, "z9hG4bKone"));
        let merged = user.receive(&incoming(method, "z9hG4bKtwo"));
        let Arrived::Merged(second) = merged else { panic!("{merged:?}") };
        user.respond(second, 482);
        assert_eq!(user.sent(), ["482"]);
        // The retransmission of each gets the answer of each.
        user.respond(id, 200);
        user.sent();
        assert_eq!(user.receive(&incoming(method, "z9hG4bKtwo")), Arrived::Absorbed);
        assert_eq!(user.sent(), ["482"]);
        user.pass(40_000);
        assert!(user.transactions.is_empty());
        // Once nothing of it is left it is no repetition.
        user.accept(&incoming(method, "z9hG4bKthree"));
    }
}

#[test]
fn what_differs_or_is_inside_a_dialog_is_not_merged() {
    let mut user = User::new();
    let first = incoming("INVITE", "z9hG4bKone");
    user.accept(&first);
    let second = first.replace("z9hG4bKone", "z9hG4bKtwo");
    for other in [
        second.replace("CSeq: 1", "CSeq: 2"),
        second.replace("theirs", "other").replace("two", "three"),
        second.replace("tag=a", "tag=b").replace("two", "four"),
        second.replace("To: <sip:b@example.com>", "To: <sip:b@example.com>;tag=b").replace("two", "five"),
    ] {
        user.accept(&other);
    }
}
