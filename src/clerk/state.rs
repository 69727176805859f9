//! How the journal is doing, for whoever asks from another thread.

use crate::control::JournalStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Figures of the journal since the start of the process, and what is wrong with it now.
#[derive(Debug, Default)]
pub struct JournalState {
    /// Segments.
    pub segments: AtomicU64,
    /// Octets of all of them.
    pub octets: AtomicU64,
    /// Groups that were committed.
    pub groups: AtomicU64,
    /// Batches that they held.
    pub batches: AtomicU64,
    /// Octets that were written, copies and all.
    pub written: AtomicU64,
    /// Octets of them which were copied from segments under compaction.
    pub copied: AtomicU64,
    /// Segments that compaction has deleted.
    pub deleted: AtomicU64,
    /// Groups that the disk refused, or that were refused without a try.
    pub refused: AtomicU64,
    /// Established calls that it keeps.
    pub calls: AtomicU64,
    /// CDRs that the database does not have yet.
    pub unwritten_cdrs: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl JournalState {
    /// What the disk says, while it keeps nothing.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().expect("nothing panics while it is held").clone()
    }

    /// Whether the last group could not be kept.
    pub fn is_failing(&self) -> bool {
        self.fault.lock().expect("nothing panics while it is held").is_some()
    }

    /// As the control socket tells it.
    pub fn status(&self) -> JournalStatus {
        JournalStatus {
            segments: self.segments.load(Relaxed),
            bytes: self.octets.load(Relaxed),
            state: self.fault().map_or_else(|| "writing".to_owned(), |fault| format!("failing: {fault}")),
        }
    }

    pub(super) fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().expect("nothing panics while it is held") = fault;
    }
}
