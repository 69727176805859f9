//! `sys`: what a plan changes in the requests that it sends.

use super::{Registry, Sys};
use crate::{
    HeaderField,
    dial::parse::set_from,
    run::{Current, Limit, Raised, with},
};
use rhai::Map;

/// Header fields that the switch writes (§8.1.1, §12, §16.6, §22). A plan that could would forge a dialog or a credential.
const OURS: &[&str] = &[
    "via",
    "v",
    "from",
    "f",
    "to",
    "t",
    "call-id",
    "i",
    "cseq",
    "contact",
    "m",
    "max-forwards",
    "route",
    "record-route",
    "path",
    "service-route",
    "content-length",
    "l",
    "content-type",
    "c",
    "content-encoding",
    "e",
    "authorization",
    "proxy-authorization",
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
    "require",
    "proxy-require",
    "supported",
    "k",
    "unsupported",
    "rack",
    "rseq",
    "session-expires",
    "x",
    "min-se",
    "replaces",
    "refer-to",
    "r",
    "ringswitch-source",
    "ringswitch-way",
];

pub(super) fn register(to: &mut Registry) {
    to.method("sys.set_header(name, value)", |_: &mut Sys, name: &str, value: &str| {
        check_header(name, value)?;
        with(|current| set_header(current, name, value))
    });
    to.method("sys.remove_header(name)", |_: &mut Sys, name: &str| {
        check_header(name, "")?;
        with(|current| {
            current.shape.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            if current.shape.removed.len() >= current.limits.max_headers {
                return Err(current.limit(Limit::Headers));
            }
            current.shape.removed.push(name.into());
            Ok::<(), Raised>(())
        })
    });
    to.method("sys.clear_headers()", |_: &mut Sys| {
        with(|current| {
            current.shape.headers.clear();
            current.shape.removed.clear();
        });
    });
    to.method("sys.set_from_name(name)", |_: &mut Sys, name: &str| from("name", name));
    to.method("sys.set_from_user(user)", |_: &mut Sys, user: &str| from("user", user));
    to.method("sys.set_from_host(host)", |_: &mut Sys, host: &str| from("host", host));
    to.method("sys.set_body(content_type, body)", |_: &mut Sys, content_type: &str, text: &str| {
        let body = body(content_type, text)?;
        with(|current| current.shape.body = Some(body));
        Ok::<(), Raised>(())
    });
    super::sys::send(to);
}

fn set_header(current: &mut Current, name: &str, value: &str) -> Result<(), Raised> {
    let headers = &mut current.shape.headers;
    headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    if headers.len() >= current.limits.max_headers {
        return Err(current.limit(Limit::Headers));
    }
    headers.push((name.into(), value.into()));
    Ok(())
}

fn from(part: &str, value: &str) -> Result<(), Raised> {
    with(|current| set_from(&mut current.shape.from, part, value)).map_err(|wrong| wrong.into())
}

/// A body and its type, type first.
pub(super) fn body(content_type: &str, text: &str) -> Result<(Box<str>, Box<str>), Raised> {
    let is_type = content_type.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    if !is_type || !is_line(content_type) {
        return Err(format!("`{content_type}` is no content type such as \"text/plain\"").into());
    }
    Ok((content_type.into(), text.into()))
}

/// Header fields as a map gives them.
pub(super) fn header_map(map: Map) -> Result<Vec<HeaderField>, Raised> {
    let most = with(|current| current.limits.max_headers);
    if map.len() > most {
        return Err(with(|current| current.limit(Limit::Headers)));
    }
    map.into_iter()
        .map(|(name, value)| {
            let value = value.to_string();
            check_header(&name, &value)?;
            Ok((name.as_str().into(), value.into()))
        })
        .collect()
}

fn check_header(name: &str, value: &str) -> Result<(), Raised> {
    // §25.1: header-name = token.
    let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    if !is_token {
        return Err(format!("`{name}` is no name of a header field").into());
    }
    if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return Err(format!("the switch itself writes {name}").into());
    }
    if !is_line(value) {
        return Err(format!("the value of {name} is more than one line").into());
    }
    Ok(())
}

fn is_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\t')
}
