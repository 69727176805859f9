//! Records as the tests of the clerk keep them.

use store::{Binding, Draft, Record, Source};

/// The second at which these tests play.
pub const NOW: u64 = 1_800_000_000;

/// One of many users.
pub fn aor(n: u64) -> String {
    format!("user{n:07}@pbx.example.com")
}

/// The record of a user with one binding.
pub fn record(version: u64, aor: &str, expires_at: u64) -> Record {
    let mut draft = Draft::default();
    draft.push(&binding(expires_at)).expect("one binding fits");
    draft.seal(version, aor, 0).expect("the name fits")
}

/// What a desk phone registers.
pub fn binding(expires_at: u64) -> Binding<'static> {
    Binding {
        contact: b"sip:alice1234@192.168.100.27:49152;line=a1b2c3",
        params: b"",
        q: 1000,
        registered_at: NOW,
        expires_at,
        call_id: b"3848276298220188511@192.168.100.27:49152",
        cseq: 4711,
        user_agent: b"Yealink T46S 66.85.0",
        source: Source {
            listener: 0,
            transport: sip::Transport::Udp,
            peer: "203.0.113.77:49152".parse().expect("an address"),
            connection: None,
        },
        path: b"",
        instance: b"",
        reg_id: None,
        methods: b"",
    }
}
