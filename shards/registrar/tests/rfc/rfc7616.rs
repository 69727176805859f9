//! RFC 7616 and RFC 3261 §22: who may register.

use crate::switch::*;
use registrar::Settings;
use sip::digest::{Algorithm, Credentials, Ha1};
use store::{Account, Bindings};

const CONTACT: &str = "<sip:alice@192.0.2.5>";

fn switch() -> Switch {
    switch_with(|_| {})
}

fn switch_with(change: impl FnOnce(&mut Settings)) -> Switch {
    let mut settings = Settings::default();
    change(&mut settings);
    let switch = Switch::new(settings, 1);
    switch.add_account("alice", "secret");
    switch
}

/// A REGISTER with credentials for the strongest offer of `challenge`.
fn with_credentials(challenge: &str, password: &str, count: u32, cseq: u32) -> Register {
    let credentials = credentials(challenge, "alice", password, count, "sip:example.com");
    Register::new().cseq(cseq).contact(CONTACT).header(&credentials)
}

fn is_stale(answer: &str) -> bool {
    assert_eq!(status(answer), 401);
    answer.contains("stale=true")
}

#[test]
fn right_credentials_register() {
    let mut switch = switch();
    let answer = switch.answer_with("alice", "secret", Register::new().contact(CONTACT));
    assert_eq!(headers(&answer, "Contact"), ["<sip:alice@192.0.2.5>;expires=3600"]);
    assert_eq!((switch.counters().challenged, switch.counters().registered), (1, 1));
}

#[test]
fn without_credentials_not_even_a_query_is_answered() {
    let mut switch = switch();
    let answer = switch.answer(&Register::new().text());
    assert!(!is_stale(&answer) && headers(&answer, "Contact").is_empty());
}

#[test]
fn an_unknown_account_a_disabled_one_and_a_wrong_password_look_the_same() {
    let mut switch = switch();
    switch.accounts.put("carol@example.com", Account { enabled: false, ..account("carol", "secret") });
    let mut seen = Vec::new();
    for (user, password) in [("alice", "wrong"), ("bob", "secret"), ("carol", "secret")] {
        let register = Register::of(user).call_id("same").contact(CONTACT);
        let answer = switch.answer_with(user, password, register);
        assert!(!is_stale(&answer));
        // What differs in any two answers: the name that was sent, the nonce, the tag of the request.
        let masked: Vec<_> = answer
            .split([' ', ';', ','])
            .filter(|part| !part.starts_with("nonce=") && !part.starts_with("tag=") && !part.contains("@example.com"))
            .map(str::to_owned)
            .collect();
        seen.push(masked);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(switch.counters().refused, 3);
}

#[test]
fn somebody_elses_address_of_record_is_forbidden() {
    // RFC 3261 §10.3 step 4.
    let mut switch = switch();
    switch.add_account("bob", "hidden");
    let answer = switch.answer_with("alice", "secret", Register::of("bob").contact(CONTACT));
    assert_eq!(status(&answer), 403);
    assert!(switch.contacts("bob").is_empty());
}

#[test]
fn an_expired_nonce_is_stale() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    switch.advance(300);
    assert_eq!(status(&switch.answer(&with_credentials(&challenge, "secret", 1, 2).text())), 200);
    switch.advance(1);
    let answer = switch.answer(&with_credentials(&challenge, "secret", 2, 3).text());
    assert!(is_stale(&answer));
    assert_eq!(status(&switch.answer(&with_credentials(&answer, "secret", 1, 4).text())), 200);
    assert_eq!(switch.counters().stale, 1);
}

#[test]
fn a_nonce_that_is_not_ours_is_stale_only_with_the_right_password() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let nonce = &challenge[challenge.find("nonce=\"").unwrap() + 7..][..32];
    for forged in ["", "0", &"0".repeat(32), &"\u{e9}".repeat(16), &nonce.replace(&nonce[..8], "7fffffff")] {
        let forged = challenge.replace(nonce, forged);
        assert!(is_stale(&switch.answer(&with_credentials(&forged, "secret", 1, 2).text())));
        assert!(!is_stale(&switch.answer(&with_credentials(&forged, "wrong", 1, 2).text())));
    }
}

#[test]
fn a_nonce_of_an_earlier_run_is_stale() {
    let challenge = switch().answer(&Register::new().text());
    let mut restarted = Switch::in_run(Settings::default(), 1, 2, Bindings::new([1; 16]));
    restarted.add_account("alice", "secret");
    assert!(is_stale(&restarted.answer(&with_credentials(&challenge, "secret", 1, 2).text())));
}

#[test]
fn a_nonce_of_another_call_id_is_stale() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let register = with_credentials(&challenge, "secret", 1, 2).call_id("another");
    assert!(is_stale(&switch.answer(&register.text())));
}

#[test]
fn a_nonce_count_must_rise() {
    // §3.4, §5.5.
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    for (count, cseq, accepted) in
        [(1, 2, true), (2, 3, true), (2, 4, false), (1, 5, false), (5, 6, true), (4, 7, false)]
    {
        let answer = switch.answer(&with_credentials(&challenge, "secret", count, cseq).text());
        assert_eq!(status(&answer), if accepted { 200 } else { 401 }, "count {count}");
        assert!(accepted || is_stale(&answer));
    }
}

#[test]
fn a_retransmission_is_no_replay_but_the_same_from_elsewhere_is() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let register = with_credentials(&challenge, "secret", 1, 2).text();
    let first = switch.answer(&register);
    assert_eq!(switch.answer(&register), first);
    assert!(is_stale(&switch.answer_from(flow("203.0.113.66:5060"), &register)));
    // The digest does not cover Contact, so a copy with another one is the replay that matters.
    assert!(is_stale(&switch.answer(&register.replace("192.0.2.5>", "203.0.113.66>"))));
    assert_eq!(switch.contacts("alice"), ["sip:alice@192.0.2.5"]);
}

#[test]
fn what_stands_behind_the_credentials_is_of_the_request_too() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let register = with_credentials(&challenge, "secret", 1, 2).text();
    let begin = register.find("Authorization:").unwrap();
    let end = begin + register[begin..].find("\r\n").unwrap() + 2;
    let (line, rest) = (&register[begin..end], [&register[..begin], &register[end..]].concat());
    let register = rest.replacen("\r\n", &format!("\r\n{line}"), 1);
    assert!(register.find("Authorization:") < register.find("Contact:"));
    assert_eq!(status(&switch.answer(&register)), 200);
    assert!(is_stale(&switch.answer(&register.replace("192.0.2.5>", "203.0.113.66>"))));
}

#[test]
fn when_too_many_nonces_are_in_use_the_oldest_is_stale() {
    let mut switch = switch_with(|s| s.max_nonces = 2);
    let challenges = [1, 2, 3].map(|cseq| switch.answer(&Register::new().cseq(cseq).text()));
    for (cseq, challenge) in (4..).zip(&challenges) {
        assert_eq!(status(&switch.answer(&with_credentials(challenge, "secret", 1, cseq).text())), 200);
    }
    assert!(is_stale(&switch.answer(&with_credentials(&challenges[0], "secret", 2, 7).text())));
    assert_eq!(status(&switch.answer(&with_credentials(&challenges[2], "secret", 2, 8).text())), 200);
}

#[test]
fn credentials_without_qop_serve_once() {
    // RFC 3261 §22.4 item 8 keeps clients of RFC 2069 alive.
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text()).replace(", qop=\"auth\"", "");
    assert_eq!(status(&switch.answer(&with_credentials(&challenge, "secret", 0, 2).text())), 200);
    assert!(is_stale(&switch.answer(&with_credentials(&challenge, "secret", 0, 3).text())));
}

#[test]
fn the_digest_uri_names_what_the_request_uri_names() {
    // §3.4.6.
    let mut switch = switch();
    for (n, (digest_uri, expected)) in (1..).zip([
        ("sip:example.com", 200),
        ("sip:EXAMPLE.com:5060;transport=udp", 200),
        ("sips:example.com", 200),
        ("sip:192.0.2.1", 200),
        ("sip:b.example", 400),
        ("sip:alice@example.com", 400),
        ("/", 400),
    ]) {
        let register = Register::new().call_id(&format!("{n}"));
        let challenge = switch.answer(&register.text());
        let credentials = credentials(&challenge, "alice", "secret", 1, digest_uri);
        assert_eq!(status(&switch.answer(&register.cseq(2).header(&credentials).text())), expected, "{digest_uri}");
    }
}

#[test]
fn the_digest_covers_the_method_and_the_uri() {
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let credentials = credentials(&challenge, "alice", "secret", 1, "sip:example.com");
    let other = credentials.replace("uri=\"sip:example.com\"", "uri=\"sip:example.com;x\"");
    assert!(!is_stale(&switch.answer(&Register::new().cseq(2).header(&other).text())));
}

#[test]
fn malformed_credentials_are_a_bad_request() {
    // §3.4.
    let mut switch = switch();
    let register = Register::new().header("Authorization: Digest username=\"alice\", realm=\"example.com\"");
    assert_eq!(status(&switch.answer(&register.text())), 400);
}

#[test]
fn credentials_for_another_realm_are_passed_over() {
    // RFC 3261 §22.3.
    let mut switch = switch();
    let challenge = switch.answer(&Register::new().text());
    let own = credentials(&challenge, "alice", "secret", 1, "sip:example.com");
    let other = own.replace("realm=\"example.com\"", "realm=\"elsewhere.example\"");
    assert!(!is_stale(&switch.answer(&Register::new().cseq(2).header(&other).text())));
    assert_eq!(status(&switch.answer(&Register::new().cseq(3).header(&other).header(&own).text())), 200);
}

#[test]
fn a_user_name_may_bear_its_domain() {
    let mut switch = switch();
    let name = "alice@example.com";
    switch.accounts.put(name, Account { ..account(name, "secret") });
    let answer = switch.answer_with(name, "secret", Register::new().contact(CONTACT));
    assert_eq!(status(&answer), 200);
    let foreign = switch.answer_with("alice@b.example", "secret", Register::new().call_id("2").contact(CONTACT));
    assert!(!is_stale(&foreign));
}

#[test]
fn an_account_without_a_digest_of_an_algorithm_is_not_opened_by_zeros() {
    let mut switch = switch();
    let md5_only = Account { ha1_sha256: [0; 32], ha1_sha512_256: [0; 32], ..account("alice", "secret") };
    switch.accounts.put("alice@example.com", md5_only);
    let challenge = switch.answer(&Register::new().text());
    let line = credentials(&challenge, "alice", "any", 1, "sip:example.com");
    let mut forged = Credentials::parse(line.strip_prefix("Authorization: ").unwrap().as_bytes()).unwrap();
    let zeros = Ha1::from_octets(Algorithm::Sha512_256, &[0; 32]).unwrap();
    let covered = sip::digest::Covered { method: b"REGISTER", uri: b"sip:example.com", body: b"" };
    forged.response = sip::digest::response(&zeros, &forged.nonce, forged.protection.as_ref(), &covered);
    let mut line = b"Authorization: ".to_vec();
    forged.write_to(&mut line);
    let register = Register::new().cseq(2).contact(CONTACT).header(std::str::from_utf8(&line).unwrap());
    assert!(!is_stale(&switch.answer(&register.text())));
}
