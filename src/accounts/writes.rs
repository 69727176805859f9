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

/// Looks after a write until it is waited for the next one.
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
        let mut log = file.as_os_str().to_owned();
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
        if !self.wait_for(None, REST) {
            return false;
        }
        self.looks = self.looks.saturating_sub(1);
        let Some(inotify) = self.inotify.as_ref().filter(|_| self.looks == 0) else {
            return true;
        };
        let goes_on = self.wait_for(Some(inotify), PATIENCE);
        // What they tell does not matter: that there are any does.
        while read(inotify, &mut [0; 4096]).is_ok() {
            self.looks = LOOKS;
        }
        goes_on
    }

    /// Waits that long, or until inotify tells something; false if it is over.
    fn wait_for(&self, inotify: Option<&OwnedFd>, time: Duration) -> bool {
        let time = Timespec::try_from(time).expect("it is short");
        let mut descriptors = vec![PollFd::new(&self.stop, PollFlags::IN)];
        descriptors.extend(inotify.map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        // What it may fail for is a signal: then it is looked once too often.
        let _ = poll(&mut descriptors, Some(&time));
        descriptors[0].revents().is_empty()
    }
}
