//! The process of an application server: its shards on the sockets of the hop to the switch, its journal, and what it takes
//! up of those that were before it.
//!
//! Each generation has a directory of its own, `apps/NAME/NUMBER`, with a journal and the last words of calls that are being
//! set up (`setups-SHARD`). A process that follows a dead one goes on in its directory. One that follows a living one
//! begins a directory beside; when the other has ended it takes up its calls, keeps them in its own journal, sees its CDRs
//! into the database, and removes what was left. So there is one writer to a journal, and whichever process dies at
//! whichever moment, what it has kept is found by the next.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: it starts threads, reads the clock and removes what is done with"
)]

use super::channel::{Listener, Speaker};
use super::child::{Charge, follow};
use super::{Start, ToSupervisor, calls};
use crate::accounts::Watcher;
use crate::clerk::{self, Clerk};
use crate::config::{self, Config};
use crate::control::{self, Answer, ControlHandler, JournalStatus, Request, ShardStatus, Status};
use crate::figures::Figures;
use crate::io::{self, Edge, EdgeStats, Sockets, Waker};
use crate::proxy::HopTokens;
use crate::shard::app::{Estate, Order, Seat, setups::Setups};
use crate::shard::{AppRules, Place, Side, SideLink};
use crate::{cdr, logging, switch};
use agent::{Domains, ListenerId, ShardHash};
use anyhow::{Context, bail};
use appserver::{Place as AppPlace, Tables};
use serde::Serialize;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use store::{Accounts, Bindings, KeptCall, Plans, Providers};

/// Orders that may wait for a shard.
const ORDERS: usize = 16;

/// How long after the last call was answered its caller may not have heard so: the longest pause between two
/// transmissions of a 200 (T2, RFC 3261 §13.3.1.4).
const LINGER: Duration = Duration::from_secs(4);

/// How often a drain is looked at.
const STEP: Duration = Duration::from_millis(20);

/// How long the calls of the process before may take to be kept in the journal.
const KEEPING: Duration = Duration::from_secs(5);

/// What a directory is called whose calls have been taken up and whose CDRs have not all been written.
const CALLS_TAKEN: &str = "cdrs";

/// Serves until the supervisor ends it.
pub(super) fn run(
    config: Config,
    level: logging::Level,
    sockets: Sockets,
    raw: Option<OwnedFd>,
    speaker: &Speaker,
    listener: Listener,
    start: Start,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let Some(app) = config.app.iter().find(|app| app.name == start.name) else {
        bail!("the configuration has no [[app]] called `{}`", start.name);
    };
    let journal = start.journal.clone().context("the supervisor names no journal")?;
    let secret = switch::secret(&config.secret())?;
    let key = secret.derive("tables");
    let tables = Tables {
        accounts: Arc::new(Accounts::new(key)),
        providers: Arc::new(Providers::new(key)),
        plans: Arc::new(Plans::new(key)),
    };
    let _watcher = Watcher::start(&config.database(), switch::Sink::with_probe(&tables, &secret))?;
    let bindings = Arc::new(Bindings::new(key));
    let replayed = clerk::replay(&journal, &bindings, switch::now(started).unix_secs())?;

    let settings = io::Settings {
        cores: app.cores.cores().iter().map(|&core| usize::from(core)).collect(),
        nice: config.supervisor.nice,
        streams: io::StreamSettings { connections: 0, ..io::StreamSettings::default() },
        ..switch::edge_settings(&config)
    };
    let edge = Edge::on(settings, sockets)?;
    let (shards, wakers) = (edge.wakers().len() as u16, edge.wakers().to_vec());
    let rules = rules(&config);
    let run = u32::from_ne_bytes(switch::entropy()?);
    let side = Arc::new(Side::start(&config, raw).context("starting the threads that scripts ask")?);
    let clerk_waker = Arc::new(Waker::new().context("making an eventfd")?);
    let (mut seeds, mut inlets, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, (waker, stats)) in (0..).zip(wakers.iter().zip(edge.stats())) {
        let (link, inlet) =
            io::journal(config.journal.queue_batches as usize, Arc::clone(waker), Arc::clone(&clerk_waker));
        let (orders, obeyed) = mpsc::sync_channel(ORDERS);
        let figures = Arc::new(Figures::default());
        let (file, place) = (setups(&journal, shard), Place { shard, shards });
        let last_words = Setups::left(&file).with_context(|| format!("reading {}", file.display()))?;
        let (now, words) = (switch::now(started), config.supervisor.last_words);
        let seat = Seat {
            now,
            app: switch::app_seat(&start.name, &secret, place, run, &tables, &replayed.calls)?,
            rules: rules.clone(),
            orders: obeyed,
            tokens: HopTokens::new(&secret),
            hash: ShardHash::new(&secret),
            hop: ListenerId(config.listen.len() as u16),
            switch: start.switch.clone(),
            side: SideLink::new(Arc::clone(&side), Arc::clone(waker)),
            setups: Setups::create(&file, words, longest_setup(&config), now.monotonic, &last_words)
                .with_context(|| format!("making {}", file.display()))?,
            figures: Arc::clone(&figures),
        };
        let (kept, _) = mpsc::sync_channel(1);
        let link_to = ShardLink { edge: Arc::clone(stats), figures, orders, waker: Arc::clone(waker) };
        link_to.order(Order::Adopt(Estate { calls: Vec::new(), last_words, kept }))?;
        seeds.push((seat, Some(link)));
        inlets.push(inlet);
        links.push(link_to);
    }
    let calls = replayed.calls.len();
    let cdrs = cdr::Settings { database: config.database(), json_lines: config.cdr.json_lines.clone() };
    let clerk_settings = clerk::Settings { journal: config.journal.clone(), core: None, cdrs: Some(cdrs) };
    let shared = Arc::new(Shared {
        name: start.name.clone(),
        started,
        key,
        journal,
        clerk: clerk_settings.clone(),
        config: Mutex::new(config),
        level,
        tables,
        side,
        shards: links,
    });
    let clerk = Clerk::start(clerk_settings, inlets, clerk_waker, bindings, replayed)?;
    let running = edge.start(seeds)?;
    shared.adopt()?;
    tracing::info!(shards, calls, after_ms = started.elapsed().as_millis() as u64, "serving");
    follow(speaker, listener, start, shared, running.stopper());
    speaker.say(&ToSupervisor::Serving)?;
    let ended = running.join().context("a shard has failed");
    clerk.stop().context("the journal could not be closed")?;
    ended
}

/// The last words of a shard's calls, in its process's directory.
fn setups(directory: &Path, shard: u16) -> PathBuf {
    directory.join(format!("setups-{shard}"))
}

/// How long a call may be set up, its transactions included (timer B or H, RFC 3261 §17).
fn longest_setup(config: &Config) -> Duration {
    Duration::from_secs(config.calls.max_setup_secs.into()) + Duration::from_secs(64)
}

fn rules(config: &Config) -> AppRules {
    let served: Vec<_> = config.listen.iter().map(|listen| Some((listen.transport, listen.address))).collect();
    let domains = config.all_domains().into_iter().map(Into::into).collect();
    let addresses = switch::listeners(config, &served);
    switch::app_rules(config, Domains::new(domains, addresses.addresses().collect()))
}

/// What the supervisor's orders meet.
struct Shared {
    name: String,
    started: Instant,
    key: [u8; 16],
    journal: PathBuf,
    clerk: clerk::Settings,
    config: Mutex<Config>,
    level: logging::Level,
    tables: Tables,
    side: Arc<Side>,
    shards: Vec<ShardLink>,
}

pub(super) struct ShardLink {
    edge: Arc<EdgeStats>,
    figures: Arc<Figures>,
    orders: mpsc::SyncSender<Order>,
    waker: Arc<Waker>,
}

impl ShardLink {
    /// Leaves an order for the shard, and wakes it.
    pub(super) fn order(&self, order: Order) -> anyhow::Result<()> {
        let full = |_| anyhow::anyhow!("a shard has not obeyed the orders before this one");
        self.orders.try_send(order).map_err(full)?;
        self.waker.wake();
        Ok(())
    }

    /// What is being done that a drain waits for: set-ups, or all calls.
    fn unfinished(&self, all_calls: bool) -> u64 {
        let name = if all_calls { "appserver.calls_now" } else { "appserver.setups_now" };
        self.figures.read().get(name).copied().unwrap_or(0)
    }
}

impl ControlHandler for Shared {
    fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::ok(&self.status()),
            Request::Calls { user, limit } => {
                let now = switch::now(self.started).unix.as_millis() as u64;
                or_error(calls::list(&self.name, &self.shards, user.as_deref(), limit, now))
            }
            Request::HangUp { call } => or_error(calls::hang_up(&self.shards, &call)),
            Request::CallBack { user, first, second, .. } => {
                or_error(calls::call_back(&self.shards, user, [first, second]))
            }
            _ => Answer::error(format!("{} does not answer this", self.name)),
        }
    }
}

fn or_error(answer: anyhow::Result<impl Serialize>) -> Answer {
    answer.map_or_else(|error| Answer::error(format!("{error:#}")), |answer| Answer::ok(&answer))
}

impl Shared {
    fn status(&self) -> Status {
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
            bindings: 0,
            aors: 0,
            accounts: self.tables.accounts.len() as u64,
            journal: JournalStatus { segments: 0, bytes: 0, state: "writing".to_owned() },
            steering: None,
            processes: Vec::new(),
        }
    }

    fn now_secs(&self) -> u64 {
        switch::now(self.started).unix_secs()
    }

    /// Takes up what is left in `directory`, unless its process lives.
    fn adopt_from(&self, directory: &Path) -> anyhow::Result<()> {
        let replayed = match clerk::replay(directory, &Bindings::new(self.key), self.now_secs()) {
            Err(clerk::StartError::InUse { .. }) => return Ok(()),
            replayed => replayed?,
        };
        let mut directory = directory.to_owned();
        if directory.extension().is_none() {
            self.adopt_calls(&directory, &replayed.calls)?;
            let renamed = directory.with_extension(CALLS_TAKEN);
            std::fs::rename(&directory, &renamed).with_context(|| format!("renaming {}", directory.display()))?;
            directory = renamed;
        }
        // The clerk of that journal sees its CDRs into the database, however long that refuses.
        let (settings, bindings) = (self.clerk.clone(), Arc::new(Bindings::new(self.key)));
        let waker = Arc::new(Waker::new().context("making an eventfd")?);
        let replayed = replayed.moved_to(&directory);
        let clerk = Clerk::start(settings, Vec::new(), waker, bindings, replayed)?;
        std::thread::spawn(move || {
            while clerk.journal_state().unwritten_cdrs.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                std::thread::sleep(STEP);
            }
            let done = clerk.stop().and_then(|()| std::fs::remove_dir_all(&directory));
            if let Err(error) = done {
                tracing::warn!(%error, directory = %directory.display(), "what a process before has left stays");
            }
        });
        Ok(())
    }

    /// Gives the calls to the shards whose they were, and waits until they are kept.
    fn adopt_calls(&self, directory: &Path, calls: &[KeptCall]) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        for (shard, link) in (0..).zip(&self.shards) {
            let place = AppPlace { name: self.name.as_str().into(), shard, shards: self.shards.len() as u16 };
            let calls = calls.iter().filter(|call| place.owns(call.key)).cloned().collect();
            let (kept, is_kept) = mpsc::sync_channel(1);
            let last_words = Setups::left(&setups(directory, shard))?;
            link.order(Order::Adopt(Estate { calls, last_words, kept }))?;
            waiting.push(is_kept);
        }
        for is_kept in waiting {
            is_kept.recv_timeout(KEEPING).context("the calls of the process before are not kept in the journal")?;
        }
        tracing::info!(calls = calls.len(), "the calls of the process before are taken up");
        Ok(())
    }
}

impl Charge for Shared {
    fn turns(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.edge.read().turns).collect()
    }

    fn reload(&self, new: Config) -> anyhow::Result<control::Reload> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let config::Changes { config: changed, applies, needs_restart } = config.changes(&new);
        let rules = rules(&changed);
        self.shards.iter().try_for_each(|shard| shard.order(Order::Rules(Box::new(rules.clone()))))?;
        self.level.set(changed.log.level);
        self.side.follow(&changed);
        *config = changed;
        Ok(control::Reload { applies, needs_restart })
    }

    fn drain(self: Arc<Self>, successor: Vec<SocketAddr>, done: Box<dyn FnOnce() + Send>) {
        let all_calls = successor.is_empty();
        for shard in &self.shards {
            if let Err(error) = shard.order(Order::Drain(successor.clone())) {
                tracing::error!("{error:#}");
            }
        }
        std::thread::spawn(move || {
            let mut idle_since = None;
            loop {
                std::thread::sleep(STEP);
                if self.shards.iter().any(|shard| shard.unfinished(all_calls) > 0) {
                    idle_since = None;
                    continue;
                }
                if idle_since.get_or_insert_with(Instant::now).elapsed() >= LINGER {
                    return done();
                }
            }
        });
    }

    fn adopt(&self) -> anyhow::Result<()> {
        let Some(beside) = self.journal.parent() else { return Ok(()) };
        let entries = std::fs::read_dir(beside).with_context(|| format!("listing {}", beside.display()))?;
        for entry in entries {
            let directory = entry.with_context(|| format!("listing {}", beside.display()))?.path();
            if directory != self.journal && directory.is_dir() {
                self.adopt_from(&directory)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_kept_for_longer_than_a_call_may_be_set_up() {
        let config = Config::default();
        assert!(longest_setup(&config).as_secs() > u64::from(config.calls.max_setup_secs) + 32);
    }

    #[test]
    fn a_directory_whose_calls_are_taken_is_known_by_its_name() {
        let directory = PathBuf::from("/var/lib/ringswitch/apps/stable/7");
        assert_eq!(directory.extension(), None);
        assert_eq!(directory.with_extension(CALLS_TAKEN), PathBuf::from("/var/lib/ringswitch/apps/stable/7.cdrs"));
        assert_eq!(setups(&directory, 2), directory.join("setups-2"));
    }
}
