//! Accounts in their file: what is kept of them, and how a running switch learns of a change.

#![expect(clippy::disallowed_methods, reason = "tests read files and the clock")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use ringswitch::accounts::{Account, AccountSink, AccountsError, Aor, Database, Page, Watcher};
use rusqlite::Connection;
use sip::digest::{Algorithm, Ha1};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

#[test]
fn only_digests_are_kept_and_they_verify_the_password() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    database.add([Account::new(aor("alice@example.com"), b"secret")]).unwrap();

    let kept = database.show(&aor("alice@example.com")).unwrap();
    let expected = Algorithm::STRONGEST_FIRST.map(|algorithm| Ha1::new(algorithm, b"alice", b"example.com", b"secret"));
    assert_eq!(kept.ha1.as_slice(), expected);
    assert!(kept.enabled && !kept.may_relay && kept.created > 0);

    // md5("alice:example.com:secret"), as any other program writes it.
    let text: String = shell(&file).query_row("SELECT ha1_md5 FROM account", (), |row| row.get(0)).unwrap();
    assert_eq!(text, "b1726872c344b6dc8365b774f8fd6412");
    let octets = std::fs::read(&file).unwrap();
    assert!(!octets.windows(6).any(|octets| octets == b"secret"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_name_is_added_once_and_found_until_removed() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    let (alice, bob) = (aor("alice@example.com"), aor("bob@example.com"));
    database.add([Account::new(alice.clone(), b"a")]).unwrap();

    // All or none: bob is not added beside an alice who exists.
    let both = [bob.clone(), alice.clone()].map(|aor| Account::new(aor, b"b"));
    assert!(matches!(database.add(both), Err(AccountsError::Exists(name)) if name == alice));
    assert!(matches!(database.show(&bob), Err(AccountsError::Unknown(_))));

    database.set(&alice, |account| account.max_bindings = Some(3)).unwrap();
    assert_eq!(database.show(&alice).unwrap().max_bindings, Some(3));
    assert!(matches!(database.set(&bob, |_| ()), Err(AccountsError::Unknown(_))));

    database.remove(&alice).unwrap();
    assert!(matches!(database.remove(&alice), Err(AccountsError::Unknown(_))));
}

#[test]
fn pages_follow_one_another_in_the_order_of_domain_and_user() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    let names = ["zoe@a.example", "adam@b.example", "bea@b.example", "carl@b.example"];
    database.add(names.map(|name| Account::new(aor(name), b"x"))).unwrap();

    let page = |domain: Option<&str>, after: Option<&str>| -> Vec<String> {
        let page = Page { domain: domain.map(str::to_owned), after: after.map(aor), limit: 2 };
        database.list(&page).unwrap().iter().map(|account| account.aor.to_string()).collect()
    };
    assert_eq!(page(None, None), names[..2]);
    assert_eq!(page(None, Some(names[1])), names[2..]);
    assert_eq!(page(None, Some(names[3])), [""; 0]);
    assert_eq!(page(Some("b.example"), None), names[1..3]);
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let (_dir, file) = place();
    drop(Database::open(&file).unwrap());
    shell(&file).pragma_update(None, "user_version", 99).unwrap();
    let error = Database::open(&file).err().unwrap().to_string();
    assert!(error.contains("has schema version 99, this ringswitch knows up to 1"), "{error}");
}

#[test]
fn the_watcher_sees_a_change_by_another_connection_within_a_second() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    database.add([Account::new(aor("alice@example.com"), b"a"), Account::new(aor("bob@example.com"), b"b")]).unwrap();
    let seen = Seen::default();
    let _watcher = Watcher::start(&file, seen.clone()).unwrap();
    assert_eq!(seen.names(), ["alice@example.com", "bob@example.com"]);

    // By the command line.
    database.add([Account::new(aor("carl@example.com"), b"c")]).unwrap();
    seen.within_a_second(|seen| seen.names().contains(&"carl@example.com".to_owned()));
    database.set(&aor("carl@example.com"), |account| account.enabled = false).unwrap();
    seen.within_a_second(|seen| !seen.account("carl@example.com").enabled);
    database.remove(&aor("alice@example.com")).unwrap();
    seen.within_a_second(|seen| seen.names() == ["bob@example.com", "carl@example.com"]);

    // By hand, with the sqlite3 shell.
    let shell = shell(&file);
    shell.execute("UPDATE account SET may_relay = 1 WHERE user = 'bob'", ()).unwrap();
    seen.within_a_second(|seen| seen.account("bob@example.com").may_relay);
    shell.execute("UPDATE account SET user = 'bert' WHERE user = 'bob'", ()).unwrap();
    seen.within_a_second(|seen| seen.names() == ["bert@example.com", "carl@example.com"]);
    let md5 = "INSERT INTO account (user, domain, ha1_md5) VALUES ('dora', 'example.com', '0123456789abcdef0123456789ABCDEF')";
    shell.execute(md5, ()).unwrap();
    seen.within_a_second(|seen| seen.names().len() == 3 && seen.account("dora@example.com").ha1.len() == 1);
    shell.execute("DELETE FROM account", ()).unwrap();
    seen.within_a_second(|seen| seen.names().is_empty());

    // Who comes again is no longer removed.
    database.add([Account::new(aor("alice@example.com"), b"a")]).unwrap();
    seen.within_a_second(|seen| seen.names() == ["alice@example.com"]);
    let removed: u32 =
        shell.query_row("SELECT count(*) FROM removal WHERE user = 'alice'", (), |row| row.get(0)).unwrap();
    assert_eq!(removed, 0);
}

#[test]
fn a_restored_backup_holds_what_it_held() {
    let (dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    database.add([Account::new(aor("alice@example.com"), b"a")]).unwrap();
    let backup = dir.path().join("backup.db");
    shell(&file).execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    database.add([Account::new(aor("bob@example.com"), b"b")]).unwrap();
    let seen = Seen::default();
    let _watcher = Watcher::start(&file, seen.clone()).unwrap();
    assert_eq!(seen.names(), ["alice@example.com", "bob@example.com"]);

    // What `.restore` of the sqlite3 shell leaves.
    let restore = "ATTACH '{}' AS backup; BEGIN IMMEDIATE; DELETE FROM account; DELETE FROM removal; \
                   INSERT INTO account SELECT * FROM backup.account; \
                   UPDATE account SET changed = (SELECT b.changed FROM backup.account b WHERE b.user = account.user); \
                   UPDATE change SET last = (SELECT last FROM backup.change); COMMIT";
    shell(&file).execute_batch(&restore.replace("{}", backup.to_str().unwrap())).unwrap();
    seen.within_a_second(|seen| seen.names() == ["alice@example.com"]);
    database.add([Account::new(aor("carl@example.com"), b"c")]).unwrap();
    seen.within_a_second(|seen| seen.names() == ["alice@example.com", "carl@example.com"]);
}

#[test]
fn what_cannot_be_a_digest_or_a_limit_does_not_enter_the_table() {
    let (_dir, file) = place();
    drop(Database::open(&file).unwrap());
    let shell = shell(&file);
    for wrong in
        ["ha1_md5 = 'secret'", "ha1_sha256 = 'zz'", "max_bindings = 0", "enabled = 2", "domain = 'EXAMPLE.com'"]
    {
        shell.execute("INSERT INTO account (user, domain) VALUES ('alice', 'example.com')", ()).unwrap();
        assert!(shell.execute(&format!("UPDATE account SET {wrong}"), ()).is_err(), "{wrong}");
        shell.execute("DELETE FROM account", ()).unwrap();
    }
}

/// Holds what a watcher has told.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, Account>>>);

impl AccountSink for Seen {
    fn put(&mut self, account: Account) {
        self.0.lock().unwrap().insert(account.aor.to_string(), account);
    }

    fn remove(&mut self, aor: Aor) {
        self.0.lock().unwrap().remove(&aor.to_string());
    }

    fn replace_all(&mut self, accounts: Vec<Account>) {
        *self.0.lock().unwrap() = accounts.into_iter().map(|account| (account.aor.to_string(), account)).collect();
    }
}

impl Seen {
    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn account(&self, name: &str) -> Account {
        self.0.lock().unwrap()[name].clone()
    }

    fn within_a_second(&self, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(1), "not seen within a second: {:?}", self.names());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data").join("ringswitch.db");
    (dir, file)
}

fn aor(text: &str) -> Aor {
    Aor::parse(text, "localhost").unwrap()
}

/// As the sqlite3 program would open it.
fn shell(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}
