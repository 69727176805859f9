//! The switch of this process: everything that runs, from its start to its end.
//!
//! Shards serve SIP, each on a thread of its own ([`crate::shard`]); the clerk keeps the journal and answers the command
//! line ([`crate::clerk`]); a thread follows the accounts ([`crate::accounts`]); the one that called [`run`] waits for
//! signals. What they share is made here: the table of bindings, that of accounts, the rings between them.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: it reads the clock, the secret and the hosts file once, and starts the threads"
)]

use crate::{
    accounts::{self, Aor, Watcher},
    clerk::{self, Clerk, ControlHandler},
    config::{self, Config},
    control::{self, Answer, JournalStatus, Request, ShardStatus, Status},
    figures::Figures,
    io::{self, Edge, Running, Waker},
    logging, proxy,
    shard::{Place, Rules, Shard},
};
use agent::{Domains, Now, Secret, ShardHash};
use anyhow::{Context, bail};
use registrar::Registrar;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};
use sip::{
    Transport,
    digest::{Algorithm, Ha1},
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use store::{Accounts, Binding, Bindings, Record};

/// How long a drain may take; with what is left to write, a stop takes 5 s at most.
const DRAIN: Duration = Duration::from_secs(4);

/// Serves by `config` until SIGTERM or SIGINT. A reload sets the level of the log by `level`.
pub fn run(config: Config, level: logging::Level) -> anyhow::Result<()> {
    // Unless it is watched for, SIGXFSZ ends the process where a write beyond RLIMIT_FSIZE is to fail (setrlimit(2)).
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGXFSZ]).context("watching for signals")?;
    let switch = Switch::start(config, Some(level))?;
    let stopper = switch.stopper();
    let shared = Arc::clone(&switch.shared);
    let handle = signals.handle();
    // Signals are waited for on a thread of their own, so that this one sees the end however it comes.
    let watching = std::thread::spawn(move || {
        let mut is_draining = false;
        for signal in &mut signals {
            match signal {
                SIGHUP => match shared.reload() {
                    Ok(done) => {
                        tracing::info!(applies = ?done.applies, needs_restart = ?done.needs_restart, "reloaded")
                    }
                    Err(error) => tracing::error!("nothing is reloaded: {error:#}"),
                },
                // The journal reports the write that has failed.
                SIGXFSZ => {}
                _ if !is_draining => {
                    tracing::info!("draining; a second signal stops at once");
                    stopper.drain();
                    is_draining = true;
                }
                _ => stopper.stop_now(),
            }
        }
    });
    let ended = switch.join();
    handle.close();
    if watching.join().is_err() {
        bail!("the thread that waits for signals has panicked");
    }
    ended
}

/// A running switch.
pub struct Switch {
    running: Running<Shard>,
    clerk: Clerk,
    /// Dropped last: it has nothing to finish.
    _accounts: Watcher,
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

/// What the control socket asks and signals change.
struct Shared {
    started: Instant,
    config: Mutex<Config>,
    level: Option<logging::Level>,
    secret: Secret,
    listeners: proxy::Listeners,
    bindings: Arc<Bindings>,
    accounts: Arc<Accounts>,
    /// Set once the clerk runs.
    journal: OnceLock<Arc<clerk::JournalState>>,
    shards: Vec<ShardLink>,
}

struct ShardLink {
    edge: Arc<io::EdgeStats>,
    figures: Arc<Figures>,
    reloads: mpsc::SyncSender<Rules>,
}

impl Switch {
    /// Starts everything; it serves when this returns. `level` is what a reload changes.
    pub fn start(config: Config, level: Option<logging::Level>) -> anyhow::Result<Self> {
        let started = Instant::now();
        prepare_data_dir(&config.data_dir)?;
        let secret = secret(&config.secret())?;

        let edge = Edge::open(edge_settings(&config))?;
        let served = edge.listeners().to_vec();
        let listeners = listeners(&config, &served);

        let key = secret.derive("tables");
        let bindings = Arc::new(Bindings::new(key));
        let accounts = Arc::new(Accounts::new(key));
        // The journal and the accounts are read side by side: a million of each takes seconds one after the other.
        let database = config.database();
        let sink = Sink { accounts: Arc::clone(&accounts), absent: absent_digest(&secret) };
        let loading = std::thread::spawn(move || Watcher::start(&database, sink));
        let replayed = clerk::replay(&config.journal_dir(), &bindings, now(started).unix_secs())?;
        let watcher = loading.join().map_err(|_| anyhow::anyhow!("reading the accounts has panicked"))??;

        let rules = rules(&config, &listeners, &secret);
        let hash = ShardHash::new(&secret);
        let clerk_waker = Arc::new(Waker::new().context("making an eventfd")?);
        let run = u32::from_ne_bytes(entropy()?);
        let shards = edge.wakers().len() as u16;
        let (mut cores, mut inlets, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, (waker, stats)) in (0..).zip(edge.wakers().iter().zip(edge.stats())) {
            let capacity = config.journal.queue_batches as usize;
            let (link, inlet) = io::journal(capacity, Arc::clone(waker), Arc::clone(&clerk_waker));
            let (reloads, reloaded) = mpsc::sync_channel(4);
            let figures = Arc::new(Figures::default());
            let registrar = Registrar::new(
                now(started),
                registrar::Place { shard, shards, run },
                &secret,
                rules.registrar.clone(),
                rules.proxy.domains.clone(),
                Arc::clone(&bindings),
                Arc::clone(&accounts),
            );
            let place = Place { shard, shards };
            let core = Shard::new(now(started), place, hash.clone(), registrar, &rules, reloaded, Arc::clone(&figures));
            cores.push((core, Some(link)));
            inlets.push(inlet);
            links.push(ShardLink { edge: Arc::clone(stats), figures, reloads });
        }

        let shared = Arc::new(Shared {
            started,
            config: Mutex::new(config.clone()),
            level,
            secret,
            listeners,
            bindings: Arc::clone(&bindings),
            accounts,
            journal: OnceLock::new(),
            shards: links,
        });
        let settings =
            clerk::Settings { data_dir: config.data_dir.clone(), journal: config.journal.clone(), core: None };
        let clerk = Clerk::start(settings, inlets, clerk_waker, bindings, replayed, Arc::clone(&shared) as _)?;
        shared.journal.set(clerk.journal_state()).expect("it is set here only");
        let running = edge.start(cores)?;
        let addresses: Vec<_> = served.iter().flatten().map(|&(_, address)| address).collect();
        for (transport, address) in served.iter().flatten() {
            tracing::info!(transport = transport.param(), %address, "listening");
        }
        tracing::info!(
            shards,
            domains = ?config.domains,
            bindings = shared.bindings.census().bindings,
            accounts = shared.accounts.len(),
            after_ms = started.elapsed().as_millis() as u64,
            "serving"
        );
        Ok(Self { running, clerk, _accounts: watcher, shared, addresses })
    }

    /// Where each listener listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What ends the shards, while [`Switch::join`] waits for it.
    pub fn stopper(&self) -> io::Stopper {
        self.running.stopper()
    }

    /// Waits until the shards have ended, then ends the rest.
    pub fn join(self) -> anyhow::Result<()> {
        let ended = self.running.join().context("a shard has failed");
        self.clerk.stop().context("the journal could not be closed")?;
        ended?;
        tracing::info!("stopped");
        Ok(())
    }
}

impl Shared {
    /// Reads the configuration again. All of it applies or, when it is wrong, nothing.
    fn reload(&self) -> anyhow::Result<control::Reload> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let new = config::load(config.file.as_deref())?;
        let changes = config.changes(&new);
        let rules = rules(&changes.config, &self.listeners, &self.secret);
        for shard in &self.shards {
            // A shard takes a turn each second at least, so a full channel means that it hangs.
            shard.reloads.try_send(rules.clone()).context("a shard has not taken up the reload before this one")?;
        }
        if let Some(level) = &self.level {
            level.set(changes.config.log.level);
        }
        *config = changes.config;
        Ok(control::Reload { applies: changes.applies, needs_restart: changes.needs_restart })
    }

    fn status(&self) -> Status {
        let census = self.bindings.census();
        let shard = |link: &ShardLink| {
            let edge = link.edge.read();
            let edge = edge.each().map(|(name, value)| (format!("edge.{name}"), value));
            ShardStatus { counters: edge.chain(link.figures.read()).collect() }
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: self.started.elapsed().as_secs(),
            shards: self.shards.iter().map(shard).collect(),
            bindings: census.bindings,
            aors: census.aors,
            accounts: self.accounts.len() as u64,
            journal: self.journal.get().map_or_else(
                || JournalStatus { segments: 0, bytes: 0, state: "starting".to_owned() },
                |journal| journal.status(),
            ),
        }
    }

    /// Lists bindings straight from the table.
    fn list(&self, aor: Option<&str>, prefix: Option<&str>, limit: u32) -> control::Bindings {
        let now = now(self.started).unix_secs();
        let limit = limit.min(control::MAX_LISTED) as usize;
        let mut bindings = Vec::new();
        let mut take = |record: &Record| bindings.extend(record.live(now).map(|b| told(record.aor(), &b, now)));
        match aor {
            Some(aor) => drop(self.bindings.lookup(aor, now, &mut take)),
            // One record more than asked for tells whether there are more.
            None => self.bindings.list(prefix.unwrap_or_default(), now, limit + 1, &mut take),
        }
        let more = bindings.len() > limit;
        bindings.truncate(limit);
        control::Bindings { bindings, more }
    }
}

impl ControlHandler for Shared {
    fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::ok(&self.status()),
            Request::Bindings { aor, prefix, limit } => {
                Answer::ok(&self.list(aor.as_deref(), prefix.as_deref(), limit))
            }
            Request::Reload => match self.reload() {
                Ok(done) => Answer::ok(&done),
                Err(error) => Answer::error(format!("{error:#}")),
            },
        }
    }
}

/// A binding as the command line shows it.
fn told(aor: &str, binding: &Binding<'_>, now: u64) -> control::Binding {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let some = |octets: &[u8]| (!octets.is_empty()).then(|| text(octets));
    let whole = |n: u32| (n != 0).then_some(n);
    control::Binding {
        aor: aor.to_owned(),
        contact: text(binding.contact),
        q: format!("{}.{:03}", binding.q / 1000, binding.q % 1000),
        expires_secs: u32::try_from(binding.expires_at.saturating_sub(now)).unwrap_or(u32::MAX),
        received: format!("{} {}", binding.source.transport.param(), binding.source.peer),
        path: sip::Address::list(binding.path).map_while(Result::ok).map(|a| text(a.raw)).collect(),
        instance: some(binding.instance),
        reg_id: whole(binding.reg_id.unwrap_or_default()),
        call_id: text(binding.call_id),
        cseq: binding.cseq,
        user_agent: some(binding.user_agent),
    }
}

/// Copies accounts from the database into the table.
struct Sink {
    accounts: Arc<Accounts>,
    /// Stands for a digest that the database lacks: nobody's password has it.
    absent: [u8; 32],
}

impl Sink {
    fn row(&self, account: &accounts::Account) -> (String, store::Account) {
        let digest = |algorithm: Algorithm| {
            let known = account.ha1.iter().find(|ha1| ha1.algorithm() == algorithm);
            known.map_or(&self.absent[..algorithm.octets()], Ha1::octets)
        };
        fn array<const N: usize>(octets: &[u8]) -> [u8; N] {
            octets.try_into().expect("a digest has its algorithm's length")
        }
        let row = store::Account {
            ha1_md5: array(digest(Algorithm::Md5)),
            ha1_sha256: array(digest(Algorithm::Sha256)),
            ha1_sha512_256: array(digest(Algorithm::Sha512_256)),
            enabled: account.enabled,
            may_relay: account.may_relay,
            max_bindings: account.max_bindings,
            max_expires_secs: account.max_expires_secs,
        };
        (account.aor.to_string(), row)
    }
}

impl accounts::AccountSink for Sink {
    fn put(&mut self, account: accounts::Account) {
        let (aor, row) = self.row(&account);
        self.accounts.put(&aor, row);
    }

    fn remove(&mut self, aor: Aor) {
        self.accounts.remove(&aor.to_string());
    }

    fn replace_all(&mut self, accounts: Vec<accounts::Account>) {
        let rows = accounts.iter().map(|account| self.row(account)).map(|(aor, row)| (aor.into(), row));
        self.accounts.replace_all(rows);
    }
}

fn absent_digest(secret: &Secret) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&secret.derive("absent digest, first half"));
    digest[16..].copy_from_slice(&secret.derive("absent digest, second half"));
    digest
}

/// Makes the directory, for this user alone.
fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("{} cannot be made; name another place with `data_dir`", dir.display()))
}

/// The cluster's secret: read, or made at the first start.
fn secret(file: &Path) -> anyhow::Result<Secret> {
    let named = || format!("the secret {}", file.display());
    match fs::read(file) {
        Ok(octets) => match octets.try_into() {
            Ok(octets) => Ok(Secret::new(octets)),
            Err(_) => bail!("{} is not 32 octets; restore it, or remove it to have another made", named()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let octets = entropy()?;
            // Whole or not at all: a secret that is cut short would make every token of ours strange after a crash.
            let draft = file.with_extension("new");
            let mut out = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)
                .with_context(named)?;
            out.write_all(&octets).and_then(|()| out.sync_all()).with_context(named)?;
            fs::rename(&draft, file).with_context(named)?;
            Ok(Secret::new(octets))
        }
        Err(error) => Err(error).with_context(named),
    }
}

fn entropy<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the kernel gives no entropy: {error}"))?;
    Ok(octets)
}

fn now(started: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: started.elapsed(), unix }
}

fn edge_settings(config: &Config) -> io::Settings {
    let cores = match &config.cores.switch {
        config::Shards::Count(_) => Vec::new(),
        config::Shards::On(cores) => cores.iter().map(|&core| usize::from(core)).collect(),
    };
    let shards = match &config.cores.switch {
        config::Shards::Count(count) => *count,
        config::Shards::On(cores) => cores.len() as u16,
    };
    let secs = |secs: u32| Duration::from_secs(secs.into());
    let defaults = io::StreamSettings::default();
    io::Settings {
        listeners: config
            .listen
            .iter()
            .map(|listen| io::Listener {
                transport: listen.transport,
                address: listen.address,
                optional: listen.optional,
            })
            .collect(),
        shards,
        cores,
        datagram_buffers: config.udp.buffers,
        datagram_octets: config.udp.buffer_bytes as usize,
        receive_octets: config.udp.receive_buffer_bytes as usize,
        send_octets: config.udp.send_buffer_bytes as usize,
        batch_window: Duration::from_micros(config.batching.window_usecs.into()),
        mesh_messages: config.mesh.slots,
        drain: DRAIN,
        streams: io::StreamSettings {
            connections: config.tcp.max_connections,
            connections_per_address: config.tcp.max_connections_per_address,
            longest: limits(config),
            queue_octets: config.tcp.max_queued_bytes as usize,
            connect: secs(config.tcp.connect_secs),
            message: secs(config.tcp.message_secs),
            idle: secs(config.tcp.idle_secs),
            ..defaults
        },
    }
}

/// The listeners with their names. What is `served` tells a port that the kernel chose; one that is not served, an
/// optional one, keeps its number.
fn listeners(config: &Config, served: &[Option<(Transport, SocketAddr)>]) -> proxy::Listeners {
    let all = config.listen.iter().zip(served).map(|(listen, served)| proxy::Listener {
        transport: listen.transport,
        address: served.map_or(listen.address, |(_, address)| address),
        advertise: listen.advertise.as_ref().map(|name| (name.host.as_str().into(), name.port)),
    });
    let mut interfaces: Vec<_> = pnet::datalink::interfaces()
        .iter()
        .filter(|interface| interface.is_up())
        .flat_map(|interface| interface.ips.iter())
        .map(|network| proxy::Interface { address: network.ip(), prefix: network.prefix() })
        .collect();
    // The first one is the name for peers of no network of ours: what others can reach comes first.
    interfaces.sort_by_key(|interface| (interface.address.is_loopback(), is_link_local(interface)));
    proxy::Listeners::new(all.collect(), &interfaces)
}

fn is_link_local(interface: &proxy::Interface) -> bool {
    match interface.address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn limits(config: &Config) -> sip::Limits {
    sip::Limits {
        max_message: config.sip.max_message_bytes,
        max_headers: config.sip.max_headers,
        max_line: config.sip.max_line_bytes,
    }
}

/// What the configuration tells the shards.
fn rules(config: &Config, listeners: &proxy::Listeners, secret: &Secret) -> Rules {
    let (branches, dialogs) = proxy::keys(secret);
    let domains = config.domains.iter().map(|domain| domain.as_str().into()).collect();
    let proxy = proxy::Settings {
        domains: Domains::new(domains, listeners.addresses().collect()),
        listeners: listeners.clone(),
        // A machine without a hosts file knows no names; that is no fault.
        names: proxy::Names::from_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default()),
        record_route: config.proxy.record_route,
        relay_from: config.proxy.relay_from.clone(),
        limits: limits(config),
        server: config.proxy.server.as_str().into(),
        retry_after_secs: config.overload.retry_after_secs,
        new_requests_per_turn: config.overload.new_requests_per_turn as usize,
        branches,
        dialogs,
    };
    Rules { proxy: Arc::new(proxy), registrar: registrar_settings(config), alias: config.tcp.alias }
}

fn registrar_settings(config: &Config) -> registrar::Settings {
    let told = &config.registrar;
    let route: Vec<_> = told.service_route.iter().map(|uri| format!("<{uri}>")).collect();
    registrar::Settings {
        min_expires_secs: told.min_expires_secs,
        max_expires_secs: told.max_expires_secs,
        default_expires_secs: told.default_expires_secs,
        user_agents: told
            .user_agent
            .iter()
            .map(|rule| registrar::UserAgentRule {
                pattern: rule.pattern.0.clone(),
                min_expires_secs: rule.min_expires_secs,
                max_expires_secs: rule.max_expires_secs,
            })
            .collect(),
        max_bindings: told.max_bindings,
        when_full: match told.when_full {
            config::WhenFull::Refuse => registrar::WhenFull::Refuse,
            config::WhenFull::ReplaceOldest => registrar::WhenFull::ReplaceOldest,
        },
        authenticate: told.authenticate,
        algorithms: told.algorithms.clone(),
        nonce_secs: told.nonce_secs,
        service_route: route.join(", ").into(),
        max_pending: config.overload.pending_registers as usize,
        retry_after_secs: config.overload.retry_after_secs,
        server: config.proxy.server.as_str().into(),
        ..registrar::Settings::default()
    }
}
