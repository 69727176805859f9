//! REFER (RFC 3515), and sipfrag (RFC 3420) and Subscription-State (RFC 6665) of its NOTIFYs.

use crate::harness::{message, parse, written};
use dialog::{Body, Field, Progress, ReferTo, Replaces, SubscriptionState};
use proptest::prelude::*;
use sip::{Error, HeaderName, StatusCode};

fn refer(value: &str) -> String {
    message(&["REFER sip:b@atlanta.example.com SIP/2.0", &format!("r: {value}")])
}

fn target(value: &str) -> (String, String) {
    let text = refer(value);
    let message = parse(&text);
    let refer_to = ReferTo::of(&message).unwrap();
    (written(|out| refer_to.write_target(out)), String::from_utf8_lossy(refer_to.method()).into_owned())
}

fn pair(target: &str, method: &str) -> (String, String) {
    (target.to_owned(), method.to_owned())
}

#[test]
fn section_2_1_the_examples_name_target_and_method() {
    assert_eq!(target("sip:alice@atlanta.example.com"), pair("sip:alice@atlanta.example.com", "INVITE"));
    assert_eq!(
        target(
            "<sip:bob@biloxi.example.net?Accept-Contact=sip:bobsdesk.biloxi.example.net&Call-ID%3D55432%40alicepc.atlanta.example.com>"
        ),
        pair("sip:bob@biloxi.example.net", "INVITE")
    );
    assert_eq!(
        target("<sip:carol@cleveland.example.org;method=SUBSCRIBE>"),
        pair("sip:carol@cleveland.example.org", "SUBSCRIBE")
    );
    assert_eq!(target("\"C\" <sip:c@h;a;METHOD=INFO;transport=tcp?x=y>"), pair("sip:c@h;a;transport=tcp", "INFO"));
    assert_eq!(target("<http://www.ietf.org>"), pair("http://www.ietf.org", "INVITE"));
}

#[test]
fn section_2_4_2_without_one_refer_to_it_is_malformed() {
    let text = message(&["REFER sip:x SIP/2.0"]);
    assert_eq!(ReferTo::of(&parse(&text)).unwrap_err(), Error::Missing(HeaderName::ReferTo));
    for bad in ["", "<sip:a@b>, <sip:c@d>", "<sip:a b>"] {
        assert_eq!(ReferTo::of(&parse(&refer(bad))).unwrap_err(), Error::Malformed(HeaderName::ReferTo), "{bad}");
    }
}

#[test]
fn a_replaces_within_refer_to_is_unescaped() {
    // As in section 2.1's third example.
    let text = refer(
        "<sip:carol@host?Require=replaces&replaces=425928%40bobster.example.org%3Bto-tag%3D7743%3Bfrom-tag%3D6472>",
    );
    let message = parse(&text);
    let value = ReferTo::of(&message).unwrap().replaces().unwrap();
    assert_eq!(value, b"425928@bobster.example.org;to-tag=7743;from-tag=6472");
    assert!(Replaces::parse(&value).is_ok());
    assert_eq!(ReferTo::of(&parse(&refer("<sip:carol@host>"))).unwrap().replaces(), None);
}

#[test]
fn section_2_4_5_a_notify_tells_how_the_call_goes() {
    let progress = Progress::new(93_809_824, StatusCode::TRYING, "Trying", 60);
    let [event, state] = progress.fields();
    assert_eq!(
        (event, state),
        (
            Field::own(HeaderName::Event, b"refer;id=93809824"),
            Field::own(HeaderName::SubscriptionState, b"active;expires=60"),
        )
    );
    assert_eq!(progress.body(), Body { content_type: Body::SIPFRAG, octets: b"SIP/2.0 100 Trying\r\n" });
}

#[test]
fn section_2_4_7_a_final_response_ends_the_subscription() {
    let progress = Progress::new(1, StatusCode::OK, "OK", 60);
    assert_eq!(progress.fields()[1].value(), b"terminated;reason=noresource");
    let text = message(&["NOTIFY sip:x SIP/2.0", "Content-Type: Message/sipfrag; version=2.0"]);
    let body = |body: &str| Progress::status_of(&parse(&format!("{text}{body}")));
    assert_eq!(body(str::from_utf8(progress.body().octets).unwrap()), Some(StatusCode::OK));
    assert_eq!(body("SIP/2.0 603 Declined\r\nFrom: x\r\n"), StatusCode::new(603));
    for strange in ["", "SIP/2.0 99 x", "SIP/2.0 2000 x", "INVITE sip:x SIP/2.0", "SIP/2.0 20"] {
        assert_eq!(body(strange), None, "{strange}");
    }
    let other = message(&["NOTIFY sip:x SIP/2.0", "Content-Type: text/plain"]) + "SIP/2.0 200 OK";
    assert_eq!(Progress::status_of(&parse(&other)), None);
}

#[test]
fn subscription_states_are_read_and_written() {
    for (value, state) in [
        ("active;expires=599", SubscriptionState::Active { expires_secs: Some(599) }),
        ("pending", SubscriptionState::Pending { expires_secs: None }),
        ("terminated;reason=noresource", SubscriptionState::Terminated { reason: b"noresource" }),
    ] {
        let text = message(&["NOTIFY sip:x SIP/2.0", &format!("Subscription-State: {value}")]);
        assert_eq!(SubscriptionState::of(&parse(&text)), Ok(state));
        assert_eq!(written(|out| state.write(out)), value);
    }
    let text = message(&["NOTIFY sip:x SIP/2.0", "Subscription-State: sleeping"]);
    assert_eq!(SubscriptionState::of(&parse(&text)), Err(Error::Malformed(HeaderName::SubscriptionState)));
}

proptest! {
    #[test]
    fn any_refer_to_is_read_or_refused(value in "[ -~]{0,60}", inside in "[!-;=?-~]{0,40}") {
        for value in [value, format!("<sip:{inside}>")] {
            let text = refer(&value);
            if let Ok(refer_to) = ReferTo::of(&parse(&text)) {
                let target = written(|out| refer_to.write_target(out));
                prop_assert!(sip::Uri::parse(target.as_bytes()).is_ok(), "{} gives {}", value, target);
                let _ = refer_to.replaces();
            }
        }
    }
}
