//! What others than the supervisor's own thread want of it: the operator on the control socket, and SIGHUP.
//!
//! They wait for answers on threads of their own; the table of processes that they look at is published by the
//! supervisor's.

use super::child::Child;
use super::{Event, Order};
use crate::config::{self, Config, LogFormat};
use crate::control::{
    Answer, Calls, ControlHandler, Done, HungUp, JournalStatus, MAX_LISTED, ProcessStatus, Reload, Request, Status,
};
use crate::io::Steering;
use crate::logging;
use crate::process::{SWITCH, ToChild};
use crate::switch;
use anyhow::{Context, anyhow, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a process may take to answer what is asked of it here.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the replacement of a process may take until it serves.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// What all threads of the supervisor see.
pub(super) struct Shared {
    started: Instant,
    level: logging::Level,
    events: mpsc::SyncSender<Event>,
    steering: Steering,
    current: Mutex<Current>,
    board: Mutex<Vec<(ProcessStatus, Option<Arc<Child>>)>>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// The configuration that holds.
struct Current {
    config: Config,
    /// What a process that is started is told: the latest text whose sockets, cores and processes are those that run.
    text: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        config: Config,
        text: String,
        level: logging::Level,
        events: mpsc::SyncSender<Event>,
        steering: Steering,
    ) -> Self {
        Self {
            started: Instant::now(),
            level,
            events,
            steering,
            current: Mutex::new(Current { config, text }),
            board: Mutex::default(),
            reloading: Mutex::default(),
        }
    }

    pub(super) fn config(&self) -> Config {
        lock(&self.current).config.clone()
    }

    pub(super) fn steering(&self) -> &Steering {
        &self.steering
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        lock(&self.current).config.data_dir.clone()
    }

    /// File and text of the configuration for a process that is started now.
    pub(super) fn text(&self) -> (Option<PathBuf>, String) {
        let current = lock(&self.current);
        (current.config.file.clone(), current.text.clone())
    }

    /// Whether our log, and so the children's, goes to systemd's journal.
    pub(super) fn logs_to_journald(&self) -> bool {
        let format = lock(&self.current).config.log.format;
        format == LogFormat::Journald || format == LogFormat::Auto && logging::stderr_is_journal()
    }

    pub(super) fn publish(&self, board: impl Iterator<Item = (ProcessStatus, Option<Arc<Child>>)>) {
        *lock(&self.board) = board.collect();
    }

    /// Reloads on a thread of its own, and tells the log.
    pub(super) fn reload_later(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        std::thread::spawn(move || match shared.reload() {
            Ok(done) => tracing::info!(applies = ?done.applies, needs_restart = ?done.needs_restart, "reloaded"),
            Err(error) => tracing::error!("nothing is reloaded: {error:#}"),
        });
    }

    /// Reads the configuration again and has every process take it up: all of them or, when one cannot, none.
    fn reload(&self) -> anyhow::Result<Reload> {
        let _one = lock(&self.reloading);
        let old = self.config();
        let (new, text) = config::load_text(old.file.as_deref())?;
        let children = self.children();
        for (name, child) in &children {
            let text = text.clone();
            let answer = child.ask(|id| ToChild::Check { id, text }, PATIENCE)?;
            answer.into_result::<Done>().map_err(|error| anyhow!("{name}: {error}"))?;
        }
        for (name, child) in &children {
            let text = text.clone();
            let answer = child.ask(|id| ToChild::Reload { id, text }, PATIENCE)?;
            answer.into_result::<Reload>().map_err(|error| anyhow!("{name}: {error}"))?;
        }
        let changes = old.changes(&new);
        self.level.set(changes.config.log.level);
        let mut current = lock(&self.current);
        let stays = |a: &Config, b: &Config| {
            a.listen == b.listen
                && a.cores == b.cores
                && a.data_dir == b.data_dir
                && a.processes == b.processes
                && a.app == b.app
                // A process that is told to be on has to be told what the one that sends was told.
                && (a.callback == b.callback || !b.callback.impersonate)
        };
        if stays(&old, &new) {
            current.text = text;
        }
        current.config = changes.config;
        Ok(Reload { applies: changes.applies, needs_restart: changes.needs_restart })
    }

    fn children(&self) -> Vec<(String, Arc<Child>)> {
        let board = lock(&self.board);
        board.iter().filter_map(|(status, child)| Some((status.name.clone(), Arc::clone(child.as_ref()?)))).collect()
    }

    /// The switch, which has the answers to most questions.
    fn switch(&self) -> anyhow::Result<Arc<Child>> {
        let board = lock(&self.board);
        let child = board.first().and_then(|(_, child)| child.clone());
        child.context("the switch is being started; try again")
    }

    fn status(&self) -> Status {
        let asked =
            self.switch().and_then(|switch| switch.ask(|id| ToChild::Ask { id, request: Request::Status }, PATIENCE));
        let told = asked.and_then(|answer| answer.into_result::<Status>().map_err(anyhow::Error::msg));
        let absent = |error: anyhow::Error| Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: 0,
            shards: Vec::new(),
            bindings: 0,
            aors: 0,
            accounts: 0,
            journal: JournalStatus { segments: 0, bytes: 0, state: format!("unknown: {error:#}") },
            steering: None,
            processes: Vec::new(),
        };
        let supervisor = ProcessStatus {
            name: "supervisor".to_owned(),
            pid: Some(std::process::id()),
            state: "serving".to_owned(),
            uptime_secs: self.started.elapsed().as_secs(),
            memory_bytes: super::child::memory_octets(std::process::id()),
            shards: 0,
            restarts: 0,
            reasons: Vec::new(),
        };
        let mut told = told.unwrap_or_else(absent);
        if let Some(first) = told.shards.first_mut().filter(|_| self.config().callback.impersonate) {
            self.add_callbacks(&mut first.counters);
        }
        let members = lock(&self.board).iter().map(|(status, _)| status.clone()).collect::<Vec<_>>();
        let processes = std::iter::once(supervisor).chain(members).collect();
        Status { steering: Some(switch::steering_status(&self.steering)), processes, ..told }
    }

    /// Adds what the application servers had done by the process that sends for calls back.
    fn add_callbacks(&self, counters: &mut BTreeMap<String, u64>) {
        for (_, child) in self.children().iter().filter(|(name, _)| name != SWITCH) {
            let asked = child.ask(|id| ToChild::Ask { id, request: Request::Status }, PATIENCE);
            let told = asked.and_then(|answer| answer.into_result::<Status>().map_err(anyhow::Error::msg));
            let shards = told.map(|status| status.shards).unwrap_or_default();
            for (name, value) in shards.into_iter().flat_map(|shard| shard.counters) {
                if name.starts_with("callback.") {
                    *counters.entry(name).or_default() += value;
                }
            }
        }
    }

    /// The calls of all application servers, with the one that has each.
    fn calls(&self, user: Option<&str>, limit: u32) -> anyhow::Result<Calls> {
        let mut all = Calls { calls: Vec::new(), more: false };
        for (name, child) in self.children().iter().filter(|(name, _)| name != SWITCH) {
            let request = Request::Calls { user: user.map(str::to_owned), limit };
            let answer = child.ask(|id| ToChild::Ask { id, request }, PATIENCE)?.into_result::<Calls>();
            let Calls { calls, more } = answer.map_err(|error| anyhow!("{name}: {error}"))?;
            all.calls.extend(calls);
            all.more |= more;
        }
        all.more |= all.calls.len() > limit as usize;
        all.calls.truncate(limit as usize);
        Ok(all)
    }

    /// Hangs up the one call of all whose number begins with `digits`.
    fn hang_up(&self, digits: &str) -> anyhow::Result<HungUp> {
        let calls = self.calls(None, MAX_LISTED)?.calls;
        let found: Vec<_> = calls.iter().filter(|call| call.call.starts_with(digits)).collect();
        let call = match found[..] {
            [call] => call,
            [] => bail!("there is no call whose number begins with {digits}"),
            _ => bail!("{} calls have numbers that begin with {digits}; give more digits", found.len()),
        };
        let children = self.children();
        let (_, child) = children.iter().find(|(name, _)| *name == call.server).context("its server has just ended")?;
        let request = Request::HangUp { call: call.call.clone() };
        let answer = child.ask(|id| ToChild::Ask { id, request }, PATIENCE)?;
        answer.into_result().map_err(anyhow::Error::msg)
    }

    /// The application server of that name; without one, the first that runs.
    fn app(&self, name: Option<&str>) -> anyhow::Result<Arc<Child>> {
        let mut apps = self.children().into_iter().filter(|(name, _)| name != SWITCH);
        let app = apps.find(|(app, _)| name.is_none_or(|name| app == name));
        app.map(|(_, child)| child).with_context(|| match name {
            Some(name) => format!("no application server `{name}` runs; `ringswitch status` lists those that do"),
            None => "no application server runs".to_owned(),
        })
    }

    fn order(&self, order: Order) -> anyhow::Result<Answer> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.events.send(Event::Ordered(order, reply)).context("the supervisor ends")?;
        answer.recv_timeout(LONG_PATIENCE).context("the supervisor has not done it yet; `ringswitch status` tells more")
    }
}

impl ControlHandler for Shared {
    fn handle(&self, request: Request) -> Answer {
        let answer = match request {
            Request::Status => Ok(Answer::ok(&self.status())),
            Request::Reload => self.reload().map(|done| Answer::ok(&done)),
            Request::Restart { name } => self.order(Order::Restart(name)),
            Request::Drain { name } => self.order(Order::Drain(name)),
            Request::Stop => self.order(Order::Stop),
            Request::Calls { user, limit } => self.calls(user.as_deref(), limit).map(|calls| Answer::ok(&calls)),
            Request::HangUp { call } => self.hang_up(&call).map(|done| Answer::ok(&done)),
            Request::CallBack { ref server, .. } => {
                self.app(server.as_deref()).and_then(|app| app.ask(|id| ToChild::Ask { id, request }, PATIENCE))
            }
            Request::Bindings { .. } => {
                self.switch().and_then(|switch| switch.ask(|id| ToChild::Ask { id, request }, PATIENCE))
            }
        };
        answer.unwrap_or_else(|error| Answer::error(format!("{error:#}")))
    }
}
