//! The client's side of digest authentication (RFC 7616 §3.4) with qop=auth, for MD5 and SHA-256.

use std::fmt::Write;

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::message::{DOMAIN, Numbers, header_lines};

/// A hash function that a challenge may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// MD5, the default of a challenge that names none.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Its name in a challenge (RFC 7616 §6.1).
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        write!(text, "{octet:02x}").expect("a String takes all that is written to it");
        text
    })
}

/// What every account of the bench authenticates with; the user name is that of the address of record.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The password that all accounts share.
    pub password: String,
    /// Which of the offered challenges is answered.
    pub algorithm: Algorithm,
}

impl Credentials {
    /// The header line that answers the challenge in `response`; None if it offers none that we can answer.
    pub fn answer(&self, response: &[u8], numbers: &Numbers) -> Option<String> {
        let (header, challenge) = header_lines(response).find_map(|line| {
            let (name, challenge) = std::str::from_utf8(line).ok()?.split_once(':')?;
            let header = match name {
                "WWW-Authenticate" => "Authorization",
                "Proxy-Authenticate" => "Proxy-Authorization",
                _ => return None,
            };
            let algorithm = parameter(challenge, "algorithm").unwrap_or("MD5");
            (algorithm.eq_ignore_ascii_case(self.algorithm.token())).then_some((header, challenge))
        })?;
        let (realm, nonce) = (parameter(challenge, "realm")?, parameter(challenge, "nonce")?);
        let user = format!("user{:07}", numbers.aor);
        let uri = format!("sip:{DOMAIN}");
        let cnonce = format!("{:016x}", numbers.ordinal);
        let response = self.response(&user, realm, nonce, &uri, &cnonce);
        let algorithm = self.algorithm.token();
        let opaque = parameter(challenge, "opaque").map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
        Some(format!(
            "{header}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             algorithm={algorithm}, qop=auth, nc=00000001, cnonce=\"{cnonce}\", response=\"{response}\"{opaque}\r\n"
        ))
    }

    /// §3.4.1: H(H(A1):nonce:nc:cnonce:qop:H(A2)).
    fn response(&self, user: &str, realm: &str, nonce: &str, uri: &str, cnonce: &str) -> String {
        let a1 = self.algorithm.hash(&format!("{user}:{realm}:{}", self.password));
        let a2 = self.algorithm.hash(&format!("REGISTER:{uri}"));
        self.algorithm.hash(&format!("{a1}:{nonce}:00000001:{cnonce}:auth:{a2}"))
    }
}

/// The value of a challenge's parameter, without its quotes.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let value = challenge.split([',', ' ']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
    // A quoted value may hold blanks and commas, so it is cut from the whole challenge.
    let rest = &challenge[value.as_ptr().addr() - challenge.as_ptr().addr()..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => Some(value.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_algorithm_is_answered_with_a_response_of_its_own() {
        let challenge = b"SIP/2.0 401 Unauthorized\r\n\
            WWW-Authenticate: Digest realm=\"a b\", nonce=\"n,1\", qop=\"auth\", algorithm=SHA-256\r\n\
            WWW-Authenticate: Digest realm=\"a b\",nonce=\"n,1\",qop=\"auth\",algorithm=MD5,opaque=\"o\"\r\n\r\n";
        let numbers = Numbers { ordinal: 255, attempt: 1, aor: 3, cseq: 2, port: 5060 };
        let credentials = Credentials { password: "secret".into(), algorithm: Algorithm::Md5 };
        // printf 'user0000003:a b:secret' | md5sum, and so on (§3.4.1).
        assert_eq!(
            credentials.answer(challenge, &numbers).as_deref(),
            Some(
                "Authorization: Digest username=\"user0000003\", realm=\"a b\", nonce=\"n,1\", \
                 uri=\"sip:bench.example\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"00000000000000ff\", \
                 response=\"267179979019ac15929d6ac42b72e219\", opaque=\"o\"\r\n"
            )
        );
        let none = Credentials { algorithm: Algorithm::Sha256, ..credentials };
        assert!(
            none.answer(challenge, &numbers)
                .expect("SHA-256 is offered")
                .contains("response=\"54d9a49de18ae9926efe00aebf79a54513aecb65afbd92d123b57ede67724986\"")
        );
        assert_eq!(none.answer(b"SIP/2.0 401 Unauthorized\r\n\r\n", &numbers), None);
    }
}
