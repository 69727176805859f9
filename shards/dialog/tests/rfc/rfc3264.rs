//! Offers and answers, and where they may stand: the six patterns of RFC 6337 §2.

use dialog::{Conflict, End, Meaning, Place, Sdp, Session};
use proptest::prelude::*;

use Meaning::{Answer, Nothing, Offer, Preview, Repetition};
use Place::*;

/// Plays messages: who sends, where, whether with a description, and what it means. Both ends see the same.
fn play(messages: &[(End, Place, bool, Meaning)]) -> Session {
    let (mut caller, mut callee) = (Session::new(), Session::new());
    for &(from, place, has_description, meaning) in messages {
        let (sender, receiver) = match from {
            End::Local => (&mut caller, &mut callee),
            End::Remote => (&mut callee, &mut caller),
        };
        if has_description {
            assert_eq!(sender.would_send(place), Ok(meaning), "{place:?}");
        }
        assert_eq!(sender.sent(place, has_description), Ok(meaning), "{place:?} as it is sent");
        assert_eq!(receiver.received(place, has_description), Ok(meaning), "{place:?} as it is received");
    }
    assert_eq!(caller.outstanding().map(|e| e == End::Local), callee.outstanding().map(|e| e == End::Remote));
    caller
}

const A: End = End::Local;
const B: End = End::Remote;

#[test]
fn pattern_1_offer_in_invite_answer_in_2xx() {
    let session = play(&[
        (A, Invite, true, Offer),
        (B, Provisional, false, Nothing),
        (B, Success, true, Answer),
        (A, Ack, false, Nothing),
    ]);
    assert!(session.may_invite() && session.is_agreed());
}

#[test]
fn pattern_2_offer_in_2xx_answer_in_ack() {
    let session = play(&[(A, Invite, false, Nothing), (B, Success, true, Offer), (A, Ack, true, Answer)]);
    assert!(session.may_invite() && session.is_agreed());
}

#[test]
fn pattern_3_answer_in_a_reliable_provisional_response() {
    let session = play(&[
        (A, Invite, true, Offer),
        (B, ReliableProvisional, true, Answer),
        (A, Prack, false, Nothing),
        (B, PrackSuccess, false, Nothing),
        (B, Success, false, Nothing),
        (A, Ack, false, Nothing),
    ]);
    assert!(session.may_invite() && session.is_agreed());
}

#[test]
fn pattern_4_offer_in_a_reliable_provisional_response_answer_in_prack() {
    play(&[
        (A, Invite, false, Nothing),
        (B, ReliableProvisional, true, Offer),
        (A, Prack, true, Answer),
        (B, PrackSuccess, false, Nothing),
        (B, Success, false, Nothing),
        (A, Ack, false, Nothing),
    ]);
}

#[test]
fn pattern_5_second_offer_in_prack_answer_in_its_2xx() {
    play(&[
        (A, Invite, true, Offer),
        (B, ReliableProvisional, true, Answer),
        (A, Prack, true, Offer),
        (B, PrackSuccess, true, Answer),
        (B, Success, false, Nothing),
        (A, Ack, false, Nothing),
    ]);
}

#[test]
fn pattern_6_offer_in_update_answer_in_its_2xx() {
    play(&[
        (A, Invite, true, Offer),
        (B, ReliableProvisional, true, Answer),
        (A, Prack, false, Nothing),
        (B, PrackSuccess, false, Nothing),
        (B, Update, true, Offer),
        (A, UpdateSuccess, true, Answer),
        (B, Success, false, Nothing),
        (A, Ack, false, Nothing),
        (A, Invite, true, Offer),
    ]);
}

#[test]
fn a_description_that_may_be_lost_is_a_preview() {
    let session = play(&[(A, Invite, true, Offer), (B, Provisional, true, Preview)]);
    assert_eq!(session.outstanding(), Some(A));
    play(&[
        (A, Invite, true, Offer),
        (B, Provisional, true, Preview),
        (B, Success, true, Answer),
        (A, Ack, false, Nothing),
    ]);
    play(&[
        (A, Invite, false, Nothing),
        (B, Provisional, true, Preview),
        (B, Success, true, Offer),
        (A, Ack, true, Answer),
    ]);
}

#[test]
fn a_gateway_may_leave_the_answer_in_its_183_alone() {
    let session = play(&[
        (A, Invite, true, Offer),
        (B, Provisional, true, Preview),
        (B, Success, false, Nothing),
        (A, Ack, false, Nothing),
    ]);
    assert!(session.may_invite() && session.is_agreed());
}

#[test]
fn what_has_been_answered_is_a_repetition() {
    play(&[
        (A, Invite, true, Offer),
        (B, ReliableProvisional, true, Answer),
        (A, Prack, false, Nothing),
        (B, PrackSuccess, false, Nothing),
        (B, Provisional, true, Repetition),
        (B, Success, true, Repetition),
        (A, Ack, true, Repetition),
    ]);
}

#[test]
fn a_missing_answer_ends_the_call() {
    let unexpected = |before: &[(End, Place, bool, Meaning)], place| {
        let mut session = play(before);
        let was = session;
        assert_eq!(session.received(place, false), Err(Conflict::Unexpected));
        assert_eq!(session, was);
        assert_eq!(Conflict::Unexpected.response(), None);
    };
    unexpected(&[(A, Invite, true, Offer)], Success);
    unexpected(&[(A, Invite, false, Nothing)], Success);
    unexpected(&[(B, Invite, false, Nothing), (A, Success, true, Offer)], Ack);
    unexpected(&[(B, Invite, false, Nothing), (A, ReliableProvisional, true, Offer)], Prack);
}

#[test]
fn a_response_to_no_invite_is_unexpected() {
    for place in [Provisional, ReliableProvisional, Success] {
        assert_eq!(Session::new().received(place, true), Err(Conflict::Unexpected));
    }
}

#[test]
fn forked_early_dialogs_take_a_copy_each() {
    let invited = play(&[(A, Invite, true, Offer)]);
    let (mut one, mut other) = (invited, invited);
    assert_eq!(one.received(ReliableProvisional, true), Ok(Answer));
    assert_eq!(other.received(Success, true), Ok(Answer));
}

fn any_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Invite),
        Just(Provisional),
        Just(ReliableProvisional),
        Just(Success),
        Just(Failure),
        Just(Ack),
        Just(Prack),
        Just(PrackSuccess),
        Just(PrackFailure),
        Just(Update),
        Just(UpdateSuccess),
        Just(UpdateFailure),
    ]
}

proptest! {
    #[test]
    fn offers_and_answers_alternate_whatever_comes(
        messages in proptest::collection::vec((any::<bool>(), any_place(), any::<bool>()), 0..40),
    ) {
        // The twin: all that RFC 3264 §4 asks of the whole exchange.
        let (mut session, mut offered) = (Session::new(), None);
        for (is_local, place, has_description) in messages {
            let (was, from) = (session, if is_local { End::Local } else { End::Remote });
            let meaning = match from {
                End::Local => session.sent(place, has_description),
                End::Remote => session.received(place, has_description),
            };
            match meaning {
                Ok(Offer) => prop_assert!(has_description && offered.replace(from).is_none(), "an offer upon an offer"),
                Ok(Answer) => {
                    prop_assert!(has_description);
                    prop_assert!(offered.take().is_some_and(|by| by != from), "an answer to one's own offer");
                }
                Ok(_) => offered = offered.filter(|_| session.outstanding().is_some()),
                Err(_) => prop_assert_eq!(session, was),
            }
            prop_assert_eq!(session.outstanding(), offered);
            prop_assert!(!session.may_invite() || session.may_offer());
        }
    }
}

#[test]
fn s6_a_refusal_has_every_stream_of_the_offer_at_port_0() {
    let offer = Sdp::new(
        b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0 8\r\n\
          a=rtpmap:0 PCMU/8000\r\nm=video 49172 RTP/SAVP 99\r\n",
    );
    let mut answer = Vec::new();
    offer.write_refusal(&mut answer);
    let streams: Vec<_> = Sdp::new(&answer).media().map(|m| (m.kind, m.port, m.proto, m.formats().count())).collect();
    assert_eq!(streams, [(&b"audio"[..], 0, &b"RTP/AVP"[..], 2), (b"video", 0, b"RTP/SAVP", 1)]);
}
