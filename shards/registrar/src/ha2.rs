//! H(A2) of a request, kept from one to the next: without a body it is of method and digest URI alone (RFC 7616 §3.4.3),
//! which all the REGISTERs of a domain have in common.

use sip::digest::{Algorithm, Covered, Credentials, Hash, Qop};

/// The last one that was made.
#[derive(Debug, Default)]
pub(crate) struct LastHa2 {
    method: Vec<u8>,
    uri: Vec<u8>,
    made: Option<(Algorithm, Hash)>,
}

impl LastHa2 {
    /// That of a request with these credentials.
    pub(crate) fn of(&mut self, credentials: &Credentials<'_>, method: &[u8], body: &[u8]) -> Hash {
        let (algorithm, qop, uri) = (credentials.algorithm, credentials.qop(), &*credentials.uri);
        let covered = Covered { method, uri, body };
        if qop == Some(Qop::AuthInt) {
            return covered.hash(algorithm, qop);
        }
        if let Some((by, hash)) = &self.made
            && *by == algorithm
            && self.method == method
            && self.uri == uri
        {
            return hash.clone();
        }
        let hash = covered.hash(algorithm, qop);
        for (kept, new) in [(&mut self.method, method), (&mut self.uri, uri)] {
            kept.clear();
            kept.extend_from_slice(new);
        }
        self.made = Some((algorithm, hash.clone()));
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_request_whatever_was_asked_before() {
        let mut last = LastHa2::default();
        let all = ["MD5", "SHA-256"].into_iter().flat_map(|algorithm| {
            ["", ", qop=auth, nc=00000001, cnonce=\"c\"", ", qop=auth-int, nc=00000001, cnonce=\"c\""]
                .into_iter()
                .flat_map(move |qop| ["sip:a", "sip:b"].map(|uri| (algorithm, qop, uri)))
        });
        for (algorithm, qop, uri) in all {
            let response = "0".repeat(if algorithm == "MD5" { 32 } else { 64 });
            let field = format!(
                "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"{uri}\", algorithm={algorithm}, response=\"{response}\"{qop}"
            );
            let credentials = Credentials::parse(field.as_bytes()).unwrap();
            for (method, body) in [("REGISTER", ""), ("REGISTER", "body"), ("INVITE", "body"), ("INVITE", "body")] {
                let (method, body) = (method.as_bytes(), body.as_bytes());
                let covered = Covered { method, uri: uri.as_bytes(), body };
                let expected = covered.hash(credentials.algorithm, credentials.qop());
                assert_eq!(last.of(&credentials, method, body), expected, "{field}");
            }
        }
    }
}
