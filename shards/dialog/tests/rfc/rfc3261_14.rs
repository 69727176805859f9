//! §14: re-INVITE, and two of them at the same time.

use dialog::{Conflict, End, Meaning, Place, Session, glare_retry, retry_after_secs};
use proptest::prelude::*;
use sip::StatusCode;
use std::time::Duration;

fn agreed() -> Session {
    Session::resumed()
}

#[test]
fn two_invites_that_cross_are_both_answered_491() {
    let mut session = agreed();
    session.sent(Place::Invite, true).unwrap();
    assert_eq!(session.received(Place::Invite, true), Err(Conflict::Glare));
    // Without a session description too (§14.2).
    assert_eq!(session.received(Place::Invite, false), Err(Conflict::Glare));
    assert_eq!(Conflict::Glare.response(), Some(StatusCode::REQUEST_PENDING));
    // Ours is refused likewise, and then the session is as it was.
    session.received(Place::Failure, false).unwrap();
    assert_eq!(session, agreed());
}

#[test]
fn a_second_invite_before_the_first_is_answered_gets_a_500() {
    let mut session = agreed();
    session.received(Place::Invite, true).unwrap();
    assert_eq!(session.received(Place::Invite, true), Err(Conflict::Unanswered));
    assert_eq!(Conflict::Unanswered.response(), Some(StatusCode::SERVER_INTERNAL_ERROR));
    assert!((0..100).all(|seed| retry_after_secs(seed) <= 10));
}

#[test]
fn we_wait_for_the_ack_but_the_peer_may_overtake_it() {
    let mut session = agreed();
    session.received(Place::Invite, true).unwrap();
    session.sent(Place::Success, true).unwrap();
    assert!(!session.may_invite());
    assert_eq!(session.sent(Place::Invite, true), Err(Conflict::Glare));
    assert_eq!(session.received(Place::Invite, true), Ok(Meaning::Offer));
    // The ACK of the first one comes late, and means nothing to the second.
    assert_eq!(session.received(Place::Ack, false), Ok(Meaning::Nothing));
    assert_eq!(session.inviting(), Some(End::Remote));
    session.sent(Place::Success, true).unwrap();
    session.received(Place::Ack, false).unwrap();
    assert!(session.may_invite());
}

#[test]
fn an_invite_that_fails_withdraws_its_offer() {
    let mut session = agreed();
    session.received(Place::Invite, true).unwrap();
    assert_eq!(session.outstanding(), Some(End::Remote));
    session.sent(Place::Failure, false).unwrap();
    assert_eq!(session, agreed());
}

proptest! {
    #[test]
    fn the_owner_of_the_call_id_waits_longer(seed: u64) {
        let (owner, other) = (glare_retry(true, seed), glare_retry(false, seed));
        prop_assert!((Duration::from_millis(2100)..=Duration::from_secs(4)).contains(&owner));
        prop_assert!(other <= Duration::from_secs(2));
        prop_assert!(owner.as_millis() % 10 == 0 && other.as_millis() % 10 == 0);
    }
}
