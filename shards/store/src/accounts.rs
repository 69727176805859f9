//! Who may register and call here: the accounts, in memory, as the shards read them.
//!
//! The table is a copy. Its source is the operator's database, which one thread at the edge watches and copies from; a
//! shard only reads. An account takes 190 to 330 octets, as full as the table is.
//!
//! No password is here, only the digests H(A1) of user, realm and password (RFC 2617 §3.2.2.2, RFC 7616 §3.4.2), one an
//! algorithm, because the algorithm is the client's choice (RFC 8760 §2.4). They open the account as a password would,
//! so they are never printed.

use crate::hash::KeyedHash;
use dashmap::DashMap;

/// An account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// H(A1) by MD5.
    pub ha1_md5: [u8; 16],
    /// H(A1) by SHA-256.
    pub ha1_sha256: [u8; 32],
    /// H(A1) by SHA-512/256.
    pub ha1_sha512_256: [u8; 32],
    /// An account that is not enabled is treated as if it were unknown.
    pub enabled: bool,
    /// May have requests forwarded to other domains.
    pub may_relay: bool,
    /// Most bindings at a time, where it differs from the registrar's.
    pub max_bindings: Option<u16>,
    /// Longest a binding is granted for, where it differs from the registrar's.
    pub max_expires_secs: Option<u32>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("enabled", &self.enabled)
            .field("may_relay", &self.may_relay)
            .field("max_bindings", &self.max_bindings)
            .field("max_expires_secs", &self.max_expires_secs)
            .finish_non_exhaustive()
    }
}

/// All accounts, by AOR: the canonical `user@domain`. Many threads read, one writes.
#[derive(Debug)]
pub struct Accounts {
    rows: DashMap<Box<str>, Row, KeyedHash>,
}

#[derive(Debug)]
struct Row {
    account: Account,
    /// Whether [`Accounts::replace_all`], while it runs, has met this row.
    met: bool,
}

impl Accounts {
    /// An empty table. `key` is secret (see [`AorId`](crate::AorId)).
    pub fn new(key: [u8; 16]) -> Self {
        Self { rows: DashMap::with_hasher(KeyedHash::new(key)) }
    }

    /// The account of `aor`, enabled or not.
    pub fn find(&self, aor: &str) -> Option<Account> {
        self.rows.get(aor).map(|row| row.account)
    }

    /// Whether `aor` has an account that is enabled.
    pub fn exists(&self, aor: &str) -> bool {
        self.rows.get(aor).is_some_and(|row| row.account.enabled)
    }

    /// How many accounts there are, enabled or not.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes or changes the account of `aor`.
    pub fn put(&self, aor: &str, account: Account) {
        self.rows.insert(aor.into(), Row { account, met: false });
    }

    /// Takes the account of `aor` away.
    pub fn remove(&self, aor: &str) {
        self.rows.remove(aor);
    }

    /// Makes these the accounts, and no others. An account that was and stays is there at every moment between.
    pub fn replace_all(&self, accounts: impl IntoIterator<Item = (Box<str>, Account)>) {
        for (aor, account) in accounts {
            self.rows.insert(aor, Row { account, met: true });
        }
        self.rows.retain(|_, row| std::mem::take(&mut row.met));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(max_bindings: u16) -> Account {
        Account {
            ha1_md5: [0xA5; 16],
            ha1_sha256: [0xA5; 32],
            ha1_sha512_256: [0xA5; 32],
            enabled: true,
            may_relay: false,
            max_bindings: Some(max_bindings),
            max_expires_secs: None,
        }
    }

    #[test]
    fn accounts_are_put_changed_and_removed() {
        let accounts = Accounts::new([1; 16]);
        assert!(accounts.is_empty() && !accounts.exists("alice@example.com"));
        accounts.put("alice@example.com", account(1));
        accounts.put("alice@example.com", account(2));
        assert_eq!(accounts.find("alice@example.com"), Some(account(2)));
        assert!(accounts.exists("alice@example.com") && accounts.len() == 1);
        accounts.remove("alice@example.com");
        assert_eq!(accounts.find("alice@example.com"), None);
    }

    #[test]
    fn a_disabled_account_is_found_but_does_not_exist() {
        let accounts = Accounts::new([1; 16]);
        accounts.put("alice@example.com", Account { enabled: false, ..account(1) });
        assert!(accounts.find("alice@example.com").is_some() && !accounts.exists("alice@example.com"));
    }

    #[test]
    fn replacing_all_keeps_no_other() {
        let accounts = Accounts::new([1; 16]);
        accounts.put("alice@example.com", account(1));
        accounts.put("bob@example.com", account(1));
        for round in 2..4 {
            let now = ["bob@example.com", "carol@example.com"].map(|aor| (Box::from(aor), account(round)));
            accounts.replace_all(now);
            assert_eq!(accounts.len(), 2);
            assert_eq!(accounts.find("bob@example.com"), Some(account(round)));
            assert!(accounts.exists("carol@example.com") && !accounts.exists("alice@example.com"));
        }
    }

    #[test]
    fn digests_are_never_printed() {
        let shown = format!("{:?}", account(1));
        assert!(!shown.contains("165") && !shown.contains("ha1"), "{shown}");
    }

    #[test]
    fn a_row_takes_at_most_100_octets() {
        assert!(size_of::<Row>() <= 100, "{}", size_of::<Row>());
    }
}
