//! What stands for a part of the call in a dial string: `${dst}`, `${exten:2}`, `${fromuriuser}`.

use crate::{
    Facts,
    facts::{Party, text},
    script::nearest,
};

/// Names that can be substituted.
const NAMES: &[&str] =
    &["dst", "exten", "dsthost", "fromname", "fromuriuser", "fromurihost", "user", "domain", "callid"];

/// `text` with each `${name}` replaced by its value, without the characters that `${name:skip}` skips and no more than
/// `${name:skip:count}` wants.
pub(crate) fn substitute(text: &str, facts: &Facts) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let (inside, after) =
            rest[at + 2..].split_once('}').ok_or_else(|| format!("`{text}` lacks the `}}` of its `${{`"))?;
        let mut parts = inside.split(':');
        let value = value(parts.next().unwrap_or_default().trim(), facts)?;
        let skip = number(parts.next(), inside)?.unwrap_or(0);
        let count = number(parts.next(), inside)?.unwrap_or(usize::MAX);
        out.extend(value.chars().skip(skip).take(count));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn number(part: Option<&str>, inside: &str) -> Result<Option<usize>, String> {
    let wrong = || format!("`${{{inside}}}`: write `${{name:skip}}` or `${{name:skip:count}}` with numbers");
    part.map(|part| part.trim().parse().map_err(|_| wrong())).transpose()
}

fn value(name: &str, facts: &Facts) -> Result<String, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "dst" | "exten" => facts.party(Party::Target).user,
        "dsthost" => facts.party(Party::Target).host,
        "fromname" => facts.party(Party::From).name,
        "fromuriuser" => facts.party(Party::From).user,
        "fromurihost" => facts.party(Party::From).host,
        "user" => facts.user.to_string(),
        "domain" => facts.domain.to_string(),
        "callid" => facts.with_message(|message| message.call_id().map(text)).flatten().unwrap_or_default(),
        _ => {
            let hint =
                nearest(name, NAMES.iter().copied()).unwrap_or_else(|| format!("there are {}", NAMES.join(", ")));
            return Err(format!("nothing stands for `${{{name}}}`; {hint}"));
        }
    })
}
