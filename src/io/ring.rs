//! The shard's io_uring: what is asked of the kernel and what it answers.
//!
//! The ring is of the kind that runs its work only inside our own enters (DEFER_TASKRUN, SINGLE_ISSUER): between two
//! enters the kernel touches no buffer of ours, and when the ring is gone it never does again.

use super::pool::Pool;
use super::settings::Settings;
use super::socket::{Name, SegmentSize};
use super::start::{StartError, explain_here};
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Submissions that are gathered before they must be handed in; also the sends that one enter runs at most.
pub(super) const SUBMISSIONS: u32 = 1024;
/// Completions that wait for us before the kernel must keep them aside.
const COMPLETIONS: u32 = 8192;
/// What multishot recvmsg writes before a datagram: a header of four words, the sender's name, and how long the datagrams of a train are.
const DATAGRAM_HEADER: usize = 16 + Name::ROOM + size_of::<SegmentSize>();
/// How long an enter waits behind a window in which nothing came, at most; the shard's timer rings before.
const BEHIND_A_WINDOW: Timespec = Timespec::new().sec(3600);
/// Buffer groups: datagrams and streams have rings of buffers of their own.
pub(super) const DATAGRAMS: u16 = 0;
pub(super) const STREAMS: u16 = 1;

/// What was asked for; travels as the submission's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Multishot recvmsg on a datagram listener.
    ReceiveDatagram { listener: u16 },
    /// The send of the turn's `index`-th outgoing message. Only a failure completes.
    SendDatagram { index: u32 },
    /// Multishot accept on a stream listener.
    Accept { listener: u16 },
    /// Connect of a connection's socket.
    Connect { slot: u32 },
    /// Multishot recv on a connection.
    ReceiveStream { slot: u32 },
    /// Send on a connection.
    SendStream { slot: u32 },
    /// Cancellation, or a change, of another operation.
    Cancel,
    /// Read of the shard's eventfd.
    Wake,
    /// The shard's timer.
    Alarm,
}

impl Op {
    pub(super) fn user_data(self) -> u64 {
        let (kind, value) = match self {
            Self::ReceiveDatagram { listener } => (0, u32::from(listener)),
            Self::SendDatagram { index } => (1, index),
            Self::Accept { listener } => (2, u32::from(listener)),
            Self::Connect { slot } => (3, slot),
            Self::ReceiveStream { slot } => (4, slot),
            Self::SendStream { slot } => (5, slot),
            Self::Cancel => (6, 0),
            Self::Wake => (7, 0),
            Self::Alarm => (8, 0),
        };
        kind << 32 | u64::from(value)
    }

    fn from_user_data(data: u64) -> Self {
        let value = data as u32;
        match data >> 32 {
            0 => Self::ReceiveDatagram { listener: value as u16 },
            1 => Self::SendDatagram { index: value },
            2 => Self::Accept { listener: value as u16 },
            3 => Self::Connect { slot: value },
            4 => Self::ReceiveStream { slot: value },
            5 => Self::SendStream { slot: value },
            6 => Self::Cancel,
            7 => Self::Wake,
            _ => Self::Alarm,
        }
    }

    fn buffer_group(self) -> u16 {
        match self {
            Self::ReceiveDatagram { .. } => DATAGRAMS,
            _ => STREAMS,
        }
    }
}

/// An answer of the kernel. It is made here only and cannot be copied: while it lives, the buffer it names is ours.
#[derive(Debug)]
pub struct Completion {
    /// What was asked for.
    pub op: Op,
    /// Octets, a descriptor or zero.
    pub result: io::Result<u32>,
    /// The multishot goes on.
    pub more: bool,
    buffer: Option<u16>,
}

/// How long an enter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all, and what has arrived stays in the sockets, where it is seen that the shard falls behind.
    SendOnly,
    /// Not at all.
    No,
    /// For one completion.
    One,
    /// For `count` completions within `window`, then for one.
    Batch { count: usize, window: Duration },
}

/// The io_uring of one shard.
pub struct Ring {
    uring: IoUring,
    buffers: Buffers,
}

/// Both groups of receive buffers.
pub struct Buffers([Pool; 2]);

impl Ring {
    /// Makes the ring of the calling thread, which alone may use it.
    pub fn new(settings: &Settings) -> Result<Self, StartError> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            // With it the kernel says that work waits, and an enter that does not wait runs it.
            .setup_taskrun_flag()
            // One bad submission must not keep those behind it.
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(explain_here)?;
        let mut pools = [
            Pool::new(settings.datagram_buffers, settings.datagram_octets + DATAGRAM_HEADER),
            Pool::new(settings.streams.buffers, settings.streams.buffer_octets),
        ];
        pools[usize::from(DATAGRAMS)].touch();
        for (group, pool) in (0..).zip(&pools) {
            // SAFETY: `uring` is declared, hence dropped, before `buffers`.
            unsafe { pool.register(&uring.submitter(), group) }.map_err(explain_here)?;
        }
        Ok(Self { uring, buffers: Buffers(pools) })
    }

    /// Whether an enter can wait for a batch (kernel 6.12 and later).
    pub fn waits_for_batches(&self) -> bool {
        self.uring.params().is_feature_min_timeout()
    }

    /// Registers descriptors, which operations then name by their place.
    pub fn register_files(&self, files: &[RawFd]) -> Result<(), StartError> {
        self.uring.submitter().register_files(files).map_err(explain_here)
    }

    /// The receive buffers, and the rest of the ring.
    pub(super) fn split(&mut self) -> (&Buffers, Submissions<'_>) {
        (&self.buffers, Submissions { uring: &mut self.uring })
    }

    /// Gives buffers back to the kernel.
    pub fn give_back(&mut self, completions: impl Iterator<Item = Completion>) {
        let Buffers(pools) = &mut self.buffers;
        for completion in completions {
            if let Some(id) = completion.buffer {
                pools[usize::from(completion.op.buffer_group())].give_back(id);
            }
        }
        pools.iter_mut().for_each(Pool::end_turn);
    }
}

impl Drop for Ring {
    /// Lets go of the listeners at once. The kernel takes a closed ring apart later, and until then their ports are in use.
    fn drop(&mut self) {
        let submitter = self.uring.submitter();
        let second = Timespec::from(Duration::from_secs(1));
        // What fails here is left to the kernel's own way.
        let _ = submitter.register_sync_cancel(Some(second), CancelBuilder::any());
        // What is cancelled completes, like everything, inside an enter of ours.
        let _ = submitter.submit();
        let _ = submitter.unregister_files();
    }
}

impl Buffers {
    /// The octets that a receive has put into its buffer.
    pub fn octets(&self, completion: &Completion) -> &[u8] {
        match (completion.buffer, &completion.result) {
            (Some(id), &Ok(octets)) => self.0[usize::from(completion.op.buffer_group())].octets(id, octets as usize),
            _ => &[],
        }
    }
}

/// The ring without its buffers: they stay readable while operations are submitted.
pub struct Submissions<'r> {
    uring: &'r mut IoUring,
}

impl Submissions<'_> {
    /// Queues an operation; when the queue is full, what is in it is handed in first.
    ///
    /// # Safety
    /// What the operation points to must stay in place until the kernel is done with it: for a datagram's send until the
    /// next [`enter`](Self::enter) has returned, for a stream's send until its completion, for all else until that enter.
    pub unsafe fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller keeps the entry's pointers in place.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.submit()?;
        }
        Ok(())
    }

    /// Hands in what is queued without waiting.
    pub fn submit(&mut self) -> io::Result<()> {
        while !self.uring.submission().is_empty() {
            tolerate(self.uring.submit())?;
        }
        Ok(())
    }

    /// Hands in what is queued, so that all datagrams queued are sent or refused when it returns; waits; then takes the
    /// completions. Failed sends of datagrams go to `failed`, everything else to `completions`.
    pub fn enter(
        &mut self,
        wait: Wait,
        completions: &mut Vec<Completion>,
        failed: &mut Vec<(u32, io::Error)>,
    ) -> io::Result<()> {
        let queued = self.uring.submission().len();
        let submitter = self.uring.submitter();
        tolerate(match wait {
            // SAFETY: what is queued is as `push` demands, and there is no argument.
            Wait::SendOnly => unsafe { submitter.enter::<()>(queued as u32, 0, 0, None) },
            Wait::No => submitter.submit(),
            Wait::One => submitter.submit_and_wait(1),
            Wait::Batch { count, window } => {
                // Without a time-out an empty window would end the wait.
                let args = SubmitArgs::new().timespec(&BEHIND_A_WINDOW).min_wait_usec(window.as_micros() as u32);
                submitter.submit_with_args(count, &args)
            }
        })?;
        self.submit()?;
        for entry in self.uring.completion() {
            let op = Op::from_user_data(entry.user_data());
            let result = match entry.result() {
                errno @ ..0 => Err(io::Error::from_raw_os_error(-errno)),
                value => Ok(value as u32),
            };
            match (op, result) {
                (Op::SendDatagram { index }, result) => failed.extend(result.err().map(|e| (index, e))),
                (op, result) => completions.push(Completion {
                    op,
                    result,
                    more: cqueue::more(entry.flags()),
                    buffer: cqueue::buffer_select(entry.flags()),
                }),
            }
        }
        Ok(())
    }
}

/// Ends what was asked for, which then completes.
pub(super) fn cancel(ring: &mut Submissions<'_>, op: Op) -> io::Result<()> {
    let entry = opcode::AsyncCancel::new(op.user_data()).build().user_data(Op::Cancel.user_data());
    // SAFETY: the operation points nowhere.
    unsafe { ring.push(entry) }
}

/// An enter that ran out of time, was interrupted, or must wait for completions to be taken has not failed.
fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_the_way_through_the_kernel() {
        for op in [
            Op::ReceiveDatagram { listener: 7 },
            Op::SendDatagram { index: u32::MAX },
            Op::Accept { listener: u16::MAX },
            Op::Connect { slot: 1 },
            Op::ReceiveStream { slot: u32::MAX },
            Op::SendStream { slot: 0 },
            Op::Cancel,
            Op::Wake,
            Op::Alarm,
        ] {
            assert_eq!(Op::from_user_data(op.user_data()), op);
        }
    }
}
