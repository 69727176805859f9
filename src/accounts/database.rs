//! The SQLite file: opening, migrating, following its changes. Errors are sentences for the operator.

use super::{
    Aor,
    plans::each_plan,
    providers::each_provider,
    rows::each_account,
    watcher::{Change, Everything, Sink},
};
use rusqlite::{CachedStatement, Connection, OpenFlags, Row, Transaction, TransactionBehavior, ffi};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Each brings the schema from the version of its index to the next one; `user_version` counts those that ran.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// How long another writer is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the accounts do not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// Adding an account that is there.
    #[error("the account {0} exists already; change it with `ringswitch account set {0}`")]
    Exists(Aor),
    /// Naming an account that is not there.
    #[error("there is no account {0}; `ringswitch account list` shows those there are")]
    Unknown(Aor),
    /// Adding a provider that is there, or a plan.
    #[error("{owner} has a {kind} {name} already; change it with `ringswitch {kind} set`")]
    NameTaken {
        /// `provider` or `plan`.
        kind: &'static str,
        /// Whose.
        owner: Aor,
        /// Its name.
        name: String,
    },
    /// Naming a provider that is not there, or a plan.
    #[error("{owner} has no {kind} {name}; `ringswitch {kind} list` shows those there are")]
    UnknownName {
        /// `provider` or `plan`.
        kind: &'static str,
        /// Whose.
        owner: Aor,
        /// Its name.
        name: String,
    },
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
        // The processes of a switch open it at the same time. While one makes it a WAL database, SQLite refuses the others at once,
        // whatever the time that they would wait; so they take turns here, until each has its connection.
        let turn = directory(dir).map_err(faulty(dir))?;
        flock(&turn, FlockOperation::LockExclusive).map_err(|errno| faulty(dir)(errno.into()))?;

        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = |error| AccountsError::Sqlite { file: file.to_owned(), error };
        let mut connection = Connection::open_with_flags(file, flags).map_err(sqlite)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
        // A commit is on the disk: a CDR leaves our own journal for it.
        connection.pragma_update(None, "synchronous", "full").map_err(sqlite)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        match migrate(&mut connection).map_err(sqlite)? {
            version if version as usize > MIGRATIONS.len() => {
                Err(AccountsError::Newer { file: file.to_owned(), version })
            }
            _ => Ok(Self { file: file.to_owned(), connection }),
        }
    }

    /// Differs from its last value when another connection has written.
    pub(super) fn data_version(&self) -> Result<i64, AccountsError> {
        let read = |mut statement: CachedStatement<'_>| statement.query_row([], |row| row.get(0));
        self.connection.prepare_cached("PRAGMA data_version").and_then(read).map_err(|error| self.sqlite(error))
    }

    /// Hands over everything there is and returns the number of the last change.
    pub(super) fn load(&mut self, sink: &mut impl Sink) -> Result<i64, AccountsError> {
        self.changes(-1, sink)
    }

    /// Hands over what has changed behind the change numbered `after` and returns the number of the last one. If that is
    /// less, as in a backup which has been restored, what is handed over is all that there is.
    pub(super) fn changes(&mut self, after: i64, sink: &mut impl Sink) -> Result<i64, AccountsError> {
        self.read(|snapshot| {
            if last_change(snapshot)? < after {
                let mut all = Everything::default();
                each_account(snapshot, -1, |account| all.accounts.push(account))?;
                each_provider(snapshot, -1, |provider| all.providers.push(provider))?;
                each_plan(snapshot, -1, |plan| all.plans.push(plan))?;
                sink.replace_all(all);
                return Ok(());
            }
            // No name is in both: the triggers see to it.
            each(snapshot, "SELECT user, domain FROM removal WHERE changed > ?1", [after], |row| {
                sink.apply(Change::AccountGone(Aor { user: row.get(0)?, domain: row.get(1)? }));
                Ok(())
            })?;
            each(snapshot, "SELECT kind, user, domain, name FROM named_removal WHERE changed > ?1", [after], |row| {
                let (owner, name) = (Aor { user: row.get(1)?, domain: row.get(2)? }, row.get(3)?);
                sink.apply(match row.get_ref(0)?.as_str()? {
                    "plan" => Change::PlanGone { owner, name },
                    _ => Change::ProviderGone { owner, name },
                });
                Ok(())
            })?;
            each_account(snapshot, after, |account| sink.apply(Change::Account(account)))?;
            each_provider(snapshot, after, |provider| sink.apply(Change::Provider(provider)))?;
            each_plan(snapshot, after, |plan| sink.apply(Change::Plan(plan)))
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

    /// Writes all or nothing.
    pub(super) fn write<T, E: From<rusqlite::Error>>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = write(&transaction)?;
        transaction.commit()?;
        Ok(written)
    }

    /// For reading what a single statement can tell.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The error with the name of the file.
    pub(super) fn told(&self, error: RowError) -> AccountsError {
        match error {
            RowError::Sqlite(error) => self.sqlite(error),
            RowError::Told(error) => error,
        }
    }

    pub(super) fn sqlite(&self, error: rusqlite::Error) -> AccountsError {
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

/// The directory, to be locked.
#[expect(clippy::disallowed_methods, reason = "accounts are opened by the command line and the watcher, by no core")]
fn directory(dir: &Path) -> io::Result<File> {
    File::open(dir)
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

/// Why a row is not written: an error of ours, or one of SQLite's that lacks the name of the file yet.
pub(super) enum RowError {
    Sqlite(rusqlite::Error),
    Told(AccountsError),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<AccountsError> for RowError {
    fn from(error: AccountsError) -> Self {
        Self::Told(error)
    }
}

impl RowError {
    /// This error, unless SQLite complains of a constraint of the kind `code`: then `told`.
    pub(super) fn on(code: i32, told: impl FnOnce() -> AccountsError) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| match error.sqlite_error() {
            Some(ffi::Error { extended_code, .. }) if *extended_code == code => Self::Told(told()),
            _ => Self::Sqlite(error),
        }
    }
}

/// Calls `take` with each row.
pub(super) fn each(
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
