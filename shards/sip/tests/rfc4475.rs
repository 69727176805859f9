//! The torture messages of RFC 4475, each by its name, with what the parser has to give of it. What only a proxy, a
//! registrar or a UAS decides (416, 420, 483 …) is tested there; here stand the octets that they decide on.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use serde_json::Value;
use sip::{
    Address, CSeq, Error, HeaderName, Host, Limits, Message, Method, Request, Response, SipUri, StartLine, StatusCode,
    Transport, Uri, Via, write,
};
use std::collections::BTreeMap;

macro_rules! octets {
    ($($name:ident)*) => {
        [$((stringify!($name), include_bytes!(concat!("vectors/rfc4475/dat/", stringify!($name), ".dat")).as_slice())),*]
    };
}

static MESSAGES: [(&str, &[u8]); 50] = octets![
    badaspec badbranch baddate baddn badinv01 badvers bcast bext01 bigcode clerr cparam01 cparam02 dblreq esc01 esc02
    escnull escruri insuf intmeth inv2543 invut longreq ltgtruri lwsdisp lwsruri lwsstart mcl01 mismatch01 mismatch02
    mpart01 multi01 ncl noreason novelsc quotbal regaut01 regbadct regescrt scalar02 scalarlg sdp01 semiuri test
    transports trws unkscm unksm2 unreason wsinv zeromf
];

#[test]
fn every_outcome_is_one_that_the_manifest_allows() {
    let manifest: Vec<Value> = serde_json::from_str(include_str!("vectors/rfc4475/manifest.json")).unwrap();
    let manifest: BTreeMap<&str, &Value> = manifest.iter().map(|m| (m["name"].as_str().unwrap(), m)).collect();
    assert_eq!(manifest.keys().copied().collect::<Vec<_>>(), MESSAGES.map(|(name, _)| name));
    for (name, octets) in MESSAGES {
        let entry = manifest[name];
        let parser = entry["parser"].as_str().unwrap();
        match read(octets) {
            Ok(()) => assert!(!parser.starts_with("reject"), "{name} is to be rejected"),
            Err(error) => {
                assert_ne!(entry["cls"], "valid", "{name}: {error}");
                let codes = entry["codes"].as_array().map(Vec::as_slice).unwrap_or_default();
                let ours = Value::from(error.response().get());
                let is_dropped = entry["kind"] == "response";
                assert!(is_dropped || codes.contains(&ours), "{name}: {error} is none of {codes:?}");
            }
        }
    }
}

// §3.1.1: valid messages.

#[test]
fn wsinv_is_read_through_all_its_white_space() {
    let message = message("wsinv");
    let request = message.request().unwrap();
    assert_eq!(request.method, Method::Invite);
    assert_eq!(request.to.tag, Some(&b"1918181833n"[..]));
    assert_eq!(request.from.tag, Some(&b"98asjd8"[..]));
    assert_eq!(request.from.display, br#""J Rosenberg \\\"""#);
    assert_eq!(request.from.uri, b"sip:jdrosen@example.com");
    assert_eq!(request.cseq, CSeq { number: 9, method: Method::Invite });
    assert_eq!(request.call_id, b"wsinv.ndaksdj@192.0.2.1");
    assert_eq!(request.max_forwards, Some(68));
    assert_eq!(message.body().len(), 150);
    let branches: Vec<_> = vias(&message).iter().map(|v| v.branch.unwrap()).collect();
    assert_eq!(branches, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
    let route = only(&message, HeaderName::Route);
    assert!(sip_uri(route.uri).is_loose());
    let contact = only(&message, HeaderName::Contact);
    assert_eq!(contact.display, br#""Quoted string \"\"""#);
    assert_eq!(contact.params.value("q"), Some(&b"0.33"[..]));
    assert_eq!(contact.params.value("newparam"), Some(&b"newvalue"[..]));
    assert_eq!(contact.params.value("secondparam"), Some(&b""[..]));
    assert_eq!(other(&message, "UnknownHeaderWithUnusualValue"), b";;,,;;,;");
    assert_eq!(other(&message, "NewFangledHeader"), b"newfangled value\r\n continued newfangled value");
    assert_eq!(other(&message, "s"), b"");
}

#[test]
fn intmeth_keeps_every_unusual_octet() {
    let message = message("intmeth");
    let request = message.request().unwrap();
    assert_eq!(request.method, Method::Other(b"!interesting-Method0123456789_*+`.%indeed'~"));
    assert_eq!(request.cseq.method, request.method);
    let uri = sip_uri(request.uri);
    let user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)";
    let (user, password) = user.split_once(':').unwrap();
    assert_eq!((uri.user, uri.password), (Some(user.as_bytes()), Some(password.as_bytes())));
    assert_eq!(uri.host, Host::Name(b"example.com"));
    assert_eq!(request.to.display, b"\"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\"");
    assert_eq!(request.from.display, b"token1~` token2'+_ token3*%!.-");
    assert_eq!(request.from.tag, Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(request.from.params.value("fromParam''~+*_!.-%"), Some("\"работающий\"".as_bytes()));
    assert_eq!(request.via.branch, Some(&b"z9hG4bK-.!%66*_+`'~"[..]));
    assert_eq!(request.call_id, br#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);
    assert_eq!(request.max_forwards, Some(255));
    assert_eq!(other(&message, "extensionHeader-!.%*+_`'~"), "\u{feff}大停電".as_bytes());
}

#[test]
fn esc01_unescapes_once_and_only_where_a_uri_is_compared() {
    let message = message("esc01");
    let request = message.request().unwrap();
    let uri = sip_uri(request.uri);
    assert_eq!(uri.user, Some(&b"sips%3Auser%40example.com"[..]));
    assert_eq!(uri.host, Host::Name(b"example.net"));
    assert!(sip_uri(request.to.uri).is_equivalent(&sip_uri(b"sip:user@example.com")));
    assert_eq!(sip_uri(request.from.uri).user, Some(&b"I%20have%20spaces"[..]));
    let contact = sip_uri(only(&message, HeaderName::Contact).uri);
    assert!(contact.is_loose());
    assert!(contact.is_equivalent(&sip_uri(b"sip:caller@host5.example.net;lr;name=value%25%34%31")));
    assert!(!contact.is_equivalent(&sip_uri(b"sip:caller@host5.example.net;lr;name=valueA")));
}

#[test]
fn escnull_does_not_end_a_user_at_its_nul() {
    let message = message("escnull");
    let request = message.request().unwrap();
    let mut aor = Vec::new();
    sip_uri(request.to.uri).write_aor("example.com", &mut aor);
    assert_eq!(aor, b"null-%00-null@example.com");
    let contacts: Vec<_> = addresses(&message, HeaderName::Contact).iter().map(|c| sip_uri(c.uri)).collect();
    assert_eq!(contacts.len(), 2);
    assert!(!contacts[0].is_equivalent(&contacts[1]));
}

#[test]
fn esc02_unescapes_neither_method_nor_header_name_nor_display_name() {
    let message = message("esc02");
    let request = message.request().unwrap();
    assert_eq!(request.method, Method::Other(b"RE%47IST%45R"));
    assert_eq!(request.to.display, b"\"%Z%45\"");
    assert_eq!(request.via.branch, Some(&b"z9hG4bK209%fzsnel234"[..]));
    let contacts: Vec<_> = addresses(&message, HeaderName::Contact).iter().map(|c| c.uri).collect();
    assert_eq!(contacts, [&b"sip:alias1@host1.example.com"[..], b"sip:alias3@host3.example.com"]);
    assert_eq!(other(&message, "C%6Fntact"), b"<sip:alias2@host2.example.com>");
}

#[test]
fn lwsdisp_needs_no_blank_before_the_angle_bracket() {
    let from = message("lwsdisp").request().unwrap().from;
    assert_eq!((from.display, from.uri), (&b"caller"[..], &b"sip:caller@example.com"[..]));
}

#[test]
fn longreq_is_read_to_its_last_via() {
    let message = message("longreq");
    let request = message.request().unwrap();
    let vias = vias(&message);
    assert_eq!(vias.len(), 34);
    for (via, number) in vias.iter().zip((1..=33).rev()) {
        assert_eq!(via.host, Host::Name(format!("sip{number}.example.com").as_bytes()));
    }
    assert_eq!(vias[33].received, Some([192, 0, 2, 5].into()));
    assert!(vias[33].branch.unwrap().starts_with(b"verylonglong"));
    assert_eq!(sip_uri(request.to.uri).port, Some(6000));
    assert!(request.from.tag.unwrap().starts_with(b"12982982982982"));
    assert_eq!((request.cseq.number, request.max_forwards), (3_882_340, Some(70)));
    assert_eq!(message.body().len(), 150);
}

#[test]
fn dblreq_ends_with_its_first_request() {
    let message = message("dblreq");
    assert_eq!(message.request().unwrap().method, Method::Register);
    assert_eq!(only(&message, HeaderName::Contact).uri, b"sip:j.user@host.example.com");
    assert_eq!(message.body(), b"");
    assert_eq!(message.bytes().len(), 300);
    let behind = &octets("dblreq")[300..];
    assert_eq!(Message::parse(behind, &Limits::default()).unwrap().request().unwrap().method, Method::Invite);
}

#[test]
fn semiuri_has_its_semicolon_in_the_user() {
    let uri = sip_uri(message("semiuri").request().unwrap().uri);
    assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
    assert_eq!((uri.host, uri.params().count()), (Host::Name(b"example.com"), 0));
}

#[test]
fn transports_may_be_unknown_to_us() {
    let message = message("transports");
    message.request().unwrap();
    let known: Vec<_> = vias(&message).iter().map(|v| Transport::from_token(v.transport)).collect();
    assert_eq!(known, [Some(Transport::Udp), None, Some(Transport::Tls), None, Some(Transport::Tcp)]);
}

#[test]
fn mpart01_keeps_its_binary_body() {
    let message = message("mpart01");
    assert_eq!(message.request().unwrap().method, Method::Message);
    assert_eq!(message.body().len(), 553);
    assert_eq!(message.bytes(), octets("mpart01"));
    assert!(message.body().ends_with(b"\r\n--7a9cbec02ceef655--\r\n") && message.body().contains(&0));
    let route = sip_uri(only(&message, HeaderName::Route).uri);
    assert_eq!((route.host.ip(), route.port), (Some([127, 0, 0, 1].into()), Some(5080)));
}

#[test]
fn unreason_keeps_a_reason_in_utf8() {
    let message = message("unreason");
    let StartLine::Response { status, reason } = message.start_line() else { panic!("it is a response") };
    assert_eq!(status, StatusCode::OK);
    let expected = "= 2**3 * 5**2 но сто девяносто девять - простое";
    assert_eq!(str::from_utf8(reason), Ok(expected));
    assert_eq!(message.response().unwrap().cseq, CSeq { number: 35, method: Method::Invite });
}

#[test]
fn noreason_is_empty() {
    let message = message("noreason");
    assert_eq!(message.start_line(), StartLine::Response { status: StatusCode::TRYING, reason: b"" });
    message.response().unwrap();
}

// §3.1.2: invalid messages.

#[test]
fn badinv01_has_a_malformed_via() {
    assert_rejected("badinv01", Error::Malformed(HeaderName::Via));
    let contact = message("badinv01").addresses(HeaderName::Contact).next();
    assert_eq!(contact.unwrap().unwrap_err(), Error::Malformed(HeaderName::Contact));
}

#[test]
fn clerr_promises_more_body_than_there_is() {
    assert_rejected("clerr", Error::BodyTruncated);
}

#[test]
fn ncl_promises_less_than_nothing() {
    assert_rejected("ncl", Error::Malformed(HeaderName::ContentLength));
}

#[test]
fn scalar02_counts_beyond_32_bits() {
    assert_rejected("scalar02", Error::Malformed(HeaderName::CSeq));
    assert_eq!(message("scalar02").expires(), Some(Err(Error::Malformed(HeaderName::Expires))));
}

#[test]
fn scalarlg_is_a_response_to_drop() {
    assert_eq!(message("scalarlg").response().unwrap_err(), Error::Malformed(HeaderName::CSeq));
}

#[test]
fn quotbal_opens_a_quote_and_does_not_close_it() {
    assert_rejected("quotbal", Error::Malformed(HeaderName::To));
}

#[test]
fn ltgtruri_has_no_uri_in_its_request_line() {
    assert_rejected("ltgtruri", Error::MalformedUri);
}

#[test]
fn lwsruri_lwsstart_and_trws_have_blanks_where_none_belong() {
    for name in ["lwsruri", "lwsstart", "trws"] {
        assert_rejected(name, Error::MalformedStartLine);
    }
}

#[test]
fn escruri_keeps_the_escaped_headers_apart() {
    let message = message("escruri");
    let uri = sip_uri(message.request().unwrap().uri);
    assert_eq!(uri.headers(), b"?Route=%3Csip:example.com%3E");
    assert_eq!(uri.without_headers(), b"sip:user@example.com");
    assert_eq!(message.all(HeaderName::Route).count(), 0);
}

#[test]
fn baddate_is_nobodys_business_here() {
    let message = message("baddate");
    message.request().unwrap();
    assert_eq!(other(&message, "Date"), b"Fri, 01 Jan 2010 16:00:00 EST");
}

#[test]
fn regbadct_has_a_question_mark_outside_angle_brackets() {
    let message = message("regbadct");
    message.request().unwrap();
    let contact = message.addresses(HeaderName::Contact).next().unwrap();
    assert_eq!(contact.unwrap_err(), Error::Malformed(HeaderName::Contact));
}

#[test]
fn badaspec_has_blanks_within_angle_brackets() {
    assert_rejected("badaspec", Error::Malformed(HeaderName::To));
}

#[test]
fn baddn_has_commas_outside_quotes() {
    // The archive's file also lacks the empty line that the RFC's text has.
    assert_rejected("baddn", Error::MissingEmptyLine);
    let mended = [octets("baddn"), b"\r\n"].concat();
    let message = Message::parse(&mended, &Limits::default()).unwrap();
    assert_eq!(message.request().unwrap_err(), Error::Malformed(HeaderName::From));
}

#[test]
fn badvers_is_answered_505() {
    assert_rejected("badvers", Error::UnsupportedVersion);
    assert_eq!(Error::UnsupportedVersion.response(), StatusCode::VERSION_NOT_SUPPORTED);
}

#[test]
fn mismatch01_and_mismatch02_say_two_methods() {
    for name in ["mismatch01", "mismatch02"] {
        assert_rejected(name, Error::CSeqMethodMismatch);
    }
}

#[test]
fn bigcode_is_a_response_to_drop() {
    assert_eq!(parse("bigcode").unwrap_err(), Error::StatusCodeOutOfRange);
    assert!(Message::salvage(octets("bigcode"), &Limits::default()).is_none());
}

// §3.2: transaction layer.

#[test]
fn badbranch_has_the_cookie_and_no_more() {
    let via = message("badbranch").request().unwrap().via;
    assert_eq!(via.branch, Some(Via::MAGIC_COOKIE));
}

// §3.3: application layer.

#[test]
fn insuf_lacks_what_an_answer_takes_over() {
    assert_rejected("insuf", Error::Missing(HeaderName::CallId));
}

#[test]
fn unkscm_and_novelsc_are_for_schemes_that_are_not_ours() {
    for (name, expected) in [("unkscm", "nobodyKnowsThisScheme"), ("novelsc", "soap.beep")] {
        let message = message(name);
        let uri = Uri::parse(message.request().unwrap().uri).unwrap();
        assert!(matches!(uri, Uri::Other { scheme } if scheme == expected.as_bytes()));
        assert_eq!(uri.sip().unwrap_err().response(), StatusCode::UNSUPPORTED_URI_SCHEME);
    }
}

#[test]
fn unksm2_has_other_schemes_where_a_proxy_does_not_look() {
    let message = message("unksm2");
    let request = message.request().unwrap();
    let contact = only(&message, HeaderName::Contact);
    for address in [request.to, request.from, contact] {
        assert!(matches!(address.parse_uri(), Ok(Uri::Other { .. })), "{address:?}");
    }
}

#[test]
fn bext01_lists_two_extensions_for_each() {
    let message = message("bext01");
    message.request().unwrap();
    let tokens = |name| message.tokens(name).map(|t| str::from_utf8(t).unwrap()).collect::<Vec<_>>();
    assert_eq!(tokens(HeaderName::Require), ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(tokens(HeaderName::ProxyRequire), ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]);
}

#[test]
fn invut_and_sdp01_are_sound_whatever_their_bodies() {
    let message = message("invut");
    message.request().unwrap();
    assert_eq!(message.value(HeaderName::ContentType), Some(&b"application/unknownformat"[..]));
    assert_eq!(message.body().len(), 40);
    self::message("sdp01").request().unwrap();
}

#[test]
fn regaut01_keeps_a_scheme_that_nobody_knows() {
    let message = message("regaut01");
    assert_eq!(message.request().unwrap().method, Method::Register);
    assert_eq!(message.value(HeaderName::Authorization), Some(&b"NoOneKnowsThisScheme opaque-data=here"[..]));
    assert_eq!(message.addresses(HeaderName::Contact).count(), 0);
}

#[test]
fn multi01_and_mcl01_say_twice_what_is_said_once() {
    assert_rejected("multi01", Error::Duplicate(HeaderName::CSeq));
    assert_rejected("mcl01", Error::Duplicate(HeaderName::ContentLength));
}

#[test]
fn bcast_shows_its_broadcast_address() {
    let message = message("bcast");
    message.response().unwrap();
    assert_eq!(vias(&message)[1].host.ip(), Some([255, 255, 255, 255].into()));
}

#[test]
fn zeromf_is_zero_and_not_missing() {
    assert_eq!(message("zeromf").request().unwrap().max_forwards, Some(0));
}

#[test]
fn cparam01_and_cparam02_differ_in_whose_parameter_it_is() {
    let message = message("cparam01");
    let outside = only(&message, HeaderName::Contact);
    assert_eq!(outside.params.value("unknownparam"), Some(&b""[..]));
    assert_eq!(sip_uri(outside.uri).param("unknownparam"), None);
    let message = self::message("cparam02");
    let inside = only(&message, HeaderName::Contact);
    assert_eq!(inside.params.value("unknownparam"), None);
    assert_eq!(sip_uri(inside.uri).param("unknownparam"), Some(&b""[..]));
}

#[test]
fn regescrt_keeps_the_escaped_route_in_its_contact() {
    let message = message("regescrt");
    assert_eq!(message.request().unwrap().method, Method::Register);
    let contact = only(&message, HeaderName::Contact);
    assert_eq!(sip_uri(contact.uri).headers(), b"?Route=%3Csip:sip.example.com%3E");
}

// §3.4: backward compatibility.

#[test]
fn inv2543_lacks_what_rfc_2543_did_not_know() {
    let message = message("inv2543");
    let request = message.request().unwrap();
    assert_eq!((request.max_forwards, request.from.tag, request.via.branch), (None, None, None));
    // Without angle brackets the parameter is To's own.
    assert_eq!(request.to.params.value("user"), Some(&b"phone"[..]));
    assert_eq!(message.body().len(), 105);
}

// In the archive, and nowhere in the RFC.

#[test]
fn test_names_no_version_and_is_dropped() {
    assert_eq!(parse("test").unwrap_err(), Error::MalformedStartLine);
    assert!(Message::salvage(octets("test"), &Limits::default()).is_none());
}

fn octets(name: &str) -> &'static [u8] {
    MESSAGES.iter().find(|(n, _)| *n == name).map(|(_, octets)| *octets).expect("every message is in the table")
}

fn parse(name: &str) -> Result<Message<'static>, Error> {
    Message::parse(octets(name), &Limits::default())
}

fn message(name: &str) -> Message<'static> {
    parse(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn vias(message: &Message<'static>) -> Vec<Via<'static>> {
    message.vias().collect::<Result<_, _>>().unwrap()
}

fn addresses(message: &Message<'static>, name: HeaderName) -> Vec<Address<'static>> {
    message.addresses(name).collect::<Result<_, _>>().unwrap()
}

fn only(message: &Message<'static>, name: HeaderName) -> Address<'static> {
    let [address] = addresses(message, name)[..] else { panic!("one address is in {name:?}") };
    address
}

fn sip_uri(raw: &[u8]) -> SipUri<'_> {
    Uri::parse(raw).and_then(Uri::sip).unwrap()
}

/// The value of a header that the parser does not know.
fn other(message: &Message<'static>, name: &str) -> &'static [u8] {
    let is_it = |h: &sip::Header<'_>| h.name == HeaderName::Other && h.raw_name() == name.as_bytes();
    message.headers().find(is_it).unwrap().value
}

/// What a proxy asks of the parser before it looks at the meaning of a message.
fn read(octets: &[u8]) -> Result<(), Error> {
    let message = Message::parse(octets, &Limits::default())?;
    if message.is_request() {
        let Request { uri, .. } = message.request()?;
        Uri::parse(uri)?;
    } else {
        let Response { .. } = message.response()?;
    }
    message.vias().try_for_each(|via| via.map(drop))
}

/// The request is refused for that reason, and it can be answered: well-formed, and with what identifies it.
fn assert_rejected(name: &str, error: Error) {
    assert_eq!(read(octets(name)), Err(error), "{name}");
    let request = Message::salvage(octets(name), &Limits::default()).expect("a request is clear enough to be answered");
    assert!(request.is_request());
    let mut answer = Vec::new();
    let source = "192.0.2.200:5062".parse().unwrap();
    write::begin_response(&mut answer, &request, error.response(), &error.to_string(), b"ours", source);
    write::finish(&mut answer, b"");
    let text = String::from_utf8_lossy(&answer);
    let answer = Message::parse(&answer, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    let StartLine::Response { status, reason } = answer.start_line() else { panic!("{name}: {text}") };
    assert_eq!((status, reason), (error.response(), error.to_string().as_bytes()));
    for header in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        assert_eq!(answer.value(header), request.value(header), "{name}");
    }
    if let Some(to) = request.value(HeaderName::To) {
        assert!(answer.value(HeaderName::To).unwrap().starts_with(to), "{name}");
    }
    assert_eq!(answer.all(HeaderName::Via).count(), request.all(HeaderName::Via).count());
    // The answer to a request with a sound Via, Call-ID and CSeq is one that the next proxy can route.
    match answer.response() {
        // RFC 3261 §18.2.1: it came from elsewhere than the Via says.
        Ok(response) => assert_eq!(response.via.received, Some([192, 0, 2, 200].into()), "{name}:\n{text}"),
        Err(Error::Malformed(HeaderName::Via)) => assert!(request.vias().next().unwrap().is_err(), "{name}"),
        Err(fault) => assert_eq!(fault, error, "{name}:\n{text}"),
    }
}
