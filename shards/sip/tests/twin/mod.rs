//! The parser's slow and obvious twin, written from the grammar (RFC 3261 §7, §25.1): it splits at separators, copies
//! everything, and has no idea of speed. Where the two disagree, one of them is wrong.
//!
//! It says what a message is, not which of several faults comes first: its errors are all `None`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use sip::{HeaderName, Host, Limits, Message, Rport, StartLine};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Text = Vec<u8>;
type Params = Vec<(Text, Option<Text>)>;

#[derive(Debug, PartialEq)]
struct Twin {
    start_line: Text,
    headers: Vec<(Text, Text)>,
    body: Text,
    /// What routing needs; `None` where it is missing or malformed.
    routing: Option<Routing>,
    /// Up to the first malformed one.
    vias: Vec<Via>,
    /// Of Contact, Route and Record-Route: of each line up to the first malformed one.
    addresses: [Vec<Address>; 3],
}

#[derive(Debug, PartialEq)]
struct Routing {
    via: Via,
    call_id: Text,
    cseq: (u32, Text),
    /// From, To and Max-Forwards: a response's are nobody's business.
    of_request: Option<(Address, Address, Option<u8>)>,
}

#[derive(Debug, PartialEq)]
struct Via {
    transport: Text,
    host: Text,
    port: Option<u16>,
    branch: Option<Text>,
    received: Option<IpAddr>,
    rport: Option<Option<u16>>,
    maddr: Option<Text>,
    params: Params,
}

#[derive(Debug, PartialEq)]
struct Address {
    display: Text,
    uri: Text,
    tag: Option<Text>,
    params: Params,
}

const MAX_MESSAGE: usize = 65_535;
const MAX_HEADERS: usize = 128;
const MAX_LINE: usize = 8192;

/// Long name, compact form, whether it stands once.
const KNOWN: [(&str, &str, bool); 21] = [
    ("via", "v", false),
    ("from", "f", true),
    ("to", "t", true),
    ("call-id", "i", true),
    ("cseq", "", true),
    ("max-forwards", "", true),
    ("contact", "m", false),
    ("content-length", "l", true),
    ("content-type", "c", true),
    ("supported", "k", false),
    ("expires", "", true),
    ("min-expires", "", true),
    ("rseq", "", true),
    ("rack", "", true),
    ("session-expires", "x", true),
    ("min-se", "", true),
    ("refer-to", "r", true),
    ("referred-by", "b", true),
    ("replaces", "", true),
    ("event", "o", true),
    ("subscription-state", "", true),
];

const LISTS: [(&str, HeaderName); 3] =
    [("contact", HeaderName::Contact), ("route", HeaderName::Route), ("record-route", HeaderName::RecordRoute)];

/// Panics where the parser and its twin disagree on `octets`.
pub fn assert_agreement(octets: &[u8]) {
    let twin = parse(octets);
    let message = match (Message::parse(octets, &Limits::default()), &twin) {
        (Ok(message), Some(_)) => message,
        (Err(_), None) => return,
        (ours, _) => panic!("parser: {:?}\ntwin: {twin:?}\n{}", ours.err(), octets.escape_ascii()),
    };
    assert_eq!(Some(read(&message)), twin, "parser on the left, twin on the right, of\n{}", octets.escape_ascii());
}

/// What the parser makes of it, in the twin's terms.
fn read(message: &Message<'_>) -> Twin {
    let bytes = message.bytes();
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let start_line = bytes[..line_end].to_vec();
    let head = match message.start_line() {
        StartLine::Request { method, uri } => [method.as_bytes(), b" ", uri, b" SIP/2.0"].concat(),
        StartLine::Response { status, reason } => {
            let blank: &[u8] = if start_line.len() > 11 { b" " } else { b"" };
            [b"SIP/2.0 ", status.get().to_string().as_bytes(), blank, reason].concat()
        }
    };
    assert!(head.eq_ignore_ascii_case(&start_line));
    let routing = match message.start_line() {
        StartLine::Request { .. } => message.request().ok().map(|r| Routing {
            via: via(&r.via),
            call_id: r.call_id.to_vec(),
            cseq: (r.cseq.number, r.cseq.method.as_bytes().to_vec()),
            of_request: Some((address(&r.from), address(&r.to), r.max_forwards)),
        }),
        StartLine::Response { .. } => message.response().ok().map(|r| Routing {
            via: via(&r.via),
            call_id: r.call_id.to_vec(),
            cseq: (r.cseq.number, r.cseq.method.as_bytes().to_vec()),
            of_request: None,
        }),
    };
    // The iterator goes on with the next line behind a malformed value; a reader stops at the first.
    let vias = message.vias().map_while(|v| v.ok().map(|v| via(&v))).collect();
    let addresses = LISTS.map(|(_, name)| message.addresses(name).flatten().map(|a| address(&a)).collect());
    Twin {
        start_line,
        headers: message.headers().map(|h| (h.raw_name().to_vec(), h.value.to_vec())).collect(),
        body: message.body().to_vec(),
        routing,
        vias,
        addresses,
    }
}

fn via(via: &sip::Via<'_>) -> Via {
    let host = match via.host {
        Host::Name(name) => name.to_vec(),
        Host::V4(v4) => v4.to_string().into_bytes(),
        Host::V6(v6) => format!("[{v6}]").into_bytes(),
    };
    Via {
        transport: via.transport.to_vec(),
        host,
        port: via.port,
        branch: via.branch.map(<[u8]>::to_vec),
        received: via.received,
        rport: match via.rport {
            Rport::Absent => None,
            Rport::Asked(_) => Some(None),
            Rport::Filled(port) => Some(Some(port)),
        },
        maddr: via.maddr.map(<[u8]>::to_vec),
        params: params(&via.params),
    }
}

fn address(address: &sip::Address<'_>) -> Address {
    Address {
        display: address.display.to_vec(),
        uri: address.uri.to_vec(),
        tag: address.tag.map(<[u8]>::to_vec),
        params: params(&address.params),
    }
}

fn params(params: &sip::Params<'_>) -> Params {
    params.iter().map(|p| (p.name.to_vec(), p.value.map(<[u8]>::to_vec))).collect()
}

fn parse(octets: &[u8]) -> Option<Twin> {
    let start = octets.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let octets = &octets[start..];
    let (start_line, mut rest) = split_line(octets)?;
    let is_request = check_start_line(&start_line)?;
    let mut headers: Vec<(Text, Text)> = Vec::new();
    loop {
        let (mut text, after) = split_line(rest)?;
        rest = after;
        if text.is_empty() {
            break;
        }
        // §7.3.1: a line that begins with white space continues the one before it.
        while let [b' ' | b'\t', ..] = rest {
            let (continuation, after) = split_line(rest)?;
            text.extend([b"\r\n", &continuation[..]].concat());
            rest = after;
        }
        let (name, value) = split_at_octet(&text, b':')?;
        // HCOLON allows blanks before the colon, but no fold.
        let name = &name[..name.iter().rposition(|b| !b" \t".contains(b)).map_or(0, |last| last + 1)];
        if !is_all(name, is_token) || text.len() > MAX_LINE {
            return None;
        }
        headers.push((name.to_vec(), trim(value)));
    }
    let is_repeated = |name: &str| values(&headers, name).len() > 1;
    let is_twice = KNOWN.iter().any(|(name, _, once)| *once && is_repeated(name));
    if is_twice || headers.len() > MAX_HEADERS || octets.len() > MAX_MESSAGE {
        return None;
    }
    let body = match &values(&headers, "content-length")[..] {
        [length, ..] => rest.get(..usize::try_from(number(length)?).unwrap())?,
        [] => rest,
    };
    let vias = values(&headers, "via").into_iter().flat_map(split_list).map_while(|v| parse_via(&v?)).collect();
    let addresses = LISTS.map(|(name, _)| {
        let of_line = |line| split_list(line).into_iter().map_while(|a| parse_address(&a?));
        values(&headers, name).into_iter().flat_map(of_line).collect()
    });
    let routing = routing(is_request, &start_line, &headers);
    Some(Twin { start_line, headers, body: body.to_vec(), routing, vias, addresses })
}

/// The first line without its CRLF, and what follows. Neither CR nor LF stands in it.
fn split_line(octets: &[u8]) -> Option<(Text, &[u8])> {
    let end = octets.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &octets[..end];
    let is_whole = !line.contains(&b'\r') && !line.contains(&b'\n');
    is_whole.then(|| (line.to_vec(), &octets[end + 2..]))
}

/// Whether it is a request's; `None` if it is neither that nor a response's.
fn check_start_line(line: &[u8]) -> Option<bool> {
    let mut parts = line.splitn(3, |&b| b == b' ');
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next());
    if line.len() > MAX_LINE {
        return None;
    }
    if first.eq_ignore_ascii_case(b"SIP/2.0") {
        let is_code = second.len() == 3 && matches!(number(second)?, 100..700);
        return is_code.then_some(false);
    }
    let is_sound = is_all(first, is_token) && is_all(second, |b| !is_lws(b));
    (is_sound && third?.eq_ignore_ascii_case(b"SIP/2.0")).then_some(true)
}

fn routing(is_request: bool, start_line: &[u8], headers: &[(Text, Text)]) -> Option<Routing> {
    let one = |name: &str| values(headers, name).first().cloned();
    let via = parse_via(&split_list(one("via")?).remove(0)?)?;
    let call_id = one("call-id").filter(|id| is_all(id, |b| !is_lws(b)))?;
    let cseq = one("cseq")?;
    let (digits, method) = cseq.split_at(cseq.iter().position(|&b| is_lws(b))?);
    let cseq = (number(digits)?, trim(method));
    if !is_all(&cseq.1, is_token) {
        return None;
    }
    let mut of_request = None;
    if is_request {
        let max_forwards = match one("max-forwards") {
            Some(digits) => Some(u8::try_from(number(&digits)?).ok()?),
            None => None,
        };
        let address = |name: &str| match &split_list(one(name)?)[..] {
            [Some(only)] => parse_address(only),
            _ => None,
        };
        let is_same_method = start_line.split(|&b| b == b' ').next() == Some(&cseq.1);
        of_request = Some((address("from")?, address("to")?, max_forwards)).filter(|_| is_same_method);
        of_request.as_ref()?;
    }
    Some(Routing { via, call_id, cseq, of_request })
}

fn values(headers: &[(Text, Text)], name: &str) -> Vec<Text> {
    let compact = KNOWN.iter().find(|(long, ..)| *long == name).map_or("", |(_, compact, _)| compact);
    let is_it = |n: &Text| [name, compact].iter().any(|spelling| n.eq_ignore_ascii_case(spelling.as_bytes()));
    headers.iter().filter(|(n, _)| is_it(n)).map(|(_, value)| value.clone()).collect()
}

/// Splits a list at its commas, those outside quotes and outside a URI's angle brackets. `None` where one stays open.
fn split_list(value: Text) -> Vec<Option<Text>> {
    let mut elements = Vec::new();
    let (mut from, mut at) = (0, 0);
    // Behind the first semicolon outside brackets stand parameters, where a bracket is as good as any other octet.
    let mut in_params = false;
    while at < value.len() {
        at += match value[at] {
            b'"' => match quoted_len(&value[at..]) {
                Some(len) => len,
                None => break,
            },
            b'<' if !in_params => match value[at..].iter().position(|&b| b == b'>') {
                Some(len) => len,
                None => break,
            },
            b',' => {
                elements.push(Some(trim(&value[from..at])));
                from = at + 1;
                in_params = false;
                1
            }
            b => {
                in_params |= b == b';';
                1
            }
        };
    }
    elements.push((at == value.len()).then(|| trim(&value[from..])));
    elements
}

/// `via-parm = sent-protocol LWS sent-by *( SEMI via-params )`.
fn parse_via(value: &[u8]) -> Option<Via> {
    let (head, params) = split_params(value)?;
    let (protocol, rest) = split_at_octet(&head, b'/')?;
    let (version, rest) = split_at_octet(rest, b'/')?;
    let rest = trim(rest);
    let (transport, sent_by) = rest.split_at(rest.iter().position(|&b| is_lws(b))?);
    let sent_by = trim(sent_by);
    if !trim(protocol).eq_ignore_ascii_case(b"SIP") || trim(version) != b"2.0" || !is_all(transport, is_token) {
        return None;
    }
    let host_len = match sent_by.first()? {
        b'[' => sent_by.iter().position(|&b| b == b']')? + 1,
        _ => sent_by.iter().position(|&b| b == b':' || is_lws(b)).unwrap_or(sent_by.len()),
    };
    let (host, port) = sent_by.split_at(host_len);
    let port = match &trim(port)[..] {
        [] => None,
        [b':', digits @ ..] => Some(u16::try_from(number(&trim(digits))?).ok().filter(|&port| port != 0)?),
        _ => return None,
    };
    // §7.3.1: a parameter stands once; only those that somebody reads are held to it.
    let one = |name: &str| {
        let mut named = params.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        let first = named.next();
        if named.next().is_some() { None } else { Some(first.map(|(_, value)| value.clone())) }
    };
    let with_value = |name: &str| match one(name)? {
        Some(None) => None,
        Some(value) => Some(value),
        None => Some(None),
    };
    let received = match with_value("received")? {
        Some(text) => Some(parse_received(str::from_utf8(&text).ok()?)?),
        None => None,
    };
    let rport = match one("rport")? {
        Some(Some(digits)) => Some(Some(u16::try_from(number(&digits)?).ok()?)),
        Some(None) => Some(None),
        None => None,
    };
    let (host, branch, maddr) = (parse_host(host)?, with_value("branch")?, with_value("maddr")?);
    Some(Via { transport: transport.to_vec(), host, port, branch, received, rport, maddr, params })
}

/// With brackets around IPv6 or without (RFC 5118 §4.5).
fn parse_received(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// The host in its usual spelling.
fn parse_host(host: &[u8]) -> Option<Text> {
    let text = str::from_utf8(host).ok()?;
    if let Some(inside) = text.strip_prefix('[') {
        return Some(format!("[{}]", inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?).into_bytes());
    }
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_label = |l: &&str| is_all(l.as_bytes(), |b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if text.len() > 255 || !labels.iter().all(is_label) {
        return None;
    }
    let ends_in_number = !text.ends_with('.') && labels.last()?.bytes().all(|b| b.is_ascii_digit());
    if ends_in_number && text.parse::<Ipv4Addr>().is_err() { None } else { Some(host.to_vec()) }
}

/// `( name-addr / addr-spec ) *( SEMI param )`.
fn parse_address(value: &[u8]) -> Option<Address> {
    let quoted = if value.starts_with(b"\"") { quoted_len(value)? } else { 0 };
    // A bracket behind a semicolon is a parameter's.
    let opening = value[quoted..].iter().position(|&b| matches!(b, b'<' | b';')).map(|at| quoted + at);
    let (display, uri, rest) = match opening.filter(|&at| value[at] == b'<') {
        Some(open) => {
            let (uri, rest) = split_at_octet(&value[open + 1..], b'>')?;
            (trim(&value[..open]), uri, rest)
        }
        None => {
            let (uri, rest) = value.split_at(opening.unwrap_or(value.len()));
            let is_bare = !trim(uri).iter().any(|b| b",?\"".contains(b));
            (Text::new(), uri.trim_ascii_end(), if is_bare { rest } else { return None })
        }
    };
    let is_display = match quoted {
        0 => display.iter().all(|&b| is_token(b) || is_lws(b) || b >= 0x80),
        _ => display.len() == quoted,
    };
    let (before, params) = split_params(rest)?;
    if !is_display || !is_all(uri, |b| !is_lws(b) && !b"<>".contains(&b)) || !before.is_empty() {
        return None;
    }
    let is_tag = |(name, _): &&(Text, Option<Text>)| name.eq_ignore_ascii_case(b"tag");
    let tags: Vec<_> = params.iter().filter(is_tag).map(|(_, value)| value.clone()).collect();
    let (last, before) = tags.split_last().map_or((None, &[][..]), |(last, before)| (last.clone(), before));
    let is_single = before.iter().all(Option::is_none);
    is_single.then(|| Address { display, uri: uri.to_vec(), tag: last, params })
}

/// What stands before the first semicolon, and the parameters behind it.
fn split_params(value: &[u8]) -> Option<(Text, Params)> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < value.len() {
        at += match value[at] {
            b'"' => quoted_len(&value[at..])?,
            b';' => {
                parts.push(&value[from..at]);
                from = at + 1;
                1
            }
            _ => 1,
        };
    }
    parts.push(&value[from..]);
    let params = parts[1..].iter().map(|part| {
        let (name, value) = match split_at_octet(part, b'=') {
            Some((name, value)) => (trim(name), Some(trim(value))),
            None => (trim(part), None),
        };
        let is_value = |v: &Text| match v.first() {
            Some(b'"') => quoted_len(v) == Some(v.len()),
            _ => is_all(v, |b| is_token(b) || b >= 0x80 || b"[]:/@<>&$#|=?".contains(&b)),
        };
        (is_all(&name, is_token) && value.as_ref().is_none_or(is_value)).then_some((name, value))
    });
    Some((trim(parts[0]), params.collect::<Option<_>>()?))
}

/// Length of the quoted string at the front, with its quotes.
fn quoted_len(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match value.get(at)? {
            b'"' => return Some(at + 1),
            // §25.1: quoted-pair holds neither CR nor LF.
            b'\\' if matches!(value.get(at + 1)?, b'\r' | b'\n') => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn split_at_octet(text: &[u8], octet: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == octet)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Leading zeros are allowed, and there may be more of them than any integer has digits.
fn number(digits: &[u8]) -> Option<u32> {
    if !is_all(digits, |b| b.is_ascii_digit()) {
        return None;
    }
    let significant = str::from_utf8(digits).unwrap().trim_start_matches('0');
    if significant.is_empty() { Some(0) } else { significant.parse().ok() }
}

fn trim(text: &[u8]) -> Text {
    let is_text = |b: &u8| !is_lws(*b);
    match (text.iter().position(is_text), text.iter().rposition(is_text)) {
        (Some(first), Some(last)) => text[first..=last].to_vec(),
        _ => Text::new(),
    }
}

fn is_all(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.iter().all(|&b| is(b))
}

fn is_lws(b: u8) -> bool {
    b" \t\r\n".contains(&b)
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}
