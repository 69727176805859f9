//! Twenty milliseconds of silence in each codec whose silence is known without its encoder.

use crate::PACKET_MSECS;
use dialog::Media;

/// Octets of the longest payload; with every header a packet is far below what IPv6 carries everywhere (1280).
pub const MAX_PAYLOAD: usize = 640;

/// Formats and attributes of a stream that are read.
const MAX_FORMATS: usize = 64;
const MAX_ATTRIBUTES: usize = 256;

/// A payload type and what its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    payload_type: u8,
    encoding: Encoding,
}

/// What silence can be encoded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// G.711 µ-law (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 §4.5.14).
    Pcma,
    /// G.722 at 64 kbit/s (RFC 3551 §4.5.2).
    G722,
    /// GSM 06.10 (RFC 3551 §4.5.8.1).
    Gsm,
    /// Linear samples of 16 bits, one channel (RFC 3551 §4.5.11).
    L16 {
        /// Samples a second.
        rate: u16,
    },
    /// Opus (RFC 7587).
    Opus,
    /// Comfort noise (RFC 3389), in the place of a codec that is not listed here.
    ComfortNoise {
        /// Of that codec's clock.
        rate: u16,
    },
}

/// GSM 06.10 for samples that are all zero, as its reference encoder gives it: the signature 0xD, log area ratios of silence,
/// and four subframes with the least amplitude (xmaxc 0) and pulses of the least magnitude (4, which stands for +1/8).
const GSM_SILENCE: [u8; 33] = [
    0xd8, 0x20, 0xa2, 0xe1, 0x5a, 0x50, 0x00, 0x49, 0x24, 0x92, 0x49, 0x24, 0x50, 0x00, 0x49, 0x24, 0x92, 0x49, 0x24,
    0x50, 0x00, 0x49, 0x24, 0x92, 0x49, 0x24, 0x50, 0x00, 0x49, 0x24, 0x92, 0x49, 0x24,
];

/// Opus: configuration 31 (CELT, full band, 20 ms), mono, one frame (RFC 6716 §3.1), whose first symbol is the flag for silence
/// (§4.3): of its two values the one of probability 2⁻¹⁵, which is the end of the range decoder's interval.
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// Comfort noise of -127 dBov, the least that there is, without a spectrum (RFC 3389 §3.1, §3.2).
const NOISE: [u8; 1] = [127];

impl Encoding {
    /// Ticks of its RTP clock in one packet.
    pub fn ticks(self) -> u32 {
        let rate = match self {
            // RFC 3551 §4.5.2: the clock of G.722 is 8000 by an old mistake.
            Self::Pcmu | Self::Pcma | Self::G722 | Self::Gsm => 8_000,
            Self::L16 { rate } | Self::ComfortNoise { rate } => rate.into(),
            // RFC 7587 §4.1: the clock is 48000 whatever the bandwidth.
            Self::Opus => 48_000,
        };
        rate * PACKET_MSECS / 1_000
    }

    /// Octets of the payload.
    pub fn octets(self) -> usize {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 160,
            Self::Gsm => GSM_SILENCE.len(),
            Self::L16 { .. } => 2 * self.ticks() as usize,
            Self::Opus => OPUS_SILENCE.len(),
            Self::ComfortNoise { .. } => NOISE.len(),
        }
    }

    /// Writes the payload, of [`octets`](Self::octets), into `out`.
    pub(crate) fn fill(self, out: &mut [u8]) {
        match self {
            // G.711: the codes of the least positive amplitude; 0x00 would be full scale.
            Self::Pcmu => out.fill(0xff),
            Self::Pcma => out.fill(0xd5),
            // G.722 §3.3, §3.4: the least positive interval in both bands, 111101 and 11; at rest both decode to 0 and leave the
            // scale factors and predictors where they are.
            Self::G722 => out.fill(0xfd),
            Self::Gsm => out.copy_from_slice(&GSM_SILENCE),
            Self::L16 { .. } => out.fill(0),
            Self::Opus => out.copy_from_slice(&OPUS_SILENCE),
            Self::ComfortNoise { .. } => out.copy_from_slice(&NOISE),
        }
    }

    /// By name (of any case, RFC 8866 §6.6), clock and channels.
    fn of(name: &[u8], rate: u32, channels: u32) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match (rate, channels) {
            (8_000, 1) if is("PCMU") => Some(Self::Pcmu),
            (8_000, 1) if is("PCMA") => Some(Self::Pcma),
            (8_000, 1) if is("G722") => Some(Self::G722),
            (8_000, 1) if is("GSM") => Some(Self::Gsm),
            (48_000, 2) if is("opus") => Some(Self::Opus),
            (_, 1) if is("L16") => Self::l16(rate),
            (_, 1) if is("CN") => Self::comfort_noise(rate),
            _ => None,
        }
    }

    /// Where whole samples make a packet, and the packet is small.
    pub(crate) fn l16(rate: u32) -> Option<Self> {
        let encoding = Self::L16 { rate: u16::try_from(rate).ok()? };
        (is_whole(rate) && encoding.octets() <= MAX_PAYLOAD).then_some(encoding)
    }

    pub(crate) fn comfort_noise(rate: u32) -> Option<Self> {
        let rate_16 = u16::try_from(rate).ok()?;
        is_whole(rate).then_some(Self::ComfortNoise { rate: rate_16 })
    }
}

/// Whether so many samples a second are whole ones in a packet.
fn is_whole(rate: u32) -> bool {
    rate >= 8_000 && (rate * PACKET_MSECS).is_multiple_of(1_000)
}

/// A format of a stream, by its `a=rtpmap` or the table of RFC 3551 §6.
struct Format<'b> {
    payload_type: u8,
    name: &'b [u8],
    rate: u32,
    channels: u32,
}

impl Silence {
    /// Of a payload type (RFC 3550 §5.1: seven bits).
    pub(crate) fn new(payload_type: u8, encoding: Encoding) -> Option<Self> {
        // RFC 5761 §4: these types make a packet look like RTCP.
        let is_free = payload_type < 128 && !(64..96).contains(&payload_type);
        is_free.then_some(Self { payload_type, encoding })
    }

    /// The first of a stream's formats that we can be silent in; comfort noise only where there is no other, on the clock of a codec
    /// that it was agreed on for (RFC 3389 §4).
    pub(crate) fn of(media: &Media<'_>) -> Option<Self> {
        let formats = || media.formats().take(MAX_FORMATS).filter_map(|format| Format::read(media, format));
        let known = |format: Format<'_>| {
            let encoding = Encoding::of(format.name, format.rate, format.channels)?;
            Self::new(format.payload_type, encoding)
        };
        let is_noise = |format: &Format<'_>| format.name.eq_ignore_ascii_case(b"CN");
        let is_speech = |format: &Format<'_>| !is_noise(format) && !format.name.starts_with(b"telephone-event");
        let speech = formats().filter(is_speech).find_map(known);
        let stands_in = |noise: &Format<'_>| formats().filter(is_speech).any(|format| format.rate == noise.rate);
        speech.or_else(|| formats().filter(is_noise).filter(stands_in).find_map(known))
    }

    /// Its number in the session.
    pub fn payload_type(self) -> u8 {
        self.payload_type
    }

    /// What its payload is.
    pub fn encoding(self) -> Encoding {
        self.encoding
    }
}

impl<'b> Format<'b> {
    fn read(media: &Media<'b>, format: &'b [u8]) -> Option<Self> {
        let payload_type = sip::number(format).and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 128)?;
        let mapped = media.attributes().take(MAX_ATTRIBUTES).find_map(|attribute| {
            let (number, encoding) = split(attribute.strip_prefix(b"rtpmap:")?, b' ')?;
            (number == format).then_some(encoding)
        });
        match mapped {
            Some(encoding) => Self::of_map(payload_type, encoding),
            None => Self::of_table(payload_type),
        }
    }

    /// `PCMU/8000`, `opus/48000/2` (RFC 8866 §6.6).
    fn of_map(payload_type: u8, encoding: &'b [u8]) -> Option<Self> {
        let mut fields = encoding.trim_ascii().split(|&b| b == b'/');
        let (name, rate) = (fields.next()?, fields.next().and_then(sip::number)?);
        let channels = fields.next().map_or(Some(1), sip::number)?;
        Some(Self { payload_type, name, rate, channels })
    }

    /// Types that mean something without a map.
    fn of_table(payload_type: u8) -> Option<Self> {
        let (name, rate, channels): (&[u8], u32, u32) = match payload_type {
            0 => (b"PCMU", 8_000, 1),
            3 => (b"GSM", 8_000, 1),
            8 => (b"PCMA", 8_000, 1),
            9 => (b"G722", 8_000, 1),
            10 => (b"L16", 44_100, 2),
            11 => (b"L16", 44_100, 1),
            13 => (b"CN", 8_000, 1),
            15 => (b"G728", 8_000, 1),
            18 => (b"G729", 8_000, 1),
            _ => return None,
        };
        Some(Self { payload_type, name, rate, channels })
    }
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&b| b == at)?;
    Some((&text[..place], &text[place + 1..]))
}
