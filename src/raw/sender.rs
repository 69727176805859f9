//! The process that sends: it takes orders, judges them again, and sends a leg its packets 20 ms apart.
//!
//! Nothing is sent that nobody hears of: a packet goes out when there is room for its event, and an impersonation without room
//! ends. Its socket takes the foreign address by IP_TRANSPARENT and is closed with the last packet.
#![expect(clippy::disallowed_methods, reason = "the edge: a stream of RTP begins at random")]

use super::Settings;
use crate::io::clock;
use callback::{Budget, End, Event, Impersonation, MAX_OCTETS, Order, Outcome, PACKET_MSECS, Policy, Refusal, Rtp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Impersonations that are under way, each with a socket; more wait in the orders' sockets.
const MAX_JOBS: usize = 512;

/// Routers between us and a gateway at most, as the kernel has it by default.
const TTL: u32 = 64;

pub(super) struct Sender<'s> {
    settings: &'s Settings,
    clients: Vec<Client>,
    policy: Policy,
    budget: Budget,
    jobs: Vec<Job>,
}

/// A process of the switch's.
pub(super) struct Client {
    /// None once the other end is closed.
    socket: Option<OwnedFd>,
    /// Events that had no room.
    lost: u32,
}

/// An impersonation under way.
struct Job {
    client: usize,
    wanted: Impersonation,
    socket: Socket,
    rtp: Rtp,
    sent: u8,
    of: u8,
    due: Duration,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), lost: 0 }
    }

    pub(super) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// What to wait for.
    fn poll_fd(&self, events: PollFlags) -> Option<PollFd<'_>> {
        self.socket.as_ref().map(|socket| PollFd::new(socket, events))
    }

    /// The next order, if there is one. What is none is told of.
    fn next_order(&mut self) -> Option<Order> {
        // One octet more tells a longer message from the longest.
        let mut octets = [0; MAX_OCTETS + 1];
        let received = recv(self.socket.as_ref()?, &mut octets, RecvFlags::DONTWAIT);
        match received {
            // No order is empty, so this is the end.
            Ok((_, 0)) => self.socket = None,
            Ok((_, length)) => match Order::decode(&octets[..length.min(octets.len())]) {
                Ok(order) => return Some(order),
                Err(_) => self.tell(&Event::Garbled),
            },
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.socket = None,
        }
        None
    }

    /// Whether an event would find room: the kernel says so as long as a quarter of the buffer is taken at most.
    fn has_room(&self) -> bool {
        let Some(mut fd) = self.poll_fd(PollFlags::OUT).map(|fd| [fd]) else { return false };
        poll(&mut fd, Some(&Default::default())).is_ok() && fd[0].revents().contains(PollFlags::OUT)
    }

    /// Tells what has happened, and before that how much could not be told.
    pub(super) fn tell(&mut self, event: &Event) {
        let Some(socket) = &self.socket else { return };
        let say = |event: &Event| send(socket, &event.encode(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok();
        if self.lost > 0 && say(&Event::Lost(self.lost)) {
            self.lost = 0;
        }
        if self.lost > 0 || !say(event) {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

/// Waits until one of `clients` has an order, or for `most`, and gives those that have one. The rest of the time is not made up for.
pub(super) fn wait(clients: &[Client], most: Option<Duration>) -> Vec<usize> {
    let there: Vec<usize> = (0..clients.len()).filter(|&client| clients[client].is_there()).collect();
    let mut fds: Vec<PollFd<'_>> = there.iter().filter_map(|&c| clients[c].poll_fd(PollFlags::IN)).collect();
    let timeout = most.and_then(|most| most.try_into().ok());
    if poll(&mut fds, timeout.as_ref()).is_err() {
        return Vec::new();
    }
    there.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(client, _)| client).collect()
}

/// Answers every order for a while: nobody is there who could send. Gives whether anybody is left who could give one.
pub(super) fn refuse(clients: &mut [Client], pause: Duration) -> bool {
    let end = clock() + pause;
    while clients.iter().any(Client::is_there) {
        let left = end.saturating_sub(clock());
        if left.is_zero() {
            return true;
        }
        for client in wait(clients, Some(left)) {
            if let Some(Order::Impersonate(wanted)) = clients[client].next_order() {
                clients[client].tell(&Event::Of(wanted, Outcome::Refused(Refusal::Away)));
            }
        }
    }
    false
}

impl<'s> Sender<'s> {
    pub(super) fn new(settings: &'s Settings, policy: Policy, clients: Vec<Client>) -> Self {
        Self { settings, clients, policy, budget: Budget::new(settings.bounds()), jobs: Vec::with_capacity(MAX_JOBS) }
    }

    /// Sends until nobody is left who could give an order.
    pub(super) fn run(&mut self) {
        while self.clients.iter().any(Client::is_there) {
            let next = self.jobs.iter().map(|job| job.due).min();
            let left = next.map(|next| next.saturating_sub(clock()));
            if self.jobs.len() < MAX_JOBS {
                for client in wait(&self.clients, left) {
                    self.obey(client);
                }
            } else {
                wait(&[], left);
            }
            self.send_due();
        }
    }

    /// Takes one order of a client's: the others have their turns.
    fn obey(&mut self, client: usize) {
        match self.clients[client].next_order() {
            Some(Order::Impersonate(wanted)) => {
                if let Err(outcome) = self.begin(client, &wanted) {
                    self.clients[client].tell(&Event::Of(wanted, outcome));
                }
            }
            Some(Order::Stop { call }) => {
                for job in self.jobs.extract_if(.., |job| job.client == client && job.wanted.call() == call) {
                    self.clients[client].tell(&Event::Of(job.wanted, Outcome::Stopped { sent: job.sent }));
                }
            }
            None => {}
        }
    }

    fn begin(&mut self, client: usize, wanted: &Impersonation) -> Result<(), Outcome> {
        self.policy.check(wanted).map_err(Outcome::Refused)?;
        let now = clock();
        let of = self.budget.grant(now, wanted).map_err(Outcome::Refused)?;
        let socket = self.open(wanted.source(), wanted.destination())?;
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy)
            .map_err(|error| Outcome::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) })?;
        let (rtp, wanted) = (Rtp::new(wanted.silence(), entropy), wanted.clone());
        // The ACKs go out with the turn that has asked for this.
        let due = now + Duration::from_millis(PACKET_MSECS.into());
        self.jobs.push(Job { client, wanted, socket, rtp, sent: 0, of, due });
        Ok(())
    }

    /// A socket whose datagrams seem to come from `source`. On the way there the kernel is asked whether one of the addresses has
    /// become ours since we were started: only our own can be bound without the option (ip(7)).
    fn open(&self, source: SocketAddr, destination: SocketAddr) -> Result<Socket, Outcome> {
        let told = |error: io::Error| failed(&error);
        let socket = Socket::new(Domain::for_address(source), Type::DGRAM, Some(Protocol::UDP)).map_err(told)?;
        if !self.settings.binds_anything(source.ip()) {
            refuse_own(&socket, source.ip(), End::Source)?;
            refuse_own(&socket, destination.ip(), End::Destination)?;
        }
        match source {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).and_then(|()| socket.set_ttl_v4(TTL)),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).and_then(|()| socket.set_unicast_hops_v6(TTL)),
        }
        .map_err(told)?;
        // A gateway may have one port for all its calls.
        socket.set_reuse_address(true).and_then(|()| socket.bind(&source.into())).map_err(told)?;
        Ok(socket)
    }

    /// Sends every packet whose time has come.
    fn send_due(&mut self) {
        let (now, clients) = (clock(), &mut self.clients);
        self.jobs.retain_mut(|job| {
            if job.due > now {
                return true;
            }
            let client = &mut clients[job.client];
            if !client.has_room() {
                client.lost = client.lost.saturating_add(1);
                return false;
            }
            let packet = job.rtp.next_packet();
            let flags = libc::MSG_DONTWAIT;
            let outcome = match job.socket.send_to_with_flags(&packet, &job.wanted.destination().into(), flags) {
                Ok(_) => {
                    job.sent += 1;
                    Outcome::Sent { number: job.sent, of: job.of }
                }
                Err(error) => failed(&error),
            };
            client.tell(&Event::Of(job.wanted.clone(), outcome));
            // After a pause the packets are as far apart as ever.
            job.due = now + Duration::from_millis(PACKET_MSECS.into());
            matches!(outcome, Outcome::Sent { .. }) && job.sent < job.of
        });
    }
}

fn refuse_own(socket: &Socket, ip: IpAddr, end: End) -> Result<(), Outcome> {
    match socket.bind(&SocketAddr::new(ip, 0).into()) {
        Ok(()) => Err(Outcome::Refused(Refusal::Own(end))),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &io::Error) -> Outcome {
    Outcome::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) }
}
