//! Why there is no control socket, each said in one sentence with its remedy.

use super::server::owner;
use crate::executor;
use crate::file_error::FileError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the control socket cannot be opened. The operator reads it.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process listens on it.
    #[error(transparent)]
    InUse(InUse),
    /// Its path does not fit a socket address.
    #[error("the path {} is too long for a socket: choose a shorter data_dir", path.display())]
    LongPath {
        /// The control socket.
        path: PathBuf,
    },
    /// The directory refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its thread does not start.
    #[error(transparent)]
    Executor(#[from] executor::StartError),
}

/// A data directory is another switch's.
#[derive(Debug, Error)]
#[error(
    "another switch{} runs in {}: stop it, or choose another data_dir",
    pid.map_or(String::new(), |pid| format!(", process {pid},")),
    data_dir.display()
)]
pub struct InUse {
    /// The directory of both.
    pub data_dir: PathBuf,
    /// The other's process, where its control socket tells.
    pub pid: Option<i32>,
}

impl InUse {
    /// That the directory is in use; its control socket is asked by whom.
    pub(crate) fn by_another(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), pid: owner(data_dir) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_switch_is_told_by_its_process() {
        let in_use = |pid| InUse { data_dir: "/var/lib/ringswitch".into(), pid }.to_string();
        assert!(in_use(Some(7)).starts_with("another switch, process 7, runs in /var/lib/ringswitch: "));
        assert!(in_use(None).starts_with("another switch runs in "));
    }
}
