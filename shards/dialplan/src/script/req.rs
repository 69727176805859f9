//! `req`: the request as it came. Read where it lies whenever a script looks.

use super::{Registry, Req};
use crate::{
    facts::{Party, PartyText, request_uri, text},
    run::with,
};
use rhai::{Array, Dynamic, Map};
use sip::{Header, HeaderName, Message, StartLine};

pub(super) fn register(to: &mut Registry) {
    to.property("req.method -> string", |_: &mut Req| {
        message(|message| match message.start_line() {
            StartLine::Request { method, .. } => text(method.as_bytes()),
            StartLine::Response { .. } => String::new(),
        })
    });
    to.property("req.uri -> string", |_: &mut Req| message(|message| text(request_uri(message))));
    to.property("req.user -> string", |_: &mut Req| with(|current| current.facts.party(Party::Target).user));
    to.property("req.host -> string", |_: &mut Req| with(|current| current.facts.party(Party::Target).host));
    to.property("req.from -> map", |_: &mut Req| party(Party::From));
    to.property("req.to -> map", |_: &mut Req| party(Party::To));
    to.property("req.call_id -> string", |_: &mut Req| message(|message| text(message.call_id().unwrap_or_default())));
    to.property("req.user_agent -> string", |_: &mut Req| {
        message(|message| {
            message.headers().find(|h| is_named(h, "User-Agent")).map(|h| text(h.value)).unwrap_or_default()
        })
    });
    to.property("req.content_type -> string", |_: &mut Req| {
        message(|message| text(message.value(HeaderName::ContentType).unwrap_or_default()))
    });
    to.property("req.body -> string", |_: &mut Req| message(|message| text(message.body())));
    to.property("req.headers -> array", |_: &mut Req| {
        message(|message| message.headers().map(|h| entry(&h)).collect::<Array>())
    });
    to.method("req.get(name) -> string or ()", |_: &mut Req, name: &str| {
        message(|message| {
            message.headers().find(|h| is_named(h, name)).map_or(Dynamic::UNIT, |h| Dynamic::from(text(h.value)))
        })
    });
    to.method("req.get_all(name) -> array", |_: &mut Req, name: &str| {
        message(|message| {
            message.headers().filter(|h| is_named(h, name)).map(|h| Dynamic::from(text(h.value))).collect::<Array>()
        })
    });
}

fn message<T: Default>(read: impl FnOnce(&Message<'_>) -> T) -> T {
    with(|current| current.facts.with_message(read)).unwrap_or_default()
}

/// §7.3.1: names are compared without case; §7.3.3: a compact form is the same name.
fn is_named(header: &Header<'_>, name: &str) -> bool {
    header.raw_name().eq_ignore_ascii_case(name.as_bytes())
        || (header.name != HeaderName::Other && header.name.canonical().eq_ignore_ascii_case(name))
}

fn entry(header: &Header<'_>) -> Dynamic {
    let mut map = Map::new();
    let name =
        if header.name == HeaderName::Other { text(header.raw_name()) } else { header.name.canonical().to_owned() };
    map.insert("name".into(), name.into());
    map.insert("value".into(), text(header.value).into());
    Dynamic::from_map(map)
}

fn party(party: Party) -> Map {
    let PartyText { name, user, host, uri, tag } = with(|current| current.facts.party(party));
    let mut map = Map::new();
    for (key, value) in [("name", name), ("user", user), ("host", host), ("uri", uri), ("tag", tag)] {
        map.insert(key.into(), value.into());
    }
    map
}
