//! Digest authentication (RFC 3261 §22.4; RFC 2617, 7616, 8760): what is hashed, compared, parsed and written.
//!
//! A server writes a [`Challenge`], parses the [`Credentials`] that come back and verifies them against the [`Ha1`] which
//! it keeps in place of the password; a client parses the challenge and answers it. Nothing here mints or remembers a
//! nonce, reads a clock, or finds an account.
//!
//! The `-sess` algorithms are refused as unsupported. Their key is made from the first cnonce of a session (RFC 7616
//! §3.4.2), which a server that keeps no state between requests does not know when the second one comes.

mod challenge;
mod credentials;
mod params;

pub use challenge::{Challenge, Offer};
pub use credentials::{Credentials, Protection};
pub use params::{MAX_PARAM_OCTETS, Param};

use crate::{StatusCode, octets::hex};
use arrayvec::{ArrayString, ArrayVec};
use sha2::{Digest, Sha256, Sha512_256};
use std::{fmt, str};
use subtle::{Choice, ConstantTimeEq};

/// A hash algorithm of the digest scheme, from the weakest to the strongest: `max` is the one to prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// What RFC 3261 knows and every phone speaks. Assumed where none is named.
    Md5,
    /// SHA-256 (RFC 8760 §2.1).
    Sha256,
    /// SHA-512/256 of FIPS 180-4, with its own initial values: not SHA-512 cut short, with which the example of RFC
    /// 7616 §3.9.2 was made (erratum 4897).
    Sha512_256,
}

impl Algorithm {
    /// All of them, strongest first: the order in which a server lists its challenges (RFC 8760 §2.3).
    pub const STRONGEST_FIRST: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// From the value of an `algorithm` parameter, in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        Self::STRONGEST_FIRST.into_iter().find(|a| a.token().as_bytes().eq_ignore_ascii_case(token))
    }

    /// As the `algorithm` parameter spells it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// Length of its hash in octets.
    pub fn octets(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 | Self::Sha512_256 => 32,
        }
    }

    /// Hashes `fields` with a colon between them, the shape of everything that the scheme hashes.
    fn hash(self, fields: &[&[u8]]) -> Hash {
        fn run<D: Digest>(fields: &[&[u8]]) -> Hash {
            let mut hasher = D::new();
            for (n, field) in fields.iter().enumerate() {
                if n > 0 {
                    hasher.update(b":");
                }
                hasher.update(field);
            }
            Hash(hasher.finalize().iter().copied().collect())
        }
        match self {
            Self::Md5 => run::<md5::Md5>(fields),
            Self::Sha256 => run::<Sha256>(fields),
            Self::Sha512_256 => run::<Sha512_256>(fields),
        }
    }
}

/// A hash in hexadecimal text, in lower case as the scheme wants it.
pub type Hex = ArrayString<64>;

/// The octets of a hash: 16 or 32 of them.
///
/// Two are compared in constant time.
#[derive(Clone, Debug)]
pub struct Hash(ArrayVec<u8, 32>);

impl Hash {
    /// From 32 or 64 hexadecimal digits, in any case.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if !matches!(text.len(), 32 | 64) {
            return None;
        }
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let mut octets = ArrayVec::new();
        for pair in text.chunks_exact(2) {
            octets.push(digit(pair[0])? << 4 | digit(pair[1])?);
        }
        Some(Self(octets))
    }

    /// The raw octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// As text.
    pub fn hex(&self) -> Hex {
        let mut text = [0; 64];
        for (digits, word) in text.as_chunks_mut().0.iter_mut().zip(self.0.as_chunks().0) {
            *digits = hex(u64::from_be_bytes(*word));
        }
        let text = str::from_utf8(&text[..2 * self.0.len()]).expect("digits are ASCII");
        Hex::from(text).expect("no hash has more than 32 octets")
    }
}

impl ConstantTimeEq for Hash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0[..].ct_eq(&other.0[..])
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Hash {}

/// H(A1): what a server keeps of an account, since it suffices to verify a response (RFC 7616 §3.4.2, §5.13).
///
/// It stands in for the password in its realm, so it is as secret; its `Debug` shows the algorithm only.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    algorithm: Algorithm,
    hash: Hash,
}

impl Ha1 {
    /// Of a user's password in `realm`. The texts are taken as they are after unquoting, in UTF-8.
    pub fn new(algorithm: Algorithm, username: &[u8], realm: &[u8], password: &[u8]) -> Self {
        Self { algorithm, hash: algorithm.hash(&[username, realm, password]) }
    }

    /// From stored octets. None if there are not as many as `algorithm` makes.
    pub fn from_octets(algorithm: Algorithm, octets: &[u8]) -> Option<Self> {
        let hash = Hash(octets.try_into().ok()?);
        (octets.len() == algorithm.octets()).then_some(Self { algorithm, hash })
    }

    /// The octets to store.
    pub fn octets(&self) -> &[u8] {
        self.hash.octets()
    }

    /// What made it, and what makes the responses that it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({}, …)", self.algorithm.token())
    }
}

/// The part of a request that its credentials cover.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The `uri` parameter: the Request-URI as the client sent it. Proxies may have rewritten that since (§22.4 item 6).
    pub uri: &'a [u8],
    /// The body, empty if there is none. Counts with [`Qop::AuthInt`] only.
    pub body: &'a [u8],
}

impl Covered<'_> {
    /// H(A2) by `algorithm` (RFC 7616 §3.4.3). None stands for RFC 2069, which covers as much as [`Qop::Auth`].
    pub fn hash(&self, algorithm: Algorithm, qop: Option<Qop>) -> Hash {
        match qop {
            None | Some(Qop::Auth) => algorithm.hash(&[self.method, self.uri]),
            Some(Qop::AuthInt) => {
                // §22.4 item 7: without a body it is the hash of the empty string.
                let body = algorithm.hash(&[self.body]).hex();
                algorithm.hash(&[self.method, self.uri, body.as_bytes()])
            }
        }
    }
}

/// The response to a challenge (RFC 7616 §3.4.1), or without `protection` that of RFC 2069, which RFC 3261 §22.4 keeps
/// alive. The nonce is hashed without its quotes and escapes.
pub fn response(ha1: &Ha1, nonce: &[u8], protection: Option<&Protection<'_>>, covered: &Covered<'_>) -> Hash {
    respond(ha1, nonce, protection, &covered.hash(ha1.algorithm, protection.map(|p| p.qop)))
}

/// The same with H(A2) in place of what it covers.
fn respond(ha1: &Ha1, nonce: &[u8], protection: Option<&Protection<'_>>, ha2: &Hash) -> Hash {
    let algorithm = ha1.algorithm;
    let (ha1, ha2) = (ha1.hash.hex(), ha2.hex());
    match protection {
        None => algorithm.hash(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
        Some(p) => algorithm.hash(&[ha1.as_bytes(), nonce, &p.nc, &p.cnonce, p.qop.token().as_bytes(), ha2.as_bytes()]),
    }
}

/// Quality of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// The method and the URI are covered.
    Auth,
    /// So is the body.
    AuthInt,
}

impl Qop {
    /// From its token, in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        [Self::Auth, Self::AuthInt].into_iter().find(|q| q.token().as_bytes().eq_ignore_ascii_case(token))
    }

    /// As the `qop` parameter spells it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// Why a challenge or credentials cannot be used. The peer is at fault, or speaks of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The scheme is not Digest.
    #[error("the scheme is not Digest")]
    OtherScheme,
    /// The list of parameters breaks the grammar.
    #[error("the list of parameters is malformed")]
    Malformed,
    /// A parameter that must be there is not.
    #[error("parameter {0} is missing")]
    Missing(Param),
    /// A parameter is there twice.
    #[error("parameter {0} occurs twice")]
    Duplicate(Param),
    /// A parameter is longer than [`MAX_PARAM_OCTETS`].
    #[error("parameter {0} is too long")]
    TooLong(Param),
    /// A parameter has a value which it cannot have.
    #[error("parameter {0} has an illegal value")]
    Illegal(Param),
    /// A parameter asks for something legal which this implementation does not do.
    #[error("parameter {0} asks for something unsupported")]
    Unsupported(Param),
}

impl DigestError {
    /// The answer to a request with such credentials. None: they are not an answer to a challenge of ours, so treat the
    /// request as if it had none, and challenge it.
    pub fn response(&self) -> Option<StatusCode> {
        match self {
            Self::OtherScheme | Self::Unsupported(_) => None,
            // RFC 7616 §3.4: improper or missing parameters are answered with a 4xx.
            Self::Malformed | Self::Missing(_) | Self::Duplicate(_) | Self::TooLong(_) | Self::Illegal(_) => {
                Some(StatusCode::BAD_REQUEST)
            }
        }
    }
}
