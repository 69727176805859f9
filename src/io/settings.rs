//! What the edge is told: listeners, shards, sizes and limits. Every queue's bound is here.

use sip::{Limits, Transport};
use std::net::SocketAddr;
use std::time::Duration;

/// One socket address to serve; each shard has a socket of its own on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What runs on it.
    pub transport: Transport,
    /// Where. Port 0 is chosen by the kernel, the same for every shard.
    pub address: SocketAddr,
    /// Left out without a complaint where the machine lacks the address family. Its number stays.
    pub optional: bool,
}

/// The settings of a process's edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Numbered by their place: see [`agent::ListenerId`].
    pub listeners: Vec<Listener>,
    /// Number of shards, at least one.
    pub shards: u16,
    /// Cores to pin the shards to, in turn. None leaves their place to the kernel.
    pub cores: Vec<usize>,
    /// How far the shards' threads stand back for others that want the processor too: what is added to their nice value.
    pub nice: u8,
    /// Receive buffers for datagrams of each shard, a power of two of at most 32,768.
    pub datagram_buffers: u16,
    /// Octets of the longest datagram; a longer one is dropped and counted. Memory that none reaches is never touched.
    pub datagram_octets: usize,
    /// Octets that the kernel keeps for each datagram socket until we read them (SO_RCVBUF).
    pub receive_octets: usize,
    /// Octets that it keeps until the network takes them (SO_SNDBUF).
    pub send_octets: usize,
    /// How long a shard may wait for a batch to fill while the rate of arrivals promises it. It is a latency that the
    /// operator grants; zero wakes the shard for each arrival.
    pub batch_window: Duration,
    /// Whether datagrams of one peer are sent and received as one where they can be (UDP GSO and GRO).
    pub trains: bool,
    /// Blanks that a forwarded request gets at most, so that it is as long as others for its peer and goes with them.
    pub train_blanks: u8,
    /// Messages that the ring from one shard to another holds.
    pub mesh_messages: u32,
    /// How long a drain may take.
    pub drain: Duration,
    /// Limits of streams.
    pub streams: StreamSettings,
}

/// The limits of stream connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Connections of the process.
    pub connections: u32,
    /// Connections that one peer address may have.
    pub connections_per_address: u32,
    /// Receive buffers for streams of each shard, a power of two of at most 32,768.
    pub buffers: u16,
    /// Octets of such a buffer. A message that one buffer holds is not copied.
    pub buffer_octets: usize,
    /// The longest message.
    pub longest: Limits,
    /// Octets that may wait for a peer that reads slowly, before it is cut off.
    pub queue_octets: usize,
    /// How long a connection may take to be opened.
    pub connect: Duration,
    /// How long a message may take from its first octet to its last; also how long an accepted connection may take to
    /// its first message.
    pub message: Duration,
    /// How long a peer may read nothing while octets wait for it.
    pub stall: Duration,
    /// How long a connection may carry nothing.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            shards: 1,
            cores: Vec::new(),
            nice: 0,
            datagram_buffers: 1024,
            // §18.1.1: messages up to the largest datagram are handled.
            datagram_octets: 65_535,
            receive_octets: 4 << 20,
            send_octets: 4 << 20,
            // Measured: 200 µs save 20 to 40 % of a message's CPU from 20,000 a second and shard on, and below some
            // 15,000 the window stays shut by itself.
            batch_window: Duration::from_micros(200),
            trains: true,
            train_blanks: 32,
            mesh_messages: 1024,
            drain: Duration::from_secs(4),
            streams: StreamSettings::default(),
        }
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            buffers: 512,
            buffer_octets: 8192,
            longest: Limits::default(),
            queue_octets: 1 << 20,
            connect: Duration::from_secs(4),
            message: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            idle: Duration::from_secs(900),
        }
    }
}
