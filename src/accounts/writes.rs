//! Whether somebody may have written to a database: the kernel tells (inotify(7)), and a thread that waits for it sleeps meanwhile.
//!
//! In SQLite's WAL mode each commit writes to the log beside the database, which is there as long as a connection is open. What is written can be
//! read a while later, when it is on the disk and the index of the log has it, of which the kernel tells nothing.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
    io::{Errno, read},
};
use std::{io::PipeReader, os::fd::OwnedFd, path::Path, time::Duration};

/// From one look to the next: what can be read then is seen that much later at most.
const REST: Duration = Duration::from_millis(250);

/// So many looks after a write, which is two seconds, it is waited for the next one.
const LOOKS: u32 = 8;

/// Then how long a write may go unseen of which the kernel tells nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells when to look for writes to one database.
pub(super) struct Writes {
    /// None where the kernel grants none.
    inotify: Option<OwnedFd>,
    /// Ends when its writer is dropped.
    stop: PipeReader,
    /// Looks that are left.
    looks: u32,
}

impl Writes {
    /// Those to the database in `file`, which this process has open, until the writer of `stop` is dropped.
    pub(super) fn to(file: &Path, stop: PipeReader) -> Self {
        // SQLite follows symbolic links.
        let mut log = file.canonicalize().unwrap_or(file.to_owned()).into_os_string();
        log.push("-wal");
        let watch = || -> Result<OwnedFd, Errno> {
            let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            add_watch(&inotify, log, WatchFlags::MODIFY)?;
            Ok(inotify)
        };
        let told = |error: &Errno| tracing::debug!(%error, "changes of accounts are looked for, not told");
        Self { inotify: watch().inspect_err(told).ok(), stop, looks: LOOKS }
    }

    /// Waits until it is time to look again; false if it is over.
    pub(super) fn wait(&mut self) -> bool {
        let goes_on = match self.inotify.as_ref().filter(|_| self.looks == 0) {
            None => self.wait_for(None, REST),
            inotify => self.wait_for(inotify, PATIENCE),
        };
        self.looks = if self.were_any() { LOOKS } else { self.looks.saturating_sub(1) };
        goes_on
    }

    /// Waits that long, or until inotify tells something; false if it is over.
    #[expect(clippy::disallowed_methods, reason = "the accounts' own thread may wait")]
    fn wait_for(&self, inotify: Option<&OwnedFd>, time: Duration) -> bool {
        let timeout = Timespec::try_from(time).expect("it is short");
        let mut descriptors = vec![PollFd::new(&self.stop, PollFlags::IN)];
        descriptors.extend(inotify.map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) => descriptors[0].revents().is_empty(),
            // It is looked once too often.
            Err(Errno::INTR) => true,
            Err(_) => {
                std::thread::sleep(time);
                true
            }
        }
    }

    /// Whether the kernel has told of writes since the last call.
    fn were_any(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let told = || read(inotify, &mut [0; 4096]).is_ok();
        // What it tells does not matter.
        std::iter::from_fn(|| told().then_some(())).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Account, Aor, Database};
    use std::{io, time::Instant};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn a_write_ends_the_wait_for_it_and_is_looked_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("database"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut database = Database::open(&file).unwrap();
        let (stopped, stop) = io::pipe().unwrap();
        let mut writes = Writes::to(&link, stopped);
        for looks in (0..LOOKS).rev() {
            assert!(writes.wait());
            assert_eq!(writes.looks, looks);
        }
        let alice = Aor { user: "alice".into(), domain: "example.com".into() };
        database.add([Account::new(alice, b"secret")]).unwrap();
        let began = Instant::now();
        assert!(writes.wait());
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        assert_eq!(writes.looks, LOOKS);
        drop(stop);
        assert!(!writes.wait());
    }
}
