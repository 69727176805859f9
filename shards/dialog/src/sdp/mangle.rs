//! Mangling of session descriptions: a phone behind a NAT that knows only its private address offers media there, where
//! nobody outside reaches it. The address that its message came from is put in its place; ports stay.

use super::{Network, Origin, Sdp};
use sip::{Message, Octets};
use std::net::IpAddr;

/// Writes a message's body, its description as [`Sdp::write_mangled`] does. False if nothing had to be changed; then too the body has
/// been written.
pub fn mangle(message: &Message<'_>, source: IpAddr, out: &mut impl Octets) -> bool {
    let body = message.body();
    let Some(sdp) = Sdp::of(message) else {
        out.put(body);
        return false;
    };
    let start = sdp.as_bytes().as_ptr() as usize - body.as_ptr() as usize;
    out.put(&body[..start]);
    let is_changed = sdp.write_mangled(source, out);
    out.put(&body[start + sdp.as_bytes().len()..]);
    is_changed
}

impl Sdp<'_> {
    /// Writes it with every private address in `c=` and `o=` replaced by `source`, where its message came from. True if there was one.
    ///
    /// Left as they are: descriptions from a private `source`, for a peer in our own network is reached where he says; the
    /// unspecified address, which means hold; and descriptions with candidates for ICE (RFC 8839), whose sender finds a way through his
    /// NAT himself and would take another `c=` for a mismatch.
    pub fn write_mangled(&self, source: IpAddr, out: &mut impl Octets) -> bool {
        if is_private(source) || self.has_candidates() {
            out.put(self.as_bytes());
            return false;
        }
        let mut is_changed = false;
        for line in self.lines() {
            let network = match line.kind {
                b'c' => Network::of_connection(line.value),
                b'o' => Origin::parse(line.value).map(|o| o.address),
                _ => None,
            };
            match network {
                Some(network) if network.ip.is_some_and(is_private) => {
                    let at = network.raw.as_ptr() as usize - line.raw.as_ptr() as usize;
                    out.put(&line.raw[..at]);
                    out.put_display(format_args!("{} {source}", if source.is_ipv4() { "IP4" } else { "IP6" }));
                    out.put(&line.raw[at + network.raw.len()..]);
                    is_changed = true;
                }
                _ => out.put(line.raw),
            }
        }
        is_changed
    }
}

/// Whether an address leads nowhere from outside its network: private (RFC 1918, RFC 4193), shared by a carrier's NAT (RFC
/// 6598), link-local (RFC 3927, RFC 4291 §2.5.6) or loopback.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xC0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
