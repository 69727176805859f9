//! Functions on texts: regular expressions, and replacing under a bound.

use super::Registry;
use crate::run::{Raised, with};
use regex::{Captures, Regex};
use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, Position};

/// Matches that one `replace_matches` replaces.
const MAX_REPLACED: usize = 64;

pub(super) fn register(to: &mut Registry) {
    to.method("text.matches(pattern) -> bool", |text: &str, pattern: &str| {
        matched(text, pattern, |regex| regex.is_match(text), |found| *found)
    });
    to.method("text.captures(pattern) -> array or ()", |text: &str, pattern: &str| {
        matched(
            text,
            pattern,
            |regex| regex.captures(text),
            |found| match found {
                Some(found) => Dynamic::from_array(groups(found)),
                None => Dynamic::UNIT,
            },
        )
    });
    to.method("text.replace_matches(pattern, with) -> string", |text: &str, pattern: &str, with: &str| {
        // `$1` in `with` stands for a group, which may be nearly all of the text.
        let grown = with.len().saturating_mul(text.len().max(1)).saturating_mul(MAX_REPLACED);
        if with.contains('$') && grown > 1 << 20 || with.len() * MAX_REPLACED > max_string() {
            return Err(too_long());
        }
        matched(
            text,
            pattern,
            |regex| regex.replacen(text, MAX_REPLACED, with),
            |found| ImmutableString::from(&**found),
        )
    });
    // rhai's own look at the size only when the text is there.
    to.changing("replace", |text: &mut ImmutableString, find: &str, with: &str| replace(text, find, with));
    to.changing("replace", |text: &mut ImmutableString, find: &str, with: char| {
        replace(text, find, with.encode_utf8(&mut [0; 4]))
    });
    to.changing("replace", |text: &mut ImmutableString, find: char, with: &str| {
        replace(text, find.encode_utf8(&mut [0; 4]), with)
    });
    to.changing("replace", |text: &mut ImmutableString, find: char, with: char| {
        replace(text, find.encode_utf8(&mut [0; 4]), with.encode_utf8(&mut [0; 4]))
    });
}

fn groups(found: &Captures<'_>) -> Array {
    found
        .iter()
        .map(|group| group.map_or(Dynamic::UNIT, |group| ImmutableString::from(group.as_str()).into()))
        .collect()
}

/// Looks for a pattern with `find`, and makes what the script gets with `give`. What the pattern takes is not on the run's
/// account: compiled, it stays with the plan.
fn matched<T, G>(
    text: &str,
    pattern: &str,
    find: impl FnOnce(&Regex) -> T,
    give: impl FnOnce(&T) -> G,
) -> Result<G, Raised> {
    with(|current| {
        let (pattern_bytes, text_bytes) = (current.limits.max_pattern_bytes, current.limits.max_match_bytes);
        if pattern.len() > pattern_bytes {
            return Err(format!("a pattern has at most {pattern_bytes} octets (`max_pattern_bytes`)").into());
        }
        if text.len() > text_bytes {
            return Err(format!("a pattern is tried on at most {text_bytes} octets (`max_match_bytes`)").into());
        }
        let found = current.apart(|current| {
            let regex = current.plan.pattern(pattern).map_err(|wrong| format!("`{pattern}`: {wrong}"))?;
            Ok(find(&regex))
        })?;
        let given = give(&found);
        current.uncounted(|_| drop(found));
        Ok(given)
    })
}

fn max_string() -> usize {
    with(|current| current.limits.max_string_bytes)
}

fn too_long() -> Raised {
    EvalAltResult::ErrorDataTooLarge("Length of string".to_owned(), Position::NONE).into()
}

fn replace(text: &mut ImmutableString, find: &str, with: &str) -> Result<(), Raised> {
    let found = text.matches(find).count();
    let grown = text.len().saturating_add(found.saturating_mul(with.len())).saturating_sub(found * find.len());
    if grown > max_string() {
        return Err(too_long());
    }
    *text = text.replace(find, with).into();
    Ok(())
}
