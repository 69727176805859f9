//! A switch that more new requests come to than it handles: some of them are refused, and what is under way gets through. It is
//! alone here, for it needs the machine's cores.
//!
//! The switch shares its core with threads that compute, so that a sender on another one is faster than it.
#![expect(clippy::disallowed_methods, reason = "tests start processes, open sockets and read the clock")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "blackbox/phone.rs"]
#[expect(dead_code, reason = "it is a peer for other tests too")]
mod phone;
#[path = "blackbox/rig.rs"]
#[expect(dead_code, reason = "it starts switches for other tests too")]
mod rig;

use phone::{Request, header, status};
use rig::{Home, Switch, wait_until};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// One flood at a time.
static FLOODS: Mutex<()> = Mutex::new(());

/// How long each rate is tried until one is found that is too much, how long that takes to settle, and how long it is kept up.
const STAGE: Duration = Duration::from_millis(200);
const SETTLED: Duration = Duration::from_secs(1);
const FLOOD: Duration = Duration::from_secs(3);
/// Threads that compute beside the switch.
const OTHERS: usize = 10;
/// From one request inside a dialog to the next.
const UNDER_WAY: Duration = Duration::from_millis(4);

#[test]
fn a_flood_of_new_requests_is_kept_from_what_is_under_way() {
    let [ours, theirs] = two_cores();
    let home = Home::new(&format!("[cores]\nswitch = [{theirs}]\n[proxy]\nrelay_from = [\"127.0.0.0/8\"]\n"));
    survives(&home, Asked::ToForward, ours, theirs);
}

#[test]
fn a_flood_of_calls_is_kept_from_those_that_an_application_server_has() {
    let [ours, theirs] = two_cores();
    let home = Home::served(&format!(
        "[cores]\nswitch = [{ours}]\n[calls]\nauthenticate = false\n[supervisor]\nnice = 0\n\
         [[app]]\nname = \"stable\"\ncores = [{theirs}]\n"
    ));
    let switch = survives(&home, Asked::ToServe, ours, theirs);
    let told = || {
        let log = switch.log();
        let server = log.lines().filter(|line| line.starts_with("[stable]") && line.contains("new requests are"));
        server.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(told().first().is_some_and(|line| line.ends_with("refused")), "{:?}", told());
    wait_until("it says that it is over", || told().last().is_some_and(|line| line.contains("taken on again")));
}

/// Floods a switch that has little of the core `theirs`: what is under way and some of the new requests get through, and a moment
/// after the flood all do. The rate is sought for which that holds and many are refused: where the machine has become slower, to
/// receive is too much already. (With `overload.patience_msecs` so long that it refuses nobody there is none.)
fn survives<'h>(home: &'h Home, asked: Asked, ours: usize, theirs: usize) -> Switch<'h> {
    let _alone = FLOODS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut switch = home.start();
    let others = Others::on(theirs);
    let address = switch.address();
    let sender = thread::spawn(move || {
        pin(ours);
        let mut trunk = Trunk::new(asked, address);
        let mut rate = trunk.too_much();
        let mut seen = trunk.flood(rate);
        for _ in 0..5 {
            if !seen.is_overload() {
                // What seemed too much was a pause of the machine.
                rate *= 1.5;
            } else if !seen.gets_through() {
                // The machine has become slower: where to receive is too much already, nothing helps.
                rate /= 1.4;
            } else {
                break;
            }
            println!("{rate:.0} a second, because of {seen:?}");
            seen = trunk.flood(rate);
        }
        (rate, seen, trunk.recovery())
    });
    let (rate, seen, recovery) = sender.join().unwrap();
    drop(others);
    let count = |name| switch.counter(name).into_iter().sum::<u64>();
    let counted = ["overload.refused", "overload.dropped", "edge.dropped_by_kernel"].map(count);
    let told = format!("{rate:.0} a second, {seen:?}, refused, dropped, lost {counted:?}, recovery {recovery:?}");
    println!("{told}");
    assert!(seen.is_overload() && seen.taken_on > 100, "some are told, and some are taken on: {told}");
    assert!(seen.gets_through(), "nearly all get through: {told}");
    assert!(recovery.is_some(), "all are taken on again: {told}");
    switch.assert_alive();
    switch
}

/// What a trunk asks of the switch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Requests that come back to it.
    ToForward,
    /// Calls to nobody, and the ends of calls that are not there.
    ToServe,
}

/// What became of a flood once it had settled.
#[derive(Debug)]
struct Seen {
    taken_on: u64,
    refused: u64,
    under_way: usize,
    under_way_arrived: usize,
}

impl Seen {
    /// Whether more came than was done.
    fn is_overload(&self) -> bool {
        self.refused > 100
    }

    /// Whether what was under way was hardly lost.
    fn gets_through(&self) -> bool {
        10 * self.under_way_arrived >= 9 * self.under_way
    }
}

/// What a trunk hears.
struct Heard {
    asked: Asked,
    taken_on: AtomicU64,
    refused: AtomicU64,
    under_way: Mutex<HashSet<String>>,
    is_over: AtomicBool,
}

/// A request that is written once and sent with many numbers.
struct Numbered {
    octets: Vec<u8>,
    places: Vec<usize>,
}

impl Numbered {
    const MARK: &str = "0123456789abcdef";

    fn new(method: &'static str, uri: &str, sent_by: &str) -> Self {
        let mut request = Request::new(method, uri);
        request.call_id = format!("{}@trunk", Self::MARK);
        request.branch = format!("z9hG4bK{}", Self::MARK);
        let octets = request.line("Contact: <sip:trunk@127.0.0.1>").text(sent_by).into_bytes();
        let places = octets.windows(Self::MARK.len()).enumerate();
        let places = places.filter(|(_, text)| *text == Self::MARK.as_bytes()).map(|(place, _)| place).collect();
        Self { octets, places }
    }

    fn send(&mut self, number: &[u8], socket: &UdpSocket) {
        for &place in &self.places {
            self.octets[place..place + Self::MARK.len()].copy_from_slice(number);
        }
        // What finds no room is lost like any other datagram.
        let _ = socket.send(&self.octets);
    }
}

/// A peer that sends requests and counts what comes of them.
struct Trunk {
    socket: Arc<UdpSocket>,
    /// For what is under way, so that the flood does not push it out of a buffer of ours.
    aside: Arc<UdpSocket>,
    heard: Arc<Heard>,
    request: Numbered,
    number: u64,
}

impl Trunk {
    fn new(asked: Asked, switch: SocketAddr) -> Self {
        let [socket, aside] = [0; 2].map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket.connect(switch).unwrap();
            Arc::new(socket)
        });
        let (uri, sent_by) = whom(asked, &socket);
        let heard = Heard {
            asked,
            taken_on: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            under_way: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        let heard = Arc::new(heard);
        for socket in [&socket, &aside] {
            let (ear, memory) = (Arc::clone(socket), Arc::clone(&heard));
            let acknowledgement = Numbered::new("ACK", &uri, &sent_by);
            thread::spawn(move || hear(&ear, &memory, acknowledgement));
        }
        Self { socket, aside, heard, request: Numbered::new("INVITE", &uri, &sent_by), number: 0 }
    }

    fn send_new(&mut self) {
        self.number += 1;
        self.request.send(format!("{:016x}", self.number).as_bytes(), &self.socket);
    }

    fn send_under_way(&self) -> String {
        let (uri, sent_by) = whom(self.heard.asked, &self.aside);
        let mut bye = Request::new("BYE", &uri);
        bye.to.push_str(";tag=callee");
        let _ = self.aside.send(bye.text(&sent_by).as_bytes());
        bye.call_id
    }

    fn taken_on(&self) -> u64 {
        self.heard.taken_on.load(Ordering::Relaxed)
    }

    fn refused(&self) -> u64 {
        self.heard.refused.load(Ordering::Relaxed)
    }

    /// Sends so many new requests a second for a while, and calls `beside` between any two batches of them.
    fn pace(&mut self, rate: f64, length: Duration, mut beside: impl FnMut(&Self, Duration)) {
        let (started, mut paced) = (Instant::now(), 0);
        while started.elapsed() < length {
            let elapsed = started.elapsed();
            beside(self, elapsed);
            let due = (elapsed.as_secs_f64() * rate) as u64;
            // Where this thread was away, what it has missed does not come at once.
            (paced..due).take(500).for_each(|_| self.send_new());
            paced = due;
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// A rate that the switch does not keep up with, and less than twice the greatest with which it does.
    fn too_much(&mut self) -> f64 {
        let (mut rate, mut fell_behind) = (1000.0, 0);
        while fell_behind < 3 {
            assert!(rate < 1e6, "the switch is not slow enough");
            let (sent, taken_on) = (self.number, self.taken_on());
            self.pace(rate, STAGE, |_, _| ());
            if 5 * (self.taken_on() - taken_on) < 4 * (self.number - sent) {
                fell_behind += 1;
            } else {
                (rate, fell_behind) = (1.4 * rate, 0);
            }
        }
        1.2 * rate
    }

    /// Sends so many new requests a second, and what is under way beside them.
    fn flood(&mut self, rate: f64) -> Seen {
        self.pace(rate, SETTLED, |_, _| ());
        let (taken_on, refused) = (self.taken_on(), self.refused());
        let (mut under_way, mut next) = (HashSet::new(), Duration::ZERO);
        self.pace(rate, FLOOD, |trunk, elapsed| {
            if elapsed >= next {
                next += UNDER_WAY;
                under_way.insert(trunk.send_under_way());
            }
        });
        thread::sleep(Duration::from_millis(500));
        let arrived = self.heard.under_way.lock().unwrap();
        Seen {
            taken_on: self.taken_on() - taken_on,
            refused: self.refused() - refused,
            under_way: under_way.len(),
            under_way_arrived: under_way.intersection(&arrived).count(),
        }
    }

    /// How long it takes until a hundred new requests in a row are taken on.
    fn recovery(&mut self) -> Option<Duration> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3) {
            let (sent, taken_on, refused) = (self.number, self.taken_on(), self.refused());
            for _ in 0..100 {
                self.send_new();
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(100));
            if self.taken_on() - taken_on == self.number - sent && self.refused() == refused {
                return Some(started.elapsed());
            }
        }
        None
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.heard.is_over.store(true, Ordering::Relaxed);
    }
}

/// Whom what is sent from `socket` is for, and the sent-by of its Via.
fn whom(asked: Asked, socket: &UdpSocket) -> (String, String) {
    let address = socket.local_addr().unwrap();
    let uri = match asked {
        Asked::ToForward => format!("sip:callee@{address}"),
        Asked::ToServe => "sip:nobody@example.com".to_owned(),
    };
    (uri, format!("UDP {address}"))
}

fn hear(socket: &UdpSocket, heard: &Heard, mut acknowledgement: Numbered) {
    let (mut buffer, mut answered) = ([0; 4096], HashSet::new());
    while !heard.is_over.load(Ordering::Relaxed) {
        let Ok(octets) = socket.recv(&mut buffer) else { continue };
        let message = std::str::from_utf8(&buffer[..octets]).unwrap();
        if heard.asked == Asked::ToForward && message.starts_with("INVITE ") {
            // Nothing more is read of these, for there are many.
            heard.taken_on.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let call_id = header(message, "Call-ID");
        if header(message, "CSeq").ends_with("BYE") {
            heard.under_way.lock().unwrap().insert(call_id.to_owned());
            continue;
        }
        let status = status(message);
        if status < 200 {
            continue;
        }
        if heard.asked == Asked::ToServe {
            acknowledgement.send(&call_id.as_bytes()[..Numbered::MARK.len()], socket);
        }
        // Where an ACK is lost, the answer comes again.
        if answered.insert(call_id.to_owned()) {
            let count = if status == 503 { &heard.refused } else { &heard.taken_on };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Threads that want the core of the switch, too: so it has so little of it that we can send more than it handles.
struct Others(Arc<AtomicBool>);

impl Others {
    fn on(core: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..OTHERS {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                pin(core);
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(is_over)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two cores that this process may use.
fn two_cores() -> [usize; 2] {
    let ours = sched_getaffinity(None).unwrap();
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&core| ours.is_set(core)).collect();
    assert!(cores.len() > 1, "a flood takes a core for who sends it, and one for the switch");
    [cores[0], cores[1]]
}

fn pin(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).unwrap();
}
