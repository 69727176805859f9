//! The rows of accounts.

use super::database::{AccountsError, Database, RowError, each};
use super::{Account, Aor};
use arrayvec::ArrayVec;
use rusqlite::{Connection, OptionalExtension, Row, ffi::SQLITE_CONSTRAINT_PRIMARYKEY, named_params, params};
use sip::digest::{Algorithm, Ha1};

/// A removal older than this is forgotten: no running switch can have missed it.
const REMOVAL_KEPT_SECS: u32 = 30 * 86_400;

/// The columns that [`account`] reads, in its order.
const COLUMNS: &str = "user, domain, unhex(ha1_sha512_256), unhex(ha1_sha256), unhex(ha1_md5), \
                       enabled, may_relay, max_bindings, max_expires_secs, created";

const INSERT: &str = "INSERT INTO account \
    (user, domain, ha1_sha512_256, ha1_sha256, ha1_md5, enabled, may_relay, max_bindings, max_expires_secs) VALUES \
    (:user, :domain, nullif(lower(hex(:sha512_256)), ''), nullif(lower(hex(:sha256)), ''), nullif(lower(hex(:md5)), ''), \
    :enabled, :may_relay, :max_bindings, :max_expires_secs)";

const UPDATE: &str = "UPDATE account SET ha1_sha512_256 = nullif(lower(hex(:sha512_256)), ''), \
    ha1_sha256 = nullif(lower(hex(:sha256)), ''), ha1_md5 = nullif(lower(hex(:md5)), ''), enabled = :enabled, \
    may_relay = :may_relay, max_bindings = :max_bindings, max_expires_secs = :max_expires_secs \
    WHERE user = :user AND domain = :domain";

/// Which accounts to list: so many, in the order of domain and user, behind one of them.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only those of this domain.
    pub domain: Option<String>,
    /// Only those that come later than this one, which need not exist.
    pub after: Option<Aor>,
    /// How many at most.
    pub limit: u32,
}

impl Database {
    /// Adds accounts, all or none.
    pub fn add(&mut self, accounts: impl IntoIterator<Item = Account>) -> Result<(), AccountsError> {
        let added = self.write(|transaction| {
            for account in accounts {
                let exists = || AccountsError::Exists(account.aor.clone());
                write(transaction, INSERT, &account).map_err(RowError::on(SQLITE_CONSTRAINT_PRIMARYKEY, exists))?;
            }
            Ok(())
        });
        added.map_err(|error| self.told(error))
    }

    /// Changes one account by `change`, which leaves its name as it is.
    pub fn set(&mut self, aor: &Aor, change: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        let set = self.write(|transaction| {
            let mut account = find(transaction, aor)?.ok_or_else(|| AccountsError::Unknown(aor.clone()))?;
            change(&mut account);
            Ok(write(transaction, UPDATE, &account)?)
        });
        set.map_err(|error| self.told(error))
    }

    /// Removes one account, with its providers and plans.
    pub fn remove(&mut self, aor: &Aor) -> Result<(), AccountsError> {
        let removed = self.write(|transaction| {
            let old = "DELETE FROM removal WHERE removed < unixepoch() - ?1";
            transaction.execute(old, [REMOVAL_KEPT_SECS])?;
            transaction.execute("DELETE FROM kv WHERE user = ?1 AND domain = ?2", params![aor.user, aor.domain])?;
            let sql = "DELETE FROM account WHERE user = ?1 AND domain = ?2";
            match transaction.execute(sql, params![aor.user, aor.domain])? {
                0 => Err(AccountsError::Unknown(aor.clone()).into()),
                _ => Ok(()),
            }
        });
        removed.map_err(|error| self.told(error))
    }

    /// One account.
    pub fn show(&self, aor: &Aor) -> Result<Account, AccountsError> {
        find(self.connection(), aor)
            .map_err(|error| self.sqlite(error))?
            .ok_or_else(|| AccountsError::Unknown(aor.clone()))
    }

    /// A page of accounts.
    pub fn list(&self, page: &Page) -> Result<Vec<Account>, AccountsError> {
        let list = || {
            let sql = format!(
                "SELECT {COLUMNS} FROM account WHERE (domain, user) > (?1, ?2) AND (?3 IS NULL OR domain = ?3) \
                 ORDER BY domain, user LIMIT ?4"
            );
            let after = page.after.as_ref().map_or(("", ""), |aor| (&aor.domain, &aor.user));
            let mut select = self.connection().prepare_cached(&sql)?;
            select
                .query_map(params![after.0, after.1, page.domain, page.limit], account)?
                .collect::<rusqlite::Result<_>>()
        };
        list().map_err(|error| self.sqlite(error))
    }
}

/// Every account that has changed behind the change numbered `after`.
pub(super) fn each_account(connection: &Connection, after: i64, mut take: impl FnMut(Account)) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE changed > ?1");
    each(connection, &sql, [after], |row| account(row).map(&mut take))
}

fn write(connection: &Connection, sql: &str, account: &Account) -> rusqlite::Result<()> {
    let octets = |algorithm| account.ha1.iter().find(|ha1| ha1.algorithm() == algorithm).map(Ha1::octets);
    let written = connection.prepare_cached(sql)?.execute(named_params! {
        ":user": account.aor.user,
        ":domain": account.aor.domain,
        ":sha512_256": octets(Algorithm::Sha512_256),
        ":sha256": octets(Algorithm::Sha256),
        ":md5": octets(Algorithm::Md5),
        ":enabled": account.enabled,
        ":may_relay": account.may_relay,
        ":max_bindings": account.max_bindings,
        ":max_expires_secs": account.max_expires_secs,
    });
    written.map(drop)
}

fn find(connection: &Connection, aor: &Aor) -> rusqlite::Result<Option<Account>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM account WHERE user = ?1 AND domain = ?2"))?
        .query_row(params![aor.user, aor.domain], account)
        .optional()
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let mut ha1 = ArrayVec::new();
    for (column, algorithm) in (2..).zip(Algorithm::STRONGEST_FIRST) {
        let octets = row.get_ref(column)?.as_blob_or_null()?;
        ha1.extend(octets.and_then(|octets| Ha1::from_octets(algorithm, octets)));
    }
    Ok(Account {
        aor: Aor { user: row.get(0)?, domain: row.get(1)? },
        ha1,
        enabled: row.get(5)?,
        may_relay: row.get(6)?,
        max_bindings: row.get(7)?,
        max_expires_secs: row.get(8)?,
        created: row.get(9)?,
    })
}
