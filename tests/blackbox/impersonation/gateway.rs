//! A media gateway that latches: it sends nothing until it has received something, and then to where that seemed to come from.

use crate::impersonation::network::Node;
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// 20 ms of G.711 that is not silence.
const SOUND: u8 = 0x55;
const PERIOD: Duration = Duration::from_millis(20);

pub struct Media {
    pub address: SocketAddr,
    /// Names its stream (RFC 3550 §5.1).
    pub ssrc: u32,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    sound: AtomicU64,
    is_over: AtomicBool,
}

impl Media {
    /// On `node`, at `ip`, any port.
    pub fn open(node: &Node, ip: IpAddr, ssrc: u32) -> Self {
        let socket = node.run(|| UdpSocket::bind((ip, 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let (address, heard) = (socket.local_addr().unwrap(), Arc::new(Heard::default()));
        let shared = Arc::clone(&heard);
        let thread = std::thread::spawn(move || serve(&socket, ssrc, &shared));
        Self { address, ssrc, heard, thread: Some(thread) }
    }

    /// One that says it is at `address`, where nobody is.
    pub fn told(address: SocketAddr) -> Self {
        Self { address, ssrc: 0, heard: Arc::default(), thread: None }
    }

    /// How many packets it has heard of the other gateway's sound.
    pub fn heard(&self) -> u64 {
        self.heard.sound.load(Ordering::Relaxed)
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.heard.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn serve(socket: &UdpSocket, ssrc: u32, heard: &Heard) {
    let (mut latched, mut sequence, mut due) = (None, 0_u16, Instant::now());
    let mut octets = [0; 2_000];
    while !heard.is_over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut octets) {
            latched.get_or_insert(from);
            if octets[12..length].contains(&SOUND) {
                heard.sound.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(to) = latched.filter(|_| due <= Instant::now()) {
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend((u32::from(sequence) * 160).to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend([SOUND; 160]);
            // Where it has latched on nobody may be there.
            let _ = socket.send_to(&packet, to);
            (sequence, due) = (sequence.wrapping_add(1), Instant::now() + PERIOD);
        }
    }
}
