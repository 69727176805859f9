//! Impersonations as answers make them.

use callback::{Impersonation, Media};
use std::net::SocketAddr;

/// An answer that wants its audio at `address`, in these formats.
pub fn answer(address: &str, formats: &str) -> Media {
    let address: SocketAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (address.ip(), address.port());
    let sdp = format!("v=0\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {formats}\r\n");
    Media::of_sdp(sdp.as_bytes()).unwrap()
}

/// Leg `leg` of call `call` is to hear what seems to come from `source`.
pub fn wanted(call: u128, leg: u16, source: &str, destination: &str) -> Impersonation {
    Impersonation::new(call, "alice@example.com", leg, &answer(source, "0"), &answer(destination, "0")).unwrap()
}
