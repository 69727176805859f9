//! Requests outside of calls, and the dialogs that they make.

use crate::{
    basic::{alice, bob},
    phone::{Phone, Text},
    world::{World, flow},
};
use agent::Way;

const PRESENCE: &str = "Event: presence\r\n";

/// `text` tells nothing of who is reached at that address.
#[track_caller]
fn expect_hidden(text: &Text, phone: &Phone) {
    let contact = text.header("Contact");
    assert!(contact.starts_with("<sip:rs.stable.0.") && contact.contains("@192.0.2.1:5060;"), "{contact}");
    assert!(!text.0.contains(phone.address), "{}", text.0);
}

#[test]
fn the_ends_of_a_subscription_do_not_see_each_other() {
    let (mut world, alice, bob) = (World::with(|settings| settings.authenticate = true), alice(), bob());
    world.around.trusted.push("10.0.0.1".parse().unwrap());
    world.receive(alice.address, &alice.request("SUBSCRIBE", "sip:bob@example.com", PRESENCE, ""));
    let subscribed = world.request("SUBSCRIBE");
    expect_hidden(&subscribed, &alice);
    world.receive(bob.address, &bob.respond(&subscribed, 200, "b", "Expires: 60\r\n", ""));
    let accepted = world.response(200);
    expect_hidden(&accepted, &bob);
    assert_eq!((accepted.header("Expires"), accepted.tag("To")), ("60".into(), "b".into()));
    // Nothing is remembered: a restart changes nothing. And who is in the dialog is not challenged.
    world.expect_nothing_left();
    world.kill();
    for cseq in 1..3 {
        let notify = bob.inside(&subscribed, "b", "NOTIFY", cseq, "Subscription-State: active\r\n", "");
        world.receive(bob.address, &notify);
        let notified = world.request("NOTIFY");
        expect_hidden(&notified, &bob);
        assert_eq!(notified.uri(), "sip:alice@10.0.0.1:5060");
        assert_eq!((notified.tag("From"), notified.header("Call-ID")), ("b".into(), subscribed.header("Call-ID")));
        world.receive(alice.address, &alice.respond(&notified, 200, "", "", ""));
        let answer = world.response(200);
        assert_eq!(answer.method(), "NOTIFY");
        expect_hidden(&answer, &alice);
    }
    world.receive(alice.address, &alice.inside(&accepted, "", "SUBSCRIBE", 2, PRESENCE, ""));
    let refreshed = world.request("SUBSCRIBE");
    assert_eq!((refreshed.uri(), refreshed.tag("To")), ("sip:bob@10.0.0.2:5060".into(), "b".into()));
    expect_hidden(&refreshed, &alice);
    world.expect_silence();
    // Of another call, or forged, it leads nowhere.
    let stolen = alice.inside(&accepted, "", "SUBSCRIBE", 3, PRESENCE, "").0.replace("Call-ID: ", "Call-ID: not-");
    world.receive("10.0.0.66:5060", &Text(stolen));
    world.response(481);
    world.expect_silence();
}

#[test]
fn a_notification_finds_through_a_nat_and_along_a_route() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    let behind = |text: Text| Text(text.0.replace(&alice.contact(), "<sip:alice@192.168.1.7:5060>"));
    world.receive("198.51.100.7:40000", &behind(alice.request("SUBSCRIBE", "sip:bob@example.com", PRESENCE, "")));
    let subscribed = world.request("SUBSCRIBE");
    let lines = "Record-Route: <sip:10.0.0.8;lr>, <sip:10.0.0.9;lr>\r\n";
    world.receive(bob.address, &bob.respond(&subscribed, 200, "b", lines, ""));
    let accepted = world.response(200);
    assert_eq!(accepted.header("Record-Route"), "");
    world.receive(bob.address, &bob.inside(&subscribed, "b", "NOTIFY", 1, "", ""));
    let notified = world.request("NOTIFY");
    assert_eq!(
        (notified.uri(), notified.way),
        ("sip:alice@192.168.1.7:5060".into(), Way::Flow(flow("198.51.100.7:40000")))
    );
    world.receive("198.51.100.7:40000", &alice.inside(&accepted, "", "SUBSCRIBE", 2, PRESENCE, ""));
    let refreshed = world.request("SUBSCRIBE");
    assert_eq!((refreshed.header("Route"), refreshed.way), ("<sip:10.0.0.9;lr>, <sip:10.0.0.8;lr>".into(), Way::Uri));
}

#[test]
fn a_hidden_contact_is_good_for_its_subscription_and_nothing_else() {
    let (mut world, alice, bob) = (World::with(|settings| settings.authenticate = true), alice(), bob());
    world.around.trusted.push("10.0.0.1".parse().unwrap());
    world.receive(alice.address, &alice.request("SUBSCRIBE", "sip:bob@example.com", PRESENCE, ""));
    let subscribed = world.request("SUBSCRIBE");
    world.receive(bob.address, &bob.respond(&subscribed, 200, "b", "", ""));
    let accepted = world.response(200);
    world.log();
    // Bob is challenged as he would be for any other request; no method and no dialog but the subscription's own reach Alice.
    world.receive(bob.address, &bob.inside(&subscribed, "b", "MESSAGE", 1, "", "x"));
    world.response(407);
    let other = bob.inside(&subscribed, "b", "NOTIFY", 2, "", "").0;
    world.receive(bob.address, &Text(other.replace(&format!("tag={}", subscribed.tag("From")), "tag=another")));
    world.response(481);
    // Nor is there anybody behind it for who need not prove who he is.
    world.receive(alice.address, &alice.inside(&accepted, "", "MESSAGE", 3, "", "x"));
    assert!(world.sent.iter().all(|sent| !sent.is_request()), "{:?}", world.log());
}

#[test]
fn what_makes_no_dialog_has_no_contact() {
    let (mut world, alice, bob) = (World::new(), alice(), bob());
    for method in ["MESSAGE", "OPTIONS"] {
        world.receive(alice.address, &alice.request(method, "sip:bob@example.com", "", ""));
        let relayed = world.request(method);
        assert_eq!(relayed.header("Contact"), "");
        world.receive(bob.address, &bob.respond(&relayed, 200, "b", "", ""));
        assert_eq!(world.response(200).header("Contact"), "");
    }
    // Where a redirection leads is what it says.
    world.receive(alice.address, &alice.request("SUBSCRIBE", "sip:bob@example.com", PRESENCE, ""));
    let relayed = world.request("SUBSCRIBE");
    let moved = bob.respond(&relayed, 302, "b", "", "").0.replace(&bob.contact(), "<sip:bob@example.org>");
    world.receive(bob.address, &Text(moved));
    assert_eq!(world.response(302).header("Contact"), "<sip:bob@example.org>");
}

#[test]
fn who_may_not_go_outside_is_refused_before_anything_is_hidden_for_him() {
    let (mut world, alice) = (World::new(), alice());
    let subscribe = || alice.request("SUBSCRIBE", "sip:zoe@far.example", PRESENCE, "");
    world.receive(alice.address, &subscribe());
    assert_eq!(world.response(403).header("Contact"), "");
    world.expect_silence();
    // Who may go there gets what stands for the other end, wherever that is.
    world.account_that_relays("alice");
    world.receive(alice.address, &subscribe());
    let subscribed = world.request("SUBSCRIBE");
    assert_eq!((subscribed.uri(), subscribed.way), ("sip:zoe@far.example".into(), Way::Uri));
    expect_hidden(&subscribed, &alice);
    let zoe = Phone::new("zoe", "far.example", "203.0.113.9:5060");
    world.receive(zoe.address, &zoe.respond(&subscribed, 200, "z", "", ""));
    let accepted = world.response(200);
    expect_hidden(&accepted, &zoe);
    world.receive(alice.address, &alice.inside(&accepted, "", "SUBSCRIBE", 2, PRESENCE, ""));
    assert_eq!(world.request("SUBSCRIBE").uri(), "sip:zoe@203.0.113.9:5060");
}

#[test]
fn a_contact_that_is_too_long_to_be_carried_is_refused() {
    let (mut world, alice) = (World::new(), alice());
    let long = format!("<sip:alice@10.0.0.1;x={}>", "y".repeat(1024));
    let text = alice.request("SUBSCRIBE", "sip:bob@example.com", PRESENCE, "").0.replace(&alice.contact(), &long);
    world.receive(alice.address, &Text(text));
    world.response(513);
    world.expect_nothing_left();
}
