//! RFC 3261 §17.1.1, figure 5: the INVITE client transaction. Its state Accepted is in `rfc6026_7_2`.

use crate::user::{User, events, tcp, udp};
use agent::Way;

#[test]
fn calling_retransmits_by_timer_a_and_gives_up_by_timer_b() {
    let mut user = User::new();
    user.request("INVITE");
    assert_eq!(user.sent(), ["INVITE"]);
    assert_eq!(
        user.pass(40_000),
        events(&[
            (500, "INVITE"),
            (1500, "INVITE"),
            (3500, "INVITE"),
            (7500, "INVITE"),
            (15_500, "INVITE"),
            (31_500, "INVITE"),
            (32_000, "timeout of 7"),
        ])
    );
    assert!(user.transactions.is_empty());
}

#[test]
fn calling_over_a_reliable_transport_has_timer_b_alone() {
    let mut user = User::new();
    user.request_on(tcp(), "INVITE");
    user.sent();
    assert_eq!(user.pass(40_000), events(&[(32_000, "timeout of 7")]));
    assert!(user.transactions.is_empty());
}

#[test]
fn where_a_uri_leads_is_never_held_reliable() {
    let mut user = User::new();
    user.try_request(Way::Uri, "INVITE").unwrap();
    user.sent();
    assert_eq!(user.pass(500), events(&[(500, "INVITE")]));
}

#[test]
fn a_provisional_response_ends_the_retransmissions_and_timer_b() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    assert!(user.hear(&sent, 100));
    assert!(user.hear(&sent, 180));
    user.sent();
    // A phone may ring as long as it likes.
    assert_eq!(user.pass(300_000), []);
    assert!(user.hear(&sent, 180));
    assert_eq!(user.sent(), Vec::<String>::new());
    assert_eq!(user.transactions.len(), 1);
}

#[test]
fn a_refusal_in_calling_is_acknowledged_and_told_once() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.sent();
    assert!(user.hear(&sent, 486));
    assert_eq!(user.sent(), ["ACK"]);
    // Completed: a repeated one gets the ACK again, and the TU hears nothing.
    assert!(!user.hear(&sent, 486));
    assert_eq!(user.sent(), ["ACK"]);
    assert!(!user.hear(&sent, 180) && !user.hear(&sent, 200));
    assert_eq!(user.sent(), Vec::<String>::new());
    // Timer D.
    user.ends_quietly_after(32_000);
}

#[test]
fn a_refusal_in_proceeding_is_acknowledged_and_told_once() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    assert!(user.hear(&sent, 180) && user.hear(&sent, 302));
    assert_eq!(user.sent(), ["INVITE", "ACK"]);
    assert!(!user.hear(&sent, 302));
    assert_eq!(user.sent(), ["ACK"]);
    user.ends_quietly_after(32_000);
}

#[test]
fn timer_d_is_no_shorter_than_32_seconds_and_has_no_length_over_a_reliable_transport() {
    let settings = transaction::Settings { t1: std::time::Duration::from_millis(100), ..crate::user::settings() };
    let mut user = User::with(settings);
    let sent = user.request("INVITE");
    assert!(user.hear(&sent, 404));
    user.sent();
    user.ends_quietly_after(32_000);

    let sent = user.request_on(tcp(), "INVITE");
    assert!(user.hear(&sent, 404));
    assert_eq!(user.sent(), ["INVITE", "ACK"]);
    assert!(user.transactions.is_empty());
}

#[test]
fn the_ack_is_made_of_the_invite_and_takes_its_way() {
    // §17.1.1.3.
    for ringing in [false, true] {
        let mut user = User::new();
        let sent = user.request("INVITE");
        if ringing {
            user.hear(&sent, 180);
        }
        user.hear(&sent, 486);
        let (way, ack) = user.sent_in_full().pop().unwrap();
        assert_eq!(way, Way::Flow(udp()));
        let via = format!("SIP/2.0/UDP ringswitch.invalid;branch=z9hG4bK-rs.stable.0.{:016x}", sent.branch);
        assert_eq!(
            ack,
            format!(
                "ACK sip:b@192.0.2.9 SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nRoute: <sip:one;lr>, <sip:two;lr>\r\n\
                 From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>;tag=remote\r\nCall-ID: ours\r\nCSeq: 4711 ACK\r\n\
                 Proxy-Authorization: Digest username=\"a\"\r\nContent-Length: 0\r\n\r\n"
            )
        );
    }
}
