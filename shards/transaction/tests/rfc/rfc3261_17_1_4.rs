//! RFC 3261 §17.1.4 and §17.2.4: transport errors.

use crate::user::{USER, User, incoming, request, udp};
use transaction::Undelivered;

#[test]
fn a_request_that_cannot_be_sent_ends_its_transaction() {
    for method in ["INVITE", "BYE"] {
        let mut user = User::new();
        let sent = user.request(method);
        user.sent();
        assert_eq!(user.undeliverable(&request(method, sent.branch)), Some(Undelivered::Request(sent.id, USER)));
        assert!(user.transactions.is_empty());
        assert_eq!(user.pass(60_000), []);
    }
}

#[test]
fn an_ack_or_a_cancel_that_cannot_be_sent_is_told_to_nobody() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.hear(&sent, 180);
    user.cancel(&sent);
    user.hear(&sent, 487);
    let texts: Vec<_> = user.sent_in_full().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), 3);
    assert_eq!(user.undeliverable(&texts[1]), None);
    assert_eq!(user.transactions.len(), 1);
    assert_eq!(user.undeliverable(&texts[2]), None);
    assert!(user.transactions.is_empty());
}

#[test]
fn a_response_that_cannot_be_sent_ends_all_but_an_invite() {
    for (method, left) in [("INVITE", 1), ("OPTIONS", 0)] {
        let mut user = User::new();
        let id = user.accept_on(udp(), &incoming(method, "z9hG4bKa"));
        user.respond(id, 404);
        let response =
            incoming(method, "z9hG4bKa").replacen(&format!("{method} sip:b@example.com SIP/2.0"), "SIP/2.0 404 No", 1);
        assert_eq!(user.undeliverable(&response), Some(Undelivered::Response(id, Some(USER))));
        assert_eq!(user.transactions.len(), left);
    }
}
