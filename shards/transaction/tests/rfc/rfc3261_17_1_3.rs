//! RFC 3261 §17.1.3: matching responses to client transactions.

use crate::user::User;

#[test]
fn a_response_is_matched_by_branch_and_cseq_method() {
    let mut user = User::new();
    let (first, second) = (user.request("INVITE"), user.request("MESSAGE"));
    assert!(user.hear(&second, 200));
    assert!(user.hear(&first, 180));
    // A CANCEL has the branch of its INVITE, but the method of its own: this one answers no CANCEL of ours.
    assert_eq!(user.hear_text(&first.response_to("CANCEL", 200, "x")), None);
    assert_eq!(user.hear_text(&first.response_to("BYE", 200, "x")), None);
    assert!(user.hear(&first, 200));
}

#[test]
fn a_response_to_nothing_of_ours_is_a_stray() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    for branch in ["z9hG4bK-rs.stable.0.00000000000000ff", "z9hG4bK776asdhds", "1"] {
        let own = format!("z9hG4bK-rs.stable.0.{:016x}", sent.branch);
        assert_eq!(user.hear_text(&sent.response(200, "x").replace(&own, branch)), None);
    }
    assert_eq!(user.transactions.counters().strays, 3);
    assert_eq!(user.hear_text(&sent.response(200, "x").replace(";branch=", ";other=")), None);
}

#[test]
fn an_id_is_worth_nothing_once_its_transaction_has_ended() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.pass(32_000);
    let next = user.request("INVITE");
    assert_ne!(sent.id, next.id);
    user.hear(&next, 180);
    user.sent();
    user.cancel(&sent);
    assert_eq!(user.sent(), Vec::<String>::new());
}
