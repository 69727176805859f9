//! What the tests of the clerk share.

mod disk;
mod faults;
mod hangs;
mod kinds;
#[path = "../../../shards/store/tests/promise/mod.rs"]
mod promise;
mod world;

use promise::binding;
use store::Draft;
use store::journal::{Kind, SegmentHeader, frame};

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
