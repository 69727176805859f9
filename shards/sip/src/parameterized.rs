//! Values with parameters behind them: Session-Expires, Event, Subscription-State, Reason, Replaces (RFC 3261 §7.3.1).

use crate::{
    Params,
    lex::{Cursor, WORD},
};

/// One value `word *(SEMI generic-param)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameterized<'b> {
    /// What is before the first semicolon: a word without white space, commas or semicolons.
    pub value: &'b [u8],
    /// The parameters.
    pub params: Params<'b>,
}

impl<'b> Parameterized<'b> {
    /// The one value that `text` is, all of it.
    pub fn parse(text: &'b [u8]) -> Option<Self> {
        let mut at = Cursor::new(text);
        Self::take(&mut at).filter(|_| at.is_at_end())
    }

    /// The values of a comma-separated list, up to the first one that breaks the grammar.
    pub fn list(text: &'b [u8]) -> impl Iterator<Item = Self> + use<'b> {
        let mut at = Some(Cursor::new(text));
        std::iter::from_fn(move || {
            let mut cursor = at.take()?;
            let value = Self::take(&mut cursor)?;
            if cursor.eat(b',') {
                at = Some(cursor);
            }
            Some(value)
        })
    }

    /// Takes one value; a comma or the end follows.
    fn take(at: &mut Cursor<'b>) -> Option<Self> {
        at.skip_lws();
        let value = at.take(|b| WORD.has(b) && b != b';' && b != b',');
        let params = Params::parse(at, |_| ()).ok()?;
        at.skip_lws();
        (!value.is_empty() && matches!(at.peek(), None | Some(b','))).then_some(Self { value, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_parameters() {
        let event = Parameterized::parse(b"refer ; id=93809824").unwrap();
        assert_eq!((event.value, event.params.value("id")), (&b"refer"[..], Some(&b"93809824"[..])));
        for bad in [&b""[..], b"a b", b"a;", b"a,b", b"a,", b";x=1", b"a;b=\"open"] {
            assert_eq!(Parameterized::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_split_at_its_own_commas_only() {
        let list: Vec<_> =
            Parameterized::list(b"SIP ;cause=200 ;text=\"a, b\",\r\n Q.850;cause=16").map(|r| r.value).collect();
        assert_eq!(list, [&b"SIP"[..], b"Q.850"]);
    }
}
