//! What a server costs, as the kernel accounts it: CPU time and memory of a process with all its threads and children.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// CPU time that a process and its children have used.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    total: Duration,
    user_ticks: u64,
    system_ticks: u64,
}

/// CPU time per message, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CpuPerMessage {
    /// User time; the split of the total follows the kernel's sampled ticks and is rough.
    pub user_us: f64,
    /// System time.
    pub system_us: f64,
    /// User and system time, exact.
    pub total_us: f64,
}

/// Memory of a process and its children, octets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Resident set.
    pub rss: u64,
    /// Resident set, pages shared with other processes counted in part.
    pub pss: u64,
}

impl Cpu {
    /// The CPU time used until now by `pid` and its living descendants.
    ///
    /// The total is the process's CPU clock: nanoseconds, every thread, ended ones too (clock_getcpuclockid(3)). Only the
    /// split into user and system comes from the ticks of /proc/PID/stat.
    pub fn read(pid: u32) -> Result<Self> {
        let mut cpu = Self { total: Duration::ZERO, user_ticks: 0, system_ticks: 0 };
        for (pid, stat) in family(pid)? {
            cpu.total += cpu_clock(pid)?;
            cpu.user_ticks += stat.user_ticks;
            cpu.system_ticks += stat.system_ticks;
        }
        Ok(cpu)
    }

    /// What was used since `before`, for each of `messages`.
    pub fn per_message_since(&self, before: &Self, messages: u64) -> CpuPerMessage {
        let total_us = self.total.saturating_sub(before.total).as_secs_f64() * 1e6 / messages.max(1) as f64;
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64;
        let user_us = total_us * user / (user + system).max(1.0);
        CpuPerMessage { user_us, system_us: total_us - user_us, total_us }
    }
}

impl Memory {
    /// The memory of `pid` and its living descendants, from /proc/PID/smaps_rollup.
    pub fn read(pid: u32) -> Result<Self> {
        let mut memory = Self::default();
        for pid in family(pid)?.into_keys() {
            let path = format!("/proc/{pid}/smaps_rollup");
            let rollup = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            let kilobytes = |name: &str| {
                let line = rollup.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0)
            };
            memory.rss += kilobytes("Rss:") * 1024;
            memory.pss += kilobytes("Pss:") * 1024;
        }
        Ok(memory)
    }
}

struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    /// Fields 4, 14 and 15 of /proc/PID/stat (proc_pid_stat(5)); the name before them may hold blanks and brackets.
    fn read(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { parent: field(4)? as u32, user_ticks: field(14)?, system_ticks: field(15)? })
    }
}

/// `root` and its living descendants.
fn family(root: u32) -> Result<BTreeMap<u32, Stat>> {
    let numbers = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: BTreeMap<u32, Stat> = numbers.filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
    let mut members = BTreeMap::new();
    let mut parents = vec![root];
    match others.remove(&root) {
        Some(stat) => members.insert(root, stat),
        None => bail!("no process {root} is running"),
    };
    while let Some(parent) = parents.pop() {
        for (pid, stat) in others.extract_if(.., |_, stat| stat.parent == parent) {
            parents.push(pid);
            members.insert(pid, stat);
        }
    }
    Ok(members)
}

/// The living descendant of `root` whose command line has the words `process NAME`, as those of a supervised switch have.
pub fn named(root: u32, name: &str) -> Result<Option<u32>> {
    let is_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&octet| octet == 0).collect();
        words.windows(2).any(|pair| pair == [b"process", name.as_bytes()])
    };
    Ok(family(root)?.into_keys().find(is_it))
}

fn cpu_clock(pid: u32) -> Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the pointer is to a clockid_t that the call writes.
    if unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } != 0 {
        bail!("process {pid} has no CPU clock: it has ended");
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that the call writes.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        bail!("the CPU clock of process {pid} cannot be read: {}", std::io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_charged_what_it_used() {
        let pid = std::process::id();
        let before = Cpu::read(pid).expect("we are running");
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let used = Cpu::read(pid).expect("we are running").per_message_since(&before, 1);
        assert!(used.total_us > 1_000.0 && (used.user_us + used.system_us - used.total_us).abs() < 1e-6, "{used:?}");
        assert!(Memory::read(pid).expect("we are running").pss > 100_000);
    }
}
