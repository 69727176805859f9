//! A request as it came, and whose it is.

use agent::{Domains, Flow};
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Message, Octets, Request, SipUri, TelUri};

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'m, 't> {
    /// The path it came on.
    pub flow: Flow,
    /// All of it.
    pub message: &'m Message<'t>,
    /// What every request has, parsed from `message`.
    pub request: &'m Request<'t>,
}

/// The address-of-record that `uri` is, in the canonical form by which accounts and bindings are found (RFC 3261 §10.3
/// step 5): a user in one of our domains. It is written into `arena`.
pub fn address_of_record<'t>(uri: &SipUri<'_>, domains: &Domains, arena: &'t Bump) -> Option<&'t str> {
    let domain = domains.local(&uri.host, uri.port)?;
    uri.user?;
    let mut aor = BumpVec::with_capacity_in(64, arena);
    uri.write_aor(domain, &mut aor);
    // A canonical form is ASCII.
    std::str::from_utf8(aor.into_bump_slice()).ok()
}

/// The address-of-record that a telephone number is: it names nobody outside without a query (RFC 6116), and here it may be a
/// user of the default domain.
pub fn number_of_record<'t>(tel: &TelUri<'_>, domains: &Domains, arena: &'t Bump) -> Option<&'t str> {
    let mut aor = BumpVec::with_capacity_in(64, arena);
    // RFC 3966 §3: visual separators have no meaning.
    aor.extend(tel.number.iter().filter(|b| !matches!(b, b'-' | b'.' | b'(' | b')')));
    aor.put(b"@");
    aor.put(domains.default_domain().as_bytes());
    std::str::from_utf8(aor.into_bump_slice()).ok()
}
