//! The words of the grammar (RFC 3261 §25.1): white space, tokens, quoted strings, numbers.
//!
//! A header's value may be folded (§7.3.1). CR and LF stand in a value only where it folds, so both count as white space.

use crate::scan;

/// A class of octets: a bit in [`CLASS`].
#[derive(Clone, Copy)]
pub(crate) struct Class(u16);

/// Nothing beyond the letters, digits, `-` and `.` that every class has.
pub(crate) const PLAIN: Class = Class(0);
/// What may stand in a token.
pub(crate) const TOKEN: Class = Class(1);
/// What may stand in a host name. The underscore may not by RFC 3261, but does in the field.
pub(crate) const HOST: Class = Class(1 << 1);
/// White space in a header's value.
pub(crate) const LWS: Class = Class(1 << 2);
/// A parameter's value beyond token: the octets of hosts and IPv6 references (gen-value), and what the field puts there
/// unquoted.
pub(crate) const VALUE: Class = Class(1 << 3);
/// A display name without quotes: tokens with blanks between them. UTF-8 is tolerated in it.
pub(crate) const DISPLAY: Class = Class(1 << 4);
/// Anything but white space.
pub(crate) const WORD: Class = Class(1 << 11);
/// A URI between angle brackets, whatever its scheme.
pub(crate) const BRACKETED: Class = Class(1 << 5);
/// A URI without angle brackets: §20 keeps comma, semicolon and question mark out of it.
pub(crate) const BARE: Class = Class(1 << 6);
/// What needs no escape in a quoted string.
pub(crate) const QUOTED: Class = Class(1 << 12);
/// What stands for itself in a quoted string that we write: qdtext without its line ends, and the blank.
pub(crate) const VERBATIM: Class = Class(1 << 13);
/// Any octet that a URI of whatever scheme may show.
pub(crate) const URIC: Class = Class(1 << 7);
/// A user part or password, wider than the grammar by `#` and a few others that phones send unescaped; escapes aside.
pub(crate) const USER: Class = Class(1 << 8);
/// A URI parameter's name or value, escapes aside.
pub(crate) const URI_PARAM: Class = Class(1 << 9);
/// A URI's headers, escapes aside.
pub(crate) const URI_HEADER: Class = Class(1 << 10);

static CLASS: [u16; 256] = {
    let mut classes = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let is_lws = matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        let is_host = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_token = is_host || matches!(b, b'!' | b'%' | b'*' | b'+' | b'`' | b'\'' | b'~');
        let is_gen_value = matches!(
            b,
            b'[' | b']' | b':' | b'/' | b'@' | b'<' | b'>' | b'&' | b'$' | b'#' | b'|' | b'=' | b'?' | 0x80..
        );
        let is_bracketed = !is_lws && !matches!(b, b'<' | b'>');
        let is_uric = b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"' | b'\\');
        let members = [
            (TOKEN, is_token),
            (HOST, is_host),
            (LWS, is_lws),
            (VALUE, is_token || is_gen_value),
            (DISPLAY, is_token || is_lws || b >= 0x80),
            (WORD, !is_lws),
            (BRACKETED, is_bracketed),
            (BARE, is_bracketed && !matches!(b, b';' | b',' | b'?' | b'"')),
            (QUOTED, !matches!(b, b'"' | b'\\')),
            (VERBATIM, !matches!(b, b'"' | b'\\' | 0..=0x1f | 0x7f)),
            (URIC, is_uric),
            (USER, is_uric && !matches!(b, b'%' | b'@' | b':' | b'[' | b']')),
            (URI_PARAM, is_uric && !matches!(b, b'%' | b'@' | b',' | b';' | b'?' | b'=')),
            (URI_HEADER, is_uric && !matches!(b, b'%' | b'@' | b',' | b';' | b'#')),
        ];
        let mut m = 0;
        while m < members.len() {
            if members[m].1 {
                classes[i] |= members[m].0.0;
            }
            m += 1;
        }
        i += 1;
    }
    classes
};

impl Class {
    /// Whether `b` is of this class.
    #[inline]
    pub(crate) fn has(self, b: u8) -> bool {
        CLASS[usize::from(b)] & self.0 != 0
    }

    /// How far `bytes` holds octets of this class.
    #[inline]
    pub(crate) fn span(self, bytes: &[u8]) -> usize {
        // Mostly one block is enough. Every class has what is plain.
        let end = scan::plain(&scan::block(bytes));
        match bytes.get(end) {
            Some(&octet) if self.has(octet) => self.span_from(bytes, end + 1),
            _ => end,
        }
    }

    /// [`Class::span`], where the octets before `end` are of this class already.
    #[inline(never)]
    fn span_from(self, bytes: &[u8], mut end: usize) -> usize {
        loop {
            end += scan::plain(&scan::block(&bytes[end..]));
            // The table says whether the octet behind those is of this class too.
            match bytes.get(end) {
                Some(&octet) if self.has(octet) => end += 1,
                _ => return end,
            }
        }
    }

    /// How far `bytes` holds octets of this class and whole escapes (`%` and two hexadecimal digits).
    #[inline]
    pub(crate) fn span_escaped(self, bytes: &[u8]) -> usize {
        let mut end = self.span(bytes);
        while let [b'%', high, low, rest @ ..] = &bytes[end..]
            && high.is_ascii_hexdigit()
            && low.is_ascii_hexdigit()
        {
            end += 3 + self.span_from(rest, 0);
        }
        end
    }
}

/// How far `bytes` holds octets of [`WORD`].
#[inline(always)]
pub(crate) fn span_word(bytes: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let rest = &bytes[end..];
        // Of what is no blank and no control, all is of the class.
        end += rest.len().min(scan::blanks(rest).trailing_zeros() as usize);
        // A control is of it too, white space aside; behind a step without either, the next one is looked at.
        if !bytes.get(end).is_some_and(|&octet| WORD.has(octet)) {
            return end;
        }
        end += 1;
    }
}

/// `bytes` without the white space around it.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// `bytes` without the white space before it.
#[inline]
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    // Nothing of a text is below the blank, so this is one comparison an octet.
    while let [first @ ..=b' ', rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    bytes
}

/// `bytes` without the white space behind it.
#[inline]
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last @ ..=b' '] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A decimal number that fits `u32`: 1*DIGIT, so leading zeros are allowed (RFC 4475 §3.1.1.1), signs are not.
#[inline]
pub fn number(digits: &[u8]) -> Option<u32> {
    let (number, end) = number_at(digits)?;
    (end == digits.len()).then_some(number)
}

/// The number that `text` begins with, and how many digits it has.
#[inline]
pub(crate) fn number_at(text: &[u8]) -> Option<(u32, usize)> {
    let (mut n, mut end) = (0u64, 0);
    while let Some(digit) = text.get(end).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
    {
        // What has left 32 bits does not come back.
        n = (n * 10 + u64::from(digit)).min(1 << 32);
        end += 1;
    }
    let number = u32::try_from(n).ok()?;
    (end > 0).then_some((number, end))
}

/// Whether `b` is white space in a header's value.
#[inline]
pub(crate) fn is_lws(b: u8) -> bool {
    LWS.has(b)
}

/// How far `bytes` holds octets that `class` accepts.
#[inline]
pub(crate) fn span(bytes: &[u8], class: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&b| !class(b)).unwrap_or(bytes.len())
}

/// Whether `text` is `word` in any case. `word` is a literal: its length and letters are known where this is compiled in,
/// so no loop is left.
#[inline(always)]
pub(crate) fn is_word(text: &[u8], word: &str) -> bool {
    // Two octets differ in bit 0x20 alone if they are one letter in two cases; what is no letter must be the same.
    let differs = |(a, b): (&u8, u8)| (a ^ b) & if b.is_ascii_alphabetic() { !0x20 } else { !0 };
    text.len() == word.len() && text.iter().zip(word.bytes()).map(differs).fold(0, |all, d| all | d) == 0
}

/// Where `b` is in `bytes`, eight octets at a time: faster than memchr's call where it is near.
#[inline]
pub(crate) fn find_near(bytes: &[u8], b: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b));
        // The lowest high bit is that of the first octet that is zero now; above it there may be carries.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(bytes.len() - rest.len() + zeros.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    rest.iter().position(|&r| r == b).map(|i| bytes.len() - rest.len() + i)
}

/// Where the first of any of `octets` is in `bytes`, a block at a time.
#[inline]
pub(crate) fn find_any<const N: usize>(bytes: &[u8], octets: [u8; N]) -> Option<usize> {
    debug_assert!(!octets.contains(&0), "zeros stand behind the last block");
    let mut at = 0;
    while at < bytes.len() {
        let block = scan::block(&bytes[at..]);
        let found = octets.iter().fold(0, |found, &octet| found | scan::equal(&block, octet));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at += scan::BLOCK;
    }
    None
}

/// A place in a header's value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'b> {
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Steps over `count` octets, which are there.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    /// Takes a decimal number, all its digits.
    #[inline]
    pub(crate) fn number(&mut self) -> Option<u32> {
        let (number, digits) = number_at(self.rest)?;
        self.rest = &self.rest[digits..];
        Some(number)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    pub(crate) fn skip_lws(&mut self) {
        // Nothing of a text is below the blank, so mostly one comparison is all.
        while let Some(b) = self.peek()
            && b <= b' '
            && is_lws(b)
        {
            self.rest = &self.rest[1..];
        }
    }

    /// Steps over `b`, if it is next.
    #[inline]
    pub(crate) fn eat(&mut self, b: u8) -> bool {
        let next = self.peek() == Some(b);
        if next {
            self.rest = &self.rest[1..];
        }
        next
    }

    /// Steps over `b` with white space around it (SEMI, COMMA, EQUAL, SLASH, COLON of the grammar). Where it is not next,
    /// the cursor stays.
    #[inline]
    pub(crate) fn eat_separator(&mut self, b: u8) -> bool {
        let mut ahead = *self;
        ahead.skip_lws();
        if !ahead.eat(b) {
            return false;
        }
        ahead.skip_lws();
        *self = ahead;
        true
    }

    /// Takes the octets that `class` accepts; there may be none.
    #[inline]
    pub(crate) fn take(&mut self, class: impl Fn(u8) -> bool) -> &'b [u8] {
        self.take_octets(span(self.rest, class))
    }

    /// Takes the octets of `class`; there may be none.
    #[inline]
    pub(crate) fn run(&mut self, class: Class) -> &'b [u8] {
        self.take_octets(class.span(self.rest))
    }

    #[inline]
    fn take_octets(&mut self, count: usize) -> &'b [u8] {
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    #[inline]
    pub(crate) fn token(&mut self) -> Option<&'b [u8]> {
        let token = self.run(TOKEN);
        (!token.is_empty()).then_some(token)
    }

    /// Takes a quoted string with its quotes. A quoted-pair cannot hold CR or LF (§25.1).
    pub(crate) fn quoted(&mut self) -> Option<&'b [u8]> {
        let all = self.rest;
        let mut rest = all.strip_prefix(b"\"")?;
        loop {
            match &rest[find_any(rest, [b'"', b'\\'])?..] {
                [b'"', after @ ..] => {
                    self.rest = after;
                    return Some(&all[..all.len() - after.len()]);
                }
                [_, escaped, after @ ..] if *escaped != b'\r' && *escaped != b'\n' => rest = after,
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_neither_wrap_nor_take_signs() {
        assert_eq!(number(b"0068"), Some(68));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b"4294967296"[..], b"", b"-1", b"+1", b"1 ", b"36893488147419103232"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn words_compare_in_any_case_but_only_letters_have_one() {
        assert!(is_word(b"mAX-forwards", "Max-Forwards"));
        for other in [&b"Max\rForwards"[..], b"Max-Forward", b"Max-Forwardz", b"Max-Forwards ", b"MaxMForwards"] {
            assert!(!is_word(other, "Max-Forwards"), "{other:?}");
        }
    }

    #[test]
    fn a_near_octet_is_the_first_one() {
        let text = b"0123456789abcdef:\x3b:";
        for from in 0..text.len() {
            let expected = text[from..].iter().position(|&b| b == b':');
            assert_eq!(find_near(&text[from..], b':'), expected);
        }
        assert_eq!(find_near(b"\x3b\x3b\x3a\x3b\x3b\x3b\x3b\x3b", b':'), Some(2));
        assert_eq!(find_near(b"nothing of it here", b':'), None);
    }

    #[test]
    fn the_first_of_several_octets_is_found() {
        let text = b"0123456789abcdef\"0123456789abcdef01\\3456789\"";
        for from in 0..text.len() {
            for to in from..=text.len() {
                let part = &text[from..to];
                let expected = part.iter().position(|b| matches!(b, b'"' | b'\\'));
                assert_eq!(find_any(part, [b'"', b'\\']), expected);
            }
        }
    }

    #[test]
    fn every_class_has_what_the_blocks_pass_over() {
        let all =
            [TOKEN, HOST, VALUE, DISPLAY, WORD, BRACKETED, BARE, QUOTED, VERBATIM, URIC, USER, URI_PARAM, URI_HEADER];
        for octet in 0..=u8::MAX {
            let block = [octet; scan::BLOCK];
            for class in all {
                let is_passed = scan::plain(&block) > 0;
                assert!(!is_passed || class.has(octet), "{octet:#x}");
            }
        }
    }

    #[test]
    fn a_span_ends_at_the_first_octet_of_another_class() {
        let text = b"z9hG4bK-a_b+c.d!e%f*0123456789abcdef~_ghijklmnop;branch=x";
        for from in 0..text.len() {
            for to in from..=text.len() {
                for class in [TOKEN, WORD, HOST, URI_PARAM] {
                    let part = &text[from..to];
                    let expected = part.iter().position(|&b| !class.has(b)).unwrap_or(part.len());
                    assert_eq!(class.span(part), expected);
                }
            }
        }
    }

    #[test]
    fn a_quoted_string_ends_at_its_own_quote() {
        let mut c = Cursor::new(br#""a \"b\" \\" rest"#);
        assert_eq!(c.quoted(), Some(&br#""a \"b\" \\""#[..]));
        assert_eq!(c.rest(), b" rest");
        assert_eq!(Cursor::new(br#""open"#).quoted(), None);
        assert_eq!(Cursor::new(br#""open\"#).quoted(), None);
    }
}
