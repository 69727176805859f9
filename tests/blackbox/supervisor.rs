//! The switch as several processes: started, killed, replaced, reloaded and stopped, as an operator or a fault does it.

use crate::{
    phone::{Phone, Request, header, status},
    rig::{Home, PATIENCE, Switch, wait_at_most, wait_until},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    net::UdpSocket,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// A stop with a drain (the switch's own limit, and what a busy machine adds).
const STOP: Duration = Duration::from_secs(6);

const STABLE: &str = "[[app]]\nname = \"stable\"\ncores = 1\n";

/// A switch of several processes with `sections` in its configuration.
fn home(sections: &str) -> Home {
    let home = Home::bare();
    configure(&home, sections);
    home
}

fn configure(home: &Home, sections: &str) {
    let top = "domains = [\"example.com\"]\nprocesses = \"separate\"";
    let sections = format!("[cores]\nswitch = 2\n[registrar]\nauthenticate = false\n{sections}");
    home.configure(&home.text(top, &sections));
}

/// What the status tells of a process.
fn process(home: &Home, name: &str) -> Value {
    let status = home.ask_json(&["status"]);
    let processes = status["processes"].as_array().unwrap();
    processes.iter().find(|process| process["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}

/// A process's id; 0 while there is no such process.
fn pid(home: &Home, name: &str) -> i32 {
    process(home, name)["pid"].as_i64().unwrap_or(0) as i32
}

fn is_serving(home: &Home, name: &str) -> bool {
    process(home, name)["state"] == "serving"
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: the supervisor, which we have started, has named this process as its child a moment ago.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

/// Whether there is such a process, other than as a zombie (proc(5)).
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// The last reason that a process was started again for.
fn latest_reason(home: &Home, name: &str) -> String {
    let process = process(home, name);
    process["reasons"].as_array().unwrap().last().map_or("none", |r| r["reason"].as_str().unwrap()).to_owned()
}

#[test]
fn every_process_comes_up_and_is_listed() {
    let home = home(&format!("{STABLE}[[app]]\nname = \"edge\"\ndomains = [\"edge.example.com\"]\ncores = 1"));
    let switch = home.start();
    assert_eq!(pid(&home, "supervisor"), switch.pid());
    let mut pids = vec![switch.pid()];
    for (name, shards) in [("switch", 2), ("stable", 1), ("edge", 1)] {
        wait_until(&format!("{name} serves"), || is_serving(&home, name));
        let process = process(&home, name);
        assert_eq!((process["shards"].as_u64(), process["restarts"].as_u64()), (Some(shards), Some(0)), "{process}");
        assert!(process["memory_bytes"].as_u64().unwrap() > 1 << 20, "{process}");
        pids.push(pid(&home, name));
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4, "each is a process of its own");
    let shown = home.ask(&["status"]);
    assert!(shown.lines().any(|line| line.starts_with("edge") && line.contains("serving")), "{shown}");
    assert_eq!(status(&switch.udp().ask(&Request::options())), 200);
    assert_eq!(status(&switch.tcp().ask(&Request::options())), 200);
}

#[test]
fn a_process_that_is_killed_is_started_again_and_the_reason_is_told() {
    let home = home(STABLE);
    let switch = home.start();
    for name in ["stable", "switch"] {
        let before = pid(&home, name);
        kill(before, libc::SIGKILL);
        wait_until("another one serves", || is_serving(&home, name) && pid(&home, name) != before);
        assert_eq!(process(&home, name)["restarts"], 1);
        assert_eq!(latest_reason(&home, name), "signal 9, SIGKILL");
        assert!(!runs(before));
    }
    assert_eq!(status(&switch.udp().ask(&Request::options())), 200);
    assert!(switch.log().contains("signal 9, SIGKILL"), "{}", switch.log());
}

#[test]
fn what_comes_while_the_switch_is_dead_is_answered_by_the_next_one() {
    let home = home("");
    let switch = home.start();
    let mut phone = switch.udp();
    let contact = phone.contact("alice");
    assert_eq!(status(&phone.ask(&Request::register("alice", &contact))), 200);
    let request = Request::options();
    let dead = pid(&home, "switch");
    kill(dead, libc::SIGKILL);
    while runs(dead) {
        std::thread::yield_now();
    }
    // It is sent once, to a socket that outlives its process.
    phone.send_request(&request);
    let answer = phone.receive(PATIENCE).expect("it waits in the socket");
    assert_eq!((status(&answer), header(&answer, "Call-ID")), (200, request.call_id.as_str()));
    wait_until("the bindings are there", || {
        // Until then the supervisor may say to try again.
        let told = home.run(&["bindings", "alice", "--json"], "");
        let bindings = || serde_json::from_str::<Value>(&told.stdout).unwrap()["bindings"].as_array().unwrap().len();
        told.status.success() && bindings() == 1
    });
}

#[test]
fn a_switch_that_is_replaced_under_load_loses_nothing() {
    let home = home("");
    let switch = home.start();
    let ends = AtomicBool::new(false);
    let (mut asked, mut replaced) = (0, 0);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..2)
            .map(|n| {
                scope.spawn({
                    let (switch, ends) = (&switch, &ends);
                    move || load(switch, n, ends)
                })
            })
            .collect();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            let before = pid(&home, "switch");
            let restarted = home.ask_json(&["restart", "switch"]);
            assert_ne!(restarted["pid"].as_i64().unwrap() as i32, before);
            assert!(restarted["gap_msecs"].as_u64().unwrap() < 1_000, "{restarted}");
            replaced += 1;
            std::thread::sleep(Duration::from_millis(200));
        }
        ends.store(true, Ordering::Relaxed);
        asked = loads.into_iter().map(|load| load.join().unwrap()).sum();
    });
    assert!(asked > 2_000 && replaced >= 3, "{asked} requests and {replaced} replacements are no load");
    let bindings = home.ask_json(&["bindings", "--limit", "10000"]);
    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 2 * AORS, "none is lost");
    assert_eq!(process(&home, "switch")["restarts"], 0, "an order is no fault");
}

const AORS: usize = 50;

/// Registers and asks, some hundred times a second, each request once; each must be answered. Gives their number.
fn load(switch: &Switch<'_>, number: usize, ends: &AtomicBool) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(switch.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let sent_by = format!("UDP {}", socket.local_addr().unwrap());
    let mut waiting: HashMap<String, Instant> = HashMap::new();
    let (mut asked, mut cseq) = (0, 0);
    let mut buffer = [0; 4096];
    loop {
        let asks = !ends.load(Ordering::Relaxed);
        if asks && waiting.len() < 100 {
            cseq += 1;
            let user = format!("u{number}-{}", cseq as usize / 2 % AORS);
            let mut request = match cseq % 2 {
                0 => Request::options(),
                _ => Request::register(&user, &format!("<sip:{user}@192.0.2.1>")),
            };
            request.cseq = cseq;
            if cseq % 2 == 1 {
                request.call_id = user;
            }
            socket.send(request.text(&sent_by).as_bytes()).unwrap();
            assert!(waiting.insert(request.branch, Instant::now()).is_none());
            asked += 1;
        }
        if let Ok(octets) = socket.recv(&mut buffer) {
            let answer = std::str::from_utf8(&buffer[..octets]).unwrap();
            assert_eq!(status(answer), 200, "{answer}");
            let branch = header(answer, "Via").split("branch=").nth(1).unwrap().split(';').next().unwrap();
            assert!(waiting.remove(branch).is_some(), "answered once: {answer}");
        }
        let oldest = waiting.values().min();
        assert!(oldest.is_none_or(|at| at.elapsed() < Duration::from_secs(5)), "{} are not answered", waiting.len());
        if !asks && waiting.is_empty() {
            return asked;
        }
    }
}

#[test]
fn an_application_server_is_replaced_by_order() {
    let home = home(STABLE);
    let _switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let before = pid(&home, "stable");
    let after = home.ask_json(&["restart", "stable"])["pid"].as_i64().unwrap() as i32;
    wait_until("the old one is gone", || !runs(before) && pid(&home, "stable") == after && is_serving(&home, "stable"));
    let outcome = home.run(&["restart", "nobody"], "");
    assert!(outcome.stderr.contains("there is no process `nobody`; there are switch, stable"), "{}", outcome.stderr);
}

#[test]
fn an_application_server_that_is_drained_stays_away_until_it_is_brought_back() {
    let home = home(STABLE);
    let _switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let before = pid(&home, "stable");
    home.ask(&["drain", "stable"]);
    wait_until("it is off", || process(&home, "stable")["state"] == "off");
    assert!(!runs(before));
    home.ask(&["restart", "stable"]);
    assert!(is_serving(&home, "stable"));
    assert!(home.run(&["drain", "switch"], "").stderr.contains("cannot be without"));
}

#[test]
fn sigterm_ends_every_process_within_five_seconds() {
    let home = home(STABLE);
    let mut switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let pids = ["switch", "stable"].map(|name| pid(&home, name));
    switch.signal(libc::SIGTERM);
    assert!(switch.wait(STOP).success(), "{}", switch.log());
    assert!(switch.log().contains("stopped"), "{}", switch.log());
    assert!(pids.iter().all(|&pid| !runs(pid)));
    assert!(!home.data_dir().join("control.sock").exists());
}

#[test]
fn the_stop_command_ends_every_process_and_warns_of_nothing() {
    let home = home(STABLE);
    for _ in 0..3 {
        let mut switch = home.start();
        let pids = ["switch", "stable"].map(|name| pid(&home, name));
        home.ask(&["stop"]);
        assert!(switch.wait(STOP).success());
        assert!(pids.iter().all(|&pid| !runs(pid)));
        assert!(!switch.log().contains("WARN"), "{}", switch.log());
    }
}

#[test]
fn no_process_outlives_a_supervisor_that_is_killed() {
    let home = home(STABLE);
    let switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let pids = ["switch", "stable"].map(|name| pid(&home, name));
    switch.kill();
    wait_at_most(Duration::from_secs(5), "they are gone", || pids.iter().all(|&pid| !runs(pid)));
    let again = home.start();
    assert_eq!(status(&again.udp().ask(&Request::options())), 200);
}

#[test]
fn a_process_ends_by_no_signal_that_is_meant_for_the_supervisor() {
    let home = home(STABLE);
    let switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    for name in ["switch", "stable"] {
        let pid = pid(&home, name);
        [libc::SIGHUP, libc::SIGINT, libc::SIGTERM].into_iter().for_each(|signal| kill(pid, signal));
    }
    assert_eq!(status(&switch.udp().ask(&Request::options())), 200);
    for name in ["switch", "stable"] {
        assert_eq!(process(&home, name)["restarts"], 0);
    }
}

#[test]
fn a_reload_applies_in_every_process_and_a_wrong_one_in_none() {
    let home = home(STABLE);
    let switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let mut phone = switch.udp();
    let register =
        |phone: &mut Phone, n: u32| status(&phone.ask(&Request::register("alice", &format!("<sip:a{n}@192.0.2.1>"))));
    assert_eq!(register(&mut phone, 1), 200);
    let text = fs::read_to_string(home.config()).unwrap();
    home.configure(&text.replace("authenticate = false", "authenticate = false\nmax_bindings = 0"));
    switch.signal(libc::SIGHUP);
    switch.wait_for_log("nothing is reloaded");
    assert_eq!(register(&mut phone, 2), 200);
    home.configure(&text.replace("authenticate = false", "authenticate = false\nmax_bindings = 2"));
    assert_eq!(home.ask_json(&["reload"])["applies"][0], "registrar.max_bindings");
    assert_eq!(register(&mut phone, 3), 403);
    // It holds for processes to come.
    home.ask(&["restart", "switch"]);
    assert_eq!(register(&mut phone, 4), 403);
}

/// A program that does what a line of shell says.
fn script(home: &Home, line: &str) -> String {
    let file = home.config().with_file_name("app");
    fs::write(&file, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    format!("[[app]]\nname = \"stable\"\ncores = 1\nbinary = \"{}\"\n", file.display())
}

#[test]
fn a_process_that_fails_again_and_again_waits_longer_each_time_and_harms_nobody() {
    let home = home("");
    let section = script(&home, "echo out of luck >&2\nexit 3");
    configure(&home, &section);
    let switch = home.start();
    assert_eq!(status(&switch.udp().ask(&Request::options())), 200);
    std::thread::sleep(Duration::from_secs(3));
    let stable = process(&home, "stable");
    // 50, 100, 200, 400, 800, 1600 ms, a quarter more or less.
    let restarts = stable["restarts"].as_u64().unwrap();
    assert!((4..=9).contains(&restarts), "{stable}");
    assert_eq!(latest_reason(&home, "stable"), "exit status 3; its last words: out of luck");
    assert_eq!(process(&home, "switch")["restarts"], 0);
    let log = switch.log();
    assert!(log.contains("[stable] out of luck"), "{log}");
}

#[test]
fn a_process_that_takes_no_turn_is_killed_and_started_again() {
    let home = home(STABLE);
    let _switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let before = pid(&home, "stable");
    kill(before, libc::SIGSTOP);
    wait_at_most(Duration::from_secs(30), "another one serves", || {
        is_serving(&home, "stable") && pid(&home, "stable") != before
    });
    assert!(latest_reason(&home, "stable").contains("no sign of life for 10 s"), "{}", latest_reason(&home, "stable"));
}

#[test]
fn a_process_over_its_memory_limit_is_replaced() {
    let home = home(STABLE);
    let switch = home.start();
    wait_until("it serves", || is_serving(&home, "stable"));
    let megabytes = process(&home, "stable")["memory_bytes"].as_u64().unwrap() >> 20;
    drop(switch);
    let limit = megabytes * 3 / 4;
    configure(&home, &format!("{STABLE}memory_limit_mb = {limit}\n"));
    let _switch = home.start();
    wait_until("it is replaced", || process(&home, "stable")["restarts"].as_u64() > Some(0));
    let reason = latest_reason(&home, "stable");
    assert!(reason.contains(&format!("MB of the {limit} that it may")), "{reason}");
    assert_eq!(process(&home, "switch")["restarts"], 0);
}

#[test]
fn systemd_is_told_when_the_switch_is_up_and_when_it_ends() {
    let home = home(STABLE);
    let path = home.config().with_file_name("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |wanted: &str| {
        let mut octets = [0; 256];
        while let Ok(length) = systemd.recv(&mut octets) {
            if &octets[..length] == wanted.as_bytes() {
                return true;
            }
        }
        false
    };
    let mut switch = home.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")]);
    assert!(hears("READY=1"));
    assert!(hears("WATCHDOG=1"));
    switch.signal(libc::SIGTERM);
    assert!(hears("STOPPING=1"));
    assert!(switch.wait(STOP).success());
}
