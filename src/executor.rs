//! The executors of glommio that a process has, each on a thread of its own: the clerk's, and that of the control socket.
//!
//! Nothing else runs by one: a shard's turn is synchronous ([`crate::io`]).

use crate::io;
use glommio::{
    ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind, timer::sleep,
};
use std::sync::mpsc;
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
/// side thread for one. It wakes this often, so that it does not sleep for long then.
const BEAT: Duration = Duration::from_millis(20);

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
        serve: impl FnOnce(mpsc::Sender<T>) -> F + Send + 'static,
    ) -> Result<(Self, T), StartError> {
        let (started, starting) = mpsc::channel();
        let run = move || async move {
            glommio::spawn_local(beat()).detach();
            serve(started).await
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

/// Wakes the executor now and then, for ever.
async fn beat() {
    loop {
        sleep(BEAT).await;
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

    #[test]
    fn too_little_lockable_memory_is_told_with_its_remedy() {
        let error = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(65_536, 524_288));
        let told = explain(error).to_string();
        assert!(told.contains("64 KiB of memory may be locked") && told.contains("LimitMEMLOCK="), "{told}");
    }
}
