//! RFC 8760: several algorithms.

use crate::switch::*;
use registrar::Settings;
use sip::digest::Algorithm;

fn offers(algorithms: &[Algorithm]) -> (Switch, Vec<String>) {
    let mut switch = Switch::new(Settings { algorithms: algorithms.to_vec(), ..Settings::default() }, 1);
    switch.add_account("alice", "secret");
    let answer = switch.answer(&Register::new().text());
    (switch, headers(&answer, "WWW-Authenticate").into_iter().map(str::to_owned).collect())
}

#[test]
fn each_algorithm_is_a_challenge_of_its_own_and_the_strongest_is_the_first() {
    // §2.3.
    let (_, offers) = offers(&[Algorithm::Md5, Algorithm::Sha512_256, Algorithm::Sha256]);
    let expect = ["SHA-512-256", "SHA-256", "MD5"];
    assert_eq!(offers.len(), expect.len());
    for (offer, algorithm) in offers.iter().zip(expect) {
        assert!(offer.starts_with("Digest realm=\"example.com\", nonce=\""), "{offer}");
        assert!(offer.ends_with(&format!(", algorithm={algorithm}, qop=\"auth\"")), "{offer}");
    }
}

#[test]
fn a_client_may_answer_any_of_them() {
    let (mut switch, offers) = offers(&Algorithm::STRONGEST_FIRST);
    for (count, offer) in (1..).zip(&offers) {
        let credentials = answer_to(offer, "alice", "secret", count, "sip:example.com");
        let register = Register::new().cseq(count + 1).header(&credentials);
        assert_eq!(status(&switch.answer(&register.text())), 200, "{offer}");
    }
}

#[test]
fn an_algorithm_that_is_not_offered_is_not_taken() {
    // Else a man in the middle could choose the weakest.
    let (mut switch, offers) = offers(&[Algorithm::Sha256]);
    assert_eq!(offers.len(), 1);
    let credentials = answer_to(&offers[0].replace("SHA-256", "MD5"), "alice", "secret", 1, "sip:example.com");
    assert_eq!(status(&switch.answer(&Register::new().cseq(2).header(&credentials).text())), 401);
}
