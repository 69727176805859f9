//! The SQLite file: opening, migrating, reading and writing accounts. Errors are sentences for the operator.

use super::{Account, AccountSink, Aor};
use arrayvec::ArrayVec;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    params,
};
use sip::digest::{Algorithm, Ha1};
use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Each brings the schema from the version of its index to the next one; `user_version` counts those that ran.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// How long another writer is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A removal older than this is forgotten: no running switch can have missed it.
const REMOVAL_KEPT_SECS: u32 = 30 * 86_400;

/// The columns that [`account`] reads, in its order.
const COLUMNS: &str = "user, domain, unhex(ha1_sha512_256), unhex(ha1_sha256), unhex(ha1_md5), \
                       enabled, may_relay, max_bindings, max_expires_secs, created";

/// Why the accounts do not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// Adding an account that is there.
    #[error("the account {0} exists already; change it with `ringswitch account set {0}`")]
    Exists(Aor),
    /// Naming an account that is not there.
    #[error("there is no account {0}; `ringswitch account list` shows those there are")]
    Unknown(Aor),
    /// A file or directory cannot be made or opened.
    #[error("cannot open {}: {error}; run this as the user of the switch, or set `data_dir` to a place of your own", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A later version of ringswitch has migrated the file.
    #[error("{} has schema version {version}, this ringswitch knows up to {}; use a newer one", file.display(), MIGRATIONS.len())]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// SQLite complains.
    #[error("the accounts in {} fail: {error}", file.display())]
    Sqlite {
        /// The database.
        file: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
}

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

/// A connection to the accounts.
pub struct Database {
    file: PathBuf,
    connection: Connection,
}

impl Database {
    /// Opens the database `file`, making it, its directory and its tables when they lack.
    pub fn open(file: &Path) -> Result<Self, AccountsError> {
        let faulty = |place: &Path| {
            let file = place.to_owned();
            |error| AccountsError::File { file, error }
        };
        let dir = file.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(faulty(dir))?;
        create(file, dir).map_err(faulty(file))?;

        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = |error| AccountsError::Sqlite { file: file.to_owned(), error };
        let mut connection = Connection::open_with_flags(file, flags).map_err(sqlite)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
        match migrate(&mut connection).map_err(sqlite)? {
            version if version as usize > MIGRATIONS.len() => {
                Err(AccountsError::Newer { file: file.to_owned(), version })
            }
            _ => Ok(Self { file: file.to_owned(), connection }),
        }
    }

    /// Adds accounts, all or none.
    pub fn add(&mut self, accounts: impl IntoIterator<Item = Account>) -> Result<(), AccountsError> {
        let file = self.file.clone();
        let sqlite = |error| AccountsError::Sqlite { file: file.clone(), error };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        {
            let sql = "INSERT INTO account (user, domain, ha1_sha512_256, ha1_sha256, ha1_md5, enabled, may_relay, \
                       max_bindings, max_expires_secs) \
                       VALUES (?1, ?2, nullif(lower(hex(?3)), ''), nullif(lower(hex(?4)), ''), nullif(lower(hex(?5)), ''), ?6, ?7, ?8, ?9)";
            let mut insert = transaction.prepare_cached(sql).map_err(sqlite)?;
            for account in accounts {
                let inserted = insert.execute(params![
                    account.aor.user,
                    account.aor.domain,
                    octets(&account, Algorithm::Sha512_256),
                    octets(&account, Algorithm::Sha256),
                    octets(&account, Algorithm::Md5),
                    account.enabled,
                    account.may_relay,
                    account.max_bindings,
                    account.max_expires_secs,
                ]);
                match inserted {
                    Err(error)
                        if error.sqlite_error().is_some_and(|e| e.extended_code == SQLITE_CONSTRAINT_PRIMARYKEY) =>
                    {
                        return Err(AccountsError::Exists(account.aor));
                    }
                    inserted => inserted.map_err(sqlite)?,
                };
            }
        }
        transaction.commit().map_err(sqlite)
    }

    /// Changes one account by `change`, which leaves its name as it is.
    pub fn set(&mut self, aor: &Aor, change: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        let file = self.file.clone();
        let sqlite = |error| AccountsError::Sqlite { file: file.clone(), error };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let mut account =
            find(&transaction, aor).map_err(sqlite)?.ok_or_else(|| AccountsError::Unknown(aor.clone()))?;
        change(&mut account);
        let sql = "UPDATE account SET ha1_sha512_256 = nullif(lower(hex(?3)), ''), ha1_sha256 = nullif(lower(hex(?4)), ''), \
                   ha1_md5 = nullif(lower(hex(?5)), ''), enabled = ?6, may_relay = ?7, max_bindings = ?8, max_expires_secs = ?9 \
                   WHERE user = ?1 AND domain = ?2";
        let values = params![
            aor.user,
            aor.domain,
            octets(&account, Algorithm::Sha512_256),
            octets(&account, Algorithm::Sha256),
            octets(&account, Algorithm::Md5),
            account.enabled,
            account.may_relay,
            account.max_bindings,
            account.max_expires_secs,
        ];
        transaction.execute(sql, values).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)
    }

    /// Removes one account.
    pub fn remove(&mut self, aor: &Aor) -> Result<(), AccountsError> {
        let remove = || {
            let old = "DELETE FROM removal WHERE removed < unixepoch() - ?1";
            self.connection.execute(old, [REMOVAL_KEPT_SECS])?;
            self.connection
                .execute("DELETE FROM account WHERE user = ?1 AND domain = ?2", params![aor.user, aor.domain])
        };
        match remove().map_err(|error| self.sqlite(error))? {
            0 => Err(AccountsError::Unknown(aor.clone())),
            _ => Ok(()),
        }
    }

    /// One account.
    pub fn show(&self, aor: &Aor) -> Result<Account, AccountsError> {
        find(&self.connection, aor)
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
            let mut select = self.connection.prepare_cached(&sql)?;
            select
                .query_map(params![after.0, after.1, page.domain, page.limit], account)?
                .collect::<rusqlite::Result<_>>()
        };
        list().map_err(|error| self.sqlite(error))
    }

    /// Differs from its last value when another connection has written.
    pub(super) fn data_version(&self) -> Result<i64, AccountsError> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(|error| self.sqlite(error))
    }

    /// Puts every account into `sink` and returns the number of the last change.
    pub(super) fn load(&mut self, sink: &mut impl AccountSink) -> Result<i64, AccountsError> {
        self.read(|snapshot| {
            each(snapshot, &format!("SELECT {COLUMNS} FROM account"), (), |row| {
                account(row).map(|account| sink.put(account))
            })
        })
    }

    /// Hands over what has changed behind the change numbered `after` and returns the number of the last one. If that is
    /// less, as in a backup which has been restored, these are the accounts and no others.
    pub(super) fn changes(&mut self, after: i64, sink: &mut impl AccountSink) -> Result<i64, AccountsError> {
        self.read(|snapshot| {
            if last_change(snapshot)? < after {
                let mut accounts = Vec::new();
                let all = format!("SELECT {COLUMNS} FROM account");
                each(snapshot, &all, (), |row| account(row).map(|account| accounts.push(account)))?;
                sink.replace_all(accounts);
                return Ok(());
            }
            // No name is in both: the triggers see to it.
            each(snapshot, "SELECT user, domain FROM removal WHERE changed > ?1", [after], |row| {
                sink.remove(Aor { user: row.get(0)?, domain: row.get(1)? });
                Ok(())
            })?;
            let changed = format!("SELECT {COLUMNS} FROM account WHERE changed > ?1");
            each(snapshot, &changed, [after], |row| account(row).map(|account| sink.put(account)))
        })
    }

    /// Reads from one state of the file, and returns the number of the last change in it.
    fn read(&mut self, read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Result<i64, AccountsError> {
        let file = self.file.clone();
        let last = || {
            let snapshot = self.connection.transaction()?;
            let last = last_change(&snapshot)?;
            read(&snapshot)?;
            Ok(last)
        };
        last().map_err(|error| AccountsError::Sqlite { file, error })
    }

    fn sqlite(&self, error: rusqlite::Error) -> AccountsError {
        AccountsError::Sqlite { file: self.file.clone(), error }
    }
}

/// Makes the file for its owner's eyes only: an H(A1) is as good as its password. What root makes belongs to the owner of
/// the directory, so that the switch can open what the administrator began.
#[expect(clippy::disallowed_methods, reason = "accounts are opened by the command line and the watcher, by no core")]
fn create(file: &Path, dir: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(made) => {
            let owner = std::fs::metadata(dir)?;
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::fchown(&made, Some(owner.uid()), Some(owner.gid()))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs the migrations that lack. Returns the version which the schema then has.
fn migrate(connection: &mut Connection) -> rusqlite::Result<u32> {
    let version = |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let found: u32 = version(connection)?;
    if found as usize >= MIGRATIONS.len() {
        return Ok(found);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated while this one waited for its turn to write.
    let found: u32 = version(&transaction)?;
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    let version = found.max(MIGRATIONS.len() as u32);
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    Ok(version)
}

fn last_change(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT last FROM change", (), |row| row.get(0))
}

fn each(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params)?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
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

fn octets(account: &Account, algorithm: Algorithm) -> Option<&[u8]> {
    account.ha1.iter().find(|ha1| ha1.algorithm() == algorithm).map(Ha1::octets)
}
