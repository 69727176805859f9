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
    // What crosses it is a glare (RFC 3261 §14.2).
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", SDP_A));
    world.response(491);
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

/// Bob has referred alice to carol, who rings.
fn referred(world: &mut World, alice: &Phone, bob: &Phone, carol: &Phone) -> (Sent, Sent, Sent) {
    let (answer, leg) = set_up_with(world, alice, bob, "place");
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, "Refer-To: <sip:carol@example.com>\r\n", ""));
    let target = world.request("INVITE");
    world.receive(carol.address, &carol.respond(&target, 180, "c", "", ""));
    world.log();
    (answer, leg, target)
}

#[test]
fn a_referrer_who_has_left_does_not_leave_the_other_alone_after_a_kill() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, leg, _) = referred(&mut world, &alice, &bob, &carol);
    world.keeps = false;
    world.receive(bob.address, &bob.inside(&leg, "b", "BYE", 2, "", ""));
    world.expect_silence();
    world.keeps = true;
    world.settle();
    assert_eq!(world.response(200).method(), "BYE", "the journal has it");
    // Who is left hears of nobody who has gone.
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", SDP_A));
    world.response(491);
    world.receive(alice.address, &alice.inside(&answer, "", "INFO", 3, "", "x"));
    world.response(480);
    world.expect_silence();
    world.kill();
    world.wait(0.1);
    let bye = world.request("BYE");
    assert_eq!(bye.uri(), "sip:alice@10.0.0.1:5060");
    world.receive(alice.address, &alice.respond(&bye, 200, "", "", ""));
    world.expect_nothing_left();
}

#[test]
fn a_second_bye_of_a_referrer_waits_for_the_journal_as_the_first_does() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (_, leg, _) = referred(&mut world, &alice, &bob, &carol);
    world.keeps = false;
    for cseq in [2, 3] {
        world.receive(bob.address, &bob.inside(&leg, "b", "BYE", cseq, "", ""));
        world.expect_silence();
    }
    world.keeps = true;
    world.settle();
    assert_eq!([world.response(200).cseq(), world.response(200).cseq()], [2, 3]);
    // The journal has it now.
    world.receive(bob.address, &bob.inside(&leg, "b", "BYE", 4, "", ""));
    assert_eq!(world.response(200).cseq(), 4);
}

#[test]
fn who_is_referred_may_hang_up_after_the_referrer() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, leg, target) = referred(&mut world, &alice, &bob, &carol);
    world.receive(bob.address, &bob.inside(&leg, "b", "BYE", 2, "", ""));
    world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    assert_eq!(world.request("CANCEL").header("Call-ID"), target.header("Call-ID"));
    assert_eq!(world.response(200).header("Call-ID"), answer.header("Call-ID"));
    world.receive(carol.address, &carol.respond(&target, 487, "c", "", ""));
    assert!(world.log().iter().all(|line| !line.starts_with("BYE")), "nobody is left to be told");
    world.expect_nothing_left();
}

#[test]
fn the_join_waits_for_an_invite_that_is_under_way() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (answer, _, target) = referred(&mut world, &alice, &bob, &carol);
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", SDP_A));
    let passed = world.request("INVITE");
    world.receive(carol.address, &carol.respond(&target, 200, "c", "", SDP_C));
    assert!(world.log().iter().all(|line| !line.contains("INVITE")), "alice waits for an answer to her own");
    world.receive(bob.address, &bob.respond(&passed, 200, "", "", SDP_B));
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 2, "", ""));
    world.log();
    world.wait(4.1);
    let join = world.request("INVITE");
    assert_eq!((join.uri(), join.body()), ("sip:alice@10.0.0.1:5060".into(), SDP_C.into()));
    // She has begun another one at the same moment.
    world.receive(alice.address, &alice.respond(&join, 491, "", "", ""));
    world.log();
    world.wait(4.1);
    let join = world.request("INVITE");
    world.receive(alice.address, &alice.respond(&join, 200, "", "", SDP_A));
    world.log();
    assert_eq!(world.app.census().established, 1);
    world.receive(carol.address, &carol.inside(&target, "c", "BYE", 1, "", ""));
    assert_eq!(world.request("BYE").uri(), "sip:alice@10.0.0.1:5060");
    world.expect_nothing_left();
}

#[test]
fn a_join_that_never_gets_its_turn_ends_the_transfer() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (_, _, target) = referred(&mut world, &alice, &bob, &carol);
    world.receive(carol.address, &carol.respond(&target, 200, "c", "", SDP_C));
    let joins = (0..100).take_while(|_| {
        let join = world.sent.iter().position(|sent| sent.is_request() && sent.method() == "INVITE");
        let Some(join) = join.map(|at| world.sent.remove(at).unwrap()) else { return false };
        world.receive(alice.address, &alice.respond(&join, 491, "", "", ""));
        world.wait(4.1);
        true
    });
    assert!((8..40).contains(&joins.count()));
    let byes: Vec<_> = world.sent.iter().filter(|sent| sent.is_request() && sent.method() == "BYE").collect();
    assert!(byes.iter().all(|bye| bye.uri() == consulted_uri()) && !byes.is_empty(), "carol's call ends");
    assert_eq!(world.app.census().established, 1, "alice and bob still talk");
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

// Calls of different shards.

/// Two shards, and the proxy between them.
struct Shards([World; 2]);

impl Shards {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(configure: impl Fn(&mut appserver::Settings)) -> Self {
        Self([0, 1].map(|shard| World::on(shard, 2, &configure)))
    }

    fn receive(&mut self, shard: usize, peer: &str, text: &Text) {
        self.0[shard].receive(peer, text);
        self.settle();
    }

    /// What the shards send each other arrives.
    fn settle(&mut self) {
        while let Some((to, text)) = self.0.iter_mut().find_map(World::next_inward) {
            self.0[to].receive("0.0.0.0:0", &text);
        }
    }

    fn expect_nothing_left(&mut self) {
        for _ in 0..2 {
            self.0.iter_mut().for_each(|world| world.wait(20.0));
            self.settle();
        }
        self.0.iter_mut().for_each(World::expect_nothing_left);
    }
}

/// The Replaces that names the dialog in which the caller got this answer.
fn replaces(answer: &Text) -> String {
    format!("{};to-tag={};from-tag={}", answer.header("Call-ID"), answer.tag("To"), answer.tag("From"))
}

fn refer_to(replaces: &str) -> String {
    let escaped = replaces.replace(';', "%3B").replace('=', "%3D");
    format!("Refer-To: <sip:carol@example.com?Replaces={escaped}>\r\n")
}

/// Alice has called bob on the first shard, and bob carol on the second. What bob got from alice, what he got from carol, what she
/// got from him, and what alice got.
fn consult(shards: &mut Shards, alice: &Phone, bob: &Phone, carol: &Phone, refer: &str) -> (Sent, Sent, Sent, Sent) {
    let (answer, leg) = set_up_with(&mut shards.0[0], alice, bob, refer);
    let world = &mut shards.0[1];
    world.receive(bob.address, &bob.invite("sip:carol@example.com"));
    let consulted = world.request("INVITE");
    world.receive(carol.address, &carol.respond(&consulted, 200, "c", "", SDP_C));
    let consultation = world.response(200);
    world.receive(bob.address, &bob.inside(&consultation, "", "ACK", 1, "", ""));
    world.log();
    (leg, consultation, consulted, answer)
}

#[test]
fn a_consulted_target_on_another_shard_is_joined() {
    let (mut shards, alice, bob, carol) = (Shards::new(), alice(), bob(), carol());
    let (leg, consultation, consulted, answer) = consult(&mut shards, &alice, &bob, &carol, "place");
    let lines = refer_to(&replaces(&consultation));
    shards.receive(0, bob.address, &bob.inside(&leg, "b", "REFER", 1, &lines, ""));
    shards.0[0].response(202);
    let ok = |notify: &Text| bob.respond(notify, 200, "", "", "");
    notified(&mut shards.0[0], "100", ok, bob.address);
    // Carol need not know of Replaces: she gets a re-INVITE, to which she makes the offer.
    let offered = shards.0[1].request("INVITE");
    assert_eq!((offered.uri(), offered.tag("To"), offered.body()), (consulted_uri(), "c".into(), String::new()));
    assert_eq!(offered.header("Call-ID"), consulted.header("Call-ID"));
    shards.receive(1, carol.address, &carol.respond(&offered, 200, "", "", SDP_C));
    assert_eq!(shards.0[1].request("BYE").uri(), "sip:bob@10.0.0.2:5060");
    let join = shards.0[0].request("INVITE");
    assert_eq!((join.uri(), join.body()), ("sip:alice@10.0.0.1:5060".into(), SDP_C.into()));
    shards.receive(0, alice.address, &alice.respond(&join, 200, "", "", SDP_A));
    assert_eq!(shards.0[1].request("ACK").body(), SDP_A);
    notified(&mut shards.0[0], "200", ok, bob.address);
    assert_eq!(shards.0[0].request("BYE").uri(), "sip:bob@10.0.0.2:5060");
    // It is a call like any other, and outlives both processes.
    shards.0.iter_mut().for_each(World::kill);
    // The calls that ended by the transfer are forgotten, and take nothing with them.
    shards.0.iter_mut().for_each(|world| world.wait(40.0));
    shards.0.iter_mut().for_each(|world| drop(world.log()));
    shards.receive(1, carol.address, &carol.inside(&consulted, "c", "INFO", 1, "", "x"));
    let info = shards.0[0].request("INFO");
    assert_eq!(info.uri(), "sip:alice@10.0.0.1:5060");
    shards.receive(0, alice.address, &alice.respond(&info, 200, "", "", ""));
    assert_eq!(shards.0[1].response(200).method(), "INFO");
    shards.receive(0, alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    assert_eq!(shards.0[1].request("BYE").uri(), consulted_uri());
    assert_eq!(shards.0[0].response(200).method(), "BYE");
    shards.expect_nothing_left();
}

fn consulted_uri() -> String {
    "sip:carol@10.0.0.3:5060".into()
}

#[test]
fn a_consulted_target_on_the_same_shard_is_joined_in_the_same_way() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    let (_, leg) = set_up_with(&mut world, &alice, &bob, "place");
    world.receive(bob.address, &bob.invite("sip:carol@example.com"));
    let consulted = world.request("INVITE");
    world.receive(carol.address, &carol.respond(&consulted, 200, "c", "", SDP_C));
    let consultation = world.response(200);
    world.receive(bob.address, &bob.inside(&consultation, "", "ACK", 1, "", ""));
    world.log();
    let lines = refer_to(&replaces(&consultation));
    world.receive(bob.address, &bob.inside(&leg, "b", "REFER", 1, &lines, ""));
    let settle = |world: &mut World| {
        while let Some((_, text)) = world.next_inward() {
            world.receive("0.0.0.0:0", &text);
        }
    };
    settle(&mut world);
    let offered = world.request("INVITE");
    assert_eq!((offered.uri(), offered.tag("To")), (consulted_uri(), "c".into()));
    world.receive(carol.address, &carol.respond(&offered, 200, "", "", SDP_C));
    settle(&mut world);
    let join = world.request("INVITE");
    world.receive(alice.address, &alice.respond(&join, 200, "", "", SDP_A));
    settle(&mut world);
    let acks = [world.request("ACK"), world.request("ACK")];
    assert!(acks.iter().any(|ack| ack.uri() == consulted_uri() && ack.body() == SDP_A));
}

#[test]
fn a_transfer_to_a_dialog_that_is_not_there_leaves_the_call_as_it_was() {
    let (mut shards, alice, bob, carol) = (Shards::new(), alice(), bob(), carol());
    let (leg, consultation, consulted, _) = consult(&mut shards, &alice, &bob, &carol, "place");
    let sound = replaces(&consultation);
    let place = consultation.tag("To").split_once('.').unwrap().1.to_owned();
    let missing = format!("x;to-tag=0123456789abcdef.{place};from-tag=1");
    let nowhere = "x;to-tag=0123456789abcdef.stable.0;from-tag=1".to_owned();
    let others = sound.replace(&format!("from-tag={}", consultation.tag("From")), "from-tag=other");
    let early = format!("{sound};early-only");
    let mut cseq = 0;
    let mut refer = |shards: &mut Shards, lines: &str| {
        cseq += 1;
        shards.receive(0, bob.address, &bob.inside(&leg, "b", "REFER", cseq, lines, ""));
        shards.0[0].response(202);
        let told = shards.0[0].sent.iter().filter(|sent| sent.is_request() && sent.method() == "NOTIFY");
        let told: Vec<_> = told.map(|notify| notify.body()[8..11].to_owned()).collect();
        shards.0.iter_mut().for_each(|world| drop(world.log()));
        told.last().cloned().unwrap_or_default()
    };
    for (replaces, status) in [(&missing, "481"), (&nowhere, "481"), (&others, "481"), (&early, "486")] {
        assert_eq!(refer(&mut shards, &refer_to(replaces)), status, "{replaces}");
        assert_eq!(shards.0[0].app.census().established, 1);
        assert_eq!(shards.0[1].app.census().established, 1);
    }
    // Another switch's dialog may have a tag like ours: whoever is asked for is asked.
    let lines = refer_to(&sound).replace("carol@example.com", "carol@far.example");
    assert_eq!(refer(&mut shards, &lines), "403", "and alice may not call outside");
    shards.receive(1, carol.address, &carol.inside(&consulted, "c", "BYE", 1, "", ""));
    assert_eq!(refer(&mut shards, &refer_to(&sound)), "603", "it has just ended");
    shards.receive(
        0,
        bob.address,
        &bob.inside(&leg, "b", "REFER", 20, "Refer-To: <sip:c@example.com?Replaces=x>\r\n", ""),
    );
    shards.0[0].response(400);
    shards.0[0].hang_up();
    shards.expect_nothing_left();
}

#[test]
fn an_invite_with_replaces_finds_the_dialog_on_another_shard() {
    let (mut shards, alice, bob, carol) = (Shards::new(), alice(), bob(), carol());
    // Bob's REFER passes to alice, whose phone calls the target.
    let (_, consultation, _, _) = consult(&mut shards, &alice, &bob, &carol, "pass");
    let lines = format!("Replaces: {}\r\n", replaces(&consultation));
    let invite = alice.request("INVITE", "sip:carol@example.com", &lines, SDP_A);
    shards.receive(0, alice.address, &invite);
    let passed = shards.0[1].request("INVITE");
    assert_eq!((passed.uri(), passed.tag("To"), passed.body()), (consulted_uri(), "c".into(), SDP_A.into()));
    shards.receive(1, carol.address, &carol.respond(&passed, 200, "", "", SDP_C));
    let answer = shards.0[0].response(200);
    assert_eq!(answer.body(), SDP_C);
    shards.receive(0, alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    assert_eq!(shards.0[1].request("ACK").uri(), consulted_uri());
    assert_eq!(shards.0[1].request("BYE").uri(), "sip:bob@10.0.0.2:5060");
    // Whose call it is and whom it is to, but nothing of how the shards found each other.
    shards.receive(0, alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    let texts = shards.0[0].each_cdr(|cdr| (cdr.callee.to_owned(), cdr.user.to_owned()));
    assert_eq!(texts, [0, 1].map(|_| ("sip:carol@example.com".to_owned(), "alice@example.com".to_owned())));
    assert_eq!(shards.0[1].request("BYE").uri(), consulted_uri());
}

#[test]
fn nobody_replaces_a_dialog_who_has_not_proved_who_he_is() {
    let mut shards = Shards::with(|settings| settings.authenticate = true);
    shards.0.iter_mut().for_each(|world| {
        world.around.trusted.extend(["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()))
    });
    let (alice, bob, carol) = (alice(), bob(), carol());
    let (_, consultation, _, _) = consult(&mut shards, &alice, &bob, &carol, "pass");
    let lines = format!("Replaces: {}\r\n", replaces(&consultation));
    // On the shard that has the dialog, and on the other one.
    for shard in [0, 1] {
        let claimed = alice.request("INVITE", &consultation.contact(), &lines, SDP_A);
        shards.receive(shard, "10.0.0.66:5060", &claimed);
        shards.0[shard].response(407);
        let stranger = Phone::new("zoe", "example.org", "10.0.0.67:5060");
        shards.receive(shard, stranger.address, &stranger.request("INVITE", &consultation.contact(), &lines, SDP_A));
        shards.0[shard].response(403);
        let plain = stranger.request("INVITE", "sip:carol@example.com", "Replaces: x;to-tag=1\r\n", SDP_A);
        shards.receive(shard, stranger.address, &plain);
        shards.0[shard].response(400);
        // RFC 3891 §3: in nothing but an INVITE.
        shards.receive(shard, alice.address, &alice.request("MESSAGE", "sip:carol@example.com", &lines, "x"));
        shards.0[shard].response(400);
    }
    // What another shard hands on is sealed for its own Call-ID.
    shards.0[0].receive(alice.address, &alice.request("INVITE", "sip:carol@example.com", &lines, SDP_A));
    let (to, handed) = shards.0[0].next_inward().unwrap();
    let forged = Text(handed.0.replace(&handed.header("Call-ID"), "another"));
    shards.0[to].receive("10.0.0.66:5060", &forged);
    shards.0[to].response(407);
    assert!(shards.0[1].sent.iter().all(|sent| !sent.is_request()), "nobody at the other end has heard of it");
}
