//! RFC 3261 §17.2.2, figure 8: the non-INVITE server transaction.

use crate::user::{User, incoming, tcp};
use transaction::Arrived;

const BRANCH: &str = "z9hG4bKbye";

#[test]
fn trying_absorbs_retransmissions() {
    let mut user = User::new();
    user.accept(&incoming("BYE", BRANCH));
    assert_eq!((user.receive(&incoming("BYE", BRANCH)), user.sent()), (Arrived::Absorbed, vec![]));
}

#[test]
fn proceeding_and_completed_answer_retransmissions_with_the_last_response() {
    let mut user = User::new();
    let id = user.accept(&incoming("BYE", BRANCH));
    user.respond(id, 100);
    assert_eq!(
        (user.receive(&incoming("BYE", BRANCH)), user.sent()),
        (Arrived::Absorbed, vec!["100".into(), "100".into()])
    );
    user.respond(id, 183);
    assert_eq!(
        (user.receive(&incoming("BYE", BRANCH)), user.sent()),
        (Arrived::Absorbed, vec!["183".into(), "183".into()])
    );
    user.respond(id, 200);
    assert_eq!(
        (user.receive(&incoming("BYE", BRANCH)), user.sent()),
        (Arrived::Absorbed, vec!["200".into(), "200".into()])
    );
    // §17.2.2: any other final response is discarded.
    user.respond(id, 481);
    user.respond(id, 100);
    assert_eq!((user.receive(&incoming("BYE", BRANCH)), user.sent()), (Arrived::Absorbed, vec!["200".into()]));
    // Timer J, which retransmissions do not prolong.
    user.ends_quietly_after(32_000);
}

#[test]
fn timer_j_has_no_length_over_a_reliable_transport() {
    let mut user = User::new();
    let id = user.accept_on(tcp(), &incoming("BYE", BRANCH));
    user.respond(id, 200);
    assert_eq!(user.sent(), ["200"]);
    assert!(user.transactions.is_empty());
    assert_eq!(user.pass(60_000), []);
}
