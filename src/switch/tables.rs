//! From the database into the tables that all shards read: accounts, providers and plans.

use crate::accounts::{self, Change, Everything};
use crate::shard::app::probe;
use agent::Secret;
use appserver::Tables;
use sip::digest::{Algorithm, Ha1};

/// Copies accounts, providers and plans from the database into the tables.
pub(crate) struct Sink {
    tables: Tables,
    /// Whether the prober's account and plan are among them.
    probed: bool,
    /// Stands for a digest that the database lacks: nobody's password has it.
    absent: [u8; 32],
}

impl Sink {
    /// Fills `tables`.
    pub(crate) fn new(tables: &Tables, secret: &Secret) -> Self {
        Self { tables: tables.clone(), probed: false, absent: absent_digest(secret) }
    }

    /// Fills `tables` of an application server that the switch probes.
    pub(crate) fn with_probe(tables: &Tables, secret: &Secret) -> Self {
        Self { probed: true, ..Self::new(tables, secret) }
    }

    fn row(&self, account: &accounts::Account) -> (String, store::Account) {
        let digest = |algorithm: Algorithm| {
            let known = account.ha1.iter().find(|ha1| ha1.algorithm() == algorithm);
            known.map_or(&self.absent[..algorithm.octets()], Ha1::octets)
        };
        fn array<const N: usize>(octets: &[u8]) -> [u8; N] {
            octets.try_into().expect("a digest has its algorithm's length")
        }
        let row = store::Account {
            ha1_md5: array(digest(Algorithm::Md5)),
            ha1_sha256: array(digest(Algorithm::Sha256)),
            ha1_sha512_256: array(digest(Algorithm::Sha512_256)),
            enabled: account.enabled,
            may_relay: account.may_relay,
            max_bindings: account.max_bindings,
            max_expires_secs: account.max_expires_secs,
        };
        (account.aor.to_string(), row)
    }
}

impl accounts::Sink for Sink {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Account(account) => {
                let (aor, row) = self.row(&account);
                self.tables.accounts.put(&aor, row);
            }
            Change::AccountGone(aor) => self.tables.accounts.remove(&aor.to_string()),
            Change::Provider(provider) => self.tables.providers.put(provider),
            Change::ProviderGone { owner, name } => self.tables.providers.remove(&owner.to_string(), &name),
            Change::Plan(plan) => self.tables.plans.put(plan),
            Change::PlanGone { owner, name } => self.tables.plans.remove(&owner.to_string(), &name),
        }
    }

    fn replace_all(&mut self, everything: Everything) {
        let rows = everything.accounts.iter().map(|account| self.row(account)).map(|(aor, row)| (aor.into(), row));
        self.tables.accounts.replace_all(rows);
        self.tables.providers.replace_all(everything.providers);
        self.tables.plans.replace_all(everything.plans);
        if self.probed {
            self.tables.accounts.put(&probe::aor(), probe::account(self.absent));
            self.tables.plans.put(probe::plan());
        }
    }
}

fn absent_digest(secret: &Secret) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&secret.derive("absent digest, first half"));
    digest[16..].copy_from_slice(&secret.derive("absent digest, second half"));
    digest
}
