//! `ringswitch bindings|status|reload|restart|drain|stop`: asks the running switch over its control socket.

use super::{
    Failure, Json, print,
    table::{duration, table},
};
use crate::{
    accounts::Aor,
    config::Config,
    control::{Answer, Bindings, Done, MAX_LISTED, ProcessStatus, Reload, Request, Restarted, Status, SteeringStatus},
};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// How long the switch may take to answer: as long as a process may take to start.
const PATIENCE: Duration = Duration::from_secs(100);

/// A longer answer is none of ours.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

#[derive(Args)]
pub(super) struct BindingsArgs {
    /// Only those of this account, as user@domain.
    aor: Option<String>,
    /// Only those of accounts which begin like this.
    #[arg(long, conflicts_with = "aor")]
    prefix: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

pub(super) fn bindings(config: &Config, args: BindingsArgs) -> Result<(), Failure> {
    let BindingsArgs { aor, prefix, limit, json } = args;
    let aor = aor.map(|text| Aor::parse(&text, config.default_domain())).transpose().map_err(Failure::Wrong)?;
    let request = Request::Bindings { aor: aor.map(|aor| aor.to_string()), prefix, limit };
    let answer: Bindings = ask(config, &request)?;
    json.print(&answer, show_bindings)?;
    if answer.more && !json.json {
        eprintln!("There are more: raise --limit, or narrow the list by --prefix.");
    }
    Ok(())
}

pub(super) fn status(config: &Config, json: &Json) -> Result<(), Failure> {
    json.print(&ask(config, &Request::Status)?, show_status)
}

pub(super) fn reload(config: &Config, json: &Json) -> Result<(), Failure> {
    json.print(&ask(config, &Request::Reload)?, show_reload)
}

#[derive(Args)]
pub(super) struct ProcessArgs {
    /// The process, as `ringswitch status` calls it.
    name: String,
}

#[derive(Args)]
pub(super) struct RestartArgs {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    json: Json,
}

pub(super) fn restart(config: &Config, args: &RestartArgs) -> Result<(), Failure> {
    let name = args.process.name.clone();
    let done: Restarted = ask(config, &Request::Restart { name: name.clone() })?;
    args.json.print(&done, |Restarted { pid, gap_msecs }| {
        format!("{name} is process {pid} now; what came waited for {gap_msecs} ms.")
    })
}

pub(super) fn drain(config: &Config, args: ProcessArgs) -> Result<(), Failure> {
    let Done {} = ask(config, &Request::Drain { name: args.name.clone() })?;
    print(&format!("{} takes on no new calls; `ringswitch restart {}` brings it back.", args.name, args.name))
}

pub(super) fn stop(config: &Config) -> Result<(), Failure> {
    let Done {} = ask(config, &Request::Stop)?;
    print("The switch ends.")
}

/// Asks the switch that runs in the configuration's `data_dir`.
pub(super) fn ask<T: DeserializeOwned>(config: &Config, request: &Request) -> anyhow::Result<T> {
    let path = config.control_socket();
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no switch runs in {}; start one with `ringswitch run`, or name its configuration with --config",
            config.data_dir.display()
        ),
        ErrorKind::PermissionDenied => {
            anyhow!("{} is not for this user; run this as the user of the switch, or as root", path.display())
        }
        _ => anyhow!("cannot connect to {}: {error}", path.display()),
    })?;
    stream.set_read_timeout(Some(PATIENCE)).context("a socket without a timeout")?;
    stream.set_write_timeout(Some(PATIENCE)).context("a socket without a timeout")?;

    let mut line = serde_json::to_string(request).context("the request")?;
    line.push('\n');
    let lost = || format!("the switch at {} does not answer; see its log", path.display());
    stream.write_all(line.as_bytes()).with_context(lost)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer).with_context(lost)?;
    if answer.is_empty() {
        bail!("{}", lost());
    }
    let answer: Answer = serde_json::from_str(&answer).with_context(lost)?;
    answer.into_result().map_err(anyhow::Error::msg)
}

fn show_bindings(answer: &Bindings) -> String {
    if answer.bindings.is_empty() {
        return "Nothing is registered here.".to_owned();
    }
    let mut rows: Vec<Vec<String>> = answer
        .bindings
        .iter()
        .map(|binding| {
            vec![
                binding.aor.clone(),
                binding.contact.clone(),
                binding.q.clone(),
                binding.expires_secs.to_string(),
                binding.received.clone(),
                binding.user_agent.clone().unwrap_or_default(),
            ]
        })
        .collect();
    rows.sort();
    table(&["account", "contact", "q", "expires secs", "received", "user agent"], &rows)
}

fn show_status(status: &Status) -> String {
    let Status { version, uptime_secs, shards, bindings, aors, accounts, journal, steering, processes } = status;
    let overview = format!(
        "ringswitch {version}, up {}\naccounts  {accounts}\nbindings  {bindings} of {aors} accounts\njournal   {}, {} segments, {} bytes\n",
        duration(*uptime_secs),
        journal.state,
        journal.segments,
        journal.bytes,
    );
    let names: BTreeSet<&String> = shards.iter().flat_map(|shard| shard.counters.keys()).collect();
    let rows: Vec<Vec<String>> = names
        .into_iter()
        .map(|name| {
            let counts: Vec<u64> = shards.iter().map(|shard| shard.counters.get(name).copied().unwrap_or(0)).collect();
            // Shares are not added up: the least tells.
            let total = match name.ends_with("_percent") {
                true => counts.iter().copied().min().unwrap_or(0),
                false => counts.iter().fold(0u64, |total, count| total.saturating_add(*count)),
            };
            [name.clone(), total.to_string()].into_iter().chain(counts.iter().map(u64::to_string)).collect()
        })
        .collect();
    let numbered: Vec<String> = (0..shards.len()).map(|shard| format!("shard {shard}")).collect();
    let heads: Vec<&str> = ["counter", "total"].into_iter().chain(numbered.iter().map(String::as_str)).collect();
    let mut text = overview;
    if let Some(steering) = steering {
        text.push_str(&format!("steering  {}\n", show_steering(steering)));
    }
    if !processes.is_empty() {
        text.push_str(&format!("\n{}", show_processes(processes)));
    }
    if !rows.is_empty() {
        text.push_str(&format!("\n{}", table(&heads, &rows)));
    }
    text
}

fn show_steering(steering: &SteeringStatus) -> String {
    let SteeringStatus { state, steered, left } = steering;
    match steered + left {
        0 => state.clone(),
        _ => format!("{state}, {steered} datagrams to their owners, {left} left to the kernel's choice"),
    }
}

fn show_processes(processes: &[ProcessStatus]) -> String {
    let row = |process: &ProcessStatus| {
        let last = process.reasons.last();
        vec![
            process.name.clone(),
            process.pid.map_or_else(String::new, |pid| pid.to_string()),
            process.state.clone(),
            duration(process.uptime_secs),
            format!("{}", process.memory_bytes >> 20),
            process.shards.to_string(),
            process.restarts.to_string(),
            last.map_or_else(String::new, |restart| restart.reason.clone()),
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    table(&["process", "pid", "state", "up", "MB", "shards", "restarts", "latest reason"], &rows)
}

fn show_reload(reload: &Reload) -> String {
    let Reload { applies, needs_restart } = reload;
    let mut text = match applies.as_slice() {
        [] => "Nothing changes now.".to_owned(),
        keys => format!("Changed: {}", keys.join(", ")),
    };
    if !needs_restart.is_empty() {
        text.push_str(&format!("\nWaits for a restart: {}", needs_restart.join(", ")));
    }
    text
}
