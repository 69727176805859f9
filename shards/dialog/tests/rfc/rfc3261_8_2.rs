//! §8.2.6 and §12.1.1: responses.

use crate::harness::{INVITE_AT_BOB, from_bob, parse, tokens, ua, values, written};
use dialog::{Body, Contact, Field, NewResponse};
use sip::{HeaderName, StatusCode};

fn answer(request: &str, response: NewResponse<'_>) -> String {
    let tokens = tokens();
    written(|out| response.write(ua(&tokens), &parse(request), "192.0.2.222:5060".parse().unwrap(), out))
}

#[test]
fn a_2xx_to_invite_takes_over_vias_and_record_routes_and_has_our_contact() {
    let fields = [Field::own(HeaderName::Allow, b"INVITE, ACK, BYE")];
    let body = Body { content_type: Body::SDP, octets: b"v=0\r\n" };
    let response = NewResponse { fields: &fields, body: Some(body), ..NewResponse::new(StatusCode::OK, b"314159") };
    let text = answer(INVITE_AT_BOB, response);
    let (request, response) = (parse(INVITE_AT_BOB), parse(&text));
    let uris = |m: &sip::Message<'_>, name| {
        let all: Vec<_> = m.addresses(name).map(|a| String::from_utf8_lossy(a.unwrap().uri).into_owned()).collect();
        all
    };
    assert_eq!(uris(&response, HeaderName::RecordRoute), uris(&request, HeaderName::RecordRoute));
    assert_eq!(uris(&response, HeaderName::RecordRoute).len(), 2);
    assert_eq!(response.vias().count(), request.vias().count());
    assert_eq!(response.vias().next().unwrap().unwrap().received, "192.0.2.222".parse().ok());
    assert!(values(&text, "To")[0].ends_with(";tag=314159"));
    assert!(values(&text, "Contact")[0].starts_with("<sip:rs.stable.2."));
    assert_eq!(values(&text, "Content-Length"), ["5"]);
    assert!(
        text.ends_with("Allow: INVITE, ACK, BYE\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n")
    );
}

#[test]
fn a_100_and_a_failure_make_no_dialog() {
    for (status, tag) in [(StatusCode::TRYING, &b""[..]), (StatusCode::BUSY_HERE, b"1")] {
        let text = answer(INVITE_AT_BOB, NewResponse::new(status, tag));
        assert!(values(&text, "Contact").is_empty() && values(&text, "Record-Route").is_empty(), "{text}");
    }
    assert!(!answer(INVITE_AT_BOB, NewResponse::new(StatusCode::TRYING, b"")).contains(";tag=314"));
}

#[test]
fn a_redirection_names_other_places() {
    let contact = Contact::Elsewhere(b"<sip:a@b>;q=0.7, <sip:c@d>");
    let text = answer(INVITE_AT_BOB, NewResponse { contact, ..NewResponse::new(StatusCode::MOVED_TEMPORARILY, b"1") });
    assert_eq!(values(&text, "Contact"), ["<sip:a@b>;q=0.7, <sip:c@d>"]);
}

#[test]
fn within_a_dialog_record_route_is_not_repeated() {
    let reinvite = from_bob("INVITE", 3, "Record-Route: <sip:p;lr>\n");
    let text = answer(&reinvite, NewResponse::new(StatusCode::OK, b"other"));
    assert!(values(&text, "Record-Route").is_empty());
    assert_eq!(values(&text, "Contact").len(), 1);
    assert!(values(&text, "To")[0].ends_with(";tag=9fxced76sl"));
    let text = answer(&from_bob("BYE", 4, ""), NewResponse::new(StatusCode::OK, b""));
    assert!(values(&text, "Contact").is_empty());
}
