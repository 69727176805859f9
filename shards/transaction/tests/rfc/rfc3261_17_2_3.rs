//! RFC 3261 §17.2.3: matching requests to server transactions.

use crate::user::{User, incoming};
use transaction::Arrived;

#[test]
fn branch_sent_by_and_method_make_a_transaction() {
    let mut user = User::new();
    let first = incoming("OPTIONS", "z9hG4bK1");
    user.accept(&first);
    assert_eq!(user.receive(&first), Arrived::Absorbed);
    // Everything else may differ.
    assert_eq!(user.receive(&first.replace("tag=a", "tag=b").replace("theirs", "else")), Arrived::Absorbed);
    // Of these each is another transaction.
    user.accept(&first.replace("z9hG4bK1", "z9hG4bK2").replace("theirs", "c2"));
    user.accept(&first.replace("192.0.2.1:5060", "192.0.2.2:5060").replace("theirs", "c3"));
    user.accept(&first.replace("192.0.2.1:5060", "192.0.2.1:5061").replace("theirs", "c4"));
    user.accept(&first.replace("OPTIONS", "MESSAGE").replace("theirs", "c5"));
    assert_eq!(user.transactions.len(), 5);
}

#[test]
fn sent_by_compares_as_a_host_and_a_port() {
    // §18.1.1: a missing port is the transport's own.
    let mut user = User::new();
    let named = incoming("OPTIONS", "z9hG4bK1").replace("192.0.2.1:5060", "PC33.Atlanta.com");
    user.accept(&named);
    assert_eq!(user.receive(&named.replace("PC33.Atlanta.com", "pc33.atlanta.com:5060")), Arrived::Absorbed);
    let v6 = named.replace("PC33.Atlanta.com", "[2001:db8::1]").replace("theirs", "v6");
    user.accept(&v6);
    assert_eq!(user.receive(&v6.replace("[2001:db8::1]", "[2001:DB8:0::1]")), Arrived::Absorbed);
}

#[test]
fn without_the_cookie_rfc_2543_rules() {
    for branch in ["1", "z9hG4bK"] {
        let mut user = User::new();
        let invite = incoming("INVITE", branch);
        let id = user.accept(&invite);
        assert_eq!(user.receive(&invite), Arrived::Absorbed);
        // The branch says nothing, so another call with the same one is another transaction.
        user.accept(&invite.replace("theirs", "other"));
        user.accept(&invite.replace("tag=a", "tag=b"));
        user.accept(&invite.replace("CSeq: 1", "CSeq: 2"));
        assert!(matches!(
            user.receive(&invite.replace("sip:b@example.com SIP", "sip:c@example.com SIP")),
            Arrived::Merged(_)
        ));
        assert!(matches!(user.receive(&invite.replace("192.0.2.1", "192.0.2.7")), Arrived::Merged(_)));
        // A CANCEL and the ACK find it; the ACK has the To tag of the response.
        let found = user.receive(&incoming("CANCEL", branch));
        assert!(matches!(found, Arrived::Cancel { invite: Some(invite), .. } if invite == id));
        user.respond(id, 487);
        user.sent();
        let ack = incoming("ACK", branch).replace("To: <sip:b@example.com>", "To: <sip:b@example.com>;tag=ours");
        assert_eq!(user.receive(&ack), Arrived::Absorbed);
        assert_eq!(user.pass(4000), []);
    }
}

#[test]
fn without_any_branch_rfc_2543_rules() {
    let mut user = User::new();
    let bye = incoming("BYE", "x").replace(";branch=x", "");
    let id = user.accept(&bye);
    user.respond(id, 200);
    user.sent();
    assert_eq!((user.receive(&bye), user.sent()), (Arrived::Absorbed, vec!["200".to_owned()]));
    user.accept(&bye.replace("CSeq: 1", "CSeq: 2"));
}
