//! Dialogs in the journal.

use crate::harness::{INVITE_AT_BOB, OK, alice, bob, from_bob, parse, tokens, ua};
use dialog::{Dialog, DialogState, Malformed};
use proptest::prelude::*;
use sip::Method;

fn encoded(dialog: &Dialog) -> Vec<u8> {
    let mut out = Vec::new();
    dialog.encode(&mut out);
    out
}

#[test]
fn a_dialog_is_taken_up_again_as_it_was() {
    let mut early = Dialog::uas(&parse(INVITE_AT_BOB), b"1", sip::Transport::Tls).unwrap();
    let mut ended = alice();
    ended.terminate();
    early.receive(&parse(&from_bob("INFO", 77, "")).request().unwrap()).unwrap();
    for dialog in [alice(), bob(), early, ended] {
        let again = Dialog::decode(&encoded(&dialog)).unwrap();
        assert_eq!(
            (again.state(), again.owns_call_id(), again.is_secure()),
            (dialog.state(), dialog.owns_call_id(), dialog.is_secure())
        );
        assert!(again.matches(dialog.call_id(), dialog.local_tag(), dialog.remote_tag()));
        assert_eq!((again.local(), again.remote()), (dialog.local(), dialog.remote()));
        assert_eq!((again.remote_target(), again.route_set()), (dialog.remote_target(), dialog.route_set()));
        assert_eq!(again.remote_cseq(), dialog.remote_cseq());
    }
}

#[test]
fn requests_that_the_record_does_not_know_of_are_counted_past() {
    let (mut dialog, tokens) = (alice(), tokens());
    let record = encoded(&dialog);
    let next =
        |dialog: &mut Dialog| dialog.write_request(ua(&tokens), 1, Method::Info, &[], None, &mut Vec::new()).unwrap();
    let sent = (0..1000).map(|_| next(&mut dialog)).max().unwrap();
    assert!(next(&mut Dialog::decode(&record).unwrap()) > sent);
}

#[test]
fn octets_that_are_no_dialog_are_told() {
    let record = encoded(&alice());
    assert_eq!(Dialog::decode(&[]), Err(Malformed::Truncated));
    assert_eq!(Dialog::decode(&[&[9], &record[1..]].concat()), Err(Malformed::Version(9)));
    assert_eq!(Dialog::decode(&[&record[..1], &[3], &record[2..]].concat()), Err(Malformed::Flags));
    assert_eq!(Dialog::decode(&[&record[..], b"x"].concat()), Err(Malformed::Trailing));
    for end in 0..record.len() {
        assert_eq!(Dialog::decode(&record[..end]), Err(Malformed::Truncated));
    }
}

fn mischief() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3),
        prop::sample::select(vec![
            "\r\n",
            "\r\n ",
            "\"",
            "<",
            ">",
            ";tag=\"a b\"",
            ",",
            "<sip:x>",
            ";lr",
            "\u{1}",
            "\\"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn a_damaged_record_is_refused_or_writes_sound_messages(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut record = encoded(&alice());
        for (place, octet) in places {
            let at = place.index(record.len());
            record[at] = octet;
        }
        if let Ok(mut dialog) = Dialog::decode(&record) {
            let (tokens, mut out) = (tokens(), Vec::new());
            dialog.write_request(ua(&tokens), 1, Method::Bye, &[], None, &mut out).unwrap();
            let message = sip::Message::parse(&out, &sip::Limits::default()).unwrap();
            prop_assert!(message.request().is_ok());
            prop_assert!(message.headers().count() <= 8);
            prop_assert!(matches!(dialog.state(), DialogState::Early | DialogState::Confirmed | DialogState::Terminated));
        }
    }

    #[test]
    fn whatever_makes_a_dialog_it_writes_sound_messages_and_can_be_kept(
        places in proptest::collection::vec((any::<prop::sample::Index>(), mischief()), 0..6),
        is_uac: bool,
    ) {
        let (mut invite, mut ok) = (INVITE_AT_BOB.as_bytes().to_vec(), OK.as_bytes().to_vec());
        let changed = if is_uac { &mut ok } else { &mut invite };
        for (place, octets) in places {
            let at = place.index(changed.len());
            changed.splice(at..=at, octets);
        }
        let parse = |octets| sip::Message::parse(octets, &sip::Limits::default());
        let (Ok(invite), Ok(ok)) = (parse(&invite), parse(&ok)) else { return Ok(()) };
        let made = match is_uac {
            true => Dialog::uac(crate::harness::URI, &ok),
            false => Dialog::uas(&invite, b"1", sip::Transport::Udp),
        };
        if let Ok(mut dialog) = made {
            let again = Dialog::decode(&encoded(&dialog)).unwrap();
            prop_assert_eq!(format!("{again:?}"), format!("{dialog:?}"));
            let (tokens, mut out) = (tokens(), Vec::new());
            dialog.write_request(ua(&tokens), 1, Method::Bye, &[], None, &mut out).unwrap();
            let message = parse(&out).unwrap();
            prop_assert!(message.request().is_ok(), "{message:?}");
            prop_assert!((7..=8).contains(&message.headers().count()), "{message:?}");
        }
    }

    #[test]
    fn any_octets_are_a_dialog_or_an_error(octets: Vec<u8>) {
        let _ = Dialog::decode(&octets);
    }
}
