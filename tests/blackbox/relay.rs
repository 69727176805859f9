//! No open relay: from outside to outside go only trusted sources and accounts that may.

use crate::{
    phone::{Phone, Request, answer_challenge, header, headers, status},
    rig::Home,
};

/// A request to a phone which is outside.
fn to_outside(method: &'static str, phone: &Phone) -> Request {
    Request::new(method, &format!("sip:bob@{}", phone.address()))
}

#[test]
fn a_request_from_outside_to_outside_is_forbidden() {
    let home = Home::new("");
    let switch = home.start();
    let (mut caller, mut outside) = (switch.udp(), Phone::udp("127.0.0.2", switch.address()));
    assert_eq!(status(&caller.ask(&to_outside("INVITE", &outside))), 403);
    let request = Request::new("MESSAGE", "sip:bob@example.net").line(format!("Route: <sip:{};lr>", outside.address()));
    assert_eq!(status(&caller.ask(&request)), 403);
    assert_eq!(outside.receive(std::time::Duration::from_millis(200)), None);
}

#[test]
fn a_trusted_source_may_relay() {
    let home = Home::new("[proxy]\nrelay_from = [\"127.0.0.3/32\"]");
    let switch = home.start();
    let mut outside = Phone::udp("127.0.0.2", switch.address());
    let mut trusted = Phone::udp("127.0.0.3", switch.address());
    let request = to_outside("MESSAGE", &outside);
    trusted.send_request(&request);
    let got = outside.expect();
    assert!(got.starts_with(&format!("MESSAGE {} ", request.uri)), "{got}");
    outside.respond(&got, "200 OK", None);
    assert_eq!(status(&trusted.expect()), 200);
    assert_eq!(status(&switch.udp().ask(&request.again())), 403);
}

#[test]
fn an_account_that_may_relay_is_challenged_and_then_forwarded_with_its_cancel() {
    let home = Home::new("[cores]\nswitch = 2");
    home.add_account("alice@example.com", &["--may-relay"]);
    home.add_account("carol@example.com", &[]);
    let switch = home.start();
    let (mut caller, mut outside) = (switch.udp(), Phone::udp("127.0.0.2", switch.address()));
    let mut invite = to_outside("INVITE", &outside);
    invite.from = "<sip:alice@example.com>;tag=1".to_owned();

    let challenged = caller.ask(&invite);
    assert_eq!(status(&challenged), 407, "{challenged}");
    let allowed = answer_challenge(&invite, &challenged, "alice");
    caller.send_request(&allowed);
    let got = outside.expect();
    assert!(got.starts_with(&format!("INVITE {} ", invite.uri)), "{got}");
    caller.send_request(&allowed.follower("CANCEL"));
    let cancel = outside.expect();
    assert!(cancel.starts_with(&format!("CANCEL {} ", invite.uri)), "{cancel}");
    assert_eq!(headers(&got, "Via")[0], headers(&cancel, "Via")[0], "a CANCEL goes the way of its INVITE");
    outside.respond(&cancel, "200 OK", None);
    assert_eq!(status(&caller.expect()), 200);
    outside.respond(&got, "487 Request Terminated", None);
    let ended = caller.expect();
    assert_eq!(status(&ended), 487);
    let mut ack = allowed.follower("ACK");
    header(&ended, "To").clone_into(&mut ack.to);
    caller.send_request(&ack);
    assert!(outside.expect().starts_with("ACK "));

    let mut of_carol = to_outside("INVITE", &outside);
    of_carol.from = "<sip:carol@example.com>;tag=1".to_owned();
    let (_, answer) = caller.ask_with_digest(&of_carol, "carol");
    assert_eq!(status(&answer), 403, "{answer}");
    let mut pretended = to_outside("INVITE", &outside);
    pretended.from = "<sip:alice@example.com>;tag=1".to_owned();
    let (_, answer) = caller.ask_with_digest(&pretended, "carol");
    assert_eq!(status(&answer), 403, "{answer}");
}
