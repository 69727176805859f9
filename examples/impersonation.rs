//! Two ways to send a datagram with a foreign source: a UDP socket that IP_TRANSPARENT lets bind to it, and a raw socket that takes
//! whole packets (IP_HDRINCL, IPV6_HDRINCL). Prints what each needs, what it does with a datagram that is longer than the link
//! carries, and what a packet costs.
//!
//! `cargo run --release --example impersonation` makes a network namespace in a user namespace of its own by unshare(1) and ip(8),
//! with a link whose other end takes every packet and drops it.
#![expect(clippy::disallowed_methods, reason = "a program that measures starts processes and opens sockets")]

use anyhow::{Context, Result, ensure};
use pnet::packet::Packet as _;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{Ipv4Flags, MutableIpv4Packet, checksum};
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::udp::{MutableUdpPacket, ipv4_checksum, ipv6_checksum};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// What is sent to a leg: RTP with 20 ms of G.711.
const PACKETS: usize = 3;
const OCTETS: usize = 172;

const LEGS: usize = 20_000;
const ROUNDS: usize = 3;

/// Foreign source, and a destination beyond the router.
const V4: Pair = (v4([203, 0, 113, 5], 30_000), v4([198, 51, 100, 7], 40_000));
const V6: Pair = (v6(5, 5, 30_000), v6(7, 7, 40_000));

/// Where a packet seems to come from, and where it goes.
type Pair = (SocketAddr, SocketAddr);

const fn v4([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// 2001:db8:NETWORK::HOST.
const fn v6(network: u16, host: u16, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)), port)
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        return inside();
    }
    let unshare = ["--user", "--map-root-user", "--net", "--"];
    let status = Command::new("unshare").args(unshare).arg(std::env::current_exe()?).arg("inside").status()?;
    ensure!(status.success(), "unshare ended with {status}");
    Ok(())
}

fn inside() -> Result<()> {
    ip("link set lo up")?;
    ip("link add d0 mtu 1500 type veth peer name d1")?;
    ip("address add 192.0.2.1/24 dev d0")?;
    ip("address add 2001:db8::1/64 dev d0 nodad")?;
    ip("link set d0 up")?;
    ip("link set d1 up")?;
    // The other end has another address, and drops what comes.
    ip("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev d0 nud permanent")?;
    ip("neighbour add 2001:db8::2 lladdr 02:00:00:00:00:02 dev d0 nud permanent")?;

    let send = |way: Way, pair| Ok(outcome(way.send(pair, OCTETS)));
    println!("without a route: {}", each(send)?);
    ip("route add default via 192.0.2.2")?;
    ip("route add default via 2001:db8::2")?;
    println!("with a route: {}", each(send)?);
    for (name, held) in [
        ("none", CapabilitySet::empty()),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ] {
        println!("with {name}: {}", each(|way, pair| holding(held, || outcome(way.send(pair, OCTETS))))?);
    }
    let in_fragments = |way: Way, pair| {
        let before = sent()?;
        let outcome = outcome(way.send(pair, 2_000));
        Ok(format!("{outcome}, {} packets", sent()? - before))
    };
    println!("2000 octets: {}", each(in_fragments)?);
    for strict in ["0", "1"] {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", strict)?;
        println!("to ourselves, rp_filter {strict}: {}", each(to_ourselves)?);
    }
    println!("a packet of {OCTETS} octets of UDP payload, {PACKETS} to a leg, {LEGS} legs, best of {ROUNDS}:");
    println!("  {}", each(cost)?);
    Ok(())
}

fn to_ourselves(way: Way, (source, _): Pair) -> Result<String> {
    let us = if source.is_ipv4() { v4([192, 0, 2, 1], 0) } else { v6(0, 1, 0) };
    let receiver = std::net::UdpSocket::bind(us)?;
    receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
    let sent = outcome(way.send((source, receiver.local_addr()?), OCTETS));
    let heard = receiver.recv_from(&mut [0; 2_000]).is_ok();
    Ok(format!("{sent}, {}", if heard { "heard" } else { "not heard" }))
}

fn cost(way: Way, pair: Pair) -> Result<String> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = clock_gettime(ClockId::ProcessCPUTime);
        way.legs(pair)?;
        best = best.min(Duration::try_from(clock_gettime(ClockId::ProcessCPUTime) - before)?);
    }
    Ok(format!("{} ns", best.as_nanos() / (LEGS * PACKETS) as u128))
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A socket a leg.
    Transparent,
    /// The same, and the kernel is asked first whether the addresses are ours.
    Probed,
    /// One socket for all, packets by pnet's builders.
    HdrIncl,
}

fn each(tell: impl Fn(Way, Pair) -> Result<String>) -> Result<String> {
    let mut told = Vec::new();
    for way in [Way::Transparent, Way::Probed, Way::HdrIncl] {
        for (name, pair) in [("IPv4", V4), ("IPv6", V6)] {
            told.push(format!("{way:?} {name}: {}", tell(way, pair)?));
        }
    }
    Ok(told.join("; "))
}

fn outcome(result: io::Result<()>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "sent".to_owned())
}

impl Way {
    fn send(self, (source, destination): Pair, octets: usize) -> io::Result<()> {
        let payload = vec![0; octets];
        match self {
            Self::Transparent | Self::Probed => {
                let socket = transparent(source, destination, matches!(self, Self::Probed))?;
                socket.send_to(&payload, &destination.into()).map(drop)
            }
            Self::HdrIncl => {
                let mut packet = vec![0; 48 + octets];
                let packet = build(source, destination, &payload, &mut packet);
                raw(source)?.send_to(packet, &SocketAddr::new(destination.ip(), 0).into()).map(drop)
            }
        }
    }

    fn legs(self, (source, destination): Pair) -> io::Result<()> {
        let (payload, mut packet) = ([0xff; OCTETS], [0; 48 + OCTETS]);
        let raw = raw(source)?;
        for _ in 0..LEGS {
            match self {
                Self::Transparent | Self::Probed => {
                    let socket = transparent(source, destination, matches!(self, Self::Probed))?;
                    for _ in 0..PACKETS {
                        socket.send_to(&payload, &destination.into())?;
                    }
                }
                Self::HdrIncl => {
                    for _ in 0..PACKETS {
                        let packet = build(source, destination, &payload, &mut packet);
                        raw.send_to(packet, &SocketAddr::new(destination.ip(), 0).into())?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn transparent(source: SocketAddr, destination: SocketAddr, probes: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(source), Type::DGRAM, Some(Protocol::UDP))?;
    if probes {
        assert!(socket.bind(&SocketAddr::new(source.ip(), 0).into()).is_err(), "it is ours");
        // One to ourselves is, here.
        let _ = Socket::new(Domain::for_address(source), Type::DGRAM, Some(Protocol::UDP))?
            .bind(&SocketAddr::new(destination.ip(), 0).into());
    }
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    match source {
        SocketAddr::V4(_) => socket.set_ttl_v4(64)?,
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(64)?,
    }
    socket.bind(&source.into())?;
    Ok(socket)
}

fn raw(source: SocketAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::for_address(source), Type::from(libc::SOCK_RAW), Some(protocol))?;
    match source {
        SocketAddr::V4(_) => socket.set_header_included_v4(true)?,
        SocketAddr::V6(_) => socket.set_header_included_v6(true)?,
    }
    Ok(socket)
}

/// The whole packet, by pnet's builders.
fn build<'p>(source: SocketAddr, destination: SocketAddr, payload: &[u8], packet: &'p mut [u8]) -> &'p [u8] {
    let header = if source.is_ipv4() { 20 } else { 40 };
    let udp_octets = 8 + payload.len();
    let packet = &mut packet[..header + udp_octets];
    let mut udp = MutableUdpPacket::new(&mut packet[header..]).expect("it has room for the headers");
    udp.set_source(source.port());
    udp.set_destination(destination.port());
    udp.set_length(udp_octets as u16);
    udp.set_checksum(0);
    udp.set_payload(payload);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let sum = ipv4_checksum(&udp.to_immutable(), &source, &destination);
            udp.set_checksum(sum);
            let mut ip = MutableIpv4Packet::new(packet).expect("it has room for the headers");
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_total_length((header + udp_octets) as u16);
            ip.set_flags(Ipv4Flags::DontFragment);
            ip.set_ttl(64);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
            ip.set_source(source);
            ip.set_destination(destination);
            ip.set_checksum(0);
            let sum = checksum(&ip.to_immutable());
            ip.set_checksum(sum);
            assert_eq!(ip.packet().len(), header + udp_octets);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let sum = ipv6_checksum(&udp.to_immutable(), &source, &destination);
            udp.set_checksum(sum);
            let mut ip = MutableIpv6Packet::new(packet).expect("it has room for the headers");
            ip.set_version(6);
            ip.set_payload_length(udp_octets as u16);
            ip.set_next_header(IpNextHeaderProtocols::Udp);
            ip.set_hop_limit(64);
            ip.set_source(source);
            ip.set_destination(destination);
        }
        _ => unreachable!("both are of one family"),
    }
    packet
}

/// Calls `then` with no other effective capability.
fn holding(held: CapabilitySet, then: impl FnOnce() -> String) -> Result<String> {
    let permitted = rustix::thread::capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: held, ..permitted })?;
    let told = then();
    set_capabilities(None, permitted)?;
    Ok(told)
}

/// Packets that have gone out by the link.
fn sent() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/dev")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("d0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(9)).context("the link is listed")?;
    Ok(packets.parse()?)
}

fn ip(arguments: &str) -> Result<()> {
    let status = Command::new("ip").args(arguments.split(' ')).status()?;
    ensure!(status.success(), "ip {arguments} ended with {status}");
    Ok(())
}
