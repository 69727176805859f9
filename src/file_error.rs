//! A file or directory that refuses, told in one sentence.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What could not be done to what, and why. The operator reads it.
#[derive(Debug, Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct FileError {
    /// What was being done.
    pub what: &'static str,
    /// What to.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl FileError {
    /// Makes one of what the system says.
    pub(crate) fn of(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { what, path, source }
    }
}
