//! What a REGISTER asks for: its Contact values, read and checked before anything changes (RFC 3261 §10.3 steps 6 and 7).

use crate::{
    refusal::{BAD_CONTACT, Refusal},
    settings::Intervals,
};
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Address, HeaderName, Message, Octets, Param, Uri};

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'t> {
    /// It has no Contact: only to be told of the bindings (§10.2.3).
    Nothing,
    /// `Contact: *` with `Expires: 0`: no binding any more (§10.2.2).
    NoBinding,
    /// Contacts to add, refresh or remove.
    Contacts(&'t [Contact<'t>]),
}

/// One contact, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contact<'t> {
    /// Its URI, as it stands.
    pub(crate) uri: &'t [u8],
    /// Its header parameters, but for those below.
    pub(crate) params: &'t [u8],
    /// Preference in thousandths.
    pub(crate) q: u16,
    /// The interval that is granted; 0 removes the binding.
    pub(crate) expires_secs: u32,
    /// `+sip.instance`, as it stands; empty for none.
    pub(crate) instance: &'t [u8],
    /// `reg-id`, unless it is to be ignored.
    pub(crate) reg_id: Option<u32>,
    /// `methods`, as it stands; empty for none.
    pub(crate) methods: &'t [u8],
}

/// Most contacts in one request. Each is compared with every binding.
const MAX_CONTACTS: usize = 64;

/// §20.10: a malformed `expires` is equivalent to this.
const MALFORMED_EXPIRES_SECS: u32 = 3600;

impl<'t> Wanted<'t> {
    /// Reads the Contact values of `message`.
    pub(crate) fn read(message: &Message<'t>, intervals: Intervals, arena: &'t Bump) -> Result<Self, Refusal<'static>> {
        // §20.19 says nothing of a malformed Expires; it means what a malformed parameter means.
        let expires = message.expires().map(|value| value.unwrap_or(MALFORMED_EXPIRES_SECS));
        let outbound = has_option(message, HeaderName::Supported, b"outbound")
            || has_option(message, HeaderName::Require, b"outbound");
        let mut contacts = BumpVec::new_in(arena);
        for address in message.addresses(HeaderName::Contact) {
            let address = address?;
            if address.raw == b"*" {
                // §10.3 step 6: alone, and with an Expires of zero.
                let is_alone = message.addresses(HeaderName::Contact).count() == 1;
                return if is_alone && expires == Some(0) {
                    Ok(Self::NoBinding)
                } else {
                    Err(Refusal::WildcardMisused)
                };
            }
            if contacts.len() == MAX_CONTACTS {
                return Err(Refusal::TooManyBindings);
            }
            contacts.push(Contact::read(&address, expires, outbound, intervals, arena)?);
        }
        let contacts: &'t [Contact<'t>] = contacts.into_bump_slice();
        // An empty Contact header is no contact.
        if contacts.is_empty() {
            return Ok(Self::Nothing);
        }
        check_outbound(message, contacts)?;
        Ok(Self::Contacts(contacts))
    }

    /// Whether a binding to a flow is among what is wanted, which the answer then says (RFC 5626 §6).
    pub(crate) fn is_outbound(&self) -> bool {
        matches!(self, Self::Contacts(contacts) if contacts.iter().any(|c| c.reg_id.is_some()))
    }
}

/// Whether an option tag is in a list of them, in any case.
pub(crate) fn has_option(message: &Message<'_>, name: HeaderName, tag: &[u8]) -> bool {
    message.tokens(name).any(|t| t.eq_ignore_ascii_case(tag))
}

/// RFC 5626 §6: whether a flow can be what a binding is to.
fn check_outbound(message: &Message<'_>, contacts: &[Contact<'_>]) -> Result<(), Refusal<'static>> {
    if contacts.iter().all(|c| c.reg_id.is_none()) {
        return Ok(());
    }
    if contacts.iter().filter(|c| c.expires_secs > 0).count() > 1 {
        return Err(Refusal::SeveralFlows);
    }
    // We are the first hop where the client's Via is the only one. Else the first hop says in its Path value that it does
    // outbound; a Path of several values is searched, for proxies disagree which of them comes first.
    let is_first_hop = message.vias().count() == 1;
    let is_ob = |path: Address<'_>| matches!(path.parse_uri(), Ok(Uri::Sip(uri)) if uri.param("ob").is_some());
    if is_first_hop || message.addresses(HeaderName::Path).flatten().any(is_ob) {
        return Ok(());
    }
    Err(Refusal::FirstHopLacksOutbound)
}

impl<'t> Contact<'t> {
    fn read(
        address: &Address<'t>,
        expires: Option<u32>,
        outbound: bool,
        intervals: Intervals,
        arena: &'t Bump,
    ) -> Result<Self, Refusal<'static>> {
        address.parse_uri()?;
        let mut asked = expires;
        let mut contact =
            Self { uri: address.uri, params: &[], q: 1000, expires_secs: 0, instance: &[], reg_id: None, methods: &[] };
        let mut params = BumpVec::new_in(arena);
        for param in address.params.iter() {
            let is = |name: &[u8]| param.name.eq_ignore_ascii_case(name);
            let value = param.value.unwrap_or_default();
            if is(b"q") {
                contact.q = thousandths(value).ok_or(BAD_CONTACT)?;
            } else if is(b"expires") {
                asked = Some(sip::number(value).unwrap_or(MALFORMED_EXPIRES_SECS));
            } else if is(b"+sip.instance") {
                contact.instance = value;
            } else if is(b"reg-id") {
                // RFC 5626 §4.2: from 1 to 2^31 - 1.
                contact.reg_id = Some(sip::number(value).filter(|n| (1..1 << 31).contains(n)).ok_or(BAD_CONTACT)?);
            } else if is(b"methods") {
                contact.methods = value;
            } else {
                write_param(&param, &mut params);
            }
        }
        contact.params = params.into_bump_slice();
        // RFC 5626 §6: a reg-id without an instance is ignored. So is one of a client that does not do outbound: it would
        // not understand an answer that requires it.
        if contact.instance.is_empty() || !outbound {
            contact.reg_id = None;
        }
        contact.expires_secs = intervals.grant(asked)?;
        Ok(contact)
    }
}

impl Intervals {
    /// The interval that is granted where `asked` is asked for (§10.3 step 7).
    fn grant(&self, asked: Option<u32>) -> Result<u32, Refusal<'static>> {
        let Some(asked) = asked else { return Ok(self.default_secs) };
        // §10.3 step 7: only what is above zero, below an hour and below the minimum may be refused.
        if asked > 0 && asked < 3600 && asked < self.min_secs {
            return Err(Refusal::TooBrief(self.min_secs));
        }
        Ok(asked.min(self.max_secs))
    }
}

fn write_param(param: &Param<'_>, out: &mut BumpVec<'_, u8>) {
    out.put(b";");
    out.put(param.name);
    if let Some(value) = param.value {
        out.put(b"=");
        out.put(value);
    }
}

/// A qvalue (§25.1: 0 to 1 with at most three decimals) in thousandths.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole, b'.', decimals @ ..] => (whole, decimals),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = [*whole].into_iter().chain(decimals.iter().copied()).chain(*b"000").take(4);
    let q = digits.fold(0, |q, digit| q * 10 + u16::from(digit - b'0'));
    (q <= 1000).then_some(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_has_at_most_three_decimals_and_is_at_most_one() {
        for (text, q) in
            [("0", 0), ("1", 1000), ("0.5", 500), ("0.25", 250), ("0.007", 7), ("1.000", 1000), ("1.", 1000)]
        {
            assert_eq!(thousandths(text.as_bytes()), Some(q), "{text}");
        }
        for bad in ["", "2", "1.001", "0.1234", ".5", "0,5", "-1", "0.x"] {
            assert_eq!(thousandths(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_what_is_below_the_minimum_and_an_hour_is_too_brief() {
        let grant = |min_secs, max_secs, asked| Intervals { min_secs, max_secs, default_secs: 1800 }.grant(asked);
        assert_eq!(grant(60, 7200, Some(59)), Err(Refusal::TooBrief(60)));
        assert_eq!(grant(60, 7200, Some(60)), Ok(60));
        assert_eq!(grant(60, 7200, Some(0)), Ok(0));
        assert_eq!(grant(60, 7200, Some(7201)), Ok(7200));
        assert_eq!(grant(60, 7200, None), Ok(1800));
        assert_eq!(grant(7000, 7200, Some(3600)), Ok(3600));
    }
}
