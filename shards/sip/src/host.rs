//! Hosts (RFC 3261 §25.1, with RFC 5954's IPv6).

use crate::{
    lex,
    scan::{self, BLOCK, STEP},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host in a URI or a Via.
#[derive(Clone, Copy, Debug)]
pub enum Host<'b> {
    /// A domain name, as it stands.
    Name(&'b [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 reference.
    V6(Ipv6Addr),
}

impl<'b> Host<'b> {
    /// The host that `text` is, all of it.
    pub fn new(text: &'b [u8]) -> Option<Self> {
        let (host, rest) = Self::parse(text)?;
        rest.is_empty().then_some(host)
    }

    /// The host that `text` is, all of whose octets are plain.
    #[inline]
    pub(crate) fn plain(text: &'b [u8]) -> Option<Self> {
        if text.len() > STEP || !text.last()?.is_ascii_alphabetic() {
            return v4(text).map(Self::V4).or_else(|| Self::new(text));
        }
        // No dot begins it or follows on another.
        let dots = scan::dots(text);
        (dots & (dots << 1 | 1) == 0).then_some(Self::Name(text))
    }

    /// Takes a host from the front and gives back what follows.
    pub(crate) fn parse(text: &'b [u8]) -> Option<(Self, &'b [u8])> {
        if let Some(inside) = text.strip_prefix(b"[") {
            let end = memchr::memchr(b']', inside)?;
            return Some((Self::V6(ascii(&inside[..end])?.parse().ok()?), &inside[end + 1..]));
        }
        let (end, label) = span_labels(text)?;
        let (name, rest) = text.split_at(end);
        // A name's last label begins with a letter (toplabel), so what ends in a number can only be an address.
        let host = match &name[label..] {
            number @ [first, ..] if first.is_ascii_digit() && number.iter().all(u8::is_ascii_digit) => {
                Self::V4(v4(name)?)
            }
            _ if name.is_empty() || name.len() > 255 => return None,
            _ => Self::Name(name),
        };
        Some((host, rest))
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(v4) => Some(IpAddr::V4(*v4)),
            Self::V6(v6) => Some(IpAddr::V6(*v6)),
        }
    }

    /// Whether it is `name`, in any case, a trailing dot aside.
    pub fn is_name(&self, name: &str) -> bool {
        let Self::Name(own) = self else { return false };
        let own = own.strip_suffix(b".").unwrap_or(own);
        // Mostly they are the same octets, and those are compared faster.
        own == name.as_bytes() || own.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// §19.1.4: names compare in any case; addresses by value (RFC 5954 §4.2).
impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V4(a), Self::V4(b)) => a == b,
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

/// The `received` parameter: an address, with or without brackets around IPv6 (RFC 5118 §4.5).
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    let inside = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]"));
    match inside {
        Some(v6) => ascii(v6)?.parse().ok().map(IpAddr::V6),
        None => ascii(text)?.parse().ok(),
    }
}

/// How long the name at the front is, and where its last label begins; None where a dot follows on another or begins it.
#[inline]
fn span_labels(text: &[u8]) -> Option<(usize, usize)> {
    let (mut end, mut label) = (0, 0);
    // As if a dot stood before the name.
    let mut is_behind_dot = 1;
    loop {
        let block = scan::block(&text[end..]);
        let plain = scan::plain(&block);
        let dots = u32::from(scan::equal(&block, b'.')) & ((1 << plain) - 1);
        if dots & (dots << 1 | is_behind_dot) != 0 {
            return None;
        }
        if let Some(last) = dots.checked_ilog2() {
            label = end + last as usize + 1;
        }
        end += plain;
        if plain == BLOCK {
            is_behind_dot = dots >> (BLOCK - 1);
        } else if text.get(end).is_some_and(|&b| lex::HOST.has(b)) {
            // What is of the class, but not plain, is no dot.
            is_behind_dot = 0;
            end += 1;
        } else {
            return Some((end, label));
        }
    }
}

/// Four numbers of one to three digits with dots between them. Leading zeros are refused: some take them for octal.
fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut octets, mut place) = ([0; 4], 0);
    // None until the number's first digit has come.
    let mut number: Option<u32> = None;
    for &octet in text {
        match (octet, number) {
            (b'0'..=b'9', None) => number = Some(u32::from(octet - b'0')),
            (b'0'..=b'9', Some(before @ 1..26)) => number = Some(before * 10 + u32::from(octet - b'0')),
            (b'.', Some(whole)) if place < 3 => {
                octets[place] = u8::try_from(whole).ok()?;
                place += 1;
                number = None;
            }
            _ => return None,
        }
    }
    octets[place] = u8::try_from(number?).ok()?;
    (place == 3).then(|| octets.into())
}

fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_port_needs_the_bracket() {
        // RFC 5118 §4.3: inside the brackets everything is address.
        let (host, rest) = Host::parse(b"[2001:db8::10:5070]").unwrap();
        assert_eq!(host.ip(), "2001:db8::10:5070".parse().ok());
        assert_eq!(rest, b"");
        assert_eq!(Host::parse(b"[2001:db8::10]:5070").unwrap().1, b":5070");
        assert!(Host::new(b"2001:db8::10").is_none());
        assert!(Host::new(b"[2001:db8:::192.0.2.1]").is_none());
    }

    #[test]
    fn what_ends_in_a_number_is_an_address_or_nothing() {
        for bad in ["192.0.2.256", "192.0.2", "1", "host.1", "192.000.002.001", "", ".", ".a", "a..b", "a.."] {
            assert!(Host::new(bad.as_bytes()).is_none(), "{bad}");
        }
        for address in ["0.0.0.0", "255.255.255.255", "10.0.200.9"] {
            assert_eq!(Host::new(address.as_bytes()).and_then(|host| host.ip()), address.parse().ok());
        }
        let long = format!("{}.{}..c", "a".repeat(15), "b".repeat(16));
        for dots in ["192.0.2.1.", "1.2.3.4.5", "192.0.2.0x1", "192.0.2.1234", "1.2.3.", &long] {
            assert!(Host::new(dots.as_bytes()).and_then(|host| host.ip()).is_none(), "{dots}");
        }
        for end in 1..long.len() {
            assert_eq!(Host::new(&long.as_bytes()[..end]).is_some(), !long[..end].contains(".."), "{}", &long[..end]);
        }
        for name in ["host1", "a.b2", "3com.example", "sip_1.example.com."] {
            assert!(matches!(Host::new(name.as_bytes()), Some(Host::Name(_))), "{name}");
        }
    }

    #[test]
    fn names_compare_in_any_case_and_addresses_by_value() {
        assert_eq!(Host::new(b"AtLanTa.CoM"), Host::new(b"atlanta.com"));
        assert_eq!(Host::new(b"[2001:db8::9:1]"), Host::new(b"[2001:db8::9:01]"));
        assert_ne!(Host::new(b"192.0.2.4"), Host::new(b"phone21.boxesbybob.com"));
        assert!(Host::new(b"Example.com.").unwrap().is_name("example.COM"));
    }
}
