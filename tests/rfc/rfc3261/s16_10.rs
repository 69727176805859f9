//! RFC 3261 §16.10, §9.1 and §17.1.1.3: CANCEL and the ACK for a non-2xx follow their INVITE.

use crate::harness::{ALICE, Table, request, tcp, udp};

#[test]
fn cancel_and_ack_go_where_their_invite_went_with_its_branch() {
    let connection = tcp("192.0.2.10:41234", 5);
    for (user, came_on) in [("bob", udp(ALICE)), ("dave", udp(ALICE)), ("bob", connection)] {
        let mut table = Table::recording();
        let invite = request("INVITE", &format!("sip:{user}@example.com"), &["Contact: <sip:alice@192.0.2.10>"]);
        let forwarded = table.one(came_on, &invite);
        let cancel = table.one(came_on, invite.replace("INVITE", "CANCEL"));
        let ack =
            invite.replace("INVITE", "ACK").replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b");
        let ack = table.one(came_on, ack);
        for follower in [cancel, ack] {
            assert_eq!(follower.flow, forwarded.flow);
            assert_eq!(follower.branch(), forwarded.branch());
            assert_eq!(follower.uri(), forwarded.uri());
        }
    }
}

#[test]
fn a_cancel_for_nobody_is_answered_and_an_ack_for_nobody_is_not() {
    let mut table = Table::new();
    assert_eq!(table.one(udp(ALICE), request("CANCEL", "sip:mallory@example.com", &[])).status(), Some(404));
    for uri in
        ["sip:mallory@example.com", "sip:carol@example.com", "sip:x@far.example", "soap.beep://x", "sip:example.com"]
    {
        assert_eq!(table.receive(udp(ALICE), request("ACK", uri, &[])), [], "{uri}");
    }
    let malformed = request("ACK", "sip:bob@example.com", &[]).replace("CSeq: 1 ACK", "CSeq: x ACK");
    assert_eq!(table.receive(udp(ALICE), malformed), []);
    let exhausted = request("ACK", "sip:bob@example.com", &[]).replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(table.receive(udp(ALICE), exhausted), []);
}
