//! Reads a dial string: `a@provider & b@provider [delay=5] | c`.
//!
//! It is taken apart first and substituted then, part by part: what a caller writes into his From can change neither whom
//! else a plan calls nor a leg's options.

use super::{From, Leg, LegOptions, Redirect, Refer, Target, substitute::substitute};
use crate::{Facts, script::nearest};
use std::collections::HashSet;

/// Keys of a leg's options.
const KEYS: &[&str] = &["delay", "ring", "max", "mangle", "name", "user", "host", "redirect", "refer", "account"];

/// Longest time that an option can name: a day.
const MAX_SECS: u32 = 86_400;

/// The steps of a dial string, each of one leg at least. What is dialled already is dropped. The error is for the plan's
/// author.
pub(crate) fn parse(targets: &str, facts: &Facts) -> Result<Vec<Vec<Leg>>, String> {
    let mut seen = HashSet::new();
    let mut steps = Vec::new();
    for step in split(targets, '|') {
        let mut legs = Vec::new();
        for text in split(step, '&') {
            let leg = leg(text.trim(), facts)?;
            if seen.insert(leg.target.clone()) {
                legs.push(leg);
            }
        }
        if !legs.is_empty() {
            steps.push(legs);
        }
    }
    Ok(steps)
}

/// Splits outside of brackets and of `${…}`.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == at && depth == 0
    })
}

fn leg(text: &str, facts: &Facts) -> Result<Leg, String> {
    let (whom, options) = match text.split_once('[') {
        Some((whom, rest)) => {
            let inside = rest.strip_suffix(']').ok_or_else(|| format!("`{text}` lacks its `]` at the end"))?;
            (whom.trim(), options(inside, facts)?)
        }
        None => (text, LegOptions::default()),
    };
    if whom.is_empty() {
        return Err("a leg is empty: is there a `&` or `|` too many?".to_owned());
    }
    Ok(Leg { target: target(whom, facts)?, options })
}

/// Whom a leg calls: a URI, `user@host`, a provider's name, or a user of the own domain.
pub(crate) fn target(whom: &str, facts: &Facts) -> Result<Target, String> {
    if ["sip:", "sips:", "tel:"].iter().any(|scheme| starts_with(whom, scheme)) {
        let uri = substitute(whom, facts)?;
        return match sip::Uri::parse(uri.as_bytes()) {
            Ok(sip::Uri::Sip(_) | sip::Uri::Tel(_)) => Ok(Target::Uri(uri.into())),
            _ => Err(format!("`{uri}` is no URI to call")),
        };
    }
    let (user, host) = match whom.rsplit_once('@') {
        Some((user, host)) => (substitute(user, facts)?, substitute(host, facts)?),
        None => {
            let name = substitute(whom, facts)?;
            if facts.providers.iter().any(|provider| provider.eq_ignore_ascii_case(&name)) {
                (substitute("${dst}", facts)?, name)
            } else {
                (name, facts.domain.to_string())
            }
        }
    };
    if user.is_empty() {
        return Err(format!("`{whom}` names no user, or stands for none in this call"));
    }
    // §25.1: user = 1*( unreserved / escaped / user-unreserved ).
    if let Some(wrong) = user.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.!~*'()&=+$,;?/%#".contains(*c)) {
        return Err(format!("`{user}` is no user: `{wrong}` cannot stand in it"));
    }
    if let Some(wrong) = host.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:[]".contains(*c)) {
        return Err(format!("`{host}` is no host and no provider: `{wrong}` cannot stand in it"));
    }
    if host.is_empty() {
        return Err(format!("`{whom}` lacks a host or provider behind the `@`"));
    }
    // `#` is no part of a user (§25.1), but on every keypad.
    Ok(Target::Address { user: user.replace('#', "%23").into(), host: host.into() })
}

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
}

fn options(inside: &str, facts: &Facts) -> Result<LegOptions, String> {
    let mut options = LegOptions::default();
    for option in split(inside, ',').map(str::trim).filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("the option `{option}` lacks `=value`"))?;
        let (key, value) = (key.trim(), value.trim());
        match key {
            "delay" => options.delay_secs = secs(key, value)?,
            "ring" => options.ring_secs = Some(secs(key, value)?),
            "max" => options.max_call_secs = Some(secs(key, value)?),
            "mangle" => options.mangle = Some(choice(key, value, &[("on", true), ("off", false)])?),
            "name" | "user" | "host" => set_from(&mut options.from, key, &substitute(value, facts)?)?,
            "redirect" => {
                let all = [("follow", Redirect::Follow), ("script", Redirect::Script), ("pass", Redirect::Pass)];
                options.redirect = choice(key, value, &all)?;
            }
            "refer" => {
                let all = [("refuse", Refer::Refuse), ("pass", Refer::Pass), ("place", Refer::Place)];
                options.refer = choice(key, value, &all)?;
            }
            "account" => options.account_code = Some(substitute(value, facts)?.into()),
            _ => {
                let hint =
                    nearest(key, KEYS.iter().copied()).unwrap_or_else(|| format!("there are {}", KEYS.join(", ")));
                return Err(format!("legs have no option `{key}`; {hint}"));
            }
        }
    }
    Ok(options)
}

/// Sets a part of From: `name`, `user` or `host`.
pub(crate) fn set_from(from: &mut From, part: &str, value: &str) -> Result<(), String> {
    let is_right = match part {
        "name" => !value.chars().any(char::is_control),
        "user" => value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/%".contains(c)),
        _ => sip::Uri::parse(format!("sip:{value}").as_bytes())
            .is_ok_and(|uri| uri.sip().is_ok_and(|s| s.user.is_none())),
    };
    if !is_right {
        return Err(format!("`{value}` cannot be the {part} of a From"));
    }
    let slot = match part {
        "name" => &mut from.name,
        "user" => &mut from.user,
        _ => &mut from.host,
    };
    *slot = Some(value.into());
    Ok(())
}

fn secs(key: &str, value: &str) -> Result<u32, String> {
    let secs = value.parse().ok().filter(|secs| *secs <= MAX_SECS);
    secs.ok_or_else(|| format!("`{key}={value}`: write whole seconds, at most {MAX_SECS}"))
}

fn choice<T: Copy>(key: &str, value: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        format!("`{key}={value}`: write {}", names.join(" or "))
    })
}
