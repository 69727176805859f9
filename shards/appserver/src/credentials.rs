//! Answers to challenges of providers (RFC 3261 §22.2, §22.3; RFC 7616).

use crate::mint::tag_text;
use sip::{
    HeaderName, Message, Method,
    digest::{Challenge, Covered, Ha1},
};
use store::Provider;

/// What a request has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Nothing,
    /// A challenge has been answered.
    Answered,
    /// One more, because the nonce was stale.
    AnsweredStale,
}

/// The header that answers a challenge of `provider`'s. None where there is no challenge that we can answer, or where the
/// answer has been refused: the same credentials would be refused again.
pub(crate) fn answer(
    response: &Message<'_>,
    provider: &Provider,
    tried: &mut Tried,
    method: Method<'_>,
    uri: &[u8],
    body: &[u8],
    cnonce: u64,
) -> Option<(HeaderName, Vec<u8>)> {
    let challenges = |name| response.all(name).filter_map(|h| Challenge::parse(h.value).ok());
    let answers =
        |challenge: &Challenge<'_>| provider.realm.as_deref().is_none_or(|realm| realm.as_bytes() == &*challenge.realm);
    let strongest = |name| challenges(name).filter(&answers).max_by_key(|challenge| challenge.algorithm);
    let (name, challenge) = match strongest(HeaderName::ProxyAuthenticate) {
        Some(challenge) => (HeaderName::ProxyAuthorization, challenge),
        None => (HeaderName::Authorization, strongest(HeaderName::WwwAuthenticate)?),
    };
    *tried = match *tried {
        Tried::Nothing => Tried::Answered,
        Tried::Answered if challenge.stale => Tried::AnsweredStale,
        Tried::Answered | Tried::AnsweredStale => return None,
    };
    let user = provider.auth_user.as_deref().unwrap_or(&provider.user).as_bytes();
    let ha1 = Ha1::new(challenge.algorithm, user, &challenge.realm, provider.password.reveal().as_bytes());
    let cnonce = tag_text(cnonce);
    let covered = Covered { method: method.as_bytes(), uri, body };
    let credentials = challenge.answer(user, &ha1, &covered, 1, &cnonce)?;
    let mut value = Vec::with_capacity(256);
    credentials.write_to(&mut value);
    Some((name, value))
}
