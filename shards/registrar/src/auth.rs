//! Digest authentication as a server and as a proxy (RFC 3261 §22; RFC 7616; RFC 8760).
//!
//! Nonces are signed, so a challenge leaves nothing behind: the text of a nonce is the second of its issue, its number and
//! a keyed hash of both, the run of the process, the Call-ID and the realm. 64 bits of SipHash are enough for that: who
//! has heard a REGISTER and wants it taken once more, in another Call-ID or after a restart, guesses once in 2^64 a try. A nonce holds for one Call-ID, whose messages all
//! come to one shard; there [`replay`](crate::replay) counts its uses. A client that carries a nonce over to another
//! Call-ID, or past a restart, is told `stale=true` and answers anew without asking its user.
//!
//! An unknown account, a disabled one and a wrong password are one case from outside: the same status, the same header
//! fields, the same hashes computed. Nothing here sends anything, and no password is known here.

use crate::{
    Incoming, Settings,
    ha2::LastHa2,
    replay::{self, NonceId, Replay},
};
use agent::{Domains, Now, PartsHash, Secret};
use bumpalo::{Bump, collections::String as BumpString};
use sip::{
    HeaderName, Octets, SipUri, StatusCode, Uri,
    digest::{Algorithm, Challenge, Credentials, Ha1, Offer},
};
use std::{borrow::Cow, net::IpAddr, str, sync::Arc};
use store::{Account, Accounts};
use subtle::ConstantTimeEq;

/// In which part we ask for credentials (RFC 3261 §22.2, §22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We are whom the request is for.
    Server,
    /// We only forward it.
    Proxy,
}

impl Role {
    /// The status of a challenge.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Server => StatusCode::UNAUTHORIZED,
            Self::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        }
    }

    fn challenge(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    fn credentials(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// What the credentials of a request are worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict<'t> {
    /// Right.
    Accepted {
        /// Whose they are: the canonical address-of-record.
        aor: &'t str,
        /// The account.
        account: Account,
    },
    /// There are none for this realm in an algorithm that we offer: challenge.
    Missing,
    /// Right, but the nonce is used up, too old, or not for this Call-ID: challenge with `stale`.
    Stale,
    /// Wrong: challenge anew.
    Refused,
    /// They break the rules (RFC 7616 §3.4, §3.4.6): answer 400 with this reason.
    Malformed(&'static str),
}

/// Challenges and verifies, on one shard.
pub struct Authenticator {
    accounts: Arc<Accounts>,
    domains: Domains,
    /// Strongest first.
    algorithms: Vec<Algorithm>,
    nonce_secs: u32,
    seals: PartsHash,
    run: u32,
    /// Nonces issued so far.
    issued: u32,
    replay: Replay,
    fingerprints: PartsHash,
    last_ha2: LastHa2,
    decoys: [Ha1; 3],
}

impl Authenticator {
    /// Characters of a nonce: second and number, seal.
    const NONCE_LEN: usize = 16 + 16;

    /// Secrets of the cluster, and the number which this process chose at its start: nonces of another run are stale,
    /// since their use has been forgotten.
    pub fn new(secret: &Secret, run: u32, accounts: Arc<Accounts>, domains: Domains, settings: &Settings) -> Self {
        let decoy = |algorithm| Ha1::new(algorithm, b"", b"", &secret.derive("decoy"));
        Self {
            accounts,
            domains,
            algorithms: strongest_first(settings),
            nonce_secs: settings.nonce_secs,
            seals: PartsHash::new(secret, "nonce"),
            run,
            issued: 0,
            replay: Replay::new(settings.max_nonces),
            fingerprints: PartsHash::new(secret, "fingerprint"),
            last_ha2: LastHa2::default(),
            decoys: Algorithm::STRONGEST_FIRST.map(decoy),
        }
    }

    /// Goes on with other settings. Nonces in use stay so.
    pub fn configure(&mut self, domains: Domains, settings: &Settings) {
        self.domains = domains;
        self.algorithms = strongest_first(settings);
        self.nonce_secs = settings.nonce_secs;
        self.replay.set_max(settings.max_nonces);
    }

    /// Writes the header fields of a challenge: one for each algorithm, the strongest first (RFC 8760 §2.3), since a
    /// client takes the topmost that it can do. All bear one nonce.
    ///
    /// `qop` is `auth` alone. `auth-int` covers bodies: a REGISTER has none, and the SDP of an INVITE is rewritten by so
    /// many devices on the way that a proxy which asked for it would refuse calls that are sound.
    pub fn challenge(&mut self, now: Now, call_id: &[u8], realm: &str, role: Role, stale: bool, out: &mut impl Octets) {
        let nonce = self.nonce(now, call_id, realm);
        for &algorithm in &self.algorithms {
            let challenge = Challenge {
                realm: Cow::Borrowed(realm.as_bytes()),
                nonce: Cow::Borrowed(&nonce),
                opaque: None,
                stale,
                algorithm,
                qop: Offer::AUTH,
            };
            out.put(role.challenge().canonical().as_bytes());
            out.put(b": ");
            challenge.write_to(out);
            out.put(b"\r\n");
        }
    }

    /// Judges the credentials that a request bears for `realm`, one of our domains.
    pub fn verify<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, '_>,
        realm: &str,
        role: Role,
        arena: &'t Bump,
    ) -> Verdict<'t> {
        let Incoming { message, request, .. } = *incoming;
        let mut ours = None;
        for header in message.all(role.credentials()) {
            match Credentials::parse(header.value) {
                // §22.3: there may be others, for other realms on the way.
                Ok(credentials)
                    if *credentials.realm == *realm.as_bytes() && self.algorithms.contains(&credentials.algorithm) =>
                {
                    ours = Some((header.value, credentials));
                    break;
                }
                Ok(_) => {}
                Err(fault) if fault.response().is_none() => {}
                Err(_) => return Verdict::Malformed("Malformed Credentials"),
            }
        }
        let Some((field, credentials)) = ours else { return Verdict::Missing };
        if !self.is_same_resource(&credentials.uri, request.uri) {
            return Verdict::Malformed("Digest URI Is Not The Request-URI");
        }
        let found = self.find(&credentials, realm, arena);
        let decoy = self.decoys.iter().find(|d| d.algorithm() == credentials.algorithm);
        let decoy = decoy.expect("there is a decoy for each algorithm");
        let ha1 = found.as_ref().map_or(decoy, |(_, _, ha1)| ha1);
        let ha2 = self.last_ha2.of(&credentials, request.method.as_bytes(), message.body());
        let is_right = credentials.verify_hashed(ha1, &ha2);
        let Some((aor, account, _)) = found.filter(|_| is_right) else { return Verdict::Refused };
        let Some(nonce) = self.open(now, &credentials.nonce, request.call_id, realm) else { return Verdict::Stale };
        // Without qop there is no count (RFC 2069): such a nonce serves once.
        let count = credentials.protection.as_ref().map_or(1, |p| p.nonce_count());
        match self.replay.judge(nonce, count, self.fingerprint(incoming, field, &credentials)) {
            replay::Verdict::Sound => Verdict::Accepted { aor, account },
            replay::Verdict::Replayed | replay::Verdict::Forgotten => Verdict::Stale,
        }
    }

    /// The enabled account of that user name, and the HA1 that verifies it. The name is `alice` or `alice@example.com`;
    /// which of them the HA1 was made with shows when it is verified.
    fn find<'t>(&self, credentials: &Credentials<'_>, realm: &str, arena: &'t Bump) -> Option<(&'t str, Account, Ha1)> {
        // RFC 7616 §3.4.4: a hashed name answers an offer which we do not make.
        let name = str::from_utf8(&credentials.username).ok().filter(|_| !credentials.userhash)?;
        let user = match name.rsplit_once('@') {
            Some((user, domain)) if domain.eq_ignore_ascii_case(realm) => user,
            _ => name,
        };
        let mut aor = BumpString::with_capacity_in(user.len() + 1 + realm.len(), arena);
        aor.extend([user, "@", realm]);
        let account = self.accounts.find(&aor).filter(|account| account.enabled)?;
        let octets: &[u8] = match credentials.algorithm {
            Algorithm::Md5 => &account.ha1_md5,
            Algorithm::Sha256 => &account.ha1_sha256,
            Algorithm::Sha512_256 => &account.ha1_sha512_256,
        };
        // Zeros say that there is none for this algorithm. Everybody knows them, so they must not verify.
        let ha1 = Ha1::from_octets(credentials.algorithm, octets).filter(|_| octets.iter().any(|&o| o != 0))?;
        Some((aor.into_bump_str(), account, ha1))
    }

    /// Whether the `uri` of credentials names the resource of the Request-URI (RFC 7616 §3.4.6).
    ///
    /// Phones leave the port and parameters out of one of them, write `sip` for `sips`, or an address of ours for the
    /// domain; proxies rewrite the Request-URI (RFC 3261 §22.4 item 6). So the same user at the same host will do,
    /// and all names of one of our domains are one host.
    fn is_same_resource(&self, digest_uri: &[u8], request_uri: &[u8]) -> bool {
        if digest_uri == request_uri {
            return true;
        }
        let (Ok(Uri::Sip(digest)), Ok(Uri::Sip(request))) = (Uri::parse(digest_uri), Uri::parse(request_uri)) else {
            return false;
        };
        let local = |uri: &SipUri<'_>| self.domains.local(&uri.host, uri.port);
        digest.user == request.user
            && (digest.host == request.host || local(&digest).is_some() && local(&digest) == local(&request))
    }

    /// A new nonce.
    fn nonce(&mut self, now: Now, call_id: &[u8], realm: &str) -> [u8; Self::NONCE_LEN] {
        // Numbers need not be unguessable, the seal is; together with the second they must not repeat.
        self.issued = self.issued.wrapping_add(1);
        let id = NonceId { issued: now.unix_secs() as u32, number: self.issued };
        let mut nonce = [0; Self::NONCE_LEN];
        let (stamp, seal) = nonce.split_at_mut(16);
        stamp.copy_from_slice(&sip::hex(id.to_bits()));
        seal.copy_from_slice(&sip::hex(self.seal(id, call_id, realm)));
        nonce
    }

    /// Which nonce of ours `text` is, if it may still be used.
    fn open(&mut self, now: Now, text: &[u8], call_id: &[u8], realm: &str) -> Option<NonceId> {
        let (stamp, seal) = text.split_at_checked(16)?;
        let nonce = NonceId::from_bits(u64::from_str_radix(str::from_utf8(stamp).ok()?, 16).ok()?);
        let is_ours: bool = sip::hex(self.seal(nonce, call_id, realm))[..].ct_eq(seal).into();
        if !is_ours {
            return None;
        }
        let oldest = (now.unix_secs() as u32).saturating_sub(self.nonce_secs);
        self.replay.drop_before(oldest);
        (nonce.issued >= oldest).then_some(nonce)
    }

    fn seal(&self, nonce: NonceId, call_id: &[u8], realm: &str) -> u64 {
        let mut parts = self.seals.begin();
        parts.put_number(self.run.into());
        parts.put_number(nonce.to_bits());
        parts.put(call_id);
        parts.put(realm.as_bytes());
        parts.hash()
    }

    /// Tells a request from all others, whoever sends it. In place of the `field` of its credentials, which are right,
    /// stands the response: it is made of all that counts in them.
    fn fingerprint(&self, incoming: &Incoming<'_, '_>, field: &[u8], credentials: &Credentials<'_>) -> u64 {
        let (octets, peer) = (incoming.message.bytes(), incoming.flow.peer);
        let begin = field.as_ptr() as usize - octets.as_ptr() as usize;
        let mut parts = self.fingerprints.begin();
        match peer.ip() {
            IpAddr::V4(ip) => parts.put(&ip.octets()),
            IpAddr::V6(ip) => parts.put(&ip.octets()),
        }
        parts.put_number(peer.port().into());
        parts.put(&octets[..begin]);
        parts.put(credentials.response.octets());
        parts.put(&octets[begin + field.len()..]);
        parts.hash()
    }
}

fn strongest_first(settings: &Settings) -> Vec<Algorithm> {
    let offered = |algorithm: &Algorithm| settings.algorithms.contains(algorithm);
    Algorithm::STRONGEST_FIRST.into_iter().filter(offered).collect()
}
