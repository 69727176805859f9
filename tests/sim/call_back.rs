//! Calls back: in every order of answers, refusals and hang-ups no party is left alone, and each hears the other.

use crate::{
    network::{Rng, Weather},
    phone::Outcome,
    script::{Act, Script},
    simulation::{Simulation, seeds},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How long a call may be where nobody ends it: longer than all else takes.
const LONGEST: Duration = Duration::from_secs(600);

/// Alice, in whose name bob and then carol are called; in fair weather. Nothing ends a call that its parties do not end.
fn three_phones() -> (Simulation, [usize; 3]) {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |settings| settings.max_call_secs = 0);
    let phones = ["alice", "bob", "carol"].map(|name| simulation.phone(name));
    (simulation, phones)
}

/// What bob and carol do when they are called back.
fn called_back(first: Script, second: Script) -> (Simulation, [usize; 2]) {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(move |_| first.clone());
    simulation.phones[carol].on_call(move |_| second.clone());
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.finish();
    (simulation, [bob, carol])
}

fn outcomes(simulation: &Simulation, phones: [usize; 2]) -> [Option<Outcome>; 2] {
    phones.map(|phone| simulation.only_call(phone).outcome)
}

fn media(simulation: &Simulation, phones: [usize; 2]) -> [(Option<IpAddr>, u16); 2] {
    phones.map(|phone| (simulation.only_call(phone).media, simulation.only_call(phone).peer_port))
}

/// Where each of them wants its media, the second one's first: what the other must have heard.
fn wanted(simulation: &Simulation, [first, second]: [usize; 2]) -> [(Option<IpAddr>, u16); 2] {
    [second, first].map(|phone| (Some(simulation.phones[phone].media), simulation.only_call(phone).port()))
}

#[test]
fn two_parties_are_called_and_hear_each_other() {
    for second_hangs_up in [false, true] {
        let hang_up = |script: Script| script.talking(8000, Act::HangUp);
        let (first, second) = (Script::answers(500), Script::answers(500));
        let (first, second) = if second_hangs_up { (first, hang_up(second)) } else { (hang_up(first), second) };
        let (simulation, parties) = called_back(first, second);
        simulation.ladder.is_that_of(if second_hangs_up { "call_back" } else { "call_back_first_hangs_up" });
        assert_eq!(media(&simulation, parties), wanted(&simulation, parties));
        let [mine, theirs] = [Some(Outcome::HungUp), Some(Outcome::HungUpByPeer)];
        assert_eq!(outcomes(&simulation, parties), if second_hangs_up { [theirs, mine] } else { [mine, theirs] });
        assert_eq!(simulation.only_call(parties[0]).received[0], "INVITE");
        assert!(parties.iter().all(|&party| !simulation.only_call(party).is_held));
        // RFC 3264 §8: it is one session to him, counted up.
        let [(_, version)] = simulation.only_call(parties[0]).sessions[..] else {
            panic!("{:?}", simulation.only_call(parties[0]).sessions)
        };
        assert!(version > 1);
    }
}

#[test]
fn a_first_party_who_refuses_ends_it() {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::refuses(500, 486));
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.run();
    let told = simulation.server().app.take_reports();
    assert_eq!(*told[0].trace, ["the first party was not reached: 486 Busy Here".into()]);
    simulation.finish();
    assert!(simulation.phones[carol].calls.is_empty());
}

#[test]
fn a_second_party_who_refuses_ends_the_first_ones_call_with_the_reason() {
    let (simulation, [bob, carol]) = called_back(Script::answers(500), Script::refuses(500, 486));
    assert_eq!(outcomes(&simulation, [bob, carol]), [Some(Outcome::HungUpByPeer), Some(Outcome::Refused(486))]);
    let reason = simulation.only_call(bob).reason.as_deref();
    assert_eq!(reason, Some("SIP ;cause=486 ;text=\"the other party was not reached\""));
}

#[test]
fn a_second_party_who_never_answers_ends_it_too() {
    let rings = Script::new().at_start(100, Act::Progress(180));
    let (simulation, [bob, carol]) = called_back(Script::answers(500), rings);
    assert_eq!(outcomes(&simulation, [bob, carol]), [Some(Outcome::HungUpByPeer), Some(Outcome::Refused(487))]);
    assert!(simulation.only_call(bob).reason.as_deref().is_some_and(|reason| reason.contains("cause=480")));
}

#[test]
fn a_first_party_who_hangs_up_takes_the_call_of_the_second_with_him() {
    let (simulation, parties) = called_back(Script::answers(500).talking(1000, Act::HangUp), Script::answers(5000));
    assert_eq!(outcomes(&simulation, parties), [Some(Outcome::HungUp), Some(Outcome::Refused(487))]);
}

#[test]
fn a_first_party_who_hangs_up_as_the_second_answers_leaves_nobody_alone() {
    for millis in (400..700).step_by(10) {
        let first = Script::answers(500).talking(millis, Act::HangUp);
        let (simulation, parties) = called_back(first, Script::answers(500));
        assert_eq!(outcomes(&simulation, parties)[0], Some(Outcome::HungUp), "{millis}");
        let second = outcomes(&simulation, parties)[1];
        assert!(matches!(second, Some(Outcome::Refused(487) | Outcome::HungUpByPeer)), "{millis} {second:?}");
    }
}

#[test]
fn a_second_party_who_hangs_up_at_once_leaves_nobody_alone() {
    for millis in (0..100).step_by(5) {
        let (simulation, parties) =
            called_back(Script::answers(500), Script::answers(500).talking(millis, Act::HangUp));
        assert_eq!(outcomes(&simulation, parties), [Some(Outcome::HungUpByPeer), Some(Outcome::HungUp)], "{millis}");
    }
}

#[test]
fn an_answer_that_crosses_the_bye_is_acknowledged() {
    let mut crossed = 0;
    for millis in 0..40 {
        let (mut simulation, [_, bob, carol]) = three_phones();
        simulation.phones[bob].on_call(|_| Script::answers(500));
        simulation.phones[carol].on_call(move |_| Script::answers(500).talking(millis, Act::HangUp));
        simulation.delay_re_invites_to(bob, 30);
        simulation.call_back(0, "alice", "bob", "carol");
        simulation.finish();
        let ladder = simulation.ladder.to_string();
        let place = |what: &str| ladder.lines().position(|line| line.contains(what));
        if place("200 to INVITE 2").is_some() {
            assert!(place("ACK 2").is_some(), "{ladder}");
            crossed += u32::from(place("ringswitch -> bob         #1 BYE") < place("ACK 2"));
        }
    }
    assert!(crossed > 0);
}

#[test]
fn a_second_party_who_hangs_up_before_the_first_has_heard_of_him_leaves_nobody_alone() {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::answers(500));
    simulation.phones[carol].on_call(|_| Script::answers(500).talking(100, Act::HangUp));
    simulation.delay_re_invites_to(bob, 400);
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.finish();
    assert_eq!(outcomes(&simulation, [bob, carol]), [Some(Outcome::HungUpByPeer), Some(Outcome::HungUp)]);
    assert!(simulation.only_call(bob).reason.is_some());
}

#[test]
fn an_ack_to_the_joining_that_is_lost_is_sent_again() {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(|_| Script::answers(500));
    simulation.phones[carol].on_call(|_| Script::answers(500).talking(60_000, Act::HangUp));
    simulation.lose(bob, "2 ACK");
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.finish();
    assert_eq!(outcomes(&simulation, [bob, carol]), [Some(Outcome::HungUpByPeer), Some(Outcome::HungUp)]);
}

#[test]
fn a_party_who_has_fewer_codecs_the_second_time_is_no_news_to_the_other() {
    let first = Script::answers(500).with_formats("0 8 9").with_fewer_formats("0");
    let second = Script::answers(500).talking(5000, Act::HangUp);
    let (simulation, [_, carol]) = called_back(first, second);
    assert!(!simulation.only_call(carol).received.contains(&"INVITE".to_owned()));
}

#[test]
fn re_invites_that_cross_the_joining_are_seen_to() {
    for millis in (450..700).step_by(10) {
        let first = Script::answers(500).talking(millis, Act::Hold).talking(millis + 3000, Act::Resume);
        let second = Script::answers(500).talking(5, Act::Resume).talking(20_000, Act::HangUp);
        let (simulation, parties) = called_back(first, second);
        assert_eq!(media(&simulation, parties), wanted(&simulation, parties), "{millis}\n{}", simulation.ladder);
    }
}

#[test]
fn a_party_who_answers_with_other_media_is_heard_there() {
    for (one, other) in [(true, false), (true, true)] {
        let wandering = |script: Script, wanders| if wanders { script.wandering() } else { script };
        let first = wandering(Script::answers(500), one);
        let second = wandering(Script::answers(500), other).talking(8000, Act::HangUp);
        let (simulation, parties) = called_back(first, second);
        assert!(simulation.only_call(parties[0]).port() > 49170);
        if !other {
            assert_eq!(media(&simulation, parties), wanted(&simulation, parties));
        }
    }
}

#[test]
fn a_second_party_who_lacks_a_codec_is_called_without_it() {
    let first = Script::answers(500).with_formats("0 8 9");
    let second = Script::answers(500).lacking("9").talking(5000, Act::HangUp);
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(move |_| first.clone());
    simulation.phones[carol].on_call(move |_| second.clone());
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.finish();
    let tries: Vec<_> = simulation.phones[carol].calls.iter().map(|call| call.outcome).collect();
    assert_eq!(tries, [Some(Outcome::Refused(488)), Some(Outcome::HungUp)]);
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::HungUpByPeer));
}

#[test]
fn a_first_party_who_lacks_a_codec_is_offered_the_others() {
    // He answers with what he has, and is offered more.
    let first = Script::answers(500).with_formats("0 8").lacking("18");
    let second = Script::answers(500).with_formats("0 18").talking(5000, Act::HangUp);
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.phones[bob].on_call(move |_| {
        // The placeholder is none of his codecs' business.
        Script { lacks: None, ..first.clone() }
    });
    simulation.phones[carol].on_call(move |_| second.clone());
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.finish();
    assert_eq!(simulation.only_call(carol).outcome, Some(Outcome::HungUp));
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::HungUpByPeer));
}

#[test]
fn parties_without_a_codec_in_common_are_told_so() {
    let first = Script::answers(500).with_formats("0");
    let (simulation, [bob, carol]) = called_back(first, Script::answers(500).lacking("0"));
    assert_eq!(outcomes(&simulation, [bob, carol]), [Some(Outcome::HungUpByPeer), Some(Outcome::Refused(488))]);
    assert!(simulation.only_call(bob).reason.as_deref().is_some_and(|reason| reason.contains("cause=488")));
}

#[test]
fn a_restart_ends_what_is_not_joined_and_keeps_what_is() {
    for (millis, is_joined) in [(1500, false), (6000, true)] {
        let (mut simulation, [_, bob, carol]) = three_phones();
        simulation.phones[bob].on_call(|_| Script::answers(500));
        simulation.phones[carol].on_call(|_| Script::answers(3000).talking(9000, Act::HangUp));
        simulation.call_back(0, "alice", "bob", "carol");
        simulation.kill(millis);
        if !is_joined {
            // The second party's phone hears nothing more; its user gives up.
            simulation.phones[carol].on_call(|_| Script::refuses(6000, 486));
        }
        simulation.finish();
        let call = simulation.only_call(bob);
        assert_eq!(call.outcome, Some(Outcome::HungUpByPeer));
        let reason = call.reason.as_deref().unwrap_or_default();
        assert_eq!(reason.contains("the call back was interrupted"), !is_joined, "{reason}");
    }
}

#[test]
fn a_plan_calls_back_who_has_hung_up() {
    let mut simulation = Simulation::with_server(1, Weather::fair(), |settings| settings.authenticate = true);
    let [alice, bob] = ["alice", "bob"].map(|name| simulation.phone(name));
    simulation.server().out_plan("alice", r#"sys.callback("alice", "bob", #{ delay: 2 }); sys.respond(486);"#);
    simulation.phones[alice].on_call(|_| Script::answers(500));
    simulation.phones[bob].on_call(|_| Script::answers(500).talking(5000, Act::HangUp));
    let script = Script::new().with_password(crate::server::PASSWORD);
    simulation.call(0, alice, "sip:bob@example.com", script);
    simulation.finish();
    let outcomes: Vec<_> = simulation.phones[alice].calls.iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Refused(486)), Some(Outcome::HungUpByPeer)]);
    assert_eq!(simulation.phones[alice].calls[1].media, Some(simulation.phones[bob].media));
}

/// The same with packets in each other's name, and what the log was told.
fn impersonated(first: Script, second: Script) -> (Simulation, [usize; 2], Vec<Box<str>>) {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.impersonating();
    simulation.phones[bob].on_call(move |_| first.clone());
    simulation.phones[carol].on_call(move |_| second.clone());
    simulation.call_back(0, "alice", "bob", "carol");
    simulation.run();
    let told = simulation.server().app.take_reports().into_iter().flat_map(|report| report.trace).collect();
    simulation.finish();
    (simulation, [bob, carol], told)
}

#[test]
fn each_party_hears_packets_that_seem_to_come_from_the_other_once_both_are_acknowledged() {
    let second = Script::answers(500).talking(8000, Act::HangUp);
    let (simulation, [bob, carol], told) = impersonated(Script::answers(500), second);
    simulation.ladder.is_that_of("call_back_impersonated");
    assert_eq!(told, ["both parties are joined".into()]);
    let [to_first, to_second] = &simulation.impersonations.values().next().expect("there is one")[..] else { panic!() };
    let [first, second] = [bob, carol].map(|phone| {
        let port = simulation.only_call(phone).port();
        SocketAddr::new(simulation.phones[phone].media, port)
    });
    assert_eq!((to_first.source(), to_first.destination(), to_first.leg()), (second, first, 1));
    assert_eq!((to_second.source(), to_second.destination(), to_second.leg()), (first, second, 2));
    for wanted in [to_first, to_second] {
        assert_eq!((wanted.user(), wanted.silence().encoding()), ("alice@example.com", callback::Encoding::Pcmu));
    }
    assert_eq!(simulation.stopped.len(), 1);
    assert_eq!(simulation.stopped[0].0, to_first.call());
}

#[test]
fn nothing_is_impersonated_before_both_are_joined() {
    let (refused, ..) = impersonated(Script::answers(500), Script::refuses(500, 486));
    let (left, ..) = impersonated(Script::answers(500).talking(200, Act::HangUp), Script::answers(500));
    for simulation in [refused, left] {
        assert!(simulation.impersonations.is_empty(), "{}", simulation.ladder);
    }
}

#[test]
fn what_is_put_right_for_phones_behind_a_nat_is_not_impersonated() {
    let (mut simulation, [_, bob, carol]) = three_phones();
    simulation.impersonating();
    simulation.phones[bob].on_call(|_| Script::answers(500));
    simulation.phones[carol].on_call(|_| Script::answers(500).talking(2000, Act::HangUp));
    simulation.call_back(0, "alice", "bob", "carol[mangle=on]");
    simulation.run();
    let told: Vec<_> = simulation.server().app.take_reports().into_iter().flat_map(|report| report.trace).collect();
    simulation.finish();
    assert!(simulation.impersonations.is_empty() && told[1].contains("mangle=on"), "{told:?}");
}

#[test]
fn an_address_that_has_changed_since_the_answer_is_not_impersonated() {
    for (one, other) in [(true, false), (true, true)] {
        let wandering = |script: Script, wanders| if wanders { script.wandering() } else { script };
        let second = wandering(Script::answers(500), other).talking(8000, Act::HangUp);
        let (simulation, _, told) = impersonated(wandering(Script::answers(500), one), second);
        assert!(simulation.impersonations.is_empty());
        assert!(told[1].contains("the address of the first party has changed since it answered"), "{told:?}");
    }
}

#[test]
fn nor_is_the_second_partys_where_he_is_told_of_a_codec_less_and_answers_from_elsewhere() {
    let first = Script::answers(500).with_formats("0 8").with_fewer_formats("8");
    let second = Script::answers(500).with_formats("0 8").wandering().talking(8000, Act::HangUp);
    let (simulation, _, told) = impersonated(first, second);
    assert!(simulation.impersonations.is_empty());
    assert!(told[1].contains("the address of the second party has changed since it answered"), "{told:?}");
}

#[test]
fn who_takes_no_codec_whose_silence_is_known_hears_nothing() {
    let second = || Script::answers(500).talking(8000, Act::HangUp);
    for (first, why) in [("18", "no codec whose silence is known"), ("0", "")] {
        let (simulation, _, told) = impersonated(Script::answers(500).with_formats(first), second());
        assert_eq!(simulation.impersonations.is_empty(), !why.is_empty(), "{told:?}");
        assert!(why.is_empty() || told[1].contains(why), "{told:?}");
    }
}

#[test]
fn packets_stop_with_the_call_and_with_the_next_offer() {
    for act in [Act::HangUp, Act::Hold, Act::Update] {
        let first = Script::answers(500).talking(1000, act.clone()).talking(9000, Act::HangUp);
        let (simulation, ..) = impersonated(first, Script::answers(500));
        let [(call, at)] = simulation.stopped[..] else { panic!("{:?}", simulation.stopped) };
        assert!(simulation.impersonations.contains_key(&call));
        // Long before the end of the call, but for the first one.
        assert!(at < Duration::from_secs(3), "{act:?} {at:?}");
    }
}

#[test]
fn ten_thousand_calls_back_leave_nobody_alone_in_any_weather() {
    let mut impersonated = 0;
    for seed in seeds(250) {
        let mut simulation = Simulation::with_server(seed, Weather::foul(), |settings| {
            settings.max_call_secs = LONGEST.as_secs() as u32;
            settings.ring_secs = 20;
        });
        simulation.impersonating();
        let mut rng = Rng::new(seed);
        let phones = ["alice", "bob", "carol", "dave"].map(|name| simulation.phone(name));
        for phone in phones {
            simulation.phones[phone].on_call(Script::any_party);
        }
        for n in 0..40 {
            let [first, second, third] = [0; 3].map(|_| simulation.phones[rng.within(0..4) as usize].name.clone());
            let dial = if rng.chance(200) { format!("{second} & {third}") } else { second };
            simulation.call_back(n * 500, "alice", &first, &dial);
        }
        simulation.finish();
        let mut calls = phones.iter().flat_map(|&phone| &simulation.phones[phone].calls);
        if !calls.clone().all(|call| call.sessions.len() == 1) {
            simulation.fail(&["a session has changed its name".into()]);
        }
        check_impersonations(&simulation);
        impersonated += simulation.impersonations.len();
        // Half of them wait for the other one to hang up. Where neither does, both hear a BYE when the call is as long as it may be; who
        // was left alone would hear it alone.
        if calls.by_ref().filter(|call| call.ended_at.is_some_and(|at| at >= LONGEST)).count() % 2 != 0 {
            simulation.fail(&["somebody was left alone".into()]);
        }
    }
    assert!(impersonated > 0);
}

/// A call's two parties hear packets once, each from where the other one is heard.
fn check_impersonations(simulation: &Simulation) {
    for both in simulation.impersonations.values() {
        let [one, other] = &both[..] else { simulation.fail(&[format!("not one for each party: {both:?}")]) };
        let is_mirrored = one.source() == other.destination() && one.destination() == other.source();
        if !is_mirrored || one.leg() == other.leg() {
            simulation.fail(&[format!("each is not to hear the other: {both:?}")]);
        }
    }
}
