//! RFC 4320: what a server does for a request other than INVITE which takes long.

use crate::user::{User, events, incoming, tcp, udp};
use transaction::Arrived;

#[test]
fn s4_1_a_100_goes_out_when_the_client_has_slowed_down_to_t2() {
    for flow in [udp(), tcp()] {
        let mut user = User::new();
        let message = incoming("MESSAGE", "z9hG4bKa");
        let id = user.accept_on(flow, &message);
        user.trying(id, &message);
        assert_eq!(user.sent(), Vec::<String>::new());
        assert_eq!(user.pass(5000), events(&[(3500, "100")]));
        assert_eq!((user.receive_on(flow, &message), user.sent()), (Arrived::Absorbed, vec!["100".to_owned()]));
        user.respond(id, 200);
        assert_eq!(user.sent(), ["200"]);
    }
}

#[test]
fn s4_1_no_100_goes_out_where_the_answer_is_quick() {
    let mut user = User::new();
    let message = incoming("MESSAGE", "z9hG4bKa");
    let id = user.accept(&message);
    user.trying(id, &message);
    user.pass(1000);
    user.respond(id, 200);
    user.sent();
    // Behind a final response it is too late for a 100.
    user.trying(id, &message);
    user.ends_quietly_after(32_000);
}

#[test]
fn s4_2_a_request_without_an_answer_in_time_gets_none() {
    for waits in [false, true] {
        let mut user = User::new();
        let message = incoming("MESSAGE", "z9hG4bKa");
        let id = user.accept(&message);
        if waits {
            user.trying(id, &message);
        }
        user.pass(31_990);
        assert_eq!(user.transactions.len(), 1);
        assert_eq!(user.pass(10), []);
        assert!(user.transactions.is_empty());
        user.respond(id, 408);
        assert_eq!(user.sent(), Vec::<String>::new());
    }
}
