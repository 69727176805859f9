//! Accounts that our users have with providers: where calls go out to, by whose credentials, and where they come in from.
//!
//! The table is a copy of the operator's database, as [`Accounts`](crate::Accounts) is.
//!
//! A password is here in the clear. Against a provider the switch is the client: it must answer a challenge of whatever
//! realm and algorithm comes (RFC 7616 §3.4.2), and a digest that is kept in place of the password would answer for one
//! realm and one algorithm only. So the database is its owner's alone, and no password is ever printed.

use crate::{hash::KeyedHash, network::Network};
use dashmap::DashMap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// A user's account with a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Whose it is: the canonical `user@domain`.
    pub owner: Box<str>,
    /// Its name, unique for the owner; dial strings name it behind the `@`.
    pub name: Box<str>,
    /// The URI that requests go to, such as `sip:sip.example.net`. A dialled user goes before its host.
    pub server: Box<str>,
    /// The URI that requests are routed through (RFC 3261 §8.1.2).
    pub outbound_proxy: Option<Box<str>>,
    /// The user part of our address there.
    pub user: Box<str>,
    /// The user name of our credentials, where it differs from `user`.
    pub auth_user: Option<Box<str>>,
    /// The password.
    pub password: Password,
    /// The realm that alone is answered; None answers any.
    pub realm: Option<Box<str>>,
    /// The From of calls through it, as a name-addr or a URI, where it is not `user` at the server's host.
    pub from: Option<Box<str>>,
    /// The Contact's user part, where it is not our own choice.
    pub contact: Option<Box<str>>,
    /// Headers which requests to it get besides: names and values.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    /// Where its calls come from.
    pub sources: Box<[Source]>,
    /// One that is not enabled takes and gives no calls.
    pub enabled: bool,
}

/// A password which does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// This password.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// For the digest, and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Where a provider's calls come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address, or all that share its first bits.
    Network(Network),
    /// A host as a From or Contact names it, in lower case. Anybody can write it: it tells which provider a caller claims
    /// to be, not that he is.
    Host(Box<str>),
}

impl Source {
    /// From `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32` or `sip.example.net`; None where it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        match address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => Network::new(address, bits.unwrap_or(Network::width(address))).map(Self::Network),
            Err(_) if bits.is_some() || sip::Host::new(text.as_bytes()).is_none() => None,
            Err(_) => Some(Self::Host(text.to_lowercase().into())),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// Several accounts with providers, in the order of owner and name.
pub type ProviderList = Arc<[Arc<Provider>]>;

/// All accounts with providers. Many threads read, one writes.
#[derive(Debug)]
pub struct Providers {
    by_owner: DashMap<Box<str>, ProviderList, KeyedHash>,
    by_host: DashMap<Box<str>, ProviderList, KeyedHash>,
    by_network: RwLock<BTreeMap<Network, ProviderList>>,
}

impl Providers {
    /// An empty table. `key` is secret (see [`AorId`](crate::AorId)).
    pub fn new(key: [u8; 16]) -> Self {
        let hash = KeyedHash::new(key);
        Self {
            by_owner: DashMap::with_hasher(hash.clone()),
            by_host: DashMap::with_hasher(hash),
            by_network: RwLock::default(),
        }
    }

    /// The account of this name that `owner` has, enabled or not.
    pub fn find(&self, owner: &str, name: &str) -> Option<Arc<Provider>> {
        let list = self.by_owner.get(owner)?;
        list.binary_search_by(|provider| (*provider.name).cmp(name)).ok().map(|at| Arc::clone(&list[at]))
    }

    /// All that `owner` has, enabled or not, by name.
    pub fn of_owner(&self, owner: &str) -> ProviderList {
        self.by_owner.get(owner).map(|list| Arc::clone(&list)).unwrap_or_default()
    }

    /// All that calls from `address` may be for, whose provider it is by the narrowest network which holds it. Users share
    /// providers: the user part of the Request-URI or of To tells whose call it is.
    pub fn from_address(&self, address: IpAddr) -> ProviderList {
        let networks = self.by_network.read().unwrap_or_else(PoisonError::into_inner);
        if networks.is_empty() {
            return ProviderList::default();
        }
        let width = Network::width(address.to_canonical());
        let found = (0..=width).rev().filter_map(|bits| networks.get(&Network::new(address, bits)?)).next();
        found.map(Arc::clone).unwrap_or_default()
    }

    /// All whose provider calls itself `host`, in lower case.
    pub fn from_host(&self, host: &str) -> ProviderList {
        self.by_host.get(host).map(|list| Arc::clone(&list)).unwrap_or_default()
    }

    /// How many there are, enabled or not. Counts them.
    pub fn len(&self) -> usize {
        self.by_owner.iter().map(|list| list.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    /// Adds one, or takes the new state of a known one.
    pub fn put(&self, provider: Provider) {
        let provider = Arc::new(provider);
        let before = self.find(&provider.owner, &provider.name);
        let mut of_owner = self.by_owner.entry(provider.owner.clone()).or_default();
        *of_owner = changed(&of_owner, before.as_ref(), Some(&provider));
        drop(of_owner);
        // The new sources first: one that was and stays is there at every moment between.
        self.source(before.as_ref(), Some(&provider), &provider.sources);
        if let Some(before) = &before {
            let gone: Vec<_> = before.sources.iter().filter(|source| !provider.sources.contains(source)).collect();
            gone.into_iter().for_each(|source| self.source(Some(before), None, std::slice::from_ref(source)));
        }
    }

    /// Takes one away.
    pub fn remove(&self, owner: &str, name: &str) {
        let Some(gone) = self.find(owner, name) else { return };
        if let Some(mut of_owner) = self.by_owner.get_mut(owner) {
            *of_owner = changed(&of_owner, Some(&gone), None);
        }
        self.by_owner.remove_if(owner, |_, list| list.is_empty());
        self.source(Some(&gone), None, &gone.sources);
    }

    /// Makes these the accounts with providers, and no others.
    pub fn replace_all(&self, providers: Vec<Provider>) {
        let known: Vec<_> = self.by_owner.iter().flat_map(|list| list.to_vec()).collect();
        let stays: std::collections::HashSet<_> =
            providers.iter().map(|provider| (provider.owner.clone(), provider.name.clone())).collect();
        for gone in known.iter().filter(|known| !stays.contains(&(known.owner.clone(), known.name.clone()))) {
            self.remove(&gone.owner, &gone.name);
        }
        providers.into_iter().for_each(|provider| self.put(provider));
    }

    /// Puts `new` in the place of `old` in the lists of these sources.
    fn source(&self, old: Option<&Arc<Provider>>, new: Option<&Arc<Provider>>, sources: &[Source]) {
        for source in sources {
            match source {
                Source::Host(host) => {
                    let mut list = self.by_host.entry(host.clone()).or_default();
                    *list = changed(&list, old, new);
                    drop(list);
                    self.by_host.remove_if(host, |_, list| list.is_empty());
                }
                Source::Network(network) => {
                    let mut networks = self.by_network.write().unwrap_or_else(PoisonError::into_inner);
                    let list = networks.entry(*network).or_default();
                    *list = changed(list, old, new);
                    if list.is_empty() {
                        networks.remove(network);
                    }
                }
            }
        }
    }
}

/// `list` with `new` in the place of `old`.
fn changed(list: &ProviderList, old: Option<&Arc<Provider>>, new: Option<&Arc<Provider>>) -> ProviderList {
    let is = |listed: &Arc<Provider>, which: Option<&Arc<Provider>>| which.is_some_and(|one| Arc::ptr_eq(listed, one));
    let stays = list.iter().filter(|listed| !is(listed, old) && !is(listed, new));
    let mut changed: Vec<_> = stays.chain(new).map(Arc::clone).collect();
    changed.sort_by(|a, b| (&a.owner, &a.name).cmp(&(&b.owner, &b.name)));
    changed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "alice@example.com";

    fn provider(owner: &str, name: &str, sources: &[&str]) -> Provider {
        Provider {
            owner: owner.into(),
            name: name.into(),
            server: "sip:sip.example.net".into(),
            outbound_proxy: None,
            user: "4711".into(),
            auth_user: None,
            password: Password::new("secret"),
            realm: None,
            from: None,
            contact: None,
            headers: Box::default(),
            sources: sources.iter().map(|text| Source::parse(text).unwrap()).collect(),
            enabled: true,
        }
    }

    fn names(list: &ProviderList) -> Vec<&str> {
        list.iter().map(|provider| &*provider.name).collect()
    }

    #[test]
    fn a_provider_is_found_by_owner_and_name_and_changes() {
        let providers = Providers::new([1; 16]);
        for name in ["beta", "acme"] {
            providers.put(provider(ALICE, name, &[]));
        }
        assert_eq!(names(&providers.of_owner(ALICE)), ["acme", "beta"]);
        providers.put(Provider { enabled: false, ..provider(ALICE, "beta", &[]) });
        assert!(!providers.find(ALICE, "beta").unwrap().enabled && providers.len() == 2);
        assert_eq!(providers.find("bob@example.com", "beta"), None);
        providers.remove(ALICE, "acme");
        providers.remove(ALICE, "beta");
        assert!(providers.is_empty() && providers.find(ALICE, "beta").is_none());
    }

    #[test]
    fn a_call_is_matched_by_the_narrowest_network() {
        let providers = Providers::new([1; 16]);
        providers.put(provider(ALICE, "wide", &["192.0.2.0/24", "2001:db8::/32"]));
        providers.put(provider(ALICE, "narrow", &["192.0.2.7", "Sip.Example.Net"]));
        let from = |address: &str| providers.from_address(address.parse().unwrap());
        assert_eq!(names(&from("192.0.2.7")), ["narrow"]);
        assert_eq!(names(&from("::ffff:192.0.2.8")), ["wide"]);
        assert_eq!(names(&from("2001:db8:1::1")), ["wide"]);
        assert!(from("198.51.100.1").is_empty());
        assert_eq!(names(&providers.from_host("sip.example.net")), ["narrow"]);
    }

    #[test]
    fn users_of_one_provider_are_told_together_and_leave_alone() {
        let providers = Providers::new([1; 16]);
        for owner in [ALICE, "bob@example.com"] {
            providers.put(provider(owner, "acme", &["192.0.2.7"]));
        }
        let from = || providers.from_address("192.0.2.7".parse().unwrap());
        assert_eq!(from().len(), 2);
        providers.put(provider(ALICE, "acme", &["192.0.2.8"]));
        assert_eq!(&*from()[0].owner, "bob@example.com");
        providers.replace_all(vec![provider(ALICE, "acme", &["192.0.2.7"])]);
        assert_eq!((from().len(), &*from()[0].owner, providers.len()), (1, ALICE, 1));
        assert!(providers.from_address("192.0.2.8".parse().unwrap()).is_empty());
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in ["192.0.2.0/33", "sip.example.net/24", "", "a b", "2001:db8::/x"] {
            assert_eq!(Source::parse(text), None, "{text}");
        }
        for text in ["0.0.0.0/0", "192.0.2.7", "2001:db8::/32", "sip.example.net"] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn passwords_are_never_printed() {
        assert!(!format!("{:?}", provider(ALICE, "acme", &[])).contains("secret"));
    }
}
