//! Where messages of our own are written to.

use arrayvec::ArrayVec;
use bumpalo::collections::Vec as BumpVec;
use std::net::IpAddr;

/// A growing run of octets: a `Vec` of the heap or of an arena.
pub trait Octets {
    /// Appends `octets`.
    fn put(&mut self, octets: &[u8]);

    /// Appends a decimal number.
    fn put_number(&mut self, mut n: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return self.put(&digits[at..]);
            }
        }
    }

    /// Appends a number in 16 hexadecimal digits.
    fn put_hex(&mut self, n: u64) {
        self.put(&hex(n));
    }

    /// Appends an address, IPv6 without brackets.
    fn put_ip(&mut self, ip: IpAddr)
    where
        Self: Sized,
    {
        match ip {
            IpAddr::V4(v4) => {
                let mut text = [0; 16];
                let mut end = 0;
                for octet in v4.octets() {
                    let (digits, len) = OCTETS[usize::from(octet)];
                    // The dot, and what is behind a shorter one, are overwritten by the next.
                    text[end..end + 4].copy_from_slice(&digits);
                    end += usize::from(len);
                }
                self.put(&text[..end - 1]);
            }
            IpAddr::V6(v6) => self.put_display(v6),
        }
    }

    /// Appends whatever can be displayed.
    fn put_display(&mut self, what: impl std::fmt::Display)
    where
        Self: Sized,
    {
        use std::fmt::Write;
        struct Sink<'a, O>(&'a mut O);
        impl<O: Octets> Write for Sink<'_, O> {
            fn write_str(&mut self, s: &str) -> std::fmt::Result {
                self.0.put(s.as_bytes());
                Ok(())
            }
        }
        write!(Sink(self), "{what}").expect("a sink that only grows takes everything");
    }
}

/// Each octet in decimal with a dot behind it, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        let digits = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
        let zeros = if n > 99 {
            0
        } else if n > 9 {
            1
        } else {
            2
        };
        let mut at = zeros;
        while at < 3 {
            octets[n].0[at - zeros] = digits[at];
            at += 1;
        }
        octets[n].1 = (4 - zeros) as u8;
        n += 1;
    }
    octets
};

/// An octet in decimal.
#[inline]
pub(crate) fn decimal(octet: u8) -> &'static [u8] {
    let (text, with_dot) = &OCTETS[usize::from(octet)];
    &text[..usize::from(*with_dot) - 1]
}

/// A number in 16 hexadecimal digits, in lower case.
#[inline]
pub fn hex(n: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&hex_half((n >> 32) as u32));
    digits[8..].copy_from_slice(&hex_half(n as u32));
    digits
}

/// Eight digits, all at once in the octets of one word.
#[inline]
fn hex_half(n: u32) -> [u8; 8] {
    let mut digits = u64::from(n);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // With 6 more, a digit beyond 9 carries into the octet's upper half.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - 10 - b'0')).to_be_bytes()
}

impl Octets for Vec<u8> {
    // Inlined, so that a literal is a store or two.
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

impl Octets for BumpVec<'_, u8> {
    // Inlined, so that a literal is a store or two.
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice_copy(octets);
    }
}

/// For text whose bound is known where it is written.
impl<const N: usize> Octets for ArrayVec<u8, N> {
    fn put(&mut self, octets: &[u8]) {
        self.try_extend_from_slice(octets).expect("the writer knows its longest text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        for text in ["0.0.0.0", "192.0.2.101", "255.255.255.255", "2001:db8::9:1", "::ffff:192.0.2.1"] {
            let mut out = Vec::new();
            out.put_ip(text.parse().unwrap());
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn octets_are_decimal() {
        for octet in 0..=u8::MAX {
            assert_eq!(decimal(octet), octet.to_string().as_bytes());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, 4_294_967_295, u64::MAX] {
            let mut out = Vec::new();
            out.put_number(n);
            assert_eq!(out, n.to_string().as_bytes());
            out.clear();
            out.put_hex(n);
            assert_eq!(out, format!("{n:016x}").as_bytes());
        }
    }
}
