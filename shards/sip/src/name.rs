//! Header field names, with their compact forms (RFC 3261 §7.3.3, §20 and later RFCs).

use crate::scan::{self, BLOCK};

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
            pub const fn canonical(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "Unknown",
                }
            }

            const LONG: &[(Self, &'static str)] = &[$((Self::$variant, $text)),*];
            const COMPACT: &[(Self, u8)] = &[$($((Self::$variant, $compact),)?)*];
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
    Allow "Allow",
    RSeq "RSeq",
    RAck "RAck",
    SessionExpires "Session-Expires" b'x',
    MinSe "Min-SE",
    Reason "Reason",
    ReferTo "Refer-To" b'r',
    ReferredBy "Referred-By" b'b',
    Replaces "Replaces",
    Event "Event" b'o',
    SubscriptionState "Subscription-State",
}

impl HeaderName {
    /// The header that `name` names, in either form and any case.
    pub fn new(name: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        match block.get_mut(..=name.len()) {
            Some(line) => {
                line[..name.len()].copy_from_slice(name);
                line[name.len()] = b':';
                let known = Self::known(&block, name.len());
                if known.begins(&block) { known.name } else { Self::Other }
            }
            None => {
                let is_it = |long: &&(Self, &str)| name.eq_ignore_ascii_case(long.1.as_bytes());
                Self::LONG.iter().find(is_it).map_or(Self::Other, |long| long.0)
            }
        }
    }

    /// The header whose line begins with the block, and where its colon is: None where no name of plain octets stands there
    /// right before a colon.
    #[inline(always)]
    pub(crate) fn of_line(block: &[u8; BLOCK]) -> Option<(Self, usize)> {
        // Without any colon this is beyond the block.
        let colon = scan::equal(block, b':').trailing_zeros() as usize;
        let known = Self::known(block, colon);
        if known.begins(block) {
            return Some((known.name, colon));
        }
        // Every name of ours that fits a block with its colon is known.
        (colon > 0 && colon < BLOCK && scan::plain(block) == colon).then_some((Self::Other, colon))
    }

    /// The only header that a line with this block and colon may be of.
    #[inline(always)]
    fn known(block: &[u8; BLOCK], colon: usize) -> &'static Known {
        let last = block[(colon + BLOCK - 1) % BLOCK];
        &KNOWN[usize::from(slot(block[0], last, colon as u8))]
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
                | Self::RSeq
                | Self::RAck
                | Self::SessionExpires
                | Self::MinSe
                | Self::ReferTo
                | Self::ReferredBy
                | Self::Replaces
                | Self::Event
                | Self::SubscriptionState
        )
    }
}

/// A name that fits a block with its colon.
#[derive(Clone, Copy)]
struct Known {
    name: HeaderName,
    /// The bits of a block that tell: those of the name and its colon, but for the case of letters.
    bits: [u8; BLOCK],
    /// What they are.
    line: [u8; BLOCK],
}

impl Known {
    /// Whether the block begins with this name and a colon.
    #[inline(always)]
    fn begins(&self, block: &[u8; BLOCK]) -> bool {
        scan::agrees(block, &self.bits, &self.line)
    }
}

const SLOTS: usize = 256;

/// Where the name of that length, which begins and ends with these letters, stands in [`KNOWN`]: no two in one place, and in
/// whatever case, for eight times 0x20 is nothing to an octet.
#[inline(always)]
const fn slot(first: u8, last: u8, len: u8) -> u8 {
    first.wrapping_mul(16).wrapping_add(last.wrapping_mul(8)).wrapping_add(len.wrapping_mul(5))
}

static KNOWN: [Known; SLOTS] = {
    // No block is that of an empty slot.
    let mut known = [Known { name: HeaderName::Other, bits: [0; BLOCK], line: [1; BLOCK] }; SLOTS];
    let mut i = 0;
    while i < HeaderName::LONG.len() {
        let (name, text) = HeaderName::LONG[i];
        if text.len() < BLOCK {
            known = with(known, name, text.as_bytes());
        }
        i += 1;
    }
    let mut i = 0;
    while i < HeaderName::COMPACT.len() {
        let (name, letter) = HeaderName::COMPACT[i];
        known = with(known, name, &[letter]);
        i += 1;
    }
    known
};

const fn with(mut known: [Known; SLOTS], name: HeaderName, text: &[u8]) -> [Known; SLOTS] {
    let (mut line, mut bits) = ([0; BLOCK], [0; BLOCK]);
    let mut i = 0;
    while i < text.len() {
        bits[i] = if text[i].is_ascii_alphabetic() { !0x20 } else { !0 };
        line[i] = text[i] & bits[i];
        i += 1;
    }
    (line[i], bits[i]) = (b':', !0);
    let slot = &mut known[slot(text[0], text[i - 1], i as u8) as usize];
    assert!(matches!(slot.name, HeaderName::Other), "two names in one slot: choose other factors");
    *slot = Known { name, bits, line };
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case() {
        for &(name, text) in HeaderName::LONG {
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
            (b"x", HeaderName::SessionExpires),
            (b"r", HeaderName::ReferTo),
            (b"b", HeaderName::ReferredBy),
            (b"o", HeaderName::Event),
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
