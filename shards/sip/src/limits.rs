//! Bounds on what is parsed.

/// Bounds of one message. Offsets are 16 bits wide, so no message is longer than 65,535 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a message, body included.
    pub max_message: u16,
    /// Header lines, at most [`Limits::MAX_HEADERS`].
    pub max_headers: u16,
    /// Octets of one line, its folded continuation included.
    pub max_line: u16,
}

impl Limits {
    /// Header lines that an index has room for.
    pub const MAX_HEADERS: usize = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: u16::MAX, max_headers: Self::MAX_HEADERS as u16, max_line: 8192 }
    }
}
