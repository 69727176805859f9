//! Why a message makes no dialog, or changes none.

use sip::StatusCode;

/// A fault of the peer's. Each variant knows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A header breaks the grammar or is not there.
    #[error(transparent)]
    Sip(#[from] sip::Error),
    /// A From or a To has no tag where only that tells the dialog (RFC 3261 §12.1).
    #[error("Missing Tag")]
    MissingTag,
    /// The identifiers, addresses and routes are longer than a dialog keeps ([`crate::Dialog::MAX_TEXT_OCTETS`]).
    #[error("Dialog Too Long")]
    TooLong,
}

impl Error {
    /// The status to answer a request with; the `Display` text is its reason phrase.
    pub fn response(&self) -> StatusCode {
        match self {
            Self::Sip(error) => error.response(),
            Self::MissingTag => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::MESSAGE_TOO_LARGE,
        }
    }
}
