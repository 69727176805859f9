//! What the tests of the clerk share.

mod faults;

use store::journal::{Kind, SegmentHeader, frame};
use store::{Binding, Draft, Source};

/// The octets of a segment with a record of each version.
pub(super) fn segment(versions: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut octets = SegmentHeader { number: 1 }.encode().to_vec();
    for version in versions {
        let mut draft = Draft::default();
        draft.push(&binding(2_000_000_000)).unwrap();
        let record = draft.seal(version, "alice@example.com", 0).unwrap();
        frame(&mut octets, Kind::Record, record.octets());
    }
    octets
}

/// A binding that runs out then.
pub(super) fn binding(expires_at: u64) -> Binding<'static> {
    Binding {
        contact: b"sip:alice@192.0.2.1",
        params: b"",
        q: 1000,
        registered_at: 1000,
        expires_at,
        call_id: b"1@192.0.2.1",
        cseq: 1,
        user_agent: b"",
        source: Source {
            listener: 0,
            transport: sip::Transport::Udp,
            peer: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
        },
        path: b"",
        instance: b"",
        reg_id: None,
        methods: b"",
    }
}
