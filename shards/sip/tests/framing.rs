//! Framing of streams: by sections of RFC 3261 and RFC 5626, over the torture messages, and beside a slow twin.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read vectors from files and fail by panicking"
)]

use proptest::{collection::vec, prelude::*, sample::select};
use sip::framing::{Frame, FrameError, Framer};
use sip::{Limits, Message, StatusCode};
use std::path::Path;

const LIMITS: Limits = Limits { max_message: 8192, max_headers: 128, max_line: 8192 };

/// Small enough that generated streams run into it.
const TIGHT: Limits = Limits { max_message: 60, ..LIMITS };

/// How a healthy stream stands after its last frame.
const WAITS: Result<Frame, FrameError> = Ok(Frame::Incomplete);

const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 3\r\n\r\nabc";

#[test]
fn a_message_ends_where_its_content_length_says() {
    assert_eq!(frames(OPTIONS, LIMITS), (vec![message(OPTIONS.len())], WAITS));
    let more = [OPTIONS, b"SIP/2.0 200 OK\r\nl:0\r\n\r\n", b"ACK"].concat();
    assert_eq!(frames(&more, LIMITS), (vec![message(OPTIONS.len()), message(more.len() - OPTIONS.len() - 3)], WAITS));
}

#[test]
fn content_length_is_found_in_every_spelling() {
    for spelling in [
        "Content-Length: 3",
        "CONTENT-LENGTH:3",
        "l:3",
        "L \t :\t 3 \t",
        "content-length :\r\n 3",
        "l:\r\n\t\r\n 0003\r\n ",
        "l: 3\r\nContent-Length: 3",
        "Call-ID: l:9\r\nSubject: x\r\n l: 9\r\nlong: 9\r\nContent-Length-X: 9\r\nContent-Length\r\nl: 3",
    ] {
        let stream = format!("OPTIONS sip:a@b SIP/2.0\r\n{spelling}\r\n\r\nabc");
        assert_eq!(frames(stream.as_bytes(), LIMITS), (vec![message(stream.len())], WAITS), "{spelling}");
    }
}

#[test]
fn a_message_whose_length_is_unknown_or_disputed_is_an_error_with_a_response() {
    for (fields, error, response) in [
        ("Via: x", FrameError::MissingContentLength, StatusCode::BAD_REQUEST),
        ("l:", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: -1", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: +1", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: 3, 3", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: 3\r\n 3", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: 0x3", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: 3\r\nContent-Length: 4", FrameError::ConflictingContentLengths, StatusCode::BAD_REQUEST),
        ("l: x\r\nContent-Length: 4", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
        ("l: 8192", FrameError::MessageTooLarge, StatusCode::MESSAGE_TOO_LARGE),
        ("l: 4294967295", FrameError::MessageTooLarge, StatusCode::MESSAGE_TOO_LARGE),
        ("l: 4294967296", FrameError::BadContentLength, StatusCode::BAD_REQUEST),
    ] {
        let stream = format!("OPTIONS sip:a@b SIP/2.0\r\n{fields}\r\n\r\nabc");
        assert_eq!(frames(stream.as_bytes(), LIMITS), (vec![], Err(error)), "{fields}");
        assert_eq!(error.response(), Some(response));
    }
}

#[test]
fn limits_are_met_to_the_octet() {
    let head = b"OPTIONS sip:a@b SIP/2.0\r\nl: 10\r\n\r\n";
    let stream = [head.as_slice(), b"0123456789"].concat();
    let at_most = |octets: usize| Limits { max_message: octets as u16, ..LIMITS };
    assert_eq!(frames(&stream, at_most(stream.len())), (vec![message(stream.len())], WAITS));
    assert_eq!(frames(head, at_most(stream.len() - 1)), (vec![], Err(FrameError::MessageTooLarge)));
    assert_eq!(frames(head, at_most(head.len())), (vec![], Err(FrameError::MessageTooLarge)));

    let header = at_most(head.len() - 1);
    assert_eq!(frames(&stream, header), (vec![], Err(FrameError::HeaderTooLarge)));
    assert_eq!(FrameError::HeaderTooLarge.response(), Some(StatusCode::MESSAGE_TOO_LARGE));
    // It is told as soon as it is known: nobody can make us buffer more.
    assert_eq!(frames(&head[..head.len() - 2], header).1, WAITS);
    assert_eq!(frames(&head[..head.len() - 1], header).1, Err(FrameError::HeaderTooLarge));
}

#[test]
fn what_is_not_sip_is_told_from_its_first_octet_or_line() {
    for stream in [
        b"\x16\x03\x01\x02\x00".as_slice(),
        b"\n",
        b" ",
        b"\rX",
        b"\0",
        b"GET / HTTP/1.1\r\nH",
        b"\r\n\r\nhello\r\nh",
        b"OPTIONS sip:a@b\r\nl",
    ] {
        assert_eq!(frames(stream, LIMITS).1, Err(FrameError::NotSip), "{stream:?}");
    }
    assert_eq!(FrameError::NotSip.response(), None);
    // A version that is not ours is answered by the parser, with 505.
    assert_eq!(frames(b"OPTIONS sip:a@b SIP/7.0 \r\nl", LIMITS).1, WAITS);
}

#[test]
fn a_line_end_without_cr_is_refused_in_the_header_section_and_free_in_a_body() {
    for stream in
        ["OPTIONS sip:a@b SIP/2.0\n", "OPTIONS sip:a@b SIP/2.0\r\nl: 0\n", "OPTIONS sip:a@b SIP/2.0\r\nl: 0\r\n\n"]
    {
        assert_eq!(frames(stream.as_bytes(), LIMITS), (vec![], Err(FrameError::BareLineFeed)));
    }
    assert_eq!(FrameError::BareLineFeed.response(), None);
    let body = b"OPTIONS sip:a@b SIP/2.0\r\nl: 6\r\n\r\na\n\n\r\n\r";
    assert_eq!(frames(body, LIMITS), (vec![message(body.len())], WAITS));
}

#[test]
fn two_crlfs_are_a_ping_and_one_is_a_pong() {
    let (pong, ping) = (Frame::KeepAlive { octets: 2, ping: false }, Frame::KeepAlive { octets: 2, ping: true });
    assert_eq!(frames(b"\r", LIMITS), (vec![], WAITS));
    assert_eq!(frames(b"\r\n", LIMITS), (vec![pong], WAITS));
    assert_eq!(frames(b"\r\n\r\n", LIMITS), (vec![pong, ping], WAITS));
    assert_eq!(frames(b"\r\n\r\n\r\n\r\n", LIMITS), (vec![pong, ping, pong, ping], WAITS));
    let stream = [b"\r\n", OPTIONS, b"\r\n\r\n"].concat();
    assert_eq!(frames(&stream, LIMITS), (vec![pong, message(OPTIONS.len()), pong, ping], WAITS));
}

#[test]
fn an_error_stays() {
    let mut framer = Framer::new(LIMITS);
    let stream = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(framer.next(stream), Err(FrameError::MissingContentLength));
    }
}

#[test]
fn rfc_3665_calls_come_out_of_one_stream_as_they_went_in() {
    let mut messages = vectors("rfc3665", "msg");
    assert_eq!(messages.len(), 178);
    // The ACK of §3.8 F19 has no Content-Length, which only a datagram may lack.
    messages.retain(|(name, octets)| {
        let lacks_length = name == "3.8_F19";
        assert_eq!(frames(octets, LIMITS).1, if lacks_length { Err(FrameError::MissingContentLength) } else { WAITS });
        !lacks_length
    });
    let stream: Vec<u8> = messages.iter().flat_map(|(_, octets)| octets.iter().copied()).collect();
    let lengths: Vec<_> = messages.iter().map(|(_, octets)| message(octets.len())).collect();
    assert_eq!(frames(&stream, LIMITS), (lengths, WAITS));
}

#[test]
fn rfc_4475_messages_are_framed_as_on_a_stream() {
    for (name, octets) in vectors("rfc4475/dat", "dat") {
        let expected = match &*name {
            // §3.1.1.8: trailing octets of a datagram are a request of their own on a stream. The Content-Length of that
            // one is five octets short, and what is left begins no message.
            "dblreq" => {
                let between = Frame::KeepAlive { octets: 2, ping: false };
                (vec![message(300), between, message(443)], Err(FrameError::NotSip))
            }
            // §3.1.2.2: 9999 octets are promised and do not come.
            "clerr" => (vec![], Err(FrameError::MessageTooLarge)),
            // §3.1.2.3: Content-Length is -999.
            "ncl" => (vec![], Err(FrameError::BadContentLength)),
            // §3.3.9
            "mcl01" => (vec![], Err(FrameError::ConflictingContentLengths)),
            // §3.4.1: RFC 2543 let Content-Length be absent.
            "inv2543" => (vec![], Err(FrameError::MissingContentLength)),
            // §3.1.2.15: the archive's file ends before the empty line.
            "baddn" => (vec![], WAITS),
            // Not in the RFC: its request line has no version.
            "test" => (vec![], Err(FrameError::NotSip)),
            _ => (vec![message(octets.len())], WAITS),
        };
        assert_eq!(frames(&octets, LIMITS), expected, "{name}");
    }
    // With room for it, the stream waits for the body that clerr promises.
    let clerr = vectors("rfc4475/dat", "dat").into_iter().find(|(name, _)| name == "clerr").expect("it is there").1;
    assert_eq!(frames(&clerr, Limits { max_message: u16::MAX, ..LIMITS }), (vec![], WAITS));
}

#[test]
fn rfc_5118_messages_are_framed_whole() {
    let messages = vectors("rfc5118/wire", "dat");
    assert_eq!(messages.len(), 12);
    for (name, octets) in messages {
        assert_eq!(frames(&octets, LIMITS), (vec![message(octets.len())], WAITS), "{name}");
    }
}

proptest! {
    #[test]
    fn the_framer_and_its_slow_twin_agree_on_any_stream_in_any_pieces(
        stream in stream(), cuts in vec(1..12usize, 1..20), tight: bool,
    ) {
        let limits = if tight { TIGHT } else { LIMITS };
        let expected = slow_frames(&stream, limits);
        prop_assert_eq!(frames(&stream, limits), expected.clone());
        prop_assert_eq!(frames_in_pieces(&stream, limits, cuts.iter().copied().cycle()), expected.clone());
        prop_assert_eq!(frames_in_pieces(&stream, limits, std::iter::repeat(1)), expected);
    }

    #[test]
    fn the_parser_ends_a_message_where_the_framer_does(stream in stream()) {
        let mut rest = &stream[..];
        for frame in frames(&stream, LIMITS).0 {
            let (Frame::Message { octets } | Frame::KeepAlive { octets, .. }) = frame else { unreachable!() };
            let (frame, after) = rest.split_at(octets);
            if let Ok(message) = Message::parse(frame, &LIMITS) {
                prop_assert_eq!(message.bytes(), frame);
            }
            rest = after;
        }
    }
}

fn message(octets: usize) -> Frame {
    Frame::Message { octets }
}

/// The frames of a stream that arrived whole, and what is said of the octets behind the last.
fn frames(stream: &[u8], limits: Limits) -> (Vec<Frame>, Result<Frame, FrameError>) {
    frames_in_pieces(stream, limits, std::iter::once(stream.len()))
}

/// The same of a stream that arrives in pieces of the given lengths, as a connection would read it.
fn frames_in_pieces(
    stream: &[u8],
    limits: Limits,
    pieces: impl Iterator<Item = usize>,
) -> (Vec<Frame>, Result<Frame, FrameError>) {
    let (mut framer, mut found) = (Framer::new(limits), Vec::new());
    let (mut taken, mut arrived) = (0, 0);
    for piece in pieces {
        arrived = stream.len().min(arrived + piece);
        loop {
            match framer.next(&stream[taken..arrived]) {
                Ok(Frame::Incomplete) => break,
                Err(error) => return (found, Err(error)),
                Ok(frame) => {
                    let (Frame::KeepAlive { octets, .. } | Frame::Message { octets }) = frame else { unreachable!() };
                    taken += octets;
                    found.push(frame);
                }
            }
        }
        if arrived == stream.len() {
            break;
        }
    }
    (found, WAITS)
}

/// The twin: for every frame it looks at ever longer prefixes, each from its beginning and without memory.
fn slow_frames(stream: &[u8], limits: Limits) -> (Vec<Frame>, Result<Frame, FrameError>) {
    let (mut found, mut rest, mut crlfs) = (Vec::new(), stream, 0);
    loop {
        let Some(decided) = (0..=rest.len()).find_map(|n| slow_frame(&rest[..n], limits)) else {
            return (found, WAITS);
        };
        let octets = match decided {
            Ok(octets) => octets,
            Err(error) => return (found, Err(error)),
        };
        if rest.starts_with(b"\r\n") {
            crlfs += 1;
            found.push(Frame::KeepAlive { octets, ping: crlfs % 2 == 0 });
        } else {
            crlfs = 0;
            found.push(message(octets));
        }
        rest = &rest[octets..];
    }
}

/// The length of the frame if `prefix` is one, None if more is needed to tell.
fn slow_frame(prefix: &[u8], limits: Limits) -> Option<Result<usize, FrameError>> {
    match prefix {
        [] | b"\r" => return None,
        b"\r\n" => return Some(Ok(2)),
        [first, ..] if !(0x21..=0x7e).contains(first) => return Some(Err(FrameError::NotSip)),
        _ => {}
    }
    let end = find(prefix, b"\r\n\r\n").map(|at| at + 4);
    let section = &prefix[..end.unwrap_or(prefix.len())];
    // Octets as characters, one each.
    let text: String = section.iter().map(|&c| char::from(c)).collect();
    let unfolded = unfold(&text);
    if let Some((line, rest)) = unfolded.split_once("\r\n")
        && !rest.is_empty()
    {
        let line = line.trim_matches([' ', '\t', '\r', '\n']).to_ascii_uppercase();
        let last = line.rsplit([' ', '\t', '\r', '\n']).next().unwrap();
        if !line.starts_with("SIP/") && !last.starts_with("SIP/") {
            return Some(Err(FrameError::NotSip));
        }
    }
    if text.replace("\r\n", "").contains('\n') {
        return Some(Err(FrameError::BareLineFeed));
    }
    let max = usize::from(limits.max_message);
    if section.len() > max || end.is_none() && section.len() == max {
        return Some(Err(FrameError::HeaderTooLarge));
    }
    let end = end?;
    let lengths = unfolded.split("\r\n").skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim_end_matches([' ', '\t', '\r', '\n']).to_ascii_lowercase();
        ["content-length", "l"].contains(&&*name).then_some(value.trim_matches([' ', '\t', '\r', '\n']))
    });
    let (mut length, mut wrong) = (None, None);
    for value in lengths {
        let digits = Some(value).filter(|v| v.chars().all(|c| c.is_ascii_digit()));
        let Some(value) = digits.and_then(|v| v.parse::<u32>().ok()) else {
            wrong = wrong.or(Some(FrameError::BadContentLength));
            continue;
        };
        if length.is_some_and(|before| before != value) {
            wrong = wrong.or(Some(FrameError::ConflictingContentLengths));
        }
        length = Some(value);
    }
    let body = match (wrong, length) {
        (Some(error), _) => return Some(Err(error)),
        (None, None) => return Some(Err(FrameError::MissingContentLength)),
        (None, Some(body)) => body,
    };
    let octets = end + body as usize;
    if octets > max {
        return Some(Err(FrameError::MessageTooLarge));
    }
    (prefix.len() == octets).then_some(Ok(octets))
}

fn unfold(text: &str) -> String {
    text.replace("\r\n ", "   ").replace("\r\n\t", "   ")
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// Streams of messages, keep-alives, broken messages and junk.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let field = select(vec![
        "Content-Length: 3",
        "l:0",
        "L\t: 12",
        "content-length:\r\n 3",
        "l: 3\r\n\t",
        "l: -3",
        "l: 70",
        "l: 9000",
        "l: 99999999999999999999",
        "Subject: folded\r\n l: 4",
        "Via: x",
        "\r\n \r\n",
        "no colon",
        "bare\nline feed",
        "bare\rcr",
    ]);
    let start = select(vec![
        "OPTIONS sip:a@b SIP/2.0",
        "ACK sip:a@b sip/2.0 \t",
        "SIP/2.0 200 OK",
        "X Y SIP/3.0",
        "GET / HTTP/1.1",
        "X\r\n SIP/2.0",
    ]);
    let well = (vec(field, 0..4), start, select(vec!["", "abc", "abc\r\n\r\nabcde", "\r\n"]))
        .prop_map(|(fields, start, body)| format!("{start}\r\n{}\r\n\r\n{body}", fields.join("\r\n")).into_bytes());
    let keep_alive = select(vec!["\r\n", "\r\n\r\n", "\r"]).prop_map(|s| s.as_bytes().to_vec());
    let alphabet = b"\r\n \t:l3SIP/2.0 X\0\xff".to_vec();
    let junk = prop_oneof![vec(any::<u8>(), 0..20), vec(select(alphabet), 0..40)];
    let whole = Just(OPTIONS.to_vec());
    let piece = prop_oneof![4 => whole, 6 => well, 3 => keep_alive, 1 => junk];
    let mutated = (piece, proptest::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut octets, change)| {
            if let Some((at, value)) = change
                && !octets.is_empty()
            {
                let at = at.index(octets.len());
                octets[at] = value;
            }
            octets
        },
    );
    vec(mutated, 0..8).prop_map(|pieces| pieces.concat())
}

/// The files of one directory of vectors, by name.
fn vectors(directory: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(directory);
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}
