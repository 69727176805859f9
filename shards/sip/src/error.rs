//! What can be wrong with a message, and what its sender is told (RFC 3261 §8.2, §16.3, §18.3, §21).

use crate::{HeaderName, StatusCode};

/// A fault of the peer's. Each variant knows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing but line ends.
    #[error("Empty Message")]
    Empty,
    /// Longer than [`crate::Limits::max_message`].
    #[error("Message Too Large")]
    MessageTooLarge,
    /// More header lines than [`crate::Limits::max_headers`].
    #[error("Too Many Headers")]
    TooManyHeaders,
    /// A line longer than [`crate::Limits::max_line`].
    #[error("Header Line Too Long")]
    LineTooLong,
    /// A line that ends in LF without CR (§7.5 wants CRLF; elements that differ here can be played against each other).
    #[error("Bare Line Feed")]
    BareLineFeed,
    /// A CR without LF in the header section.
    #[error("Bare Carriage Return")]
    BareCarriageReturn,
    /// The start-line is neither a Request-Line nor a Status-Line (§7.1, §7.2).
    #[error("Malformed Start Line")]
    MalformedStartLine,
    /// A SIP version that is not ours (§21.5.6).
    #[error("Version Not Supported")]
    UnsupportedVersion,
    /// A status code outside 100 to 699.
    #[error("Status Code Out Of Range")]
    StatusCodeOutOfRange,
    /// A header line without a name or a colon (§7.3.1).
    #[error("Malformed Header Line")]
    MalformedHeaderLine,
    /// The header section does not end in an empty line.
    #[error("Missing Empty Line")]
    MissingEmptyLine,
    /// Content-Length promises more than the datagram holds (§18.3).
    #[error("Body Shorter Than Content-Length")]
    BodyTruncated,
    /// A header that every message needs is not there (§8.1.1).
    #[error("Missing {} Header", .0.canonical())]
    Missing(HeaderName),
    /// A header that may stand only once stands twice (§7.3.1).
    #[error("Duplicate {} Header", .0.canonical())]
    Duplicate(HeaderName),
    /// A header's value breaks its grammar (§25.1).
    #[error("Malformed {} Header", .0.canonical())]
    Malformed(HeaderName),
    /// The method in CSeq is not the request's (§8.1.1.5).
    #[error("CSeq Method Mismatch")]
    CSeqMethodMismatch,
    /// A URI breaks its grammar (§19.1, RFC 3966).
    #[error("Malformed URI")]
    MalformedUri,
    /// A scheme that we cannot route (§16.3 step 2).
    #[error("Unsupported URI Scheme")]
    UnsupportedScheme,
}

impl Error {
    /// The status to answer a request with; the `Display` text is its reason phrase.
    pub fn response(&self) -> StatusCode {
        match self {
            Self::MessageTooLarge => StatusCode::MESSAGE_TOO_LARGE,
            Self::UnsupportedVersion => StatusCode::VERSION_NOT_SUPPORTED,
            Self::UnsupportedScheme => StatusCode::UNSUPPORTED_URI_SCHEME,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
