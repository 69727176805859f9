//! Keys of dialogs in tables (RFC 3261 §12: Call-ID, local tag, remote tag).

use agent::{PartsHash, Secret};

/// What a table of dialogs is keyed by. Two dialogs may have the same key, so [`crate::Dialog::matches`] has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogKey(pub u64);

/// The keyed hash of dialog identifiers. Outsiders choose most of an identifier: without the secret nobody can aim all his
/// dialogs at one slot.
#[derive(Clone)]
pub struct DialogHash {
    keyed: PartsHash,
}

impl DialogHash {
    /// The hash of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self { keyed: PartsHash::new(secret, "dialog-hash") }
    }

    /// The key of the dialog with that identifier. `remote_tag` is empty while none is known. The lengths count too.
    pub fn key(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> DialogKey {
        let mut parts = self.keyed.begin();
        for part in [call_id, local_tag, remote_tag] {
            parts.put(part);
        }
        DialogKey(parts.hash())
    }
}
