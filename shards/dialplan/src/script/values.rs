//! Values: comparing, showing and reading them without nesting deeper than a stack allows, and padding under a bound.
//!
//! Some of these stand in for functions of rhai's which call themselves through the interpreter for each level of nesting.

use super::Registry;
use crate::run::{Raised, with};
use rhai::{Array, Dynamic, EvalAltResult, FLOAT, INT, ImmutableString, Map, Position};
use std::fmt::Write;

/// How deeply values are compared, shown and read.
const MAX_DEPTH: usize = 32;

pub(super) fn register(to: &mut Registry) {
    to.hidden("==", |a: &mut Array, b: Array| equal_arrays(a, &b, MAX_DEPTH));
    to.hidden("!=", |a: &mut Array, b: Array| equal_arrays(a, &b, MAX_DEPTH).map(|equal| !equal));
    to.hidden("==", |a: &mut Map, b: Map| equal_maps(a, &b, MAX_DEPTH));
    to.hidden("!=", |a: &mut Map, b: Map| equal_maps(a, &b, MAX_DEPTH).map(|equal| !equal));
    for name in ["print", "to_string", "debug", "to_debug"] {
        to.hidden(name, |array: &mut Array| whole(|out, max| show_array(array, out, max, MAX_DEPTH)));
        to.hidden(name, |map: &mut Map| whole(|out, max| show_map(map, out, max, MAX_DEPTH)));
    }
    to.changing("pad", pad);
    to.method("map.to_json() -> string", |map: &mut Map| {
        let max = with(|current| current.limits.max_string_bytes);
        let mut out = String::new();
        json_map(map, &mut out, max, MAX_DEPTH)?;
        Ok::<_, Raised>(out)
    });
    to.method("text.parse_json() -> value", |text: &str| {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|wrong| format!("this is no JSON: {wrong}"))?;
        from_json(&value, MAX_DEPTH)
    });
}

/// A value for reading, at most `max` octets of it.
pub(crate) fn show(value: &Dynamic, max: usize) -> String {
    let mut out = String::new();
    match value.as_immutable_string_ref() {
        Ok(text) => out.push_str(&text[..text.floor_char_boundary(max)]),
        Err(_) => show_within(value, &mut out, max, MAX_DEPTH),
    }
    out.truncate(out.floor_char_boundary(max));
    out
}

/// All of what `write` writes, unless it is longer than a string may be.
fn whole(write: impl FnOnce(&mut String, usize)) -> Result<String, Raised> {
    let max = with(|current| current.limits.max_string_bytes);
    let mut out = String::new();
    write(&mut out, max);
    if out.len() > max { Err(too_large("Length of string")) } else { Ok(out) }
}

/// Goes no further once `out` is longer than `max`.
fn show_within(value: &Dynamic, out: &mut String, max: usize, depth: usize) {
    if out.len() > max {
        return;
    }
    if depth == 0 {
        out.push('…');
    } else if let Ok(array) = value.as_array_ref() {
        show_array(&array, out, max, depth - 1);
    } else if let Ok(map) = value.as_map_ref() {
        show_map(&map, out, max, depth - 1);
    } else if let Ok(text) = value.as_immutable_string_ref() {
        write!(out, "{:?}", text.as_str()).expect("a String takes everything");
    } else {
        write!(out, "{value}").expect("a String takes everything");
    }
}

fn show_array(array: &Array, out: &mut String, max: usize, depth: usize) {
    out.push('[');
    for (i, item) in array.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        show_within(item, out, max, depth);
    }
    out.push(']');
}

fn show_map(map: &Map, out: &mut String, max: usize, depth: usize) {
    out.push_str("#{");
    for (i, (key, item)) in map.iter().enumerate() {
        write!(out, "{}{key:?}: ", if i > 0 { ", " } else { "" }).expect("a String takes everything");
        show_within(item, out, max, depth);
    }
    out.push('}');
}

fn equal(a: &Dynamic, b: &Dynamic, depth: usize) -> Result<bool, Raised> {
    if let (Ok(a), Ok(b)) = (a.as_array_ref(), b.as_array_ref()) {
        return equal_arrays(&a, &b, depth);
    }
    if let (Ok(a), Ok(b)) = (a.as_map_ref(), b.as_map_ref()) {
        return equal_maps(&a, &b, depth);
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Ok(*a == *b);
    }
    let number = |value: &Dynamic| value.as_float().or_else(|_| value.as_int().map(|int| int as FLOAT));
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a == b);
    }
    if let (Ok(a), Ok(b)) = (number(a), number(b)) {
        return Ok(a == b);
    }
    Ok((a.is_unit() && b.is_unit())
        || matches!((a.as_bool(), b.as_bool()), (Ok(a), Ok(b)) if a == b)
        || matches!((a.as_char(), b.as_char()), (Ok(a), Ok(b)) if a == b))
}

fn equal_arrays(a: &Array, b: &Array, depth: usize) -> Result<bool, Raised> {
    let depth = deeper(depth)?;
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.iter().zip(b) {
        if !equal(a, b, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(a: &Map, b: &Map, depth: usize) -> Result<bool, Raised> {
    let depth = deeper(depth)?;
    if a.len() != b.len() {
        return Ok(false);
    }
    for ((key, a), (other, b)) in a.iter().zip(b) {
        if key != other || !equal(a, b, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn deeper(depth: usize) -> Result<usize, Raised> {
    depth.checked_sub(1).ok_or_else(|| format!("this value nests more than {MAX_DEPTH} levels deep").into())
}

/// As rhai's, which multiplies before it compares.
fn pad(array: &mut Array, len: INT, item: Dynamic) -> Result<(), Raised> {
    let len = usize::try_from(len).unwrap_or(0);
    let most = with(|current| current.limits.max_array_items);
    if len <= array.len() {
        return Ok(());
    }
    let added = len.saturating_sub(array.len()).saturating_mul(items(&item, MAX_DEPTH)?);
    if added > most {
        return Err(too_large("Size of array"));
    }
    array.resize(len, item);
    Ok(())
}

/// How many values a value is.
fn items(value: &Dynamic, depth: usize) -> Result<usize, Raised> {
    let depth = deeper(depth)?;
    let mut count = 1;
    if let Ok(array) = value.as_array_ref() {
        for item in array.iter() {
            count += items(item, depth)?;
        }
    } else if let Ok(map) = value.as_map_ref() {
        for item in map.values() {
            count += items(item, depth)?;
        }
    }
    Ok(count)
}

fn too_large(what: &str) -> Raised {
    EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into()
}

fn json(value: &Dynamic, out: &mut String, max: usize, depth: usize) -> Result<(), Raised> {
    if out.len() > max {
        return Err(too_large("Length of string"));
    }
    if let Ok(map) = value.as_map_ref() {
        return json_map(&map, out, max, depth);
    }
    if let Ok(array) = value.as_array_ref() {
        let depth = deeper(depth)?;
        out.push('[');
        for (i, item) in array.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            json(item, out, max, depth)?;
        }
        out.push(']');
    } else if value.is_unit() {
        out.push_str("null");
    } else if value.is_int() || value.is_bool() || value.as_float().is_ok_and(FLOAT::is_finite) {
        write!(out, "{value}").expect("a String takes everything");
    } else {
        json_text(&show(value, max), out);
    }
    Ok(())
}

fn json_map(map: &Map, out: &mut String, max: usize, depth: usize) -> Result<(), Raised> {
    let depth = deeper(depth)?;
    out.push('{');
    for (i, (key, item)) in map.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        json_text(key, out);
        out.push(':');
        json(item, out, max, depth)?;
    }
    out.push('}');
    Ok(())
}

fn json_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("every text is a JSON string"));
}

fn from_json(value: &serde_json::Value, depth: usize) -> Result<Dynamic, Raised> {
    use serde_json::Value;
    let depth = deeper(depth)?;
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match number.as_i64() {
            Some(int) => int.into(),
            None => Dynamic::from_float(number.as_f64().unwrap_or(FLOAT::NAN)),
        },
        Value::String(text) => ImmutableString::from(text.as_str()).into(),
        Value::Array(items) => {
            Dynamic::from_array(items.iter().map(|item| from_json(item, depth)).collect::<Result<Array, Raised>>()?)
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((key.as_str().into(), from_json(value, depth)?)));
            Dynamic::from_map(entries.collect::<Result<Map, Raised>>()?)
        }
    })
}
