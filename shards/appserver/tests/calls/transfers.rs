//! REFER and Replaces.

use crate::{
    basic::{alice, bob, carol, set_up},
    phone::{Phone, SDP_A, SDP_B, Text},
    world::{Sent, World},
};

const SDP_C: &str = "v=0\r\no=c 1 1 IN IP4 10.0.0.3\r\ns=-\r\nc=IN IP4 10.0.0.3\r\nt=0 0\r\nm=audio 4004 RTP/AVP 0\r\n";

/// A call of alice's to bob by a plan that lets REFER be `refer`.
fn set_up_with(world: &mut World, alice: &Phone, bob: &Phone, refer: &str) -> (Sent, Sent) {
    world.plan("alice", false, true, &format!(r#"sys.dial("bob@example.com[refer={refer}]");"#));
    let up = set_up(world, alice, bob);
    (up.answer, up.leg)
}

fn notified(world: &mut World, status: &str, answer: impl Fn(&Text) -> Text, peer: &str) {
    let notify = world.request("NOTIFY");
    assert!(notify.body().starts_with(&format!("SIP/2.0 {status}")), "{}", notify.0);
    world.receive(peer, &answer(&notify.text));
}

#[test]
fn a_refer_is_refused_or_passed_as_the_plan_says() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let (_, leg) = set_up_with(&mut world, &alice, &bob, "refuse");
    let refer = "Refer-To: <sip:carol@example.com>\r\n";
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, refer, ""));
    world.response(603);
    let mut world = World::new();
    let (answer, _) = set_up_with(&mut world, &alice, &bob, "pass");
    world.receive(alice.address, &alice.inside(&answer, "", "REFER", 2, refer, ""));
    let passed = world.request("REFER");
    assert_eq!(passed.header("Refer-To"), "<sip:carol@example.com>");
    world.receive(bob.address, &bob.respond(&passed, 202, "", "", ""));
    assert_eq!(world.response(202).method(), "REFER");
}

#[test]
fn the_server_places_the_call_that_a_refer_asks_for() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, leg) = set_up_with(&mut world, &alice, &bob, "place");
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, "Refer-To: <sip:carol@example.com>\r\n", ""));
    world.response(202);
    let ok = |notify: &Text| bob.respond(notify, 200, "", "", "");
    notified(&mut world, "100", ok, bob.address);
    let target = world.request("INVITE");
    assert_eq!((target.uri(), target.body()), ("sip:carol@10.0.0.3:5060".into(), String::new()));
    assert!(target.header("From").contains("sip:alice@example.com"));
    world.receive(carol.address, &carol.respond(&target, 180, "c", "", ""));
    notified(&mut world, "180", ok, bob.address);
    world.receive(carol.address, &carol.respond(&target, 200, "c", "", SDP_C));
    let join = world.request("INVITE");
    assert_eq!((join.uri(), join.body()), ("sip:alice@10.0.0.1:5060".into(), SDP_C.into()));
    assert_eq!(join.tag("To"), answer.tag("From"));
    world.receive(alice.address, &alice.respond(&join, 200, "", "", SDP_A));
    let (first, second) = (world.request("ACK"), world.request("ACK"));
    assert_eq!((first.uri(), first.body()), ("sip:alice@10.0.0.1:5060".into(), String::new()));
    assert_eq!((second.uri(), second.body()), ("sip:carol@10.0.0.3:5060".into(), SDP_A.into()));
    notified(&mut world, "200", ok, bob.address);
    let bye = world.request("BYE");
    assert_eq!(bye.uri(), "sip:bob@10.0.0.2:5060");
    world.receive(bob.address, &bob.respond(&bye, 200, "", "", ""));
    world.expect_silence();
    assert_eq!(world.app.census().established, 1);
    // What is left is a call like any other, and outlives its process.
    world.kill();
    world.receive(carol.address, &carol.inside(&target, "c", "BYE", 1, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:alice@10.0.0.1:5060");
    world.response(200);
    world.expect_nothing_left();
}

#[test]
fn a_transfer_that_fails_leaves_the_call_as_it_was() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, leg) = set_up_with(&mut world, &alice, &bob, "place");
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, "Refer-To: <sip:carol@example.com>\r\n", ""));
    let target = world.request("INVITE");
    world.log();
    world.receive(carol.address, &carol.respond(&target, 486, "c", "", ""));
    notified(&mut world, "486", |notify| bob.respond(notify, 200, "", "", ""), bob.address);
    assert_eq!(world.app.census().established, 1);
    // Once more, and the referrer hangs up without waiting.
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 2, "Refer-To: <sip:carol@example.com>\r\n", ""));
    let target = world.request("INVITE");
    world.receive(bob.address, &bob.inside(&leg, "b", "BYE", 3, "", ""));
    world.log();
    world.receive(carol.address, &carol.respond(&target, 480, "c", "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:alice@10.0.0.1:5060");
    let _ = answer;
    world.expect_nothing_left();
}

#[test]
fn who_hangs_up_ends_the_transfer_too() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, leg) = set_up_with(&mut world, &alice, &bob, "place");
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, "Refer-To: <sip:carol@example.com>\r\n", ""));
    let target = world.request("INVITE");
    world.receive(carol.address, &carol.respond(&target, 180, "c", "", ""));
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:bob@10.0.0.2:5060");
    assert_eq!(world.request("CANCEL").header("Call-ID"), target.header("Call-ID"));
    world.receive(carol.address, &carol.respond(&target, 487, "c", "", ""));
    world.expect_nothing_left();
}

#[test]
fn an_invite_with_replaces_takes_a_place_in_the_call() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let up = set_up(&mut world, &alice, &bob);
    // Carol has alice's dialog from a REFER: she takes alice's place.
    let lines = format!(
        "Replaces: {};to-tag={};from-tag={}\r\n",
        up.answer.header("Call-ID"),
        up.answer.tag("To"),
        up.answer.tag("From")
    );
    let invite = carol.request("INVITE", &up.answer.contact(), &lines, SDP_C);
    world.receive(carol.address, &invite);
    let passed = world.request("INVITE");
    assert_eq!(
        (passed.uri(), passed.body(), passed.tag("To")),
        ("sip:bob@10.0.0.2:5060".into(), SDP_C.into(), "b".into())
    );
    world.log();
    world.receive(bob.address, &bob.respond(&passed, 200, "", "", SDP_B));
    let taken = world.response(200);
    assert_eq!((taken.body(), taken.header("Call-ID")), (SDP_B.into(), invite.header("Call-ID")));
    let bye = world.request("BYE");
    assert_eq!(bye.uri(), "sip:alice@10.0.0.1:5060");
    world.receive(alice.address, &alice.respond(&bye, 200, "", "", ""));
    world.receive(carol.address, &carol.inside(&taken, "", "ACK", 1, "", ""));
    assert_eq!(world.request("ACK").uri(), "sip:bob@10.0.0.2:5060");
    world.kill();
    world.receive(bob.address, &bob.inside(&up.leg, "b", "BYE", 1, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:carol@10.0.0.3:5060");
    assert_eq!(world.cdrs().len(), 3);
    world.expect_nothing_left();
    let stray = carol.request("INVITE", "sip:bob@example.com", "Replaces: x;to-tag=1;from-tag=2\r\n", SDP_C);
    world.receive(carol.address, &stray);
    world.response(481);
}
