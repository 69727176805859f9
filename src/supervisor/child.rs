//! One process that the supervisor has started: its channel, its last words, its end.
#![expect(clippy::disallowed_methods, reason = "the edge: it starts processes and the threads that listen to them")]

use super::Event;
use crate::config::LogFormat;
use crate::control::Answer;
use crate::io::follow_parent;
use crate::process::channel::{self, Listener, Speaker};
use crate::process::{Start, ToChild, ToSupervisor};
use anyhow::{Context, anyhow};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Octets of the longest line of a child that is passed on in one piece.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Octets of a child's last words that are kept.
const MAX_WORDS_BYTES: usize = 400;

/// What the kernel is told of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The program; None is the one that runs here.
    pub binary: Option<PathBuf>,
    /// The cores that it keeps to; all of them where there are none.
    pub cores: Vec<usize>,
    /// Its oom_score_adj (proc(5)): the higher, the sooner the kernel chooses it when memory runs out.
    pub oom_score: i32,
    /// How its log is told from others'.
    pub log: LogFormat,
}

/// A started process.
pub struct Child {
    /// Numbers all children of this supervisor.
    pub id: u64,
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub started: Instant,
    process: OwnedFd,
    speaker: Speaker,
    questions: Arc<Questions>,
}

/// Questions that wait for their answers, by number.
#[derive(Default)]
struct Questions {
    waiting: Mutex<HashMap<u64, mpsc::SyncSender<Answer>>>,
    asked: AtomicU64,
}

impl Child {
    /// Starts a process, from a thread that lives as long as the supervisor: the kernel ends the child with that thread. What it
    /// says comes as events, the last one that it has ended.
    pub fn spawn(id: u64, spec: &Spec, start: &Start, events: &mpsc::SyncSender<Event>) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("a channel to a child")?;
        let program = spec.binary.clone().map_or_else(std::env::current_exe, Ok).context("finding this program")?;
        let mut command = Command::new(&program);
        command.args(["process", &start.name, "--channel", &theirs.as_raw_fd().to_string()]);
        // A terminal's Ctrl-C goes to a group of processes; the supervisor is alone in its own.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        let inherited: Vec<RawFd> = start.sockets.descriptors().chain([theirs.as_raw_fd()]).chain(start.raw).collect();
        let supervisor = rustix::process::getpid();
        let cores = cpu_set(&spec.cores);
        let prepare = move || {
            follow_parent(supervisor, &inherited)?;
            rustix::thread::set_no_new_privs(true)?;
            // A core dump would hold what nobody may read.
            setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
            if let Some(cores) = &cores {
                sched_setaffinity(None, cores)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
        let spawned = unsafe { command.pre_exec(prepare) }.spawn();
        let mut process = spawned.with_context(|| format!("starting {}", program.display()))?;
        drop(theirs);
        let pid = process.id();
        let open = || pidfd_open(Pid::from_child(&process), PidfdFlags::empty());
        let (handle, (speaker, listener)) =
            match open().map_err(io::Error::from).and_then(|h| Ok((h, channel::split(ours)?))) {
                Ok(handles) => handles,
                Err(error) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    return Err(error).context("watching a child");
                }
            };
        if spec.oom_score != 0 {
            // Only a hint: in a container it may be forbidden.
            let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), spec.oom_score.to_string());
        }
        let questions = Arc::new(Questions::default());
        let stderr = process.stderr.take().expect("it is piped");
        let (name, log) = (start.name.clone(), spec.log);
        let words = std::thread::spawn(move || pass_on(stderr, &name, log));
        let (events, heard) = (events.clone(), Arc::clone(&questions));
        std::thread::spawn(move || {
            let failed = attend(id, listener, &heard, &events);
            let status = process.wait();
            let words = words.join().unwrap_or_default();
            let reason = status.map_or_else(|error| error.to_string(), |status| reason(status, failed, &words));
            // Without a listener the supervisor has ended.
            let _ = events.send(Event::Ended(id, reason));
        });
        let child = Self { id, pid, started: Instant::now(), process: handle, speaker, questions };
        child.say(start);
        Ok(child)
    }

    /// Says something that needs no answer. Whoever does not listen is found out by its silence, or by its end.
    pub fn say(&self, order: &impl Serialize) {
        if let Err(error) = self.speaker.say(order) {
            tracing::debug!(%error, pid = self.pid, "a process does not listen");
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self, question: impl FnOnce(u64) -> ToChild, patience: Duration) -> anyhow::Result<Answer> {
        let (sender, answer) = mpsc::sync_channel(1);
        let id = self.questions.asked.fetch_add(1, Ordering::Relaxed);
        self.questions.lock().insert(id, sender);
        let answer =
            self.speaker.say(&question(id)).map_err(anyhow::Error::from).and_then(|()| {
                answer.recv_timeout(patience).map_err(|_| anyhow!("process {} does not answer", self.pid))
            });
        self.questions.lock().remove(&id);
        answer
    }

    /// Ends it at once.
    pub fn kill(&self) {
        // Where it has ended already, there is nothing to do.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Resident memory in octets; 0 when it has ended.
    pub fn memory_octets(&self) -> u64 {
        memory_octets(self.pid)
    }
}

/// Resident memory of a process in octets (proc(5)); 0 when there is no such process.
pub(super) fn memory_octets(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

impl Questions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::SyncSender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cpu_set(cores: &[usize]) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    (!cores.is_empty()).then_some(set)
}

/// Hears a child until its channel ends. Gives the reason of its end that it has told last.
fn attend(id: u64, mut listener: Listener, questions: &Questions, events: &mpsc::SyncSender<Event>) -> Option<String> {
    let mut failed = None;
    loop {
        match listener.hear::<ToSupervisor>() {
            Ok(Some(ToSupervisor::Answer { id, answer })) => {
                // Who has asked may have lost patience.
                if let Some(asker) = questions.lock().remove(&id) {
                    let _ = asker.send(answer);
                }
            }
            Ok(Some(ToSupervisor::Failed { reason })) => failed = Some(reason),
            Ok(Some(said)) => drop(events.send(Event::Heard(id, said))),
            Ok(None) => return failed,
            Err(error) => return failed.or(Some(format!("what it says is not understood: {error}"))),
        }
    }
}

/// Passes a child's lines on to our stderr. Gives the last one.
fn pass_on(stderr: ChildStderr, name: &str, log: LogFormat) -> String {
    let mut lines = BufReader::new(stderr);
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        line.clear();
        match lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        let told = match (log, text.strip_prefix('{')) {
            (LogFormat::Json, Some(rest)) => format!("{{\"process\":\"{name}\",{rest}\n"),
            _ => format!("[{name}] {text}\n"),
        };
        // Where our stderr has gone, nobody reads the log.
        let _ = io::stderr().lock().write_all(told.as_bytes());
        last = text.chars().take(MAX_WORDS_BYTES).collect();
    }
}

/// Why a child has ended, in one line.
fn reason(status: ExitStatus, failed: Option<String>, last_words: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(0), _) => "it ended by itself".to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("signal {signal}, {name}"),
            None => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    };
    // Who is killed has had no say in it.
    let has_spoken = !last_words.is_empty() && status.code() != Some(0) && status.signal() != Some(libc::SIGKILL);
    match failed {
        Some(failed) if status.signal().is_none() => failed,
        Some(failed) => format!("{end}, after {failed}"),
        None if !has_spoken => end,
        None => format!("{end}; its last words: {last_words}"),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTRAP => "SIGTRAP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_status_signal_and_last_words() {
        let told =
            |wait, failed: Option<&str>, words| reason(ExitStatus::from_raw(wait), failed.map(str::to_owned), words);
        assert_eq!(told(9, None, "serving"), "signal 9, SIGKILL");
        assert_eq!(told(6, None, "stack overflow"), "signal 6, SIGABRT; its last words: stack overflow");
        assert_eq!(told(6, Some("a panic: no"), "x"), "signal 6, SIGABRT, after a panic: no");
        assert_eq!(told(1 << 8, Some("no port"), "x"), "no port");
        assert_eq!(told(3 << 8, None, "x"), "exit status 3; its last words: x");
        assert_eq!(told(0, None, "bye"), "it ended by itself");
    }
}
