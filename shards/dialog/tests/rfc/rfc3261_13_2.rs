//! §13.2.2.4: the 2xx to an INVITE, and its ACK.

use crate::harness::{OK, URI, alice, parse, tokens, ua, values, written};
use dialog::{Dialog, DialogState, Field};
use sip::HeaderName;

#[test]
fn a_2xx_confirms_the_early_dialog_with_its_own_routes_and_target() {
    let ringing = OK.replace("200 OK", "180 Ringing").replace("ss2", "old").replace("sip:bob@client", "sip:bob@early");
    let mut dialog = Dialog::uac(URI, &parse(&ringing)).unwrap();
    assert!(String::from_utf8_lossy(dialog.route_set()).contains("old.biloxi"));
    dialog.confirm_by(&parse(OK)).unwrap();
    assert_eq!(dialog, alice());
}

#[test]
fn a_2xx_with_a_malformed_header_confirms_all_the_same() {
    let ringing = OK.replace("200 OK", "180 Ringing");
    let mut dialog = Dialog::uac(URI, &parse(&ringing)).unwrap();
    assert!(dialog.confirm_by(&parse(&OK.replace("<sip:bob@client", "<sip: bob@client"))).is_err());
    assert_eq!(dialog.state(), DialogState::Confirmed);
    assert_eq!(dialog.remote_target(), alice().remote_target());
}

#[test]
fn an_ack_has_the_number_of_its_invite_and_its_credentials() {
    let (mut dialog, tokens) = (alice(), tokens());
    dialog.write_request(ua(&tokens), 1, sip::Method::Info, &[], None, &mut Vec::new()).unwrap();
    let credentials = [Field::own(HeaderName::ProxyAuthorization, b"Digest username=\"alice\"")];
    let text = written(|out| dialog.write_ack(ua(&tokens), 0x74b76, 2, &credentials, None, out));
    // RFC 3665 §3.2 F15.
    assert!(text.starts_with("ACK sip:bob@client.biloxi.example.com;transport=tcp SIP/2.0\r\n"), "{text}");
    assert_eq!(values(&text, "Route"), ["<sip:ss1.atlanta.example.com;lr>,<sip:ss2.biloxi.example.com;lr>"]);
    assert_eq!(values(&text, "CSeq"), ["2 ACK"]);
    assert_eq!(values(&text, "To"), ["Bob <sip:bob@biloxi.example.com>;tag=314159"]);
    assert_eq!(values(&text, "Proxy-Authorization").len(), 1);
    assert!(values(&text, "Contact").is_empty());
    assert_eq!(dialog.local_cseq(), 3);
}
