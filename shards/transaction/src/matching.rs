//! Which transaction a request belongs to (RFC 3261 §17.2.3), and which request it repeats (§8.2.2.2).
//!
//! What the rules compare is hashed, and the hashes are compared: under a key that nobody outside knows, two requests that
//! differ have the same 127 bits once in longer than the network will stand. A slot stays small whatever peers write.

use sip::{Host, Method, Request, Via};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::{hash::Hasher, num::NonZero};

/// Octets of the longest name of a host.
const MAX_HOST: usize = 255;

/// What a server transaction is known by: 127 bits, so that an absent key takes no room beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(NonZero<u64>, u64);

impl Key {
    /// Where it is in a table.
    pub(crate) fn hash(self) -> u64 {
        self.1
    }
}

/// The keyed hash behind [`Key`].
#[derive(Clone)]
pub(crate) struct Keys(SipHasher13);

impl Keys {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    fn hash(&self, parts: &[&[u8]]) -> Key {
        let mut hasher = self.0;
        for part in parts {
            hasher.write_u32(part.len() as u32);
            hasher.write(part);
        }
        let hash = hasher.finish128();
        Key(NonZero::new(hash.h1 | 1).expect("a bit is set"), hash.h2)
    }

    /// The transaction of `request`, as if its method were `method`: an ACK and a CANCEL look for their INVITE.
    pub(crate) fn transaction(&self, request: &Request<'_>, method: Method<'_>) -> Key {
        match branch(&request.via) {
            Some(branch) => self.by_branch(&request.via, branch, method),
            // RFC 2543's rule. The To tag is left out: the CSeq number already tells an INVITE from a re-INVITE, and an ACK
            // has the tag of a response, where nobody but us can have set it.
            None => self.hash(&[
                b"2543",
                request.uri,
                request.from.tag.unwrap_or_default(),
                request.call_id,
                &request.cseq.number.to_be_bytes(),
                method.as_bytes(),
                request.via.raw,
            ]),
        }
    }

    /// The transaction that a response of ours with that topmost Via belongs to, where RFC 3261's rule holds.
    pub(crate) fn of_response(&self, via: &Via<'_>, method: Method<'_>) -> Option<Key> {
        branch(via).map(|branch| self.by_branch(via, branch, method))
    }

    fn by_branch(&self, via: &Via<'_>, branch: &[u8], method: Method<'_>) -> Key {
        // Sent-by: a host, names in any case, and a port, the default one where it is missing.
        let mut buffer = [0; MAX_HOST];
        let host = match &via.host {
            Host::Name(name) => {
                let host = &mut buffer[..name.len().min(MAX_HOST)];
                host.copy_from_slice(&name[..host.len()]);
                host.make_ascii_lowercase();
                host
            }
            Host::V4(v4) => {
                buffer[..4].copy_from_slice(&v4.octets());
                &mut buffer[..4]
            }
            Host::V6(v6) => {
                buffer[..16].copy_from_slice(&v6.octets());
                &mut buffer[..16]
            }
        };
        self.hash(&[b"3261", branch, host, &via.port_or_default().to_be_bytes(), method.as_bytes()])
    }

    /// What makes two requests the same, whichever way they came (§8.2.2.2): Call-ID, From tag and CSeq. An ACK for a 2xx
    /// has them of its INVITE (§13.2.2.4).
    pub(crate) fn request(&self, request: &Request<'_>, method: Method<'_>) -> Key {
        self.hash(&[
            b"request",
            request.call_id,
            request.from.tag.unwrap_or_default(),
            &request.cseq.number.to_be_bytes(),
            method.as_bytes(),
        ])
    }
}

/// The branch, if it was made by RFC 3261's rules: one that is unique to its transaction.
fn branch<'b>(via: &Via<'b>) -> Option<&'b [u8]> {
    via.branch.filter(|branch| branch.starts_with(Via::MAGIC_COOKIE) && branch.len() > Via::MAGIC_COOKIE.len())
}
