//! What a controller that joins two calls does with their descriptions (RFC 3725): an offer that stands for nobody yet, the answer of
//! one party as the offer to the other, and the codecs that both have.

use super::{Direction, Line, Sdp};
use sip::Octets;
use std::borrow::Cow;

/// The codecs of [`write_placeholder`]: those that gateways have (RFC 3551 §6), comfort noise (RFC 3389) and tones (RFC 4733).
const PLACEHOLDER_FORMATS: &str = "0 8 9 18 3 13 101";

/// A codec as `a=rtpmap` names it: encoding, clock rate and, beyond one, channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec(Cow<'static, str>);

impl Codec {
    /// The codec of this name, such as `PCMU/8000`; in any case.
    pub fn new(name: &str) -> Self {
        Self(name.to_ascii_uppercase().into())
    }

    /// Its name in upper case.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// That of a payload type which needs no `a=rtpmap` (RFC 3551 §6); of any other a name that nothing else has.
    fn of_static(format: &[u8]) -> Self {
        Self(match format {
            b"0" => "PCMU/8000".into(),
            b"3" => "GSM/8000".into(),
            b"4" => "G723/8000".into(),
            b"8" => "PCMA/8000".into(),
            b"9" => "G722/8000".into(),
            b"10" => "L16/44100/2".into(),
            b"11" => "L16/44100".into(),
            b"13" => "CN/8000".into(),
            b"15" => "G728/8000".into(),
            b"18" => "G729/8000".into(),
            _ => String::from_utf8_lossy(format).into_owned().into(),
        })
    }

    /// Whether it carries sound: neither tones nor the noise of silence.
    pub fn is_sound(&self) -> bool {
        !self.0.starts_with("TELEPHONE-EVENT/") && !self.0.starts_with("CN/")
    }
}

/// Writes the offer for a party whose peer is yet to be called (RFC 3725): one stream of sound, at the address that means hold
/// (RFC 2543), where nobody listens.
pub fn write_placeholder(direction: Direction, session_id: u64, out: &mut impl Octets) {
    out.put_display(format_args!(
        "v=0\r\no=- {session_id} 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 9 RTP/AVP {PLACEHOLDER_FORMATS}\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na={}\r\n",
        direction.attribute()
    ));
}

impl Sdp<'_> {
    /// Writes this answer as the offer to another party. Who chose a role for DTLS leaves it to him (RFC 5763 §5). What the answer to
    /// a placeholder says of directions is that its sender is on hold (RFC 3264 §6.1), and is left out.
    pub fn write_as_offer(&self, answers_placeholder: bool, out: &mut impl Octets) {
        for line in self.lines() {
            match line.value {
                _ if answers_placeholder && Direction::of(&line).is_some() => {}
                b"setup:active" | b"setup:passive" if line.kind == b'a' => out.put(b"a=setup:actpass\r\n"),
                _ => out.put(line.raw),
            }
        }
    }

    /// Writes it as a description of the session with this number, in this version: one that [`write_placeholder`] began.
    pub fn write_in_session(&self, session_id: u64, version: u64, out: &mut impl Octets) {
        for line in self.lines() {
            if line.kind == b'o' {
                out.put_display(format_args!("o=- {session_id} {version} IN IP4 0.0.0.0\r\n"));
            } else {
                out.put(line.raw);
            }
        }
    }

    /// The codecs of its streams of sound.
    pub fn codecs(&self) -> Vec<Codec> {
        self.formats().into_iter().map(|(_, codec)| codec).collect()
    }

    /// Writes it without the codecs of sound that are not `wanted`; a stream that would be left with nothing but tones and noise keeps
    /// all that it has. True if that is another description.
    pub fn write_narrowed(&self, wanted: impl Fn(&Codec) -> bool, out: &mut impl Octets) -> bool {
        let mut is_changed = false;
        self.each_section(|media, lines| {
            let Some((media, (head, formats))) = media.and_then(|media| Some((media, sound(&media)?))) else {
                return media.iter().chain(lines).for_each(|line| out.put(line.raw));
            };
            let is_kept = |format: &[u8]| {
                let codec = codec(format, lines);
                !codec.is_sound() || wanted(&codec)
            };
            let formats: Vec<_> = formats.collect();
            let kept: Vec<_> = formats.iter().copied().filter(|format| is_kept(format)).collect();
            if kept.len() == formats.len() || !kept.iter().any(|format| codec(format, lines).is_sound()) {
                return [&media].into_iter().chain(lines).for_each(|line| out.put(line.raw));
            }
            is_changed = true;
            out.put(b"m=");
            out.put(head);
            for format in &kept {
                out.put(b" ");
                out.put(format);
            }
            out.put(b"\r\n");
            for line in lines {
                let is_of_another = format_of(line).is_some_and(|format| format != b"*" && !kept.contains(&format));
                if !is_of_another {
                    out.put(line.raw);
                }
            }
        });
        is_changed
    }

    /// Whether who was told `told` in its place, and sends the codecs of `sender`, may go on so: media goes to the same places, and what
    /// comes is understood. Who it is from, its version and who is on hold do not matter.
    pub fn serves_like(&self, told: &Sdp<'_>, sender: &Sdp<'_>) -> bool {
        let (own, sent) = (self.formats(), sender.formats());
        self.places() == told.places() && sent.iter().all(|format| own.contains(format))
    }

    /// Where media goes, and by what keys.
    fn places(&self) -> Vec<&[u8]> {
        let place = |line: Line<'_>| match line.kind {
            b'c' => true,
            b'a' => is_key(line.value),
            _ => false,
        };
        let lines = self.lines();
        lines
            .filter_map(|line| match sound(&line) {
                Some((head, _)) if line.kind == b'm' => Some(head),
                _ => (line.kind == b'm' || place(line)).then_some(line.value),
            })
            .collect()
    }

    /// The payload types of its streams of sound, with their codecs.
    fn formats(&self) -> Vec<(&[u8], Codec)> {
        let mut all = Vec::new();
        let lines: Vec<_> = self.lines().collect();
        let starts: Vec<_> = (0..lines.len()).filter(|&at| lines[at].kind == b'm').collect();
        for (n, &at) in starts.iter().enumerate() {
            let end = starts.get(n + 1).copied().unwrap_or(lines.len());
            if let Some((_, formats)) = sound(&lines[at]) {
                all.extend(formats.map(|format| (format, codec(format, &lines[at + 1..end]))));
            }
        }
        all
    }

    /// Calls `each` with the session's lines, then with each `m=` line and those behind it.
    fn each_section(&self, mut each: impl FnMut(Option<Line<'_>>, &[Line<'_>])) {
        let lines: Vec<_> = self.lines().collect();
        let mut rest = &lines[..];
        let mut media = None;
        loop {
            let end = rest.iter().position(|line| line.kind == b'm').unwrap_or(rest.len());
            each(media, &rest[..end]);
            match rest[end..].split_first() {
                Some((line, behind)) => (media, rest) = (Some(*line), behind),
                None => return,
            }
        }
    }
}

/// What keys or a path for the media depend on.
fn is_key(value: &[u8]) -> bool {
    [&b"crypto:"[..], b"fingerprint:", b"candidate:", b"ice-ufrag:", b"ice-pwd:", b"rtcp:"]
        .iter()
        .any(|name| value.starts_with(name))
}

/// Of an `m=` line of sound over RTP, what stands before the formats, and these.
fn sound<'b>(media: &Line<'b>) -> Option<(&'b [u8], impl Iterator<Item = &'b [u8]> + use<'b>)> {
    let mut at = 0;
    for _ in 0..3 {
        at += media.value[at..].iter().position(|&b| b == b' ')? + 1;
    }
    let (head, formats) = media.value.split_at(at);
    let is_sound = head.starts_with(b"audio ") && memchr::memmem::find(head, b"RTP/").is_some();
    is_sound.then(|| (head.trim_ascii_end(), super::words(formats)))
}

/// The format that an attribute is about.
fn format_of<'b>(line: &Line<'b>) -> Option<&'b [u8]> {
    let names = [&b"rtpmap:"[..], b"fmtp:", b"rtcp-fb:"];
    let value = names.iter().find_map(|name| line.value.strip_prefix(*name)).filter(|_| line.kind == b'a')?;
    value.split(|&b| b == b' ').next()
}

/// The codec that `format` stands for among the attributes of its stream.
fn codec(format: &[u8], lines: &[Line<'_>]) -> Codec {
    let mapped = lines.iter().find_map(|line| {
        let mut words = line.value.strip_prefix(b"rtpmap:")?.splitn(2, |&b| b == b' ');
        words.next().filter(|named| *named == format)?;
        let name = str::from_utf8(words.next()?).ok()?.trim();
        Some(Codec::new(name.strip_suffix("/1").unwrap_or(name)))
    });
    mapped.unwrap_or_else(|| Codec::of_static(format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "v=0\r\no=gw 5 7 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\na=inactive\r\n\
        m=audio 4000 RTP/AVP 8 96 0 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=inactive\r\na=setup:active\r\na=ptime:20\r\n";

    fn written(work: impl FnOnce(&Sdp<'_>, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        work(&Sdp::new(ANSWER.as_bytes()), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_placeholder_is_a_held_stream_of_common_codecs() {
        let mut out = Vec::new();
        write_placeholder(Direction::Inactive, 77, &mut out);
        let sdp = Sdp::new(&out);
        assert!(sdp.is_hold());
        let origin = sdp.origin().unwrap();
        assert_eq!((origin.session_id, origin.version), (&b"77"[..], &b"1"[..]));
        let media = sdp.media().next().unwrap();
        assert_eq!((media.kind, media.port, media.direction), (&b"audio"[..], 9, Direction::Inactive));
        let names: Vec<_> = sdp.codecs().iter().map(|codec| codec.name().to_owned()).collect();
        assert_eq!(
            names,
            ["PCMU/8000", "PCMA/8000", "G722/8000", "G729/8000", "GSM/8000", "CN/8000", "TELEPHONE-EVENT/8000"]
        );
    }

    #[test]
    fn an_answer_becomes_an_offer_that_holds_nobody() {
        let first = written(|sdp, out| sdp.write_as_offer(true, out));
        assert_eq!(first, ANSWER.replace("a=inactive\r\n", "").replace("setup:active", "setup:actpass"));
        // Whoever answers an offer that holds nobody says what he wants.
        let later = written(|sdp, out| sdp.write_as_offer(false, out));
        assert_eq!(later, ANSWER.replace("setup:active", "setup:actpass"));
    }

    #[test]
    fn a_description_is_narrowed_to_the_codecs_of_another() {
        let narrowed = written(|sdp, out| {
            assert!(sdp.write_narrowed(|codec| codec.name() == "PCMU/8000", out));
        });
        let expected = ANSWER
            .replace("8 96 0 101", "0 101")
            .replace("a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:8 PCMA/8000\r\n", "");
        assert_eq!(narrowed, expected);
    }

    #[test]
    fn what_would_leave_no_sound_leaves_all() {
        for wanted in [|_: &Codec| true, |codec: &Codec| codec.name() == "G729/8000"] {
            let same = written(|sdp, out| assert!(!sdp.write_narrowed(wanted, out)));
            assert_eq!(same, ANSWER);
        }
    }

    #[test]
    fn a_description_serves_who_was_told_another_while_places_and_codecs_are_the_same() {
        let told = Sdp::new(ANSWER.as_bytes());
        let sender = ANSWER.replace("8 96 0 101", "0 101");
        let serves =
            |text: &str, sender: &str| Sdp::new(text.as_bytes()).serves_like(&told, &Sdp::new(sender.as_bytes()));
        assert!(serves(&ANSWER.replace("gw 5 7", "gw 5 8").replace("a=inactive\r\n", ""), &sender));
        // Who answers has fewer codecs than he has offered.
        assert!(serves(&sender, &sender));
        assert!(!serves(&sender, ANSWER));
        assert!(!serves(&ANSWER.replace("opus", "speex"), ANSWER));
        for (one, other) in [("4000", "4002"), ("c=IN IP4 198.51.100.1", "c=IN IP4 198.51.100.2"), ("audio", "video")] {
            assert!(!serves(&ANSWER.replace(one, other), &sender), "{one} {other}");
        }
    }

    proptest! {
        /// Whatever comes: nothing panics, and what is narrowed to everything stays.
        #[test]
        fn strange_descriptions_are_taken_as_they_are(text in "(?s)([acmosv]=(audio |RTP/|rtpmap:|fmtp:|[0-9]{1,3} )*.{0,9}\r?\n){0,12}.{0,5}") {
            let sdp = Sdp::new(text.as_bytes());
            let (mut all, mut offer) = (Vec::new(), Vec::new());
            prop_assert!(sdp.serves_like(&sdp, &sdp) && !sdp.write_narrowed(|_| true, &mut all));
            prop_assert_eq!(all, text.as_bytes());
            sdp.write_as_offer(true, &mut offer);
            sdp.write_narrowed(|_| false, &mut offer);
            let _ = sdp.codecs();
        }
    }
}
