//! `sys`: the time of day. The zones are those compiled in; the clock is what the run was started with.

use super::{Registry, Sys, int, nearest};
use crate::run::{Raised, with};
use jiff::{
    Timestamp, Zoned,
    civil::{Time, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};
use rhai::{INT, Map};
use std::sync::LazyLock;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

pub(super) fn register(to: &mut Registry) {
    to.method("sys.time() -> map", |_: &mut Sys| now("").map(|now| map(&now)));
    to.method("sys.time(zone) -> map", |_: &mut Sys, zone: &str| now(zone).map(|now| map(&now)));
    to.method("sys.is_time(window) -> bool", |_: &mut Sys, window: &str| is_time(window, ""));
    to.method("sys.is_time(window, zone) -> bool", |_: &mut Sys, window: &str, zone: &str| is_time(window, zone));
    to.method("sys.unix_time() -> int", |_: &mut Sys| with(|current| int(current.unix().as_secs())));
}

/// Now in a zone; the user's own where `zone` is empty.
fn now(zone: &str) -> Result<Zoned, Raised> {
    with(|current| {
        // The zones stay with the process once they are read.
        current.apart(|current| {
            let name = if zone.is_empty() { &*current.facts.zone } else { zone };
            let zone = match name {
                "" => TimeZone::UTC,
                name => ZONES.get(name).map_err(|_| unknown_zone(name))?,
            };
            let seconds = i64::try_from(current.unix().as_secs()).map_err(|_| "the clock is far off")?;
            let now = Timestamp::from_second(seconds).map_err(|_| "the clock is far off")?;
            Ok(now.to_zoned(zone))
        })
    })
}

fn unknown_zone(name: &str) -> String {
    let zones: Vec<_> = ZONES.available().collect();
    let hint = nearest(name, zones.iter().map(|zone| zone.as_str()));
    format!("there is no time zone `{name}`; {}", hint.unwrap_or_else(|| "write one like `Europe/Berlin`".to_owned()))
}

fn map(now: &Zoned) -> Map {
    let mut map = Map::new();
    let mut put = |key: &str, value: INT| drop(map.insert(key.into(), value.into()));
    put("year", now.year().into());
    put("month", now.month().into());
    put("day", now.day().into());
    put("hour", now.hour().into());
    put("minute", now.minute().into());
    put("second", now.second().into());
    map.insert("weekday".into(), DAYS[day(now.weekday())].into());
    map.insert("text".into(), now.strftime("%Y-%m-%d %H:%M:%S").to_string().into());
    map
}

/// From 0, Monday.
fn day(weekday: Weekday) -> usize {
    weekday.to_monday_zero_offset().unsigned_abs().into()
}

/// Whether now is in a window such as `mon-fri 09:00-17:30`: days, or hours, or both.
fn is_time(window: &str, zone: &str) -> Result<bool, Raised> {
    let now = now(zone)?;
    let (mut days, mut hours) = (None, None);
    for part in window.split_whitespace() {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            let inside = in_hours(part, now.time()).ok_or_else(|| wrong(window))?;
            hours = Some(hours.unwrap_or(false) | inside);
        } else {
            let inside = in_days(part, day(now.weekday())).ok_or_else(|| wrong(window))?;
            days = Some(days.unwrap_or(false) | inside);
        }
    }
    if days.is_none() && hours.is_none() {
        return Err(wrong(window));
    }
    Ok(days.unwrap_or(true) && hours.unwrap_or(true))
}

fn wrong(window: &str) -> Raised {
    format!("`{window}` is no time window; write one like `mon-fri 09:00-17:30` or `sat,sun`").into()
}

/// `09:00-17:30`; one that ends before it begins goes past midnight. The end is outside.
fn in_hours(part: &str, now: Time) -> Option<bool> {
    let (from, to) = part.split_once('-')?;
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        ((hour < 24 && minute < 60) || (hour == 24 && minute == 0)).then_some(hour * 60 + minute)
    };
    let (from, to) = (minutes(from)?, minutes(to)?);
    let now = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
    Some(if from <= to { (from..to).contains(&now) } else { now >= from || now < to })
}

/// `mon-fri,sun`; a range may go past Sunday.
fn in_days(part: &str, today: usize) -> Option<bool> {
    let find = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut inside = false;
    for range in part.split(',') {
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (find(from)?, find(to)?),
            None => (find(range)?, find(range)?),
        };
        inside |= (today + 7 - from) % 7 <= (to + 7 - from) % 7;
    }
    Some(inside)
}
