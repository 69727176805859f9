//! Numbers and strings as a record packs them: LEB128 numbers, strings behind their length.
//!
//! Reading is total: any octets give a value or an error, and nothing is read past the end.

/// Why octets are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within a field.
    #[error("the record ends within a field")]
    Truncated,
    /// A number is wider than its field.
    #[error("a number is wider than its field")]
    Number,
    /// The AOR is not UTF-8 or too long.
    #[error("the address-of-record is not UTF-8 or too long")]
    Aor,
    /// No transport has this number.
    #[error("no transport has this number")]
    Transport,
    /// A user agent is longer than a record keeps.
    #[error("the user agent is longer than a record keeps")]
    UserAgent,
    /// A q value above 1.
    #[error("the q value is above 1")]
    Q,
    /// Octets follow the last binding.
    #[error("octets follow the last binding")]
    Trailing,
    /// It is longer than a record may be.
    #[error("it is longer than a record may be")]
    TooLong,
    /// Its layout is of another version of this program.
    #[error("the record has a layout that this program does not know")]
    Layout,
    /// A choice has no such number.
    #[error("a choice has no such number")]
    Choice,
    /// A text is not UTF-8 or too long.
    #[error("a text is not UTF-8 or too long")]
    Text,
}

/// Appends `value`, 7 bits an octet, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many octets [`put_number`] appends.
pub(crate) fn number_octets(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends `octets` behind their number.
pub(crate) fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    put_number(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn octet(&mut self) -> Result<u8, Malformed> {
        let [octet] = self.array()?;
        Ok(octet)
    }

    /// A number of at most `T`'s width.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7F);
            // The tenth octet of a u64 has room for one bit.
            if shift > 63 || (shift == 63 && bits > 1) {
                return Err(Malformed::Number);
            }
            value |= bits << shift;
            if octet < 0x80 {
                break;
            }
        }
        T::try_from(value).map_err(|_| Malformed::Number)
    }

    pub(crate) fn octets(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_wider_than_its_field_is_refused() {
        let mut packed = Vec::new();
        put_number(&mut packed, 65_536);
        assert_eq!(Reader(&packed).number::<u16>(), Err(Malformed::Number));
        assert_eq!(Reader(&packed).number::<u32>(), Ok(65_536));
        assert_eq!(Reader(&[0xFF; 11]).number::<u64>(), Err(Malformed::Number));
        assert_eq!(Reader(&[0x80; 3]).number::<u64>(), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn numbers_and_strings_come_back(value: u64, octets: Vec<u8>) {
            let mut packed = Vec::new();
            put_number(&mut packed, value);
            prop_assert_eq!(packed.len(), number_octets(value));
            put_octets(&mut packed, &octets);
            let mut reader = Reader(&packed);
            prop_assert_eq!(reader.number::<u64>(), Ok(value));
            prop_assert_eq!(reader.octets(), Ok(octets.as_slice()));
            prop_assert!(reader.0.is_empty());
        }
    }
}
