//! The session flows of RFC 3665, sections 3.1 to 3.11, through the application server: it stands where the RFC's proxies
//! stand. Each flow's ladder is a text in `tests/sim/ladders`, written anew where `UPDATE=1` is set.

use crate::{
    network::Weather,
    phone::Outcome,
    script::{Act, Script},
    server::PASSWORD,
    simulation::Simulation,
};

const BOB: &str = "sip:bob@example.com";

fn alice_and_bob() -> (Simulation, usize, usize) {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |_| ());
    let (alice, bob) = (simulation.phone("alice"), simulation.phone("bob"));
    (simulation, alice, bob)
}

/// The same, where callers must prove who they are.
fn strictly() -> (Simulation, usize, usize) {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |settings| settings.authenticate = true);
    let (alice, bob) = (simulation.phone("alice"), simulation.phone("bob"));
    (simulation, alice, bob)
}

#[track_caller]
fn ends(simulation: &mut Simulation, ladder: &str, [caller, callee]: [(usize, Outcome); 2]) {
    simulation.finish();
    for (phone, outcome) in [caller, callee] {
        let ended = simulation.phones[phone].calls.last().and_then(|call| call.outcome);
        if ended != Some(outcome) {
            simulation.fail(&[format!("{}'s call ended as {ended:?}", simulation.phones[phone].name)]);
        }
    }
    simulation.ladder.is_that_of(ladder);
}

#[test]
fn s3_1_successful_session_establishment() {
    let (mut simulation, alice, bob) = alice_and_bob();
    simulation.phones[bob].on_call(|_| Script::answers(1000).talking(3000, Act::HangUp));
    simulation.call(0, alice, BOB, Script::new());
    ends(&mut simulation, "3.1.txt", [(alice, Outcome::HungUpByPeer), (bob, Outcome::HungUp)]);
}

#[test]
fn s3_2_session_establishment_through_two_proxies() {
    // The first proxy asks who the caller is.
    let (mut simulation, alice, bob) = strictly();
    simulation.phones[bob].on_call(|_| Script::answers(1000).talking(3000, Act::HangUp));
    simulation.call(0, alice, BOB, Script::new().with_password(PASSWORD));
    ends(&mut simulation, "3.2.txt", [(alice, Outcome::HungUpByPeer), (bob, Outcome::HungUp)]);
}

#[test]
fn s3_3_session_with_multiple_proxy_authentication() {
    // The application server asks the caller, and is asked itself by the provider that it calls through.
    let (mut simulation, alice, bob) = strictly();
    let host = simulation.phones[bob].address.to_string();
    simulation.server().provider("alice", "biloxi", &host);
    simulation.server().out_plan("alice", r#"sys.dial("bob@biloxi");"#);
    let mut calls = 0;
    simulation.phones[bob].on_call(move |_| {
        calls += 1;
        if calls == 1 { Script::new().at_start(0, Act::Challenge) } else { Script::answers(1000) }
    });
    let script = Script::new().with_password(PASSWORD).talking(3000, Act::HangUp);
    simulation.call(0, alice, BOB, script);
    ends(&mut simulation, "3.3.txt", [(alice, Outcome::HungUp), (bob, Outcome::HungUpByPeer)]);
    let [challenged, answered] = &simulation.phones[bob].calls[..] else { panic!("bob is called twice") };
    assert_eq!(challenged.outcome, Some(Outcome::Refused(407)));
    let invite = String::from_utf8_lossy(&answered.invite);
    assert!(invite.contains("Proxy-Authorization: Digest ") && invite.contains("realm=\"provider\""), "{invite}");
}

#[test]
fn s3_4_successful_session_with_proxy_failure() {
    // The first provider is dead; when its INVITE has timed out the plan takes the second.
    let (mut simulation, alice, bob) = strictly();
    let dead = simulation.phone("dead");
    for (name, phone) in [("one", dead), ("two", bob)] {
        let host = simulation.phones[phone].address.to_string();
        simulation.server().provider("alice", name, &host);
    }
    simulation.unplug(dead);
    simulation.server().out_plan("alice", r#"sys.dial("bob@one | bob@two");"#);
    let script = Script::new().with_password(PASSWORD).talking(3000, Act::HangUp);
    simulation.call(0, alice, BOB, script);
    ends(&mut simulation, "3.4.txt", [(alice, Outcome::HungUp), (bob, Outcome::HungUpByPeer)]);
}

#[test]
fn s3_5_session_through_a_sip_alg() {
    // Alice's phone is behind a NAT and describes media at a private address: bob reads the one that she is seen at.
    let (mut simulation, alice, bob) = strictly();
    simulation.phones[alice].media = [10, 0, 0, 1].into();
    simulation.server().out_plan("alice", r#"sys.dial("bob [mangle=on]");"#);
    let script = Script::new().with_password(PASSWORD).talking(3000, Act::HangUp);
    simulation.call(0, alice, BOB, script);
    ends(&mut simulation, "3.5.txt", [(alice, Outcome::HungUp), (bob, Outcome::HungUpByPeer)]);
    assert_eq!(simulation.only_call(bob).media, Some(simulation.phones[alice].address.ip()));
    let invite = String::from_utf8_lossy(&simulation.only_call(bob).invite);
    assert!(!invite.contains("10.0.0.1"), "{invite}");
}

#[test]
fn s3_6_session_via_redirect_and_proxy_servers_with_sdp_in_ack() {
    let (mut simulation, alice, bob) = alice_and_bob();
    let chicago = simulation.phone("chicago");
    let elsewhere = format!("<sip:bob@{}>", simulation.phones[chicago].address);
    simulation.phones[bob].on_call(move |_| Script::new().at_start(0, Act::Redirect(elsewhere.clone())));
    simulation.phones[chicago].on_call(|_| Script::answers(1000).talking(3000, Act::HangUp));
    simulation.call(0, alice, BOB, Script::new().with_late_offer());
    ends(&mut simulation, "3.6.txt", [(alice, Outcome::HungUpByPeer), (chicago, Outcome::HungUp)]);
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::Refused(302)));
    // The answer was in the ACK.
    assert_eq!(simulation.only_call(chicago).media, Some(simulation.phones[alice].address.ip()));
    assert_eq!(simulation.only_call(alice).media, Some(simulation.phones[chicago].address.ip()));
}

#[test]
fn s3_7_session_with_re_invite_and_change_of_address() {
    let (mut simulation, alice, bob) = alice_and_bob();
    let chicago = ([198, 51, 100, 9], 5060).into();
    simulation.extend(bob, chicago);
    simulation.phones[bob].on_call(move |_| Script::answers(1000).talking(2000, Act::Move(chicago)));
    simulation.call(0, alice, BOB, Script::new().talking(5000, Act::HangUp));
    ends(&mut simulation, "3.7.txt", [(alice, Outcome::HungUp), (bob, Outcome::HungUpByPeer)]);
    assert_eq!(simulation.only_call(alice).media, Some(chicago.ip()));
}

#[test]
fn s3_8_unsuccessful_no_answer() {
    let (mut simulation, alice, bob) = alice_and_bob();
    simulation.phones[bob].on_call(|_| Script::new().at_start(100, Act::Progress(180)));
    simulation.call(0, alice, BOB, Script::new().ringing(5000, Act::Cancel));
    ends(&mut simulation, "3.8.txt", [(alice, Outcome::Refused(487)), (bob, Outcome::Refused(487))]);
}

#[test]
fn s3_9_unsuccessful_busy() {
    let (mut simulation, alice, bob) = alice_and_bob();
    simulation.phones[bob].on_call(|_| Script::new().at_start(50, Act::Refuse(486)));
    simulation.call(0, alice, BOB, Script::new());
    ends(&mut simulation, "3.9.txt", [(alice, Outcome::Refused(486)), (bob, Outcome::Refused(486))]);
}

#[test]
fn s3_10_unsuccessful_no_response_from_user_agent() {
    let (mut simulation, alice, bob) = alice_and_bob();
    simulation.unplug(bob);
    simulation.call(0, alice, BOB, Script::new());
    simulation.finish();
    assert!(matches!(simulation.only_call(alice).outcome, Some(Outcome::Refused(408 | 480))));
    simulation.ladder.is_that_of("3.10.txt");
}

#[test]
fn s3_11_unsuccessful_temporarily_unavailable() {
    let (mut simulation, alice, bob) = alice_and_bob();
    simulation.phones[bob].on_call(|_| Script::refuses(2000, 480));
    simulation.call(0, alice, BOB, Script::new());
    ends(&mut simulation, "3.11.txt", [(alice, Outcome::Refused(480)), (bob, Outcome::Refused(480))]);
}
