//! What passes inside a call: re-INVITE, hold, glare, late offers, early media, reliable responses, session timers.

use crate::{
    basic::{alice, bob, set_up},
    phone::{Phone, SDP_A, SDP_B},
    world::{Sent, World},
};

#[test]
fn a_hold_passes_and_so_does_its_acknowledgement() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    let hold = SDP_B.replace("t=0 0", "t=0 0\r\na=sendonly");
    let before = world.journal.len();
    world.receive(bob.address, &bob.inside(&up.leg, "b", "INVITE", 1, "", &hold));
    world.response(100);
    let passed = world.request("INVITE");
    assert_eq!((passed.body(), passed.uri()), (hold, "sip:alice@10.0.0.1:5060".into()));
    assert_ne!(passed.contact(), up.leg.contact());
    world.receive(alice.address, &alice.respond(&passed, 200, "", "", SDP_A));
    assert_eq!(world.response(200).body(), SDP_A);
    world.receive(bob.address, &bob.inside(&up.leg, "b", "ACK", 1, "", ""));
    assert_eq!(world.request("ACK").uri(), "sip:alice@10.0.0.1:5060");
    // A copy of the 200, whose ACK was lost.
    world.receive(alice.address, &alice.respond(&passed, 200, "", "", SDP_A));
    assert_eq!(world.request("ACK").cseq(), passed.cseq());
    world.expect_silence();
    assert_eq!(world.journal.len(), before, "nothing has moved");
    let moved = bob.inside(&up.leg, "b", "INVITE", 2, "", SDP_B).0.replace(&bob.contact(), "<sip:bob@10.0.0.7:5060>");
    world.receive(bob.address, &crate::phone::Text(moved));
    let passed = world.request("INVITE");
    world.receive(alice.address, &alice.respond(&passed, 200, "", "", SDP_A));
    world.receive(bob.address, &bob.inside(&up.leg, "b", "ACK", 2, "", ""));
    world.kill();
    world.receive(alice.address, &alice.inside(&up.answer, "", "BYE", 2, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:bob@10.0.0.7:5060");
}

#[test]
fn re_invites_that_cross_are_refused_with_491() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.inside(&up.answer, "", "INVITE", 2, "", SDP_A));
    let passed = world.request("INVITE");
    world.log();
    let crossing = bob.inside(&up.leg, "b", "INVITE", 1, "", SDP_B);
    world.receive(bob.address, &crossing);
    let glare = world.response(491);
    world.receive(bob.address, &bob.follow(&crossing, &glare.header("To"), "ACK"));
    world.receive(bob.address, &bob.respond(&passed, 491, "", "", ""));
    world.request("ACK");
    assert_eq!(world.response(491).header("CSeq"), "2 INVITE");
    // A second one of the same end before the first is answered (§14.2).
    world.receive(alice.address, &alice.inside(&up.answer, "", "INVITE", 3, "", SDP_A));
    world.receive(alice.address, &alice.inside(&up.answer, "", "INVITE", 4, "", SDP_A));
    assert_ne!(world.response(500).header("Retry-After"), "");
    assert_eq!(world.app.census().established, 1);
}

#[test]
fn a_request_out_of_order_is_refused() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.inside(&up.answer, "", "INFO", 9, "", ""));
    world.request("INFO");
    world.receive(alice.address, &alice.inside(&up.answer, "", "INFO", 5, "", ""));
    world.response(500);
    world.receive(alice.address, &alice.inside(&up.answer, "", "INFO", 10, "Info-Package: dtmf\r\n", ""));
    assert_eq!(world.request("INFO").header("Info-Package"), "dtmf");
}

#[test]
fn an_offer_in_the_answer_is_answered_in_the_acknowledgement() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", "", ""));
    let leg = world.request("INVITE");
    assert_eq!(leg.body(), "");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    let answer = world.response(200);
    assert_eq!(answer.body(), SDP_B);
    world.expect_silence();
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", SDP_A));
    assert_eq!(world.request("ACK").body(), SDP_A);
    // The ACK was lost: the same one goes again.
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    assert_eq!(world.request("ACK").body(), SDP_A);
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    world.expect_nothing_left();
}

#[test]
fn a_reliable_response_is_acknowledged_by_the_caller_himself() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", "Supported: 100rel\r\n", SDP_A));
    let leg = world.request("INVITE");
    assert!(leg.header("Supported").contains("100rel"));
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 183, "b", "Require: 100rel\r\nRSeq: 77\r\n", SDP_B));
    let media = world.response(183);
    assert_eq!((media.header("Require"), media.body()), ("100rel".into(), SDP_B.into()));
    // Until it is acknowledged it is repeated.
    world.wait(0.6);
    assert_eq!(world.response(183).header("RSeq"), media.header("RSeq"));
    let rack = format!("RAck: {} 1 INVITE\r\n", media.header("RSeq"));
    world.receive(alice.address, &alice.inside(&media, "", "PRACK", 2, &rack, ""));
    let prack = world.request("PRACK");
    assert_eq!(prack.header("RAck"), "77 1 INVITE");
    world.receive(bob.address, &bob.respond(&prack, 200, "", "", ""));
    assert_eq!(world.response(200).method(), "PRACK");
    world.wait(5.0);
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", ""));
    assert_eq!(world.request("ACK").header("CSeq"), "1 ACK");
    let answer = world.response(200);
    assert_eq!(answer.tag("To"), media.tag("To"));
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 3, "", ""));
    world.expect_nothing_left();
}

#[test]
fn a_reliable_response_to_a_caller_who_knows_none_is_acknowledged_for_him() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 183, "b", "Require: 100rel\r\nRSeq: 5\r\n", SDP_B));
    assert_eq!(world.request("PRACK").header("RAck"), "5 1 INVITE");
    assert_eq!(world.response(183).header("Require"), "");
    // A copy is dropped.
    world.receive(bob.address, &bob.respond(&leg, 183, "b", "Require: 100rel\r\nRSeq: 5\r\n", SDP_B));
    world.expect_silence();
}

#[test]
fn a_caller_who_requires_reliable_responses_gets_them() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", "Require: 100rel\r\n", SDP_A));
    let leg = world.request("INVITE");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    let ringing = world.response(180);
    assert_ne!(ringing.header("RSeq"), "");
    let rack = format!("RAck: {} 1 INVITE\r\n", ringing.header("RSeq"));
    world.receive(alice.address, &alice.inside(&ringing, "", "PRACK", 2, &rack, ""));
    assert_eq!(world.response(200).method(), "PRACK");
    world.expect_silence();
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", "Require: nonsense\r\n", SDP_A));
    assert_eq!(world.response(420).header("Unsupported"), "nonsense");
}

#[test]
fn an_update_of_the_early_session_passes() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 183, "b", "Allow: UPDATE\r\n", SDP_B));
    let media = world.response(183);
    world.receive(alice.address, &alice.inside(&media, "", "UPDATE", 2, "", SDP_A));
    let update = world.request("UPDATE");
    assert_eq!(update.body(), SDP_A);
    world.receive(bob.address, &bob.respond(&update, 200, "", "", SDP_B));
    assert_eq!(world.response(200).body(), SDP_B);
}

#[test]
fn each_side_has_its_own_session_timer() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let timer = "Supported: timer\r\nSession-Expires: 600\r\n";
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", timer, SDP_A));
    let leg = world.request("INVITE");
    assert_eq!(leg.header("Session-Expires"), "1800");
    let lines = "Allow: UPDATE\r\nSession-Expires: 300;refresher=uac\r\nRequire: timer\r\n";
    world.receive(bob.address, &bob.respond(&leg, 200, "b", lines, SDP_B));
    let answer = world.response(200);
    assert_eq!(answer.header("Session-Expires"), "600;refresher=uac");
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.log();
    world.wait(151.0);
    let refresh = world.request("UPDATE");
    assert_eq!(
        (refresh.uri(), refresh.header("Session-Expires")),
        ("sip:bob@10.0.0.2:5060".into(), "300;refresher=uac".into())
    );
    let lines = "Session-Expires: 300;refresher=uac\r\n";
    world.receive(bob.address, &bob.respond(&refresh, 200, "", lines, ""));
    // Alice refreshes hers, which is nothing to bob.
    world.log();
    let update =
        alice.inside(&answer, "", "UPDATE", 2, "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n", "");
    world.receive(alice.address, &update);
    assert_eq!(world.log(), ["SIP/2.0 200 OK"]);
    // Then nobody does: her timer ends the call. Bob answers every refresh of ours until then.
    for _ in 0..50 {
        world.wait(10.0);
        while let Some(at) = world.sent.iter().position(|sent| sent.is_request() && sent.method() == "UPDATE") {
            let refresh = world.sent.remove(at).unwrap();
            world.receive(bob.address, &bob.respond(&refresh, 200, "", "Session-Expires: 300;refresher=uac\r\n", ""));
        }
    }
    world.expect_silence();
    world.wait(100.0);
    assert!(world.log().iter().any(|line| line.starts_with("BYE sip:bob")));
    assert_eq!(world.cdrs()[0].2, "timeout");
}

const REFRESHED_BY_US: &str = "Session-Expires: 300;refresher=uac\r\n";

/// A call whose called end has us refresh its session, and takes no UPDATE.
fn set_up_without_update(world: &mut World, alice: &Phone, bob: &Phone) -> (Sent, Sent) {
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", REFRESHED_BY_US, SDP_B));
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.log();
    (answer, leg)
}

#[test]
fn a_peer_without_update_is_refreshed_by_a_re_invite_that_changes_nothing() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let (answer, leg) = set_up_without_update(&mut world, &alice, &bob);
    world.wait(150.2);
    let refresh = world.request("INVITE");
    assert_eq!((refresh.uri(), refresh.body()), ("sip:bob@10.0.0.2:5060".into(), SDP_A.into()));
    assert_eq!((refresh.header("Session-Expires"), refresh.cseq()), ("300;refresher=uac".into(), leg.cseq() + 1));
    // What crosses it is a glare (RFC 3261 §14.2), from either end.
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", SDP_A));
    world.response(491);
    world.receive(bob.address, &bob.inside(&leg, "b", "INVITE", 1, "", SDP_B));
    world.response(491);
    for _ in 0..2 {
        world.receive(bob.address, &bob.respond(&refresh, 200, "", REFRESHED_BY_US, SDP_B));
        assert_eq!(world.request("ACK").cseq(), refresh.cseq());
    }
    world.expect_silence();
    // The session is another one now; and what is kept of it outlives the process.
    let hold = SDP_A.replace("t=0 0", "t=0 0\r\na=sendonly");
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 3, "", &hold));
    let passed = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&passed, 200, "", REFRESHED_BY_US, SDP_B));
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 3, "", ""));
    world.wait(151.0);
    let refresh = world.request("INVITE");
    assert_eq!(refresh.body(), hold);
    world.receive(bob.address, &bob.respond(&refresh, 200, "", REFRESHED_BY_US, SDP_B));
    world.kill();
    world.wait(140.0);
    assert_eq!(world.request("INVITE").body(), hold);
}

#[test]
fn an_offer_that_is_refused_is_not_what_refreshes_repeat() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let (answer, _) = set_up_without_update(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", &SDP_A.replace("4000", "4444")));
    let passed = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&passed, 488, "", "", ""));
    world.log();
    world.wait(151.0);
    assert_eq!(world.request("INVITE").body(), SDP_A);
}

#[test]
fn an_answer_in_an_acknowledgement_is_what_refreshes_repeat() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", "", ""));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", REFRESHED_BY_US, SDP_B));
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", SDP_A));
    world.log();
    world.kill();
    world.wait(140.0);
    assert_eq!(world.request("INVITE").body(), SDP_A);
}

#[test]
fn a_caller_who_leaves_the_refreshes_to_us_gets_them() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let timer = "Supported: timer\r\nSession-Expires: 600;refresher=uas\r\n";
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", timer, SDP_A));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    let answer = world.response(200);
    assert_eq!(answer.header("Session-Expires"), "600;refresher=uas");
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.log();
    world.wait(300.2);
    let refresh = world.request("INVITE");
    assert_eq!((refresh.uri(), refresh.body()), ("sip:alice@10.0.0.1:5060".into(), SDP_B.into()));
    world.expect_silence();
}

#[test]
fn a_refresh_that_is_refused_for_now_is_tried_again() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    set_up_without_update(&mut world, &alice, &bob);
    world.wait(151.0);
    let refresh = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&refresh, 491, "", "", ""));
    world.log();
    world.wait(2.0);
    world.expect_silence();
    world.wait(2.1);
    let again = world.request("INVITE");
    assert_eq!((again.cseq(), again.body()), (refresh.cseq() + 1, SDP_A.into()));
    world.receive(bob.address, &bob.respond(&again, 422, "", "Min-SE: 1200\r\n", ""));
    world.log();
    world.wait(4.1);
    let longer = world.request("INVITE");
    assert_eq!(longer.header("Session-Expires"), "1200;refresher=uac");
    let lines = "Session-Expires: 1200;refresher=uac\r\n";
    world.receive(bob.address, &bob.respond(&longer, 200, "", lines, SDP_B));
    world.log();
    world.wait(599.0);
    world.expect_silence();
    world.wait(2.0);
    world.request("INVITE");
}

#[test]
fn a_session_that_nobody_refreshes_ends_on_both_sides_with_a_reason() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    set_up_without_update(&mut world, &alice, &bob);
    world.wait(151.0);
    let refresh = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&refresh, 488, "", "", ""));
    world.log();
    world.wait(116.0);
    world.expect_silence();
    world.wait(2.0);
    for uri in ["sip:alice@10.0.0.1:5060", "sip:bob@10.0.0.2:5060"] {
        let bye = world.request("BYE");
        assert_eq!(bye.uri(), uri);
        assert_eq!(bye.header("Reason"), "SIP ;cause=408 ;text=\"the session timed out\"");
    }
    assert_eq!(world.cdrs()[0].2, "timeout");
    world.expect_nothing_left();
}

#[test]
fn a_peer_may_refresh_by_a_re_invite_that_changes_nothing() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let timer = "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n";
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", timer, SDP_A));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", REFRESHED_BY_US, SDP_B));
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    let before = world.journal.len();
    for cseq in 2..6 {
        world.wait(140.0);
        world.log();
        world.receive(alice.address, &alice.inside(&answer, "", "INVITE", cseq, timer, SDP_A));
        // It refreshes bob's session too, by his own interval.
        let passed = world.request("INVITE");
        assert_eq!((passed.header("Session-Expires"), passed.body()), ("300;refresher=uac".into(), SDP_A.into()));
        world.receive(bob.address, &bob.respond(&passed, 200, "", REFRESHED_BY_US, SDP_B));
        assert_eq!(world.response(200).header("Session-Expires"), "600;refresher=uac");
        world.receive(alice.address, &alice.inside(&answer, "", "ACK", cseq, "", ""));
        assert_eq!(world.request("ACK").cseq(), passed.cseq());
    }
    assert_eq!(world.journal.len(), before, "nothing has changed that the journal would keep");
    // A re-INVITE that speaks of no timer ends hers (§9): the call does not.
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 6, "", SDP_A));
    let passed = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&passed, 200, "", "", SDP_B));
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 6, "", ""));
    world.log();
    world.wait(2000.0);
    world.expect_silence();
    assert_eq!(world.app.census().established, 1);
}

#[test]
fn an_interval_that_is_too_small_is_refused() {
    let (mut world, alice) = (World::new(), alice());
    let timer = "Supported: timer\r\nSession-Expires: 30\r\n";
    world.receive(alice.address, &alice.request("INVITE", "sip:bob@example.com", timer, SDP_A));
    assert_eq!(world.response(422).header("Min-SE"), "90");
    world.expect_nothing_left();
}

#[test]
fn a_call_that_the_other_end_has_forgotten_ends() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.inside(&up.answer, "", "INVITE", 2, "", SDP_A));
    let passed = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&passed, 481, "", "", ""));
    world.response(481);
    world.request("BYE");
    world.expect_nothing_left();
}

#[test]
fn a_re_invite_may_be_cancelled() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    let reinvite = alice.inside(&up.answer, "", "INVITE", 2, "", SDP_A);
    world.receive(alice.address, &reinvite);
    let passed = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&passed, 180, "", "", ""));
    assert_eq!(world.response(180).header("CSeq"), "2 INVITE");
    world.receive(alice.address, &alice.cancel(&reinvite));
    let cancel = world.request("CANCEL");
    world.receive(bob.address, &bob.respond(&cancel, 200, "", "", ""));
    world.receive(bob.address, &bob.respond(&passed, 487, "", "", ""));
    world.response(487);
    assert_eq!(world.app.census().established, 1);
}

#[test]
fn a_bye_answers_what_still_passes() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.inside(&up.answer, "", "INVITE", 2, "", SDP_A));
    world.log();
    world.receive(bob.address, &bob.inside(&up.leg, "b", "BYE", 1, "", ""));
    assert_eq!(world.response(487).header("CSeq"), "2 INVITE");
    assert_eq!(world.response(200).method(), "BYE");
    world.expect_nothing_left();
}
