//! Whose session a peer takes part in (RFC 3264 §8): within a dialog the `o=` line of all that he is told stays as it was first, but for its
//! version. To a party of a call back the first description was ours; what the other one says later goes on in its name.

use crate::bridge::End;
use dialog::{Body, Sdp};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The `o=` line of a dialog whose first description was ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub session_id: u64,
    /// That of the latest description.
    pub version: u64,
    /// What it said, hashed: the same again has the same version. 0 where that is not known.
    said: u64,
}

impl Origin {
    /// As the placeholder has it.
    pub fn new(session_id: u64) -> Self {
        Self::resumed(session_id, 1)
    }

    /// Goes on after that version.
    pub fn resumed(session_id: u64, version: u64) -> Self {
        Self { session_id, version, said: 0 }
    }
}

impl End {
    /// A description as the peer is to read it; `buffer` takes what is made of it.
    pub fn describe<'b>(&mut self, body: Option<Body<'b>>, buffer: &'b mut Vec<u8>) -> Option<Body<'b>> {
        let (body, Some(origin)) = (body?, &mut self.origin) else { return body };
        if !body.content_type.eq_ignore_ascii_case(Body::SDP) {
            return Some(body);
        }
        let sdp = Sdp::new(body.octets);
        let mut hasher = DefaultHasher::new();
        sdp.lines().filter(|line| line.kind != b'o').for_each(|line| line.raw.hash(&mut hasher));
        let said = hasher.finish().max(1);
        if said != origin.said {
            origin.version += 1;
            origin.said = said;
        }
        sdp.write_in_session(origin.session_id, origin.version, buffer);
        Some(Body { octets: buffer, ..body })
    }
}
