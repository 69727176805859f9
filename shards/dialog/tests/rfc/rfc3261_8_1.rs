//! §8.1.1: a request outside any dialog; and that nothing given for one breaks out of its place (§7.3.1).

use crate::harness::{message, parse, tokens, ua, written};
use dialog::{BadText, Body, Field, NewRequest, NewResponse, Party, Progress, Reason};
use proptest::prelude::*;
use sip::{HeaderName, Limits, Message, Method, StatusCode};

const CALL_ID: &[u8] = b"0001";

fn request<'a>(method: Method<'a>, fields: &'a [Field<'a>], body: Option<Body<'a>>) -> NewRequest<'a> {
    let from = Party::new(b"Al \"the\" Ice", b"sip:alice@example.com", b"1").unwrap();
    let to = Party::new(b"", b"sip:bob@example.com", b"").unwrap();
    let mut request = NewRequest::new(method, b"sip:bob@192.0.2.4;transport=udp?Subject=x", from, to, CALL_ID).unwrap();
    (request.max_forwards, request.fields, request.body) = (69, fields, body);
    request
}

#[test]
fn an_invite_has_all_that_a_request_needs() {
    let tokens = tokens();
    let fields = [Field::own(HeaderName::Supported, b"100rel, timer"), Field::new(b"X-Plan", b"7").unwrap()];
    let body = Body { content_type: Body::SDP, octets: b"v=0\r\n" };
    let text = written(|out| request(Method::Invite, &fields, Some(body)).write(ua(&tokens), 0xfeed, out));
    let token = written(|out| tokens.write(ua(&tokens).agent, CALL_ID, out));
    assert_eq!(
        text,
        format!(
            "INVITE sip:bob@192.0.2.4;transport=udp SIP/2.0\r\n\
             Via: SIP/2.0/UDP ringswitch.invalid;branch=z9hG4bK-rs.stable.2.000000000000feed\r\n\
             Max-Forwards: 69\r\n\
             From: \"Al \\\"the\\\" Ice\" <sip:alice@example.com>;tag=1\r\n\
             To: <sip:bob@example.com>\r\n\
             Call-ID: 0001\r\n\
             CSeq: 1 INVITE\r\n\
             Contact: <sip:{token}@ringswitch.invalid>\r\n\
             Supported: 100rel, timer\r\n\
             X-Plan: 7\r\n\
             Content-Type: application/sdp\r\n\
             Content-Length: 5\r\n\r\nv=0\r\n"
        )
    );
    assert!(parse(&text).request().is_ok());
}

#[test]
fn a_message_has_no_contact() {
    let tokens = tokens();
    let text = written(|out| request(Method::Message, &[], None).write(ua(&tokens), 1, out));
    assert_eq!(parse(&text).value(HeaderName::Contact), None);
}

#[test]
fn a_preloaded_route_set_is_taken_loosely_or_strictly() {
    let tokens = tokens();
    let write = |routes: &str| {
        let mut request = request(Method::Options, &[], None);
        request.route(routes.as_bytes()).unwrap();
        written(|out| request.write(ua(&tokens), 1, out))
    };
    let text = write("<sip:a;lr>, <sip:b>");
    assert!(
        text.starts_with("OPTIONS sip:bob@192.0.2.4;transport=udp SIP/2.0\r\nRoute: <sip:a;lr>, <sip:b>\r\n"),
        "{text}"
    );
    let text = write("<sip:a> , <sip:b;lr>");
    assert!(
        text.starts_with("OPTIONS sip:a SIP/2.0\r\nRoute: <sip:b;lr>,<sip:bob@192.0.2.4;transport=udp>\r\n"),
        "{text}"
    );
    let text = write("<sip:a>");
    assert!(text.starts_with("OPTIONS sip:a SIP/2.0\r\nRoute: <sip:bob@192.0.2.4;transport=udp>\r\n"), "{text}");
}

#[test]
fn a_sips_uri_or_first_hop_makes_the_contact_sips() {
    let tokens = tokens();
    let party = |uri: &'static [u8]| Party::new(b"", uri, b"").unwrap();
    let write = |uri: &'static [u8], routes: &'static [u8]| {
        let mut request = NewRequest::new(Method::Invite, uri, party(b"sip:a@b"), party(b"sip:c@d"), CALL_ID).unwrap();
        request.route(routes).unwrap_or_default();
        written(|out| request.write(ua(&tokens), 1, out)).contains("Contact: <sips:rs.stable")
    };
    assert!(write(b"sips:c@d", b""));
    assert!(write(b"sip:c@d", b"<sips:proxy;lr>"));
    assert!(!write(b"sip:c@d", b"<sip:proxy;lr>"));
}

#[test]
fn an_author_is_told_what_is_wrong_with_his_text() {
    assert_eq!(Field::new(b"Subject", b"a\r\nBye: x"), Err(BadText::Control));
    assert_eq!(Field::new(b"Bad Name", b"a"), Err(BadText::Name));
    assert_eq!(Field::new(b"", b"a"), Err(BadText::Name));
    for reserved in
        ["Via", "v", "FROM", "l", "Content-Length", "c", "m", "Route", "record-route", "CSeq", "i", "Max-Forwards"]
    {
        assert_eq!(Field::new(reserved.as_bytes(), b"x"), Err(BadText::Reserved), "{reserved}");
    }
    // The proxy trusts these headers where it has sealed them itself.
    assert_eq!(Field::new(b"RINGSWITCH-way", b"x"), Err(BadText::Reserved));
    assert_eq!(Party::new(b"a\nb", b"sip:a@b", b"").unwrap_err(), BadText::Control);
    assert_eq!(Party::new(b"", b"sip:a@b>\r\nX: y<sip:c", b"").unwrap_err(), BadText::Uri);
    assert_eq!(Party::new(b"", b"sip:a@b", b"1;x").unwrap_err(), BadText::Identifier);
    let party = Party::new(b"", b"sip:a@b", b"1").unwrap();
    let new = |method, uri, call_id| {
        NewRequest::new(Method::new(method), uri, party, party, call_id).map(|_| ()).unwrap_err()
    };
    assert_eq!(new(b"IN VITE", b"sip:a@b", b"1"), BadText::Name);
    assert_eq!(new(b"INFO", b"sip:a@b SIP/2.0", b"1"), BadText::Uri);
    assert_eq!(new(b"INFO", b"sip:a@b", b"1 2"), BadText::Identifier);
    let mut request = request(Method::Invite, &[], None);
    for routes in [&b"<sip:a>\r\nX: y"[..], b"<http://x>", b"sip:a", b"<sip:a>,", b"<sip:a"] {
        assert_eq!(request.route(routes), Err(BadText::Uri));
    }
}

/// Text that would like to be a header of its own.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"Evil: 1".to_vec()),
        Just(b" ".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"\\".to_vec()),
        Just(b">".to_vec()),
        Just(b";tag=2".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn names(message: &Message<'_>) -> Vec<String> {
    message.headers().map(|h| String::from_utf8_lossy(h.raw_name()).into_owned()).collect()
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_its_place_in_a_request(text in hostile(), other in hostile()) {
        let tokens = tokens();
        let tame = "Subject: tame\r\n";
        let received = message(&["INFO sip:x SIP/2.0", "Subject: tame"]);
        let header = parse(&received).headers().next().unwrap();
        prop_assert_eq!(header.line, tame.as_bytes());
        let fields = [
            Field::new(b"X-A", &text).unwrap_or(Field::own(HeaderName::Reason, &text)),
            Field::new(&text, &other).unwrap_or(Field::received(&header).unwrap()),
        ];
        let body = Body { content_type: &text, octets: &other };
        let display = Party::new(&text, b"sip:a@b", b"1").or(Party::new(b"", &text, b"1"));
        let from = display.unwrap_or(Party::new(b"", b"sip:a@b", b"1").unwrap());
        let to = Party::new(b"", b"sip:a@b", &text).unwrap_or(Party::new(b"x", b"sip:a@b", b"").unwrap());
        let mut request = NewRequest::new(Method::new(&text), &other, from, to, &text)
            .or(NewRequest::new(Method::Info, b"sip:a@b", from, to, &other))
            .unwrap_or(NewRequest::new(Method::Info, b"sip:a@b", from, to, b"1").unwrap());
        (request.fields, request.body) = (&fields, Some(body));
        let has_route = request.route(&text).is_ok() && !text.is_empty();
        let mut out = Vec::new();
        request.write(ua(&tokens), 1, &mut out);
        let parsed = Message::parse(&out, &Limits::default()).unwrap();
        let mut expected = vec!["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq"];
        if has_route {
            expected.insert(0, "Route");
        }
        let given: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f.name()).into_owned()).collect();
        expected.extend(given.iter().map(String::as_str));
        expected.extend(["Content-Type", "Content-Length"]);
        prop_assert_eq!(names(&parsed), expected);
        prop_assert_eq!(parsed.body(), &other[..]);
        prop_assert!(parsed.request().is_ok());
    }

    #[test]
    fn no_text_breaks_out_of_its_place_in_a_response(text in hostile(), reason: String) {
        let tokens = tokens();
        let received = message(&[
            "INVITE sip:x SIP/2.0", "Via: SIP/2.0/UDP a;branch=z9hG4bK1", "From: <sip:a@b>;tag=1", "To: <sip:x>",
            "Call-ID: 1", "CSeq: 1 INVITE",
        ]);
        let fields = [Field::own(HeaderName::Reason, &text)];
        let response = NewResponse {
            reason: &(reason + "\r\nEvil: 1"),
            contact: dialog::Contact::Elsewhere(&text),
            fields: &fields,
            ..NewResponse::new(StatusCode::MOVED_TEMPORARILY, b"2")
        };
        let mut out = Vec::new();
        response.write(ua(&tokens), &parse(&received), "192.0.2.1:5060".parse().unwrap(), &mut out);
        let parsed = Message::parse(&out, &Limits::default()).unwrap();
        prop_assert_eq!(names(&parsed), ["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Reason", "Content-Length"]);
    }

    #[test]
    fn no_text_breaks_out_of_a_reason_or_a_sipfrag(text in hostile(), phrase: String) {
        let mut value = Vec::new();
        Reason { protocol: b"SIP", cause: Some(200), text: &text }.write(&mut value);
        prop_assert!(!value.contains(&b'\r') && !value.contains(&b'\n'));
        let received = [b"BYE sip:x SIP/2.0\r\nReason: ".as_slice(), &value, b"\r\n\r\n"].concat();
        let received = Message::parse(&received, &Limits::default()).unwrap();
        let reasons: Vec<_> = Reason::all(&received).collect();
        prop_assert_eq!(reasons.len(), 1);
        prop_assert_eq!(reasons[0].cause, Some(200));
        let progress = Progress::new(1, StatusCode::OK, &phrase, 60);
        let lines = progress.body().octets.split(|&b| b == b'\n').count();
        prop_assert_eq!(lines, 2);
    }
}
