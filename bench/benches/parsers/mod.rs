//! Three parsers, each from the octets of an INVITE to the fields that routing needs.
//!
//! The message is an INVITE within a dialog, as a proxy meets it: 992 octets, 14 header lines, SDP. Each parser gives the
//! same fields in the same order.

use bytes::Bytes;
use std::hint::black_box;

/// The message.
pub const INVITE: &str = "INVITE sip:bob@client.biloxi.example.com:5061;transport=udp SIP/2.0\r\n\
    Via: SIP/2.0/UDP edge.atlanta.example.com:5062;branch=z9hG4bK721e418c4.1;rport\r\n\
    Via: SIP/2.0/UDP client.atlanta.example.com:5060;branch=z9hG4bK74bf9;received=192.0.2.101\r\n\
    Max-Forwards: 69\r\n\
    Route: <sip:ss1.biloxi.example.com;lr>\r\n\
    From: \"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
    To: \"Bob\" <sip:bob@biloxi.example.com>;tag=314159\r\n\
    Call-ID: 3848276298220188511@atlanta.example.com\r\n\
    CSeq: 27614 INVITE\r\n\
    Contact: <sip:alice@client.atlanta.example.com:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO\r\n\
    Supported: replaces, timer, path\r\n\
    User-Agent: Example-Phone/4.2.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 273\r\n\
    \r\n\
    v=0\r\n\
    o=alice 2890844526 2890844527 IN IP4 192.0.2.101\r\n\
    s=-\r\n\
    c=IN IP4 192.0.2.101\r\n\
    t=0 0\r\n\
    m=audio 49172 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=rtcp:49173 IN IP4 192.0.2.101\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

/// One routing field.
pub enum Field<'a> {
    /// As it stands.
    Text(&'a [u8]),
    /// A number, or 1 for yes.
    Number(u32),
}

use Field::{Number, Text};

/// How many fields each parser gives: method, Request-URI's user and host, Via's host, port, branch and rport, tags of From
/// and To, Call-ID, number and method of CSeq, Max-Forwards, host of the topmost Route.
const FIELDS: usize = 14;

/// By our own parser.
pub fn ours(octets: &[u8], see: &mut impl FnMut(Field)) {
    let message = sip::Message::parse(octets, &sip::Limits::default());
    let message = message.as_ref().expect("a sound message");
    let request = message.request().expect("a sound request");
    let uri = sip::Uri::parse(request.uri).and_then(sip::Uri::sip).expect("a SIP URI");
    let route = message.addresses(sip::HeaderName::Route).next().expect("a Route").expect("a sound Route");
    let route = sip::Uri::parse(route.uri).and_then(sip::Uri::sip).expect("a SIP URI");
    see(Number(u32::from(request.method == sip::Method::Invite)));
    see(Text(uri.user.expect("a user")));
    see(Text(host(&uri.host)));
    see(Text(host(&request.via.host)));
    see(Number(u32::from(request.via.port.expect("a port"))));
    see(Text(request.via.branch.expect("a branch")));
    see(Number(u32::from(matches!(request.via.rport, sip::Rport::Asked(_)))));
    see(Text(request.from.tag.expect("a tag")));
    see(Text(request.to.tag.expect("a tag")));
    see(Text(request.call_id));
    see(Number(request.cseq.number));
    see(Number(u32::from(request.cseq.method == sip::Method::Invite)));
    see(Number(u32::from(request.max_forwards.expect("Max-Forwards"))));
    see(Text(host(&route.host)));
}

fn host<'b>(host: &sip::Host<'b>) -> &'b [u8] {
    match host {
        sip::Host::Name(name) => name,
        _ => panic!("every host of the message is a name"),
    }
}

/// By `rsip`.
pub fn rsip(octets: &[u8], see: &mut impl FnMut(Field)) {
    use rsip::prelude::{HeadersExt, ToTypedHeader, UntypedHeader};

    let request = rsip::Request::try_from(octets).expect("a sound message");
    let via = request.via_header().expect("a Via").typed().expect("a sound Via");
    let from = request.from_header().expect("a From").typed().expect("a sound From");
    let to = request.to_header().expect("a To").typed().expect("a sound To");
    let cseq = request.cseq_header().expect("a CSeq").typed().expect("a sound CSeq");
    let route = request.route_header().expect("a Route").typed().expect("a sound Route");
    let max_forwards = request.max_forwards_header().expect("Max-Forwards").num().expect("a number");
    let host = |uri: &rsip::Uri, see: &mut dyn FnMut(Field)| match uri.host() {
        rsip::Host::Domain(domain) => see(Text(domain.value().as_bytes())),
        rsip::Host::IpAddr(_) => panic!("every host of the message is a name"),
    };
    let is_rport = |param: &rsip::Param| matches!(param, rsip::Param::Other(name, None) if name.value() == "rport");
    see(Number(u32::from(request.method == rsip::Method::Invite)));
    see(Text(request.uri.user().expect("a user").as_bytes()));
    host(&request.uri, see);
    host(&via.uri, see);
    see(Number(u32::from(*via.uri.port().expect("a port").value())));
    see(Text(via.branch().expect("a branch").value().as_bytes()));
    see(Number(u32::from(via.params.iter().any(is_rport))));
    see(Text(from.tag().expect("a tag").value().as_bytes()));
    see(Text(to.tag().expect("a tag").value().as_bytes()));
    see(Text(request.call_id_header().expect("a Call-ID").value().as_bytes()));
    see(Number(cseq.seq));
    see(Number(u32::from(cseq.method == rsip::Method::Invite)));
    see(Number(max_forwards));
    host(&route.uris()[0].uri, see);
}

/// By `ezk-sip-types`.
pub fn ezk(octets: &Bytes, see: &mut impl FnMut(Field)) {
    use ezk_sip_types::{
        Headers, Method, Name,
        header::typed::{CSeq, CallID, FromTo, MaxForwards, Routing, Via},
        host::Host,
        msg::{Line, MessageLine, PullParser},
        parse::Parse,
        uri::SipUriUserPart,
    };

    let mut lines = PullParser::new(octets, 0).map(|line| {
        let line = line.unwrap_or_else(|_| panic!("a whole message"));
        std::str::from_utf8(line).expect("the message is ASCII")
    });
    let (_, start) = MessageLine::parse(octets)(lines.next().expect("a start line")).expect("a sound start line");
    let MessageLine::Request(start) = start else { panic!("the message is a request") };
    let mut headers = Headers::new();
    for line in lines {
        let (_, line) = Line::parse(octets, line).expect("a sound header line");
        headers.insert(line.name, line.value);
    }
    let via: Via = headers.get_named().expect("a sound Via");
    let from: FromTo = headers.get(Name::FROM).expect("a sound From");
    let to: FromTo = headers.get(Name::TO).expect("a sound To");
    let call_id: CallID = headers.get_named().expect("a sound Call-ID");
    let cseq: CSeq = headers.get_named().expect("a sound CSeq");
    let max_forwards: MaxForwards = headers.get_named().expect("a sound Max-Forwards");
    let route: Routing = headers.get(Name::ROUTE).expect("a sound Route");
    let name = |host: &Host, see: &mut dyn FnMut(Field)| match host {
        Host::Name(name) => see(Text(name.as_bytes())),
        _ => panic!("every host of the message is a name"),
    };
    let SipUriUserPart::User(user) = &start.uri.user_part else { panic!("the Request-URI has a user") };
    see(Number(u32::from(start.method == Method::INVITE)));
    see(Text(user.as_bytes()));
    name(&start.uri.host_port.host, see);
    name(&via.sent_by.host, see);
    see(Number(u32::from(via.sent_by.port.expect("a port"))));
    see(Text(via.params.get_val("branch").expect("a branch").as_bytes()));
    see(Number(u32::from(via.params.get("rport").is_some_and(|rport| rport.value.is_none()))));
    see(Text(from.tag.as_ref().expect("a tag").as_bytes()));
    see(Text(to.tag.as_ref().expect("a tag").as_bytes()));
    see(Text(call_id.0.as_bytes()));
    see(Number(cseq.cseq));
    see(Number(u32::from(cseq.method == Method::INVITE)));
    see(Number(u32::from(max_forwards.0)));
    name(&route.uri.uri.host_port.host, see);
}

/// What a parser gives, to be compared.
fn fields(parse: impl FnOnce(&mut dyn FnMut(Field))) -> Vec<String> {
    let mut fields = Vec::new();
    parse(&mut |field| {
        fields.push(match field {
            Text(text) => String::from_utf8_lossy(text).into_owned(),
            Number(number) => number.to_string(),
        });
    });
    fields
}

/// Keeps the compiler from leaving a field out.
pub fn hold(field: Field) {
    match field {
        Text(text) => drop(black_box(text)),
        Number(number) => drop(black_box(number)),
    }
}

/// Panics unless all three give the same.
pub fn assert_agreement(octets: &Bytes) {
    let expected = fields(|mut see| ours(octets, &mut see));
    assert_eq!(expected.len(), FIELDS);
    assert_eq!(fields(|mut see| rsip(octets, &mut see)), expected);
    assert_eq!(fields(|mut see| ezk(octets, &mut see)), expected);
}
