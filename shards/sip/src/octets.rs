//! Where messages of our own are written to.

use bumpalo::collections::Vec as BumpVec;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, 4_294_967_295, u64::MAX] {
            let mut out = Vec::new();
            out.put_number(n);
            assert_eq!(out, n.to_string().as_bytes());
        }
    }
}
