//! Batches of datagrams over one socket: recvmmsg(2) and sendmmsg(2), and a run of equal sizes as one UDP GSO send.
//!
//! All of the bench's system calls that the standard library lacks are here and in [`crate::floor`]'s ring. IPv4 only:
//! the bench speaks to the loopback.

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, SockAddr, Socket, Type};

/// Room for one datagram.
pub const DATAGRAM: usize = 2048;
/// The kernel's bound of segments in one GSO send (UDP_MAX_SEGMENTS was 64 until kernel 6.9).
const SEGMENTS: usize = 64;
/// The largest payload of one UDP send over IPv4.
const GSO_PAYLOAD: usize = 65_507;

/// A UDP socket on the loopback with large buffers; port 0 takes a free one.
pub fn bind(port: u16) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.set_send_buffer_size(4 << 20)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket.bind(&SockAddr::from(address)).with_context(|| format!("cannot listen on {address}"))?;
    Ok(socket.into())
}

/// Confines this thread, and every process that it starts afterwards, to one core.
pub fn pin(core: usize) -> Result<()> {
    ensure!(core < CpuSet::MAX_CPU, "there is no core {core}");
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("this machine does not grant core {core}"))
}

/// The address of `socket`, which [`bind`] made.
pub fn address(socket: &UdpSocket) -> SocketAddrV4 {
    match socket.local_addr() {
        Ok(std::net::SocketAddr::V4(address)) => address,
        other => unreachable!("bind() binds to an IPv4 address, not to {other:?}"),
    }
}

/// A kernel's socket address for `address`.
pub fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data of integers and pointers, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Receives up to a batch of datagrams with one call.
pub struct Inbox {
    buffers: Vec<[u8; DATAGRAM]>,
    sources: Vec<libc::sockaddr_in>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

impl Inbox {
    /// An inbox for `batch` datagrams.
    pub fn new(batch: usize) -> Self {
        Self {
            buffers: vec![[0; DATAGRAM]; batch],
            sources: vec![sockaddr(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); batch],
            iovecs: Vec::with_capacity(batch),
            headers: Vec::with_capacity(batch),
            received: 0,
        }
    }

    /// Takes what has arrived; blocks for the first datagram if the socket blocks. The number taken is 0 if none came.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        self.iovecs.clear();
        self.iovecs.extend(
            self.buffers
                .iter_mut()
                .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM }),
        );
        self.headers.clear();
        self.headers.extend(self.iovecs.iter_mut().zip(&mut self.sources).map(|(iovec, source)| {
            let mut header = empty_header();
            header.msg_hdr.msg_name = ptr::from_mut(source).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header
        }));
        // SAFETY: every header points to one iovec, one buffer and one source address of `self`, none of which moves or
        // is read before the call returns.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        match usize::try_from(taken) {
            Ok(taken) => self.received = taken,
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                error => return Err(error),
            },
        }
        Ok(self.received)
    }

    /// The datagrams of the last [`Inbox::receive`].
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers
            .iter()
            .zip(&self.headers[..self.received])
            .map(|(buffer, header)| &buffer[..header.msg_len as usize])
    }

    /// The sources of the datagrams, in the same order.
    pub fn sources(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.sources[..self.received].iter().map(|source| {
            SocketAddrV4::new(Ipv4Addr::from(source.sin_addr.s_addr.to_ne_bytes()), u16::from_be(source.sin_port))
        })
    }
}

/// Sends batches of datagrams; keeps the kernel's lists from one batch to the next.
#[derive(Default)]
pub struct Mailer {
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Mailer {
    /// Sends the datagrams to `to`, or to the peer of a connected socket. Returns how many the kernel took, which are
    /// fewer only if its buffers are full.
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        to: Option<SocketAddrV4>,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        self.gather(datagrams);
        let mut target = to.map(sockaddr);
        self.headers.clear();
        for iovec in &mut self.iovecs {
            let mut header = empty_header();
            address_to(&mut header.msg_hdr, target.as_mut());
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
        let mut sent = 0;
        while sent < self.headers.len() {
            let rest = &mut self.headers[sent..];
            // SAFETY: every header points to one iovec of `self`, to `target` or to nothing; the iovecs point into
            // `datagrams`, which outlives the call and is only read.
            let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0) };
            match usize::try_from(taken) {
                Ok(taken) => sent += taken,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => break,
                    error => return Err(error),
                },
            }
        }
        Ok(sent)
    }

    /// Sends the datagrams to `to`, runs of one size as one GSO send each (the last of a run may be shorter).
    pub fn send_segmented<'a>(
        &mut self,
        socket: &UdpSocket,
        to: SocketAddrV4,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        self.gather(datagrams);
        let mut target = sockaddr(to);
        let mut rest = &mut self.iovecs[..];
        while let Some(first) = rest.first() {
            let size = first.iov_len;
            let most = SEGMENTS.min(GSO_PAYLOAD / size.max(1)).max(1);
            let same = rest.iter().take(most).take_while(|iovec| iovec.iov_len == size).count();
            let (run, after) = rest.split_at_mut(same);
            rest = after;

            let mut control = Segmentation::new(size as u16);
            let mut header = empty_header().msg_hdr;
            address_to(&mut header, Some(&mut target));
            header.msg_iov = run.as_mut_ptr();
            header.msg_iovlen = run.len();
            if run.len() > 1 {
                header.msg_control = ptr::from_mut(&mut control).cast();
                header.msg_controllen = size_of::<Segmentation>();
            }
            // SAFETY: the header points to `run`, `target` and `control`, which live until the call returns; the iovecs
            // point into `datagrams`, which outlives the call and is only read.
            if unsafe { libc::sendmsg(socket.as_raw_fd(), &header, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    fn gather<'a>(&mut self, datagrams: impl Iterator<Item = &'a [u8]>) {
        self.iovecs.clear();
        self.iovecs.extend(
            datagrams.map(|octets| libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() }),
        );
    }
}

fn address_to(header: &mut libc::msghdr, target: Option<&mut libc::sockaddr_in>) {
    if let Some(target) = target {
        header.msg_name = ptr::from_mut(target).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
}

/// The control message UDP_SEGMENT as the kernel lays it out on a 64-bit machine: cmsghdr, then the size, padded.
#[repr(C)]
struct Segmentation {
    header: libc::cmsghdr,
    size: u16,
    padding: [u8; 6],
}

impl Segmentation {
    fn new(size: u16) -> Self {
        let octets = size_of::<libc::cmsghdr>() + size_of::<u16>();
        let header = libc::cmsghdr { cmsg_len: octets, cmsg_level: libc::SOL_UDP, cmsg_type: libc::UDP_SEGMENT };
        Self { header, size, padding: [0; 6] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_as_it_was_sent_plain_and_segmented() {
        let (from, to) = (bind(0).expect("a port"), bind(0).expect("a port"));
        let datagrams: [&[u8]; 5] = [b"one", b"two", b"three", b"seven", b"x"];
        let (mut inbox, mut mailer) = (Inbox::new(8), Mailer::default());
        assert_eq!(mailer.send(&from, Some(address(&to)), datagrams.into_iter()).expect("it is sent"), 5);
        mailer.send_segmented(&from, address(&to), datagrams.into_iter()).expect("it is sent");
        let mut got = Vec::new();
        while got.len() < 10 {
            inbox.receive(&to).expect("it arrives");
            assert!(inbox.sources().all(|source| source == address(&from)));
            got.extend(inbox.datagrams().map(<[u8]>::to_vec));
        }
        assert_eq!(got[..5], datagrams);
        assert_eq!(got[5..], datagrams);
    }
}
