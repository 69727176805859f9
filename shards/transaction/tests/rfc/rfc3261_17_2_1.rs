//! RFC 3261 §17.2.1, figure 7: the INVITE server transaction. Its state Accepted is in `rfc6026_7_1`.

use crate::user::{User, events, incoming, tcp, udp};
use agent::Way;
use transaction::Arrived;

const INVITE: &str = "z9hG4bKinvite";

#[test]
fn proceeding_answers_a_retransmission_with_the_last_provisional_response() {
    let mut user = User::new();
    let invite = incoming("INVITE", INVITE);
    let id = user.accept(&invite);
    // Nothing has been said yet.
    assert_eq!((user.receive(&invite), user.sent()), (Arrived::Absorbed, vec![]));
    user.trying(id, &invite);
    assert_eq!((user.receive(&invite), user.sent()), (Arrived::Absorbed, vec!["100".to_owned(), "100".to_owned()]));
    user.respond(id, 180);
    user.respond(id, 183);
    assert_eq!(user.sent(), ["180", "183"]);
    assert_eq!((user.receive(&invite), user.sent()), (Arrived::Absorbed, vec!["183".to_owned()]));
    // The TU may take its time.
    assert_eq!(user.pass(300_000), []);
    assert_eq!(user.transactions.len(), 1);
}

#[test]
fn trying_takes_over_what_a_100_needs() {
    // §8.2.6.1: a Timestamp comes back; RFC 3581 §4: so does where the request came from.
    let mut user = User::new();
    let invite =
        incoming("INVITE", INVITE).replace(";branch", ";rport;branch").replace("Max-", "timestamp: 54\r\nMax-");
    let id = user.accept(&invite);
    user.trying(id, &invite);
    assert_eq!(
        user.sent_in_full(),
        [(
            Way::Response(udp()),
            format!(
                "SIP/2.0 100 Trying\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch={INVITE};received=192.0.2.1\r\n\
                 From: <sip:a@example.com>;tag=a\r\nTo: <sip:b@example.com>\r\nCall-ID: theirs\r\nCSeq: 1 INVITE\r\n\
                 timestamp: 54\r\nContent-Length: 0\r\n\r\n"
            )
        )]
    );
}

#[test]
fn completed_retransmits_by_timer_g_until_timer_h() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 486);
    user.sent();
    let at = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(user.pass(40_000), events(&at.map(|at| (at, "486"))));
    assert!(user.transactions.is_empty());
}

#[test]
fn completed_over_a_reliable_transport_waits_for_the_ack_alone() {
    let mut user = User::new();
    let id = user.accept_on(tcp(), &incoming("INVITE", INVITE));
    user.respond(id, 486);
    user.sent();
    user.ends_quietly_after(32_000);

    let id = user.accept_on(tcp(), &incoming("INVITE", INVITE));
    user.respond(id, 486);
    // Timer I has no length.
    assert_eq!(user.receive_on(tcp(), &incoming("ACK", INVITE)), Arrived::Absorbed);
    assert!(user.transactions.is_empty());
}

#[test]
fn completed_answers_a_retransmission_and_discards_what_else_the_user_says() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 486);
    user.sent();
    for status in [180, 200, 486, 603] {
        user.respond(id, status);
    }
    assert_eq!((user.receive(&incoming("INVITE", INVITE)), user.sent()), (Arrived::Absorbed, vec!["486".to_owned()]));
}

#[test]
fn confirmed_absorbs_until_timer_i() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    user.respond(id, 486);
    user.pass(700);
    assert_eq!(user.receive(&incoming("ACK", INVITE)), Arrived::Absorbed);
    for text in [incoming("ACK", INVITE), incoming("INVITE", INVITE)] {
        assert_eq!((user.receive(&text), user.sent()), (Arrived::Absorbed, vec![]));
    }
    user.ends_quietly_after(5000);
}

#[test]
fn an_ack_before_any_final_response_does_nothing() {
    let mut user = User::new();
    let id = user.accept(&incoming("INVITE", INVITE));
    assert_eq!(user.receive(&incoming("ACK", INVITE)), Arrived::Absorbed);
    user.respond(id, 404);
    assert_eq!(user.sent(), ["404"]);
    assert_eq!(user.pass(500), events(&[(500, "404")]));
}
