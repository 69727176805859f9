//! RFC 6665 §4.3: a proxy that stays in a subscription's path stays in that of every dialog which a NOTIFY begins.

use crate::harness::{ALICE, BOB, Table, in_dialog, request, udp};
use sip::HeaderName;

#[test]
fn a_notify_is_recorded_too() {
    let mut table = Table::recording();
    let contact = ["Contact: <sip:alice@192.0.2.10>"];
    let subscribe = table.one(udp(ALICE), request("SUBSCRIBE", "sip:bob@example.com", &contact));
    let notify = table.one(udp(BOB), in_dialog("NOTIFY", "sip:alice@192.0.2.10", &subscribe, false));
    assert_eq!(notify.flow, udp(ALICE));
    assert_eq!(notify.all(HeaderName::RecordRoute).len(), 1);
}
