//! What no RFC foresees: REGISTERs with octets changed.

use crate::switch::*;
use proptest::{collection::vec, prelude::*};
use registrar::{Settings, WhenFull};

/// Whole pieces that mean something here, so that changes hit more than the grammar.
const PIECES: [&str; 16] = [
    "*",
    "\r\nContact: *",
    "\r\nContact: <sip:b@192.0.2.6>;expires=0",
    "\r\nContact: <sip:c@192.0.2.7>;reg-id=1;+sip.instance=\"<urn:x>\"",
    "\r\nExpires: 0",
    ";expires=4294967295",
    ";q=0.001",
    "\r\nSupported: path, outbound",
    "\r\nRequire: outbound",
    "\r\nPath: <sip:edge;lr;ob>, <sip:two;lr>",
    "\r\nVia: SIP/2.0/UDP other;branch=z9hG4bKo",
    "%00",
    "@",
    "tel:+1",
    "\r\n ",
    ",",
];

proptest! {
    #[test]
    fn whatever_comes_is_answered_once_or_not_at_all_and_the_journal_tells_the_same(
        changes in vec((any::<prop::sample::Index>(), 0..4usize, 0..PIECES.len(), 1..4u32), 1..12),
        limit in 1..3u16,
    ) {
        let settings =
            Settings { authenticate: false, max_bindings: limit, when_full: WhenFull::ReplaceOldest, ..Settings::default() };
        let mut switch = Switch::new(settings, 1);
        for (at, remove, piece, cseq) in changes {
            let mut text = Register::new().cseq(cseq).contact("<sip:a@192.0.2.5>;expires=600").text();
            let begin = text.find("\r\n").expect("a request line") + 2;
            let at = begin + at.index(text.len() - begin);
            let end = (at + remove).min(text.len());
            text.replace_range(at..end, PIECES[piece]);
            let mut sent = switch.send(0, &text);
            sent.extend(switch.settle(0, true));
            prop_assert!(sent.len() <= 1);
            if let Some(sent) = sent.first() {
                prop_assert!(matches!(status(&sent.text), 200 | 400..=499 | 500 | 513), "{}", sent.text);
            }
            prop_assert!(switch.contacts("alice").len() <= limit.into());
            let replayed = switch.replayed();
            for entry in ["alice@example.com", "b@example.com"] {
                let now = switch.now.unix_secs();
                let bindings = |table: &store::Bindings| table.lookup(entry, now, |record| format!("{record:?}"));
                prop_assert_eq!(bindings(&switch.bindings), bindings(&replayed));
            }
        }
    }
}
