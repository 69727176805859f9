//! A network of the test's own, in network namespaces: the switch, two gateways, and a router between them.
//!
//! ```text
//! switch 192.0.2.2, 2001:db8:0::2 ─┐
//! first  198.51.100.2, 2001:db8:a::2 ─ router (.1, ::1 on each)
//! second 203.0.113.2, 2001:db8:b::2 ─┘
//! ```

use std::{
    fs,
    net::IpAddr,
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace. What it opens or starts is there, whoever uses it.
pub struct Node {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Names its namespace to ip(8).
    id: i32,
}

impl Node {
    pub fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (started, starting) = mpsc::channel();
        let work = move || {
            // SAFETY: it changes what this thread sees of the network, and nothing else.
            let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(unshared, 0, "{}", std::io::Error::last_os_error());
            started.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            todo.into_iter().for_each(|job| job());
        };
        let thread = thread::spawn(work);
        let id = starting.recv().unwrap();
        let node = Self { jobs: Some(jobs), thread: Some(thread), id };
        node.ip("link set lo up");
        node
    }

    /// Runs `job` there.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let (done, result) = mpsc::channel();
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || drop(done.send(job())));
        // SAFETY: the job has ended, or will never be run, when this returns: what it borrows is still there.
        let job: Job = unsafe { std::mem::transmute(job) };
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the job has not failed")
    }

    /// Runs ip(8) there.
    pub fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    pub fn command(&self, program: &str, arguments: &str) {
        let output = self.run(|| Command::new(program).args(arguments.split(' ')).output());
        let output = output.unwrap_or_else(|error| panic!("{program}, which tests/run installs: {error}"));
        assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets a sysctl of the namespace.
    pub fn set(&self, sysctl: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/net/{sysctl}"), value).unwrap());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

/// The family of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Three nodes around a router.
pub struct Network {
    pub router: Node,
    pub switch: Node,
    pub gateways: [Node; 2],
}

/// The networks of the switch and of the gateways.
const V4: [&str; 3] = ["192.0.2", "198.51.100", "203.0.113"];
const V6: [&str; 3] = ["2001:db8:0:", "2001:db8:a:", "2001:db8:b:"];

impl Network {
    pub fn new() -> Self {
        let network = Self { router: Node::new(), switch: Node::new(), gateways: [Node::new(), Node::new()] };
        let Self { router, switch, gateways: [first, second] } = &network;
        router.set("ipv4/ip_forward", "1");
        router.set("ipv6/conf/all/forwarding", "1");
        for (number, node) in [switch, first, second].into_iter().enumerate() {
            let (v4, v6) = (V4[number], V6[number]);
            router.ip(&format!("link add to{number} type veth peer name uplink netns {}", node.id));
            for (node, link, host) in [(router, format!("to{number}"), 1), (node, "uplink".to_owned(), 2)] {
                node.ip(&format!("address add {v4}.{host}/24 dev {link}"));
                node.ip(&format!("address add {v6}:{host}/64 dev {link} nodad"));
                node.ip(&format!("link set {link} up"));
                // Else a packet has its checksum from the hardware that is not there.
                node.command("ethtool", &format!("-K {link} tx off"));
            }
            node.ip(&format!("route add default via {v4}.1"));
            node.ip(&format!("route add default via {v6}:1"));
        }
        network.filter_sources(false);
        network
    }

    /// Has the router forward only what comes from where its answers would go, as networks do whose operators follow BCP 38.
    pub fn filter_sources(&self, is_strict: bool) {
        for link in ["all", "to0", "to1", "to2"] {
            self.router.set(&format!("ipv4/conf/{link}/rp_filter"), if is_strict { "1" } else { "0" });
        }
    }

    pub fn switch_ip(family: Family) -> IpAddr {
        Self::ip(0, family)
    }

    pub fn gateway_ip(number: usize, family: Family) -> IpAddr {
        Self::ip(number + 1, family)
    }

    fn ip(number: usize, family: Family) -> IpAddr {
        let text = match family {
            Family::V4 => format!("{}.2", V4[number]),
            Family::V6 => format!("{}:2", V6[number]),
        };
        text.parse().unwrap()
    }
}
