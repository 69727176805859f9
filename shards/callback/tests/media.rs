//! What an answer tells, and which silence it takes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use callback::{Encoding, Media, NoMedia};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n";

fn media(lines: &str) -> Result<Media, NoMedia> {
    Media::of_sdp(format!("{HEAD}{lines}").as_bytes())
}

fn silence(lines: &str) -> Option<(u8, Encoding)> {
    let silence = media(lines).unwrap().silence()?;
    Some((silence.payload_type(), silence.encoding()))
}

#[test]
fn the_address_is_the_streams_own_or_else_the_sessions() {
    let address = |lines| media(lines).unwrap().address().to_string();
    assert_eq!(address("m=audio 40000 RTP/AVP 0\r\n"), "198.51.100.7:40000");
    assert_eq!(address("m=audio 40000/2 RTP/AVP 0\r\nc=IN IP4 203.0.113.5\r\n"), "203.0.113.5:40000");
    assert_eq!(address("m=audio 40000 RTP/AVPF 0\r\nc=IN IP6 2001:db8::7\r\n"), "[2001:db8::7]:40000");
    // The first audio stream counts, whatever is before it.
    assert_eq!(address("m=video 5000 RTP/AVP 96\r\nm=audio 1 RTP/AVP 0\r\nm=audio 2 RTP/AVP 0\r\n"), "198.51.100.7:1");
}

#[test]
fn what_is_refused_held_or_encrypted_tells_none() {
    assert_eq!(media(""), Err(NoMedia::NoAudio));
    assert_eq!(media("m=video 5000 RTP/AVP 96\r\n"), Err(NoMedia::NoAudio));
    assert_eq!(media("m=audio 0 RTP/AVP 0\r\n"), Err(NoMedia::Refused));
    for held in ["a=sendonly", "a=inactive", "c=IN IP4 0.0.0.0", "c=IN IP6 ::"] {
        assert_eq!(media(&format!("m=audio 40000 RTP/AVP 0\r\n{held}\r\n")), Err(NoMedia::Held), "{held}");
    }
    for secure in ["RTP/SAVP", "UDP/TLS/RTP/SAVPF", "TCP/RTP/AVP", "udptl"] {
        assert_eq!(media(&format!("m=audio 40000 {secure} 0\r\n")), Err(NoMedia::NotPlain), "{secure}");
    }
    for name in ["c=IN IP4 gateway.example.com", "c=IN IP4 224.2.1.1/127", "c=ATM NSAP x"] {
        assert_eq!(media(&format!("m=audio 40000 RTP/AVP 0\r\n{name}\r\n")), Err(NoMedia::NoAddress), "{name}");
    }
}

#[test]
fn the_first_format_with_a_known_silence_is_taken() {
    assert_eq!(silence("m=audio 4000 RTP/AVP 0 8\r\n"), Some((0, Encoding::Pcmu)));
    assert_eq!(silence("m=audio 4000 RTP/AVP 18 8 0\r\n"), Some((8, Encoding::Pcma)));
    assert_eq!(silence("m=audio 4000 RTP/AVP 3\r\n"), Some((3, Encoding::Gsm)));
    assert_eq!(silence("m=audio 4000 RTP/AVP 9\r\n"), Some((9, Encoding::G722)));
    let mapped = |map: &str| silence(&format!("m=audio 4000 RTP/AVP 96\r\na=rtpmap:{map}\r\n"));
    assert_eq!(mapped("96 opus/48000/2"), Some((96, Encoding::Opus)));
    assert_eq!(mapped("96 pcma/8000"), Some((96, Encoding::Pcma)));
    assert_eq!(mapped("96 L16/16000"), Some((96, Encoding::L16 { rate: 16_000 })));
    for unknown in
        ["96 L16/44100", "96 L16/8000/2", "96 PCMU/16000", "96 opus/48000", "96 AMR/8000", "97 PCMU/8000", "96"]
    {
        assert_eq!(mapped(unknown), None, "{unknown}");
    }
    // A static number that is mapped anew means what it is mapped to, in the section of the stream alone.
    assert_eq!(silence("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n"), None);
    assert_eq!(
        silence("m=audio 4000 RTP/AVP 96\r\nm=video 1 RTP/AVP 96\r\na=rtpmap:96 PCMU/8000\r\n"),
        None,
        "another stream's map"
    );
    // RFC 5761 §4: numbers that look like RTCP.
    assert_eq!(silence("m=audio 4000 RTP/AVP 72\r\na=rtpmap:72 PCMU/8000\r\n"), None);
}

#[test]
fn comfort_noise_stands_in_only_where_it_was_agreed_on_for_a_codec_of_its_clock() {
    let noise = Some((13, Encoding::ComfortNoise { rate: 8_000 }));
    assert_eq!(silence("m=audio 4000 RTP/AVP 18 13 101\r\na=rtpmap:101 telephone-event/8000\r\n"), noise);
    assert_eq!(silence("m=audio 4000 RTP/AVP 13 18\r\n"), noise);
    assert_eq!(silence("m=audio 4000 RTP/AVP 13 0\r\n"), Some((0, Encoding::Pcmu)));
    assert_eq!(silence("m=audio 4000 RTP/AVP 18 101\r\na=rtpmap:101 telephone-event/8000\r\n"), None);
    assert_eq!(silence("m=audio 4000 RTP/AVP 13 101\r\na=rtpmap:101 telephone-event/8000\r\n"), None);
    let wide = "m=audio 4000 RTP/AVP 96 13 98\r\na=rtpmap:96 AMR-WB/16000\r\na=rtpmap:98 CN/16000\r\n";
    assert_eq!(silence(wide), Some((98, Encoding::ComfortNoise { rate: 16_000 })));
}

#[test]
fn no_text_does_harm() {
    bolero::check!().with_iterations(20_000).with_max_len(512).for_each(|text: &[u8]| {
        let _ = Media::of_sdp(text);
        let mut whole = HEAD.as_bytes().to_vec();
        whole.extend(b"m=audio 40000 RTP/AVP 0 96 97\r\na=rtpmap:96 ");
        whole.extend(text);
        let told = Media::of_sdp(&whole).map(|media| media.address().port());
        assert!(told.is_err() || told == Ok(40_000));
    });
}
