//! `sys`: accounts, numbers, the web, the user's store, his calls.

use super::{Registry, Sys, int};
use crate::{
    Ask, Direction, Reply, WebRequest,
    run::{Limit, Raised, ask, question, with},
};
use rhai::{Array, Dynamic, ImmutableString, Map};

pub(super) fn register(to: &mut Registry) {
    accounts(to);
    web(to);
    store(to);
    calls(to);
}

fn accounts(to: &mut Registry) {
    to.method("sys.bindings(account) -> array", |_: &mut Sys, account: &str| bindings(account));
    to.method("sys.is_available(account) -> bool", |_: &mut Sys, account: &str| {
        bindings(account).map(|bindings| !bindings.is_empty())
    });
    to.method("sys.account_exists(account) -> bool", |_: &mut Sys, account: &str| {
        let (user, domain) = account_parts(account)?;
        question(
            |_| Ask::AccountExists { user, domain },
            |_, reply| match reply {
                Reply::Truth(exists) => Some(*exists),
                _ => None,
            },
        )
    });
    to.method("sys.canonical_domain(domain) -> string or ()", |_: &mut Sys, domain: &str| {
        question(|_| Ask::CanonicalDomain(domain.into()), text)
    });
    to.method("sys.enum_lookup(number) -> array", |_: &mut Sys, number: &str| {
        // RFC 6116 §3.2: an E.164 number in full, of digits with a leading plus.
        let digits: String = number.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')' | '/')).collect();
        let plain = digits.strip_prefix('+').unwrap_or(&digits);
        if plain.is_empty() || plain.len() > 15 || !plain.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{number}` is no telephone number with its country code").into());
        }
        question(|_| Ask::Enum(format!("+{plain}").into()), texts)
    });
}

fn bindings(account: &str) -> Result<Array, Raised> {
    let (user, domain) = account_parts(account)?;
    question(
        |_| Ask::Bindings { user, domain },
        |_, reply| match reply {
            Reply::Bindings(bindings) => Some(
                bindings
                    .iter()
                    .map(|binding| {
                        let mut map = Map::new();
                        map.insert("uri".into(), binding.uri.clone().into());
                        map.insert("q".into(), Dynamic::from_float(f64::from(binding.q) / 1000.0));
                        map.insert("expires_secs".into(), int(binding.expires_secs).into());
                        map.insert("user_agent".into(), binding.user_agent.clone().into());
                        Dynamic::from_map(map)
                    })
                    .collect(),
            ),
            _ => None,
        },
    )
}

/// `user@domain`, or a user of the own domain.
fn account_parts(account: &str) -> Result<(Box<str>, Box<str>), Raised> {
    let (user, domain) = match account.rsplit_once('@') {
        Some((user, domain)) => (user.into(), domain.into()),
        None => (account.into(), with(|current| current.facts.domain.clone())),
    };
    let user: Box<str> = user;
    if user.is_empty() { Err(format!("`{account}` is no account").into()) } else { Ok((user, domain)) }
}

fn web(to: &mut Registry) {
    to.method("sys.web_get(url) -> map", |_: &mut Sys, url: &str| fetch(url, None));
    to.method("sys.web_post(url, body) -> map", |_: &mut Sys, url: &str, body: &str| {
        fetch(url, Some((body, "application/x-www-form-urlencoded")))
    });
    to.method(
        "sys.web_post(url, body, content_type) -> map",
        |_: &mut Sys, url: &str, body: &str, content_type: &str| fetch(url, Some((body, content_type))),
    );
}

fn fetch(url: &str, post: Option<(&str, &str)>) -> Result<Map, Raised> {
    let is_web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_web || url.chars().any(|c| c.is_control() || c == ' ') {
        return Err(format!("`{url}` is no address in the web: it begins with https:// or http://").into());
    }
    if post.is_some_and(|(_, content_type)| content_type.chars().any(char::is_control)) {
        return Err("a content type is one line of text".into());
    }
    with(|current| {
        current.used.web_requests += 1;
        if current.used.web_requests > current.limits.max_web_requests {
            return Err(current.limit(Limit::WebRequests));
        }
        Ok(())
    })?;
    ask(
        |_| {
            let post = post.map(|(body, content_type)| (content_type.into(), body.into()));
            Ask::Web(Box::new(WebRequest { url: url.into(), post }))
        },
        |current, reply| match reply {
            Reply::Web { status, body } => {
                let mut map = Map::new();
                map.insert("status".into(), int(*status).into());
                let end = body.floor_char_boundary(current.limits.max_string_bytes);
                map.insert("body".into(), ImmutableString::from(&body[..end]).into());
                Some(map)
            }
            _ => None,
        },
    )
}

fn store(to: &mut Registry) {
    to.method("sys.store_get(key) -> string or ()", |_: &mut Sys, key: &str| {
        check_key(key)?;
        question(|_| Ask::StoreGet(key.into()), text)
    });
    to.method("sys.store_put(key, value)", |_: &mut Sys, key: &str, value: Dynamic| {
        check_key(key)?;
        let value = super::show(&value, with(|current| current.limits.max_string_bytes));
        question(|_| Ask::StorePut(key.into(), value.as_str().into()), done)
    });
    to.method("sys.store_delete(key)", |_: &mut Sys, key: &str| {
        check_key(key)?;
        question(|_| Ask::StoreDelete(key.into()), done)
    });
    to.method("sys.store_keys(prefix) -> array", |_: &mut Sys, prefix: &str| {
        question(|_| Ask::StoreList(prefix.into()), texts)
    });
}

fn check_key(key: &str) -> Result<(), Raised> {
    if key.is_empty() || key.len() > 128 || key.chars().any(char::is_control) {
        return Err("a key of the store is 1 to 128 octets of text".into());
    }
    Ok(())
}

fn calls(to: &mut Registry) {
    to.method("sys.calls() -> array", |_: &mut Sys| calls_of_user());
    to.method("sys.call_count() -> int", |_: &mut Sys| calls_of_user().map(|calls| int(calls.len())));
}

fn calls_of_user() -> Result<Array, Raised> {
    question(
        |_| Ask::CurrentCalls,
        |_, reply| match reply {
            Reply::Calls(calls) => Some(
                calls
                    .iter()
                    .map(|call| {
                        let mut map = Map::new();
                        map.insert("from".into(), call.from.clone().into());
                        map.insert("to".into(), call.to.clone().into());
                        map.insert("is_out".into(), (call.direction == Direction::Out).into());
                        map.insert("answered_secs".into(), call.answered_secs.map_or(Dynamic::UNIT, |s| int(s).into()));
                        Dynamic::from_map(map)
                    })
                    .collect(),
            ),
            _ => None,
        },
    )
}

fn done(_: &mut crate::run::Current, reply: &Reply) -> Option<()> {
    matches!(reply, Reply::Done).then_some(())
}

fn text(_: &mut crate::run::Current, reply: &Reply) -> Option<Dynamic> {
    match reply {
        Reply::Text(text) => Some(text.as_deref().map_or(Dynamic::UNIT, |text| ImmutableString::from(text).into())),
        _ => None,
    }
}

fn texts(_: &mut crate::run::Current, reply: &Reply) -> Option<Array> {
    match reply {
        Reply::Texts(texts) => Some(texts.iter().map(|text| ImmutableString::from(text.as_str()).into()).collect()),
        _ => None,
    }
}
