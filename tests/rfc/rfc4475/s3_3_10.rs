//! RFC 4475 §3.3.10: nothing is sent to an address that is no single host's.

use crate::harness::{ALICE, BOB, TRUNK, Table, request, response, udp};

const NOBODY: [&str; 4] = ["255.255.255.255", "224.0.1.75", "0.0.0.0", "[ff02::1]"];

#[test]
fn no_request_goes_there() {
    for host in NOBODY {
        for text in [
            request("OPTIONS", &format!("sip:x@{host}"), &[]),
            request("OPTIONS", &format!("sip:x@192.0.2.77;maddr={host}"), &[]),
            request("OPTIONS", "sip:x@192.0.2.77", &[&format!("Route: <sip:{host};lr>")]),
        ] {
            assert_eq!(Table::new().one(udp(TRUNK), text).status(), Some(500), "{host}");
        }
    }
}

#[test]
fn no_response_goes_there() {
    for host in NOBODY {
        let mut table = Table::new();
        let forwarded = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[]));
        let answer = response("200 OK", &forwarded).replace(
            ";branch=z9hG4bKalice",
            &format!(";branch=z9hG4bKalice;received={}", host.trim_matches(['[', ']'])),
        );
        assert_eq!(table.receive(udp(BOB), answer), [], "{host}");
        assert_eq!(table.proxy.counters.unroutable, 1);
    }
}
