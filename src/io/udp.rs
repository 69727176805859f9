//! Datagrams (RFC 3261 §18): multishot receives into provided buffers, and sends that all run in one enter.
//!
//! The slices of a message, and the blanks that make it as long as others of its train, are put together before it is sent: to
//! copy them takes less than to have the kernel gather them.
//! Nothing is allocated per message.

use super::fragments::Fragments;
use super::ring::{Completion, DATAGRAMS, Op, SUBMISSIONS, Submissions, Wait, cancel};
use super::socket::{Name, SegmentSize};
use super::stats::Counters;
use super::trains::{Train, Trains, is_refusal};
use agent::{Flow, ListenerId, Outgoing, Received};
use bumpalo::collections::Vec as BumpVec;
use io_uring::{opcode, squeue, types};
use sip::Transport;
use std::io;
use std::net::SocketAddr;

/// Octets of messages that are put together for one enter at most.
const STAGED: usize = 1 << 20;
/// Octets of the longest datagram, and some.
const LONGEST: usize = 65_535;
static BLANKS: [u8; u8::MAX as usize] = [b' '; _];

/// The datagram side of one shard.
pub(crate) struct Datagrams {
    /// By listener: its address, if it carries datagrams.
    listeners: Vec<Option<SocketAddr>>,
    /// What every multishot receive asks for: a name and no control data.
    wanted: Box<libc::msghdr>,
    sends: SendTable,
    trains: Trains,
    fragments: Fragments,
    /// Trains that could not be sent, by their numbers.
    unsent: Vec<(u32, io::Error)>,
    /// Datagrams, and trains of them, that were received.
    taken: u64,
    /// Multishot receives that the kernel runs.
    receives: usize,
    stopping: bool,
}

/// What the kernel reads while it runs the sends of one enter.
struct SendTable {
    names: Box<[Name]>,
    headers: Box<[libc::msghdr]>,
    slices: Box<[libc::iovec]>,
    segments: Box<[SegmentSize]>,
    /// Never grows: what is in it stays where it is.
    staged: Vec<u8>,
    used: usize,
}

impl Datagrams {
    /// `listeners` are all listeners as numbered, with their addresses. What was received as a train is always taken apart.
    pub(crate) fn new(listeners: &[Option<(Transport, SocketAddr)>], trains: Trains, fragments: Fragments) -> Self {
        let of_datagrams = |&(transport, address): &_| (transport == Transport::Udp).then_some(address);
        let listeners = listeners.iter().map(|listener| listener.as_ref().and_then(of_datagrams)).collect();
        let mut wanted = Box::new(empty_header());
        wanted.msg_namelen = Name::ROOM as u32;
        wanted.msg_controllen = size_of::<SegmentSize>();
        // Written once, so that it has its memory: zeros would be pages that the kernel has yet to find.
        let mut staged = vec![b' '; STAGED];
        staged.clear();
        let sends = SendTable {
            names: vec![Name::NONE; SUBMISSIONS as usize].into(),
            headers: vec![empty_header(); SUBMISSIONS as usize].into(),
            segments: vec![SegmentSize::new(0); SUBMISSIONS as usize].into(),
            slices: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SUBMISSIONS as usize].into(),
            staged,
            used: 0,
        };
        Self { listeners, wanted, sends, trains, fragments, unsent: Vec::new(), taken: 0, receives: 0, stopping: false }
    }

    /// Starts to receive on every listener.
    pub(crate) fn listen(&mut self, ring: &mut Submissions<'_>) -> io::Result<()> {
        self.receives = self.ours().count();
        self.ours().try_for_each(|listener| self.receive(ring, listener))
    }

    /// Receives no more: what comes from now on stays in the sockets, for who reads them next.
    pub(crate) fn stop_receiving(&mut self, ring: &mut Submissions<'_>) -> io::Result<()> {
        self.stopping = true;
        self.ours().try_for_each(|listener| cancel(ring, Op::ReceiveDatagram { listener }))
    }

    /// Whether the kernel may still put a datagram into a buffer of ours.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receives > 0
    }

    /// How many datagrams, or trains of them, were received.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    fn ours(&self) -> impl Iterator<Item = u16> {
        (0..).zip(&self.listeners).filter(|(_, listener)| listener.is_some()).map(|(number, _)| number)
    }

    fn receive(&self, ring: &mut Submissions<'_>, listener: u16) -> io::Result<()> {
        let entry = opcode::RecvMsgMulti::new(types::Fixed(listener.into()), &*self.wanted, DATAGRAMS)
            .build()
            .user_data(Op::ReceiveDatagram { listener }.user_data());
        // SAFETY: the header is boxed and lives as long as this shard; it names no buffer.
        unsafe { ring.push(entry) }
    }

    /// Takes a completed receive: a datagram, a train of them, or nothing if it carries none.
    pub(crate) fn received<'t>(
        &mut self,
        ring: &mut Submissions<'_>,
        listener: u16,
        completion: &Completion,
        octets: &'t [u8],
        batch: &mut BumpVec<'t, Received<'t>>,
        count: &mut Counters,
    ) -> io::Result<()> {
        match completion.more {
            true => {}
            false if self.stopping => self.receives -= 1,
            false => self.receive(ring, listener)?,
        }
        let Ok(out) = types::RecvMsgOut::parse(octets, &self.wanted) else {
            return Ok(());
        };
        self.taken += 1;
        if out.is_payload_truncated() {
            count.truncated += 1;
            return Ok(());
        }
        let Some(peer) = Name::read(out.name_data()) else {
            return Ok(());
        };
        let flow = Flow { listener: ListenerId(listener), transport: Transport::Udp, peer, connection: None };
        let mut rest = &octets[octets.len() - out.payload_data().len()..];
        let car_octets = SegmentSize::read(out.control_data()).unwrap_or(rest.len());
        let is_train = rest.len() > car_octets;
        // A datagram may be empty, too.
        loop {
            let octets = rest.split_off(..car_octets.min(rest.len())).expect("it is not longer");
            // CRLFs, or a few octets of zero, keep a NAT's binding open (RFC 5626 §3.5.2 answers none over UDP; there it
            // is STUN's part). No SIP message is that short.
            if octets.len() < 4 || octets.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
                count.keepalives += 1;
            } else {
                count.received += 1;
                count.received_in_trains += u64::from(is_train);
                batch.push(Received { flow, octets, passed: false });
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends the datagrams among `outgoing` and enters the ring, which runs them all before this returns; then waits.
    /// What could not be sent is told in `failed` by its place in `outgoing`.
    pub(crate) fn send_and_enter(
        &mut self,
        ring: &mut Submissions<'_>,
        outgoing: &[Outgoing<'_>],
        wait: Wait,
        completions: &mut Vec<Completion>,
        failed: &mut Vec<(u32, io::Error)>,
        count: &mut Counters,
    ) -> io::Result<()> {
        self.trains.clear();
        for (index, message) in (0u32..).zip(outgoing).filter(|(_, message)| message.flow.transport == Transport::Udp) {
            let Flow { listener, peer, .. } = message.flow;
            let ours = self.listeners.get(usize::from(listener.0)).copied().flatten();
            let fault = if ours.is_none_or(|ours| ours.is_ipv4() != peer.is_ipv4()) {
                Some(libc::EAFNOSUPPORT)
            } else {
                (message.octets() > LONGEST).then_some(libc::EMSGSIZE)
            };
            match fault {
                Some(errno) => failed.push((index, io::Error::from_raw_os_error(errno))),
                None => self.trains.add(index, message),
            }
        }
        for (number, &train) in (0u32..).zip(self.trains.all()) {
            let op = Op::SendDatagram { index: number };
            count.sent_in_trains += if train.cars > 1 { train.cars.into() } else { 0 };
            let cars = self.trains.cars(train).map(|car| &outgoing[car as usize]);
            self.sends.push(ring, train, cars.map(|car| (car, self.trains.blanks(train, car))), op)?;
        }
        let wait = if failed.is_empty() || wait == Wait::SendOnly { wait } else { Wait::No };
        ring.enter(wait, completions, &mut self.unsent)?;
        self.sends.clear();
        if !self.unsent.is_empty() {
            self.send_again(ring, outgoing, completions, failed)?;
        }
        Ok(())
    }

    /// Sends the cars of trains one by one that the kernel would not take as trains, and what is too long for its path in fragments. What else could not be
    /// sent is told.
    #[cold]
    fn send_again(
        &mut self,
        ring: &mut Submissions<'_>,
        outgoing: &[Outgoing<'_>],
        completions: &mut Vec<Completion>,
        failed: &mut Vec<(u32, io::Error)>,
    ) -> io::Result<()> {
        let (before, mut refused) = (failed.len(), Vec::new());
        for (number, error) in std::mem::take(&mut self.unsent) {
            let train = self.trains.all()[number as usize];
            match error.raw_os_error() {
                Some(errno) if train.cars == 1 || !is_refusal(&error) => {
                    let lost = |car| (car, io::Error::from_raw_os_error(errno));
                    failed.extend(self.trains.cars(train).map(lost));
                }
                _ => refused.push((train, error)),
            }
        }
        let cars: Vec<u32> = refused.iter().flat_map(|&(train, _)| self.trains.cars(train)).collect();
        self.send_alone(ring, outgoing, &cars, completions, failed)?;
        let listener = |index: u32| outgoing[index as usize].flow.listener.0;
        let too_long = failed.extract_if(before.., |(index, error)| self.fragments.may_carry(listener(*index), error));
        let too_long: Vec<u32> = too_long.map(|(index, _)| index).collect();
        if !too_long.is_empty() {
            let mut listeners: Vec<u16> = too_long.iter().map(|&index| listener(index)).collect();
            listeners.sort_unstable();
            listeners.dedup();
            listeners.iter().for_each(|&listener| self.fragments.allow(listener, true));
            let sent = self.send_alone(ring, outgoing, &too_long, completions, failed);
            listeners.iter().for_each(|&listener| self.fragments.allow(listener, false));
            sent?;
        }
        for (train, error) in refused {
            // What no datagram gets through with is the peer's fault, and no reason to do without trains.
            let is_lost = |car: u32| failed[before..].iter().any(|&(index, _)| index == car);
            if !self.trains.cars(train).any(is_lost) {
                self.trains.learn(train, &error);
            }
        }
        Ok(())
    }

    /// Sends the datagrams at these places of `outgoing`, each by itself.
    fn send_alone(
        &mut self,
        ring: &mut Submissions<'_>,
        outgoing: &[Outgoing<'_>],
        places: &[u32],
        completions: &mut Vec<Completion>,
        failed: &mut Vec<(u32, io::Error)>,
    ) -> io::Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        for &index in places {
            let message = &outgoing[index as usize];
            self.sends.push(ring, Train::of(index, message), [(message, 0)], Op::SendDatagram { index })?;
        }
        let entered = ring.enter(Wait::No, completions, failed);
        self.sends.clear();
        entered
    }
}

impl SendTable {
    fn has_room(&self, train: Train) -> bool {
        self.used < self.names.len() && self.staged.len() + train.octets as usize <= STAGED
    }

    /// Queues the send of a train, whose cars get so many blanks each.
    fn push<'o>(
        &mut self,
        ring: &mut Submissions<'_>,
        train: Train,
        cars: impl IntoIterator<Item = (&'o Outgoing<'o>, u32)>,
        op: Op,
    ) -> io::Result<()> {
        if !self.has_room(train) {
            ring.submit()?;
            self.clear();
        }
        let start = self.staged.len();
        let mut whole = None;
        for (message, blanks) in cars {
            match (message.slices, train.cars) {
                ([only], 1) => whole = Some(*only),
                _ => self.stage(message, blanks),
            }
        }
        let octets = whole.unwrap_or(&self.staged[start..]);
        let name = &mut self.names[self.used];
        let name_octets = name.write(train.peer);
        let (socket, flags) = (types::Fixed(train.listener.0.into()), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let entry = if train.cars == 1 {
            opcode::Send::new(socket, octets.as_ptr(), octets.len() as u32)
                .dest_addr(name.as_ptr().cast())
                .dest_addr_len(name_octets)
                .flags(flags)
                .build()
        } else {
            let (header, slice) = (&mut self.headers[self.used], &mut self.slices[self.used]);
            let segments = &mut self.segments[self.used];
            *segments = SegmentSize::new(train.car_octets as u16);
            *slice = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            (header.msg_name, header.msg_namelen) = (name.as_ptr().cast_mut().cast(), name_octets);
            (header.msg_iov, header.msg_iovlen) = (slice, 1);
            header.msg_control = std::ptr::from_mut(segments).cast();
            header.msg_controllen = size_of::<SegmentSize>();
            opcode::SendMsg::new(socket, header).flags(flags as u32).build()
        };
        self.used += 1;
        // SAFETY: the entry points into our tables and at octets that are staged, all of which keep their places until `clear`, or
        // at those of a message. They outlive the enter of the caller's or the submit above: MSG_DONTWAIT makes a send run inline
        // or fail there. When an enter fails, the shard ends, and what a message borrows from outlives its ring.
        unsafe { ring.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(op.user_data())) }
    }

    /// Puts a message together.
    fn stage(&mut self, message: &Outgoing<'_>, blanks: u32) {
        let slack = message.slack.map_or(0, |slack| slack as usize);
        let (before, behind) = message.slices.split_at(slack);
        before.iter().for_each(|slice| self.staged.extend_from_slice(slice));
        self.staged.extend_from_slice(&BLANKS[..blanks as usize]);
        behind.iter().for_each(|slice| self.staged.extend_from_slice(slice));
    }

    fn clear(&mut self) {
        self.staged.clear();
        self.used = 0;
    }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr of zeros is one with null pointers and no lengths.
    unsafe { std::mem::zeroed() }
}
