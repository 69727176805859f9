//! Reading session descriptions (RFC 8866, and RFC 3264 §8.4 for hold).

use crate::harness::{INVITE, crlf, message, parse};
use dialog::{Direction, Sdp};
use proptest::prelude::*;

/// RFC 8866 §5, shortened, with two media.
const EXAMPLE: &str = "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John Smith\r\n\
    c=IN IP4 198.51.100.1\r\nt=0 0\r\na=sendonly\r\nm=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
    m=video 51372/2 RTP/SAVPF 99\r\nc=IN IP6 2001:db8::2\r\na=sendrecv\r\nm=image 0 udptl t38\r\n";

fn sdp(text: &str) -> Sdp<'_> {
    Sdp::new(text.as_bytes())
}

#[test]
fn section_5_sessions_and_media_are_read() {
    let sdp = sdp(EXAMPLE);
    let origin = sdp.origin().unwrap();
    assert_eq!(
        (origin.username, origin.session_id, origin.version),
        (&b"jdoe"[..], &b"3724394400"[..], &b"3724394405"[..])
    );
    assert_eq!(origin.address.ip, "198.51.100.1".parse().ok());
    assert_eq!(sdp.connection().unwrap().raw, b"IP4 198.51.100.1");
    let media: Vec<_> = sdp.media().collect();
    let seen: Vec<_> = media.iter().map(|m| (m.kind, m.port, m.proto, m.direction)).collect();
    assert_eq!(
        seen,
        [
            (&b"audio"[..], 49170, &b"RTP/AVP"[..], Direction::SendOnly),
            (b"video", 51372, b"RTP/SAVPF", Direction::SendRecv),
            (b"image", 0, b"udptl", Direction::SendOnly),
        ]
    );
    assert_eq!(media[0].formats().collect::<Vec<_>>(), [&b"0"[..], b"8", b"101"]);
    assert_eq!(media[0].connection.unwrap().ip, "198.51.100.1".parse().ok());
    assert_eq!(media[1].connection.unwrap().ip, "2001:db8::2".parse().ok());
}

#[test]
fn section_5_lines_may_end_in_lf_alone() {
    let text = EXAMPLE.replace("\r\n", "\n");
    let ports: Vec<_> = sdp(&text).media().map(|m| m.port).collect();
    assert_eq!(ports, [49170, 51372, 0]);
    let unended = text.trim_end();
    assert_eq!(sdp(unended).media().count(), 3);
}

#[test]
fn what_breaks_the_grammar_has_no_meaning() {
    for text in [
        "",
        "\r\n",
        "=",
        "v",
        "m=",
        "m=audio",
        "m=audio 99999 x",
        "m=audio 18446744073709551616 RTP/AVP 0",
        "c=IN",
        "o=a b",
    ] {
        let sdp = sdp(text);
        assert!(sdp.media().all(|m| m.port == 0), "{text}");
        assert!(sdp.origin().is_none() && sdp.connection().is_none() && !sdp.is_hold(), "{text}");
    }
    let named = sdp("c=IN IP4 client.example.com\r\nm=audio 1 RTP/AVP 0\r\n");
    assert_eq!(named.connection().unwrap().ip, None);
    assert_eq!(named.media().count(), 1);
}

#[test]
fn media_are_read_up_to_a_bound() {
    let text = "m=audio 9 RTP/AVP 0\n".repeat(3000);
    assert_eq!(sdp(&text).media().count(), Sdp::MAX_MEDIA);
}

#[test]
fn rfc3264_8_4_hold_is_every_stream_one_way_or_nowhere() {
    let hold = |address: &str, session: &str, first: &str, second: &str| {
        let text = format!(
            "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 {address}\nt=0 0\n{session}m=audio 5000 RTP/AVP 0\n{first}\
             m=video 5002 RTP/AVP 31\n{second}"
        );
        Sdp::new(crlf(&text).as_bytes()).is_hold()
    };
    assert!(!hold("192.0.2.1", "", "", ""));
    assert!(hold("192.0.2.1", "a=inactive\n", "", ""));
    assert!(hold("192.0.2.1", "", "a=sendonly\n", "a=inactive\n"));
    assert!(!hold("192.0.2.1", "", "a=sendonly\n", ""));
    assert!(!hold("192.0.2.1", "a=sendonly\n", "a=recvonly\n", ""));
    assert!(hold("0.0.0.0", "", "", ""));
    assert!(!hold("0.0.0.0", "", "c=IN IP4 192.0.2.1\n", ""));
    // Nothing is held where nothing flows.
    assert!(!sdp("c=IN IP4 0.0.0.0\nm=audio 0 RTP/AVP 0\n").is_hold());
}

#[test]
fn a_message_carries_one_as_its_body_or_as_a_part_of_it() {
    assert_eq!(Sdp::of(&parse(INVITE)).unwrap().media().next().unwrap().port, 49172);
    let with = |content_type: &str, body: &str| {
        let text = message(&["INVITE sip:x SIP/2.0", content_type]) + body;
        Sdp::of(&parse(&text)).map(|sdp| String::from_utf8_lossy(sdp.as_bytes()).into_owned())
    };
    let multipart = "preamble\r\n--b1\r\nContent-Type: text/plain\r\n\r\n--b1 no\r\n--b1\r\ncontent-type: Application/SDP ;x=y\r\n\
        Content-Disposition: session\r\n\r\nv=0\r\nm=audio 1 x 0\r\n--b1--\r\n";
    assert_eq!(
        with("Content-Type: multipart/mixed; boundary=\"b1\"", multipart).as_deref(),
        Some("v=0\r\nm=audio 1 x 0")
    );
    assert_eq!(
        with("c: Multipart/Mixed;boundary=b1", &multipart.replace("\r\n", "\n")).as_deref(),
        Some("v=0\nm=audio 1 x 0")
    );
    assert_eq!(with("c: multipart/mixed;boundary=b2", multipart), None);
    assert_eq!(with("c: multipart/mixed", multipart), None);
    assert_eq!(with("c: text/plain", "v=0\r\n"), None);
    assert_eq!(with("c: application/sdp", ""), None);
    // Without a type it is one if it looks like one.
    assert_eq!(with("X: y", "v=0\r\n").as_deref(), Some("v=0\r\n"));
    assert_eq!(with("X: y", "hello").as_deref(), None);
}

proptest! {
    #[test]
    fn any_octets_can_be_read(octets: Vec<u8>, text in "([vocma=INP46 0-9.:/\r\n]|a=sendonly\r\n|m=audio 1 RTP/AVP 0\r\n){0,80}") {
        for octets in [&octets[..], text.as_bytes()] {
            let sdp = Sdp::new(octets);
            let raw: Vec<u8> = sdp.lines().flat_map(|l| l.raw.to_vec()).collect();
            prop_assert_eq!(&raw, octets);
            let _ = (sdp.origin(), sdp.connection(), sdp.direction(), sdp.is_hold());
            for media in sdp.media() {
                let _ = media.formats().count();
            }
        }
    }

    #[test]
    fn any_multipart_body_can_be_read(body in "(--b|\r\n|\n|v=0|Content-Type: application/sdp|x){0,30}") {
        let text = message(&["INVITE sip:x SIP/2.0", "Content-Type: multipart/mixed;boundary=b"]) + &body;
        if let Some(sdp) = Sdp::of(&parse(&text)) {
            prop_assert!(body.contains(str::from_utf8(sdp.as_bytes()).unwrap()));
        }
    }
}
