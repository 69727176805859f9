//! Calls through the application server, one by one, in fair weather.

use crate::{
    network::Weather,
    phone::Outcome,
    script::{Act, Script},
    server::PASSWORD,
    simulation::Simulation,
};

/// Alice, bob, and carol, at one application server.
pub fn three_phones() -> (Simulation, [usize; 3]) {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |_| ());
    let phones = ["alice", "bob", "carol"].map(|name| simulation.phone(name));
    (simulation, phones)
}

#[test]
fn media_goes_between_the_phones() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    simulation.call(0, alice, "sip:bob@example.com", Script::new().talking(1000, Act::HangUp));
    simulation.finish();
    for (phone, peer) in [(alice, bob), (bob, alice)] {
        assert_eq!(simulation.only_call(phone).media, Some(simulation.phones[peer].address.ip()));
    }
}

#[test]
fn the_callee_may_hang_up() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::answers(500).talking(1000, Act::HangUp));
    simulation.call(0, alice, "sip:bob@example.com", Script::new());
    simulation.finish();
    assert_eq!(simulation.only_call(alice).outcome, Some(Outcome::HungUpByPeer));
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::HungUp));
}

#[test]
fn hold_and_resume_reach_the_other_phone() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    let script = Script::new().talking(1000, Act::Hold).talking(5000, Act::HangUp);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    assert!(simulation.only_call(bob).is_held);
    assert_eq!(simulation.only_call(bob).received, ["INVITE", "BYE"]);

    let (mut simulation, [alice, bob, _]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::answers(500).talking(1000, Act::Hold).talking(3000, Act::Resume));
    simulation.call(0, alice, "sip:bob@example.com", Script::new().talking(5000, Act::HangUp));
    simulation.finish();
    assert!(!simulation.only_call(alice).is_held);
    assert_eq!(simulation.only_call(alice).received, ["INVITE", "INVITE"]);
}

#[test]
fn re_invites_that_cross_are_tried_again() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::answers(500).talking(990, Act::Hold));
    let script = Script::new().talking(1000, Act::Hold).talking(20_000, Act::HangUp);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    assert!(simulation.ladder.to_string().contains("491 to INVITE"), "{}", simulation.ladder);
    assert!(simulation.only_call(alice).is_held && simulation.only_call(bob).is_held);
}

#[test]
fn reliable_provisional_responses_are_acknowledged_end_to_end() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    simulation.phones[bob].on_call(|_| {
        let script = Script::new().reliably().at_start(100, Act::Progress(180)).at_start(300, Act::Progress(183));
        script.at_start(1000, Act::Answer)
    });
    let script = Script::new().reliably().talking(1000, Act::HangUp);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    assert_eq!(simulation.only_call(bob).received, ["PRACK", "PRACK", "BYE"]);
}

#[test]
fn update_and_info_are_passed_through() {
    let (mut simulation, [alice, bob, _]) = three_phones();
    let script = Script::new().talking(500, Act::Update).talking(1000, Act::Info).talking(2000, Act::HangUp);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    assert_eq!(simulation.only_call(bob).received, ["UPDATE", "INFO", "BYE"]);
}

#[test]
fn the_first_of_two_phones_to_answer_has_the_call() {
    let (mut simulation, [alice, bob, carol]) = three_phones();
    let address = simulation.phones[carol].address;
    simulation.server().bind("bob", address, 1000);
    simulation.phones[bob].on_call(|_| Script::answers(3000));
    simulation.phones[carol].on_call(|_| Script::answers(1000));
    simulation.call(0, alice, "sip:bob@example.com", Script::new().talking(1000, Act::HangUp));
    simulation.finish();
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::Refused(487)));
    assert_eq!(simulation.only_call(carol).outcome, Some(Outcome::HungUpByPeer));
}

#[test]
fn an_answered_call_survives_the_death_of_its_application_server() {
    for (caller_hangs_up, re_invites) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut simulation, [alice, bob, _]) = three_phones();
        let [hold, hang_up] = [Act::Hold, Act::HangUp];
        let script = if re_invites { Script::new().talking(5000, hold) } else { Script::new() };
        let (mine, theirs) = if caller_hangs_up {
            (script.talking(9000, hang_up), Script::answers(500))
        } else {
            (script, Script::answers(500).talking(9000, hang_up))
        };
        simulation.phones[bob].on_call(move |_| theirs.clone());
        simulation.call(0, alice, "sip:bob@example.com", mine);
        simulation.kill(3000);
        simulation.finish();
        let outcomes = [alice, bob].map(|phone| simulation.only_call(phone).outcome);
        let (first, second) = (Some(Outcome::HungUp), Some(Outcome::HungUpByPeer));
        assert_eq!(outcomes, if caller_hangs_up { [first, second] } else { [second, first] });
        assert_eq!(simulation.only_call(bob).is_held, re_invites);
    }
}

/// Alice's plan allows transfers, and bob, when she calls him, refers her to carol and then hangs up.
fn with_a_transfer() -> (Simulation, [usize; 3]) {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |settings| settings.authenticate = true);
    let phones = ["alice", "bob", "carol"].map(|name| simulation.phone(name));
    simulation.server().out_plan("alice", r#"sys.dial("bob [refer=place]");"#);
    simulation.phones[phones[1]].on_call(|_| {
        let refer = Act::Refer("<sip:carol@example.com>".to_owned());
        Script::answers(500).talking(1000, refer).talking(6000, Act::HangUp)
    });
    (simulation, phones)
}

#[test]
fn a_transfer_that_the_plan_allows_joins_the_caller_and_the_third_phone() {
    let (mut simulation, [alice, bob, carol]) = with_a_transfer();
    let script = Script::new().with_password(PASSWORD).talking(15_000, Act::HangUp);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    for (phone, peer) in [(alice, carol), (carol, alice)] {
        assert_eq!(simulation.only_call(phone).media, Some(simulation.phones[peer].address.ip()));
    }
    assert_eq!(simulation.only_call(carol).outcome, Some(Outcome::HungUpByPeer));
    assert!(simulation.only_call(bob).received.contains(&"NOTIFY".to_owned()));
}

#[test]
fn an_ack_to_the_re_invite_that_joins_a_transfer_is_sent_again_if_it_is_lost() {
    let (mut simulation, [alice, _, carol]) = with_a_transfer();
    simulation.phones[carol].on_call(|_| Script::answers(500).talking(60_000, Act::HangUp));
    simulation.lose(alice, "1 ACK");
    simulation.call(0, alice, "sip:bob@example.com", Script::new().with_password(PASSWORD));
    simulation.finish();
    let outcomes = [alice, carol].map(|phone| simulation.only_call(phone).outcome);
    assert_eq!(outcomes, [Some(Outcome::HungUpByPeer), Some(Outcome::HungUp)]);
}
