//! Header field names, with their compact forms (RFC 3261 §7.3.3, §20 and later RFCs).

use crate::lex;

macro_rules! names {
    ($($variant:ident $text:literal $($compact:literal)?),* $(,)?) => {
        /// A header that somebody here reads, or [`HeaderName::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = $text] $variant,)*
            /// Any other name; the line is kept octet for octet.
            Other,
        }

        impl HeaderName {
            /// The long form in its usual spelling.
            #[inline]
            pub fn canonical(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "Unknown",
                }
            }

            fn from_compact(letter: u8) -> Self {
                $($(if letter.eq_ignore_ascii_case(&$compact) { return Self::$variant; })?)*
                Self::Other
            }

            #[cfg(test)]
            const ALL: &[(Self, &'static str)] = &[$((Self::$variant, $text)),*];
        }
    };
}

names! {
    Via "Via" b'v',
    From "From" b'f',
    To "To" b't',
    CallId "Call-ID" b'i',
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Route "Route",
    RecordRoute "Record-Route",
    Contact "Contact" b'm',
    ContentLength "Content-Length" b'l',
    ContentType "Content-Type" b'c',
    Expires "Expires",
    MinExpires "Min-Expires",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported" b'k',
    Unsupported "Unsupported",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    Path "Path",
    ServiceRoute "Service-Route",
    UserAgent "User-Agent",
    RetryAfter "Retry-After",
}

impl HeaderName {
    /// The header that `name` names, in either form and any case.
    pub fn new(name: &[u8]) -> Self {
        macro_rules! among {
            ($($candidate:ident)*) => {{
                $(if lex::is_word(name, Self::$candidate.canonical()) { return Self::$candidate; })*
                Self::Other
            }};
        }
        // The length leaves one to four candidates, each a few instructions.
        match name.len() {
            1 => Self::from_compact(name[0]),
            2 => among!(To),
            3 => among!(Via),
            4 => among!(From CSeq Path),
            5 => among!(Route),
            7 => among!(CallId Contact Expires Require),
            9 => among!(Supported),
            10 => among!(UserAgent),
            11 => among!(MinExpires RetryAfter Unsupported),
            12 => among!(MaxForwards RecordRoute ContentType),
            13 => among!(Authorization ProxyRequire ServiceRoute),
            14 => among!(ContentLength),
            16 => among!(WwwAuthenticate),
            18 => among!(ProxyAuthenticate),
            19 => among!(ProxyAuthorization),
            _ => Self::Other,
        }
    }

    /// Whether two lines of it break §7.3.1: its grammar is not a list.
    pub(crate) fn stands_once(self) -> bool {
        matches!(
            self,
            Self::From
                | Self::To
                | Self::CallId
                | Self::CSeq
                | Self::MaxForwards
                | Self::ContentLength
                | Self::ContentType
                | Self::Expires
                | Self::MinExpires
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case() {
        for &(name, text) in HeaderName::ALL {
            assert_eq!(HeaderName::new(text.as_bytes()), name);
            assert_eq!(HeaderName::new(text.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(HeaderName::new(text.to_ascii_lowercase().as_bytes()), name);
        }
    }

    #[test]
    fn compact_forms_are_the_long_ones() {
        for (compact, name) in [
            (b"v", HeaderName::Via),
            (b"F", HeaderName::From),
            (b"t", HeaderName::To),
            (b"i", HeaderName::CallId),
            (b"m", HeaderName::Contact),
            (b"L", HeaderName::ContentLength),
            (b"c", HeaderName::ContentType),
            (b"k", HeaderName::Supported),
        ] {
            assert_eq!(HeaderName::new(compact), name);
        }
        assert_eq!(HeaderName::new(b"z"), HeaderName::Other);
    }

    #[test]
    fn escapes_do_not_make_a_known_name() {
        // RFC 4475 §3.1.1.5: %-escaping has no meaning in header names.
        assert_eq!(HeaderName::new(b"C%6Fntact"), HeaderName::Other);
    }
}
