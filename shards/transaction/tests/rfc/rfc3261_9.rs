//! RFC 3261 §9: CANCEL, of our own requests (§9.1) and of others' (§9.2).

use crate::user::{USER, User, events, incoming, udp};
use agent::Way;
use transaction::Arrived;

#[test]
fn s9_1_a_cancel_waits_for_a_provisional_response() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.sent();
    user.cancel(&sent);
    assert_eq!(user.sent(), Vec::<String>::new());
    assert_eq!(user.pass(600), events(&[(500, "INVITE")]));
    assert!(user.hear(&sent, 100));
    assert_eq!(user.sent(), ["CANCEL"]);
    // It has a transaction of its own, which nobody else hears of.
    assert_eq!(user.pass(500), events(&[(500, "CANCEL")]));
    assert_eq!(user.hear_text(&sent.response_to("CANCEL", 200, "x")), None);
    assert_eq!(user.pass(4000), []);
    assert!(user.hear(&sent, 487));
    assert_eq!(user.sent(), ["ACK"]);
    user.ends_quietly_after(32_000);
}

#[test]
fn s9_1_the_cancel_is_made_of_the_invite_and_takes_its_way() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.hear(&sent, 180);
    user.sent();
    user.cancel(&sent);
    user.cancel(&sent);
    let via = format!("SIP/2.0/UDP ringswitch.invalid;branch=z9hG4bK-rs.stable.0.{:016x}", sent.branch);
    assert_eq!(
        user.sent_in_full(),
        [(
            Way::Flow(udp()),
            format!(
                "CANCEL sip:b@192.0.2.9 SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nRoute: <sip:one;lr>, <sip:two;lr>\r\n\
                 From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\nCall-ID: ours\r\nCSeq: 4711 CANCEL\r\nContent-Length: 0\r\n\r\n"
            )
        )]
    );
}

#[test]
fn s9_1_an_invite_that_stays_silent_after_its_cancel_is_given_up() {
    for cancelled_before_ringing in [false, true] {
        let mut user = User::new();
        let sent = user.request("INVITE");
        if cancelled_before_ringing {
            user.cancel(&sent);
        }
        user.hear(&sent, 180);
        user.cancel(&sent);
        assert_eq!(user.sent(), ["INVITE", "CANCEL"]);
        user.hear_text(&sent.response_to("CANCEL", 200, "x"));
        assert_eq!(user.pass(40_000), events(&[(32_000, "timeout of 7")]));
        assert!(user.transactions.is_empty());
    }
}

#[test]
fn s9_1_a_2xx_that_crosses_the_cancel_is_the_users() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.hear(&sent, 180);
    user.cancel(&sent);
    user.sent();
    assert!(user.hear(&sent, 200));
    user.hear_text(&sent.response_to("CANCEL", 481, "x"));
    user.ends_quietly_after(32_000);
}

#[test]
fn s9_1_what_has_a_final_response_is_not_cancelled() {
    for status in [200, 486] {
        let mut user = User::new();
        let sent = user.request("INVITE");
        user.hear(&sent, status);
        user.sent();
        user.cancel(&sent);
        assert_eq!(user.sent(), Vec::<String>::new());
        user.ends_quietly_after(32_000);
    }
}

#[test]
fn s9_1_nothing_but_an_invite_is_cancelled() {
    let mut user = User::new();
    let sent = user.request("OPTIONS");
    user.hear(&sent, 100);
    user.sent();
    user.cancel(&sent);
    assert_eq!(user.sent(), Vec::<String>::new());
}

#[test]
fn s9_2_a_cancel_finds_its_invite_by_the_branch() {
    let mut user = User::new();
    let invite = user.accept(&incoming("INVITE", "z9hG4bKa"));
    let arrived = user.receive(&incoming("CANCEL", "z9hG4bKa"));
    let Arrived::Cancel { id, invite: found } = arrived else { panic!("{arrived:?}") };
    assert_eq!(found, Some(invite));
    assert_eq!(user.transactions.server_user(invite), Some(USER));
    user.respond(id, 200);
    user.respond(invite, 487);
    assert_eq!(user.sent(), ["200", "487"]);
    // It is retransmitted like any other request.
    assert_eq!(user.receive(&incoming("CANCEL", "z9hG4bKa")), Arrived::Absorbed);
    assert_eq!(user.sent(), ["200"]);
}

#[test]
fn s9_2_a_cancel_of_nothing_is_told_so() {
    let mut user = User::new();
    user.accept(&incoming("INVITE", "z9hG4bKa"));
    assert!(matches!(user.receive(&incoming("CANCEL", "z9hG4bKb")), Arrived::Cancel { invite: None, .. }));
    // Only an INVITE is cancelled.
    user.accept(&incoming("OPTIONS", "z9hG4bKc"));
    assert!(matches!(user.receive(&incoming("CANCEL", "z9hG4bKc")), Arrived::Cancel { invite: None, .. }));
}

#[test]
fn s9_2_a_cancel_behind_the_answer_changes_nothing() {
    let mut user = User::new();
    let invite = user.accept(&incoming("INVITE", "z9hG4bKa"));
    user.respond(invite, 200);
    let arrived = user.receive(&incoming("CANCEL", "z9hG4bKa"));
    assert!(matches!(arrived, Arrived::Cancel { invite: Some(found), .. } if found == invite));
    user.sent();
    user.respond(invite, 487);
    assert_eq!(user.sent(), Vec::<String>::new());
}
