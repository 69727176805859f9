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
        let mut digits = [0; 16];
        for (i, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(n >> (60 - 4 * i)) as usize & 15];
        }
        self.put(&digits);
    }

    /// Appends an address, IPv6 without brackets.
    fn put_ip(&mut self, ip: IpAddr)
    where
        Self: Sized,
    {
        match ip {
            IpAddr::V4(v4) => {
                let [first, rest @ ..] = v4.octets();
                self.put_number(first.into());
                for octet in rest {
                    self.put(b".");
                    self.put_number(octet.into());
                }
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

impl Octets for Vec<u8> {
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

impl Octets for BumpVec<'_, u8> {
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
