//! The switch of this process: everything that runs, from its start to its end.
//!
//! Shards serve SIP, each on a thread of its own ([`crate::shard`]); the clerk keeps the journal, and another thread answers the
//! command line ([`crate::control`]); a thread follows the accounts ([`crate::accounts`]); the one that called [`run`] waits for
//! signals. What they share is made here: the table of bindings, that of accounts, the rings between them.
#![expect(clippy::disallowed_methods, reason = "the edge: it reads the clock once, and starts the threads")]

mod home;
mod rules;
mod steering;
mod tables;

pub(crate) use home::{entropy, now, prepare_data_dir, secret};
pub use rules::app_settings;
pub(crate) use rules::{app_rules, edge_settings, listeners};
pub(crate) use steering::{steer, steering_status, tell_steering};
pub(crate) use tables::Sink;

use crate::{
    accounts::Watcher,
    capabilities, cdr,
    clerk::{self, Clerk},
    config::{self, Config},
    control::{self, Answer, ControlHandler, ControlServer, JournalStatus, Request, ShardStatus, Status},
    figures::Figures,
    io::{self, Edge, Running, Sockets, Steering, Waker, clock},
    logging,
    process::{AppPlace, Charge},
    proxy, raw,
    shard::{AppSeat, Place, Rules, Seat, Side, SideLink},
};
use agent::{Secret, ShardHash};
use anyhow::{Context, bail};
use appserver::Tables;
use registrar::Registrar;
use rules::rules;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    time::Instant,
};
use store::{Accounts, Binding, Bindings, KeptCall, Plans, Providers, Record};

/// Serves by `config` until SIGTERM or SIGINT. A reload sets the level of the log by `level`.
pub fn run(config: Config, level: logging::Level) -> anyhow::Result<()> {
    // Unless it is watched for, SIGXFSZ ends the process where a write beyond RLIMIT_FSIZE is to fail (setrlimit(2)).
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGXFSZ]).context("watching for signals")?;
    let switch = Switch::start(config, Some(level), None)?;
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

/// What a switch is given that is one process of several, and would else make itself.
pub struct Given<'w> {
    /// The sockets of its listeners, and behind them the hop to the application servers.
    pub sockets: Sockets,
    /// Where these are.
    pub apps: Vec<AppPlace>,
    /// Where another process has the journal still: returns once it has let it go.
    pub wait: Option<&'w mut dyn FnMut() -> anyhow::Result<()>>,
}

/// A running switch.
pub struct Switch {
    running: Running,
    /// None where another process has the socket.
    control: Option<ControlServer>,
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
    health: proxy::HealthTable,
    /// Where application servers with processes of their own are.
    apps: Mutex<Vec<AppPlace>>,
    bindings: Arc<Bindings>,
    accounts: Arc<Accounts>,
    side: Arc<Side>,
    /// None where the supervisor knows of it.
    steering: Option<Steering>,
    /// Set once the clerk runs.
    journal: OnceLock<Arc<clerk::JournalState>>,
    shards: Vec<ShardLink>,
}

struct ShardLink {
    edge: Arc<io::EdgeStats>,
    figures: Arc<Figures>,
    reloads: mpsc::SyncSender<Rules>,
    waker: Arc<Waker>,
}

impl Switch {
    /// Starts everything; it serves when this returns. `level` is what a reload changes. Unless it is `given` its sockets it is a process by
    /// itself, answers on the control socket, and gives up all capabilities of this thread and of those that it starts, once the sockets are
    /// bound.
    pub fn start(config: Config, level: Option<logging::Level>, given: Option<Given<'_>>) -> anyhow::Result<Self> {
        let started = Instant::now();
        prepare_data_dir(&config.data_dir)?;
        let secret = secret(&config.secret())?;

        let is_alone = given.is_none();
        let (edge, apps, wait) = match given {
            None => (Edge::open(edge_settings(&config))?, Vec::new(), None),
            Some(given) => (Edge::on(edge_settings(&config), given.sockets)?, given.apps, given.wait),
        };
        // In a switch of several processes the supervisor has done so.
        let steering = is_alone.then(|| steer(&config, &secret, edge.sockets()));
        // In a switch of several processes the supervisor starts it, and application servers alone ask it.
        let raw = if is_alone { raw::start(&config, 1)? } else { None };
        if is_alone {
            capabilities::give_up().context("giving up capabilities")?;
        }
        let raw = raw.and_then(|raw| raw.watch().pop());
        let served = edge.listeners()[..config.listen.len()].to_vec();
        let listeners = listeners(&config, &served);

        let key = secret.derive("tables");
        let bindings = Arc::new(Bindings::new(key));
        let accounts = Arc::new(Accounts::new(key));
        // The journal and the accounts are read side by side: a million of each takes seconds one after the other.
        let database = config.database();
        let tables = Tables {
            accounts: Arc::clone(&accounts),
            providers: Arc::new(Providers::new(key)),
            plans: Arc::new(Plans::new(key)),
        };
        let sink = Sink::new(&tables, &secret);
        let loading = std::thread::spawn(move || Watcher::start(&database, sink));
        let (directory, now_secs) = (config.journal_dir(), now(started).unix_secs());
        let ahead = match wait {
            Some(wait) => {
                let ahead = clerk::read_ahead(&directory, &bindings, now_secs)?;
                wait()?;
                ahead
            }
            None => clerk::Ahead::default(),
        };
        let replayed = clerk::replay_rest(&directory, &bindings, now_secs, ahead)?;
        let watcher = loading.join().map_err(|_| anyhow::anyhow!("reading the accounts has panicked"))??;

        let health = proxy::HealthTable::new(config.app.len());
        let rules = rules(&config, &listeners, &secret, &health, &apps);
        let hash = ShardHash::new(&secret);
        let side = Arc::new(Side::start(&config, raw).context("starting the threads that scripts ask")?);
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
                run,
                &secret,
                rules.registrar.clone(),
                rules.proxy.domains.clone(),
                Arc::clone(&bindings),
                Arc::clone(&accounts),
            );
            let prober = || proxy::Prober::new(now(started), &secret, rules.health, config.app.len());
            let seat = Seat {
                now: now(started),
                place: Place { shard, shards },
                hash: hash.clone(),
                registrar,
                apps: app_seats(&config, &secret, Place { shard, shards }, run, &tables, &replayed.calls)?,
                prober: (shard == 0).then(prober),
                side: SideLink::new(Arc::clone(&side), Arc::clone(waker)),
                alias: config.tcp.alias,
                rules: rules.clone(),
                reloads: reloaded,
                figures: Arc::clone(&figures),
            };
            cores.push((seat, Some(link)));
            inlets.push(inlet);
            links.push(ShardLink { edge: Arc::clone(stats), figures, reloads, waker: Arc::clone(waker) });
        }

        let shared = Arc::new(Shared {
            started,
            config: Mutex::new(config.clone()),
            level,
            secret,
            listeners,
            health,
            apps: Mutex::new(apps),
            bindings: Arc::clone(&bindings),
            accounts,
            side: Arc::clone(&side),
            steering,
            journal: OnceLock::new(),
            shards: links,
        });
        let control =
            is_alone.then(|| ControlServer::start(config.data_dir.clone(), Arc::clone(&shared) as _)).transpose()?;
        let settings = clerk::Settings {
            journal: config.journal.clone(),
            core: None,
            cdrs: Some(cdr::Settings { database: config.database(), json_lines: config.cdr.json_lines.clone() }),
        };
        let clerk = Clerk::start(settings, inlets, clerk_waker, bindings, replayed)?;
        shared.journal.set(clerk.journal_state()).expect("it is set here only");
        let running = edge.start(cores)?;
        let addresses: Vec<_> = served.iter().flatten().map(|&(_, address)| address).collect();
        for (transport, address) in served.iter().flatten() {
            tracing::info!(transport = transport.param(), %address, "listening");
        }
        shared.steering.iter().for_each(tell_steering);
        tracing::info!(
            shards,
            domains = ?config.all_domains(),
            bindings = shared.bindings.census().bindings,
            accounts = shared.accounts.len(),
            after_ms = started.elapsed().as_millis() as u64,
            "serving"
        );
        Ok(Self { running, control, clerk, _accounts: watcher, shared, addresses })
    }

    /// Where each listener listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What a supervisor's orders change.
    pub fn charge(&self) -> Arc<dyn Charge> {
        Arc::clone(&self.shared) as _
    }

    /// What ends the shards, while [`Switch::join`] waits for it.
    pub fn stopper(&self) -> io::Stopper {
        self.running.stopper()
    }

    /// Waits until the shards have ended, then ends the rest.
    pub fn join(self) -> anyhow::Result<()> {
        let ended = self.running.join().context("a shard has failed");
        // First, so that the directory is ours until the socket has gone from it.
        let closed = self.control.map_or(Ok(()), ControlServer::stop).context("the control socket could not be closed");
        self.clerk.stop().context("the journal could not be closed")?;
        closed?;
        ended?;
        tracing::info!("stopped");
        Ok(())
    }
}

impl Shared {
    /// Reads the configuration again. All of it applies or, when it is wrong, nothing.
    fn reload(&self) -> anyhow::Result<control::Reload> {
        let file = self.config.lock().unwrap_or_else(PoisonError::into_inner).file.clone();
        self.take_up(config::load(file.as_deref())?)
    }

    fn take_up(&self, new: Config) -> anyhow::Result<control::Reload> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = config.changes(&new);
        self.follow(&changes.config, &self.apps.lock().unwrap_or_else(PoisonError::into_inner))?;
        if let Some(level) = &self.level {
            level.set(changes.config.log.level);
        }
        self.side.follow(&changes.config);
        *config = changes.config;
        Ok(control::Reload { applies: changes.applies, needs_restart: changes.needs_restart })
    }

    /// Lets all shards follow this configuration, with the application servers there.
    fn follow(&self, config: &Config, apps: &[AppPlace]) -> anyhow::Result<()> {
        let rules = rules(config, &self.listeners, &self.secret, &self.health, apps);
        self.shards.iter().try_for_each(|shard| tell(&shard.reloads, &shard.waker, rules.clone()))
    }

    fn status(&self) -> Status {
        let census = self.bindings.census();
        let shard = |link: &ShardLink| {
            let edge = link.edge.read();
            let edge = edge.each().map(|(name, value)| (format!("edge.{name}"), value));
            ShardStatus { counters: edge.chain(link.figures.read()).collect() }
        };
        let mut shards: Vec<_> = self.shards.iter().map(shard).collect();
        if let Some(first) = shards.first_mut() {
            first.counters.extend(self.side.figures());
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: self.started.elapsed().as_secs(),
            shards,
            bindings: census.bindings,
            aors: census.aors,
            accounts: self.accounts.len() as u64,
            journal: self.journal.get().map_or_else(
                || JournalStatus { segments: 0, bytes: 0, state: "starting".to_owned() },
                |journal| journal.status(),
            ),
            steering: self.steering.as_ref().map(steering_status),
            processes: Vec::new(),
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
            Request::Calls { .. } | Request::HangUp { .. } | Request::CallBack { .. } => {
                Answer::error("no application server runs here")
            }
            Request::Reload => match self.reload() {
                Ok(done) => Answer::ok(&done),
                Err(error) => Answer::error(format!("{error:#}")),
            },
            _ => Answer::error("this is one process; with `processes = \"separate\"` each can be restarted"),
        }
    }
}

impl Charge for Shared {
    fn turns(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.edge.read().turns).collect()
    }

    fn reload(&self, config: Config) -> anyhow::Result<control::Reload> {
        self.take_up(config)
    }

    fn set_apps(&self, new: Vec<AppPlace>) -> anyhow::Result<()> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow(&config, &new)?;
        *apps = new;
        Ok(())
    }
}

/// Has a shard follow other rules. One that has ended, as all do at a stop, follows nothing, and lacks nothing.
fn tell<R>(reloads: &mpsc::SyncSender<R>, waker: &Waker, rules: R) -> anyhow::Result<()> {
    // A shard takes up what is there before it handles another message, and at once when it is woken: a full channel means
    // that it hangs.
    if let Err(mpsc::TrySendError::Full(_)) = reloads.try_send(rules) {
        bail!("a shard has not taken up the reload before this one");
    }
    waker.wake();
    Ok(())
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

/// The application servers of one shard, where they are in this process.
fn app_seats(
    config: &Config,
    secret: &Secret,
    place: Place,
    run: u32,
    tables: &Tables,
    kept: &[KeptCall],
) -> anyhow::Result<Vec<(usize, AppSeat)>> {
    let here = config.app.iter().enumerate().filter(|(_, app)| is_here(config, app));
    here.map(|(number, app)| Ok((number, app_seat(&app.name, secret, place, run, tables, kept)?))).collect()
}

/// The seat of the application server called `name` on the shard at `place`, which takes up its own of the calls that are
/// `kept`.
pub(crate) fn app_seat(
    name: &str,
    secret: &Secret,
    place: Place,
    run: u32,
    tables: &Tables,
    kept: &[KeptCall],
) -> anyhow::Result<AppSeat> {
    let place = appserver::Place { name: name.into(), shard: place.shard, shards: place.shards };
    Ok(AppSeat {
        secret: secret.clone(),
        run,
        seed: u64::from_ne_bytes(entropy()?),
        tables: tables.clone(),
        clock,
        kept: kept.iter().filter(|call| place.owns(call.key)).cloned().collect(),
        place,
    })
}

/// Whether an application server shares the shards of proxy and registrar.
fn is_here(config: &Config, app: &config::App) -> bool {
    app.uri.is_none() && config.processes == config::Processes::One
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_fails_on_a_shard_that_hangs_and_not_on_one_that_has_ended() {
        let waker = Waker::new().unwrap();
        let (reloads, reloaded) = mpsc::sync_channel(1);
        tell(&reloads, &waker, 1).unwrap();
        let told = tell(&reloads, &waker, 2).unwrap_err().to_string();
        assert!(told.contains("has not taken up the reload before"), "{told}");
        assert_eq!(reloaded.recv(), Ok(1));
        drop(reloaded);
        tell(&reloads, &waker, 3).unwrap();
    }
}
