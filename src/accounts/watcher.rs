//! Copies accounts, providers and dial plans into memory at start, then follows their changes on a thread of its own.
//!
//! The kernel tells of writes, SQLite's `data_version` cheaply whether another connection has committed any; the change numbers of the schema say what.

use super::{Account, AccountsError, Aor, Database, writes::Writes};
use std::{
    io::{self, PipeWriter},
    path::Path,
    thread::JoinHandle,
};
use store::{Plan, Provider};

/// What holds accounts, providers and plans in memory.
pub trait Sink: Send + 'static {
    /// Takes a change.
    fn apply(&mut self, change: Change);
    /// Makes this all that there is.
    fn replace_all(&mut self, everything: Everything);
}

/// What has changed: a new row or the new state of a known one, or a name that has gone and need not be known.
#[derive(Clone, Debug)]
pub enum Change {
    /// An account.
    Account(Account),
    /// An account has gone.
    AccountGone(Aor),
    /// An account with a provider.
    Provider(Provider),
    /// An account with a provider has gone.
    ProviderGone {
        /// Whose it was.
        owner: Aor,
        /// Its name.
        name: String,
    },
    /// A dial plan.
    Plan(Plan),
    /// A dial plan has gone.
    PlanGone {
        /// Whose it was.
        owner: Aor,
        /// Its name.
        name: String,
    },
}

/// All that there is.
#[derive(Clone, Debug, Default)]
pub struct Everything {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Accounts with providers.
    pub providers: Vec<Provider>,
    /// Dial plans.
    pub plans: Vec<Plan>,
}

/// The thread that follows the file. It ends when this is dropped.
pub struct Watcher {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Puts everything into `sink`, then begins to follow.
    pub fn start(file: &Path, mut sink: impl Sink) -> Result<Self, AccountsError> {
        let mut database = Database::open(file)?;
        let mut follower = Follower { version: database.data_version()?, last: 0 };
        follower.last = database.load(&mut sink)?;

        let (stopped, stop) = io::pipe().map_err(|error| AccountsError::File { file: file.to_owned(), error })?;
        let mut writes = Writes::to(file, stopped);
        let thread = std::thread::Builder::new()
            .name("accounts".to_owned())
            .spawn(move || {
                let mut failing = false;
                while writes.wait() {
                    let followed = follower.follow(&mut database, &mut sink);
                    match &followed {
                        Err(error) if !failing => {
                            tracing::error!(%error, "changes of accounts, providers and plans are not seen; trying on")
                        }
                        Ok(()) if failing => tracing::info!("changes of accounts, providers and plans are seen again"),
                        _ => {}
                    }
                    failing = followed.is_err();
                }
            })
            .map_err(|error| AccountsError::File { file: file.to_owned(), error })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows the accounts had panicked");
        }
    }
}

/// How far the file has been read.
struct Follower {
    version: i64,
    last: i64,
}

impl Follower {
    fn follow(&mut self, database: &mut Database, sink: &mut impl Sink) -> Result<(), AccountsError> {
        // Taken before the changes are read: what is written between the two is read again, never missed.
        let version = database.data_version()?;
        if version == self.version {
            return Ok(());
        }
        // Both sides call the sink, one after the other.
        self.last = database.changes(self.last, sink)?;
        self.version = version;
        Ok(())
    }
}
