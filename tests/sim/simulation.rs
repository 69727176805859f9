//! The simulator: what is under way, who is there, and what time it is.

use crate::{
    audit::Audit,
    ladder::Ladder,
    network::{Rng, Weather},
    phone::{Call, Phone},
    proxy::{Directory, write_addresses},
    script::{Act, Script},
    server::{Asked, Server},
};
use agent::{Now, Outbox, Posted, Ticket};
use appserver::{Census, Settings};
use bumpalo::Bump;
use callback::{Impersonation, Order};
use sip::{HeaderName, Limits, Message, Method};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// The Unix time at which every run begins.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// Steps after which a run is taken to go on for ever.
const MAX_STEPS: usize = 5_000_000;

/// Where the application server is reached.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)), 5060);

/// How long the journal takes.
const JOURNAL: Duration = Duration::from_millis(2);

/// What happens at a time.
enum Event {
    /// A datagram arrives.
    Arrive { from: SocketAddr, to: SocketAddr, octets: Vec<u8> },
    /// A user does something in a call.
    Act { phone: usize, call: usize, act: Act },
    /// The journal has kept these records of one run of the application server, up to that ticket.
    Settled { run: u32, records: Vec<u8>, up_to: Ticket },
    /// The application server dies and is started again.
    Kill,
    /// A user wants to be called back.
    CallBack { user: String, first: String, second: String },
    /// A user calls.
    Call { phone: usize, target: String, script: Script },
}

/// Phones, perhaps an application server, a network, a clock.
pub struct Simulation {
    seed: u64,
    rng: Rng,
    weather: Weather,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    directory: Directory,
    pub phones: Vec<Phone>,
    server: Option<Server>,
    by_address: BTreeMap<SocketAddr, usize>,
    unplugged: BTreeSet<SocketAddr>,
    /// Requests that are lost on their way to a phone, the first of each, by their CSeq.
    lost: Vec<(SocketAddr, String)>,
    /// To whom re-INVITEs take longer, and by how much.
    slow_re_invites: BTreeMap<SocketAddr, Duration>,
    pub ladder: Ladder,
    audit: Audit,
    /// What the parties of calls back were to hear in each other's name, by the call's number; and which calls' packets were to stop.
    pub impersonations: BTreeMap<u128, Vec<Impersonation>>,
    pub stopped: Vec<(u128, Duration)>,
}

impl Simulation {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            weather,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            directory: Directory::default(),
            phones: Vec::new(),
            server: None,
            by_address: BTreeMap::new(),
            unplugged: BTreeSet::new(),
            lost: Vec::new(),
            slow_re_invites: BTreeMap::new(),
            ladder: Ladder::default(),
            audit: Audit::default(),
            impersonations: BTreeMap::new(),
            stopped: Vec::new(),
        }
    }

    /// With an application server for `example.com`, which every phone sends everything to.
    pub fn with_server(seed: u64, weather: Weather, configure: impl FnOnce(&mut Settings)) -> Self {
        let mut simulation = Self::new(seed, weather);
        let server = Server::new(simulation.clock(), SERVER, simulation.rng.next(), configure);
        simulation.server = Some(server);
        simulation.ladder.name(SERVER, "ringswitch");
        simulation.directory.put("example.com", SERVER);
        simulation
    }

    /// Lets the parties of calls back hear packets in each other's name.
    pub fn impersonating(&mut self) {
        self.server().around.impersonator = Some(Asked::default());
    }

    /// The application server.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("the test has one")
    }

    fn clock(&self) -> Now {
        Now { monotonic: self.now, unix: EPOCH + self.now }
    }

    /// A new phone of that name. With an application server its user has an account there and is registered; without one the
    /// phone sends everything where its URI leads.
    pub fn phone(&mut self, name: &str) -> usize {
        let number = self.phones.len();
        let address = SocketAddr::from(([192, 0, 2, 1 + number as u8], 5060));
        let outbound = self.server.is_some().then_some(SERVER);
        let phone = Phone::new(self.clock(), name, address, outbound, self.rng.next());
        if let Some(server) = &mut self.server {
            server.account(name);
            server.bind(name, address, 1000);
        }
        self.ladder.name(address, name);
        self.directory.put(name, address);
        self.by_address.insert(address, number);
        self.phones.push(phone);
        number
    }

    /// Lets a phone be reached at one more address, which it may move to.
    pub fn extend(&mut self, phone: usize, address: SocketAddr) {
        self.ladder.name(address, &format!("{}'", self.phones[phone].name));
        self.by_address.insert(address, phone);
    }

    /// Loses the first request of this CSeq to a phone.
    pub fn lose(&mut self, phone: usize, cseq: &str) {
        self.lost.push((self.phones[phone].address, cseq.to_owned()));
    }

    /// Lets re-INVITEs to a phone take longer by `millis`.
    pub fn delay_re_invites_to(&mut self, phone: usize, millis: u64) {
        self.slow_re_invites.insert(self.phones[phone].address, Duration::from_millis(millis));
    }

    /// Takes a phone off the network.
    pub fn unplug(&mut self, phone: usize) {
        self.unplugged.insert(self.phones[phone].address);
    }

    /// A user calls `target` after `millis`.
    pub fn call(&mut self, millis: u64, phone: usize, target: &str, script: Script) {
        self.schedule(Duration::from_millis(millis), Event::Call { phone, target: target.to_owned(), script });
    }

    /// `user` asks after `millis` for a call of these two dial strings.
    pub fn call_back(&mut self, millis: u64, user: &str, first: &str, second: &str) {
        let (first, second) = (first.to_owned(), second.to_owned());
        let event = Event::CallBack { user: format!("{user}@example.com"), first, second };
        self.schedule(Duration::from_millis(millis), event);
    }

    /// The application server dies after `millis`, and is started again at once.
    pub fn kill(&mut self, millis: u64) {
        self.schedule(Duration::from_millis(millis), Event::Kill);
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + after, self.scheduled), event);
    }

    /// Runs until nothing is left to happen.
    pub fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            let served = self.server.as_ref().and_then(|server| server.app.next_timeout());
            let timeout = self.phones.iter().filter_map(Phone::next_timeout).chain(served).min();
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = timeout.into_iter().chain(event).min() else { return };
            self.now = next.max(self.now);
            if event.is_some_and(|at| at <= self.now) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
            } else {
                if served.is_some_and(|at| at <= self.now) {
                    self.serve(|server, now, out| server.handle_timeout(now, out));
                }
                for number in 0..self.phones.len() {
                    if self.phones[number].next_timeout().is_some_and(|at| at <= self.now) {
                        self.turn(number, |phone, now, out| phone.handle_timeout(now, out));
                    }
                }
            }
        }
        self.fail(&["it goes on for ever".to_owned()]);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, octets } => {
                if to == SERVER && self.server.is_some() {
                    self.serve(|server, now, out| {
                        let octets = out.arena().alloc_slice_copy(&octets);
                        server.handle_datagram(now, from, octets, out);
                    });
                } else if let Some(&number) = self.by_address.get(&to) {
                    self.turn(number, |phone, now, out| {
                        let octets = out.arena().alloc_slice_copy(&octets);
                        phone.handle_datagram(now, from, octets, out);
                    });
                }
            }
            Event::Settled { run, records, up_to } => {
                if self.server().runs == run {
                    self.serve(|server, now, out| server.settle(now, &records, up_to, out));
                }
            }
            Event::Kill => {
                let (now, seed) = (self.clock(), self.rng.next());
                self.server().restart(now, seed);
            }
            Event::Act { phone, call, act } => self.turn(phone, |phone, now, out| phone.act(now, call, act, out)),
            Event::CallBack { user, first, second } => self.serve(|server, now, out| {
                let begun = server.app.call_back(now, &user, &first, &second, &mut server.around, out);
                begun.expect("there is room for it");
            }),
            Event::Call { phone, target, script } => self.turn(phone, |phone, now, out| {
                phone.call(now, &target, script, out);
            }),
        }
    }

    /// One turn of a phone.
    fn turn(&mut self, number: usize, work: impl for<'t> FnOnce(&mut Phone, Now, &mut Outbox<'t>)) {
        let (arena, mut journal, mut ticket) = (Bump::new(), Vec::new(), 0);
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        let (now, before) = (self.clock(), self.phones[number].address);
        work(&mut self.phones[number], now, &mut out);
        for call in self.phones[number].calls.iter_mut().filter(|call| call.outcome.is_some()) {
            call.ended_at.get_or_insert(self.now);
        }
        let address = self.phones[number].address;
        if address != before {
            self.by_address.remove(&before);
        }
        for posted in out.take_posted() {
            self.send(address, posted);
        }
        for (after, call, act) in std::mem::take(&mut self.phones[number].agenda) {
            self.schedule(after, Event::Act { phone: number, call, act });
        }
    }

    /// One turn of the application server.
    fn serve(&mut self, work: impl for<'t> FnOnce(&mut Server, Now, &mut Outbox<'t>)) {
        let (arena, now) = (Bump::new(), self.clock());
        let mut server = self.server.take().expect("it is served only where there is a server");
        let (mut journal, mut ticket) = (Vec::new(), server.next_ticket);
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        work(&mut server, now, &mut out);
        server.run_slices(now, &mut out);
        for posted in out.take_posted() {
            self.send(SERVER, posted);
        }
        drop(out);
        self.note_impersonations(server.around.impersonator.as_ref().map(Asked::take).unwrap_or_default());
        if server.next_ticket < ticket {
            server.next_ticket = ticket;
            let settled = Event::Settled { run: server.runs, records: journal, up_to: Ticket(ticket - 1) };
            self.schedule(JOURNAL, settled);
        }
        self.server = Some(server);
    }

    fn note_impersonations(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Impersonate(wanted) => {
                    let [to, from] = [wanted.destination(), wanted.source()].map(|at| self.whose_media(at));
                    self.ladder.note(self.now, format!("{to} is to hear packets that seem to come from {from}"));
                    self.impersonations.entry(wanted.call()).or_default().push(wanted);
                }
                Order::Stop { call } => {
                    self.ladder.note(self.now, "no more such packets".to_owned());
                    self.stopped.push((call, self.now));
                }
            }
        }
    }

    /// Whose media address it is, and the port.
    fn whose_media(&self, address: SocketAddr) -> String {
        let phone = self.phones.iter().find(|phone| phone.media == address.ip());
        phone.map_or(address.to_string(), |phone| format!("{}:{}", phone.name, address.port()))
    }

    /// What an agent at `from` has posted goes on its way.
    fn send(&mut self, from: SocketAddr, posted: Posted<'_>) {
        let message = match Message::parse(posted.octets, &Limits::default()) {
            Ok(message) => message,
            Err(error) => return self.audit.fault(format!("{error:?}: {}", String::from_utf8_lossy(posted.octets))),
        };
        let Some(to) = self.directory.destination(posted.way, &message) else {
            return self.audit.fault(format!("{:?} leads nowhere: {message:?}", posted.way));
        };
        let octets = write_addresses(&message, from);
        let sent = Message::parse(&octets, &Limits::default()).expect("only an address was written");
        let is_unplugged = self.unplugged.contains(&from) || self.unplugged.contains(&to);
        let cseq = sent.value(HeaderName::CSeq).filter(|_| sent.is_request()).unwrap_or_default();
        let lost = self.lost.iter().position(|(phone, lost)| *phone == to && lost.as_bytes() == cseq);
        let is_lost = is_unplugged || lost.map(|at| self.lost.remove(at)).is_some();
        let fate = if is_lost { Vec::new() } else { self.weather.fate(&mut self.rng) };
        self.ladder.add(self.now, from, to, &sent, fate.len());
        self.audit.sent(from, to, &sent);
        let is_re_invite = sent.request().is_ok_and(|r| r.method == Method::Invite && r.to.tag.is_some());
        let slow = self.slow_re_invites.get(&to).filter(|_| is_re_invite).copied().unwrap_or_default();
        for after in fate {
            self.schedule(after + slow, Event::Arrive { from, to, octets: octets.clone() });
        }
    }

    /// The one call that a phone had.
    pub fn only_call(&self, phone: usize) -> &Call {
        match &self.phones[phone].calls[..] {
            [call] => call,
            calls => self.fail(&[format!("{} has had {} calls", self.phones[phone].name, calls.len())]),
        }
    }

    /// Runs to the end and holds the run to the rules.
    pub fn finish(&mut self) {
        self.run();
        let mut faults = self.audit.faults.clone();
        for phone in &self.phones {
            faults.extend(phone.faults.iter().cloned());
            if phone.left() > 0 {
                faults.push(format!("{} has {} transactions left", phone.name, phone.left()));
            }
            if phone.requests_without_final() > 0 {
                faults.push(format!("{} calls of {} have no end", phone.requests_without_final(), phone.name));
            }
            for (number, call) in phone.calls.iter().enumerate().filter(|(_, call)| call.outcome.is_none()) {
                faults.push(format!("call {number} of {} is {:?}", phone.name, call.phase));
            }
        }
        let reports = self.server.as_mut().map(|server| server.app.take_reports()).unwrap_or_default();
        faults.extend(reports.into_iter().filter_map(|report| report.fault).map(|fault| format!("{fault:?}")));
        if let Some(census) = self.server.as_ref().map(|server| server.app.census())
            && census != Census::default()
        {
            faults.push(format!("the application server has left: {census:?}"));
        }
        let now = self.clock();
        if self.server.as_ref().is_some_and(|server| server.kept_calls(now).iter().any(|call| call.end.is_none())) {
            faults.push("the journal keeps calls that have ended".to_owned());
        }
        if !faults.is_empty() {
            self.fail(&faults);
        }
    }

    /// Fails the test, with all that is needed to see it again.
    pub fn fail(&self, faults: &[String]) -> ! {
        let mut text = String::new();
        let _ = write!(text, "RINGSWITCH_SIM_SEED={}\n{}\n{}", self.seed, self.ladder, faults.join("\n"));
        panic!("{text}");
    }
}

/// The seeds of a test: `count` of them, or the one that the environment names.
#[expect(clippy::disallowed_methods, reason = "a failing run is reproduced by its seed")]
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("RINGSWITCH_SIM_SEED").ok().map(|seed| seed.parse().expect("the seed is a number"));
    only.map_or(1..=count, |seed| seed..=seed)
}
