//! Calls that plans decide about, providers, redirections, who may call.

use crate::{
    basic::{alice, bob, carol},
    phone::{Phone, SDP_A, SDP_B},
    world::World,
};
use sip::digest::{Algorithm, Challenge, Covered, Ha1};

/// A gateway of a provider.
fn gateway() -> Phone {
    Phone::new("gw", "sip.acme.net", "203.0.113.5:5060")
}

#[test]
fn a_plan_tries_one_after_another() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    world.plan("alice", false, true, r#"sys.dial("bob@example.com | carol@example.com");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:bob@10.0.0.2:5060");
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 486, "b", "", ""));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:carol@10.0.0.3:5060");
    world.receive(carol.address, &carol.respond(&leg, 200, "c", "", SDP_B));
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    assert_eq!(world.app.census().runs, 0, "on answer the script ends");
    let users = world.each_cdr(|cdr| (cdr.user.to_owned(), cdr.plan.to_owned(), cdr.status));
    assert_eq!(users, [("alice@example.com".into(), "main".into(), 486)]);
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, "", ""));
    world.expect_nothing_left();
}

#[test]
fn a_plan_rings_together_and_later_ones_start_at_once_when_nobody_is_left() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    world.plan("alice", false, true, r#"sys.dial("bob@example.com & carol@example.com[delay=20]");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    let leg = world.request("INVITE");
    world.wait(1.0);
    world.log();
    world.receive(bob.address, &bob.respond(&leg, 404, "b", "", ""));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:carol@10.0.0.3:5060");
    world.receive(carol.address, &carol.respond(&leg, 603, "c", "", ""));
    world.response(603);
    world.expect_nothing_left();
}

#[test]
fn a_delayed_leg_joins_those_that_ring() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.plan("alice", false, true, r#"sys.dial("bob@example.com & carol@example.com[delay=20]");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 180, "b", "", ""));
    world.log();
    world.wait(19.0);
    world.expect_silence();
    world.wait(1.1);
    assert_eq!(world.request("INVITE").uri(), "sip:carol@10.0.0.3:5060");
}

#[test]
fn a_plan_responds_as_it_likes() {
    let (mut world, alice) = (World::new(), alice());
    world.plan("alice", false, true, r#"sys.respond(603, "Not Today");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    assert!(world.response(603).0.starts_with("SIP/2.0 603 Not Today"));
    world.expect_nothing_left();
}

#[test]
fn a_plan_that_fails_is_a_500_and_its_author_reads_why() {
    let (mut world, alice) = (World::new(), alice());
    world.plan("alice", false, true, "let a = [1];\nlet b = a[7];");
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    world.response(500);
    let reports = world.app.take_reports();
    assert_eq!(reports[0].fault.as_ref().map(|fault| fault.line), Some(2));
    world.expect_nothing_left();
}

#[test]
fn the_plan_of_the_called_runs_in_the_place_of_his_phones_and_not_within_itself() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    world.plan("bob", true, false, r#"sys.dial("bob@example.com"); sys.dial("carol@example.com");"#);
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:bob@10.0.0.2:5060");
    world.receive(bob.address, &bob.respond(&leg, 486, "b", "", ""));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:carol@10.0.0.3:5060");
    world.receive(carol.address, &carol.respond(&leg, 480, "c", "", ""));
    world.response(480);
    world.expect_nothing_left();
}

#[test]
fn plans_that_call_each_other_end() {
    let (mut world, alice) = (World::new(), alice());
    world.account("dave", "");
    world.account("erin", "");
    for (user, other) in [("bob", "carol"), ("carol", "dave"), ("dave", "erin"), ("erin", "bob")] {
        world.plan(user, true, false, &format!(r#"sys.dial("{other}@example.com");"#));
    }
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    world.response(482);
    world.expect_nothing_left();
}

#[test]
fn a_call_goes_out_through_a_provider_with_its_credentials() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    world.provider("alice", "acme", "sip:sip.acme.net");
    world.plan("alice", false, true, r#"sys.dial("+4930123@acme");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:+4930123@sip.acme.net");
    assert!(leg.header("From").contains("<sip:4711@sip.acme.net>"), "{}", leg.header("From"));
    let challenge = r#"Digest realm="acme", nonce="n1", algorithm=MD5, qop="auth""#;
    let lines = format!("Proxy-Authenticate: {challenge}\r\n");
    world.receive(gateway.address, &gateway.respond(&leg, 407, "g", &lines, ""));
    world.request("ACK");
    let again = world.request("INVITE");
    assert_eq!((again.header("Call-ID"), again.cseq()), (leg.header("Call-ID"), 2));
    let parsed = Challenge::parse(challenge.as_bytes()).unwrap();
    let ha1 = Ha1::new(parsed.algorithm, b"4711", b"acme", b"geheim");
    let credentials = again.header("Proxy-Authorization");
    let credentials = sip::digest::Credentials::parse(credentials.as_bytes()).unwrap();
    assert!(credentials.verify(&ha1, b"INVITE", b""));
    // A repeated challenge ends the leg; the caller does not get it.
    world.receive(gateway.address, &gateway.respond(&again, 407, "g", &lines, ""));
    world.response(480);
    assert_eq!(world.each_cdr(|cdr| cdr.provider.to_owned()), ["acme", ""]);
    world.expect_nothing_left();
}

#[test]
fn a_number_that_nobody_here_has_goes_out_through_the_only_provider() {
    let (mut world, alice) = (World::new(), alice());
    world.provider("alice", "acme", "sip:sip.acme.net:5070");
    world.receive(alice.address, &alice.invite("sip:030123@example.com"));
    assert_eq!(world.request("INVITE").uri(), "sip:030123@sip.acme.net:5070");
}

#[test]
fn other_domains_are_for_those_who_may() {
    let (mut world, alice) = (World::new(), alice());
    world.receive(alice.address, &alice.invite("sip:zoe@example.org"));
    world.response(403);
    world.around.trusted.push("10.0.0.9".parse().unwrap());
    let trunk = Phone::new("trunk", "carrier.net", "10.0.0.9:5060");
    world.receive(trunk.address, &trunk.invite("sip:zoe@example.org"));
    assert_eq!(world.request("INVITE").uri(), "sip:zoe@example.org");
    let stranger = Phone::new("zoe", "example.org", "10.0.0.8:5060");
    world.receive(stranger.address, &stranger.invite("sip:yves@example.org"));
    world.response(403);
    world.receive(stranger.address, &stranger.invite("sip:bob@example.com"));
    world.request("INVITE");
}

#[test]
fn a_caller_of_ours_proves_who_he_is() {
    let (mut world, alice) = (World::with(|settings| settings.authenticate = true), alice());
    let invite = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &invite);
    let challenged = world.response(407);
    world.receive(alice.address, &alice.follow(&invite, &challenged.header("To"), "ACK"));
    world.expect_silence();
    let header = challenged.header("Proxy-Authenticate");
    let challenge = Challenge::parse(header.as_bytes()).unwrap();
    let answer = |user: &[u8]| {
        let ha1 = Ha1::new(challenge.algorithm, user, b"example.com", b"secret");
        let covered = Covered { method: b"INVITE", uri: b"sip:bob@example.com", body: b"" };
        let mut value = Vec::new();
        challenge.answer(user, &ha1, &covered, 1, b"c").unwrap().write_to(&mut value);
        format!("Proxy-Authorization: {}\r\n", String::from_utf8(value).unwrap())
    };
    world.receive(alice.address, &alice.again(&invite, &answer(b"carol")));
    world.response(403);
    let second = alice.invite("sip:bob@example.com");
    world.receive(alice.address, &second);
    let challenged = world.response(407);
    let header = challenged.header("Proxy-Authenticate");
    let challenge = Challenge::parse(header.as_bytes()).unwrap();
    let ha1 = Ha1::new(challenge.algorithm, b"alice", b"example.com", b"secret");
    let covered = Covered { method: b"INVITE", uri: b"sip:bob@example.com", body: b"" };
    let mut value = Vec::new();
    challenge.answer(b"alice", &ha1, &covered, 1, b"c").unwrap().write_to(&mut value);
    let lines = format!("Proxy-Authorization: {}\r\n", String::from_utf8(value).unwrap());
    world.receive(alice.address, &alice.again(&second, &lines));
    let leg = world.request("INVITE");
    assert_eq!(leg.header("Proxy-Authorization"), "", "credentials go no further");
}

#[test]
fn a_challenge_offers_what_the_operator_has_chosen() {
    let offers = |world: &mut World, alice: &Phone| {
        world.receive(alice.address, &alice.invite("sip:bob@example.com"));
        let challenged = world.response(407);
        let lines = challenged.0.lines().filter_map(|line| line.strip_prefix("Proxy-Authenticate: "));
        lines.map(|line| Challenge::parse(line.as_bytes()).unwrap().algorithm).collect::<Vec<_>>()
    };
    let (mut world, alice) = (World::with(|settings| settings.authenticate = true), alice());
    assert_eq!(offers(&mut world, &alice), [Algorithm::Md5], "some phones give up on a list with more in it");
    let algorithms = vec![Algorithm::Md5, Algorithm::Sha256];
    world.app.configure(appserver::Settings { algorithms, ..world.settings.clone() });
    assert_eq!(offers(&mut world, &alice), [Algorithm::Sha256, Algorithm::Md5]);
    world.app.configure(appserver::Settings { algorithms: vec![Algorithm::Sha512_256], ..world.settings.clone() });
    assert_eq!(offers(&mut world, &alice), [Algorithm::Sha512_256]);
    world.expect_nothing_left();
}

#[test]
fn a_redirection_is_followed_but_not_in_circles() {
    let (mut world, alice, bob, carol) = (World::new(), alice(), bob(), carol());
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    let moved = bob.respond(&leg, 302, "b", "", "");
    let moved = crate::phone::Text(moved.0.replace(&bob.contact(), "<sip:carol@example.com>"));
    world.receive(bob.address, &moved);
    let leg = world.request("INVITE");
    assert_eq!(leg.uri(), "sip:carol@10.0.0.3:5060");
    let back = carol.respond(&leg, 302, "c", "", "");
    let back = crate::phone::Text(back.0.replace(&carol.contact(), "<sip:bob@example.com>"));
    world.receive(carol.address, &back);
    assert_eq!(world.response(480).method(), "INVITE");
    assert_eq!(world.each_cdr(|cdr| cdr.status), [302, 302, 480]);
    world.expect_nothing_left();
}

#[test]
fn a_redirection_may_be_the_scripts_or_the_callers() {
    let moved_to = |world: &mut World, alice: &Phone, bob: &Phone| {
        world.receive(alice.address, &alice.invite("sip:x@example.com"));
        let leg = world.request("INVITE");
        let moved = bob.respond(&leg, 302, "b", "", "");
        let moved = crate::phone::Text(moved.0.replace(&bob.contact(), "<sip:zoe@example.org>"));
        world.receive(bob.address, &moved);
    };
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let plan = r#"if sys.dial("bob@example.com[redirect=script]") == REDIRECT { sys.respond(480, "Moved"); }"#;
    world.plan("alice", false, true, plan);
    moved_to(&mut world, &alice, &bob);
    assert!(world.response(480).0.starts_with("SIP/2.0 480 Moved"));
    let mut world = World::new();
    world.plan("alice", false, true, r#"sys.dial("bob@example.com[redirect=pass]");"#);
    moved_to(&mut world, &alice, &bob);
    assert_eq!(world.response(302).contact(), "sip:zoe@example.org");
}

#[test]
fn bounds_are_kept() {
    let bounded = |settings: &mut appserver::Settings| {
        settings.max_calls = 3;
        settings.max_calls_per_user = 2;
        settings.max_legs = 1;
    };
    let (mut world, alice, carol) = (World::with(bounded), alice(), carol());
    world.bind("bob", "10.0.0.4:5060");
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    assert_eq!(world.log(), ["SIP/2.0 100 Trying", "INVITE sip:bob@10.0.0.2:5060 SIP/2.0"], "one leg and no more");
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    world.log();
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    world.response(486);
    world.receive(carol.address, &carol.invite("sip:bob@example.com"));
    world.log();
    world.receive(carol.address, &carol.invite("sip:bob@example.com"));
    assert_eq!(world.response(503).header("Retry-After"), "5");
    world.wait(40.0);
    world.app.drain(true);
    world.log();
    world.receive(carol.address, &carol.invite("sip:bob@example.com"));
    world.response(503);
    world.expect_nothing_left();
}

#[test]
fn a_script_that_loops_yields_and_another_call_goes_on() {
    let (mut world, alice, carol) = (World::new(), alice(), carol());
    world.plan("alice", false, true, "loop { }");
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    assert_eq!(world.log(), ["SIP/2.0 100 Trying"]);
    assert!(world.app.is_ready());
    world.receive(carol.address, &carol.invite("sip:bob@example.com"));
    world.request("INVITE");
    for _ in 0..1000 {
        world.slices();
    }
    assert_eq!(world.response(500).tag("From"), "alice1");
}

#[test]
fn bindings_may_come_later() {
    let (mut world, alice) = (World::new(), alice());
    world.around.answers_later = true;
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    assert_eq!(world.log(), ["SIP/2.0 100 Trying"]);
    world.answer_questions();
    assert_eq!(world.request("INVITE").uri(), "sip:bob@10.0.0.2:5060");
}

#[test]
fn a_probe_runs_a_script() {
    let (mut world, proxy) = (World::new(), Phone::new("proxy", "example.com", "192.0.2.1:5060"));
    world.receive(proxy.address, &proxy.request("INVITE", "sip:probe@192.0.2.1:5060", "", SDP_A));
    world.response(420);
    world.receive(proxy.address, &proxy.request("OPTIONS", "sip:192.0.2.1:5060", "", ""));
    world.response(200);
    world.expect_nothing_left();
}

#[test]
fn a_call_is_handed_to_another_application_server_with_its_owner() {
    let (mut world, alice) = (World::with(|settings| settings.authenticate = true), alice());
    world.around.trusted.push("10.0.0.1".parse().unwrap());
    world.plan("alice", false, true, r#"sys.forward("edge");"#);
    world.receive(alice.address, &alice.invite("sip:bob@example.com"));
    let handed = world.request("INVITE");
    assert_eq!(handed.header("Route"), "<sip:edge@192.0.2.1:5060;lr>");
    // As edge sees it: the owner is known, and nobody has to prove anything. Edge runs the owner's plan too.
    let mut edge = World::with(|settings| settings.authenticate = true);
    edge.receive("192.0.2.1:5060", &handed.text);
    let leg = edge.request("INVITE");
    assert_eq!(leg.uri(), "sip:bob@10.0.0.2:5060");
    assert_eq!(edge.app.calls().next().map(|call| call.user), Some("alice@example.com".into()));
    // There the same plan goes on.
    let mut stable = World::with(|settings| settings.authenticate = true);
    stable.plan("alice", false, true, r#"sys.forward("stable"); sys.dial("carol");"#);
    stable.receive("192.0.2.1:5060", &handed.text);
    assert_eq!(stable.request("INVITE").uri(), "sip:carol@10.0.0.3:5060");
    // Nobody else can write that.
    let forged = handed.0.replace(&handed.header("Call-ID"), "another");
    let mut edge = World::with(|settings| settings.authenticate = true);
    edge.receive("192.0.2.1:5060", &crate::phone::Text(forged));
    edge.response(407);
}

#[test]
fn a_message_goes_to_the_best_binding_and_then_to_the_next() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    world.bind("bob", "10.0.0.4:5060");
    let message = alice.request("MESSAGE", "sip:bob@example.com", "", "hello");
    world.receive(alice.address, &message);
    let relayed = world.request("MESSAGE");
    assert_eq!((relayed.uri(), relayed.body()), ("sip:bob@10.0.0.2:5060".into(), "hello".into()));
    world.expect_silence();
    world.receive(bob.address, &bob.respond(&relayed, 480, "b", "", ""));
    let next = world.request("MESSAGE");
    assert_eq!(next.uri(), "sip:bob@10.0.0.4:5060");
    world.receive("10.0.0.4:5060", &bob.respond(&next, 200, "b", "", ""));
    let answer = world.response(200);
    assert_eq!((answer.header("Via").contains("z9hG4bKalice"), answer.tag("To")), (true, "b".into()));
    world.receive(alice.address, &alice.request("MESSAGE", "sip:nobody@example.com", "", "hello"));
    world.response(404);
    world.expect_nothing_left();
}

#[test]
fn a_subscription_may_ring_all_bindings() {
    let (mut world, alice, bob) = (World::with(|settings| settings.relay_to_all = true), alice(), bob());
    world.bind("bob", "10.0.0.4:5060");
    world.receive(alice.address, &alice.request("SUBSCRIBE", "sip:bob@example.com", "Event: presence\r\n", ""));
    let (first, second) = (world.request("SUBSCRIBE"), world.request("SUBSCRIBE"));
    world.receive(bob.address, &bob.respond(&first, 489, "b", "", ""));
    world.expect_silence();
    world.receive("10.0.0.4:5060", &bob.respond(&second, 200, "b2", "Expires: 60\r\n", ""));
    assert_eq!(world.response(200).header("Expires"), "60");
}
