//! §12.1: what makes a dialog, and what it remembers.

use crate::harness::{INVITE_AT_BOB, OK, URI, alice, bob, parse};
use agent::Secret;
use dialog::{Dialog, DialogHash, DialogState, Error};
use sip::{HeaderName, StatusCode, Transport};

#[test]
fn a_uac_takes_tag_target_and_reversed_routes_from_the_2xx() {
    let dialog = alice();
    assert_eq!(dialog.state(), DialogState::Confirmed);
    assert!(dialog.matches(b"3848276298220188511@atlanta.example.com", b"9fxced76sl", b"314159"));
    assert_eq!(dialog.remote_target(), b"sip:bob@client.biloxi.example.com;transport=tcp");
    assert_eq!(dialog.route_set(), b"<sip:ss1.atlanta.example.com;lr>,<sip:ss2.biloxi.example.com;lr>");
    assert_eq!(dialog.local(), b"Alice <sip:alice@atlanta.example.com>");
    assert_eq!(dialog.remote(), b"Bob <sip:bob@biloxi.example.com>");
    assert_eq!((dialog.local_cseq(), dialog.remote_cseq()), (2, None));
    assert!(dialog.owns_call_id() && !dialog.is_secure());
}

#[test]
fn a_uas_takes_target_and_routes_in_order_from_the_invite() {
    let dialog = Dialog::uas(&parse(INVITE_AT_BOB), b"314159", Transport::Tcp).unwrap();
    assert_eq!(dialog.state(), DialogState::Early);
    assert!(dialog.matches(b"3848276298220188511@atlanta.example.com", b"314159", b"9fxced76sl"));
    assert_eq!(dialog.remote_target(), b"sip:alice@client.atlanta.example.com;transport=tcp");
    assert_eq!(dialog.route_set(), b"<sip:ss2.biloxi.example.com;lr>,<sip:ss1.atlanta.example.com;lr>");
    assert_eq!((dialog.local_cseq(), dialog.remote_cseq()), (0, Some(2)));
    assert_eq!(bob().state(), DialogState::Confirmed);
}

#[test]
fn both_ends_have_keys_of_their_own() {
    let hash = DialogHash::new(&Secret::new([1; 32]));
    assert_eq!(alice().key(&hash), hash.key(b"3848276298220188511@atlanta.example.com", b"9fxced76sl", b"314159"));
    assert_ne!(alice().key(&hash), bob().key(&hash));
    assert_ne!(hash.key(b"ab", b"c", b""), hash.key(b"a", b"bc", b""));
    assert_ne!(alice().key(&hash), alice().key(&DialogHash::new(&Secret::new([2; 32]))));
}

#[test]
fn a_provisional_response_makes_an_early_dialog_even_without_contact() {
    let ringing = OK
        .replace("200 OK", "180 Ringing")
        .replace("Contact: <sip:bob@client.biloxi.example.com;transport=tcp>\r\n", "");
    let dialog = Dialog::uac(URI, &parse(&ringing)).unwrap();
    assert_eq!(dialog.state(), DialogState::Early);
    assert_eq!(dialog.remote_target(), b"sip:bob@biloxi.example.com");
}

#[test]
fn without_a_to_tag_only_a_2xx_makes_a_dialog() {
    let untagged = OK.replace(";tag=314159", "");
    assert_eq!(Dialog::uac(URI, &parse(&untagged)).unwrap().remote_tag(), b"");
    let ringing = untagged.replace("200 OK", "180 Ringing");
    assert_eq!(Dialog::uac(URI, &parse(&ringing)), Err(Error::MissingTag));
}

#[test]
fn sips_and_tls_make_it_secure() {
    let sips = INVITE_AT_BOB.replace("INVITE sip:", "INVITE sips:");
    let is_secure = |text: &str, transport| Dialog::uas(&parse(text), b"1", transport).unwrap().is_secure();
    assert!(is_secure(&sips, Transport::Tls));
    assert!(!is_secure(&sips, Transport::Tcp));
    assert!(!is_secure(INVITE_AT_BOB, Transport::Tls));
    assert!(Dialog::uac(b"sips:bob@biloxi.example.com", &parse(OK)).unwrap().is_secure());
}

#[test]
fn an_invite_that_makes_no_dialog_is_refused() {
    let contact = "Contact: <sip:alice@client.atlanta.example.com;transport=tcp>";
    for (with, error) in [
        ("X: y", sip::Error::Missing(HeaderName::Contact)),
        ("Contact: <sip:alice@", sip::Error::Malformed(HeaderName::Contact)),
        ("Contact: <tel:+12015550123>", sip::Error::UnsupportedScheme),
        ("Contact: <sip:a@b>\r\nRecord-Route: <sip:a b>", sip::Error::Malformed(HeaderName::RecordRoute)),
    ] {
        let text = INVITE_AT_BOB.replace(contact, with);
        assert_eq!(Dialog::uas(&parse(&text), b"1", Transport::Udp), Err(Error::Sip(error)), "{with}");
    }
}

#[test]
fn a_dialog_has_a_bound() {
    let routes = format!("Record-Route: <sip:{}b;lr>\r\n", "a.".repeat(100)).repeat(60);
    let text = INVITE_AT_BOB.replacen("To:", &(routes + "To:"), 1);
    let error = Dialog::uas(&parse(&text), b"1", Transport::Udp).unwrap_err();
    assert_eq!((error, error.response()), (Error::TooLong, StatusCode::MESSAGE_TOO_LARGE));
}

#[test]
fn a_dialog_of_everyday_takes_less_than_half_a_kibibyte() {
    assert!(alice().octets() < 512, "{}", alice().octets());
    assert!(bob().octets() < 512, "{}", bob().octets());
}
