//! A child's life: it hears what it is, serves, does what the supervisor says, and ends.
#![expect(clippy::disallowed_methods, reason = "the edge: it starts the thread that hears the supervisor")]

use super::channel::{self, Listener, Speaker};
use super::{AppPlace, PROTOCOL, SWITCH, Start, ToChild, ToSupervisor, app};
use crate::capabilities;
use crate::config::{self, Config, LogFormat};
use crate::control::{self, Answer, ControlHandler, Done};
use crate::io::Stopper;
use crate::logging;
use crate::switch::{Given, Switch};
use anyhow::{Context, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

/// What a process of either kind can be told.
pub trait Charge: ControlHandler {
    /// How many turns each shard has taken.
    fn turns(&self) -> Vec<u64>;

    /// Takes up `config`: all of it or, when it cannot, nothing.
    fn reload(&self, config: Config) -> anyhow::Result<control::Reload>;

    /// Takes up where the application servers are.
    fn set_apps(&self, _apps: Vec<AppPlace>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes on nothing new, but passes that on to `successor`, by shard. `done` is called when nothing is left.
    fn drain(self: Arc<Self>, _successor: Vec<SocketAddr>, done: Box<dyn FnOnce() + Send>) {
        done();
    }

    /// Takes up the calls of the process before.
    fn adopt(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Runs the child that the supervisor has started with its end of the channel as `descriptor`.
pub fn run(descriptor: RawFd) -> ExitCode {
    // SAFETY: the supervisor has left it to this process, and nothing has touched it yet. Were it not open, its first
    // use would fail.
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let (speaker, listener) = match channel::split(channel) {
        Ok(ends) => ends,
        Err(error) => {
            eprintln!("ringswitch: a process of the switch is started by its supervisor only ({error})");
            return ExitCode::FAILURE;
        }
    };
    match serve(&speaker, listener) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = format!("{error:#}");
            // Who does not hear it has gone.
            let _ = speaker.say(&ToSupervisor::Failed { reason });
            ExitCode::FAILURE
        }
    }
}

fn serve(speaker: &Speaker, mut listener: Listener) -> anyhow::Result<()> {
    // These are for the supervisor to heed; a write beyond RLIMIT_FSIZE is to fail rather than to end us (setrlimit(2)).
    let _unheeded = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGXFSZ]).context("watching for signals")?;
    let start: Start = listener.hear()?.context("the supervisor has gone")?;
    if start.protocol != PROTOCOL {
        bail!("this program speaks version {PROTOCOL} of the supervisor's language, and it {}", start.protocol);
    }
    // The supervisor has none to leave us; whatever has started us does not change that.
    capabilities::give_up().context("giving up capabilities")?;
    report_panics(speaker.clone());
    let mut config = read(&start, &start.text)?;
    if start.journald && config.log.format == LogFormat::Auto {
        config.log.format = LogFormat::Journald;
    }
    let level = logging::init(&config.log)?;
    // SAFETY: nothing but the channel has been opened here, and the supervisor tells descriptors of sockets only.
    let sockets = unsafe { start.sockets.clone().take() }.context("taking up the supervisor's sockets")?;
    // SAFETY: as before.
    let raw = start.raw.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    match start.name.as_str() {
        SWITCH => {
            let mut wait = || await_journal(speaker, &mut listener);
            let wait = start.waits.then_some(&mut wait as &mut dyn FnMut() -> _);
            let given = Given { sockets, apps: start.apps.clone(), wait };
            let switch = Switch::start(config, Some(level), Some(given))?;
            follow(speaker, listener, start, switch.charge(), switch.stopper());
            speaker.say(&ToSupervisor::Serving)?;
            switch.join()
        }
        _ => app::run(config, level, sockets, raw, speaker, listener, start),
    }
}

/// The configuration in `text`.
fn read(start: &Start, text: &str) -> anyhow::Result<Config> {
    let file = start.file.clone();
    let named = file.as_deref().unwrap_or(config::DEFAULT_FILE.as_ref()).display().to_string();
    Ok(Config { file, ..config::parse(&named, text)? })
}

/// Waits until the process before this one has let its journal go.
fn await_journal(speaker: &Speaker, listener: &mut Listener) -> anyhow::Result<()> {
    speaker.say(&ToSupervisor::Prepared)?;
    loop {
        match listener.hear()?.context("the supervisor has gone")? {
            ToChild::Go => return Ok(()),
            ToChild::Stop | ToChild::StopNow | ToChild::HandOver => bail!("another process is to serve"),
            ToChild::Apps { id, .. }
            | ToChild::Check { id, .. }
            | ToChild::Reload { id, .. }
            | ToChild::Ask { id, .. }
            | ToChild::Adopt { id } => {
                let answer = Answer::error("this process is starting; try again");
                speaker.say(&ToSupervisor::Answer { id, answer })?;
            }
            ToChild::Drain { .. } | ToChild::Beat => {}
        }
    }
}

/// Does what the supervisor says, on a thread of its own, until the process ends.
pub(super) fn follow(
    speaker: &Speaker,
    mut listener: Listener,
    start: Start,
    charge: Arc<dyn Charge>,
    stopper: Stopper,
) {
    let speaker = speaker.clone();
    let obey = move |order: ToChild| {
        let (id, answer) = match order {
            ToChild::Go => return Ok(()),
            ToChild::Beat => return speaker.say(&ToSupervisor::Beat { turns: charge.turns() }),
            ToChild::Apps { id, apps } => (id, charge.set_apps(apps).map(|()| Answer::ok(&Done {}))),
            ToChild::Check { id, text } => (id, read(&start, &text).map(|_| Answer::ok(&Done {}))),
            ToChild::Reload { id, text } => {
                (id, read(&start, &text).and_then(|config| charge.reload(config)).map(|done| Answer::ok(&done)))
            }
            ToChild::Ask { id, request } => (id, Ok(charge.handle(request))),
            ToChild::Drain { successor } => {
                let speaker = speaker.clone();
                let done = move || drop(speaker.say(&ToSupervisor::Drained));
                Arc::clone(&charge).drain(successor, Box::new(done));
                return Ok(());
            }
            ToChild::Adopt { id } => (id, charge.adopt().map(|()| Answer::ok(&Done {}))),
            ToChild::HandOver => {
                stopper.hand_over();
                return Ok(());
            }
            ToChild::Stop => {
                stopper.drain();
                return Ok(());
            }
            ToChild::StopNow => {
                stopper.stop_now();
                return Ok(());
            }
        };
        let answer = answer.unwrap_or_else(|error| Answer::error(format!("{error:#}")));
        speaker.say(&ToSupervisor::Answer { id, answer })
    };
    std::thread::spawn(move || {
        while let Ok(Some(order)) = listener.hear() {
            if let Err(error) = obey(order) {
                tracing::warn!(%error, "the supervisor does not listen");
            }
        }
        // Without a supervisor nobody would ever stop us.
        std::process::exit(1);
    });
}

/// Lets the supervisor know of a panic in words, besides what is written to stderr.
fn report_panics(speaker: Speaker) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let told = panic.payload_as_str().unwrap_or("without words");
        let place = panic.location().map_or_else(String::new, |place| format!(", at {place}"));
        let _ = speaker.say(&ToSupervisor::Failed { reason: format!("a panic: {told}{place}") });
    }));
}
