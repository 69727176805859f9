//! Calls that are answered, refused, given up.

use crate::{
    phone::{Phone, SDP_A, SDP_B, Text},
    world::{Sent, World, flow},
};
use agent::Way;

pub fn alice() -> Phone {
    Phone::new("alice", "example.com", "10.0.0.1:5060")
}

pub fn bob() -> Phone {
    Phone::new("bob", "example.com", "10.0.0.2:5060")
}

pub fn carol() -> Phone {
    Phone::new("carol", "example.com", "10.0.0.3:5060")
}

/// A call that is up, as both ends know it.
pub struct Up {
    /// Alice's INVITE.
    pub invite: Text,
    /// The 200 that she got.
    pub answer: Sent,
    /// The INVITE that bob got.
    pub leg: Sent,
}

/// Alice calls bob, who answers.
pub fn set_up(world: &mut World, alice: &Phone, bob: &Phone) -> Up {
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    assert_eq!(world.next().status(), 100);
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    assert_eq!(world.next().status(), 180);
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    assert_eq!(world.request("ACK").body(), "");
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.expect_silence();
    Up { invite, answer, leg }
}

#[test]
fn a_call_is_answered_and_hung_up_by_the_caller() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    assert_eq!(up.leg.body(), SDP_A);
    assert_eq!(up.answer.body(), SDP_B);
    assert_eq!(world.app.census().established, 1);
    world.receive(alice.address, &alice.inside(&up.answer, "", "BYE", 2, "", ""));
    let bye = world.request("BYE");
    assert_eq!((bye.uri(), bye.way), ("sip:bob@10.0.0.2:5060".into(), Way::Flow(flow(bob.address))));
    assert_eq!(world.response(200).method(), "BYE");
    world.receive(bob.address, &bob.respond(&bye, 200, "", "", ""));
    assert_eq!(world.cdrs(), [(0, 200, "peer", true), (1, 200, "other-leg", true)]);
    world.expect_nothing_left();
}

#[test]
fn a_call_is_hung_up_by_the_called() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(bob.address, &bob.inside(&up.leg, "b", "BYE", 1, "", ""));
    let bye = world.request("BYE");
    assert_eq!(bye.uri(), "sip:alice@10.0.0.1:5060");
    assert_eq!((bye.tag("From"), bye.tag("To")), (up.answer.tag("To"), up.answer.tag("From")));
    assert_eq!(world.response(200).method(), "BYE");
    assert_eq!(world.cdrs(), [(0, 200, "other-leg", true), (1, 200, "peer", true)]);
    world.receive(alice.address, &alice.respond(&bye, 200, "", "", ""));
    world.expect_nothing_left();
}

#[test]
fn nothing_of_one_side_is_seen_on_the_other() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    for secret in ["10.0.0.1:5060", &up.invite.header("Call-ID"), &up.invite.tag("From"), "z9hG4bKalice"] {
        assert!(!up.leg.0.contains(secret), "{secret}: {}", up.leg.0);
    }
    for secret in ["10.0.0.2:5060", &up.leg.header("Call-ID"), &up.leg.tag("From"), ";tag=b\r"] {
        assert!(!up.answer.0.contains(secret), "{secret}: {}", up.answer.0);
    }
}

#[test]
fn a_busy_phone_is_busy_for_the_caller() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 486, "b", "", ""));
    assert_eq!(world.request("ACK").header("CSeq"), "1 ACK");
    let busy = world.response(486);
    world.receive(alice.address, &alice.follow(&invite, &busy.header("To"), "ACK"));
    assert_eq!(world.cdrs(), [(1, 486, "peer", false), (0, 486, "plan", false)]);
    world.expect_nothing_left();
}

#[test]
fn nobody_of_that_name_is_404_and_nobody_registered_480() {
    let (mut world, alice) = (World::new(), alice());
    for (callee, status) in [("nobody", 404), ("alice", 480)] {
        world.receive(alice.address, &alice.invite(&format!("sip:{callee}@example.com")));
        world.response(status);
    }
    world.expect_nothing_left();
}

#[test]
fn the_caller_gives_up_while_it_rings() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    world.log();
    world.receive(alice.address, &alice.cancel(&invite));
    assert_eq!(world.response(200).method(), "CANCEL");
    assert_eq!(world.response(487).method(), "INVITE");
    let cancel = world.request("CANCEL");
    assert_eq!(cancel.header("Via"), leg.header("Via"));
    world.receive(bob.address, &bob.respond(&cancel, 200, "b", "", ""));
    world.receive(bob.address, &bob.respond(&leg, 487, "b", "", ""));
    world.request("ACK");
    assert_eq!(world.cdrs(), [(0, 487, "peer", false), (1, 487, "other-leg", false)]);
    world.expect_nothing_left();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    world.receive(alice.address, &alice.cancel(&invite));
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    assert_eq!(world.request("ACK").uri(), "sip:bob@10.0.0.2:5060");
    assert_eq!(world.request("BYE").tag("To"), "b");
    world.expect_silence();
    assert_eq!(world.app.counters().answered, 0);
    world.expect_nothing_left();
}

#[test]
fn a_cancel_after_the_answer_is_answered_and_changes_nothing() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let up = set_up(&mut world, &alice, &bob);
    world.receive(alice.address, &alice.cancel(&up.invite));
    world.log();
    assert_eq!(world.app.census().established, 1);
}

#[test]
fn of_two_phones_the_first_to_answer_has_the_call() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.bind("bob", "10.0.0.4:5060");
    let desk = Phone::new("bob", "example.com", "10.0.0.4:5060");
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let (first, second) = (world.request("INVITE"), world.request("INVITE"));
    assert_ne!(first.header("Call-ID"), second.header("Call-ID"));
    world.receive(bob.address, &bob.respond(&first, 180, "b1", "", ""));
    world.receive(desk.address, &desk.respond(&second, 183, "b2", "", SDP_B));
    let (ringing, media) = (world.response(180), world.response(183));
    assert_ne!(ringing.tag("To"), media.tag("To"), "each early dialog has a tag of its own");
    assert_eq!(media.body(), SDP_B);
    world.receive(desk.address, &desk.respond(&second, 200, "b2", "", SDP_B));
    let answer = world.response(200);
    assert_eq!(answer.tag("To"), media.tag("To"));
    let cancel = world.request("CANCEL");
    assert_eq!(cancel.header("Call-ID"), first.header("Call-ID"));
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.receive(bob.address, &bob.respond(&cancel, 200, "b1", "", ""));
    // The loser's 200 crosses the CANCEL.
    world.log();
    world.receive(bob.address, &bob.respond(&first, 200, "b1", "", SDP_B));
    assert_eq!(world.log(), ["ACK sip:bob@10.0.0.2:5060 SIP/2.0", "BYE sip:bob@10.0.0.2:5060 SIP/2.0"]);
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    assert_eq!(world.request("BYE").tag("To"), "b2");
    assert_eq!(world.cdrs(), [(1, 200, "other-leg", true), (0, 200, "peer", true), (2, 200, "other-leg", true)]);
    world.expect_nothing_left();
}

#[test]
fn the_answer_waits_for_the_journal() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.keeps = false;
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    world.request("ACK");
    world.expect_silence();
    world.settle();
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    world.request("BYE");
    world.expect_silence();
    world.settle();
    assert_eq!(world.response(200).method(), "BYE");
    world.keeps = true;
    world.expect_nothing_left();
}

#[test]
fn who_hung_up_as_the_process_died_has_his_answer_and_the_other_end_its_bye() {
    for by_caller in [true, false] {
        let (mut world, alice, bob) = (World::new(), alice(), bob());
        let up = set_up(&mut world, &alice, &bob);
        world.keeps = false;
        let (leaver, other, bye) = if by_caller {
            (&alice, &bob, alice.inside(&up.answer, "", "BYE", 2, "", ""))
        } else {
            (&bob, &alice, bob.inside(&up.leg, "b", "BYE", 1, "", ""))
        };
        world.receive(leaver.address, &bye);
        let first = world.request("BYE");
        // The journal has the end of the call, but nobody has heard so.
        world.keeps = true;
        world.wait(20.0);
        world.kill();
        assert_eq!(world.app.calls().count(), 0, "an operator sees no call");
        world.wait(1.0);
        let again = world.request("BYE");
        // It may have been repeated by now.
        world.log();
        assert_eq!((again.uri(), again.header("Call-ID")), (first.uri(), first.header("Call-ID")));
        assert!(again.cseq() > first.cseq());
        world.receive(other.address, &other.respond(&again, 481, "", "", ""));
        world.receive(leaver.address, &bye);
        assert_eq!(world.response(200).header("CSeq"), bye.header("CSeq"));
        world.expect_silence();
        assert_eq!(world.cdrs().len(), 2);
        world.expect_nothing_left();
        world.receive(leaver.address, &bye);
        world.response(481);
    }
}

#[test]
fn a_call_whose_caller_never_heard_its_answer_is_ended_by_the_next_process() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.keeps = false;
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    assert!(world.sent.iter().all(|sent| sent.status() != 200), "the caller waits for the journal");
    world.keeps = true;
    world.kill();
    world.end_unheard(&invite.header("Call-ID"), "another");
    world.expect_silence();
    world.end_unheard(&invite.header("Call-ID"), &invite.tag("From"));
    let ended = [world.request("BYE"), world.request("BYE")].map(|bye| bye.header("Call-ID"));
    assert!(ended.contains(&leg.header("Call-ID")), "the phone that was answered is told");
    assert_eq!(world.cdrs().iter().map(|cdr| cdr.2).collect::<Vec<_>>(), ["switch", "switch"]);
    world.expect_nothing_left();
}

#[test]
fn an_answered_call_outlives_its_process() {
    for by_caller in [true, false] {
        let (mut world, alice, bob) = (World::new(), alice(), bob());
        let up = set_up(&mut world, &alice, &bob);
        world.kill();
        assert_eq!(world.app.census().established, 1);
        let hold = SDP_A.replace("t=0 0", "a=sendonly\r\nt=0 0");
        let (caller, called) =
            (alice.inside(&up.answer, "", "INVITE", 2, "", &hold), bob.inside(&up.leg, "b", "INVITE", 1, "", &hold));
        let (mover, other, reinvite) = if by_caller { (&alice, &bob, caller) } else { (&bob, &alice, called) };
        world.receive(mover.address, &reinvite);
        assert_eq!(world.response(100).method(), "INVITE");
        let passed = world.request("INVITE");
        assert_eq!(passed.body(), hold);
        world.receive(other.address, &other.respond(&passed, 200, "", "", SDP_B));
        assert_eq!(world.response(200).body(), SDP_B);
        let cseq = reinvite.cseq();
        let inside = |method, cseq| {
            if by_caller {
                alice.inside(&up.answer, "", method, cseq, "", "")
            } else {
                bob.inside(&up.leg, "b", method, cseq, "", "")
            }
        };
        world.receive(mover.address, &inside("ACK", cseq));
        assert_eq!(world.request("ACK").cseq(), passed.cseq());
        world.receive(mover.address, &inside("BYE", cseq + 1));
        let bye = world.request("BYE");
        world.response(200);
        world.receive(other.address, &other.respond(&bye, 200, "", "", ""));
        assert_eq!(world.cdrs().len(), 2);
        let texts = world.each_cdr(|cdr| (cdr.caller.to_owned(), cdr.user.to_owned(), cdr.answered_at.is_some()));
        assert_eq!(texts[0], ("sip:alice@example.com".into(), "alice@example.com".into(), true));
        world.expect_nothing_left();
    }
}

#[test]
fn a_newer_program_takes_up_the_calls_of_an_older_one() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let attempted_at = (world.now.unix.as_millis() as u64).to_le_bytes();
    let up = set_up(&mut world, &alice, &bob);
    let mut kept = world.kept();
    // Version 1 had nothing between whether UPDATE is allowed and the times of the leg.
    let mut octets = kept[0].octets.to_vec();
    octets[0] = 1;
    // Of a leg's three times, which are the same here, the first.
    let is_first = |&at: &usize| octets[at..].starts_with(&attempted_at) && octets[at - 8..at] != attempted_at;
    let times: Vec<_> = (8..octets.len()).filter(is_first).collect();
    for at in times.into_iter().rev() {
        assert_eq!(octets.drain(at - 2..at).collect::<Vec<_>>(), [0, 0]);
    }
    kept[0].octets = octets.into();
    world.begin_anew(&kept);
    world.receive(alice.address, &alice.inside(&up.answer, "", "BYE", 2, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:bob@10.0.0.2:5060");
}

#[test]
fn an_administrator_hangs_up() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    set_up(&mut world, &alice, &bob);
    world.hang_up();
    assert_eq!(world.log().iter().filter(|line| line.starts_with("BYE")).count(), 2);
    assert_eq!(world.cdrs(), [(0, 200, "admin", true), (1, 200, "admin", true)]);
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    world.hang_up();
    world.response(480);
    world.request("CANCEL");
    world.expect_nothing_left();
}

#[test]
fn a_call_without_an_answer_rings_out() {
    let (mut world, alice, bob) = (World::with(|settings| settings.ring_secs = 30), alice(), bob());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    world.log();
    world.wait(29.0);
    world.expect_silence();
    world.wait(2.0);
    assert_eq!(world.response(480).method(), "INVITE");
    let cancel = world.request("CANCEL");
    world.receive(bob.address, &bob.respond(&cancel, 200, "b", "", ""));
    world.receive(bob.address, &bob.respond(&leg, 487, "b", "", ""));
    world.expect_nothing_left();
}

#[test]
fn a_phone_that_is_silent_has_timed_out() {
    let (mut world, alice) = (World::new(), alice());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    world.wait(33.0);
    assert_eq!(world.response(408).method(), "INVITE");
    world.expect_nothing_left();
}

#[test]
fn an_answer_that_is_never_acknowledged_ends_the_call() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    world.log();
    world.wait(1.0);
    assert_eq!(world.log(), ["SIP/2.0 200 Whatever"], "the 2xx goes out again");
    world.wait(31.2);
    assert_eq!(world.log().iter().filter(|line| line.starts_with("BYE")).count(), 2);
    world.expect_nothing_left();
}

#[test]
fn a_call_lasts_as_long_as_it_may() {
    let (mut world, alice, bob) = (World::with(|settings| settings.max_call_secs = 60), alice(), bob());
    set_up(&mut world, &alice, &bob);
    world.wait(59.0);
    world.expect_silence();
    world.wait(1.1);
    assert_eq!(world.log().iter().filter(|line| line.starts_with("BYE")).count(), 2);
    assert_eq!(world.cdrs(), [(0, 200, "timeout", true), (1, 200, "timeout", true)]);
    world.expect_nothing_left();
}
