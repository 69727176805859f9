//! The writer of call detail records: a thread that takes them from the clerk's queue into the database, in batches of one
//! transaction each, and to a file of JSON lines where the configuration names one.
//!
//! A record is acknowledged when the transaction is on the disk; until then the journal keeps it. So whatever refuses, the
//! database or the file, is told, tried again, and costs nothing but time. A crash between the two writes doubles a line of
//! the file, never a row; lines with the same `call` and `leg` are the same record.
#![expect(clippy::disallowed_methods, reason = "the edge: this thread owns its files and waits")]

use crate::accounts::{CdrRow, Database};
use crate::io::Waker;
use anyhow::Context;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use store::{CdrId, PackedCdr};

/// Records on the way to the database; some 4 MB. More wait in the journal.
const QUEUE_RECORDS: usize = 8192;

/// Records in a transaction.
const BATCH_RECORDS: usize = 2048;

/// How long a batch gathers, so that few transactions serve many records.
const GATHER: Duration = Duration::from_millis(50);

/// From one try to the next, while something refuses.
const RETRY: Duration = Duration::from_secs(1);

/// Where records go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database.
    pub database: PathBuf,
    /// The file of JSON lines. One that was renamed or removed is made anew for the next batch, so that rotation needs no
    /// more than a rename.
    pub json_lines: Option<PathBuf>,
}

/// The clerk's end.
pub(crate) struct Queue {
    records: SyncSender<PackedCdr<'static>>,
    written: Arc<Mutex<Vec<CdrId>>>,
    capacity: usize,
}

/// The database's end.
pub(crate) struct Outlet {
    pub(crate) records: Receiver<PackedCdr<'static>>,
    written: Arc<Mutex<Vec<CdrId>>>,
}

impl Outlet {
    /// The database has these.
    pub(crate) fn written(&self, ids: impl Iterator<Item = CdrId>) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }
}

impl Queue {
    /// Both ends, for so many records on the way.
    pub(crate) fn new(capacity: usize) -> (Self, Outlet) {
        let (sender, records) = mpsc::sync_channel(capacity);
        let written = Arc::new(Mutex::new(Vec::new()));
        (Self { records: sender, written: Arc::clone(&written), capacity }, Outlet { records, written })
    }

    /// Hands a record over, if there is room.
    pub(crate) fn push(&self, record: PackedCdr<'static>) -> bool {
        self.records.try_send(record).is_ok()
    }

    /// How many may be on the way.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the database has records that were not told by [`Self::take_written`] yet.
    pub(crate) fn has_written(&self) -> bool {
        !self.written.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Appends the names of what the database has.
    pub(crate) fn take_written(&self, ids: &mut Vec<CdrId>) {
        ids.append(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The running thread.
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread. It wakes the clerk by `clerk` when records are written.
    pub(crate) fn start(settings: Settings, clerk: Arc<Waker>) -> std::io::Result<(Queue, Self)> {
        let (queue, outlet) = Queue::new(QUEUE_RECORDS);
        let stop = Arc::new(AtomicBool::new(false));
        let work =
            Work { place: Place { database: None, lines: None, settings }, outlet, clerk, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("cdr".to_owned()).spawn(move || work.run())?;
        Ok((queue, Self { thread, stop }))
    }

    /// Ends the thread, when the queue is dropped: it writes what is queued. What cannot be written stays in the journal.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes CDRs had panicked; what it had not written is in the journal");
        }
    }
}

struct Work {
    place: Place,
    outlet: Outlet,
    clerk: Arc<Waker>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self) {
        while let Ok(first) = self.outlet.records.recv() {
            let batch = self.gather(first);
            let mut is_failing = false;
            while let Err(error) = self.place.write(&batch) {
                if !is_failing {
                    tracing::error!("CDRs cannot be written and wait in the journal, trying on: {error:#}");
                }
                is_failing = true;
                if self.stop.load(Ordering::Acquire) {
                    tracing::warn!("CDRs that could not be written stay in the journal, for the next start");
                    return;
                }
                std::thread::park_timeout(RETRY);
            }
            if is_failing {
                tracing::warn!("CDRs can be written again");
            }
            self.outlet.written(batch.iter().map(PackedCdr::id));
            self.clerk.wake();
        }
    }

    fn gather(&self, first: PackedCdr<'static>) -> Vec<PackedCdr<'static>> {
        let mut batch = vec![first];
        let mut take_more = || {
            batch.extend(self.outlet.records.try_iter().take(BATCH_RECORDS - batch.len()));
            batch.len()
        };
        if take_more() < BATCH_RECORDS {
            // Not a wait for each record: that would be a wake-up for each.
            std::thread::park_timeout(GATHER);
            take_more();
        }
        batch
    }
}

/// The database and the file.
struct Place {
    settings: Settings,
    database: Option<Database>,
    lines: Option<File>,
}

impl Place {
    /// Writes a batch to both, onto the medium.
    fn write(&mut self, batch: &[PackedCdr<'_>]) -> anyhow::Result<()> {
        // The lines first: a crash behind them offers the batch again, one before them would leave them out for ever.
        self.write_lines(batch)?;
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(Database::open(&self.settings.database)?),
        };
        Ok(database.add_cdrs(batch.iter().map(PackedCdr::read))?)
    }

    fn write_lines(&mut self, batch: &[PackedCdr<'_>]) -> anyhow::Result<()> {
        let Some(path) = &self.settings.json_lines else { return Ok(()) };
        let failed = || format!("the file of CDRs {}", path.display());
        let mut lines = Vec::new();
        for record in batch {
            serde_json::to_writer(&mut lines, &CdrRow::from(record.read())).with_context(failed)?;
            lines.push(b'\n');
        }
        let file = match self.lines.take().filter(|file| is_at(file, path)) {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(failed)?,
        };
        let before = file.metadata().with_context(failed)?.len();
        if let Err(error) = (&file).write_all(&lines).and_then(|()| file.sync_data()) {
            // A full disk takes a part of it.
            let _ = file.set_len(before);
            return Err(error).with_context(failed);
        }
        self.lines = Some(file);
        Ok(())
    }
}

/// Whether the open file is still the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    let named = std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    named.is_some() && file.metadata().map(|open| (open.dev(), open.ino())).ok() == named
}
