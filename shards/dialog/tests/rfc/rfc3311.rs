//! UPDATE (RFC 3311 §5).

use dialog::{Conflict, Meaning, Place, Session};

/// A call whose INVITE of the peer's has been answered in a reliable provisional response.
fn early() -> Session {
    let mut session = Session::new();
    session.received(Place::Invite, true).unwrap();
    session.sent(Place::ReliableProvisional, true).unwrap();
    session
}

#[test]
fn an_update_may_offer_while_its_invite_is_unanswered() {
    let mut session = early();
    assert!(session.may_offer() && !session.may_invite());
    assert_eq!(session.received(Place::Update, true), Ok(Meaning::Offer));
    assert_eq!(session.sent(Place::UpdateSuccess, true), Ok(Meaning::Answer));
    assert_eq!(session.sent(Place::Success, false), Ok(Meaning::Nothing));
}

#[test]
fn an_offer_upon_an_offer_of_ours_gets_491() {
    let mut session = early();
    session.sent(Place::Update, true).unwrap();
    assert_eq!(session.received(Place::Update, true), Err(Conflict::Glare));
    // One without an offer, a refresh, does not collide.
    assert_eq!(session.received(Place::Update, false), Ok(Meaning::Nothing));
}

#[test]
fn an_offer_upon_an_unanswered_one_gets_500() {
    let mut session = Session::new();
    session.received(Place::Invite, true).unwrap();
    assert_eq!(session.received(Place::Update, true), Err(Conflict::Unanswered));
    let mut session = early();
    session.received(Place::Update, false).unwrap();
    assert_eq!(session.received(Place::Update, false), Err(Conflict::Unanswered));
}

#[test]
fn we_may_not_offer_before_our_last_update_is_answered() {
    let mut session = Session::resumed();
    session.sent(Place::Update, false).unwrap();
    assert!(!session.may_offer());
    assert_eq!(session.sent(Place::Update, true), Err(Conflict::Unanswered));
    session.received(Place::UpdateSuccess, false).unwrap();
    assert!(session.may_offer());
}

#[test]
fn an_update_that_fails_withdraws_its_offer() {
    let mut session = Session::resumed();
    session.sent(Place::Update, true).unwrap();
    assert_eq!(session.received(Place::UpdateFailure, false), Ok(Meaning::Nothing));
    assert_eq!(session, Session::resumed());
}

#[test]
fn an_answer_to_no_offer_is_unexpected() {
    let mut session = Session::resumed();
    session.sent(Place::Update, false).unwrap();
    assert_eq!(session.received(Place::UpdateSuccess, true), Err(Conflict::Unexpected));
    let mut session = Session::resumed();
    session.sent(Place::Update, true).unwrap();
    assert_eq!(session.received(Place::UpdateSuccess, false), Err(Conflict::Unexpected));
}
