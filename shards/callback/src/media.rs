//! What an answer says of its first audio stream (RFC 8866 §5.14): where its sender hears it, and what is silence to him.

use crate::Silence;
use dialog::Sdp;
use std::net::SocketAddr;

/// The first audio stream of a description: only [`Media::of_sdp`] makes one, so that its address is one that a peer has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    address: SocketAddr,
    silence: Option<Silence>,
}

/// Why a description tells no address for audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMedia {
    /// No `m=audio` is there.
    #[error("it has no audio stream")]
    NoAudio,
    /// The port is 0 (RFC 3264 §6).
    #[error("its audio stream is refused")]
    Refused,
    /// Its sender does not want to hear it, or has not said where (RFC 3264 §8.4).
    #[error("its audio stream is held")]
    Held,
    /// The address is a name, or is not there.
    #[error("its audio stream has no IP address")]
    NoAddress,
    /// What is not authentic is not taken there (RFC 3711), and no key is ours.
    #[error("its audio stream is not plain RTP")]
    NotPlain,
}

impl Media {
    /// The first audio stream of the description `sdp`.
    ///
    /// # Errors
    /// It tells no address to which plain RTP can be sent.
    pub fn of_sdp(sdp: &[u8]) -> Result<Self, NoMedia> {
        let audio = Sdp::new(sdp).media().find(|media| media.kind == b"audio").ok_or(NoMedia::NoAudio)?;
        if audio.port == 0 {
            return Err(NoMedia::Refused);
        }
        if audio.is_held() {
            return Err(NoMedia::Held);
        }
        if !matches!(audio.proto, b"RTP/AVP" | b"RTP/AVPF") {
            return Err(NoMedia::NotPlain);
        }
        let ip = audio.connection.and_then(|connection| connection.ip).ok_or(NoMedia::NoAddress)?;
        Ok(Self { address: SocketAddr::new(ip, audio.port), silence: Silence::of(&audio) })
    }

    /// Where its sender hears it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is silence to him; None where he takes no codec that we can be silent in.
    pub fn silence(&self) -> Option<Silence> {
        self.silence
    }
}
