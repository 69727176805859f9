//! Replaces (RFC 3891).

use crate::harness::{OK, URI, alice, bob, message, parse, written};
use dialog::{Dialog, End, Replaces};
use proptest::prelude::*;
use sip::{Error, HeaderName, StatusCode, Transport};

#[test]
fn section_6_1_the_examples_are_read_and_written() {
    let text = message(&[
        "INVITE sip:x SIP/2.0",
        "Replaces: 98732@sip.example.com\r\n ;from-tag=r33th4x0r\r\n ;to-tag=ff87ff",
    ]);
    let message = parse(&text);
    let replaces = Replaces::of(&message).unwrap().unwrap();
    let expected =
        Replaces { call_id: b"98732@sip.example.com", to_tag: b"ff87ff", from_tag: b"r33th4x0r", early_only: false };
    assert_eq!(replaces, expected);
    assert_eq!(written(|out| replaces.write(out)), "98732@sip.example.com;to-tag=ff87ff;from-tag=r33th4x0r");
    let early = Replaces::parse(b"12adf2f34456gs5;to-tag=12345;from-tag=54321;early-only").unwrap();
    assert!(early.early_only);
    assert_eq!(written(|out| early.write(out)), "12adf2f34456gs5;to-tag=12345;from-tag=54321;early-only");
}

#[test]
fn section_6_1_exactly_one_of_each_tag() {
    for bad in [
        "1",
        "1;to-tag=2",
        "1;from-tag=2",
        "1;to-tag=2;to-tag=3;from-tag=4",
        "1;to-tag;from-tag=2",
        "1;to-tag=2;from-tag=3, 2",
    ] {
        assert_eq!(Replaces::parse(bad.as_bytes()), Err(Error::Malformed(HeaderName::Replaces)), "{bad}");
    }
}

#[test]
fn section_3_it_names_one_end_of_a_dialog() {
    const ID: &[u8] = b"3848276298220188511@atlanta.example.com";
    let replaces = Replaces { call_id: ID, to_tag: b"314159", from_tag: b"9fxced76sl", early_only: false };
    assert_eq!(replaces.names(&bob()), Some(End::Local));
    assert_eq!(replaces.names(&alice()), Some(End::Remote));
    assert_eq!(Replaces { from_tag: b"other", ..replaces }.names(&bob()), None);
    assert_eq!(Replaces { call_id: b"other", ..replaces }.names(&bob()), None);
    let untagged = Dialog::uac(URI, &parse(&OK.replace(";tag=314159", ""))).unwrap();
    assert_eq!(Replaces { to_tag: b"9fxced76sl", from_tag: b"0", ..replaces }.names(&untagged), Some(End::Local));
}

#[test]
fn section_3_not_every_dialog_may_be_replaced() {
    let replaces = |early_only| Replaces { call_id: b"x", to_tag: b"x", from_tag: b"x", early_only };
    assert_eq!(replaces(false).check(&alice()), Ok(()));
    assert_eq!(replaces(true).check(&alice()), Err(StatusCode::BUSY_HERE));
    let early = Dialog::uac(URI, &parse(&OK.replace("200 OK", "180 Ringing"))).unwrap();
    assert_eq!(replaces(true).check(&early), Ok(()));
    let incoming = Dialog::uas(&parse(crate::harness::INVITE_AT_BOB), b"1", Transport::Udp).unwrap();
    assert_eq!(replaces(true).check(&incoming), Err(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
    let mut ended = alice();
    ended.terminate();
    assert_eq!(replaces(false).check(&ended), Err(StatusCode::DECLINE));
}

proptest! {
    #[test]
    fn what_is_written_is_read(call_id in "[!-+./-:=?-Z@a-z]{1,30}", tags in "[a-z0-9.]{1,9}", early_only: bool) {
        let replaces = Replaces { call_id: call_id.as_bytes(), to_tag: tags.as_bytes(), from_tag: b"1", early_only };
        let text = written(|out| replaces.write(out));
        prop_assert_eq!(Replaces::parse(text.as_bytes()), Ok(replaces));
    }
}
