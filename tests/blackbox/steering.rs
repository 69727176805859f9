//! Steering: each datagram comes in at the shard that handles it, from the first on, whatever becomes of the processes behind the sockets; and
//! a switch that may not have it says so and serves.

use crate::{
    phone::{Phone, Request, header, status},
    rig::{Home, PATIENCE, Switch, wait_until},
    supervisor::runs,
};
use std::collections::HashSet;

/// What a switch says that may not steer.
const REMEDY: &str = "set AmbientCapabilities=CAP_BPF CAP_PERFMON in the unit";

fn home(processes: &str, shards: u16) -> Home {
    let home = Home::bare();
    configure(&home, processes, shards);
    home
}

fn configure(home: &Home, processes: &str, shards: u16) {
    let top = format!("domains = [\"example.com\"]\nprocesses = \"{processes}\"");
    home.configure(&home.text(&top, &format!("[cores]\nswitch = {shards}\n")));
}

/// Whether it steers; who may not has to say so.
fn is_steering(switch: &Switch<'_>) -> bool {
    let state = state(switch);
    if state != "on" {
        assert!(state.starts_with("not possible: ") && switch.log().contains(REMEDY), "{state}\n{}", switch.log());
        println!("{state}");
    }
    state == "on"
}

fn state(switch: &Switch<'_>) -> String {
    switch.home.ask_json(&["status"])["steering"]["state"].as_str().unwrap().to_owned()
}

/// Has so many requests answered, each sent once; from one address.
fn ask(phone: &mut Phone, count: usize) {
    let requests: Vec<_> = std::iter::repeat_with(Request::options).take(count).collect();
    for request in &requests {
        phone.send_request(request);
    }
    let mut waiting: HashSet<_> = requests.iter().map(|request| request.call_id.as_str()).collect();
    while !waiting.is_empty() {
        let answer = phone.receive(PATIENCE).unwrap_or_else(|| panic!("{} are lost", waiting.len()));
        assert_eq!(status(&answer), 200, "{answer}");
        let call_id = header(&answer, "Call-ID").to_owned();
        assert!(waiting.remove(call_id.as_str()), "answered once: {answer}");
    }
}

/// Each shard has its part, and got it from the kernel.
fn assert_at_home(switch: &Switch<'_>, shards: usize) {
    let [received, answered, passed_on] =
        ["edge.received", "proxy.answered", "edge.passed_on"].map(|name| switch.counter(name));
    assert_eq!(passed_on, vec![0; shards]);
    assert_eq!(received, answered);
    assert!(received.iter().all(|&count| count > 0), "{received:?}");
}

#[test]
fn all_that_one_address_sends_comes_in_at_its_owners() {
    for shards in [2, 3] {
        let home = home("one", shards);
        let switch = home.start();
        ask(&mut switch.udp(), 60);
        if is_steering(&switch) {
            assert_at_home(&switch, shards.into());
            let shown = home.ask(&["status"]);
            assert!(shown.contains("steering  on, 60 datagrams to their owners, 0 left"), "{shown}");
        } else {
            assert!(switch.counter("edge.passed_on").iter().sum::<u64>() > 0);
        }
    }
}

#[test]
fn it_outlives_every_process_behind_the_sockets() {
    let home = home("separate", 2);
    let switch = home.start();
    let mut phone = switch.udp();
    ask(&mut phone, 40);
    if !is_steering(&switch) {
        return;
    }
    assert_at_home(&switch, 2);
    home.ask(&["restart", "switch"]);
    ask(&mut phone, 40);
    assert_at_home(&switch, 2);

    let pid = || home.ask_json(&["status"])["processes"][1]["pid"].as_i64().unwrap_or(0) as i32;
    let killed = pid();
    // SAFETY: the supervisor, which we have started, has named this process as its child a moment ago.
    assert_eq!(unsafe { libc::kill(killed, libc::SIGKILL) }, 0);
    while runs(killed) {
        std::thread::yield_now();
    }
    // What is sent now waits for the next one.
    ask(&mut phone, 40);
    wait_until("another one serves", || ![0, killed].contains(&pid()));
    assert_at_home(&switch, 2);
    assert_eq!(home.ask_json(&["status"])["steering"]["steered"], 120);
}

#[test]
fn another_number_of_shards_holds_from_the_next_start_on() {
    let home = home("separate", 2);
    for shards in [3, 4, 1, 2] {
        let mut switch = home.start();
        let running = switch.counter("edge.received").len();
        let mut phone = switch.udp();
        ask(&mut phone, 60);
        if running == 1 {
            assert_eq!(state(&switch), "not needed");
        } else if is_steering(&switch) {
            assert_at_home(&switch, running);
        }
        configure(&home, "separate", shards);
        let told = home.ask_json(&["reload"]);
        assert_eq!(told["needs_restart"][0], "cores.switch", "{told}");
        // Those that run go on.
        home.ask(&["restart", "switch"]);
        ask(&mut phone, 60);
        if running > 1 && is_steering(&switch) {
            assert_at_home(&switch, running);
        }
        switch.signal(libc::SIGTERM);
        assert!(switch.wait(PATIENCE).success());
    }
}

#[test]
fn an_operator_who_does_not_want_it_has_it_not() {
    let home = Home::new("[cores]\nswitch = 2\n[udp]\nsteering = \"off\"");
    let switch = home.start();
    ask(&mut switch.udp(), 60);
    assert_eq!(state(&switch), "off");
    assert!(switch.counter("edge.passed_on").iter().sum::<u64>() > 0);
    assert!(!switch.log().contains("steer"), "{}", switch.log());
}

#[test]
fn a_switch_without_the_capabilities_says_so_and_serves() {
    for processes in ["one", "separate"] {
        let home = home(processes, 2);
        let switch = start_with(&home, "-all");
        ask(&mut switch.udp(), 60);
        assert!(!is_steering(&switch));
        assert!(switch.log().contains(" WARN ") && switch.log().contains("lacks CAP_BPF and CAP_PERFMON"));
        assert!(switch.counter("edge.passed_on").iter().sum::<u64>() > 0);
    }
}

#[test]
fn ambient_capabilities_are_enough_and_are_given_up() {
    if !is_root() {
        return println!("only root can grant them");
    }
    let home = home("one", 2);
    let switch = start_with(&home, "-all,+bpf,+perfmon");
    ask(&mut switch.udp(), 60);
    assert_eq!(state(&switch), "on");
    assert_at_home(&switch, 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", switch.pid())).unwrap();
    assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
}

/// Root without root's rights but these, as a user's unit with AmbientCapabilities has it; another user has none anyway.
fn start_with<'h>(home: &'h Home, capabilities: &str) -> Switch<'h> {
    if !is_root() {
        return home.start();
    }
    let rights = ["--securebits", "+noroot,+noroot_locked", "--inh-caps", capabilities, "--ambient-caps", capabilities];
    home.start_by(&[&["setpriv"], &rights[..]].concat())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
