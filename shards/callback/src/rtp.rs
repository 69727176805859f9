//! The packets (RFC 3550 §5.1).

use crate::{MAX_PAYLOAD, Silence};
use arrayvec::ArrayVec;

/// How much silence is in a packet, and so how far apart they go.
pub const PACKET_MSECS: u32 = 20;

/// Octets of the header: no CSRC, no extension.
const HEADER: usize = 12;

/// A packet, header and payload.
pub type Packet = ArrayVec<u8, { HEADER + MAX_PAYLOAD }>;

/// A stream of silence.
#[derive(Clone, Debug)]
pub struct Rtp {
    silence: Silence,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    is_first: bool,
}

impl Rtp {
    /// A stream that begins at a random sequence number and timestamp and has a random source (§5.1), all three taken from `entropy`.
    pub fn new(silence: Silence, entropy: [u8; 10]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = entropy;
        Self {
            silence,
            sequence: u16::from_be_bytes([a, b]),
            timestamp: u32::from_be_bytes([c, d, e, f]),
            ssrc: u32::from_be_bytes([g, h, i, j]),
            is_first: true,
        }
    }

    /// The next packet. The first has the marker, for with it a talkspurt begins (RFC 3551 §4.1).
    pub fn next_packet(&mut self) -> Packet {
        let (encoding, mut packet) = (self.silence.encoding(), Packet::new());
        let marker = u8::from(std::mem::take(&mut self.is_first)) << 7;
        packet.extend([2 << 6, marker | self.silence.payload_type()]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(std::iter::repeat_n(0, encoding.octets()));
        encoding.fill(&mut packet[HEADER..]);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(encoding.ticks());
        packet
    }
}
