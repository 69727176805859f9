//! Bindings such as desk phones register, for the measurements.

use std::net::SocketAddr;
use store::{Binding, Source};

/// When the measurements take place, in seconds since the Unix epoch.
pub const NOW: u64 = 1_800_000_000;

/// The AOR of the `n`th user: 26 octets.
pub fn aor(n: u64) -> String {
    format!("user{n:07}@pbx.example.com")
}

/// Shows `then` what the phone of the `n`th user registers: a contact of 48 octets, a Call-ID of 40, a user agent of 20.
pub fn with_binding<R>(n: u64, then: impl FnOnce(&Binding<'_>) -> R) -> R {
    let contact = format!("sip:user{n:07}@192.168.100.27:49152;line=a1b2c3d");
    let call_id = format!("{n:07}6298220188511@192.168.100.27:49152");
    then(&Binding {
        contact: contact.as_bytes(),
        params: b"",
        q: 1000,
        registered_at: NOW,
        expires_at: NOW + 1800 + n % 1800,
        call_id: call_id.as_bytes(),
        cseq: 4711,
        user_agent: b"Yealink T46S 66.85.0",
        source: Source {
            listener: 0,
            transport: sip::Transport::Udp,
            peer: SocketAddr::from(([203, 0, 113, (n % 250) as u8], 49152)),
            connection: None,
        },
        path: b"",
        instance: b"",
        reg_id: None,
        methods: b"",
    })
}
