//! The keeper: it starts the process that sends, and starts it again when that has died.
//!
//! The switch could not: by then it has no capability to give. So the keeper has CAP_NET_RAW, but not in effect, and is as confined as the
//! sender is, but for the calls that make one. While there is none it refuses orders, so that none waits and is carried out late.
#![expect(clippy::disallowed_methods, reason = "the edge: it draws the chance of a pause")]

use super::Settings;
use super::confine::{self, Who};
use super::sender::{Client, Sender, refuse};
use crate::capabilities;
use crate::io::clock;
use crate::supervisor::Backoff;
use anyhow::{Context, bail};
use callback::{Event, Policy};
use landlock::RulesetStatus;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

/// What the keeper says on its stdout once it is confined; anything else is why it is not.
pub(super) const READY: &str = "ready";

/// Octets of its settings at most.
const MAX_SETTINGS: u64 = 1 << 20;

/// Runs the process that [`start`](super::start()) has executed, to its end: once it is confined it cannot return, for what the
/// runtime does at a program's end is not among its system calls.
pub fn run() -> ExitCode {
    let prepared = prepare();
    let told = prepared.as_ref().map_or_else(|error| format!("{error:#}"), |(_, note)| note.clone());
    // Who has started us waits for it; if he has gone, so shall we.
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(told.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    match prepared {
        Ok((kept, _)) => {
            kept.keep();
            exit(0)
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// What the keeper has.
struct Keeper {
    settings: Settings,
    policy: Policy,
    clients: Vec<Client>,
    pid: Pid,
}

/// Reads the settings and confines this process. Gives what it says of that: [`READY`], with a remark behind it where the kernel
/// knows only a part.
fn prepare() -> anyhow::Result<(Keeper, String)> {
    let mut text = String::new();
    std::io::stdin().take(MAX_SETTINGS).read_to_string(&mut text).context("its settings")?;
    let settings: Settings = serde_json::from_str(&text).context("it is started by the switch only; its settings")?;
    let policy = settings.policy()?;
    capabilities::keep(CapabilitySet::NET_RAW, CapabilitySet::empty())
        .context("CAP_NET_RAW has not come along, as on a file system that is mounted with nosuid")?;
    // Whoever can trace us or read a dump of us can use what we hold.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // SAFETY: who has started us has left these to this process, and nothing has touched them yet. Were one not open, its
    // first use would fail.
    let take = |&descriptor: &_| Client::new(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let clients = settings.clients.iter().map(take).collect();
    let note = match confine::deny_files_and_tcp()? {
        RulesetStatus::FullyEnforced => READY.to_owned(),
        RulesetStatus::PartiallyEnforced => format!("{READY}, but this kernel has an older landlock"),
        RulesetStatus::NotEnforced => format!("{READY}, but this kernel has no landlock; seccomp alone denies files"),
    };
    let pid = rustix::process::getpid();
    // The first look at the clock finds the kernel's page for it, by calls that are not needed again.
    clock();
    confine::allow_only(Who::Keeper)?;
    Ok((Keeper { settings, policy, clients, pid }, note))
}

impl Keeper {
    /// Keeps until nobody is left who could give an order.
    fn keep(mut self) {
        let mut backoff = Backoff::new(self.settings.pauses());
        loop {
            let started = clock();
            let status = self.send();
            if status == 0 {
                return;
            }
            let pause = backoff.failed(clock().saturating_sub(started), chance());
            let died = Event::Died { status, pause_msecs: pause.as_millis() as u32 };
            self.clients.iter_mut().for_each(|client| client.tell(&died));
            if !refuse(&mut self.clients, pause) {
                return;
            }
        }
    }

    /// Has a process send, and waits for its end. Gives its status as a shell tells it: 0 when nobody is left who could give an order.
    fn send(&mut self) -> u8 {
        // SAFETY: this process has one thread, so the other one finds everything as it is here.
        match unsafe { libc::fork() } {
            0 => {
                let sent = self.become_sender();
                let status = i32::from(sent.inspect_err(|error| eprintln!("ringswitch: {error:#}")).is_err());
                exit(status)
            }
            -1 => u8::MAX,
            child => loop {
                match rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty()) {
                    Ok(Some((_, status))) => break shell_status(status),
                    Ok(None) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break u8::MAX,
                }
            },
        }
    }

    fn become_sender(&mut self) -> anyhow::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(self.pid) {
            bail!("the keeper has gone");
        }
        let raw = CapabilitySet::NET_RAW;
        let sets = CapabilitySets { effective: raw, permitted: raw, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        confine::allow_only(Who::Sender)?;
        Sender::new(&self.settings, self.policy.clone(), std::mem::take(&mut self.clients)).run();
        Ok(())
    }
}

fn exit(status: i32) -> ! {
    // SAFETY: it ends this process; nothing that was registered for its end is run.
    unsafe { libc::_exit(status) }
}

fn shell_status(status: WaitStatus) -> u8 {
    let signalled = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signalled).and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX)
}

fn chance() -> u8 {
    let mut octet = [128];
    // Without entropy there is no chance, and the pause is what it is.
    let _ = getrandom::fill(&mut octet);
    octet[0]
}
