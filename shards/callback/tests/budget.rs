//! Each bound, and a slow twin that counts all that was ever granted.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use callback::{Bounds, Budget, Impersonation, Refusal};
use common::wanted;
use std::net::IpAddr;
use std::time::Duration;

const WIDE: Bounds = Bounds { packets: 3, per_call: 1_000, per_destination: 1_000, per_sec: 1_000 };

const SOURCE: &str = "203.0.113.5:30000";

/// Leg `leg` of call `call` to a port of the gateway with that number.
fn leg(call: u128, leg: u16, gateway: u8) -> Impersonation {
    wanted(call, leg, SOURCE, &format!("198.51.100.{gateway}:{}", 20_000 + leg))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_leg_has_its_packets_once() {
    let mut budget = Budget::new(WIDE);
    assert_eq!(budget.grant(secs(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(secs(1), &leg(1, 1, 1)), Err(Refusal::Again));
    assert_eq!(budget.grant(secs(59), &leg(1, 1, 1)), Err(Refusal::Again));
    assert_eq!(budget.grant(secs(59), &leg(1, 2, 1)), Ok(3), "another leg");
    assert_eq!(budget.grant(secs(59), &leg(2, 1, 1)), Ok(3), "another call");
}

#[test]
fn an_address_that_changes_after_the_answer_is_refused() {
    let mut budget = Budget::new(WIDE);
    assert_eq!(budget.grant(secs(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(secs(1), &leg(1, 1, 2)), Err(Refusal::Changed), "the destination");
    let other_source = wanted(1, 1, "203.0.113.6:30000", "198.51.100.1:20001");
    assert_eq!(budget.grant(secs(1), &other_source), Err(Refusal::Changed), "the source");
    let other_port = wanted(1, 1, "203.0.113.5:30002", "198.51.100.1:20001");
    assert_eq!(budget.grant(secs(1), &other_port), Err(Refusal::Changed), "the source's port");
}

#[test]
fn a_call_has_a_bound() {
    let mut budget = Budget::new(Bounds { per_call: 7, ..WIDE });
    assert_eq!(budget.grant(secs(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(secs(10), &leg(1, 2, 2)), Ok(3));
    assert_eq!(budget.grant(secs(20), &leg(1, 3, 3)), Err(Refusal::Call));
    assert_eq!(budget.grant(secs(20), &leg(2, 1, 3)), Ok(3));
}

#[test]
fn a_destination_has_a_bound_whatever_the_port_and_the_call() {
    let mut budget = Budget::new(Bounds { per_destination: 6, ..WIDE });
    assert_eq!(budget.grant(secs(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(secs(30), &leg(2, 2, 1)), Ok(3));
    assert_eq!(budget.grant(secs(59), &leg(3, 3, 1)), Err(Refusal::Destination));
    assert_eq!(budget.grant(secs(59), &leg(3, 3, 2)), Ok(3), "another one");
    assert_eq!(budget.grant(secs(60), &leg(4, 4, 1)), Ok(3), "the first has left the window");
    assert_eq!(budget.grant(secs(60), &leg(5, 5, 1)), Err(Refusal::Destination));
}

#[test]
fn an_ipv6_destination_is_its_network_of_64_bits() {
    let mut budget = Budget::new(Bounds { per_destination: 3, ..WIDE });
    let to = |call, address: &str| wanted(call, 1, "[2001:db8:5::5]:30000", &format!("[{address}]:40000"));
    assert_eq!(budget.grant(secs(0), &to(1, "2001:db8:7::7")), Ok(3));
    assert_eq!(budget.grant(secs(0), &to(2, "2001:db8:7::8")), Err(Refusal::Destination));
    assert_eq!(budget.grant(secs(0), &to(3, "2001:db8:7:1::7")), Ok(3));
}

#[test]
fn a_second_has_a_bound() {
    let mut budget = Budget::new(Bounds { per_sec: 8, ..WIDE });
    let at = |msecs| Duration::from_millis(msecs);
    assert_eq!(budget.grant(at(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(at(500), &leg(2, 1, 2)), Ok(3));
    assert_eq!(budget.grant(at(999), &leg(3, 1, 3)), Err(Refusal::Rate));
    assert_eq!(budget.grant(at(1_000), &leg(3, 1, 3)), Ok(3));
    assert_eq!(budget.grant(at(1_499), &leg(4, 1, 4)), Err(Refusal::Rate));
}

#[test]
fn a_leg_is_remembered_for_a_minute() {
    let mut budget = Budget::new(WIDE);
    assert_eq!(budget.grant(secs(0), &leg(1, 1, 1)), Ok(3));
    assert_eq!(budget.grant(secs(59), &leg(1, 1, 1)), Err(Refusal::Again));
    assert_eq!(budget.grant(secs(60), &leg(1, 1, 1)), Ok(3));
}

#[test]
fn every_decision_is_that_of_a_twin_that_counts_all_that_was_granted() {
    const BOUNDS: Bounds = Bounds { packets: 3, per_call: 7, per_destination: 13, per_sec: 10 };
    bolero::check!().with_iterations(2_000).with_max_len(256).for_each(|script: &[u8]| {
        let (mut budget, mut granted, mut now) = (Budget::new(BOUNDS), Vec::new(), Duration::ZERO);
        for &[step, what] in script.as_chunks().0 {
            now += Duration::from_millis(u64::from(step).pow(2) / 4);
            let wanted = leg((what & 7).into(), (what >> 3 & 3).into(), what >> 5 & 3);
            let decision = budget.grant(now, &wanted);
            assert_eq!(decision, twin(&granted, &BOUNDS, now, &wanted));
            if decision.is_ok() {
                granted.push((now, wanted));
            }
        }
    });
}

fn twin(
    granted: &[(Duration, Impersonation)],
    bounds: &Bounds,
    now: Duration,
    wanted: &Impersonation,
) -> Result<u8, Refusal> {
    let within = |window: u64| granted.iter().filter(move |(at, _)| now - *at < secs(window)).map(|(_, leg)| leg);
    let packets = |legs: usize| (legs as u32 + 1) * u32::from(bounds.packets);
    let is_leg = |leg: &&Impersonation| (leg.call(), leg.leg()) == (wanted.call(), wanted.leg());
    let ip = |leg: &Impersonation| -> IpAddr { leg.destination().ip() };
    if let Some(before) = within(60).find(is_leg) {
        let is_same = (before.source(), before.destination()) == (wanted.source(), wanted.destination());
        return Err(if is_same { Refusal::Again } else { Refusal::Changed });
    }
    if packets(within(60).filter(|leg| leg.call() == wanted.call()).count()) > bounds.per_call {
        return Err(Refusal::Call);
    }
    if packets(within(60).filter(|leg| ip(leg) == ip(wanted)).count()) > bounds.per_destination {
        return Err(Refusal::Destination);
    }
    if packets(within(1).count()) > bounds.per_sec {
        return Err(Refusal::Rate);
    }
    Ok(bounds.packets)
}
