//! Start, reload and stop, and what the command line does to a running switch.

use crate::{
    phone::{Phone, Request, header, status},
    rig::{Home, PATIENCE, mode, wait_at_most, wait_until},
};
use socket2::{Domain, Socket, Type};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A stop with a drain (the switch's own limit, and what a busy machine adds).
const STOP: Duration = Duration::from_secs(6);

#[test]
fn a_configuration_of_listeners_alone_serves_udp_and_tcp_over_ipv4_and_ipv6() {
    let home = Home::bare();
    let port = home.port();
    let v6 = |transport| format!("[[listen]]\ntransport = \"{transport}\"\naddress = \"[::1]:{port}\"\n");
    home.configure(&home.text("", &format!("{}{}", v6("udp"), v6("tcp"))));
    let switch = home.start();
    let over_v6 = SocketAddr::new("::1".parse().unwrap(), port);
    for mut phone in [switch.udp(), switch.tcp(), Phone::udp("::1", over_v6), Phone::tcp(over_v6)] {
        let answer = phone.ask(&Request::new("OPTIONS", "sip:localhost"));
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(header(&answer, "Allow").contains("REGISTER"), "{answer}");
    }
}

#[test]
fn sigterm_drains_and_ends_with_success_within_five_seconds() {
    let home = Home::new("");
    let mut switch = home.start();
    let mut idle = switch.tcp();
    assert_eq!(status(&idle.ask(&Request::options())), 200);
    switch.signal(libc::SIGTERM);
    assert!(switch.wait(STOP).success());
    assert!(switch.log().contains("stopped"), "{}", switch.log());
    assert!(idle.is_ended(PATIENCE));
    assert!(!home.data_dir().join("control.sock").exists());
}

#[test]
fn a_second_sigterm_ends_a_drain_that_waits_for_a_slow_reader() {
    let home = Home::new("[tcp]\nmax_queued_bytes = 268435456");
    let mut switch = home.start();
    let mut slow = reads_nothing(switch.address());
    let request = Request::options().text("TCP 127.0.0.1:9");
    // More answers than the buffers of both sockets hold.
    let requests = request.repeat(100);
    for _ in 0..300 {
        slow.write_all(requests.as_bytes()).unwrap();
    }
    wait_until("the switch has taken the requests", || switch.counter("edge.received").iter().sum::<u64>() >= 30_000);
    let asked = Instant::now();
    switch.signal(libc::SIGTERM);
    switch.wait_for_log("draining");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!switch.log().contains("stopped"), "there is something to drain");
    switch.signal(libc::SIGTERM);
    assert!(switch.wait(STOP).success());
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
}

/// A connection with the smallest receive buffer.
fn reads_nothing(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn sighup_applies_a_new_configuration_and_a_broken_one_changes_nothing() {
    let home = Home::new("[registrar]\nauthenticate = false");
    let switch = home.start();
    let mut phone = switch.udp();
    let other = Request::new("OPTIONS", "sip:example.org");
    assert_eq!(status(&phone.ask(&other.again())), 403);

    let domains = "domains = [\"example.com\", \"example.org\"]";
    let sections = "[registrar]\nauthenticate = false\nmax_bindings = 1\n[log]\nlevel = \"debug\"\n[mesh]\nslots = 64";
    home.configure(&home.text(domains, sections));
    switch.signal(libc::SIGHUP);
    switch.wait_for_log("reloaded");
    let log = switch.log();
    let reloaded = log.lines().find(|line| line.contains("reloaded")).unwrap();
    for key in ["domains", "registrar.max_bindings", "log.level", "mesh.slots"] {
        assert!(reloaded.contains(key), "{key} in {reloaded}");
    }
    assert_eq!(status(&phone.ask(&other.again())), 200);
    assert_eq!(status(&phone.ask(&Request::register("alice", "<sip:a@192.0.2.1>"))), 200);
    assert_eq!(status(&phone.ask(&Request::register("alice", "<sip:a@192.0.2.2>"))), 403);

    home.configure(&home.text("domains = [\"example.net\"]", "[registrar]\nmax_bindings = 0"));
    switch.signal(libc::SIGHUP);
    switch.wait_for_log("nothing is reloaded");
    assert!(switch.log().contains("max_bindings"), "{}", switch.log());
    let refused = home.run(&["status"], "");
    assert_eq!(refused.status.code(), Some(2), "the command line reads the same file: {}", refused.stderr);
    assert_eq!(status(&phone.ask(&other.again())), 200);
    assert_eq!(status(&phone.ask(&Request::new("OPTIONS", "sip:example.net"))), 403);
}

#[test]
fn the_command_line_shows_status_and_bindings_and_reloads() {
    let home = Home::new("[cores]\nswitch = 2\n[registrar]\nauthenticate = false");
    let switch = home.start();
    let mut phone = switch.udp();
    let contact = phone.contact("alice");
    let register = Request::register("alice", &contact).line("User-Agent: test phone").line("Expires: 600");
    assert_eq!(status(&phone.ask(&register)), 200);

    let shown = home.ask_json(&["status"]);
    assert_eq!((shown["bindings"].as_u64(), shown["aors"].as_u64()), (Some(1), Some(1)), "{shown}");
    assert_eq!(shown["shards"].as_array().unwrap().len(), 2);
    assert_eq!(shown["journal"]["state"], "writing");
    assert!(home.ask(&["status"]).contains("bindings  1 of 1 accounts"));

    let shown = home.ask_json(&["bindings", "alice"]);
    let binding = &shown["bindings"][0];
    assert_eq!(binding["aor"], "alice@example.com");
    assert_eq!(binding["contact"], contact.trim_matches(['<', '>']));
    assert_eq!(binding["user_agent"], "test phone");
    assert_eq!(binding["received"], format!("udp {}", phone.address()));
    assert!((590..=600).contains(&binding["expires_secs"].as_u64().unwrap()), "{binding}");
    assert!(home.ask(&["bindings"]).contains("alice@example.com"));
    assert!(home.ask(&["bindings", "bob"]).contains("Nothing is registered"));

    assert!(home.ask(&["reload"]).contains("Nothing changes now."));
    home.configure(&home.text(
        "domains = [\"example.com\"]",
        "[cores]\nswitch = 1\n[registrar]\nauthenticate = false\nmax_bindings = 3",
    ));
    let reloaded = home.ask_json(&["reload"]);
    assert_eq!(reloaded["applies"][0], "registrar.max_bindings", "{reloaded}");
    assert_eq!(reloaded["needs_restart"][0], "cores.switch", "{reloaded}");
}

#[test]
fn an_account_holds_a_second_after_it_is_added_and_no_longer_than_that_after_it_is_removed() {
    let home = Home::new("");
    let switch = home.start();
    let mut phone = switch.udp();
    let register = |phone: &mut Phone| {
        let contact = phone.contact("alice");
        status(&phone.ask_with_digest(&Request::register("alice", &contact), "alice").1)
    };
    assert_eq!(register(&mut phone), 401);
    home.add_account("alice@example.com", &[]);
    wait_at_most(Duration::from_secs(1), "the account is seen", || register(&mut phone) == 200);
    home.ask(&["account", "set", "alice", "--enabled", "false"]);
    wait_at_most(Duration::from_secs(1), "the account is disabled", || register(&mut phone) == 401);
    home.ask(&["account", "set", "alice", "--enabled", "true"]);
    wait_at_most(Duration::from_secs(1), "the account is enabled", || register(&mut phone) == 200);
    home.ask(&["account", "remove", "alice"]);
    wait_at_most(Duration::from_secs(1), "the account is gone", || register(&mut phone) == 401);
}

#[test]
fn a_second_switch_on_the_same_directory_or_port_fails_with_one_sentence() {
    let home = Home::new("");
    let mut switch = home.start();
    let second = Home::bare();
    let fails = |text: String| {
        second.configure(&text);
        let outcome = second.run(&["run"], "");
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
        let said: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("ringswitch: ")).collect();
        assert_eq!((said.len(), outcome.stderr.lines().count()), (1, 1), "{}", outcome.stderr);
        outcome.stderr
    };
    let (ours, theirs) = (second.data_dir().display().to_string(), home.data_dir().display().to_string());
    let sentence = fails(second.text("", "").replace(&ours, &theirs));
    let pid = switch.pid();
    assert!(sentence.contains(&format!("another switch, process {pid}, runs in {theirs}")), "{sentence}");
    let sentence = fails(home.text("", "").replace(&theirs, &ours));
    assert!(sentence.contains(&format!("127.0.0.1:{}", home.port())), "{sentence}");
    switch.assert_alive();
    assert!(home.ask(&["status"]).contains("journal   writing"), "the first one keeps its control socket");
}

#[test]
fn what_the_switch_keeps_is_for_its_user_alone() {
    let home = Home::new("[registrar]\nauthenticate = false");
    home.add_account("alice@example.com", &[]);
    let switch = home.start();
    assert_eq!(status(&switch.udp().ask(&Request::register("alice", "<sip:a@192.0.2.1>"))), 200);
    assert_eq!(mode(&home.data_dir()), 0o700);
    for file in ["secret", "control.sock", "ringswitch.db"] {
        assert_eq!(mode(&home.data_dir().join(file)), 0o600, "{file}");
    }
    let segments: Vec<_> = std::fs::read_dir(home.data_dir().join("journal")).unwrap().map(Result::unwrap).collect();
    assert!(!segments.is_empty());
    for entry in segments {
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
    }
}
