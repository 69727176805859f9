//! Accounts in their file: what is kept of them, and how a running switch learns of a change.

#![expect(clippy::disallowed_methods, reason = "tests read files and the clock")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use ringswitch::accounts::{
    Account, AccountsError, Aor, CdrPage, Change, Database, Everything, KeyValueAnswer, KeyValueQuery, KeyValues,
    MAX_KEYS, Page, Sink, Watcher,
};
use rusqlite::Connection;
use sip::digest::{Algorithm, Ha1};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use store::{Cdr, CdrId, Direction, EndedBy, LegDirection, Password, Plans, Provider, ProviderSource, Providers};
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
    assert!(error.contains("has schema version 99, this ringswitch knows up to 3"), "{error}");
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

    // After a while without a write it is waited for the next one.
    std::thread::sleep(Duration::from_secs(3));
    database.add([Account::new(aor("erna@example.com"), b"e")]).unwrap();
    seen.within_a_second(|seen| seen.names() == ["erna@example.com"]);
    database.remove(&aor("erna@example.com")).unwrap();

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

#[test]
fn a_provider_goes_with_its_owner_and_the_watcher_sees_both() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    let alice = aor("alice@example.com");
    assert!(matches!(database.add_provider(&alice, &provider("acme")), Err(AccountsError::Unknown(_))));
    database.add([Account::new(alice.clone(), b"secret")]).unwrap();
    database.add_provider(&alice, &provider("acme")).unwrap();
    assert!(matches!(database.add_provider(&alice, &provider("acme")), Err(AccountsError::NameTaken { .. })));
    assert_eq!(database.show_provider(&alice, "acme").unwrap(), provider("acme"));

    let seen = Seen::default();
    let _watcher = Watcher::start(&file, seen.clone()).unwrap();
    let found = || seen.1.find("alice@example.com", "acme");
    assert_eq!(*found().unwrap(), provider("acme"));
    database.set_provider(&alice, "acme", |provider| provider.enabled = false).unwrap();
    seen.within_a_second(|_| !found().unwrap().enabled);
    database.remove(&alice).unwrap();
    seen.within_a_second(|seen| found().is_none() && seen.names().is_empty());
}

#[test]
fn plans_are_chosen_by_direction_and_a_new_text_is_a_new_version() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    let alice = aor("alice@example.com");
    database.add([Account::new(alice.clone(), b"secret")]).unwrap();
    database.set_plan(&alice, "main", "one", &[Direction::In, Direction::Out]).unwrap();
    let seen = Seen::default();
    let _watcher = Watcher::start(&file, seen.clone()).unwrap();
    let chosen = |direction| seen.2.chosen("alice@example.com", direction).map(|text| text.name.to_string());
    let version = || seen.2.named("alice@example.com", "main").unwrap().version;
    let first = version();

    database.set_plan(&alice, "night", "two", &[Direction::In]).unwrap();
    seen.within_a_second(|_| chosen(Direction::In).as_deref() == Some("night"));
    assert_eq!((chosen(Direction::Out).as_deref(), version()), (Some("main"), first), "the text is the same");
    database.set_plan(&alice, "main", "three", &[]).unwrap();
    seen.within_a_second(|_| version() > first);
    assert_eq!(chosen(Direction::Out).as_deref(), Some("main"), "it keeps its direction");
    database.remove_plan(&alice, "main").unwrap();
    seen.within_a_second(|_| chosen(Direction::Out).is_none());
    assert!(matches!(database.remove_plan(&alice, "main"), Err(AccountsError::UnknownName { .. })));
}

#[test]
fn a_record_that_is_written_twice_is_one_row() {
    let (_dir, file) = place();
    let mut database = Database::open(&file).unwrap();
    for _ in 0..2 {
        database.add_cdrs([cdr(0, "alice@example.com"), cdr(1, "bob@example.com")].into_iter()).unwrap();
    }
    let list = |user: Option<&str>, since| {
        let page = CdrPage { user: user.map(str::to_owned), since, limit: 10 };
        database.list_cdrs(&page).unwrap().iter().map(|row| row.leg).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 0), [0, 1]);
    assert_eq!(list(Some("bob@example.com"), 0), [1]);
    assert_eq!(list(None, 1_800_000_000_001), [1]);
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    let (_dir, file) = place();
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let shell = Connection::open(&file).unwrap();
    shell.execute_batch(include_str!("../src/accounts/schema_1.sql")).unwrap();
    shell
        .execute_batch("PRAGMA user_version = 1; INSERT INTO account (user, domain) VALUES ('alice', 'example.com')")
        .unwrap();
    let mut database = Database::open(&file).unwrap();
    database.set_plan(&aor("alice@example.com"), "main", "", &[]).unwrap();
    assert_eq!(database.list_plans(None, 10).unwrap().len(), 1);
}

#[test]
fn keys_and_values_are_kept_by_user_and_bounded() {
    let (_dir, file) = place();
    drop(Database::open(&file).unwrap());
    let store = KeyValues::start(file, &Default::default()).unwrap();
    let ask = |owner: &str, query| {
        let (reply, replied) = std::sync::mpsc::channel();
        store.ask(aor(owner), query, Box::new(move |answer| reply.send(answer).unwrap()));
        replied.recv_timeout(Duration::from_secs(10)).unwrap()
    };
    let put = |key: &str, value: &str| KeyValueQuery::Put(key.into(), value.into());
    let (alice, bob) = ("alice@example.com", "bob@example.com");
    assert_eq!(ask(alice, put("mode", "day")), KeyValueAnswer::Done);
    assert_eq!(ask(alice, put("mode", "night")), KeyValueAnswer::Done);
    assert_eq!(ask(alice, KeyValueQuery::Get("mode".into())), KeyValueAnswer::Value(Some("night".into())));
    assert_eq!(ask(bob, KeyValueQuery::Get("mode".into())), KeyValueAnswer::Value(None));
    assert_eq!(ask(alice, KeyValueQuery::List("m".into())), KeyValueAnswer::Keys(vec!["mode".into()]));
    assert_eq!(ask(alice, KeyValueQuery::Delete("mode".into())), KeyValueAnswer::Done);
    assert_eq!(ask(alice, KeyValueQuery::List(String::new())), KeyValueAnswer::Keys(vec![]));
    assert!(matches!(ask(alice, put("", "x")), KeyValueAnswer::Refused(_)));
    assert!(matches!(ask(alice, put("k", &"x".repeat(5000))), KeyValueAnswer::Refused(_)));
    for n in 0..MAX_KEYS {
        assert_eq!(ask(bob, put(&n.to_string(), "x")), KeyValueAnswer::Done);
    }
    assert!(matches!(ask(bob, put("more", "x")), KeyValueAnswer::Refused(_)));
    assert_eq!(ask(bob, put("7", "another")), KeyValueAnswer::Done, "a known key changes");
}

#[test]
fn one_users_waiting_questions_leave_room_for_others() {
    let (_dir, file) = place();
    drop(Database::open(&file).unwrap());
    let settings = ringswitch::config::Store { max_waiting: 8, max_waiting_per_user: 2 };
    let store = KeyValues::start(file, &settings).unwrap();
    let (told, answers) = std::sync::mpsc::channel();
    let ask = |owner: &'static str| {
        let told = told.clone();
        let reply = Box::new(move |answer| told.send((owner, answer)).unwrap());
        store.ask(aor(owner), KeyValueQuery::Get("mode".into()), reply);
    };
    // Alice's first answer keeps the thread until it is let go.
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let held = Box::new(move |_| {
        begun.send(()).unwrap();
        may_go.recv().unwrap();
    });
    store.ask(aor("alice@example.com"), KeyValueQuery::Get("mode".into()), held);
    has_begun.recv_timeout(Duration::from_secs(10)).unwrap();
    (0..3).for_each(|_| ask("alice@example.com"));
    let next = || answers.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(next(), (_, KeyValueAnswer::Refused(why)) if why.contains("store.max_waiting_per_user")));
    ask("bob@example.com");
    go.send(()).unwrap();
    let order = [next(), next(), next()].map(|(owner, answer)| (owner, answer == KeyValueAnswer::Value(None)));
    assert_eq!(order, ["alice@example.com", "bob@example.com", "alice@example.com"].map(|owner| (owner, true)));
}

fn provider(name: &str) -> Provider {
    Provider {
        owner: "alice@example.com".into(),
        name: name.into(),
        server: "sip:sip.example.net".into(),
        outbound_proxy: Some("sip:proxy.example.net;lr".into()),
        user: "4711".into(),
        auth_user: None,
        password: Password::new("secret"),
        realm: None,
        from: None,
        contact: None,
        headers: Box::new([("X-Account".into(), "a: b".into())]),
        sources: ["192.0.2.0/24", "sip.example.net"].iter().filter_map(|text| ProviderSource::parse(text)).collect(),
        enabled: true,
    }
}

fn cdr(leg: u16, user: &str) -> Cdr<'_> {
    Cdr {
        id: CdrId { call: 7, leg },
        direction: LegDirection::Out,
        attempted_at: 1_700_000_000_000,
        progress_at: None,
        answered_at: None,
        ended_at: 1_800_000_000_000 + u64::from(leg),
        ended_by: EndedBy::Peer,
        status: 486,
        reason: "Busy Here",
        caller: "sip:alice@example.com",
        callee: "sip:bob@example.com",
        user,
        plan: "main",
        provider: "",
        account_code: "",
        call_id: "1@ringswitch.invalid",
        source: "udp 192.0.2.7:5060",
    }
}

/// Holds what a watcher has told.
#[derive(Clone)]
struct Seen(Arc<Mutex<BTreeMap<String, Account>>>, Arc<Providers>, Arc<Plans>);

impl Default for Seen {
    fn default() -> Self {
        Self(Arc::default(), Arc::new(Providers::new([1; 16])), Arc::new(Plans::new([1; 16])))
    }
}

impl Sink for Seen {
    fn apply(&mut self, change: Change) {
        let mut seen = self.0.lock().unwrap();
        match change {
            Change::Account(account) => drop(seen.insert(account.aor.to_string(), account)),
            Change::AccountGone(aor) => drop(seen.remove(&aor.to_string())),
            Change::Provider(provider) => self.1.put(provider),
            Change::ProviderGone { owner, name } => self.1.remove(&owner.to_string(), &name),
            Change::Plan(plan) => self.2.put(plan),
            Change::PlanGone { owner, name } => self.2.remove(&owner.to_string(), &name),
        }
    }

    fn replace_all(&mut self, everything: Everything) {
        let accounts = everything.accounts.into_iter();
        *self.0.lock().unwrap() = accounts.map(|account| (account.aor.to_string(), account)).collect();
        self.1.replace_all(everything.providers);
        self.2.replace_all(everything.plans);
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

#[test]
fn many_processes_may_make_it_at_the_same_time() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ringswitch.db");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| Database::open(&file).map(drop))).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        opened.into_iter().for_each(|opened| opened.unwrap());
    }
}
