//! Seals: what we hand out and must know again, unforged (nonces, dialog and flow tokens).
//!
//! HMAC-SHA-256 (RFC 2104) cut to 96 bits, in base64url, which needs no escape in a SIP URI, a token or a quoted string.
//! Every purpose has a key of its own, derived from the cluster's secret, so that no token passes for another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The cluster's secret: 32 octets of entropy which every process and machine of it shares.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes 32 octets from the edge.
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// A 128-bit key for `purpose`.
    pub fn derive(&self, purpose: &str) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        key
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Seals and checks for one purpose.
#[derive(Clone)]
pub struct Seal {
    keyed: Hmac<Sha256>,
}

impl Seal {
    /// Characters of a seal in text.
    pub const TEXT_LEN: usize = 16;

    /// The seal for `purpose` under `secret`.
    pub fn new(secret: &Secret, purpose: &str) -> Self {
        Self { keyed: Hmac::new_from_slice(&secret.derive(purpose)).expect("HMAC takes a key of any length") }
    }

    /// The seal over `parts`. Their lengths are sealed too: ("ab", "c") is not ("a", "bc").
    pub fn seal(&self, parts: &[&[u8]]) -> [u8; Self::TEXT_LEN] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD
            .encode_slice(&mac.finalize().into_bytes()[..12], &mut text)
            .expect("12 octets are 16 characters");
        text
    }

    /// Whether `text` is the seal over `parts`, compared in constant time.
    pub fn is_sealed(&self, parts: &[&[u8]], text: &[u8]) -> bool {
        self.seal(parts)[..].ct_eq(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_for_its_parts_and_purpose_only() {
        let secret = Secret::new([9; 32]);
        let seal = Seal::new(&secret, "dialog");
        let text = seal.seal(&[b"ab", b"c"]);
        assert!(seal.is_sealed(&[b"ab", b"c"], &text));
        assert!(!seal.is_sealed(&[b"a", b"bc"], &text));
        assert!(!seal.is_sealed(&[b"ab", b"c"], &text[..15]));
        assert!(!Seal::new(&secret, "nonce").is_sealed(&[b"ab", b"c"], &text));
    }
}
