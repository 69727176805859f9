//! The rows of call detail records.

use super::database::{AccountsError, Database};
use rusqlite::{Row, params};
use serde::Serialize;
use std::borrow::Cow;
use store::Cdr;

/// The columns that [`cdr`] reads, in its order.
const COLUMNS: &str = "call, leg, direction, user, caller, callee, plan, provider, account_code, call_id, source, \
                       attempted_at, progress_at, answered_at, ended_at, ended_by, status, reason";

// A record that is there already was offered twice, after a crash.
const INSERT: &str = "INSERT INTO cdr (call, leg, direction, user, caller, callee, plan, provider, account_code, call_id, \
    source, attempted_at, progress_at, answered_at, ended_at, ended_by, status, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
    ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";

/// A record as the database, JSON lines and the command line show it. Times are Unix time in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CdrRow<'a> {
    /// Number of the call, 32 hexadecimal digits.
    pub call: Cow<'a, str>,
    /// Number of the leg within the call; 0 is the caller's.
    pub leg: u16,
    /// `in` or `out`.
    pub direction: Cow<'a, str>,
    /// Whose call this is.
    pub user: Cow<'a, str>,
    /// The caller's URI.
    pub caller: Cow<'a, str>,
    /// The URI that was called on this leg.
    pub callee: Cow<'a, str>,
    /// Name of the plan that ran.
    pub plan: Cow<'a, str>,
    /// Name of the provider that the leg went through.
    pub provider: Cow<'a, str>,
    /// Whom to charge.
    pub account_code: Cow<'a, str>,
    /// The leg's Call-ID.
    pub call_id: Cow<'a, str>,
    /// The far end's address.
    pub source: Cow<'a, str>,
    /// When the INVITE came or went.
    pub attempted_at: i64,
    /// When it began to ring.
    pub progress_at: Option<i64>,
    /// When it was answered.
    pub answered_at: Option<i64>,
    /// When it ended.
    pub ended_at: i64,
    /// Who ended it: [`store::EndedBy::word`].
    pub ended_by: Cow<'a, str>,
    /// The final status; 0 if there was none.
    pub status: u16,
    /// Its reason.
    pub reason: Cow<'a, str>,
}

impl<'a> From<Cdr<'a>> for CdrRow<'a> {
    fn from(cdr: Cdr<'a>) -> Self {
        Self {
            call: format!("{:032x}", cdr.id.call).into(),
            leg: cdr.id.leg,
            direction: cdr.direction.word().into(),
            user: cdr.user.into(),
            caller: cdr.caller.into(),
            callee: cdr.callee.into(),
            plan: cdr.plan.into(),
            provider: cdr.provider.into(),
            account_code: cdr.account_code.into(),
            call_id: cdr.call_id.into(),
            source: cdr.source.into(),
            attempted_at: cdr.attempted_at.cast_signed(),
            progress_at: cdr.progress_at.map(u64::cast_signed),
            answered_at: cdr.answered_at.map(u64::cast_signed),
            ended_at: cdr.ended_at.cast_signed(),
            ended_by: cdr.ended_by.word().into(),
            status: cdr.status,
            reason: cdr.reason.into(),
        }
    }
}

/// Which records to list: the latest of those that fit, oldest first.
#[derive(Clone, Debug)]
pub struct CdrPage {
    /// Only those of this user, as `user@domain`.
    pub user: Option<String>,
    /// Only those that ended at this time or later, in Unix milliseconds.
    pub since: i64,
    /// How many at most.
    pub limit: u32,
}

impl Database {
    /// Adds records, all or none; those that are there already are left as they are.
    pub fn add_cdrs<'a>(&mut self, cdrs: impl Iterator<Item = Cdr<'a>>) -> Result<(), AccountsError> {
        let added = self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for row in cdrs.map(CdrRow::from) {
                insert.execute(params![
                    row.call,
                    row.leg,
                    row.direction,
                    row.user,
                    row.caller,
                    row.callee,
                    row.plan,
                    row.provider,
                    row.account_code,
                    row.call_id,
                    row.source,
                    row.attempted_at,
                    row.progress_at,
                    row.answered_at,
                    row.ended_at,
                    row.ended_by,
                    row.status,
                    row.reason,
                ])?;
            }
            Ok(())
        });
        added.map_err(|error| self.sqlite(error))
    }

    /// A page of records.
    pub fn list_cdrs(&self, page: &CdrPage) -> Result<Vec<CdrRow<'static>>, AccountsError> {
        let list = || {
            let user = if page.user.is_some() { "user = ?1 AND" } else { "?1 IS NULL AND" };
            let sql = format!(
                "SELECT {COLUMNS} FROM cdr WHERE {user} ended_at >= ?2 ORDER BY ended_at DESC, call, leg LIMIT ?3"
            );
            let mut select = self.connection().prepare_cached(&sql)?;
            select.query_map(params![page.user, page.since, page.limit], cdr)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut listed = list().map_err(|error| self.sqlite(error))?;
        listed.reverse();
        Ok(listed)
    }
}

fn cdr(row: &Row<'_>) -> rusqlite::Result<CdrRow<'static>> {
    let text = |column: usize| row.get::<_, String>(column).map(Cow::Owned);
    Ok(CdrRow {
        call: text(0)?,
        leg: row.get(1)?,
        direction: text(2)?,
        user: text(3)?,
        caller: text(4)?,
        callee: text(5)?,
        plan: text(6)?,
        provider: text(7)?,
        account_code: text(8)?,
        call_id: text(9)?,
        source: text(10)?,
        attempted_at: row.get(11)?,
        progress_at: row.get(12)?,
        answered_at: row.get(13)?,
        ended_at: row.get(14)?,
        ended_by: text(15)?,
        status: row.get(16)?,
        reason: text(17)?,
    })
}
