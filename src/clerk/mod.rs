//! The clerk: one glommio executor per process, on a thread of its own, which owns the journal.
//!
//! 1. Before any shard runs, [`replay`] reads the journal back, on two threads: bindings into the table, established calls
//!    for the application servers, and which CDRs the database does not have yet.
//! 2. [`Clerk::start`] takes the other ends of the shards' journal links.
//! 3. A shard pushes a batch of records and wakes the clerk. Whatever waits in all rings goes to the disk as one group:
//!    one write that returns when it is on the medium, and a settlement to each shard. While a group is being written the
//!    next one gathers, and where groups have become long a little longer, so that the cost of a commit is shared.
//!    It goes over zeros that were written before ([`spare`]).
//! 4. When the disk refuses, the group is settled as not kept, its tail is cut off, and what follows is refused without
//!    a try until a second has passed. Nothing is acknowledged that is not on the disk.
//! 5. Between groups the oldest segment is compacted by small steps (the rule is in [`store::journal`]).
//! 6. CDRs that are committed go to a thread which writes them to the database ([`crate::cdr`]).
//! 7. [`Clerk::stop`] writes what the rings still hold, then ends.
//!
//! The write is the one thing that the clerk's thread itself waits for: nothing of it is more urgent, and to have glommio
//! wait took some ten system calls, and two works for the kernel's own threads. The control socket has an executor of its own
//! ([`crate::control`]), so that no commit holds it up. The clerk never touches a packet, and a shard never waits
//! for it.
#![expect(
    clippy::disallowed_methods,
    reason = "the clerk is part of the edge: it owns the journal's files, and reads the clock"
)]

mod cdrs;
mod compaction;
mod disk;
mod journal;
mod kept;
mod replay;
mod scan;
mod spare;
mod start;
mod state;
#[cfg(test)]
mod tests;

pub use replay::{Ahead, Damaged, Replayed, read_ahead, replay, replay_rest};
pub use start::StartError;
pub use state::JournalState;

use crate::executor::{Activity, Executor, system_error};
use crate::io::{JournalInlet, Waker, share};
use crate::{cdr, config};
use cdrs::Cdrs;
use disk::Files;
use glommio::{Latency, Placement, Shares};
use journal::Journal;
use kept::Kept;
use spare::Spares;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use store::Bindings;

/// How long the journal goes on before the executor's other tasks have their turn, and its rings are read.
const TURN: Duration = Duration::from_millis(1);

/// The shortest sleep. One that has passed when it begins gives nobody a turn.
const NAP: Duration = Duration::from_micros(20);

/// What the operator chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sizes of segments and groups.
    pub journal: config::Journal,
    /// The core that the clerk keeps to; None lets the kernel choose.
    pub core: Option<usize>,
    /// Where CDRs go; None in a process that has no calls.
    pub cdrs: Option<cdr::Settings>,
}

/// A running clerk.
pub struct Clerk {
    executor: Executor,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    state: Arc<JournalState>,
    cdr_writer: Option<cdr::Writer>,
}

impl Clerk {
    /// Starts the clerk's thread. `inlets` are the ends of all shards' links, which wake the clerk by `waker`;
    /// `replayed` tells where the journal that filled `bindings` ends, which is an empty table in a process without a
    /// registrar.
    pub fn start(
        settings: Settings,
        inlets: Vec<JournalInlet>,
        waker: Arc<Waker>,
        bindings: Arc<Bindings>,
        replayed: Replayed,
    ) -> Result<Self, StartError> {
        Self::start_on(Files::new, settings, inlets, waker, bindings, replayed)
    }

    /// The same on a disk of one's own, made of the journal's directory.
    fn start_on<D: disk::Disk + Clone + 'static>(
        disk: impl FnOnce(PathBuf) -> D + Send + 'static,
        settings: Settings,
        inlets: Vec<JournalInlet>,
        waker: Arc<Waker>,
        bindings: Arc<Bindings>,
        replayed: Replayed,
    ) -> Result<Self, StartError> {
        let placement = settings.core.map_or(Placement::Unbound, Placement::Fixed);
        let stop = Arc::new(AtomicBool::new(false));
        let state = Arc::new(JournalState::default());
        let cdr_writer = settings.cdrs.clone().map(|settings| cdr::Writer::start(settings, waker.clone()));
        let (cdr_queue, cdr_writer) = cdr_writer.transpose().map_err(StartError::Thread)?.unzip();
        let serve = {
            let (stop, state, waker) = (stop.clone(), state.clone(), waker.clone());
            move |started: mpsc::Sender<()>, activity: Rc<Activity>| async move {
                let Replayed { segments, directory, lock, call_index: calls, cdr_index, .. } = replayed;
                let queue = |shares, name| {
                    glommio::executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
                };
                let (journal_queue, spare_queue) = (queue(1000, "journal"), queue(100, "spare"));
                let starting = activity.begin();
                share::be_let_in(0);
                // The first sleep registers the process with membarrier(2), which takes some 10 ms; no commit waits for it.
                glommio::timer::sleep(Duration::from_micros(100)).await;
                let files = disk(directory);
                let spares = Rc::new(Spares::new(settings.journal.segment_bytes));
                if spares.make(&files).await.is_err() {
                    // It is tried again, and told.
                    spares.want_next();
                }
                let _ = started.send(());
                drop(starting);

                let keep_ready = {
                    let (files, spares, activity) = (files.clone(), spares.clone(), activity.clone());
                    async move { spares.keep_ready(&files, &activity).await }
                };
                let keeping = glommio::spawn_local_into(keep_ready, spare_queue).expect("the queue was made above");
                let kept = Kept { bindings, calls, cdrs: Cdrs::new(cdr_index, cdr_queue) };
                let journal = Journal::new(
                    files.clone(),
                    &settings.journal,
                    segments,
                    spares.clone(),
                    inlets,
                    kept,
                    state.clone(),
                );
                let window = Duration::from_micros(settings.journal.window_usecs.into());
                let writing =
                    glommio::spawn_local_into(write(journal, window, waker, stop, activity.clone()), journal_queue);
                let written = writing.expect("the queue was made above").await;
                let _ending = activity.begin();
                if let Err(error) = &written {
                    state.set_fault(Some(error.to_string()));
                    tracing::error!(%error, "the journal has stopped; no registration and no call is accepted");
                }
                keeping.cancel().await;
                spares.remove(&files).await;
                drop(lock);
                written
            }
        };
        let (executor, ()) = Executor::start("clerk", placement, serve)?;
        Ok(Self { executor, stop, waker, state, cdr_writer })
    }

    /// How the journal is doing.
    pub fn journal_state(&self) -> Arc<JournalState> {
        self.state.clone()
    }

    /// Ends the clerk, after the shards: writes and settles what is left in their rings.
    pub fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let stopped = self.executor.join();
        // The clerk has dropped the queue.
        self.cdr_writer.into_iter().for_each(cdr::Writer::stop);
        stopped
    }
}

/// Commits until the clerk is stopped and the rings are empty. After a group that is longer than a page, and has left nothing
/// behind, the next one begins a `window` later at the earliest.
async fn write<D: disk::Disk>(
    mut journal: Journal<D>,
    window: Duration,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    activity: Rc<Activity>,
) -> io::Result<()> {
    let doorbell = waker.to_file()?;
    let mut under_way = None;
    let mut slept = Instant::now();
    loop {
        waker.prepare_to_sleep();
        let stops = stop.load(Ordering::Acquire);
        if stops && journal.is_drained() {
            journal.close().await;
            return Ok(());
        }
        if !stops && journal.is_idle(Instant::now()) {
            drop(under_way.take());
            doorbell.read_at(0, size_of::<u64>()).await.map_err(system_error)?;
            slept = Instant::now();
        }
        under_way.get_or_insert_with(|| activity.begin());
        waker.stay_awake();
        let began = Instant::now();
        let is_long = journal.commit(began).await;
        let gathering = if is_long { window.saturating_sub(began.elapsed()) } else { Duration::ZERO };
        if gathering > Duration::ZERO || slept.elapsed() >= TURN {
            glommio::timer::sleep(gathering.max(NAP)).await;
            slept = Instant::now();
        }
    }
}
