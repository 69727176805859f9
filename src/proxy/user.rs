//! Whom of ours a Request-URI names (RFC 3261 §16.5).

use super::settings::Settings;
use bumpalo::Bump;
use sip::{Request, Uri};

/// A Request-URI in a domain of ours.
pub(super) struct LocalUser<'b> {
    /// The domain.
    pub domain: &'b str,
    /// The address of record, if there is a user part.
    pub aor: Option<&'b str>,
}

impl<'b> LocalUser<'b> {
    /// Whom `uri` names, if it names us or one of ours.
    pub fn of(settings: &'b Settings, uri: &Uri<'_>, arena: &'b Bump) -> Option<Self> {
        let domains = &settings.domains;
        match uri {
            // §16.5: with an maddr the Request-URI is the only target, and one of ours is taken away before this.
            Uri::Sip(uri) if uri.param("maddr").is_some() => None,
            Uri::Sip(uri) => {
                let domain = domains.local(&uri.host, uri.port)?;
                Some(Self { domain, aor: registrar::address_of_record(uri, domains, arena) })
            }
            Uri::Tel(tel) => {
                let aor = registrar::number_of_record(tel, domains, arena);
                Some(Self { domain: domains.default_domain(), aor })
            }
            Uri::Other { .. } => None,
        }
    }
}

/// The domain of ours that the sender says he belongs to.
pub(super) fn sender_domain<'s>(settings: &'s Settings, request: &Request<'_>) -> Option<&'s str> {
    match request.from.parse_uri() {
        Ok(Uri::Sip(from)) if from.user.is_some() => settings.domains.local(&from.host, from.port),
        _ => None,
    }
}
