//! What the tests have in common: messages of RFC 3665 §3.2, a user agent, parsing.

use agent::{Agent, AppToken, Now, Secret};
use dialog::{Dialog, UserAgent};
use sip::{Limits, Message, Transport};
use std::time::Duration;

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sip/tests/vectors/rfc3665/", $name, ".msg"))
    };
}

/// Alice's INVITE as Bob gets it, the 200 as she gets it.
pub const INVITE: &str = vector!("3.2_F4");
pub const OK: &str = vector!("3.2_F14");
/// What her INVITE is for.
pub const URI: &[u8] = b"sip:bob@biloxi.example.com";
/// Bob gets two Record-Routes.
pub const INVITE_AT_BOB: &str = vector!("3.2_F7");

pub fn parse(text: &str) -> Message<'_> {
    Message::parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|e| panic!("{e}:\n{text}"))
}

/// Text with the line ends of SIP.
pub fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// A whole message from its lines and no body.
pub fn message(lines: &[&str]) -> String {
    lines.iter().map(|l| format!("{l}\r\n")).collect::<String>() + "\r\n"
}

/// A request inside Alice's and Bob's dialog, as Bob sends it.
pub fn from_bob(method: &str, cseq: u32, more: &str) -> String {
    crlf(&format!(
        "{method} sip:alice@x SIP/2.0\nVia: SIP/2.0/UDP b;branch=z9hG4bK{cseq}\nMax-Forwards: 70\n\
         From: Bob <sip:bob@biloxi.example.com>;tag=314159\nTo: Alice <sip:alice@atlanta.example.com>;tag=9fxced76sl\n\
         Call-ID: 3848276298220188511@atlanta.example.com\nCSeq: {cseq} {method}\n{more}\n"
    ))
}

/// Alice's end of the dialog.
pub fn alice() -> Dialog {
    Dialog::uac(URI, &parse(OK)).unwrap()
}

/// Bob's end of it.
pub fn bob() -> Dialog {
    let mut dialog = Dialog::uas(&parse(INVITE_AT_BOB), b"314159", Transport::Tcp).unwrap();
    dialog.confirm();
    dialog
}

pub fn tokens() -> AppToken {
    AppToken::new(&Secret::new([7; 32]))
}

pub fn ua(tokens: &AppToken) -> UserAgent<'_> {
    UserAgent { agent: Agent { name: "stable", shard: 2 }, tokens }
}

/// What `write` writes.
pub fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// The value of each header line of that name.
pub fn values(text: &str, name: &str) -> Vec<String> {
    let head = text.split("\r\n\r\n").next().unwrap();
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned()).collect()
}

pub fn at(secs: f64) -> Now {
    let monotonic = Duration::from_secs_f64(secs);
    Now { monotonic, unix: Duration::from_secs(1_700_000_000) + monotonic }
}
