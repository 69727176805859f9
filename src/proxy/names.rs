//! Host names that are known without a query: those of the machine's hosts file.

use arrayvec::ArrayString;
use std::{collections::HashMap, net::IpAddr};

/// Characters of a host name at most (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;

/// Names in lower case, each with its addresses in order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Names {
    /// Reads the text of a hosts file (hosts(5)); lines that are none are passed over.
    pub fn from_hosts(text: &str) -> Self {
        let mut known = HashMap::<Box<str>, Vec<IpAddr>>::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else { continue };
            for name in words {
                known.entry(name.to_ascii_lowercase().into()).or_default().push(address);
            }
        }
        Self { known }
    }

    /// The addresses of `name`.
    pub fn addresses(&self, name: &[u8]) -> &[IpAddr] {
        let Ok(name) = std::str::from_utf8(name) else { return &[] };
        let Ok(mut name) = ArrayString::<MAX_NAME>::from(name.strip_suffix('.').unwrap_or(name)) else { return &[] };
        name.make_ascii_lowercase();
        self.known.get(name.as_str()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read() {
        let names = Names::from_hosts("127.0.0.1 localhost # loop\n::1 LOCALHOST ip6\nnonsense x\n\n10.0.0.1\n");
        assert_eq!(names.addresses(b"LocalHost."), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(names.addresses(b"x").is_empty());
    }
}
