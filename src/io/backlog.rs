//! What waits in the sockets of a shard's datagram listeners, and what these had no room for.
//!
//! A shard that has more to do than time takes up so many messages a turn and no more, so what comes beyond that is seen nowhere but in the
//! sockets (SO_MEMINFO; the kernel's net/core/sock.c). A stream's waits at its peer, whom TCP tells to wait, and is lost by nobody.

use super::stats::Counters;
use socket2::Socket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The time from one look at the sockets to the next, at least: a look takes a system call for each.
const INTERVAL: Duration = Duration::from_millis(10);

/// Octets that are no backlog, of half a small buffer at most: a busy shard leaves about as much from one turn to the next.
const NEGLIGIBLE: u32 = 128 << 10;

/// Where the kernel puts what we want to know (linux/sock_diag.h), and how much it tells.
const ALLOCATED: usize = 0;
const ROOM: usize = 1;
const DROPS: usize = 8;
const TOLD: usize = 9;

/// What waits in the sockets of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// How full the fullest one is, from 0 to 1. The kernel gives back what was read in portions of at most a quarter of all, so it may
    /// be less full than that by as much as was read since it was last empty.
    pub level: f64,
    /// What was received from them since they were last looked at: datagrams, or trains of them.
    pub received: u64,
    /// And that for which there was no room.
    pub lost: u64,
}

/// Looks at the sockets from time to time.
pub(super) struct Gauge {
    /// When to look again.
    due: Duration,
    /// What had been received when it last looked.
    received: u64,
    /// What each socket has dropped, as the kernel counts it.
    dropped: Vec<Option<u32>>,
}

impl Gauge {
    /// Counts what `sockets` drop from now on. Those without a place among the datagram listeners are none.
    pub(super) fn new(sockets: &[Option<Socket>], carries_datagrams: impl Fn(usize) -> bool) -> Self {
        let dropped = |(number, socket): (usize, &Option<Socket>)| {
            let socket = socket.as_ref().filter(|_| carries_datagrams(number))?;
            Some(told(socket)?[DROPS])
        };
        Self { due: Duration::ZERO, received: 0, dropped: sockets.iter().enumerate().map(dropped).collect() }
    }

    /// What waits in the sockets now, if it is time to look; `received` is what was received from them in all.
    pub(super) fn look(
        &mut self,
        now: Duration,
        sockets: &[Option<Socket>],
        received: u64,
        count: &mut Counters,
    ) -> Option<Backlog> {
        if now < self.due {
            return None;
        }
        self.due = now + INTERVAL;
        let mut backlog = Backlog::default();
        let before_all = count.dropped_by_kernel;
        for (socket, before) in sockets.iter().zip(&mut self.dropped) {
            let (Some(socket), Some(before)) = (socket, before) else { continue };
            let Some(told) = told(socket) else { continue };
            let dropped = told[DROPS].wrapping_sub(*before);
            *before = told[DROPS];
            count.dropped_by_kernel += u64::from(dropped);
            let (allocated, room) = (told[ALLOCATED], told[ROOM].max(1));
            if allocated > NEGLIGIBLE.min(room / 2) {
                backlog.level = backlog.level.max((f64::from(allocated) / f64::from(room)).min(1.0));
            }
        }
        backlog.lost = count.dropped_by_kernel - before_all;
        backlog.received = received - self.received;
        self.received = received;
        Some(backlog)
    }
}

/// What the kernel tells of a socket's memory; nothing where it does not know the option (before 4.12).
fn told(socket: &Socket) -> Option<[u32; TOLD]> {
    let mut told = [0; TOLD];
    let mut octets = size_of_val(&told) as libc::socklen_t;
    // SAFETY: the kernel writes at most `octets` octets to `told`, and how many they were to `octets`; both live during the call.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            told.as_mut_ptr().cast(),
            &raw mut octets,
        )
    };
    (failed == 0 && octets as usize == size_of_val(&told)).then_some(told)
}
