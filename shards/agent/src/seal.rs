//! Seals: what we hand out and must know again, unforged (dialog and flow tokens).
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

/// Hides texts that we hand out and only we are to read, and knows them again unforged.
///
/// The construction is SIV's (RFC 5297 §2.6), over HMAC-SHA-256: the seal of a text is the nonce of the key stream that hides it. So a text is
/// hidden in the same way every time, which shows that it is the same, and nothing else.
#[derive(Clone)]
pub struct Veil {
    seals: Hmac<Sha256>,
    stream: Hmac<Sha256>,
}

impl Veil {
    /// Octets of the seal.
    const SEAL_LEN: usize = 16;

    /// Octets that one step of the key stream gives.
    const STEP: usize = 32;

    /// The veil for `purpose` under `secret`.
    pub fn new(secret: &Secret, purpose: &str) -> Self {
        let keyed = |part: &str| {
            let key = secret.derive(&format!("{purpose} {part}"));
            Hmac::new_from_slice(&key).expect("HMAC takes a key of any length")
        };
        Self { seals: keyed("seal"), stream: keyed("stream") }
    }

    /// `text` hidden, in base64url; only with the same `context` is it revealed.
    pub fn hide(&self, context: &[u8], text: &[u8]) -> String {
        let mut octets = self.seal(context, text).to_vec();
        octets.extend_from_slice(text);
        let (seal, hidden) = octets.split_at_mut(Self::SEAL_LEN);
        self.turn(seal, hidden);
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// What was hidden in `token` with this `context`; None if it is none of ours.
    pub fn reveal(&self, context: &[u8], token: &[u8]) -> Option<Vec<u8>> {
        let mut octets = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (seal, text) = octets.split_at_mut_checked(Self::SEAL_LEN)?;
        self.turn(seal, text);
        let is_ours: bool = self.seal(context, text)[..].ct_eq(seal).into();
        is_ours.then(|| octets.split_off(Self::SEAL_LEN))
    }

    fn seal(&self, context: &[u8], text: &[u8]) -> [u8; Self::SEAL_LEN] {
        let mut mac = self.seals.clone();
        mac.update(&(context.len() as u64).to_le_bytes());
        mac.update(context);
        mac.update(text);
        let mut seal = [0; Self::SEAL_LEN];
        seal.copy_from_slice(&mac.finalize().into_bytes()[..Self::SEAL_LEN]);
        seal
    }

    /// Hides or reveals: the key stream is its own inverse.
    fn turn(&self, seal: &[u8], octets: &mut [u8]) {
        for (step, chunk) in (0u64..).zip(octets.chunks_mut(Self::STEP)) {
            let mut mac = self.stream.clone();
            mac.update(seal);
            mac.update(&step.to_le_bytes());
            for (octet, key) in chunk.iter_mut().zip(mac.finalize().into_bytes()) {
                *octet ^= key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_revealed_by_us_and_in_its_context_only() {
        let veil = Veil::new(&Secret::new([9; 32]), "contact");
        for len in [0, 1, 31, 32, 33, 500] {
            let text: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let token = veil.hide(b"call", &text);
            assert_eq!(veil.reveal(b"call", token.as_bytes()), Some(text.clone()));
            assert_eq!(veil.reveal(b"other", token.as_bytes()), None);
            assert_eq!(Veil::new(&Secret::new([8; 32]), "contact").reveal(b"call", token.as_bytes()), None);
            assert_eq!(Veil::new(&Secret::new([9; 32]), "other").reveal(b"call", token.as_bytes()), None);
            for at in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(veil.reveal(b"call", &forged), None);
            }
        }
        assert_eq!(veil.reveal(b"call", b"short"), None);
        // Alike at the front, and nothing of it shows.
        let [a, b] =
            ["sip:alice@10.0.0.1:5060", "sip:alice@10.0.0.1:5061"].map(|text| veil.hide(b"call", text.as_bytes()));
        assert_ne!(a[..8], b[..8]);
        assert_ne!(a[24..40], b[24..40]);
    }

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
