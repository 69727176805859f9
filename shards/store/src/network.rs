//! Blocks of IP addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3).

use std::{fmt, net::IpAddr, str::FromStr};

/// All addresses that share their first bits, such as `10.0.0.0/8`; a single address is a block of its own. An IPv4 address that
/// is mapped into IPv6 is IPv4 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoNetwork {
    /// This is no address.
    Address(Box<str>),
    /// This is no length of a prefix; the address has so many bits.
    Prefix(Box<str>, u8),
    /// The address is not the first of the block.
    NotFirst(IpAddr, Network),
}

impl Network {
    /// The network of `address`; None where it has fewer bits.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let address = address.to_canonical();
        let host_bits = u32::from(Self::width(address).checked_sub(bits)?);
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        };
        Some(Self { address, bits })
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// How many bits an address of that family has.
    pub(crate) fn width(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.bits) == Some(*self)
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    /// Reads an address, or the first address of a block and the length of its prefix.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, digits) = match text.split_once('/') {
            Some((address, digits)) => (address, Some(digits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NoNetwork::Address(address.into()))?;
        let width = Self::width(first);
        let bits = digits.map_or(Ok(width), |digits| {
            let bits = digits.parse().ok().filter(|bits| *bits <= width);
            bits.ok_or_else(|| NoNetwork::Prefix(digits.into(), width))
        })?;
        // One that is mapped has fewer bits than it seems to have.
        let network = Self::new(first, bits).ok_or_else(|| NoNetwork::Prefix(bits.to_string().into(), 32))?;
        if network.address == first.to_canonical() { Ok(network) } else { Err(NoNetwork::NotFirst(first, network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { address, bits } if *bits == Self::width(*address) => address.fmt(f),
            Self { address, bits } => write!(f, "{address}/{bits}"),
        }
    }
}

impl fmt::Display for NoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(f, "`{text}` is no IP address"),
            Self::Prefix(text, width) => write!(f, "`{text}` is no prefix length from 0 to {width}"),
            Self::NotFirst(address, network) => {
                write!(f, "{address} is not the first address of its block; that is {network}")
            }
        }
    }
}

impl std::error::Error for NoNetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_block_contains_the_addresses_under_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
        assert!(!contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "2001:db9::1"));
    }

    #[test]
    fn families_are_apart_but_a_mapped_address_is_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!contains("::/0", "10.1.2.3"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "192.0.2.7", "0.0.0.0/0", "2001:db8::/32", "::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_block_says_why() {
        let fault = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        assert_eq!(fault("10.0.0.1/8"), "10.0.0.1 is not the first address of its block; that is 10.0.0.0/8");
        assert_eq!(fault("10.0.0.0/33"), "`33` is no prefix length from 0 to 32");
        assert_eq!(fault("::ffff:10.0.0.0/104"), "`104` is no prefix length from 0 to 32");
        assert_eq!(fault("ten/8"), "`ten` is no IP address");
    }
}
