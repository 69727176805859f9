//! §12.2: requests within a dialog.

use crate::harness::{OK, URI, alice, bob, from_bob, parse, tokens, ua, values, written};
use dialog::{BadText, Dialog, DialogState, OutOfOrder};
use sip::{HeaderName, Method, StatusCode};

fn bye(dialog: &mut Dialog) -> String {
    let tokens = tokens();
    written(|out| {
        dialog.write_request(ua(&tokens), 9, Method::Bye, &[], None, out).unwrap();
    })
}

#[test]
fn a_request_goes_along_the_loose_routes() {
    // RFC 3665 §3.2 F18, with our Via and hops.
    assert_eq!(
        bye(&mut bob()),
        "BYE sip:alice@client.atlanta.example.com;transport=tcp SIP/2.0\r\n\
         Route: <sip:ss2.biloxi.example.com;lr>,<sip:ss1.atlanta.example.com;lr>\r\n\
         Via: SIP/2.0/UDP ringswitch.invalid;branch=z9hG4bK-rs.stable.2.0000000000000009\r\n\
         Max-Forwards: 70\r\n\
         From: Bob <sip:bob@biloxi.example.com>;tag=314159\r\n\
         To: Alice <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
         Call-ID: 3848276298220188511@atlanta.example.com\r\n\
         CSeq: 1 BYE\r\n\
         Content-Length: 0\r\n\r\n"
    );
}

#[test]
fn a_strict_router_gets_the_request_uri_and_the_target_goes_last() {
    // §12.2.1.1's own example, with the target that it has.
    let ok = OK.replace(
        "Record-Route: <sip:ss2.biloxi.example.com;lr>,\r\n <sip:ss1.atlanta.example.com;lr>",
        "Record-Route: <sip:proxy4>, <sip:proxy3;lr>, <sip:proxy2>\r\nRecord-Route: <sip:proxy1>",
    );
    assert_ne!(ok, OK);
    let text = bye(&mut Dialog::uac(URI, &parse(&ok)).unwrap());
    assert!(text.starts_with("BYE sip:proxy1 SIP/2.0\r\n"), "{text}");
    assert_eq!(
        values(&text, "Route"),
        ["<sip:proxy2>,<sip:proxy3;lr>,<sip:proxy4>,<sip:bob@client.biloxi.example.com;transport=tcp>"]
    );
}

#[test]
fn requests_of_ours_count_up_by_one() {
    let (mut dialog, tokens) = (alice(), tokens());
    let mut next = |method| dialog.write_request(ua(&tokens), 1, method, &[], None, &mut Vec::new());
    assert_eq!([next(Method::Info), next(Method::Invite), next(Method::Bye)], [Ok(3), Ok(4), Ok(5)]);
    assert_eq!(next(Method::Other(b"A B")), Err(BadText::Name));
    assert_eq!(dialog.local_cseq(), 5);
}

#[test]
fn a_dialog_made_anew_counts_on_from_what_was_sent_in_it() {
    let mut dialog = alice();
    dialog.count_from(7);
    assert!(bye(&mut dialog).contains("CSeq: 8 BYE"));
    dialog.count_from(3);
    assert!(bye(&mut dialog).contains("CSeq: 9 BYE"));
}

#[test]
fn requests_that_refresh_the_target_carry_our_contact() {
    let tokens = tokens();
    for (method, has_contact) in [
        (Method::Invite, true),
        (Method::Update, true),
        (Method::Subscribe, true),
        (Method::Notify, true),
        (Method::Refer, true),
        (Method::Info, false),
        (Method::Prack, false),
        (Method::Bye, false),
    ] {
        let text = written(|out| {
            alice().write_request(ua(&tokens), 1, method, &[], None, out).unwrap();
        });
        assert_eq!(values(&text, "Contact").len(), usize::from(has_contact), "{method:?}");
    }
}

#[test]
fn a_request_with_a_lower_or_equal_number_is_out_of_order() {
    let mut dialog = alice();
    let mut receive = |method, cseq| dialog.receive(&parse(&from_bob(method, cseq, "")).request().unwrap());
    assert_eq!(receive("INFO", 7), Ok(()));
    assert_eq!(receive("INFO", 7), Err(OutOfOrder));
    assert_eq!(receive("BYE", 6), Err(OutOfOrder));
    // A gap is allowed.
    assert_eq!(receive("INFO", 700), Ok(()));
    assert_eq!(receive("ACK", 2), Ok(()));
    assert_eq!(receive("CANCEL", 2), Ok(()));
    assert_eq!(dialog.remote_cseq(), Some(700));
    assert_eq!(OutOfOrder.response(), StatusCode::SERVER_INTERNAL_ERROR);
}

#[test]
fn a_target_refresh_moves_the_target_and_nothing_else() {
    let mut dialog = alice();
    let before = dialog.clone();
    let reinvite = from_bob("INVITE", 7, "Contact: \"B\" <sip:bob@192.0.2.9:5070?X=y>\nRecord-Route: <sip:new;lr>\n");
    assert_eq!(dialog.refresh_target(&parse(&reinvite)), Ok(true));
    assert_eq!(dialog.remote_target(), b"sip:bob@192.0.2.9:5070");
    assert_eq!(dialog.refresh_target(&parse(&reinvite)), Ok(false));
    assert_eq!((dialog.route_set(), dialog.remote()), (before.route_set(), before.remote()));
    assert_eq!(dialog.refresh_target(&parse(&from_bob("UPDATE", 8, ""))), Ok(false));
    let malformed = from_bob("UPDATE", 9, "Contact: <sip:\n");
    let error = dialog.refresh_target(&parse(&malformed)).unwrap_err();
    assert_eq!(error, sip::Error::Malformed(HeaderName::Contact).into());
    assert_eq!(dialog.remote_target(), b"sip:bob@192.0.2.9:5070");
}

#[test]
fn a_dialog_that_has_ended_is_not_confirmed_again() {
    let mut dialog = alice();
    dialog.terminate();
    dialog.confirm();
    assert_eq!(dialog.state(), DialogState::Terminated);
}
