//! `ringswitch cdr`: call detail records from the database, whether or not the switch runs.

use super::{Failure, Json, table::table};
use crate::{
    accounts::{Aor, CdrPage, CdrRow, Database},
    config::Config,
};
use clap::Args;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub(super) struct CdrArgs {
    /// Only those of this user, as user@domain.
    #[arg(long, value_name = "ACCOUNT")]
    user: Option<String>,
    /// Only those that ended within this time, such as 90s, 15m, 8h or 7d.
    #[arg(long, value_name = "TIME", value_parser = span)]
    since: Option<u64>,
    /// How many at most: the latest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

pub(super) fn list(config: &Config, args: CdrArgs) -> Result<(), Failure> {
    let CdrArgs { user, since, limit, json } = args;
    let user = user.map(|text| Aor::parse(&text, config.default_domain())).transpose().map_err(Failure::Wrong)?;
    let since = since.map_or(0, |secs| now_ms().saturating_sub(secs.saturating_mul(1000).cast_signed()));
    let page = CdrPage { user: user.map(|user| user.to_string()), since, limit };
    let records = Database::open(&config.database())?.list_cdrs(&page)?;
    json.print(&records, |records| show(records))?;
    if records.len() == limit as usize && !json.json {
        eprintln!("There may be earlier ones: raise --limit.");
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the command line asks for times before now")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Seconds of a time such as `15m`.
fn span(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let secs = units.iter().find_map(|(unit, secs)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*secs)
    });
    secs.ok_or_else(|| "write a number and a unit, such as 90s, 15m, 8h or 7d".to_owned())
}

fn show(records: &[CdrRow<'_>]) -> String {
    if records.is_empty() {
        return "There are no such records.".to_owned();
    }
    let row = |cdr: &CdrRow<'_>| {
        let talked = cdr.answered_at.map(|at| tenths((cdr.ended_at - at).max(0))).unwrap_or_default();
        vec![
            time(cdr.attempted_at),
            cdr.call.get(..8).unwrap_or(&cdr.call).to_owned(),
            cdr.leg.to_string(),
            cdr.direction.to_string(),
            cdr.caller.to_string(),
            cdr.callee.to_string(),
            format!("{} {}", cdr.status, cdr.reason),
            talked,
            cdr.ended_by.to_string(),
            cdr.user.to_string(),
            cdr.plan.to_string(),
            cdr.provider.to_string(),
        ]
    };
    let heads = [
        "attempted (UTC)",
        "call",
        "leg",
        "way",
        "caller",
        "callee",
        "status",
        "talked",
        "ended by",
        "user",
        "plan",
        "provider",
    ];
    table(&heads, &records.iter().map(row).collect::<Vec<_>>())
}

/// Such as `61.5s`.
fn tenths(ms: i64) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}

/// Unix milliseconds as `2026-11-22 23:30:00`, by the Gregorian calendar.
fn time(ms: i64) -> String {
    let secs = ms.div_euclid(1000);
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Years that begin with March, so that the day which is sometimes missing is the last one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!([span("90s"), span("15m"), span("8h"), span("7d")].map(Result::unwrap), [90, 900, 28_800, 604_800]);
        assert!(["", "7", "d", "-1h", "99999999999999999999d"].iter().all(|text| span(text).is_err()));
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_795_390_200_999), "2026-11-22 23:30:00");
        assert_eq!(tenths(61_580), "61.5s");
    }
}
