//! Who may do what: one small process sends, can do nothing else, and believes nobody; all others have no capability.

use super::{A_WHILE, Family, Network, ON, PACKET, home, join, start};
use crate::own_network::in_its_own_network;
use crate::rig::{PATIENCE, Switch, wait_until};
use callback::{End, Event, Impersonation, Media, Order, Outcome, Refusal};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, Signal};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    thread::sleep,
};

/// CAP_NET_RAW (capability.h).
const NET_RAW: u64 = 1 << 13;

/// A process as /proc has it.
struct Process {
    pid: i32,
    is_raw: bool,
    /// Of each thread.
    threads: Vec<BTreeMap<String, String>>,
}

impl Process {
    /// Of a thread: a set of capabilities, or a number.
    fn all(&self, field: &str, value: u64) -> bool {
        let radix = if field.starts_with("Cap") { 16 } else { 10 };
        self.threads.iter().all(|thread| u64::from_str_radix(&thread[field], radix).unwrap() == value)
    }

    fn assert(&self, fields: &[(&str, u64)]) {
        for &(field, value) in fields {
            assert!(self.all(field, value), "{field} of {} is not {value}: {:?}", self.pid, self.threads);
        }
    }
}

/// A process and all that it and its children have started.
fn processes(root: i32) -> Vec<Process> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        found.extend(
            children
                .flat_map(|text| text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()),
        );
    }
    found.into_iter().map(process).collect()
}

fn process(pid: i32) -> Process {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let is_raw = arguments.split(|&octet| octet == 0).nth(1) == Some(b"raw");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let read = |text: String| {
        text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
    };
    let threads =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).map(read).collect();
    Process { pid, is_raw, threads }
}

fn raw_processes(switch: &Switch<'_>) -> Vec<Process> {
    processes(switch.pid()).into_iter().filter(|process| process.is_raw).collect()
}

#[test]
fn one_process_holds_the_capability_and_no_other_has_any() {
    in_its_own_network("impersonation::confinement::one_process_holds_the_capability_and_no_other_has_any", || {
        let network = Network::new();
        for layout in ["separate", "one"] {
            let home = home(ON);
            let text = fs::read_to_string(home.config()).unwrap();
            home.configure(&format!("processes = \"{layout}\"\n{text}"));
            let switch = start(&network, &home);
            assert!(!switch.log().contains("has an older landlock") && !switch.log().contains("no landlock"));
            let (raw, others): (Vec<_>, Vec<_>) =
                processes(switch.pid()).into_iter().partition(|process| process.is_raw);
            assert_eq!(others.len(), if layout == "one" { 1 } else { 3 });
            for other in others {
                assert!(other.threads.len() > 1);
                other.assert(&[
                    ("CapInh", 0),
                    ("CapPrm", 0),
                    ("CapEff", 0),
                    ("CapBnd", 0),
                    ("CapAmb", 0),
                    ("NoNewPrivs", 1),
                ]);
            }
            // The keeper has it, and not in effect.
            let [keeper, sender] = &raw[..] else { panic!("{} processes", raw.len()) };
            keeper.assert(&[("CapEff", 0), ("Seccomp_filters", 1)]);
            sender.assert(&[("CapEff", NET_RAW), ("Seccomp_filters", 2)]);
            for process in [keeper, sender] {
                process.assert(&[("CapPrm", NET_RAW), ("CapInh", 0), ("CapBnd", 0), ("CapAmb", 0)]);
                process.assert(&[("NoNewPrivs", 1), ("Seccomp", 2), ("Threads", 1)]);
                for descriptor in fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().flatten() {
                    let file = fs::read_link(descriptor.path()).unwrap_or_default();
                    let file = file.to_string_lossy();
                    assert!(["socket:", "pipe:", "/dev/null"].iter().any(|kind| file.starts_with(kind)), "{file}");
                }
                // A stop of all processes is for the switch to heed: HUP, INT and TERM are ignored.
                let ignored = u64::from_str_radix(&process.threads[0]["SigIgn"], 16).unwrap();
                assert_eq!(ignored & 0x4003, 0x4003, "{ignored:x}");
                let kib: u64 = process.threads[0]["RssAnon"].trim_end_matches(" kB").parse().unwrap();
                assert!(kib < 16 << 10, "{kib} KiB");
            }
        }
    });
}

#[test]
fn nobody_holds_it_where_impersonation_is_off() {
    in_its_own_network("impersonation::confinement::nobody_holds_it_where_impersonation_is_off", || {
        let (network, home) = (Network::new(), home(""));
        let switch = start(&network, &home);
        for process in processes(switch.pid()) {
            assert!(!process.is_raw);
            process.assert(&[("CapPrm", 0), ("CapBnd", 0), ("NoNewPrivs", 1)]);
        }
    });
}

#[test]
fn a_sender_that_dies_is_told_and_replaced() {
    in_its_own_network("impersonation::confinement::a_sender_that_dies_is_told_and_replaced", || {
        let (network, home) = (Network::new(), home(ON));
        let switch = start(&network, &home);
        let sender = raw_processes(&switch).pop().unwrap().pid;
        rustix::process::kill_process(Pid::from_raw(sender).unwrap(), Signal::KILL).unwrap();
        switch.wait_for_log("the process that sends has died");
        wait_until("another one is there", || {
            let raw = raw_processes(&switch);
            raw.len() == 2 && raw[1].pid != sender && raw[1].all("CapEff", NET_RAW)
        });
        let joined = join(&network, &home, Family::V4);
        wait_until("both hear the other", || joined.media.iter().all(|media| media.heard() > 0));
        wait_until("both are sent all", || switch.log().matches(PACKET).count() == 6);
    });
}

#[test]
fn it_ends_with_the_switch_however_that_ends() {
    in_its_own_network("impersonation::confinement::it_ends_with_the_switch_however_that_ends", || {
        let (network, home) = (Network::new(), home(ON));
        for kills in [true, false] {
            let mut switch = start(&network, &home);
            let raw = raw_processes(&switch);
            if kills {
                switch.kill();
            } else {
                home.ask(&["stop"]);
                switch.wait(PATIENCE);
                assert!(!switch.log().contains("ERROR"), "{}", switch.log());
            }
            wait_until("they have ended", || raw.iter().all(|process| !is_there(process.pid)));
        }
    });
}

/// Whether a process is there that has not ended, waited for or not.
fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

#[test]
fn ambient_capabilities_are_enough_and_are_passed_on_to_nobody_else() {
    in_its_own_network(
        "impersonation::confinement::ambient_capabilities_are_enough_and_are_passed_on_to_nobody_else",
        || {
            let (network, home) = (Network::new(), home(ON));
            // Root without root's rights, as a user's unit with AmbientCapabilities has it.
            let ambient = ["setpriv", "--securebits", "+noroot,+noroot_locked"];
            let ambient = [&ambient[..], &["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"]].concat();
            let switch = network.switch.run(|| home.start_by(&ambient));
            for process in processes(switch.pid()) {
                process.assert(&[
                    ("CapPrm", if process.is_raw { NET_RAW } else { 0 }),
                    ("CapAmb", 0),
                    ("NoNewPrivs", 1),
                ]);
            }
            let joined = join(&network, &home, Family::V4);
            wait_until("both hear the other", || joined.media.iter().all(|media| media.heard() > 0));
        },
    );
}

#[test]
fn a_reload_turns_it_off_and_a_new_process_stays_so() {
    in_its_own_network("impersonation::confinement::a_reload_turns_it_off_and_a_new_process_stays_so", || {
        let (network, home) = (Network::new(), home(ON));
        let switch = start(&network, &home);
        drop(join(&network, &home, Family::V4));
        wait_until("both are sent all", || switch.log().matches(PACKET).count() == 6);
        assert_eq!(home.ask_json(&["status"])["shards"][0]["counters"]["callback.sent"], 6);
        let text = fs::read_to_string(home.config()).unwrap();
        home.configure(&text.replace("impersonate = true", "impersonate = false"));
        let told = home.ask(&["reload"]);
        assert!(told.contains("callback.impersonate"), "{told}");
        for restarts in [false, true] {
            if restarts {
                home.ask(&["restart", "stable"]);
                // The one before may still be asked for a moment, and refuses.
                wait_until("the new process is asked", || {
                    home.run(&["callback", "alice@example.com", "nobody", "nobody"], "").status.success()
                });
            }
            let joined = join(&network, &home, Family::V4);
            wait_until("they are joined", || {
                let outcome = format!("call={} outcome=\"both parties are joined\"", joined.number);
                switch.log().contains(&outcome)
            });
            sleep(A_WHILE);
            assert_eq!(joined.media.each_ref().map(|media| media.heard()), [0, 0]);
        }
        assert_eq!(switch.log().matches(PACKET).count(), 6);
    });
}

#[test]
fn a_switch_without_the_capability_says_what_to_do() {
    in_its_own_network("impersonation::confinement::a_switch_without_the_capability_says_what_to_do", || {
        let (network, home) = (Network::new(), home(ON));
        let output = network.switch.run(|| {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-net_raw"]).arg(env!("CARGO_BIN_EXE_ringswitch"));
            command.arg("--config").arg(home.config()).arg("run").output().unwrap()
        });
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("AmbientCapabilities=CAP_NET_RAW"), "{told}");
    });
}

/// The process by itself, without a switch that has judged anything before.
struct Raw {
    process: Child,
    socket: OwnedFd,
}

impl Raw {
    fn start() -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_ringswitch"))
            .arg("raw")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let settings = serde_json::json!({
            "clients": [theirs.as_raw_fd()], "packets": 3, "max_packets_per_call": 12,
            "max_packets_per_destination": 100, "max_packets_per_sec": 100, "networks": [], "own": [],
            "binds_anything": [false, false], "restart_min_msecs": 5000, "restart_max_secs": 10, "steady_secs": 1,
        });
        write!(process.stdin.take().unwrap(), "{settings}").unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("ready"), "{said}");
        Self { process, socket }
    }

    fn ask(&self, octets: &[u8]) -> Event {
        send(&self.socket, octets, SendFlags::empty()).unwrap();
        self.hear()
    }

    fn hear(&self) -> Event {
        let mut event = [0; 300];
        let (_, length) = recv(&self.socket, &mut event, RecvFlags::empty()).unwrap();
        Event::decode(&event[..length]).unwrap()
    }

    fn refuses(&self, wanted: &Impersonation, why: Refusal) {
        let told = self.ask(&Order::Impersonate(wanted.clone()).encode());
        assert_eq!(told, Event::Of(wanted.clone(), Outcome::Refused(why)));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn media(ip: &str, port: u16) -> Media {
    let sdp = format!("v=0\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n");
    Media::of_sdp(sdp.as_bytes()).unwrap()
}

fn wanted(leg: u16, from: (&str, u16), to: (&str, u16)) -> Impersonation {
    Impersonation::new(7, "alice@example.com", leg, &media(from.0, from.1), &media(to.0, to.1)).unwrap()
}

#[test]
fn the_process_judges_again_and_believes_no_message() {
    in_its_own_network("impersonation::confinement::the_process_judges_again_and_believes_no_message", || {
        let network = Network::new();
        let raw = network.switch.run(Raw::start);
        let (first, second) = (("198.51.100.2", 40_000), ("203.0.113.2", 40_000));
        raw.refuses(&wanted(1, first, ("127.0.0.1", 40_000)), Refusal::Loopback(End::Destination));
        raw.refuses(&wanted(1, ("10.1.1.1", 40_000), second), Refusal::Private(End::Source));
        raw.refuses(&wanted(1, first, (second.0, 53)), Refusal::LowPort(End::Destination));
        // It was told of no address of its machine, and asks the kernel.
        raw.refuses(&wanted(2, ("192.0.2.2", 40_000), second), Refusal::Own(End::Source));
        raw.refuses(&wanted(2, first, second), Refusal::Changed);
        // Neither one octet more nor one less is an order, and none names a payload or a count.
        let order = Order::Impersonate(wanted(1, first, second)).encode();
        for octets in [&order[..order.len() - 1], &[&order[..], &[0]].concat(), &[0xff; 300]] {
            assert_eq!(raw.ask(octets), Event::Garbled);
        }
        let sent = wanted(1, first, second);
        assert_eq!(raw.ask(&order), Event::Of(sent.clone(), Outcome::Sent { number: 1, of: 3 }));
        // Each event is of one packet, or of the order that was refused.
        let again = loop {
            match raw.ask(&order) {
                Event::Of(_, Outcome::Sent { .. }) => {}
                other => break other,
            }
        };
        assert_eq!(again, Event::Of(sent, Outcome::Refused(Refusal::Again)));
    });
}

#[test]
fn an_order_to_stop_ends_a_calls_packets_and_what_is_asked_of_nobody_is_refused() {
    let name =
        "impersonation::confinement::an_order_to_stop_ends_a_calls_packets_and_what_is_asked_of_nobody_is_refused";
    in_its_own_network(name, || {
        let network = Network::new();
        let raw = network.switch.run(Raw::start);
        let wanted = wanted(1, ("198.51.100.2", 40_000), ("203.0.113.2", 40_000));
        let begun = raw.ask(&Order::Impersonate(wanted.clone()).encode());
        assert_eq!(begun, Event::Of(wanted.clone(), Outcome::Sent { number: 1, of: 3 }));
        let sent = match raw.ask(&Order::Stop { call: wanted.call() }.encode()) {
            Event::Of(_, Outcome::Sent { number, .. }) => match raw.hear() {
                Event::Of(_, Outcome::Stopped { sent }) if sent == number => sent,
                other => panic!("{other:?}"),
            },
            Event::Of(_, Outcome::Stopped { sent }) => sent,
            other => panic!("{other:?}"),
        };
        assert!(sent < 3, "{sent}");

        let sender = processes(raw.process.id() as i32).pop().unwrap().pid;
        rustix::process::kill_process(Pid::from_raw(sender).unwrap(), Signal::KILL).unwrap();
        assert!(matches!(raw.hear(), Event::Died { status: 137, .. }));
        // While nobody is there, and not later.
        raw.refuses(&wanted, Refusal::Away);
    });
}
