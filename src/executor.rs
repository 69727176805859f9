//! The executors of glommio that a process has, each on a thread of its own: the clerk's, and that of the control socket.
//!
//! Nothing else runs by one: a shard's turn is synchronous ([`crate::io`]).

use crate::io;
use futures_lite::FutureExt as _;
use glommio::{
    ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind, timer::sleep,
};
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;
use thiserror::Error;

/// Memory which an executor registers with its rings, for direct I/O. None is done, so this is the least it takes.
const REGISTERED_OCTETS: usize = 64 << 10;

/// Operations that an executor may have under way.
const RING_DEPTH: usize = 64;

/// When an executor takes the processor from a task that has more to do: no task here computes for long, and
/// when this timer fires at the wrong moment, glommio 0.9 sleeps although a task could run.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Any event of an executor's latency ring which wakes no task can have that effect at that moment, the completion of a
/// side thread for one. It wakes this often while something is under way, so that it does not sleep for long then.
const BEAT: Duration = Duration::from_millis(20);

/// The same while nothing is, and so no such event comes. Each time costs some 150 µs in caches that have gone cold, and a membarrier(2) that interrupts
/// the shards.
const CALM: Duration = Duration::from_secs(10);

/// Side threads of an executor: the clerk's for what a file system does without io_uring, that of the control socket for a request.
const SIDE_THREADS: usize = 1;

/// Why there is no executor. The operator reads it.
#[derive(Debug, Error)]
pub enum StartError {
    /// io_uring refuses.
    #[error(transparent)]
    Ring(io::StartError),
    /// The thread has ended without a word.
    #[error("the {0} thread has died at its start; its panic is on stderr")]
    Died(&'static str),
}

/// A running executor.
pub(crate) struct Executor {
    thread: ExecutorJoinHandle<std::io::Result<()>>,
}

impl Executor {
    /// Starts one that runs what `serve` gives, and ends with it. Returns what that tells first.
    pub(crate) fn start<T: Send + 'static, F: Future<Output = std::io::Result<()>> + 'static>(
        name: &'static str,
        placement: Placement,
        serve: impl FnOnce(mpsc::Sender<T>, Rc<Activity>) -> F + Send + 'static,
    ) -> Result<(Self, T), StartError> {
        let (started, starting) = mpsc::channel();
        let run = move || async move {
            let activity = Rc::new(Activity::default());
            glommio::spawn_local(beat(activity.clone())).detach();
            serve(started, activity).await
        };
        let builder = LocalExecutorBuilder::new(placement)
            .name(name)
            .io_memory(REGISTERED_OCTETS)
            .ring_depth(RING_DEPTH)
            .preempt_timer(NEVER)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(SIDE_THREADS));
        let thread = builder.spawn(run).map_err(explain)?;
        match starting.recv() {
            Ok(told) => Ok((Self { thread }, told)),
            // The executor was not made: its error is what the thread ends with.
            Err(mpsc::RecvError) => Err(thread.join().err().map_or(StartError::Died(name), explain)),
        }
    }

    /// Waits for its end.
    pub(crate) fn join(self) -> std::io::Result<()> {
        self.thread.join().unwrap_or_else(|error| Err(std::io::Error::other(error.to_string())))
    }
}

/// Whether anything is under way in an executor, as far as its tasks tell.
#[derive(Default)]
pub(crate) struct Activity {
    under_way: Cell<usize>,
    /// Something has begun or ended since it was last looked.
    lately: Cell<bool>,
    awaited: Cell<Option<Waker>>,
}

/// What is under way until this is dropped.
pub(crate) struct UnderWay(Rc<Activity>);

impl Activity {
    /// Begins something that is more than to wait for what others send.
    pub(crate) fn begin(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        self.lately.set(true);
        if let Some(beat) = self.awaited.take() {
            beat.wake();
        }
        UnderWay(self.clone())
    }

    /// Whether something was under way since the last call.
    fn was_any(&self) -> bool {
        self.lately.replace(false) || self.under_way.get() > 0
    }

    /// Waits until something begins.
    async fn some(&self) {
        poll_fn(|context| match self.lately.get() {
            true => Poll::Ready(()),
            false => {
                self.awaited.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.under_way.set(activity.under_way.get() - 1);
        activity.lately.set(true);
    }
}

/// Wakes the executor now and then, for ever.
async fn beat(activity: Rc<Activity>) {
    loop {
        sleep(BEAT).await;
        if !activity.was_any() {
            activity.some().or(sleep(CALM)).await;
        }
    }
}

fn explain(error: GlommioError<()>) -> StartError {
    StartError::Ring(match error {
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit, _)) => {
            io::StartError::LockedMemory { limit: Some(limit) }
        }
        other => io::explain_here(system_error(other)),
    })
}

/// The error that the system gave, where glommio wraps it in its own words.
pub(crate) fn system_error<T>(error: GlommioError<T>) -> std::io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn something_is_under_way_from_its_begin_to_its_end_and_is_told_once_more() {
        let activity = Rc::new(Activity::default());
        assert!(!activity.was_any());
        let under_way = activity.begin();
        assert!(activity.was_any() && activity.was_any());
        drop(under_way);
        assert!(activity.was_any() && !activity.was_any());
    }

    #[test]
    fn who_waits_for_something_to_begin_is_woken() {
        let activity = Rc::new(Activity::default());
        let mut waiting = Box::pin(activity.some());
        assert!(block_on(poll_once(&mut waiting)).is_none());
        let beginner = async {
            futures_lite::future::yield_now().await;
            drop(activity.begin());
        };
        block_on(futures_lite::future::zip(waiting, beginner));
    }

    #[test]
    fn too_little_lockable_memory_is_told_with_its_remedy() {
        let error = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(65_536, 524_288));
        let told = explain(error).to_string();
        assert!(told.contains("64 KiB of memory may be locked") && told.contains("LimitMEMLOCK="), "{told}");
    }
}
