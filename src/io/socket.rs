//! Sockets as the edge wants them, and addresses as the kernel writes them.
//!
//! [`Sockets`] are all those of a process. Who binds them may give them to a child, which takes them up by their
//! descriptors: what the kernel has queued on them waits there from one process to the next.

use super::settings::{Listener, Settings};
use super::start::StartError;
use rustix::net::{RecvFlags, recv, sockopt};
use sip::Transport;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::thread;
use std::time::Duration;

/// Connections that may wait to be accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Octets of the longest datagram.
const LONGEST_DATAGRAM: usize = 65_535;

/// How often, and after which time each, a port in use is tried again.
const RETRIES: u32 = 20;
const RETRY: Duration = Duration::from_millis(100);

/// What is bound, each listener at its number; none where one was left out.
pub struct Sockets {
    /// A port that was 0 is told as chosen.
    pub(crate) listeners: Vec<Option<(Transport, SocketAddr)>>,
    /// By shard, then by listener.
    pub(crate) of_shards: Vec<Vec<Option<Socket>>>,
}

impl Sockets {
    /// Binds one socket a listener for each shard.
    pub fn bind(settings: &Settings) -> Result<Self, StartError> {
        let mut sockets = Self::vacant(0, settings.shards);
        for &Listener { transport, address, optional } in &settings.listeners {
            let refuse = |source: io::Error| StartError::Bind { transport, address, source };
            if !matches!(transport, Transport::Udp | Transport::Tcp) {
                return Err(StartError::Unserved { transport, address });
            }
            // SO_REUSEPORT would let a second switch share the port silently: a socket without it finds one out.
            let address = match bind_alone(transport, address).and_then(|socket| address_of(&socket)) {
                Ok(address) => address,
                Err(e) if optional && lacks_family(&e) => {
                    sockets.of_shards.iter_mut().for_each(|of_shard| of_shard.push(None));
                    sockets.listeners.push(None);
                    continue;
                }
                Err(e) => return Err(refuse(e)),
            };
            for of_shard in &mut sockets.of_shards {
                of_shard.push(Some(serve(transport, address, true, settings).map_err(refuse)?));
            }
            sockets.listeners.push(Some((transport, address)));
        }
        Ok(sockets)
    }

    /// No socket: the first `listeners` numbers are left out.
    pub fn vacant(listeners: usize, shards: u16) -> Self {
        let of_shards = (0..shards).map(|_| (0..listeners).map(|_| None).collect()).collect();
        Self { listeners: vec![None; listeners], of_shards }
    }

    /// Adds a listener on which processes of this machine meet: datagrams on loopback, each shard on a port of its own.
    /// Gives the shards' addresses; the listener is known by the first.
    pub fn add_hop(&mut self, settings: &Settings) -> Result<Vec<SocketAddr>, StartError> {
        let (transport, any) = (Transport::Udp, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let refuse = |source: io::Error| StartError::Bind { transport, address: any, source };
        let mut addresses = Vec::with_capacity(self.of_shards.len());
        for of_shard in &mut self.of_shards {
            let socket = serve(transport, any, false, settings).map_err(refuse)?;
            addresses.push(address_of(&socket).map_err(refuse)?);
            of_shard.push(Some(socket));
        }
        self.listeners.push(addresses.first().map(|&address| (transport, address)));
        Ok(addresses)
    }

    /// What is served, each listener at its number. A port that was 0 is told as the kernel chose it.
    pub fn listeners(&self) -> &[Option<(Transport, SocketAddr)>] {
        &self.listeners
    }

    /// The descriptors, by shard, then by listener. They close on exec(2).
    pub fn descriptors(&self) -> Vec<Vec<Option<RawFd>>> {
        let of_shard =
            |sockets: &Vec<Option<Socket>>| sockets.iter().map(|s| s.as_ref().map(AsRawFd::as_raw_fd)).collect();
        self.of_shards.iter().map(of_shard).collect()
    }

    /// Takes up what another process has bound and left to this one.
    ///
    /// # Safety
    /// Nothing else in this process owns one of the descriptors that are open.
    pub unsafe fn inherit(
        listeners: Vec<Option<(Transport, SocketAddr)>>,
        descriptors: &[Vec<Option<RawFd>>],
    ) -> io::Result<Self> {
        // SAFETY: the caller's promise.
        let take = |&descriptor: &Option<RawFd>| descriptor.map(|fd| unsafe { inherit(fd) }).transpose();
        let of_shard = |of_shard: &Vec<Option<RawFd>>| of_shard.iter().map(take).collect::<io::Result<Vec<_>>>();
        let of_shards = descriptors.iter().map(of_shard).collect::<io::Result<Vec<_>>>()?;
        if of_shards.is_empty() || of_shards.iter().any(|of_shard| of_shard.len() != listeners.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "each shard has a socket for each listener"));
        }
        Ok(Self { listeners, of_shards })
    }

    /// Discards what waits on the datagram sockets: nobody wants an answer to it any more.
    pub fn discard_waiting(&self) {
        for socket in self.of_shards.iter().flatten().flatten() {
            while recv(socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {}
        }
    }
}

impl Sockets {
    /// Passes on what waits on each shard's datagram sockets, to the address of that shard in `to`.
    pub fn pass_waiting_on(&self, to: &[SocketAddr]) {
        let mut buffer = vec![0; LONGEST_DATAGRAM];
        for (of_shard, to) in self.of_shards.iter().zip(to) {
            for socket in of_shard.iter().flatten() {
                while let Some((octets, car_octets)) = receive_train(socket, &mut buffer) {
                    for datagram in buffer[..octets].chunks(car_octets) {
                        // What cannot be sent is lost as datagrams are; its sender sends it again.
                        let _ = socket.send_to(datagram, &(*to).into());
                    }
                }
            }
        }
    }
}

/// Takes what waits on a socket: its octets, and those of each datagram if it is a train.
fn receive_train(socket: &Socket, buffer: &mut [u8]) -> Option<(usize, usize)> {
    let mut control = [0; size_of::<SegmentSize>()];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is one with null pointers and no lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&mut slice, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), control.len());
    // SAFETY: the header points to `slice`, it to `buffer`, and to `control`, which live during the call.
    let taken = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) };
    let octets = usize::try_from(taken).ok()?;
    Some((octets, SegmentSize::read(&control[..header.msg_controllen]).unwrap_or(octets.max(1))))
}

/// # Safety
/// Nothing else owns the descriptor, if it is open.
unsafe fn inherit(descriptor: RawFd) -> io::Result<Socket> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is not -1, and borrowed for this one call, which finds out whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody else's.
    Ok(unsafe { Socket::from_raw_fd(descriptor) })
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    Ok(socket.local_addr()?.as_socket().expect("an internet socket has an internet address"))
}

/// A switch that was killed a moment ago still has its ports: the kernel takes its rings apart by and by.
#[expect(clippy::disallowed_methods, reason = "the start may wait; no shard runs yet")]
fn bind_alone(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    for _ in 0..RETRIES {
        match bind(transport, address, false) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => thread::sleep(RETRY),
            bound => return bound,
        }
    }
    bind(transport, address, false)
}

/// The kernel was built without the family, or has it switched off.
fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn serve(transport: Transport, address: SocketAddr, shared: bool, settings: &Settings) -> io::Result<Socket> {
    let socket = bind(transport, address, shared)?;
    if transport == Transport::Udp {
        // The forced sizes pass net.core.rmem_max and wmem_max and need CAP_NET_ADMIN; without it those limit us.
        if sockopt::set_socket_recv_buffer_size_force(&socket, settings.receive_octets).is_err() {
            socket.set_recv_buffer_size(settings.receive_octets)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, settings.send_octets).is_err() {
            socket.set_send_buffer_size(settings.send_octets)?;
        }
    } else {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn bind(transport: Transport, address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = open(transport, address)?;
    if transport == Transport::Tcp {
        // Connections of a former run that linger in TIME_WAIT do not hold the port.
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn open(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // `::` serves IPv6 alone, so that `0.0.0.0` can be a listener beside it and no peer is an IPv4-mapped address.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket to connect to `peer`, from the listener's own address where it has one.
pub(crate) fn open_towards(peer: SocketAddr, listener: IpAddr) -> io::Result<Socket> {
    let socket = open(Transport::Tcp, peer)?;
    if !listener.is_unspecified() {
        socket.bind(&SocketAddr::new(listener, 0).into())?;
    }
    tune_stream(&socket)?;
    Ok(socket)
}

/// What every stream connection is given.
pub(crate) fn tune_stream(socket: &Socket) -> io::Result<()> {
    // A message is written in one piece; to hold its last segment back until the peer acknowledges gains nothing.
    socket.set_tcp_nodelay(true)
}

/// A socket address as the kernel reads and writes it: a sockaddr_in or a sockaddr_in6.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(crate) struct Name([u8; Name::ROOM]);

impl Name {
    /// Octets of the longer kind.
    pub(crate) const ROOM: usize = size_of::<libc::sockaddr_in6>();

    /// All zero: no address.
    pub(crate) const NONE: Self = Self([0; Self::ROOM]);

    /// Writes `address`; tells the octets that count.
    pub(crate) fn write(&mut self, address: SocketAddr) -> u32 {
        let Self(name) = self;
        name[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => {
                name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                name[4..8].copy_from_slice(&address.ip().octets());
                name[8..16].fill(0);
                size_of::<libc::sockaddr_in>() as u32
            }
            SocketAddr::V6(address) => {
                name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                name[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
                name[8..24].copy_from_slice(&address.ip().octets());
                name[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
                Self::ROOM as u32
            }
        }
    }

    /// Reads what the kernel has written.
    pub(crate) fn read(name: &[u8]) -> Option<SocketAddr> {
        let (family, rest) = name.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
                Some((ip, port).into())
            }
            libc::AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk()?;
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*rest.first_chunk()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, u32::from_be_bytes(*flow), scope).into())
            }
            _ => None,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// The control message that says how long the datagrams of a train are: of one that is sent (UDP_SEGMENT), of one that was received
/// (UDP_GRO).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SegmentSize {
    header: libc::cmsghdr,
    octets: u16,
    padding: [u8; 6],
}

impl SegmentSize {
    /// For a train that is sent.
    pub(crate) fn new(octets: u16) -> Self {
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        Self { header, octets, padding: [0; 6] }
    }

    /// Octets of each datagram of a train that was received with that control data, but of the last, which may be shorter. None of
    /// what is no train.
    pub(crate) fn read(control: &[u8]) -> Option<usize> {
        let (length, rest) = control.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let is_train = usize::from_ne_bytes(*length) == size_of::<libc::cmsghdr>() + size_of::<i32>()
            && i32::from_ne_bytes(*level) == libc::SOL_UDP
            && i32::from_ne_bytes(*kind) == libc::UDP_GRO;
        let octets = i32::from_ne_bytes(*rest.first_chunk()?);
        usize::try_from(octets).ok().filter(|&octets| is_train && octets > 0)
    }
}

/// Lets the kernel hand over what came in a row from one peer as a train; or no longer. A kernel that cannot do it (before 5.0) does not.
pub(crate) fn receive_trains(socket: &Socket, yes: bool) {
    let value = libc::c_int::from(yes);
    // SAFETY: the option takes an int, which lives during the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_reads_as_it_was_written(ip: IpAddr, port: u16, flow: u32, scope: u32) {
            let address = match ip {
                IpAddr::V4(ip) => (ip, port).into(),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, flow, scope).into(),
            };
            let mut name = Name([0xa5; Name::ROOM]);
            let octets = name.write(address) as usize;
            prop_assert_eq!(Name::read(&name.0[..octets]), Some(address));
            // socket2 writes the same: ours is the kernel's layout. (std leaves the flow label in the caller's order.)
            if flow == 0 || ip.is_ipv4() {
                prop_assert_eq!(socket2::SockAddr::from(address).len() as usize, octets);
            }
        }
    }

    #[test]
    fn what_is_no_internet_address_is_none() {
        assert_eq!(Name::read(&[]), None);
        assert_eq!(Name::read(&[0; 28]), None);
        let mut name = Name::NONE;
        name.write("[::1]:5060".parse().unwrap());
        assert_eq!(Name::read(&name.0[..20]), None, "cut short");
    }

    #[test]
    fn a_second_switch_on_the_same_port_is_told() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let listener = Listener { transport, address: "127.0.0.1:0".parse().unwrap(), optional: false };
            let settings = Settings { listeners: vec![listener], shards: 2, ..Settings::default() };
            let sockets = Sockets::bind(&settings).unwrap();
            assert_eq!((sockets.of_shards.len(), sockets.of_shards[0].len()), (2, 1));
            let (_, address) = sockets.listeners[0].unwrap();
            let again = Settings { listeners: vec![Listener { address, ..listener }], ..settings };
            let refused = Sockets::bind(&again).err().unwrap().to_string();
            assert!(refused.contains("another program has it"), "{refused}");
        }
    }

    #[test]
    fn an_optional_listener_without_its_address_is_left_out_and_the_others_keep_their_numbers() {
        let listener = |address: &str, optional| {
            let address = address.parse().unwrap();
            Listener { transport: Transport::Udp, address, optional }
        };
        // 192.0.2.1 is of a network for documentation (RFC 5737), which no machine has.
        let with = |optional| Settings {
            listeners: vec![listener("192.0.2.1:0", optional), listener("127.0.0.1:0", false)],
            ..Settings::default()
        };
        let Sockets { listeners, of_shards } = Sockets::bind(&with(true)).unwrap();
        assert!(listeners[0].is_none() && listeners[1].is_some());
        assert!(of_shards[0][0].is_none() && of_shards[0][1].is_some());
        let refused = Sockets::bind(&with(false)).err().unwrap().to_string();
        assert!(refused.contains("no interface of this machine has this address"), "{refused}");
    }
}
