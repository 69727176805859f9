//! A switch of one's own: a directory, free ports, the process, its log, and the command line that asks it.

use crate::phone::{Phone, Request, status};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take that takes a moment on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often what is waited for is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `done`, and fails when that takes too long.
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    wait_at_most(PATIENCE, what, done);
}

/// Waits until `done`, and fails when that takes longer than `most`.
pub fn wait_at_most(most: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < most, "waiting for: {what}");
        sleep(POLL);
    }
}

/// A directory with a configuration, and the port that it names.
pub struct Home {
    dir: TempDir,
    port: u16,
    /// What the configuration says of application servers.
    app: &'static str,
}

/// What a command has said.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    /// A switch for `example.com` on loopback, UDP and TCP, with `sections` in its configuration. Its proxy forwards by itself.
    pub fn new(sections: &str) -> Self {
        let home = Self::bare();
        home.configure(&home.text("domains = [\"example.com\"]", sections));
        home
    }

    /// The same with an application server.
    pub fn served(sections: &str) -> Self {
        let home = Self { app: "", ..Self::bare() };
        home.configure(&home.text("domains = [\"example.com\"]", sections));
        home
    }

    /// A directory without a configuration.
    pub fn bare() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), port: free_port(), app: "app = []" }
    }

    /// A configuration with `top` at its top and `sections` at its end.
    pub fn text(&self, top: &str, sections: &str) -> String {
        let (port, data_dir) = (self.port, self.data_dir());
        let app = if sections.contains("[[app]]") { "" } else { self.app };
        // Where nobody is served there is nothing to separate, and the process is the switch itself.
        let processes = if app.is_empty() || top.contains("processes") { "" } else { "processes = \"one\"" };
        let listen = |transport| format!("[[listen]]\ntransport = \"{transport}\"\naddress = \"127.0.0.1:{port}\"\n");
        format!(
            "{top}\n{processes}\n{app}\ndata_dir = \"{}\"\n{}{}{sections}\n",
            data_dir.display(),
            listen("udp"),
            listen("tcp")
        )
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("ringswitch.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringswitch"));
        command.arg("--config").arg(self.config()).args(args).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, `stdin` being its input.
    pub fn run(&self, args: &[&str], stdin: &str) -> Outcome {
        let mut child = self.command(args).spawn().unwrap();
        // A command which fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        Outcome { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a command which succeeds, and gives what it prints.
    pub fn ask(&self, args: &[&str]) -> String {
        let outcome = self.run(args, "");
        assert!(outcome.status.success(), "{args:?}: {}", outcome.stderr);
        outcome.stdout
    }

    /// What a command prints with `--json`.
    pub fn ask_json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ask(&args)).unwrap()
    }

    /// Adds an account whose password is `secret`.
    pub fn add_account(&self, aor: &str, more: &[&str]) {
        let args: Vec<&str> = ["account", "add", aor, "--password-stdin"].iter().chain(more).copied().collect();
        let outcome = self.run(&args, "secret\n");
        assert!(outcome.status.success(), "{}", outcome.stderr);
    }

    /// Starts the switch and waits until it serves.
    pub fn start(&self) -> Switch<'_> {
        self.start_with(&[])
    }

    /// The same, with more in its environment.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Switch<'_> {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        self.start_command(command)
    }

    /// The same by another program, which executes it.
    pub fn start_by(&self, program: &[&str]) -> Switch<'_> {
        let plain = self.command(&["run"]);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(plain.get_program()).args(plain.get_args()).env_remove("RUST_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.start_command(command)
    }

    fn start_command(&self, mut command: Command) -> Switch<'_> {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let reader = {
            let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&log));
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        };
        let mut switch = Switch { home: self, child, log, reader: Some(reader) };
        wait_until("the switch serves", || switch.serves() || switch.child.try_wait().unwrap().is_some());
        assert!(switch.serves(), "the switch does not start: {}", switch.log());
        switch
    }
}

/// A running switch. It is killed when this is dropped; after a failure its log is printed.
pub struct Switch<'h> {
    pub home: &'h Home,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Switch<'_> {
    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.home.port))
    }

    pub fn udp(&self) -> Phone {
        Phone::udp("127.0.0.1", self.address())
    }

    pub fn tcp(&self) -> Phone {
        Phone::tcp(self.address())
    }

    /// Whether it has said that it serves, by itself or with all its processes.
    fn serves(&self) -> bool {
        self.log().lines().any(|line| line.contains("serving") && !line.starts_with('['))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(self.pid(), signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }

    /// Waits for its end and gives the exit status.
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        let mut ended = None;
        wait_at_most(most, "the switch ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        // All that it has logged has been read when the pipe's end was.
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        ended.expect("that is what was waited for")
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.wait(PATIENCE);
    }

    /// Resident memory in KiB (proc(5)).
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// A counter of every shard.
    pub fn counter(&self, name: &str) -> Vec<u64> {
        let status = self.home.ask_json(&["status"]);
        let shards = status["shards"].as_array().unwrap();
        shards.iter().map(|shard| shard["counters"][name].as_u64().unwrap_or_else(|| panic!("no {name}"))).collect()
    }

    /// Fails unless it runs and answers.
    pub fn assert_alive(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the switch has ended");
        assert_eq!(status(&self.udp().ask(&Request::options())), 200);
    }
}

impl Drop for Switch<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("The log of the switch in {}:\n{}", self.home.data_dir().display(), self.log());
        }
    }
}

/// A port which is free, UDP and TCP, on loopback of both families. Ports below the range from which the kernel chooses
/// are given out one after the other, so that no phone of another test gets one before the switch has bound it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 200) as u16 * 100;
    let is_free = |port| {
        ["127.0.0.1", "[::1]"].iter().all(|host| {
            let address = format!("{host}:{port}");
            // A machine without IPv6 has no port there that could be taken.
            let is_taken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
            !UdpSocket::bind(&address).is_err_and(|e| is_taken(&e))
                && !TcpListener::bind(&address).is_err_and(|e| is_taken(&e))
        })
    };
    let ports = std::iter::repeat_with(|| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    ports.take(1_000).find(|&port| is_free(port)).expect("one of a thousand ports is free")
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
