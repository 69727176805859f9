//! RFC 4475: the torture messages that are REGISTERs, at a registrar.

use crate::switch::*;
use registrar::Settings;

macro_rules! message {
    ($name:literal) => {
        include_str!(concat!("../../../sip/tests/vectors/rfc4475/dat/", $name, ".dat"))
    };
}

#[test]
fn section_3_1_1_4_escaped_nulls_are_two_bindings() {
    let mut switch = Switch::open();
    let answer = switch.answer(message!("escnull"));
    assert_eq!(
        headers(&answer, "Contact"),
        ["<sip:%00@host5.example.com>;expires=3600", "<sip:%00%00@host5.example.com>;expires=3600"]
    );
    assert_eq!(switch.contacts("null-%00-null").len(), 2);
}

#[test]
fn section_3_1_2_4_overlarge_numbers_are_malformed() {
    assert_eq!(status(&Switch::open().answer(message!("scalar02"))), 400);
}

#[test]
fn section_3_1_2_13_a_uri_with_headers_needs_brackets() {
    let mut switch = Switch::open();
    assert_eq!(status(&switch.answer(message!("regbadct"))), 400);
    assert!(switch.contacts("user").is_empty());
}

#[test]
fn section_3_3_4_a_to_of_an_unknown_scheme_is_malformed() {
    assert_eq!(status(&Switch::open().answer(message!("unksm2"))), 400);
}

#[test]
fn section_3_3_7_credentials_of_an_unknown_scheme_are_none() {
    let answer = Switch::new(Settings::default(), 1).answer(message!("regaut01"));
    assert_eq!(status(&answer), 401);
    assert!(headers(&answer, "WWW-Authenticate")[0].starts_with("Digest "));
    assert_eq!(status(&Switch::open().answer(message!("regaut01"))), 200);
}

#[test]
fn section_3_3_12_a_parameter_behind_the_uri_is_the_contacts() {
    let answer = Switch::open().answer(message!("cparam01"));
    assert_eq!(headers(&answer, "Contact"), ["<sip:+19725552222@gw1.example.net>;expires=3600;unknownparam"]);
}

#[test]
fn section_3_3_13_a_parameter_within_the_brackets_is_the_uris() {
    let answer = Switch::open().answer(message!("cparam02"));
    assert_eq!(headers(&answer, "Contact"), ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=3600"]);
}

#[test]
fn section_3_3_14_headers_of_a_uri_stay_with_it() {
    let answer = Switch::open().answer(message!("regescrt"));
    assert_eq!(headers(&answer, "Contact"), ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=3600"]);
}
