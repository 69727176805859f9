//! The part of a body that is a session description (RFC 5621, RFC 2046 §5.1).

use memchr::memmem;
use sip::Parameterized;

/// Parts of one body that are looked at.
const MAX_PARTS: usize = 16;

/// Of `body`, which has `content_type`, the octets that have the type `wanted`: all of them, or a part of a multipart body.
pub(crate) fn part_of<'b>(content_type: &[u8], body: &'b [u8], wanted: &[u8]) -> Option<&'b [u8]> {
    let parsed = Parameterized::parse(content_type)?;
    if parsed.value.eq_ignore_ascii_case(wanted) {
        return Some(body);
    }
    if !parsed.value.get(..b"multipart/".len())?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let boundary = parsed.params.value("boundary")?;
    let boundary = boundary.strip_prefix(b"\"").and_then(|b| b.strip_suffix(b"\"")).unwrap_or(boundary);
    let delimiter = [b"--", boundary].concat();
    let mut rest = behind_delimiter(body, &delimiter)?.1;
    for _ in 0..MAX_PARTS {
        let (part, behind) = behind_delimiter(rest, &delimiter)?;
        if let Some((head, content)) = split_head(part)
            && part_type(head).is_some_and(|t| t.eq_ignore_ascii_case(wanted))
        {
            return Some(content);
        }
        rest = behind;
    }
    None
}

/// What is before the next delimiter, without the line end that belongs to it, and what is behind. A delimiter stands alone
/// on its line, the last one with two hyphens.
fn behind_delimiter<'b>(text: &'b [u8], delimiter: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let stands_alone = |at: usize| {
        let line = text[at + delimiter.len()..].split(|&b| b == b'\n').next().unwrap_or_default();
        (at == 0 || text[at - 1] == b'\n') && matches!(line.trim_ascii_end(), b"" | b"--")
    };
    let at = memmem::find_iter(text, delimiter).find(|&at| stands_alone(at))?;
    let before = &text[..at];
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    Some((before.strip_suffix(b"\r").unwrap_or(before), &text[at + delimiter.len()..]))
}

/// The headers of a part and its content. The rest of the delimiter's line comes first; a part without headers begins with
/// an empty line.
fn split_head(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr::memchr(b'\n', part)?;
    // The delimiter's own line end may be the first half of the empty line.
    let empty = [b"\n\r\n".as_slice(), b"\n\n"].into_iter();
    let (at, len) = empty.filter_map(|e| memmem::find(&part[start..], e).map(|at| (at, e.len()))).min()?;
    Some((&part[start..start + at], &part[start + at + len..]))
}

fn part_type(head: &[u8]) -> Option<&[u8]> {
    head.split(|&b| b == b'\n').find_map(|line| {
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        let is_type = name.trim_ascii().eq_ignore_ascii_case(b"Content-Type");
        is_type.then(|| Parameterized::parse(value[1..].trim_ascii()).map(|v| v.value))?
    })
}
