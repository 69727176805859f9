//! The null forwarder: sends what it receives, unread, to one target. It is the floor under any SIP proxy's cost.
//!
//! Several ways to do it, so that a figure of the switch can be told apart from the kernel's: one datagram a system call,
//! recvmmsg and sendmmsg, the same with the sends as UDP GSO, and an io_uring of the shape that a shard has (multishot
//! receive into provided buffers, sends run inline by the next enter); and two ways to use an io_uring that a shard does not take,
//! to show why.

use std::{
    io,
    mem::size_of,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec},
};

use crate::mmsg::{self, DATAGRAM, Inbox, Mailer};

/// How the null forwarder moves its datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// recvfrom and sendto.
    Single,
    /// recvmmsg and sendmmsg of up to 64.
    Mmsg,
    /// recvmmsg, and runs of one size as one GSO send.
    Gso,
    /// io_uring: multishot recvmsg, sends with the next enter.
    Uring,
    /// The same with a thread of the kernel's that polls for what is to be done (SQPOLL).
    Sqpoll,
    /// The same as uring with sends that copy nothing (MSG_ZEROCOPY).
    Zerocopy,
}

/// How long a forwarder sleeps at most before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(100);
const BATCH: usize = 64;

/// When the forwarder ends: on SIGTERM or SIGINT, or when its time is up.
struct Until {
    signalled: Arc<AtomicBool>,
    end: Instant,
    turns: u32,
}

impl Until {
    /// Reads the clock every 256th turn only: it is no part of the floor.
    fn reached(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        self.signalled.load(Ordering::Relaxed) || (self.turns.is_multiple_of(256) && Instant::now() >= self.end)
    }
}

/// Forwards from `listen` to `to` until SIGTERM, SIGINT or the end of `time`; returns the number of datagrams forwarded.
pub fn run(way: Way, listen: u16, to: SocketAddrV4, time: Duration) -> Result<u64> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&signalled))?;
    }
    let until = Until { signalled, end: Instant::now() + time, turns: 0 };
    let socket = mmsg::bind(listen)?;
    socket.set_read_timeout(Some(NAP))?;
    match way {
        Way::Single => single(&socket, to, until),
        Way::Mmsg => {
            batches(&socket, until, |mailer, inbox| mailer.send(&socket, Some(to), inbox.datagrams()).map(|_| ()))
        }
        Way::Gso => batches(&socket, until, |mailer, inbox| mailer.send_segmented(&socket, to, inbox.datagrams())),
        Way::Uring | Way::Sqpoll | Way::Zerocopy => uring(&socket, to, until, way),
    }
}

fn single(socket: &UdpSocket, to: SocketAddrV4, mut until: Until) -> Result<u64> {
    let mut buffer = [0; DATAGRAM];
    let mut forwarded = 0;
    while !until.reached() {
        match socket.recv_from(&mut buffer) {
            Ok((octets, _)) => {
                socket.send_to(&buffer[..octets], to)?;
                forwarded += 1;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                until.turns = u32::MAX;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(forwarded)
}

fn batches(socket: &UdpSocket, mut until: Until, send: impl Fn(&mut Mailer, &Inbox) -> io::Result<()>) -> Result<u64> {
    let (mut inbox, mut mailer) = (Inbox::new(BATCH), Mailer::default());
    let mut forwarded = 0;
    while !until.reached() {
        match inbox.receive(socket)? {
            0 => until.turns = u32::MAX,
            taken => {
                send(&mut mailer, &inbox)?;
                forwarded += taken as u64;
            }
        }
    }
    Ok(forwarded)
}

const RING_BUFFERS: u16 = 1024;
/// How long the kernel's thread polls without finding anything before it sleeps.
const POLL_MSECS: u32 = 1;
/// A datagram with what the kernel writes before it: io_uring_recvmsg_out and the source's address.
const RING_BUFFER: usize = DATAGRAM + 256;
const RECEIVE: u64 = u64::MAX;
/// A send whose success does not complete, and whose failure is loss.
const SENT: u64 = RECEIVE - 1;

fn uring(socket: &UdpSocket, to: SocketAddrV4, mut until: Until, way: Way) -> Result<u64> {
    let mut receive_header = no_header();
    receive_header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let target = mmsg::sockaddr(to);
    let mut iovecs = vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; usize::from(RING_BUFFERS)];
    let mut headers = vec![no_header(); usize::from(RING_BUFFERS)];
    let mut buffers = RingBuffers::new()?;
    // Declared last, so dropped first: before the buffers that it receives into and the lists that its sends point to.
    let mut builder = IoUring::builder();
    match way {
        Way::Sqpoll => builder.setup_sqpoll(POLL_MSECS),
        _ => builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun(),
    };
    let mut ring: IoUring = builder
        .setup_cqsize(8192)
        .build(2 * u32::from(RING_BUFFERS))
        .context("this kernel grants no io_uring with SINGLE_ISSUER and DEFER_TASKRUN, or with SQPOLL")?;
    // SAFETY: the entries and the buffers stay mapped until `buffers` drops, which is after the ring has been closed.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(buffers.entries.as_ptr() as u64, RING_BUFFERS, 0, 0)?;
    }
    ring.submitter().register_files(&[socket.as_raw_fd()])?;

    let receive = opcode::RecvMsgMulti::new(Fixed(0), &receive_header, 0).build().user_data(RECEIVE);
    // SAFETY: the entry points to `receive_header`, which outlives the ring.
    unsafe { ring.submission().push(&receive) }.context("an empty ring has room")?;
    let nap = Timespec::from(NAP);
    let mut sending: Vec<u16> = Vec::with_capacity(usize::from(RING_BUFFERS));
    let mut forwarded = 0;
    // Sends of which the last completion has not come.
    let mut owed = 0u64;
    while !until.reached() {
        match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&nap)) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => until.turns = u32::MAX,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if way == Way::Uring {
            // The sends of the last turn carry MSG_DONTWAIT and ran inline in that enter: their buffers are free.
            buffers.give_back(sending.drain(..));
        }

        let (_, mut submissions, completions) = ring.split();
        let mut armed = true;
        for completion in completions {
            if completion.user_data() != RECEIVE {
                // What else completes is a send, maybe in two steps: its buffer is free with the last one.
                if completion.user_data() != SENT && !cqueue::more(completion.flags()) {
                    owed -= 1;
                    buffers.give_back([completion.user_data() as u16].into_iter());
                }
                continue;
            }
            armed &= cqueue::more(completion.flags());
            let Some(buffer) = cqueue::buffer_select(completion.flags()) else { continue };
            let at = usize::from(buffer);
            let received = buffers.octets(buffer, completion.result());
            let Ok(message) = RecvMsgOut::parse(received, &receive_header) else {
                buffers.give_back([buffer].into_iter());
                continue;
            };
            let payload = message.payload_data();
            iovecs[at] = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
            headers[at].msg_name = ptr::from_ref(&target).cast_mut().cast();
            headers[at].msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            headers[at].msg_iov = ptr::from_mut(&mut iovecs[at]);
            headers[at].msg_iovlen = 1;
            let flags = libc::MSG_DONTWAIT as u32;
            let send = match way {
                Way::Zerocopy => opcode::SendMsgZc::new(Fixed(0), &headers[at]).flags(flags).build(),
                _ => opcode::SendMsg::new(Fixed(0), &headers[at]).flags(flags).build(),
            };
            let send = match way {
                Way::Uring => send.flags(squeue::Flags::SKIP_SUCCESS).user_data(SENT),
                _ => send.user_data(buffer.into()),
            };
            // SAFETY: header, iovec and buffer of this number are not touched until the buffer is given back: after the enter that
            // runs the send, or with the send's last completion, which is waited for at the end.
            unsafe { submissions.push(&send) }.context("the ring has an entry for every buffer")?;
            match way {
                Way::Uring => sending.push(buffer),
                _ => owed += 1,
            }
            forwarded += 1;
        }
        if !armed {
            // SAFETY: as for the first one.
            unsafe { submissions.push(&receive) }.context("the ring has an entry to spare")?;
        }
    }
    while owed > 0 {
        ring.submit_and_wait(1)?;
        let is_last = |entry: &cqueue::Entry| entry.user_data() < SENT && !cqueue::more(entry.flags());
        owed -= ring.completion().filter(is_last).count() as u64;
    }
    // The kernel ends a dropped ring later, in its own time; until then the socket would keep its port.
    ring.submitter().register_sync_cancel(None, CancelBuilder::any())?;
    ring.submit_and_wait(1)?; // Takes the cancelled receive's last completion, which lets go of the socket.
    ring.submitter().unregister_files()?;
    Ok(forwarded)
}

fn no_header() -> libc::msghdr {
    // SAFETY: msghdr is plain data of integers and pointers, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// A ring of provided buffers (io_uring_register_buf_ring(3)): the entries, a page-aligned mapping, and their memory.
struct RingBuffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl RingBuffers {
    const ENTRIES_SIZE: usize = RING_BUFFERS as usize * size_of::<BufRingEntry>();
    const MEMORY_SIZE: usize = RING_BUFFERS as usize * RING_BUFFER;

    fn new() -> Result<Self> {
        let entries = map(Self::ENTRIES_SIZE)?.cast();
        let mut buffers = Self { entries, memory: map(Self::MEMORY_SIZE)?, tail: 0 };
        buffers.give_back(0..RING_BUFFERS);
        Ok(buffers)
    }

    /// What a completion of `result` octets has put into a buffer.
    fn octets(&self, buffer: u16, result: i32) -> &[u8] {
        let octets = usize::try_from(result).unwrap_or(0).min(RING_BUFFER);
        // SAFETY: the buffer lies in the mapping, and the kernel has handed it over until it is given back.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(buffer) * RING_BUFFER), octets) }
    }

    fn give_back(&mut self, buffers: impl Iterator<Item = u16>) {
        for buffer in buffers {
            // SAFETY: the place is below RING_BUFFERS; the kernel reads no entry at or behind the published tail. The
            // entry's `resv` of place 0 is the tail itself, which the setters do not touch.
            let entry = unsafe { &mut *self.entries.as_ptr().add(usize::from(self.tail % RING_BUFFERS)) };
            entry.set_addr(self.memory.as_ptr() as u64 + (usize::from(buffer) * RING_BUFFER) as u64);
            entry.set_len(RING_BUFFER as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the tail is a u16 in the mapping, which the kernel reads with acquire; nobody else writes it.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for RingBuffers {
    fn drop(&mut self) {
        // SAFETY: both are mappings of these sizes that nothing borrows any longer.
        unsafe {
            libc::munmap(self.entries.as_ptr().cast(), Self::ENTRIES_SIZE);
            libc::munmap(self.memory.as_ptr().cast(), Self::MEMORY_SIZE);
        }
    }
}

fn map(octets: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new private mapping of no file aliases nothing.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            octets,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("no memory for the ring's buffers");
    }
    NonNull::new(address.cast()).context("mmap never returns the null page unasked")
}
