//! Challenges: the value of WWW-Authenticate and Proxy-Authenticate (RFC 3261 §20.44, §20.27; RFC 7616 §3.3).

use super::{
    Algorithm, Covered, Credentials, DigestError, Ha1, Param, Protection, Qop,
    params::{Params, Writer},
    response,
};
use crate::Octets;
use std::borrow::Cow;

/// What a server asks a client to prove. Texts are without quotes and escapes, borrowed unless they had escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'b> {
    /// Whose passwords.
    pub realm: Cow<'b, [u8]>,
    /// What the response is made over.
    pub nonce: Cow<'b, [u8]>,
    /// Comes back with the credentials as it is.
    pub opaque: Option<Cow<'b, [u8]>>,
    /// The credentials were right but for their nonce: answer anew without asking the user.
    pub stale: bool,
    /// MD5 if the header field named none.
    pub algorithm: Algorithm,
    /// The qualities of protection to choose from.
    pub qop: Offer,
}

/// The qualities of protection which a challenge offers. With none of them it is one of RFC 2069, which a client must
/// understand and a server must not send (RFC 3261 §22.4 item 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// [`Qop::Auth`] may be chosen.
    pub auth: bool,
    /// [`Qop::AuthInt`] may be chosen.
    pub auth_int: bool,
}

impl Offer {
    /// What a server of ours offers. `auth-int` gains nothing where requests carry no body (REGISTER), fails where a
    /// device on the path rewrites SDP, and a list confuses phones which expect a single word.
    pub const AUTH: Self = Self { auth: true, auth_int: false };

    /// Of the value of a `qop` parameter. Words that are not known are ignored (RFC 7616 §3.3).
    fn parse(list: &[u8]) -> Self {
        list.split(|&c| c == b',').map(|word| Qop::from_token(word.trim_ascii())).fold(Self::default(), |offer, qop| {
            match qop {
                None => offer,
                Some(Qop::Auth) => Self { auth: true, ..offer },
                Some(Qop::AuthInt) => Self { auth_int: true, ..offer },
            }
        })
    }

    fn list(self) -> &'static [u8] {
        match (self.auth, self.auth_int) {
            (false, false) => b"",
            (true, false) => b"auth",
            (false, true) => b"auth-int",
            (true, true) => b"auth,auth-int",
        }
    }

    /// Prefers `auth`: it survives what happens to bodies on the way.
    fn choose(self) -> Option<Qop> {
        match self {
            Self { auth: true, .. } => Some(Qop::Auth),
            Self { auth_int: true, .. } => Some(Qop::AuthInt),
            Self { .. } => None,
        }
    }
}

impl<'b> Challenge<'b> {
    /// Reads the value of one WWW-Authenticate or Proxy-Authenticate header field. SIP has one challenge in each (RFC 3261
    /// §7.3.1).
    pub fn parse(field_value: &'b [u8]) -> Result<Self, DigestError> {
        let mut params = Params::parse(field_value)?;
        let algorithm = match params.take(Param::Algorithm) {
            None => Algorithm::Md5,
            Some(token) => Algorithm::from_token(&token).ok_or(DigestError::Unsupported(Param::Algorithm))?,
        };
        let qop = match params.take(Param::Qop) {
            None => Offer::default(),
            Some(list) => match Offer::parse(&list) {
                offer if offer == Offer::default() => return Err(DigestError::Unsupported(Param::Qop)),
                offer => offer,
            },
        };
        Ok(Self {
            realm: params.require(Param::Realm)?,
            nonce: params.require(Param::Nonce)?,
            opaque: params.take(Param::Opaque),
            stale: params.take_flag(Param::Stale),
            algorithm,
            qop,
        })
    }

    /// Writes the value of the header field. CR and LF in a text, which no quoted string may hold, become spaces.
    pub fn write_to(&self, out: &mut impl Octets) {
        let mut writer = Writer::new(out);
        writer.quoted(Param::Realm, &self.realm).quoted(Param::Nonce, &self.nonce);
        if let Some(opaque) = &self.opaque {
            writer.quoted(Param::Opaque, opaque);
        }
        if self.stale {
            writer.bare(Param::Stale, b"true");
        }
        writer.bare(Param::Algorithm, self.algorithm.token().as_bytes());
        if self.qop != Offer::default() {
            writer.quoted(Param::Qop, self.qop.list());
        }
    }

    /// The credentials that answer this challenge for a request. `nonce_count` counts the requests sent with
    /// its nonce, from 1; `cnonce` is entropy in text. None if `ha1` was made with another algorithm.
    pub fn answer<'a>(
        &'a self,
        username: &'a [u8],
        ha1: &Ha1,
        covered: &Covered<'a>,
        nonce_count: u32,
        cnonce: &'a [u8],
    ) -> Option<Credentials<'a>> {
        if ha1.algorithm() != self.algorithm {
            return None;
        }
        let protection = self.qop.choose().map(|qop| Protection::new(qop, nonce_count, cnonce));
        Some(Credentials {
            response: response(ha1, &self.nonce, protection.as_ref(), covered),
            username: Cow::Borrowed(username),
            userhash: false,
            realm: Cow::Borrowed(&self.realm),
            nonce: Cow::Borrowed(&self.nonce),
            opaque: self.opaque.as_deref().map(Cow::Borrowed),
            uri: Cow::Borrowed(covered.uri),
            algorithm: self.algorithm,
            protection,
        })
    }
}
