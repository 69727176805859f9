//! Why the clerk cannot start, each said in one sentence with its remedy.

use crate::control::InUse;
use crate::executor;
use crate::file_error::FileError;
use std::io;
use std::path::PathBuf;
use store::journal::BadHeader;
use thiserror::Error;

/// Why the clerk cannot start. The operator reads it.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal's directory is locked.
    #[error(transparent)]
    InUse(InUse),
    /// A segment is of another version of this program.
    #[error("cannot read {}: {fault}; run the version of ringswitch that wrote it", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What its header tells.
        fault: BadHeader,
    },
    /// A file or directory refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The clerk's thread does not start.
    #[error(transparent)]
    Executor(#[from] executor::StartError),
    /// The thread that writes CDRs cannot be started.
    #[error("no thread can be started: {0}; raise the limits of tasks and of memory")]
    Thread(io::Error),
}
