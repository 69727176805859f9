//! Phones of others against the real program: baresip, sipsak and SIPp register with digest, and calls between them
//! complete. `docs/phones.md` says how to do the same by hand.

#![expect(clippy::disallowed_methods, reason = "tests run programs, write files and wait for them")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use serde_json::Value;
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn two_baresip_phones_call_each_other_by_udp() {
    baresip_calls_baresip(15_500, "udp", "udp");
}

#[test]
fn two_baresip_phones_call_each_other_by_tcp() {
    baresip_calls_baresip(15_510, "tcp", "tcp");
}

#[test]
fn a_baresip_phone_by_udp_calls_one_by_tcp() {
    baresip_calls_baresip(15_520, "udp", "tcp");
}

#[test]
fn sipsak_asks_for_options_and_registers_with_digest() {
    let switch = Switch::start(15_530);
    // sipsak cuts a port of five digits short in its URIs, so the port goes into the address of the proxy.
    let proxy = switch.address();
    let options = run("sipsak", &["-p", &proxy, "-s", "sip:example.test", "-v"]);
    assert!(options.contains("SIP/2.0 200 OK") && options.contains("Allow: INVITE"), "{options}");

    // Without -u its user name would be `alice@`.
    let alice = ["-s", "sip:alice@example.test", "-u", "alice", "-a", "wonderland", "-C", "sip:alice@127.0.0.1:9"];
    let registered = run("sipsak", &[&["-p", &proxy, "-U", "-i", "-x", "600"][..], &alice].concat());
    let bindings = switch.bindings("alice");
    assert_eq!(bindings.len(), 1, "{registered}");
    assert_eq!(bindings[0]["contact"], "sip:alice@127.0.0.1:9");
}

#[test]
fn sipp_registers_and_calls_baresip() {
    let switch = Switch::start(15_540);
    let bob = Baresip::start(&switch, "bob", "udp", &[]);
    switch.waits_for_binding("bob");

    sipp(
        &switch,
        "register.xml",
        &["-s", "alice", "-ap", "wonderland", "-key", "contact", "sip:alice@127.0.0.1:15541"],
    );
    assert_eq!(switch.bindings("alice").len(), 1);

    sipp(&switch, "call_uac.xml", &[]);
    let bob = bob.stop();
    assert!(bob.contains("Call established: sip:alice@example.test"), "{bob}");
    // So it calls a BYE; of a call shorter than a second it says nothing else.
    assert!(bob.contains("session closed: Connection reset by peer"), "{bob}");
}

/// Alice calls bob, each by a transport, and hangs up when her time is over.
fn baresip_calls_baresip(port: u16, alices: &str, bobs: &str) {
    let switch = Switch::start(port);
    let bob = Baresip::start(&switch, "bob", bobs, &[]);
    switch.waits_for_binding("bob");
    let alice = Baresip::start(&switch, "alice", alices, &["-e", "/dial sip:bob@example.test", "-t", "4"]);
    let alice = alice.ends();
    let bob = bob.stop();
    for (phone, own, other) in [(&alice, "alice", "bob"), (&bob, "bob", "alice")] {
        assert!(phone.contains(&format!("{own}@example.test: {{0/")), "{own} did not register: {phone}");
        assert!(phone.contains(&format!("Call established: sip:{other}@example.test")), "{own}: {phone}");
        assert!(phone.contains("incoming rtp for 'audio' established"), "{own} heard nothing: {phone}");
        assert!(phone.contains(&format!("Call with sip:{other}@example.test terminated")), "{own}: {phone}");
    }
}

/// A switch for example.test with the accounts alice and bob.
struct Switch {
    dir: TempDir,
    process: Child,
    port: u16,
}

impl Switch {
    fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let listen = ["udp", "tcp"]
            .map(|transport| format!("[[listen]]\ntransport = \"{transport}\"\naddress = \"127.0.0.1:{port}\"\n"))
            .concat();
        let config = format!(
            "domains = [\"example.test\"]\napp = []\ndata_dir = \"{}\"\n{listen}[cores]\nswitch = 2\n",
            data_dir.display()
        );
        fs::write(dir.path().join("ringswitch.toml"), config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let process = ringswitch(&dir).arg("run").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let switch = Self { dir, process, port };
        for (user, password) in [("alice", "wonderland"), ("bob", "builder")] {
            switch.add(user, password);
        }
        until("the switch serves both accounts", || {
            let status = ringswitch(&switch.dir).args(["status", "--json"]).output().unwrap();
            serde_json::from_slice::<Value>(&status.stdout).is_ok_and(|status| status["accounts"] == 2)
        });
        switch
    }

    fn add(&self, user: &str, password: &str) {
        let mut add = ringswitch(&self.dir);
        add.args(["account", "add", user, "--password-stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut add = add.spawn().unwrap();
        writeln!(add.stdin.take().unwrap(), "{password}").unwrap();
        assert!(add.wait().unwrap().success());
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn bindings(&self, user: &str) -> Vec<Value> {
        let output = ringswitch(&self.dir).args(["bindings", user, "--json"]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["bindings"].as_array().unwrap().clone()
    }

    fn waits_for_binding(&self, user: &str) {
        until("the phone has registered", || !self.bindings(user).is_empty());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
        end(&mut self.process);
    }
}

fn ringswitch(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringswitch"));
    command.arg("--config").arg(dir.path().join("ringswitch.toml"));
    command
}

/// A phone without a sound card: it sends a tone and swallows what it hears. It answers by itself.
struct Baresip {
    dir: TempDir,
    process: Child,
}

impl Baresip {
    fn start(switch: &Switch, user: &str, transport: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let password = if user == "alice" { "wonderland" } else { "builder" };
        let account = format!(
            "<sip:{user}@example.test>;auth_pass={password};outbound=\"sip:{};transport={transport}\";regint=600;\
             answermode=auto\n",
            switch.address()
        );
        fs::write(dir.path().join("config"), include_str!("baresip.config")).unwrap();
        fs::write(dir.path().join("accounts"), account).unwrap();
        fs::write(dir.path().join("contacts"), "").unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let process = Command::new("baresip")
            .arg("-f")
            .arg(dir.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| missing("baresip", &error));
        Self { dir, process }
    }

    /// Waits until it ends by itself, and gives what it has printed.
    fn ends(mut self) -> String {
        assert!(finish(&mut self.process).is_some(), "baresip does not end");
        self.log()
    }

    /// Asks it to end, whereupon it unregisters, and gives what it has printed.
    fn stop(mut self) -> String {
        terminate(&self.process);
        assert!(finish(&mut self.process).is_some(), "baresip does not end");
        self.log()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Runs a scenario of `sipp/` as the caller alice.
fn sipp(switch: &Switch, scenario: &str, args: &[&str]) {
    let file = format!("{}/sipp/{scenario}", env!("CARGO_MANIFEST_DIR"));
    let port = |offset: u16| (switch.port + offset).to_string();
    let (own, control, media) = (port(1), port(2), port(3));
    let bounds = ["-m", "1", "-nostdin", "-timeout", "20", "-timeout_error", "-recv_timeout", "8000"];
    let place = [&switch.address(), "-sf", &file, "-i", "127.0.0.1", "-p", &own, "-cp", &control, "-mp", &media];
    run("sipp", &[&place[..], &bounds, args].concat());
}

/// Runs a program to its end, which must be good.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| missing(program, &error));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}: {said}", output.status);
    said
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    assert_eq!(error.kind(), ErrorKind::NotFound, "{program}: {error}");
    panic!("{program} is missing: tests/run installs it");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not so: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The exit status, unless it takes too long.
fn finish(process: &mut Child) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(50));
    }
    None
}

fn terminate(process: &Child) {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Ends what may still run.
fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
