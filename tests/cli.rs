//! The command line as an operator meets it: the real program, its output and its exit status.

#![expect(clippy::disallowed_methods, reason = "tests write files and listen on sockets")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::JoinHandle,
};
use tempfile::TempDir;

#[test]
fn an_account_is_added_shown_changed_listed_and_removed() {
    let home = Home::new("domains = [\"example.com\"]");
    let add = ["account", "add", "alice@example.com", "--password-stdin", "--max-bindings", "3"];
    home.run_with("secret\n", &add).succeeds();
    home.run_with("secret\n", &["account", "add", "bob", "--password-stdin", "--may-relay"]).succeeds();

    let shown = home.run(&["account", "show", "alice@example.com"]).succeeds();
    assert!(shown.contains("account           alice@example.com\nstate             enabled\n"), "{shown}");
    assert!(shown.contains("max bindings      3\n"), "{shown}");
    assert!(shown.contains("digests           SHA-512-256, SHA-256, MD5"), "{shown}");

    let set =
        ["account", "set", "alice", "--enabled", "false", "--max-bindings", "default", "--max-expires-secs", "600"];
    home.run(&set).succeeds();
    let listed = home.run(&["account", "list"]).succeeds();
    let expected = "account            state     may relay  max bindings  max expires secs\n\
                    alice@example.com  disabled  no         default       600\n\
                    bob@example.com    enabled   yes        default       default\n";
    assert_eq!(listed, expected);

    let page = home.run(&["account", "list", "--json", "--after", "alice@example.com"]).succeeds();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page[0]["user"], "bob");
    assert_eq!(page[0]["algorithms"], json!(["SHA-512-256", "SHA-256", "MD5"]));
    assert_eq!(page.as_array().unwrap().len(), 1);
    assert!(!page.to_string().contains("ha1"));

    home.run(&["account", "remove", "alice"]).succeeds();
    home.run(&["account", "show", "alice"])
        .fails_with(1, "there is no account alice@example.com; `ringswitch account list`");
}

#[test]
fn a_new_password_replaces_the_old_one() {
    let home = Home::new("");
    home.run_with("old", &["account", "add", "alice", "--password-stdin"]).succeeds();
    let digests = || {
        let database = rusqlite::Connection::open(home.data_dir().join("ringswitch.db")).unwrap();
        database.query_row("SELECT ha1_md5 FROM account", (), |row| row.get::<_, String>(0)).unwrap()
    };
    let old = digests();
    home.run_with("new\r\n", &["account", "set", "alice", "--password-stdin"]).succeeds();
    assert_ne!(digests(), old);
    home.run_with("old\n", &["account", "set", "alice", "--password-stdin"]).succeeds();
    assert_eq!(digests(), old, "a line's end is no part of a password");
}

#[test]
fn what_cannot_be_done_to_accounts_says_why_and_what_to_do() {
    let home = Home::new("domains = [\"example.com\"]");
    let add = |name: &str, password: &str| home.run_with(password, &["account", "add", name, "--password-stdin"]);
    add("alice@example.org", "x")
        .fails_with(2, "example.org is none of our domains (example.com); add it to `domains` in ");
    add("ali ce", "x").fails_with(2, "` ` cannot be part of a user");
    add("alice", "").fails_with(2, "stdin holds no password");
    add("alice", "a\nb\n").fails_with(2, "stdin holds more than one line");
    add("alice", &"x".repeat(2000)).fails_with(2, "longer than 1024 bytes");
    add("alice", "x").succeeds();
    add("alice", "x")
        .fails_with(1, "the account alice@example.com exists already; change it with `ringswitch account set");
    home.run(&["account", "set", "alice"]).fails_with(2, "There is nothing to set");
    home.run(&["account", "set", "alice", "--max-bindings", "0"])
        .fails_with(2, "use a number from 1 to 1000, or `default`");
    home.run(&["account", "add", "carl"]).fails_with(2, "--password-stdin");
}

#[test]
fn providers_are_added_changed_and_removed_and_never_show_their_password() {
    let home = Home::new("domains = [\"example.com\"]");
    let add = [
        "provider",
        "add",
        "acme",
        "--owner",
        "alice",
        "--server",
        "sip:sip.example.net",
        "--user",
        "4711",
        "--password-stdin",
    ];
    home.run_with("hunter2\n", &add).fails_with(1, "there is no account alice@example.com");
    home.run_with("secret\n", &["account", "add", "alice", "--password-stdin"]).succeeds();
    home.run_with("hunter2\n", &add).succeeds();
    home.run_with("hunter2\n", &add)
        .fails_with(1, "has a provider acme already; change it with `ringswitch provider set`");

    let set = [
        "provider",
        "set",
        "acme",
        "--owner",
        "alice",
        "--source",
        "192.0.2.0/24",
        "--header",
        "X-A: b",
        "--realm",
        "r",
    ];
    home.run(&set).succeeds();
    home.run(&["provider", "set", "acme", "--owner", "alice", "--realm", ""]).succeeds();
    let shown = home.run(&["provider", "show", "acme", "--owner", "alice"]).succeeds();
    assert!(shown.contains("realm           any\n") && shown.contains("sources         192.0.2.0/24"), "{shown}");
    let json = home.run(&["provider", "list", "--json"]).succeeds();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()[0]["headers"], json!(["X-A: b"]));
    assert!(!format!("{shown}{json}").contains("hunter2"));

    let wrong = |option: &str, text: &str| home.run(&["provider", "set", "acme", "--owner", "alice", option, text]);
    wrong("--server", "tel:1").fails_with(2, "write a SIP URI such as sip:sip.example.net");
    wrong("--source", "nowhere/8").fails_with(2, "write an address, a network or a host");
    wrong("--header", "Via: x").fails_with(2, "the switch itself writes Via");
    home.run(&["provider", "set", "acme", "--owner", "alice"]).fails_with(2, "There is nothing to set");
    home.run(&["provider", "remove", "acme", "--owner", "alice"]).succeeds();
    home.run(&["provider", "show", "acme", "--owner", "alice"])
        .fails_with(1, "alice@example.com has no provider acme; `ringswitch provider list`");
}

#[test]
fn a_plan_is_compiled_before_it_is_kept_and_told_dry() {
    let home = Home::new("domains = [\"example.com\"]");
    home.run_with("secret\n", &["account", "add", "alice", "--password-stdin"]).succeeds();
    let set = ["plan", "set", "alice", "main", "--file", "-", "--as", "out"];
    home.run_with("let x = 1;\nsys.dial(\"bob\"\n", &set).fails_with(2, "main:");
    home.run_with("sys.dial(\"bob@example.com\");", &set).succeeds();
    let listed = home.run(&["plan", "list"]).succeeds();
    assert!(listed.contains("alice@example.com  main  out"), "{listed}");
    assert_eq!(home.run(&["plan", "show", "alice", "main"]).succeeds(), "sys.dial(\"bob@example.com\");\n");
    let told = home.run(&["plan", "test", "alice", "main", "--to", "100", "--answer", "486"]).succeeds();
    assert!(
        told.contains("INVITE sip:100@example.com from sip:alice@example.com") && told.contains("bob@example.com"),
        "{told}"
    );
    home.run(&["plan", "test", "alice", "main", "--to", "a b"]).fails_with(2, "is no URI");

    home.run(&["check"]).succeeds();
    let database = rusqlite::Connection::open(home.data_dir().join("ringswitch.db")).unwrap();
    database.execute("UPDATE plan SET source = 'sys.dial('", ()).unwrap();
    home.run(&["check"]).fails_with(2, "In a plan of alice@example.com:\nmain:");
    home.run(&["plan", "remove", "alice", "main"]).succeeds();
    home.run(&["plan", "show", "alice", "main"]).fails_with(1, "alice@example.com has no plan main");
    assert_eq!(home.run(&["cdr", "--since", "1h"]).succeeds(), "There are no such records.\n");
    home.run(&["cdr", "--since", "yesterday"]).fails_with(2, "write a number and a unit");
    home.run(&["hangup", "xyz"]).fails_with(2, "hexadecimal digits");
}

#[test]
fn a_wrong_configuration_stops_every_command_with_its_place() {
    let home = Home::new("domain = [\"example.com\"]");
    for command in [&["check"][..], &["run"], &["account", "list"], &["status"]] {
        let fault = home.run(command).fails_with(2, "ringswitch.toml:1:1: unknown key `domain`");
        assert!(fault.contains("= did you mean `domains`?"), "{fault}");
    }
    let missing = Home::new("");
    std::fs::remove_file(missing.dir.path().join("ringswitch.toml")).unwrap();
    missing.run(&["check"]).fails_with(2, "cannot read ");
}

#[test]
fn check_says_what_the_configuration_comes_to() {
    let home = Home::new("domains = [\"example.com\"]\n[registrar]\nmax_bindings = 3");
    let text = home.run(&["check"]).succeeds();
    assert!(text.contains("is right.\ndomains   example.com\nlisten    udp 0.0.0.0:5060, "), "{text}");
    let settings: Value = serde_json::from_str(&home.run(&["check", "--json"]).succeeds()).unwrap();
    assert_eq!(settings["registrar.max_bindings"], 3);
    assert_eq!(settings["registrar.nonce_secs"], 300);
}

#[test]
fn without_a_switch_the_commands_that_need_one_say_how_to_start_it() {
    let home = Home::new("");
    for command in ["status", "bindings", "reload"] {
        home.run(&[command]).fails_with(1, "start one with `ringswitch run`");
    }
}

#[test]
fn status_and_reload_show_what_the_switch_answers() {
    let home = Home::new("");
    let status = json!({
        "version": "0.1.0", "uptime_secs": 3700, "bindings": 12, "aors": 10, "accounts": 1000,
        "shards": [{"counters": {"forwarded": 70, "received": 100}}, {"counters": {"forwarded": 5}}],
        "journal": {"segments": 2, "bytes": 4096, "state": "writing"},
        "steering": {"state": "on", "steered": 90, "left": 10},
    });
    let switch = home.answers(json!({"ok": true, "result": status}));
    let text = home.run(&["status"]).succeeds();
    let expected = "ringswitch 0.1.0, up 1h 1m\n\
                    accounts  1000\n\
                    bindings  12 of 10 accounts\n\
                    journal   writing, 2 segments, 4096 bytes\n\
                    steering  on, 90 datagrams to their owners, 10 left to the kernel's choice\n\
                    \n\
                    counter    total  shard 0  shard 1\n\
                    forwarded     75       70        5\n\
                    received     100      100        0\n";
    assert_eq!(text, expected);
    assert_eq!(switch.join().unwrap(), json!({"command": "status"}));

    let switch = home.answers(json!({"ok": true, "result": {"applies": ["domains"], "needs_restart": ["listen"]}}));
    assert_eq!(home.run(&["reload"]).succeeds(), "Changed: domains\nWaits for a restart: listen\n");
    assert_eq!(switch.join().unwrap(), json!({"command": "reload"}));

    let switch = home.answers(json!({"ok": false, "error": "ringswitch.toml:1:1: unknown key"}));
    home.run(&["reload"]).fails_with(1, "ringswitch.toml:1:1: unknown key");
    switch.join().unwrap();
}

#[test]
fn bindings_are_asked_for_by_account_and_shown_as_a_table() {
    let home = Home::new("");
    let binding = json!({
        "aor": "alice@localhost", "contact": "sip:alice@192.0.2.7:5060", "q": "1", "expires_secs": 59,
        "received": "udp 192.0.2.7:5060", "call_id": "x", "cseq": 1, "user_agent": "evil\u{1b}[2J",
    });
    let answer = json!({"ok": true, "result": {"bindings": [binding], "more": true}});
    let switch = home.answers(answer.clone());
    let text = home.run(&["bindings", "alice"]).succeeds();
    let line = "alice@localhost  sip:alice@192.0.2.7:5060  1            59  udp 192.0.2.7:5060  evil\u{fffd}[2J";
    assert!(text.ends_with(&format!("{line}\n")), "{text}");
    assert_eq!(switch.join().unwrap(), json!({"command": "bindings", "aor": "alice@localhost", "limit": 100}));

    let switch = home.answers(answer);
    let listed: Value = serde_json::from_str(&home.run(&["bindings", "--json", "--prefix", "al"]).succeeds()).unwrap();
    assert_eq!(listed["bindings"][0]["expires_secs"], 59);
    switch.join().unwrap();
}

#[test]
fn help_and_usage_are_told_apart_by_the_exit_status() {
    let home = Home::new("");
    let help = home.run(&["--help"]).succeeds();
    for command in ["run", "check", "account", "bindings", "status", "reload", "demo"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    home.run(&["runn"]).fails_with(2, "run");
}

/// A configuration and a data directory of one test.
struct Home {
    dir: TempDir,
}

struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Behind a section's header it would be a key of that section.
        let (top, sections) = config.split_at(config.find("\n[").unwrap_or(config.len()));
        let text = format!("{top}\ndata_dir = \"{}\"\n{sections}", dir.path().join("data").display());
        std::fs::write(dir.path().join("ringswitch.toml"), text).unwrap();
        Self { dir }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.run_with("", args)
    }

    fn run_with(&self, stdin: &str, args: &[&str]) -> Outcome {
        run(&self.dir.path().join("ringswitch.toml"), stdin, args)
    }

    /// A switch that answers one request like this, and tells what was asked.
    fn answers(&self, answer: Value) -> JoinHandle<Value> {
        let path = self.data_dir().join("control.sock");
        std::fs::create_dir_all(self.data_dir()).unwrap();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            writeln!(stream, "{answer}").unwrap();
            serde_json::from_str(&line).unwrap()
        })
    }
}

fn run(config: &Path, stdin: &str, args: &[&str]) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringswitch"))
        .arg("--config")
        .arg(config)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its stdin may have ended before it is written.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Outcome {
    fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self.stdout
    }

    fn fails_with(self, status: i32, words: &str) -> String {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert!(self.stderr.contains(words), "{}", self.stderr);
        self.stderr
    }
}
