//! Copies the accounts into memory at start, then follows their changes on a thread of its own.
//!
//! SQLite's `data_version` says cheaply whether another connection has written; the change numbers of the schema say what.

use super::{Account, AccountsError, Aor, Database};
use std::{
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

/// How often the file is looked at; a change is seen that much later at most.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// What holds the accounts in memory.
pub trait AccountSink: Send + 'static {
    /// Takes a new account, or the new state of a known one.
    fn put(&mut self, account: Account);
    /// Forgets an account, which it need not know.
    fn remove(&mut self, aor: Aor);
    /// Makes these the accounts, and no others.
    fn replace_all(&mut self, accounts: Vec<Account>);
}

/// The thread that follows the file. It ends when this is dropped.
pub struct Watcher {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Puts every account into `sink`, then begins to follow.
    pub fn start(file: &Path, mut sink: impl AccountSink) -> Result<Self, AccountsError> {
        let mut database = Database::open(file)?;
        let mut follower = Follower { version: database.data_version()?, last: 0 };
        follower.last = database.load(&mut sink)?;

        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("accounts".to_owned())
            .spawn(move || {
                let mut failing = false;
                while stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    let followed = follower.follow(&mut database, &mut sink);
                    match &followed {
                        Err(error) if !failing => {
                            tracing::error!(%error, "changes of accounts are not seen; trying on")
                        }
                        Ok(()) if failing => tracing::info!("changes of accounts are seen again"),
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
    fn follow(&mut self, database: &mut Database, sink: &mut impl AccountSink) -> Result<(), AccountsError> {
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
