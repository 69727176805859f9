//! Parameters behind a value: `;name`, `;name=token`, `;name="quoted"` (RFC 3261 §25.1, generic-param).

use crate::{
    lex::{Cursor, TOKEN, VALUE},
    walk::Walk,
};

/// One parameter. Its name compares in any case; its value keeps its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'b> {
    /// The name as it stands.
    pub name: &'b [u8],
    /// What is behind the equals sign, if there is one.
    pub value: Option<&'b [u8]>,
}

impl<'b> Param<'b> {
    /// Takes the parameter that is next, if there is one, without white space in it and without quotes.
    #[inline(always)]
    pub(crate) fn walk(walk: &mut Walk<'b>) -> Option<Result<Self, BadParam>> {
        if !walk.eat(b';') {
            return None;
        }
        let name = walk.run(TOKEN);
        let value = walk.eat(b'=').then(|| walk.run(VALUE));
        let is_sound = !name.is_empty() && !value.is_some_and(<[u8]>::is_empty);
        Some(if is_sound { Ok(Self { name, value }) } else { Err(BadParam) })
    }
}

/// A parameter breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadParam;

/// Parameters that have been checked against the grammar, from the first semicolon on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'b> {
    raw: &'b [u8],
}

impl<'b> Params<'b> {
    /// Takes the parameters that are next, if any, and calls `each` with every one.
    #[inline]
    pub(crate) fn parse(at: &mut Cursor<'b>, mut each: impl FnMut(Param<'b>)) -> Result<Self, BadParam> {
        let start = at.rest();
        while at.eat_separator(b';') {
            each(one(at)?);
        }
        Ok(Self { raw: &start[..start.len() - at.rest().len()] })
    }

    /// The parameters that `walk` has passed from `start` on, all of them with [`Param::walk`].
    #[inline(always)]
    pub(crate) fn since(walk: &Walk<'b>, start: usize) -> Self {
        Self { raw: walk.since(start) }
    }

    /// The octets, from the first semicolon to the end of the last value.
    pub fn as_bytes(&self) -> &'b [u8] {
        self.raw
    }

    /// Every parameter in order.
    pub fn iter(&self) -> impl Iterator<Item = Param<'b>> + use<'b> {
        let mut at = Cursor::new(self.raw);
        std::iter::from_fn(move || if at.eat_separator(b';') { one(&mut at).ok() } else { None })
    }

    /// The first parameter of that name.
    pub fn find(&self, name: &str) -> Option<Param<'b>> {
        self.iter().find(|p| p.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The value of the first parameter of that name; empty where it has none.
    pub fn value(&self, name: &str) -> Option<&'b [u8]> {
        self.find(name).map(|p| p.value.unwrap_or_default())
    }
}

#[inline]
fn one<'b>(at: &mut Cursor<'b>) -> Result<Param<'b>, BadParam> {
    let name = at.token().ok_or(BadParam)?;
    if !at.eat_separator(b'=') {
        return Ok(Param { name, value: None });
    }
    let value = if at.peek() == Some(b'"') { at.quoted().ok_or(BadParam)? } else { at.run(VALUE) };
    if value.is_empty() {
        return Err(BadParam);
    }
    Ok(Param { name, value: Some(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_and_spaced() {
        let mut at = Cursor::new(b" ; a ; B = \"x;y\" ;\r\n c=[::1] , next");
        let params = Params::parse(&mut at, |_| ()).unwrap();
        assert_eq!(params.value("b"), Some(&b"\"x;y\""[..]));
        assert_eq!(params.value("A"), Some(&b""[..]));
        assert_eq!(params.value("c"), Some(&b"[::1]"[..]));
        assert_eq!(params.find("d"), None);
        assert_eq!(at.rest(), b" , next");
    }

    #[test]
    fn empty_names_and_values_are_faults() {
        for bad in [&b";;a"[..], b";", b";a=", b";a=;b", b";a=\"open"] {
            assert_eq!(Params::parse(&mut Cursor::new(bad), |_| ()), Err(BadParam), "{bad:?}");
        }
    }
}
