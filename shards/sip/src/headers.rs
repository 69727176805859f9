//! The short headers: CSeq, lists of tokens.

use crate::{
    Error, HeaderName, Method,
    lex::{self, Cursor, TOKEN, is_lws, trim_end},
};

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'b> {
    /// The sequence number. §8.1.1.5 keeps it below 2^31; what fits 32 bits is taken.
    pub number: u32,
    /// The method.
    pub method: Method<'b>,
}

impl<'b> CSeq<'b> {
    /// Reads a value, all of it.
    ///
    /// # Errors
    /// It breaks the grammar.
    #[inline]
    pub fn parse(value: &'b [u8]) -> Result<Self, Error> {
        let bad = Error::Malformed(HeaderName::CSeq);
        let mut at = Cursor::new(value);
        let number = at.number().ok_or(bad)?;
        if !at.peek().is_some_and(is_lws) {
            return Err(bad);
        }
        at.skip_lws();
        let method = Method::new(at.rest());
        // A method that is known is a token.
        match method {
            Method::Other(token) if token.is_empty() || TOKEN.span(token) != token.len() => Err(bad),
            _ => Ok(Self { number, method }),
        }
    }
}

/// The values of one header line that is a list of tokens, each as it stands: one that is no token is none that anybody
/// knows, and must not hide those behind it.
pub(crate) struct Tokens<'b>(Cursor<'b>);

impl<'b> Tokens<'b> {
    pub(crate) fn new(value: &'b [u8]) -> Self {
        Self(Cursor::new(value))
    }
}

impl<'b> Iterator for Tokens<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        self.0.skip_lws();
        // Empty list elements are passed over.
        while self.0.eat_separator(b',') {}
        let rest = self.0.rest();
        let end = lex::find_near(rest, b',').unwrap_or(rest.len());
        self.0.skip(end);
        let value = trim_end(&rest[..end]);
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cseq_is_a_number_and_a_method() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
        for bad in [&b"36893488147419103232 REGISTER"[..], b"INVITE", b"1", b"1INVITE", b"1 INVITE x", b""] {
            assert_eq!(CSeq::parse(bad), Err(Error::Malformed(HeaderName::CSeq)), "{bad:?}");
        }
    }

    #[test]
    fn token_lists_pass_over_empty_elements() {
        let all: Vec<_> = Tokens::new(b"a,, b ,\r\n c").collect();
        assert_eq!(all, [b"a", b"b", b"c"]);
    }

    #[test]
    fn tokens_of_every_length_end_where_the_comma_is() {
        for (first, second) in (1..40).flat_map(|first| (1..40).map(move |second| (first, second))) {
            let value = format!("{}, {}", "a".repeat(first), "b".repeat(second));
            let all: Vec<_> = Tokens::new(value.as_bytes()).collect();
            assert_eq!(all, value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_token_hides_nothing_behind_it() {
        let all: Vec<_> = Tokens::new(b"a;x, \"b\" c , d").collect();
        assert_eq!(all, [&b"a;x"[..], b"\"b\" c", b"d"]);
    }
}
