//! A dialog as the journal keeps it, so that an answered call outlives its process.
//!
//! ```text
//! version       1 octet
//! flags         1 octet: state (2 bits), UAC, secure, peer has sent a request
//! local CSeq    u32, little endian
//! remote CSeq   u32, little endian
//! parts         7 times: length (u16, little endian), octets
//! ```
//!
//! Reading is total: any octets give a dialog whose every part keeps its grammar, or an error.

use crate::dialog::{Dialog, DialogState, Part};

/// Why octets are no dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are of a version that this program does not know.
    #[error("the dialog is of version {0}, which is not known here")]
    Version(u8),
    /// They end within a field.
    #[error("the dialog ends within a field")]
    Truncated,
    /// Octets follow it.
    #[error("octets follow the dialog")]
    Trailing,
    /// Flags that stand for nothing.
    #[error("the dialog's flags stand for nothing")]
    Flags,
    /// A part breaks its grammar or is too long.
    #[error("a part of the dialog breaks its grammar")]
    Part,
}

const VERSION: u8 = 1;

const STATE: u8 = 0b11;
const UAC: u8 = 1 << 2;
const SECURE: u8 = 1 << 3;
const HAS_REMOTE_CSEQ: u8 = 1 << 4;

/// What a dialog that is taken up again counts its own CSeq up by. Requests may have been sent since the record was
/// written, and a UAS takes a number that is more than one higher (RFC 3261 §12.2.2), but none that is lower.
const CSEQ_GAP: u32 = 1 << 16;

impl Dialog {
    /// Appends its octets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = match self.state {
            DialogState::Early => 0,
            DialogState::Confirmed => 1,
            DialogState::Terminated => 2,
        };
        for (is_set, flag) in
            [(self.is_uac, UAC), (self.is_secure, SECURE), (self.remote_cseq.is_some(), HAS_REMOTE_CSEQ)]
        {
            if is_set {
                flags |= flag;
            }
        }
        out.extend_from_slice(&[VERSION, flags]);
        out.extend_from_slice(&self.local_cseq.to_le_bytes());
        out.extend_from_slice(&self.remote_cseq.unwrap_or_default().to_le_bytes());
        for part in self.parts() {
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            out.extend_from_slice(part);
        }
    }

    /// Takes a dialog up again from its octets. Its own CSeq goes up by more than it can have counted since.
    ///
    /// # Errors
    /// They are not what [`Dialog::encode`] writes.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let mut rest = octets;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let [flags] = take(&mut rest)?;
        let state = match flags & STATE {
            0 => DialogState::Early,
            1 => DialogState::Confirmed,
            2 => DialogState::Terminated,
            _ => return Err(Malformed::Flags),
        };
        if flags & !(STATE | UAC | SECURE | HAS_REMOTE_CSEQ) != 0 {
            return Err(Malformed::Flags);
        }
        let local_cseq = u32::from_le_bytes(take(&mut rest)?);
        let remote_cseq = u32::from_le_bytes(take(&mut rest)?);
        let mut parts = [&[][..]; Part::COUNT];
        for part in &mut parts {
            let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
            (*part, rest) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        }
        if !rest.is_empty() {
            return Err(Malformed::Trailing);
        }
        let dialog = Self {
            text: Box::default(),
            ends: [0; _],
            local_cseq: local_cseq.saturating_add(CSEQ_GAP),
            remote_cseq: (flags & HAS_REMOTE_CSEQ != 0).then_some(remote_cseq),
            state,
            is_uac: flags & UAC != 0,
            is_secure: flags & SECURE != 0,
        };
        Self::pack(parts, dialog).map_err(|_| Malformed::Part)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, behind) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
    *rest = behind;
    Ok(*taken)
}
