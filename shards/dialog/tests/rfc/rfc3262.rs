//! Reliable provisional responses (RFC 3262).

use crate::harness::{at, message, parse, written};
use dialog::{Acknowledging, NoMatch, RAck, Reliable, Resend, rseq};
use proptest::prelude::*;
use sip::{Method, StatusCode};
use std::time::Duration;

const T1: Duration = Duration::from_millis(500);

#[test]
fn section_7_2_rack_names_response_and_request() {
    let rack = RAck::parse(b"776656 1 INVITE").unwrap();
    assert_eq!((rack.rseq, rack.cseq.number, rack.cseq.method), (776_656, 1, Method::Invite));
    assert_eq!(written(|out| rack.write(out)), "776656 1 INVITE");
    for bad in
        ["", "776656", "776656 1", "776656 INVITE", "x 1 INVITE", "1 4294967296 INVITE", "1 1 INVITE x", "11INVITE"]
    {
        assert!(RAck::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn section_4_only_a_response_that_requires_100rel_is_acknowledged() {
    let response = |lines: &[&str]| rseq(&parse(&message(&[&["SIP/2.0 183 Session Progress"], lines].concat())));
    assert_eq!(response(&["Require: foo, 100REL", "RSeq: 9021"]), Some(9021));
    assert_eq!(response(&["Require: 100rel"]), None);
    assert_eq!(response(&["Supported: 100rel", "RSeq: 9021"]), None);
    assert_eq!(response(&["Require: 100rel", "RSeq: x"]), None);
}

#[test]
fn section_4_copies_and_gaps_are_dropped() {
    let mut acknowledging = Acknowledging::default();
    let answers: Vec<_> = [9021, 9021, 9023, 9022, 9020, 9023].map(|rseq| acknowledging.receive(rseq)).into();
    assert_eq!(answers, [true, false, false, true, false, true]);
}

#[test]
fn section_3_a_response_is_repeated_at_doubling_intervals_until_its_prack() {
    let mut reliable = Reliable::new(7, 41);
    assert_eq!(reliable.next_rseq(), 42);
    reliable.sent(at(10.0), T1, b"183", false);
    assert!(!reliable.may_send());
    let mut times = Vec::new();
    while times.len() < 6 {
        let now = agent::Now { monotonic: reliable.next_timeout().unwrap(), ..at(0.0) };
        assert_eq!(reliable.handle_timeout(now), Resend::Response(b"183"));
        times.push(now.monotonic.as_secs_f64() - 10.0);
    }
    assert_eq!(times, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
    assert_eq!(reliable.handle_timeout(at(41.9)), Resend::Nothing);
    let rack = |text: &'static str| RAck::parse(text.as_bytes()).unwrap();
    for other in ["41 7 INVITE", "43 7 INVITE", "42 6 INVITE", "42 7 UPDATE"] {
        assert_eq!(reliable.acknowledge(&rack(other)), Err(NoMatch), "{other}");
    }
    assert_eq!(NoMatch.response(), StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
    assert_eq!(reliable.acknowledge(&rack("42 7 INVITE")), Ok(()));
    assert_eq!(reliable.acknowledge(&rack("42 7 INVITE")), Err(NoMatch));
    assert_eq!((reliable.next_timeout(), reliable.next_rseq()), (None, 43));
}

#[test]
fn section_3_the_invite_is_refused_after_64_t1() {
    let mut reliable = Reliable::new(7, 0);
    reliable.sent(at(0.0), T1, b"183", false);
    assert_eq!(reliable.handle_timeout(at(32.0)), Resend::GiveUp);
    assert_eq!(reliable.handle_timeout(at(33.0)), Resend::Nothing);
    assert_eq!(Resend::GIVE_UP_STATUS.get(), 504);
}

#[test]
fn section_3_a_final_response_ends_the_repetitions() {
    let mut reliable = Reliable::new(7, 0);
    reliable.sent(at(0.0), T1, b"183", false);
    reliable.stop();
    assert_eq!(reliable.next_timeout(), None);
    // Its PRACK is welcome all the same.
    assert!(!reliable.may_send());
    assert_eq!(reliable.acknowledge(&RAck::parse(b"1 7 INVITE").unwrap()), Ok(()));
}

#[test]
fn section_3_no_2xx_before_a_description_is_acknowledged() {
    let mut reliable = Reliable::new(7, 0);
    reliable.sent(at(0.0), T1, b"183", false);
    assert!(reliable.may_succeed());
    reliable.acknowledge(&RAck::parse(b"1 7 INVITE").unwrap()).unwrap();
    reliable.sent(at(1.0), T1, b"183", true);
    assert!(!reliable.may_succeed());
    reliable.acknowledge(&RAck::parse(b"2 7 INVITE").unwrap()).unwrap();
    assert!(reliable.may_succeed());
}

proptest! {
    #[test]
    fn section_3_the_first_rseq_is_from_1_to_2_31_less_1(seed: u64) {
        prop_assert!((1..1 << 31).contains(&Reliable::new(1, seed).next_rseq()));
    }

    #[test]
    fn any_octets_are_a_rack_or_an_error(octets: Vec<u8>) {
        let _ = RAck::parse(&octets);
    }
}
