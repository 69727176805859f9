//! Where a dialled target leads: the host of a dial string is tried as a domain of ours, as a provider of the user's, as the
//! host of a SIP URI, in this order.

use crate::{Settings, Tables, best::Failure};
use sip::{StatusCode, Uri};
use std::sync::Arc;
use store::{Provider, Providers};

/// Where a target leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Destination {
    /// An account of ours, by its canonical address-of-record.
    Local(Box<str>),
    /// Out through a user's provider.
    Provider {
        provider: Arc<Provider>,
        /// The Request-URI.
        uri: Box<str>,
    },
    /// To where this URI leads.
    Outside(Box<str>),
}

/// Who dials, as far as it decides where he gets to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialler<'d> {
    /// Whose providers count; empty for nobody's.
    pub user: &'d str,
    /// Whether he may call other domains directly.
    pub may_go_outside: bool,
}

impl Dialler<'_> {
    /// Where `target` leads him.
    pub fn resolve(
        &self,
        settings: &Settings,
        tables: &Tables,
        target: &dialplan::Target,
    ) -> Result<Destination, Failure> {
        match target {
            dialplan::Target::Address { user, host } => {
                if !user.is_empty()
                    && let Some(provider) = self.provider(&tables.providers, host)
                    && !is_local(settings, host)
                {
                    return provided(provider, user);
                }
                // A host with a port, an address, a name: whatever a URI may have there.
                self.resolve_uri(settings, tables, &format!("sip:{user}@{host}"))
            }
            dialplan::Target::Uri(uri) => self.resolve_uri(settings, tables, uri),
        }
    }

    fn resolve_uri(&self, settings: &Settings, tables: &Tables, text: &str) -> Result<Destination, Failure> {
        match Uri::parse(text.as_bytes()) {
            Ok(Uri::Sip(uri)) => {
                if let Some(domain) = settings.domains.local(&uri.host, uri.port)
                    && let Some(user) = uri.user
                {
                    let mut aor = Vec::new();
                    uri.write_aor(domain, &mut aor);
                    let aor = String::from_utf8(aor).map_err(|_| Failure::of(StatusCode::NOT_FOUND))?;
                    if tables.accounts.exists(&aor) {
                        return Ok(Destination::Local(aor.into()));
                    }
                    // Nobody here has that name. A number goes out through the user's one provider.
                    let number = str::from_utf8(user).unwrap_or_default();
                    let provider = self.only_provider(&tables.providers).filter(|_| is_number(number));
                    return provider.map_or(Err(Failure::of(StatusCode::NOT_FOUND)), |p| provided(p, number));
                }
                if let sip::Host::Name(name) = uri.host
                    && let Some(user) = uri.user
                    && let Some(provider) = self.provider(&tables.providers, &String::from_utf8_lossy(name))
                {
                    return provided(provider, &String::from_utf8_lossy(user));
                }
                if !self.may_go_outside {
                    return Err(Failure::of(StatusCode::FORBIDDEN));
                }
                let uri = String::from_utf8_lossy(uri.without_headers()).into_owned();
                Ok(Destination::Outside(uri.into()))
            }
            Ok(Uri::Tel(tel)) => {
                let number: String =
                    tel.number.iter().filter(|b| !b"-.()".contains(b)).map(|&b| char::from(b)).collect();
                let provider = self.only_provider(&tables.providers);
                provider.map_or(Err(Failure::of(StatusCode::NOT_FOUND)), |p| provided(p, &number))
            }
            Ok(Uri::Other { .. }) => Err(Failure::of(StatusCode::UNSUPPORTED_URI_SCHEME)),
            Err(_) => Err(Failure::of(StatusCode::BAD_REQUEST)),
        }
    }

    /// The user's enabled provider of that name.
    fn provider(&self, providers: &Providers, name: &str) -> Option<Arc<Provider>> {
        providers.find(self.user, name).filter(|provider| provider.enabled)
    }

    /// The user's enabled provider, if he has one only.
    fn only_provider(&self, providers: &Providers) -> Option<Arc<Provider>> {
        let list = providers.of_owner(self.user);
        let mut enabled = list.iter().filter(|provider| provider.enabled);
        enabled.next().filter(|_| enabled.next().is_none()).cloned()
    }
}

fn is_local(settings: &Settings, host: &str) -> bool {
    sip::Host::new(host.as_bytes()).is_some_and(|host| settings.domains.local(&host, None).is_some())
}

/// Digits, as a telephone has them, perhaps behind a plus.
fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'))
}

/// `user` at the provider's server.
fn provided(provider: Arc<Provider>, user: &str) -> Result<Destination, Failure> {
    let Ok(Uri::Sip(server)) = Uri::parse(provider.server.as_bytes()) else {
        return Err(Failure::of(StatusCode::SERVER_INTERNAL_ERROR));
    };
    let scheme = if server.secure { "sips:" } else { "sip:" };
    let behind = server.user.map_or(scheme.len(), |user| {
        // The user part stands right behind the scheme, and a password behind it ends at the same sign.
        scheme.len() + user.len() + server.password.map_or(0, |p| p.len() + 1) + 1
    });
    let uri = format!("{scheme}{user}@{}", &provider.server[behind..]);
    if Uri::parse(uri.as_bytes()).is_err() {
        return Err(Failure::of(StatusCode::BAD_REQUEST));
    }
    Ok(Destination::Provider { provider, uri: uri.into() })
}

/// A host as a URI has it.
pub(crate) fn host_text(host: &sip::Host<'_>) -> String {
    match host {
        sip::Host::Name(name) => String::from_utf8_lossy(name).into_owned(),
        sip::Host::V4(v4) => v4.to_string(),
        sip::Host::V6(v6) => format!("[{v6}]"),
    }
}
