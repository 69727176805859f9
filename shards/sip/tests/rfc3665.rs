//! The call flows of RFC 3665: what everyday messages look like. All of them parse, every value that routing reads is
//! read, and what is taken out and put back leaves the same octets.

#![expect(clippy::disallowed_methods, reason = "a test may read its vectors from files")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bumpalo::Bump;
use sip::{Edit, HeaderName, Limits, Message, Uri};
use std::{fs, path::Path};

#[test]
fn every_message_parses_with_every_value_that_routing_reads() {
    for (file, octets) in messages() {
        let message = parse(&file, &octets);
        if message.is_request() {
            let request = message.request().unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                request.from.tag.is_some()
                    && request.via.branch.is_some_and(|branch| branch.starts_with(sip::Via::MAGIC_COOKIE)),
                "{file}"
            );
            for uri in [request.uri, request.from.uri, request.to.uri] {
                Uri::parse(uri).unwrap_or_else(|e| panic!("{file}: {e}"));
            }
        } else {
            message.response().unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        assert_eq!(message.bytes(), octets, "{file}");
        assert!(message.vias().all(|via| via.is_ok()), "{file}");
        for name in [HeaderName::Contact, HeaderName::Route, HeaderName::RecordRoute] {
            for address in message.addresses(name) {
                let address = address.unwrap_or_else(|e| panic!("{file}: {e}"));
                // §10.2.2: "*" stands for every binding.
                let is_wildcard = name == HeaderName::Contact && address.uri == b"*";
                assert!(is_wildcard || address.parse_uri().is_ok(), "{file}: {address:?}");
            }
        }
    }
}

#[test]
fn an_edit_that_changes_nothing_is_the_message() {
    for (file, octets) in messages() {
        let (message, arena) = (parse(&file, &octets), Bump::new());
        let slices = Edit::new(&message, &arena).finish();
        assert_eq!(slices, [&octets[..]], "{file}");
    }
}

#[test]
fn a_via_that_is_popped_and_pushed_again_leaves_the_same_octets() {
    for (file, octets) in messages() {
        let (message, arena) = (parse(&file, &octets), Bump::new());
        let top = message.all(HeaderName::Via).next().unwrap();
        // RFC 3665 has one Via a line, and it comes first; if not, it does then.
        let mut lines: Vec<_> = message.headers().map(|h| h.line).filter(|line| *line != top.line).collect();
        lines.insert(0, top.line);
        let before = message.headers().next().unwrap().line.as_ptr() as usize - octets.as_ptr() as usize;
        let behind = before + lines.concat().len();
        let expected = [&octets[..before], &lines.concat(), &octets[behind..]].concat();
        let mut edit = Edit::new(&message, &arena);
        edit.pop(HeaderName::Via, message.vias().next().unwrap().unwrap().raw);
        edit.push_lines(top.line);
        assert_eq!(edit.finish().concat(), expected, "{file}");
    }
}

fn parse<'b>(file: &str, octets: &'b [u8]) -> Message<'b> {
    Message::parse(octets, &Limits::default()).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rfc3665");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let messages: Vec<_> = files.map(|path| read(&path)).collect();
    assert_eq!(messages.len(), 178);
    messages
}

fn read(path: &Path) -> (String, Vec<u8>) {
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    let octets = fs::read(path).unwrap();
    // The RFC prints one continuation line without its indentation, and that is no continuation (§3.10, F4).
    let octets = match &file[..] {
        "3.10_F4.msg" => String::from_utf8(octets).unwrap().replace("\r\n<sip", "\r\n <sip").into_bytes(),
        _ => octets,
    };
    (file, octets)
}
