//! A switch of one shard without its edge: what is received goes in, what is sent comes out. And messages for it.

use agent::{Domains, Flow, ListenerId, Now, Outbox, Outgoing, Received, Secret, ShardHash, Ticket};
use bumpalo::{Bump, collections::Vec as BumpVec};
use registrar::Registrar;
use ringswitch::{
    config::Config,
    figures::Figures,
    io::{Core, Seed, Waker},
    proxy::{self, Apps, Interface, Keys, Listener, Listeners, Names},
    shard::{AppRules, Patience, Place, Rules, Seat, Shard, Side, SideLink},
    switch::app_settings,
};
use sip::{
    Limits, Transport,
    digest::{self, Algorithm, Challenge, Covered, Credentials, Ha1, Protection, Qop},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};
use store::{Account, Accounts, Bindings};

pub const DOMAIN: &str = "bench.example";
const PASSWORD: &[u8] = b"secret";
/// What is borne before anything is refused.
pub const PATIENCE: Patience = Patience { level: 0.12, time: Duration::from_millis(100) };
const NOW: Now = Now { monotonic: Duration::from_secs(1), unix: Duration::from_secs(1_800_000_000) };

/// The shard, whose arena and records are those of its turns.
pub struct Table {
    pub shard: Shard,
    accounts: Arc<Accounts>,
    arena: Bump,
    records: Vec<u8>,
    next_ticket: u64,
    pub now: Now,
}

impl Table {
    pub fn new(record_route: bool, directory: &Path) -> anyhow::Result<Self> {
        Self::with(
            record_route,
            registrar::Settings { authenticate: false, ..registrar::Settings::default() },
            directory,
        )
    }

    /// One that challenges REGISTERs for MD5, and has accounts for so many users.
    pub fn challenging(users: u32, directory: &Path) -> anyhow::Result<Self> {
        let settings = registrar::Settings { algorithms: vec![Algorithm::Md5], ..registrar::Settings::default() };
        let table = Self::with(false, settings, directory)?;
        for user in 0..users {
            let user = format!("user{user:07}");
            let ha1 = Ha1::new(Algorithm::Md5, user.as_bytes(), DOMAIN.as_bytes(), PASSWORD);
            let account = Account {
                ha1_md5: ha1.octets().try_into()?,
                ha1_sha256: [0; 32],
                ha1_sha512_256: [0; 32],
                enabled: true,
                may_relay: false,
                max_bindings: None,
                max_expires_secs: None,
            };
            table.accounts.put(&format!("{user}@{DOMAIN}"), account);
        }
        Ok(table)
    }

    fn with(record_route: bool, registrar: registrar::Settings, directory: &Path) -> anyhow::Result<Self> {
        let secret = Secret::new([7; 32]);
        let address = address(5060);
        let listen = vec![Listener { transport: Transport::Udp, address, advertise: None }];
        let listeners = Listeners::new(listen, &[Interface { address: address.ip(), prefix: 8 }]);
        let domains = Domains::new(vec![DOMAIN.into()], listeners.addresses().collect());
        let config = Config { data_dir: directory.to_owned(), ..Config::default() };
        let rules = Rules {
            proxy: Arc::new(proxy::Settings {
                domains: domains.clone(),
                listeners,
                names: Names::from_hosts(""),
                record_route,
                relay_from: vec!["127.0.0.0/8".parse().expect("a network")],
                limits: Limits::default(),
                server: "".into(),
                retry_after_secs: 10,
                apps: Apps::none(&secret),
                hop: ListenerId(1),
                keys: Keys::new(&secret),
            }),
            registrar,
            apps: AppRules { settings: app_settings(&config, domains.clone()), trusted: [].into(), patience: PATIENCE },
            patience: PATIENCE,
            health: proxy::Health {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                failures: 3,
                successes: 2,
            },
        };
        let (bindings, accounts) = (Arc::new(Bindings::new([1; 16])), Arc::new(Accounts::new([2; 16])));
        let waker = Arc::new(Waker::new()?);
        let (_, reloads) = mpsc::channel();
        let seat = Seat {
            now: NOW,
            place: Place { shard: 0, shards: 1 },
            hash: ShardHash::new(&secret),
            registrar: Registrar::new(NOW, 1, &secret, rules.registrar.clone(), domains, bindings, accounts.clone()),
            apps: Vec::new(),
            prober: None,
            side: SideLink::new(Arc::new(Side::start(&config, None)?), waker),
            alias: false,
            rules,
            reloads,
            figures: Arc::new(Figures::default()),
        };
        Ok(Self { shard: seat.grow(), accounts, arena: Bump::new(), records: Vec::new(), next_ticket: 1, now: NOW })
    }

    /// Takes a turn with these messages; gives how many are sent.
    #[inline(never)]
    pub fn turn(&mut self, messages: &[Vec<u8>]) -> usize {
        self.handle(messages, |sent| sent.len())
    }

    /// The same, and gives what is sent.
    pub fn sent(&mut self, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.handle(messages, |sent| sent.iter().map(Outgoing::to_vec).collect())
    }

    #[inline(always)]
    fn handle<R>(&mut self, messages: &[Vec<u8>], take: impl FnOnce(&[Outgoing<'_>]) -> R) -> R {
        let Self { shard, arena, records, next_ticket, now, .. } = self;
        let flow = Flow { listener: ListenerId(0), transport: Transport::Udp, peer: address(5070), connection: None };
        let taken = {
            let mut out = Outbox::new(arena, &mut [], records, next_ticket);
            let mut batch = BumpVec::with_capacity_in(messages.len(), arena);
            batch.extend(messages.iter().map(|octets| Received { flow, octets, passed: false }));
            shard.handle_orders(*now, &mut out);
            shard.handle_batch(*now, &batch, &mut out);
            let (records, Ticket(next)) = out.records();
            if !records.is_empty() {
                records.clear();
                shard.handle_settled(*now, Ticket(next - 1), true, &mut out);
            }
            take(out.outgoing())
        };
        shard.handle_turn_end();
        arena.reset();
        taken
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// 462 octets.
pub fn options(uri: &str, number: u32) -> Vec<u8> {
    let head = format!(
        "OPTIONS {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:05070;rport;branch=z9hG4bKrsb{number:010}0\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:bench@127.0.0.1>;tag=t{number:010}\r\n\
         To: <{uri}>\r\n\
         Call-ID: {number:010}-8f2c11d0a94b@127.0.0.1\r\n\
         CSeq: 1 OPTIONS\r\n\
         Contact: <sip:bench@127.0.0.1:05070>\r\n\
         Accept: application/sdp\r\n"
    );
    padded(head, "", 462)
}

/// 975 octets.
pub fn invite(uri: &str, number: u32) -> Vec<u8> {
    let head = format!(
        "INVITE {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:05070;rport;branch=z9hG4bKrsb{number:010}0\r\n\
         Max-Forwards: 70\r\n\
         From: \"Bench\" <sip:bench@127.0.0.1>;tag=t{number:010}\r\n\
         To: <{uri}>\r\n\
         Call-ID: {number:010}-8f2c11d0a94b@127.0.0.1\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:bench@127.0.0.1:05070>\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO\r\n\
         Supported: replaces, timer, path\r\n\
         Session-Expires: 1800;refresher=uac\r\n\
         Content-Type: application/sdp\r\n"
    );
    let sdp = "v=0\r\no=bench 20518 20518 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 40376 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
    padded(head, sdp, 975)
}

fn padded(mut head: String, body: &str, octets: usize) -> Vec<u8> {
    let tail = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let name = "User-Agent: bench";
    let missing = octets - head.len() - name.len() - tail.len() - 2;
    head.extend([name, &"-".repeat(missing), "\r\n", &tail]);
    head.into_bytes()
}

pub fn register(user: u32, cseq: u32) -> Vec<u8> {
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:05070;rport;branch=z9hG4bKrsb{cseq:010}0\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:user{user:07}@{DOMAIN}>;tag=t{user:07}\r\n\
         To: <sip:user{user:07}@{DOMAIN}>\r\n\
         Call-ID: reg{user:07}-8f2c11d0a94b@{DOMAIN}\r\n\
         CSeq: {cseq:010} REGISTER\r\n\
         Contact: <sip:user{user:07}@127.0.0.1:15070>\r\n\
         Expires: 3600\r\n\
         User-Agent: bench\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// The REGISTER of [`register`] once more, with the credentials of `user` for the challenge of this 401.
pub fn answered(user: u32, cseq: u32, unauthorized: &[u8]) -> Vec<u8> {
    let unauthorized = std::str::from_utf8(unauthorized).expect("a challenge is text");
    let value = unauthorized.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
    let challenge = Challenge::parse(value.expect("a REGISTER is challenged").as_bytes()).expect("a challenge");
    let user_name = format!("user{user:07}");
    let uri = format!("sip:{DOMAIN}");
    let ha1 = Ha1::new(challenge.algorithm, user_name.as_bytes(), DOMAIN.as_bytes(), PASSWORD);
    let protection = Protection::new(Qop::Auth, 1, format!("{cseq:016x}").into_bytes());
    let covered = Covered { method: b"REGISTER", uri: uri.as_bytes(), body: b"" };
    let response = digest::response(&ha1, &challenge.nonce, Some(&protection), &covered);
    let credentials = Credentials {
        username: user_name.into_bytes().into(),
        userhash: false,
        realm: challenge.realm,
        nonce: challenge.nonce,
        opaque: challenge.opaque,
        uri: uri.into_bytes().into(),
        algorithm: challenge.algorithm,
        protection: Some(protection),
        response,
    };
    let mut field = b"Authorization: ".to_vec();
    credentials.write_to(&mut field);
    let mut request = register(user, cseq);
    request.truncate(request.len() - b"\r\n".len());
    [request, field, b"\r\n\r\n".to_vec()].concat()
}

/// The 200 of who got `request`.
pub fn ok(request: &[u8]) -> Vec<u8> {
    let request = std::str::from_utf8(request).expect("we wrote it");
    let (head, _) = request.split_once("\r\n\r\n").expect("a message has a header");
    let repeated = ["Via", "From", "To", "Call-ID", "CSeq"];
    let lines = head.lines().filter(|line| line.split_once(':').is_some_and(|(name, _)| repeated.contains(&name)));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("SIP/2.0 200 OK\r\n{lines}Contact: <sip:callee@127.0.0.1:15070>\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
