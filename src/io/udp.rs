//! Datagrams (RFC 3261 §18): multishot receives into provided buffers, and sends that all run in one enter.
//!
//! A send names the slices of a message where they lie; the kernel gathers them. Nothing is copied and nothing is
//! allocated per message.

use super::ring::{Completion, DATAGRAMS, Op, SUBMISSIONS, Submissions, Wait, cancel};
use super::socket::Name;
use super::stats::Counters;
use agent::{Flow, ListenerId, Outgoing, Received};
use io_uring::{opcode, squeue, types};
use sip::Transport;
use std::io;
use std::net::SocketAddr;

/// Slices that one enter's sends have together at most.
const SLICES: usize = 8 * SUBMISSIONS as usize;

/// The datagram side of one shard.
pub(crate) struct Datagrams {
    /// By listener: its address, if it carries datagrams.
    listeners: Vec<Option<SocketAddr>>,
    /// What every multishot receive asks for: a name and no control data.
    wanted: Box<libc::msghdr>,
    sends: SendTable,
    /// Multishot receives that the kernel runs.
    receives: usize,
    stopping: bool,
}

/// What the kernel reads while it runs the sends of one enter.
struct SendTable {
    names: Box<[Name]>,
    headers: Box<[libc::msghdr]>,
    slices: Vec<libc::iovec>,
    used: usize,
}

impl Datagrams {
    /// `listeners` are all listeners as numbered, with their addresses.
    pub(crate) fn new(listeners: &[Option<(Transport, SocketAddr)>]) -> Self {
        let of_datagrams = |&(transport, address): &_| (transport == Transport::Udp).then_some(address);
        let listeners = listeners.iter().map(|listener| listener.as_ref().and_then(of_datagrams)).collect();
        let mut wanted = Box::new(empty_header());
        wanted.msg_namelen = Name::ROOM as u32;
        let sends = SendTable {
            names: vec![Name::NONE; SUBMISSIONS as usize].into(),
            headers: vec![empty_header(); SUBMISSIONS as usize].into(),
            slices: Vec::with_capacity(SLICES),
            used: 0,
        };
        Self { listeners, wanted, sends, receives: 0, stopping: false }
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

    /// Takes a completed receive: a datagram, or nothing if it carries none.
    pub(crate) fn received<'t>(
        &mut self,
        ring: &mut Submissions<'_>,
        listener: u16,
        completion: &Completion,
        octets: &'t [u8],
        count: &mut Counters,
    ) -> io::Result<Option<Received<'t>>> {
        match completion.more {
            true => {}
            false if self.stopping => self.receives -= 1,
            false => self.receive(ring, listener)?,
        }
        let Ok(out) = types::RecvMsgOut::parse(octets, &self.wanted) else {
            return Ok(None);
        };
        if out.is_payload_truncated() {
            count.truncated += 1;
            return Ok(None);
        }
        let octets = &octets[octets.len() - out.payload_data().len()..];
        // CRLFs, or a few octets of zero, keep a NAT's binding open (RFC 5626 §3.5.2 answers none over UDP; there it
        // is STUN's part). No SIP message is that short.
        if octets.len() < 4 || octets.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            count.keepalives += 1;
            return Ok(None);
        }
        let Some(peer) = Name::read(out.name_data()) else {
            return Ok(None);
        };
        count.received += 1;
        let flow = Flow { listener: ListenerId(listener), transport: Transport::Udp, peer, connection: None };
        Ok(Some(Received { flow, octets, passed: false }))
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
    ) -> io::Result<()> {
        for (index, message) in (0u32..).zip(outgoing).filter(|(_, message)| message.flow.transport == Transport::Udp) {
            let Flow { listener, peer, .. } = message.flow;
            let ours = self.listeners.get(usize::from(listener.0)).copied().flatten();
            if ours.is_none_or(|ours| ours.is_ipv4() != peer.is_ipv4()) || message.slices.len() > SLICES {
                failed.push((index, io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
                continue;
            }
            if !self.sends.has_room(message) {
                ring.submit()?;
                self.sends.clear();
            }
            let entry = self.sends.prepare(listener, message).user_data(Op::SendDatagram { index }.user_data());
            // SAFETY: the entry points into our tables, which keep their places until `clear`, and these at the octets
            // of `outgoing`. Both outlive the enter below or the submit above: MSG_DONTWAIT makes a send run inline or
            // fail there, and when an enter fails the ring is not entered again.
            unsafe { ring.push(entry) }?;
        }
        ring.enter(if failed.is_empty() { wait } else { Wait::No }, completions, failed)?;
        self.sends.clear();
        Ok(())
    }
}

impl SendTable {
    fn has_room(&self, message: &Outgoing<'_>) -> bool {
        self.used < self.headers.len() && self.slices.len() + message.slices.len() <= SLICES
    }

    fn prepare(&mut self, listener: ListenerId, message: &Outgoing<'_>) -> squeue::Entry {
        let (name, header) = (&mut self.names[self.used], &mut self.headers[self.used]);
        let first = self.slices.len();
        self.slices.extend(
            message
                .slices
                .iter()
                .map(|slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }),
        );
        header.msg_namelen = name.write(message.flow.peer);
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_iov = self.slices[first..].as_mut_ptr();
        header.msg_iovlen = message.slices.len();
        self.used += 1;
        opcode::SendMsg::new(types::Fixed(listener.0.into()), header)
            .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.used = 0;
    }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr of zeros is one with null pointers and no lengths.
    unsafe { std::mem::zeroed() }
}
