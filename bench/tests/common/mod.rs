//! What the servers of a few lines read.

use std::net::SocketAddrV4;

/// The first address of the loopback in the first line of `text`.
pub fn loopback(text: &str) -> Option<SocketAddrV4> {
    let line = text.lines().next()?;
    let at = line.find("127.0.0.1:")?;
    let address = &line[at..];
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(address.len());
    address[..end].parse().ok()
}
