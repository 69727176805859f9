//! The bound: what is beyond it is told, and room comes back.

use crate::user::{User, incoming, settings, udp};
use agent::Way;
use transaction::{Arrived, Full, Settings};

#[test]
fn a_full_table_takes_no_new_transaction_and_knows_the_old_ones() {
    let mut user = User::with(Settings { max: 2, ..settings() });
    let id = user.accept(&incoming("INVITE", "z9hG4bKa"));
    let sent = user.request("INVITE");
    assert_eq!(user.receive(&incoming("MESSAGE", "z9hG4bKb")), Arrived::Full);
    assert_eq!(user.receive(&incoming("CANCEL", "z9hG4bKa")), Arrived::Full);
    assert_eq!(user.try_request(Way::Flow(udp()), "BYE").err(), Some(Full));
    assert_eq!(user.transactions.counters().full, 3);
    assert_eq!(user.sent(), ["INVITE"]);
    assert_eq!(user.receive(&incoming("INVITE", "z9hG4bKa")), Arrived::Absorbed);
    // A CANCEL of ours belongs to an INVITE that is counted.
    user.hear(&sent, 180);
    user.cancel(&sent);
    assert_eq!(user.sent(), ["CANCEL"]);
    user.hear(&sent, 487);
    user.respond(id, 404);
    assert_eq!(user.receive(&incoming("ACK", "z9hG4bKa")), Arrived::Absorbed);
    user.pass(40_000);
    assert!(user.transactions.is_empty());
    user.accept(&incoming("MESSAGE", "z9hG4bKb"));
}
