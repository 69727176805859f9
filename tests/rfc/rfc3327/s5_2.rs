//! RFC 3327 §5.2: the Path of a binding is the route to it.

use crate::harness::{ALICE, Table, bound, request, udp};
use sip::HeaderName;

#[test]
fn a_request_takes_the_path_of_the_binding() {
    let mut table = Table::new();
    let path = "<sip:192.0.2.50;lr>,<sip:192.0.2.51;lr>";
    table.registrar.users.insert("bob@example.com", bound("sip:bob@10.0.0.1", None, path));
    let sent = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &["Route: <sip:example.com;lr>"]));
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp("192.0.2.50:5060"), Some("sip:bob@10.0.0.1")));
    assert_eq!(sent.all(HeaderName::Route), [path]);
}
