//! Starts the process, while the switch still has the capability to give.
#![expect(clippy::disallowed_methods, reason = "the edge: it starts a process and the thread that waits for its end")]

use super::keeper::READY;
use super::{Settings, own};
use crate::capabilities;
use crate::config::Config;
use crate::io::{follow_parent, ignore_stops};
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{CapabilitySet, CapabilitySets, configure_capability_in_ambient_set};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// What must not be forgotten when the capability lacks.
const WAY_OUT: &str = "callback.impersonate needs CAP_NET_RAW, which this process does not have: set AmbientCapabilities=CAP_NET_RAW in \
                       the unit, start it as root, or set `impersonate = false`";

/// It confines itself within milliseconds.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A process that has been started, and the switch's ends of its sockets.
pub struct Started {
    process: Child,
    /// One for each process that may ask.
    clients: Vec<OwnedFd>,
}

/// Starts the process for `clients` others, if `config` wants one; from a thread that lives as long as the switch, with which the kernel
/// ends it. It has confined itself when this returns.
///
/// # Errors
/// This process has no CAP_NET_RAW, or the other one cannot be confined.
pub fn start(config: &Config, clients: usize) -> anyhow::Result<Option<Started>> {
    if !config.callback.impersonate {
        return Ok(None);
    }
    if !capabilities::has(CapabilitySet::NET_RAW) {
        bail!("{WAY_OUT}");
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..clients.max(1) {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("a socket to the process that sends")?;
        ours.push(one);
        theirs.push(other);
    }
    let descriptors: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
    let settings = Settings::of(config, descriptors.clone());
    let mut process = spawn(descriptors)?;
    drop(theirs);
    let mut stdin = process.stdin.take().expect("it is piped");
    // What it has not read it complains about.
    let _ = serde_json::to_writer(&mut stdin, &settings).map_err(io::Error::from).and_then(|()| stdin.flush());
    drop(stdin);
    let said = first_line(process.stdout.take().expect("it is piped"))?;
    match said.strip_prefix(READY) {
        Some("") => {}
        Some(remark) => tracing::warn!("the process that sends is confined{remark}"),
        None => {
            let _ = process.kill();
            let status = process.wait().context("the process that sends")?;
            bail!("the process that sends cannot be confined: {said} ({status})");
        }
    }
    for listen in config.listen.iter().filter(|listen| listen.advertise.as_ref().is_some_and(own::is_name)) {
        tracing::warn!(
            address = %listen.address,
            "what it advertises is a name, and callbacks' packets may seem to come from its address; advertise the address"
        );
    }
    if own::binds_anything() != (false, false) {
        tracing::warn!("ip_nonlocal_bind is set: addresses that become ours later are not told from others");
    }
    tracing::info!(
        pid = process.id(),
        "impersonation is on: packets with the sources of callbacks' other legs are sent"
    );
    Ok(Some(Started { process, clients: ours }))
}

/// What it says first, or nothing if it has died or takes too long.
fn first_line(stdout: ChildStdout) -> anyhow::Result<String> {
    let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
    poll(&mut fds, Some(&PATIENCE)).context("waiting for the process that sends")?;
    let mut said = String::new();
    if !fds[0].revents().is_empty() {
        BufReader::new(stdout).read_line(&mut said).context("hearing the process that sends")?;
    }
    Ok(said.trim_end().to_owned())
}

fn spawn(descriptors: Vec<RawFd>) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(&program);
    // Nothing of the environment is for it. A terminal's Ctrl-C is for the switch.
    command.arg("raw").env_clear().process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let switch = rustix::process::getpid();
    let prepare = move || {
        follow_parent(switch, &descriptors)?;
        // They are often sent to all processes of the switch, and are for that to heed.
        ignore_stops();
        // Through exec(2) go the capabilities of root, of the program's file, and the ambient ones (capabilities(7)).
        let sets = rustix::thread::capabilities(None)?;
        let inheritable = sets.inheritable | CapabilitySet::NET_RAW;
        rustix::thread::set_capabilities(None, CapabilitySets { inheritable, ..sets })?;
        configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    let spawned = unsafe { command.pre_exec(prepare) }.spawn();
    spawned.with_context(|| format!("starting {}", program.display()))
}

impl Started {
    /// Waits for the end of the process on a thread of its own, and tells the log. To be called when the capabilities are given up:
    /// a thread has those of the one that starts it.
    pub fn watch(self) -> Vec<OwnedFd> {
        let Self { mut process, clients } = self;
        std::thread::spawn(move || {
            let ended = process.wait();
            // At the switch's own end it has nobody left to keep anything for.
            if !ended.as_ref().is_ok_and(ExitStatus::success) {
                let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::error!(
                    status,
                    "the keeper of the process that sends has ended: nothing is impersonated until the switch is restarted"
                );
            }
        });
        clients
    }
}
