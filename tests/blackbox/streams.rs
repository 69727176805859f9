//! SIP on TCP (RFC 3261 §18.3, RFC 5626 §4.4.1): framing, faults that end a connection, and limits.

use crate::{
    phone::{Request, header, status},
    rig::{Home, PATIENCE, wait_until},
};
use std::time::Duration;

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let home = Home::new("[cores]\nswitch = 1");
    let switch = home.start();
    let mut phone = switch.tcp();
    let requests: Vec<_> = std::iter::repeat_with(Request::options).take(50).collect();
    let text: String = requests.iter().map(|request| request.text(&phone.sent_by())).collect();
    phone.send(text.as_bytes());
    for request in &requests {
        let answer = phone.expect();
        assert_eq!((status(&answer), header(&answer, "Call-ID")), (200, &*request.call_id));
    }
}

#[test]
fn a_request_in_single_octets_is_answered() {
    let home = Home::new("");
    let switch = home.start();
    let mut phone = switch.tcp();
    let mut request = Request::options().line("Content-Type: text/plain");
    request.body = "a body".to_owned();
    for octet in request.text(&phone.sent_by()).bytes() {
        phone.send(&[octet]);
    }
    assert_eq!(status(&phone.expect()), 200);
}

#[test]
fn a_request_without_content_length_is_answered_400_and_ends_the_connection() {
    let home = Home::new("");
    let switch = home.start();
    let mut phone = switch.tcp();
    let text = Request::options().text(&phone.sent_by()).replace("Content-Length: 0\r\n", "");
    phone.send(text.as_bytes());
    let answer = phone.expect();
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.starts_with("SIP/2.0 400 Missing Content-Length"), "{answer}");
    assert!(phone.is_ended(PATIENCE));
}

#[test]
fn a_request_that_is_too_long_is_answered_513_and_ends_the_connection() {
    let home = Home::new("[sip]\nmax_message_bytes = 2000");
    let switch = home.start();
    let mut phone = switch.tcp();
    let mut request = Request::options();
    request.body = "x".repeat(3_000);
    phone.send_request(&request);
    let answer = phone.expect();
    assert_eq!(status(&answer), 513, "{answer}");
    assert!(phone.is_ended(PATIENCE));
}

#[test]
fn a_double_crlf_is_answered_by_one_and_the_connection_goes_on() {
    let home = Home::new("");
    let switch = home.start();
    let mut phone = switch.tcp();
    phone.send(b"\r\n\r\n");
    assert_eq!(phone.read_octets(2, PATIENCE), b"\r\n");
    assert_eq!(status(&phone.ask(&Request::options())), 200);
}

#[test]
fn a_connection_that_begins_no_message_or_does_not_end_it_is_cut_in_time() {
    let home = Home::new("[tcp]\nmessage_secs = 1");
    let switch = home.start();
    let (mut silent, mut halting) = (switch.tcp(), switch.tcp());
    halting.send(b"OPTIONS sip:example.com SIP/2.0\r\n");
    assert!(silent.is_ended(Duration::from_secs(5)));
    assert!(halting.is_ended(Duration::from_secs(5)));
    assert_eq!(switch.counter("edge.cut_incomplete").iter().sum::<u64>(), 2);
}

#[test]
fn an_address_gets_as_many_connections_as_it_may_have() {
    let home = Home::new("[tcp]\nmax_connections_per_address = 3");
    let switch = home.start();
    let mut allowed: Vec<_> = (0..3).map(|_| switch.tcp()).collect();
    for phone in &mut allowed {
        assert_eq!(status(&phone.ask(&Request::options())), 200);
    }
    assert!(switch.tcp().is_ended(PATIENCE));
    // Counters are published at the end of a turn.
    wait_until("the refusal is counted", || switch.counter("edge.refused").iter().sum::<u64>() == 1);
    for phone in &mut allowed {
        assert_eq!(status(&phone.ask(&Request::options())), 200);
    }
    drop(allowed);
    wait_until("there is room again", || {
        let mut phone = switch.tcp();
        phone.send_request(&Request::options());
        phone.receive(Duration::from_secs(1)).is_some()
    });
}
