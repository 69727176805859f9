//! RFC 3261 §22.3: credentials that a proxy asks for.

use crate::switch::*;
use bumpalo::Bump;
use registrar::{
    Incoming,
    auth::{Role, Verdict},
};
use sip::{
    Limits, Message,
    digest::{Challenge, Covered, Ha1},
};

const TARGET: &str = "sip:bob@elsewhere.example";

/// An INVITE with the last lines `more`.
fn invite(call_id: &str, more: &str) -> String {
    format!(
        "INVITE {TARGET} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK{call_id}\r\nFrom: <sip:alice@example.com>;tag=f\r\n\
         To: <{TARGET}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n{more}\r\n"
    )
}

/// What the proxy learns of an INVITE: the address-of-record of its sender, or why not.
fn judge(switch: &mut Switch, text: &str) -> Result<String, &'static str> {
    let (now, arena) = (switch.now, Bump::new());
    let message = Message::parse(text.as_bytes(), &Limits::default()).expect("it is well-formed");
    let request = message.request().expect("it is a request");
    let incoming = Incoming { flow: flow(PHONE), message: &message, request: &request };
    match switch.registrar(0).authenticator().verify(now, &incoming, "example.com", Role::Proxy, &arena) {
        Verdict::Accepted { aor, .. } => Ok(aor.to_owned()),
        Verdict::Missing => Err("missing"),
        Verdict::Stale => Err("stale"),
        Verdict::Refused => Err("refused"),
        Verdict::Malformed(reason) => Err(reason),
    }
}

/// The header line that answers a challenge of the proxy's for a Call-ID.
fn credentials(switch: &mut Switch, call_id: &str) -> String {
    let (now, mut lines) = (switch.now, Vec::new());
    let authenticator = switch.registrar(0).authenticator();
    authenticator.challenge(now, call_id.as_bytes(), "example.com", Role::Proxy, false, &mut lines);
    let lines = String::from_utf8(lines).expect("ASCII");
    let offer = headers(&lines, "Proxy-Authenticate")[0];
    let challenge = Challenge::parse(offer.as_bytes()).expect("it is well-formed");
    let ha1 = Ha1::new(challenge.algorithm, b"alice", b"example.com", b"secret");
    let covered = Covered { method: b"INVITE", uri: TARGET.as_bytes(), body: b"" };
    let mut line = b"Proxy-Authorization: ".to_vec();
    challenge.answer(b"alice", &ha1, &covered, 1, b"c0ffee").expect("the same algorithm").write_to(&mut line);
    String::from_utf8(line).expect("ASCII") + "\r\n"
}

#[test]
fn a_proxy_asks_with_407_and_fields_of_its_own() {
    let mut switch = Switch::open();
    switch.add_account("alice", "secret");
    assert_eq!((Role::Server.status().get(), Role::Proxy.status().get()), (401, 407));
    assert_eq!(judge(&mut switch, &invite("1", "")), Err("missing"));
    let line = credentials(&mut switch, "1");
    assert_eq!(judge(&mut switch, &invite("1", &line)), Ok("alice@example.com".into()));
    let for_a_server = line.replace("Proxy-Authorization", "Authorization");
    assert_eq!(judge(&mut switch, &invite("1", &for_a_server)), Err("missing"));
}

#[test]
fn a_retransmitted_invite_passes_again_and_an_altered_one_does_not() {
    let mut switch = Switch::open();
    switch.add_account("alice", "secret");
    let invite = invite("1", &credentials(&mut switch, "1"));
    for _ in 0..3 {
        assert_eq!(judge(&mut switch, &invite), Ok("alice@example.com".into()));
    }
    assert_eq!(judge(&mut switch, &invite.replace("CSeq: 1", "CSeq: 2")), Err("stale"));
}

#[test]
fn credentials_are_for_one_call_one_method_and_one_target() {
    let mut switch = Switch::open();
    switch.add_account("alice", "secret");
    let line = credentials(&mut switch, "1");
    assert_eq!(judge(&mut switch, &invite("2", &line)), Err("stale"));
    assert_eq!(judge(&mut switch, &invite("1", &line).replace("INVITE", "REFER")), Err("refused"));
    let elsewhere = invite("1", &line).replacen(TARGET, "sip:carol@elsewhere.example", 1);
    assert_eq!(judge(&mut switch, &elsewhere), Err("Digest URI Is Not The Request-URI"));
}
