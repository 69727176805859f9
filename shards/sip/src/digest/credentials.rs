//! Credentials: the value of Authorization and Proxy-Authorization (RFC 3261 §20.7, §20.28; RFC 7616 §3.4).

use super::{
    Algorithm, Covered, DigestError, Ha1, Hash, Param, Qop,
    params::{Params, Writer},
    respond,
};
use crate::Octets;
use std::{borrow::Cow, io::Write};
use subtle::ConstantTimeEq;

/// What a client shows to be let in. Texts are without quotes and escapes, borrowed unless they had escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'b> {
    /// Who it is, or with `userhash` the hex of a hash (RFC 7616 §3.4.4).
    pub username: Cow<'b, [u8]>,
    /// `username` is hashed (RFC 7616 §3.4.4).
    pub userhash: bool,
    /// Whose passwords.
    pub realm: Cow<'b, [u8]>,
    /// From the challenge.
    pub nonce: Cow<'b, [u8]>,
    /// From the challenge.
    pub opaque: Option<Cow<'b, [u8]>>,
    /// The Request-URI as the client sent it.
    pub uri: Cow<'b, [u8]>,
    /// MD5 if the header field named none.
    pub algorithm: Algorithm,
    /// None: the client speaks RFC 2069, which has no defence against replay. Whether such a one is let in is a matter of
    /// policy; RFC 3261 §22.4 wants it.
    pub protection: Option<Protection<'b>>,
    /// The proof.
    pub response: Hash,
}

/// How a response is protected: the parameters that come together or not at all (RFC 7616 §3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection<'b> {
    /// What is covered.
    pub qop: Qop,
    /// The nonce count, 8 hexadecimal digits. They are hashed as they were spelled, so they are kept so.
    pub(super) nc: [u8; 8],
    /// The client's nonce.
    pub cnonce: Cow<'b, [u8]>,
}

impl<'b> Protection<'b> {
    /// Of a client's `nonce_count`-th request with a nonce, counted from 1. `cnonce` is entropy in text.
    pub fn new(qop: Qop, nonce_count: u32, cnonce: impl Into<Cow<'b, [u8]>>) -> Self {
        let mut nc = [0; 8];
        write!(&mut nc[..], "{nonce_count:08x}").expect("32 bits are 8 hexadecimal digits");
        Self { qop, nc, cnonce: cnonce.into() }
    }

    /// How many requests the client has sent with this nonce, this one included.
    pub fn nonce_count(&self) -> u32 {
        parse_nc(&self.nc).expect("it is parsed or made of 8 hexadecimal digits")
    }
}

impl<'b> Credentials<'b> {
    /// Reads the value of one Authorization or Proxy-Authorization header field.
    pub fn parse(field_value: &'b [u8]) -> Result<Self, DigestError> {
        let mut params = Params::parse(field_value)?;
        let algorithm = match params.take(Param::Algorithm) {
            None => Algorithm::Md5,
            Some(token) => Algorithm::from_token(&token).ok_or(DigestError::Unsupported(Param::Algorithm))?,
        };
        // A cnonce or nc without qop is forbidden, but old clients send them; RFC 2069 does not hash them.
        let protection = match params.take(Param::Qop) {
            None => None,
            Some(token) => Some(Protection {
                qop: Qop::from_token(&token).ok_or(DigestError::Unsupported(Param::Qop))?,
                nc: <[u8; 8]>::try_from(&params.require(Param::Nc)?[..])
                    .ok()
                    .filter(|nc| parse_nc(nc).is_some())
                    .ok_or(DigestError::Illegal(Param::Nc))?,
                cnonce: params.require(Param::Cnonce)?,
            }),
        };
        Ok(Self {
            username: params.require(Param::Username)?,
            userhash: params.take_flag(Param::Userhash),
            realm: params.require(Param::Realm)?,
            nonce: params.require(Param::Nonce)?,
            opaque: params.take(Param::Opaque),
            uri: params.require(Param::Uri)?,
            algorithm,
            protection,
            response: Hash::from_hex(&params.require(Param::Response)?)
                .filter(|hash| hash.octets().len() == algorithm.octets())
                .ok_or(DigestError::Illegal(Param::Response))?,
        })
    }

    /// Whether whoever made these knew the secret, for a request of this method and body. Takes the same time for right
    /// and wrong ones. Says nothing of the nonce, the realm or the account: those are the caller's to check.
    pub fn verify(&self, ha1: &Ha1, method: &[u8], body: &[u8]) -> bool {
        let covered = Covered { method, uri: &self.uri, body };
        self.verify_hashed(ha1, &covered.hash(ha1.algorithm(), self.qop()))
    }

    /// The same with H(A2) in place of what it is made of: [`Covered::hash`] by the algorithm of `ha1`.
    pub fn verify_hashed(&self, ha1: &Ha1, ha2: &Hash) -> bool {
        let expected = respond(ha1, &self.nonce, self.protection.as_ref(), ha2);
        self.algorithm == ha1.algorithm() && bool::from(expected.ct_eq(&self.response))
    }

    /// What the response covers; None as in RFC 2069.
    pub fn qop(&self) -> Option<Qop> {
        self.protection.as_ref().map(|protection| protection.qop)
    }

    /// Writes the value of the header field. CR and LF in a text, which no quoted string may hold, become spaces.
    pub fn write_to(&self, out: &mut impl Octets) {
        let mut writer = Writer::new(out);
        writer
            .quoted(Param::Username, &self.username)
            .quoted(Param::Realm, &self.realm)
            .quoted(Param::Nonce, &self.nonce)
            .quoted(Param::Uri, &self.uri)
            .quoted(Param::Response, self.response.hex().as_bytes())
            .bare(Param::Algorithm, self.algorithm.token().as_bytes());
        if let Some(protection) = &self.protection {
            writer
                .bare(Param::Qop, protection.qop.token().as_bytes())
                .bare(Param::Nc, &protection.nc)
                .quoted(Param::Cnonce, &protection.cnonce);
        }
        if let Some(opaque) = &self.opaque {
            writer.quoted(Param::Opaque, opaque);
        }
        if self.userhash {
            writer.bare(Param::Userhash, b"true");
        }
    }
}

fn parse_nc(nc: &[u8; 8]) -> Option<u32> {
    nc.iter().try_fold(0, |count, &c| Some(count << 4 | char::from(c).to_digit(16)?))
}
