//! Session timers (RFC 4028).

use crate::harness::{at, message, parse, written};
use dialog::{Accepted, Due, Refresher, SessionExpires, SessionTimer, TimerSettings, TooSmall, min_se_of};
use proptest::prelude::*;

const SETTINGS: TimerSettings = TimerSettings { session_expires_secs: 1800, min_se_secs: 90 };

fn accept(settings: TimerSettings, lines: &[&str]) -> Result<Option<Accepted>, TooSmall> {
    settings.accept(&parse(&message(&[&["INVITE sip:x SIP/2.0"], lines].concat())))
}

/// Interval, who refreshes, whether `Require: timer` goes with it.
fn accepted(secs: u32, refresher: Refresher, requires_timer: bool) -> Result<Option<Accepted>, TooSmall> {
    Ok(Some(Accepted { expires: SessionExpires { secs, refresher: Some(refresher) }, requires_timer }))
}

fn agreed(value: &str) -> Option<SessionTimer> {
    let text = message(&["SIP/2.0 200 OK", "Require: timer", value]);
    SessionTimer::agreed(at(0.0), &parse(&text))
}

#[test]
fn section_4_session_expires_is_read_and_written() {
    for (text, secs, refresher) in [
        ("4000;refresher=uac", 4000, Some(Refresher::Uac)),
        ("1800;refresher=uas", 1800, Some(Refresher::Uas)),
        ("90", 90, None),
    ] {
        let value = SessionExpires { secs, refresher };
        assert_eq!(SessionExpires::parse(text.as_bytes()), Ok(value));
        assert_eq!(written(|out| value.write(out)), text);
    }
    assert_eq!(SessionExpires::parse(b"60 ; Refresher = UAC ; x").unwrap().refresher, Some(Refresher::Uac));
    for bad in ["", "x", "-1", "1800;refresher=me", "4294967296", "1, 2"] {
        assert!(SessionExpires::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn section_7_1_after_a_422_the_uac_proposes_its_min_se() {
    let expires = |secs| SessionExpires { secs, refresher: None };
    assert_eq!(SETTINGS.propose(None), (expires(1800), None));
    assert_eq!(SETTINGS.propose(Some(3600)), (expires(3600), Some(3600)));
    assert_eq!(TimerSettings { min_se_secs: 300, ..SETTINGS }.propose(None), (expires(1800), Some(300)));
    let text = message(&["SIP/2.0 422 Session Interval Too Small", "Min-SE: 3600;x=y"]);
    assert_eq!(min_se_of(&parse(&text)), Some(3600));
}

#[test]
fn section_9_too_small_an_interval_is_refused_if_the_uac_knows_of_timers() {
    let settings = TimerSettings { min_se_secs: 600, ..SETTINGS };
    assert_eq!(accept(settings, &["Session-Expires: 300", "Supported: timer"]), Err(TooSmall(600)));
    assert_eq!(TooSmall(600).response().get(), 422);
    // A proxy has put it in.
    assert_eq!(accept(settings, &["Session-Expires: 300"]), accepted(300, Refresher::Uas, false));
}

#[test]
fn section_9_table_2_says_who_refreshes() {
    let with = |more: &str, supported| accept(SETTINGS, &[&format!("x: 1000{more}"), supported]);
    let (knows, does_not) = ("k: 100rel, timer", "k: 100rel");
    assert_eq!(with("", does_not), accepted(1000, Refresher::Uas, false));
    assert_eq!(with("", knows), accepted(1000, Refresher::Uac, true));
    assert_eq!(with(";refresher=uac", knows), accepted(1000, Refresher::Uac, true));
    assert_eq!(with(";refresher=uas", knows), accepted(1000, Refresher::Uas, false));
}

#[test]
fn section_9_the_interval_goes_down_to_ours_but_not_below_min_se() {
    assert_eq!(accept(SETTINGS, &["Session-Expires: 7200", "k: timer"]), accepted(1800, Refresher::Uac, true));
    assert_eq!(
        accept(SETTINGS, &["Session-Expires: 7200", "Min-SE: 3600", "k: timer"]),
        accepted(3600, Refresher::Uac, true)
    );
    assert_eq!(accept(SETTINGS, &["k: timer"]), accepted(1800, Refresher::Uac, true));
    assert_eq!(accept(SETTINGS, &[]), Ok(None));
    assert_eq!(accept(SETTINGS, &["Session-Expires: nonsense"]), Ok(None));
}

#[test]
fn section_7_2_the_response_says_who_refreshes() {
    assert!(agreed("Session-Expires: 1800;refresher=uac").unwrap().is_refresher());
    assert!(!agreed("Session-Expires: 1800;refresher=uas").unwrap().is_refresher());
    assert!(agreed("Session-Expires: 1800").unwrap().is_refresher());
    assert_eq!(agreed("X: y"), None);
    assert_eq!(agreed("Session-Expires: y"), None);
}

#[test]
fn section_10_the_refresher_refreshes_at_half_time_and_gives_up_before_the_end() {
    let mut timer = agreed("Session-Expires: 1800;refresher=uac").unwrap();
    assert_eq!(timer.next_timeout().as_secs(), 900);
    assert_eq!(timer.handle_timeout(at(899.9)), None);
    assert_eq!(timer.handle_timeout(at(900.0)), Some(Due::Refresh));
    assert_eq!(timer.handle_timeout(at(900.0)), None);
    assert_eq!(timer.next_timeout().as_secs(), 1800 - 32);
    assert_eq!(timer.handle_timeout(at(1768.0)), Some(Due::Expired));
}

#[test]
fn section_10_a_refresh_may_be_tried_again_until_the_session_expires() {
    let mut timer = agreed("Session-Expires: 1800;refresher=uac").unwrap();
    for second in [900.0, 1300.0, 1700.0] {
        assert_eq!(timer.handle_timeout(at(second)), Some(Due::Refresh));
        timer.postpone(at(second), std::time::Duration::from_secs(400));
    }
    assert_eq!(timer.next_timeout().as_secs(), 1768);
    assert_eq!(timer.handle_timeout(at(1768.0)), Some(Due::Expired));
    // §7.4: what a 422 asks for.
    timer.lengthen(3600);
    assert_eq!(timer.expires().secs, 3600);
    timer.lengthen(90);
    assert_eq!(timer.expires().secs, 3600);
}

#[test]
fn section_10_the_other_end_waits_for_the_refresh() {
    let mut timer = agreed("Session-Expires: 90;refresher=uas").unwrap();
    assert_eq!(timer.next_timeout().as_secs(), 60);
    assert_eq!(timer.handle_timeout(at(60.0)), Some(Due::Expired));
}

#[test]
fn section_7_4_a_refresh_keeps_interval_and_role() {
    let ours =
        SessionTimer::accepted(at(5.0), accept(SETTINGS, &["x: 1000;refresher=uas", "k: timer"]).unwrap().unwrap());
    assert!(ours.is_refresher());
    assert_eq!(ours.expires(), SessionExpires { secs: 1000, refresher: Some(Refresher::Uac) });
    assert_eq!(ours.next_timeout().as_secs(), 505);
    let theirs = agreed("Session-Expires: 1000;refresher=uas").unwrap();
    assert_eq!(theirs.expires(), SessionExpires { secs: 1000, refresher: Some(Refresher::Uas) });
}

#[test]
fn a_peer_cannot_have_us_refresh_without_pause() {
    let timer = agreed("Session-Expires: 0;refresher=uac").unwrap();
    assert_eq!((timer.interval_secs(), timer.next_timeout().as_secs()), (90, 45));
}

proptest! {
    #[test]
    fn a_timer_that_is_taken_up_again_refreshes_before_the_peer_gives_up(interval: u32, seed: u64) {
        let timer = SessionTimer::resumed(at(100.0), interval, true, seed);
        let interval = f64::from(timer.interval_secs());
        // The last refresh was half an interval ago at the most, and the peer gives up 32 seconds or a third ahead of the end.
        let left = interval / 2.0 - f64::min(32.0, interval / 3.0);
        prop_assert!(timer.next_timeout().as_secs_f64() - 100.0 <= left);
        let mut timer = timer;
        prop_assert_eq!(timer.handle_timeout(agent::Now { monotonic: timer.next_timeout(), ..at(0.0) }), Some(Due::Refresh));
        let waiting = SessionTimer::resumed(at(100.0), 1800, false, seed);
        prop_assert_eq!(waiting.next_timeout().as_secs(), 1868);
    }
}
