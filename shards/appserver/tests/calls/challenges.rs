//! Requests inside a call to a provider who challenges them (RFC 3261 §22.2, §22.3).

use crate::{
    basic::{alice, bob},
    phone::{Phone, SDP_A, SDP_B, Text},
    world::{Sent, World},
};
use sip::digest::{Algorithm, Credentials, Ha1};

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"acme\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
const STALE: &str =
    "Proxy-Authenticate: Digest realm=\"acme\", nonce=\"n2\", stale=true, algorithm=MD5, qop=\"auth\"\r\n";

fn gateway() -> Phone {
    Phone::new("gw", "sip.acme.net", "203.0.113.5:5060")
}

/// A call of alice's out through a provider, whose 2xx has these lines: the answer that she got, the INVITE that he got.
fn set_up_out(world: &mut World, alice: &Phone, gateway: &Phone, lines: &str) -> (Sent, Sent) {
    world.provider("alice", "acme", "sip:sip.acme.net");
    world.plan("alice", false, true, r#"sys.dial("+4930123@acme");"#);
    world.receive(alice.address, &alice.invite("sip:x@example.com"));
    let leg = world.request("INVITE");
    world.receive(gateway.address, &gateway.respond(&leg, 200, "g", lines, SDP_B));
    let answer = world.response(200);
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 1, "", ""));
    world.log();
    (answer, leg)
}

/// The same request again, right after `first` and with the credentials of the provider's account.
fn expect_again(world: &mut World, first: &Text, password: &[u8]) -> Sent {
    let method = first.method();
    let again = world.request(&method);
    assert_eq!((again.cseq(), again.uri(), again.body()), (first.cseq() + 1, first.uri(), first.body()));
    assert_ne!(again.header("Via"), first.header("Via"));
    for name in ["Call-ID", "From", "To", "Contact", "Session-Expires", "Event", "RAck", "Reason"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    let value = again.header("Proxy-Authorization");
    let credentials = Credentials::parse(value.as_bytes()).expect("there are credentials");
    let ha1 = Ha1::new(Algorithm::Md5, b"4711", b"acme", password);
    assert!(credentials.verify(&ha1, method.as_bytes(), b""));
    again
}

#[test]
fn a_bye_is_answered_for_once_and_once_more_where_the_nonce_was_stale() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    let (answer, _) = set_up_out(&mut world, &alice, &gateway, "");
    let reason = "Reason: Q.850 ;cause=16\r\n";
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 2, reason, ""));
    let bye = world.request("BYE");
    assert_eq!(bye.header("Reason"), "Q.850 ;cause=16");
    assert_eq!(world.response(200).method(), "BYE");
    assert_eq!(world.app.census().calls, 0);
    world.receive(gateway.address, &gateway.respond(&bye, 407, "", CHALLENGE, ""));
    let again = expect_again(&mut world, &bye, b"geheim");
    world.receive(gateway.address, &gateway.respond(&again, 407, "", STALE, ""));
    let third = expect_again(&mut world, &again, b"geheim");
    assert!(!third.0.contains("n1"), "credentials of before are gone");
    for lines in [STALE, CHALLENGE] {
        world.receive(gateway.address, &gateway.respond(&third, 407, "", lines, ""));
    }
    world.expect_silence();
    world.expect_nothing_left();
}

#[test]
fn a_wrong_password_is_sent_once() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    let (answer, _) = set_up_out(&mut world, &alice, &gateway, "");
    world.receive(alice.address, &alice.inside(&answer, "", "INFO", 2, "", "x"));
    let info = world.request("INFO");
    world.receive(gateway.address, &gateway.respond(&info, 401, "", &CHALLENGE.replace("Proxy", "WWW"), ""));
    let again = world.request("INFO");
    assert_ne!(again.header("Authorization"), "");
    world.expect_silence();
    world.receive(gateway.address, &gateway.respond(&again, 401, "", &CHALLENGE.replace("Proxy", "WWW"), ""));
    // The caller has not got what the challenge asks for, and is not asked.
    assert_eq!(world.response(403).header("CSeq"), "2 INFO");
    world.expect_silence();
    world.receive(alice.address, &alice.inside(&answer, "", "BYE", 3, "", ""));
    assert_eq!(world.request("BYE").cseq(), again.cseq() + 1);
    world.expect_nothing_left();
}

#[test]
fn the_other_side_of_what_passes_hears_of_no_challenge() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    let (answer, _) = set_up_out(&mut world, &alice, &gateway, "");
    world.receive(alice.address, &alice.inside(&answer, "", "INVITE", 2, "", SDP_A));
    let passed = world.request("INVITE");
    world.response(100);
    world.receive(gateway.address, &gateway.respond(&passed, 407, "", CHALLENGE, ""));
    assert_eq!(world.request("ACK").cseq(), passed.cseq());
    let again = expect_again(&mut world, &passed, b"geheim");
    world.expect_silence();
    world.receive(gateway.address, &gateway.respond(&again, 200, "", "", SDP_B));
    assert_eq!(world.response(200).header("CSeq"), "2 INVITE");
    world.receive(alice.address, &alice.inside(&answer, "", "ACK", 2, "", ""));
    assert_eq!(world.request("ACK").cseq(), again.cseq());
    // A copy of the 2xx, whose ACK was lost.
    world.receive(gateway.address, &gateway.respond(&again, 200, "", "", SDP_B));
    assert_eq!(world.request("ACK").cseq(), again.cseq());
    world.expect_silence();
    // One that is given up is cancelled as it was sent last.
    let reinvite = alice.inside(&answer, "", "INVITE", 3, "", SDP_A);
    world.receive(alice.address, &reinvite);
    let passed = world.request("INVITE");
    world.receive(gateway.address, &gateway.respond(&passed, 407, "", CHALLENGE, ""));
    let again = expect_again(&mut world, &passed, b"geheim");
    world.receive(gateway.address, &gateway.respond(&again, 180, "", "", ""));
    world.receive(alice.address, &alice.cancel(&reinvite));
    assert_eq!(world.request("CANCEL").header("Via"), again.header("Via"));
}

#[test]
fn a_refresh_is_answered_for() {
    for (lines, method) in [("Allow: UPDATE\r\n", "UPDATE"), ("", "INVITE")] {
        let (mut world, alice, gateway) = (World::new(), alice(), gateway());
        let lines = format!("{lines}Session-Expires: 300;refresher=uac\r\n");
        set_up_out(&mut world, &alice, &gateway, &lines);
        world.wait(150.2);
        let refresh = world.request(method);
        world.receive(gateway.address, &gateway.respond(&refresh, 407, "", CHALLENGE, ""));
        let again = expect_again(&mut world, &refresh, b"geheim");
        world.receive(gateway.address, &gateway.respond(&again, 200, "", &lines, ""));
        world.log();
        world.wait(149.0);
        world.expect_silence();
        world.wait(1.2);
        assert_eq!(world.request(method).cseq(), again.cseq() + 1);
    }
}

#[test]
fn a_call_that_was_taken_up_again_finds_its_provider_by_name() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    let (answer, _) = set_up_out(&mut world, &alice, &gateway, "");
    world.kill();
    let changed = world.tables.providers.find("alice@example.com", "acme").unwrap();
    world.tables.providers.put(store::Provider { password: store::Password::new("neu"), ..(*changed).clone() });
    world.receive(alice.address, &alice.inside(&answer, "", "INFO", 2, "", ""));
    let info = world.request("INFO");
    world.receive(gateway.address, &gateway.respond(&info, 407, "", CHALLENGE, ""));
    let again = expect_again(&mut world, &info, b"neu");
    world.receive(gateway.address, &gateway.respond(&again, 200, "", "", ""));
    assert_eq!(world.response(200).method(), "INFO");
    world.hang_up();
    let byes = [world.request("BYE"), world.request("BYE")];
    let bye = byes.iter().find(|bye| bye.uri() == "sip:gw@203.0.113.5:5060").unwrap();
    world.receive(gateway.address, &gateway.respond(bye, 407, "", CHALLENGE, ""));
    expect_again(&mut world, bye, b"neu");
    world.expect_nothing_left();
}

#[test]
fn a_provider_who_called_is_answered_too() {
    let (mut world, bob, gateway) = (World::new(), bob(), gateway());
    world.provider("bob", "acme", "sip:sip.acme.net");
    let provider = world.tables.providers.find("bob@example.com", "acme").unwrap();
    let sources = [store::ProviderSource::parse("203.0.113.5").unwrap()].into();
    world.tables.providers.put(store::Provider { sources, ..(*provider).clone() });
    world.receive(gateway.address, &gateway.invite("sip:bob@example.com"));
    let leg = world.request("INVITE");
    world.receive(bob.address, &bob.respond(&leg, 200, "b", "", SDP_B));
    let answer = world.response(200);
    world.receive(gateway.address, &gateway.inside(&answer, "", "ACK", 1, "", ""));
    world.log();
    for kill in [false, true] {
        if kill {
            world.kill();
        }
        let cseq = 1 + u32::from(kill);
        world.receive(bob.address, &bob.inside(&leg, "b", "INFO", cseq, "", ""));
        let info = world.request("INFO");
        world.receive(gateway.address, &gateway.respond(&info, 407, "", CHALLENGE, ""));
        let again = expect_again(&mut world, &info, b"geheim");
        world.receive(gateway.address, &gateway.respond(&again, 200, "", "", ""));
        world.response(200);
        world.expect_silence();
    }
    // Nobody else's challenges are answered with it.
    world.receive(gateway.address, &gateway.inside(&answer, "", "INFO", 2, "", ""));
    let info = world.request("INFO");
    world.receive(bob.address, &bob.respond(&info, 407, "", CHALLENGE, ""));
    world.response(403);
    world.expect_silence();
}

#[test]
fn an_unwanted_answer_of_a_provider_is_hung_up_with_credentials() {
    let (mut world, alice, gateway) = (World::new(), alice(), gateway());
    world.provider("alice", "acme", "sip:sip.acme.net");
    world.plan("alice", false, true, r#"sys.dial("+4930123@acme");"#);
    let invite = alice.invite("sip:x@example.com");
    world.receive(alice.address, &invite);
    let leg = world.request("INVITE");
    world.receive(gateway.address, &gateway.respond(&leg, 180, "g", "", ""));
    world.receive(alice.address, &alice.cancel(&invite));
    world.receive(gateway.address, &gateway.respond(&leg, 200, "g", "", SDP_B));
    let bye = world.request("BYE");
    world.log();
    world.receive(gateway.address, &gateway.respond(&bye, 407, "", CHALLENGE, ""));
    expect_again(&mut world, &bye, b"geheim");
    world.expect_nothing_left();
}
