//! Accounts, their providers and dial plans, CDRs, and what scripts keep. They live in one SQLite file, which the command
//! line and operators write.
//!
//! A running switch never asks the file for a request: [`Watcher`] copies it into memory and follows its changes.
//! Of an account no password is kept, only the H(A1) of each digest algorithm (RFC 7616 §3.4.2, §5.13); of a provider the
//! password is, because there the switch is the client.

mod aor;
mod cdrs;
mod database;
mod key_values;
mod plans;
mod providers;
mod rows;
mod watcher;
mod writes;

pub use aor::Aor;
pub use cdrs::{CdrPage, CdrRow};
pub use database::{AccountsError, Database};
pub use key_values::{
    KeyValueAnswer, KeyValueQuery, KeyValueReply, KeyValues, MAX_KEY_OCTETS, MAX_KEYS, MAX_VALUE_OCTETS,
};
pub use rows::Page;
pub use watcher::{Change, Everything, Sink, Watcher};

/// Forgets removals of providers and plans that no running switch can have missed.
const KEPT_REMOVALS: &str = "DELETE FROM named_removal WHERE removed < unixepoch() - 30 * 86400";

use arrayvec::ArrayVec;
use serde::{Serialize, Serializer};
use sip::digest::{Algorithm, Ha1};

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// Its address of record.
    #[serde(flatten)]
    pub aor: Aor,
    /// What verifies its credentials, one per algorithm, strongest first. Serialized as the algorithms' names.
    #[serde(rename = "algorithms", serialize_with = "as_tokens")]
    pub ha1: ArrayVec<Ha1, 3>,
    /// A disabled account is treated as an unknown one.
    pub enabled: bool,
    /// Whether its requests may go to domains which are not ours.
    pub may_relay: bool,
    /// In place of `registrar.max_bindings`.
    pub max_bindings: Option<u16>,
    /// In place of `registrar.max_expires_secs`.
    pub max_expires_secs: Option<u32>,
    /// Unix time in seconds; what is added gets it from the database.
    pub created: i64,
}

impl Account {
    /// An enabled account without any special right.
    pub fn new(aor: Aor, password: &[u8]) -> Self {
        let ha1 = ha1(&aor, password);
        Self { aor, ha1, enabled: true, may_relay: false, max_bindings: None, max_expires_secs: None, created: 0 }
    }

    /// Replaces the password.
    pub fn set_password(&mut self, password: &[u8]) {
        self.ha1 = ha1(&self.aor, password);
    }
}

/// The realm of an account is its domain.
fn ha1(aor: &Aor, password: &[u8]) -> ArrayVec<Ha1, 3> {
    Algorithm::STRONGEST_FIRST
        .into_iter()
        .map(|algorithm| Ha1::new(algorithm, aor.user.as_bytes(), aor.domain.as_bytes(), password))
        .collect()
}

fn as_tokens<S: Serializer>(ha1: &[Ha1], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ha1.iter().map(|ha1| ha1.algorithm().token()))
}
