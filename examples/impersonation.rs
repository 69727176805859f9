//! Two ways to send a datagram with a foreign source: a UDP socket that IP_TRANSPARENT lets bind to it, and a raw socket that takes
//! whole packets (IP_HDRINCL, IPV6_HDRINCL). Prints what each needs, what it does with a datagram that is longer than the link
//! carries, and what a packet costs.
//!
//! `cargo run --release --example impersonation` makes a network namespace in a user namespace of its own by unshare(1) and ip(8),
//! with a link whose other end takes every packet and drops it.
#![expect(clippy::disallowed_methods, reason = "a program that measures starts processes and opens sockets")]
#![expect(clippy::unwrap_used, reason = "what fails ends it")]

use pnet::packet::Packet as _;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{Ipv4Flags, MutableIpv4Packet, checksum};
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::udp::{MutableUdpPacket, ipv4_checksum, ipv6_checksum};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// What is sent to a leg: RTP with 20 ms of G.711.
const PACKETS: usize = 3;
const OCTETS: usize = 172;

const LEGS: usize = 20_000;
const ROUNDS: usize = 3;

/// Foreign source, and a destination beyond the router.
const V4: (&str, &str) = ("203.0.113.5:30000", "198.51.100.7:40000");
const V6: (&str, &str) = ("[2001:db8:5::5]:30000", "[2001:db8:7::7]:40000");

fn main() {
    if std::env::args().nth(1).as_deref() != Some("inside") {
        let program = std::env::current_exe().unwrap();
        let unshare = ["--user", "--map-root-user", "--net", "--"];
        let status = Command::new("unshare").args(unshare).arg(program).arg("inside").status().unwrap();
        std::process::exit(status.code().unwrap_or(1));
    }
    ip("link set lo up");
    ip("link add d0 mtu 1500 type veth peer name d1");
    ip("address add 192.0.2.1/24 dev d0");
    ip("address add 2001:db8::1/64 dev d0 nodad");
    ip("link set d0 up");
    ip("link set d1 up");
    // The other end has another address, and drops what comes.
    ip("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev d0 nud permanent");
    ip("neighbour add 2001:db8::2 lladdr 02:00:00:00:00:02 dev d0 nud permanent");

    println!("without a route: {}", each(|way, pair| outcome(way.send(pair, OCTETS))));
    ip("route add default via 192.0.2.2");
    ip("route add default via 2001:db8::2");
    println!("with a route: {}", each(|way, pair| outcome(way.send(pair, OCTETS))));
    for (name, held) in [
        ("none", CapabilitySet::empty()),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ] {
        println!("with {name}: {}", each(|way, pair| outcome(holding(held, || way.send(pair, OCTETS)))));
    }
    println!(
        "2000 octets: {}",
        each(|way, pair| {
            let before = sent();
            let outcome = outcome(way.send(pair, 2_000));
            format!("{outcome}, {} packets", sent() - before)
        })
    );
    for strict in ["0", "1"] {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", strict).unwrap();
        let to_us = |way: Way, (source, _): (&str, &str)| {
            let us: SocketAddr =
                if source.starts_with('[') { "[2001:db8::1]:0" } else { "192.0.2.1:0" }.parse().unwrap();
            let receiver = std::net::UdpSocket::bind(us).unwrap();
            receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let sent = outcome(way.send((source, &receiver.local_addr().unwrap().to_string()), OCTETS));
            let heard = receiver.recv_from(&mut [0; 2_000]).is_ok();
            format!("{sent}, {}", if heard { "heard" } else { "not heard" })
        };
        println!("to ourselves, rp_filter {strict}: {}", each(to_us));
    }
    println!("a packet of {OCTETS} octets of UDP payload, {PACKETS} to a leg, {LEGS} legs, best of {ROUNDS}:");
    let cost = |way: Way, pair| {
        let once = || {
            let before = clock_gettime(ClockId::ProcessCPUTime);
            way.legs(pair).unwrap();
            let passed = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime) - before).unwrap();
            passed.as_nanos() / (LEGS * PACKETS) as u128
        };
        format!("{} ns", (0..ROUNDS).map(|_| once()).min().unwrap())
    };
    println!("  {}", each(cost));
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

fn each(mut tell: impl FnMut(Way, (&'static str, &'static str)) -> String) -> String {
    let mut told = Vec::new();
    for way in [Way::Transparent, Way::Probed, Way::HdrIncl] {
        for (name, pair) in [("IPv4", V4), ("IPv6", V6)] {
            told.push(format!("{way:?} {name}: {}", tell(way, pair)));
        }
    }
    told.join("; ")
}

fn outcome(result: io::Result<()>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "sent".to_owned())
}

impl Way {
    fn send(self, (source, destination): (&str, &str), octets: usize) -> io::Result<()> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
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

    fn legs(self, (source, destination): (&str, &str)) -> io::Result<()> {
        let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
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
    let mut udp = MutableUdpPacket::new(&mut packet[header..]).unwrap();
    udp.set_source(source.port());
    udp.set_destination(destination.port());
    udp.set_length(udp_octets as u16);
    udp.set_checksum(0);
    udp.set_payload(payload);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let sum = ipv4_checksum(&udp.to_immutable(), &source, &destination);
            udp.set_checksum(sum);
            let mut ip = MutableIpv4Packet::new(packet).unwrap();
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
            let mut ip = MutableIpv6Packet::new(packet).unwrap();
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
fn holding<T>(held: CapabilitySet, then: impl FnOnce() -> T) -> T {
    let permitted = rustix::thread::capabilities(None).unwrap();
    set_capabilities(None, CapabilitySets { effective: held, ..permitted }).unwrap();
    let result = then();
    set_capabilities(None, permitted).unwrap();
    result
}

/// Packets that have gone out by the link.
fn sent() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("d0:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
