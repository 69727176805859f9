//! The calls of an application server, as an operator sees them.

use super::app::ShardLink;
use crate::control::{Call, CallLeg, CalledBack, Calls, HungUp, MAX_LISTED};
use crate::shard::app::Order;
use anyhow::{Context, anyhow, bail};
use appserver::CallLine;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long a shard may take to answer: it takes a turn when it is woken.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lists the calls of the server called `server`, at `now` in milliseconds since the Unix epoch.
pub(super) fn list(
    server: &str,
    shards: &[ShardLink],
    user: Option<&str>,
    limit: u32,
    now: u64,
) -> anyhow::Result<Calls> {
    let limit = limit.min(MAX_LISTED) as usize;
    let mut calls = Vec::new();
    for shard in shards {
        let lines = lines(shard)?;
        let wanted = lines.iter().filter(|line| user.is_none_or(|user| *line.user == *user));
        // One more than asked for tells whether there are more.
        calls.extend(wanted.take(limit + 1).map(|line| told(server, line, now)));
    }
    let more = calls.len() > limit;
    calls.truncate(limit);
    Ok(Calls { calls, more })
}

/// Hangs up the one call whose number begins with `digits`.
pub(super) fn hang_up(shards: &[ShardLink], digits: &str) -> anyhow::Result<HungUp> {
    let mut found = Vec::new();
    for shard in shards {
        let numbers = lines(shard)?.into_iter().map(|line| line.number);
        found.extend(numbers.filter(|&number| text(number).starts_with(digits)).map(|number| (shard, number)));
    }
    let (shard, number) = match found[..] {
        [one] => one,
        [] => bail!("there is no call whose number begins with {digits}"),
        _ => bail!("{} calls have numbers that begin with {digits}; give more digits", found.len()),
    };
    let (done, is_done) = mpsc::sync_channel(1);
    shard.order(Order::HangUp(number, done))?;
    match is_done.recv_timeout(PATIENCE).context("the shard of that call does not answer")? {
        true => Ok(HungUp { call: text(number) }),
        false => Err(anyhow!("the call {} has just ended", text(number))),
    }
}

/// Begins a call back, on one shard after the other.
pub(super) fn call_back(shards: &[ShardLink], user: String, dials: [String; 2]) -> anyhow::Result<CalledBack> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let shard = &shards[NEXT.fetch_add(1, Ordering::Relaxed) % shards.len()];
    let (done, begun) = mpsc::sync_channel(1);
    shard.order(Order::CallBack { user, dials, done })?;
    let number = begun.recv_timeout(PATIENCE).context("a shard does not answer")?.map_err(|why| anyhow!(why))?;
    Ok(CalledBack { call: text(number) })
}

fn lines(shard: &ShardLink) -> anyhow::Result<Vec<CallLine>> {
    let (told, heard) = mpsc::sync_channel(1);
    shard.order(Order::Calls(told))?;
    heard.recv_timeout(PATIENCE).context("a shard does not answer")
}

fn text(number: u128) -> String {
    format!("{number:032x}")
}

fn told(server: &str, line: &CallLine, now: u64) -> Call {
    let state = if line.answered_at.is_some() { "answered" } else { "trying" };
    let answered_secs = line.answered_at.map(|at| (now.saturating_sub(at) / 1000) as u32);
    let leg = |direction: &str, peer: &str| CallLeg {
        direction: direction.to_owned(),
        peer: peer.to_owned(),
        state: state.to_owned(),
        answered_secs,
    };
    Call {
        call: text(line.number),
        server: server.to_owned(),
        user: line.user.to_string(),
        plan: String::new(),
        legs: vec![leg("in", &line.caller), leg("out", &line.callee)],
    }
}
