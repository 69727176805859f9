//! Why the clerk cannot start, each said in one sentence with its remedy.

use crate::io;
use glommio::{GlommioError, ReactorErrorKind};
use std::path::PathBuf;
use store::journal::BadHeader;
use thiserror::Error;

/// Why the clerk cannot start. The operator reads it.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal's directory is locked.
    #[error(
        "another switch{} runs in {}: stop it, or choose another data_dir",
        pid.map_or(String::new(), |pid| format!(", process {pid},")),
        data_dir.display()
    )]
    InUse {
        /// The directory of both.
        data_dir: PathBuf,
        /// The other's process, where its control socket tells.
        pid: Option<i32>,
    },
    /// A segment is of another version of this program.
    #[error("cannot read {}: {fault}; run the version of ringswitch that wrote it", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What its header tells.
        fault: BadHeader,
    },
    /// The control socket's path does not fit a socket address.
    #[error("the path {} is too long for a socket: choose a shorter data_dir", path.display())]
    LongPath {
        /// The control socket.
        path: PathBuf,
    },
    /// A file or directory refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// What to.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// io_uring refuses.
    #[error(transparent)]
    Ring(#[from] io::StartError),
    /// The thread that writes CDRs cannot be started.
    #[error("no thread can be started: {0}; raise the limits of tasks and of memory")]
    Thread(std::io::Error),
    /// The thread has ended without a word.
    #[error("the thread of the journal or of the control socket has died at its start; its panic is on stderr")]
    Died,
}

impl StartError {
    /// Why there is no executor.
    pub(super) fn executor(error: GlommioError<()>) -> Self {
        Self::Ring(match error {
            GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit, _)) => {
                io::StartError::LockedMemory { limit: Some(limit) }
            }
            other => io::explain_here(super::disk::system_error(other)),
        })
    }

    /// Why a file cannot be used.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_lockable_memory_is_told_with_its_remedy() {
        let error = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(65_536, 524_288));
        let told = StartError::executor(error).to_string();
        assert!(told.contains("64 KiB of memory may be locked") && told.contains("LimitMEMLOCK="), "{told}");
    }

    #[test]
    fn another_switch_is_told_by_its_process() {
        let in_use = |pid| StartError::InUse { data_dir: "/var/lib/ringswitch".into(), pid }.to_string();
        assert!(in_use(Some(7)).starts_with("another switch, process 7, runs in /var/lib/ringswitch: "));
        assert!(in_use(None).starts_with("another switch runs in "));
    }
}
