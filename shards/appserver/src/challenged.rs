//! Requests of ours inside a dialog with a provider, who may challenge any of them (RFC 3261 §22.2, §22.3): BYE, re-INVITE, what passes.
//!
//! Such a request is kept until its final response, and is sent again with credentials before anybody else hears of the
//! challenge: once, and once more where the nonce was stale. The provider is looked up anew by its name, so that a password that has
//! been changed holds for calls that are up; an answered call keeps none.

use crate::{
    call::Call,
    credentials::{self, Tried},
    dispatch::Turn,
    mint::parse_tag,
    shared::{ChallengedKey, Context, Core, User, reparse, user_agent},
    slab::Timed,
};
use agent::{Draft, Way};
use dialog::{Dialog, Field, write_again};
use sip::{Message, Method, Response, StartLine, StatusCode};
use std::{sync::Arc, time::Duration};
use store::Provider;
use transaction::ClientId;

/// A request to a provider that has no final response yet.
pub(crate) struct Challenged {
    request: Box<[u8]>,
    way: Way,
    /// As it was when the call was made.
    provider: Arc<Provider>,
    tried: Tried,
    /// Who waits for what comes of it.
    user: User,
}

impl Timed for Challenged {
    /// Its transaction has the timers.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

impl<'t> Context<'_, 't> {
    /// Sends a request inside a dialog with a peer who may be reached through `provider`. None where there is no room for it.
    pub fn send_inside(
        &mut self,
        user: User,
        method: Method<'_>,
        way: Way,
        provider: Option<&Arc<Provider>>,
        branch: u64,
        request: Draft<'t>,
    ) -> Option<ClientId> {
        let Some(provider) = provider else { return self.send(user, method, way, branch, request) };
        let octets = request[..].into();
        let key = self.core.challenged.reserve();
        let sent = self.send(User::Challenged(key), method, way, branch, request);
        if sent.is_none() {
            self.core.challenged.release(key);
            return None;
        }
        let (provider, tried) = (Arc::clone(provider), Tried::Nothing);
        self.core.challenged.put(key, Challenged { request: octets, way, provider, tried, user });
        sent
    }
}

impl Turn<'_, '_> {
    /// Takes a response to a request to a provider: who is to hear of it, unless it is a challenge that has been answered.
    pub fn handle_challenge(
        &mut self,
        key: ChallengedKey,
        client: ClientId,
        message: &Message<'_>,
        response: &Response<'_>,
    ) -> Option<User> {
        let mut request = self.core.challenged.take(key)?;
        let user = request.user;
        let is_challenge =
            matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        if response.status.is_provisional() {
            self.core.challenged.put(key, request);
            return Some(user);
        }
        if is_challenge && self.send_again(key, &mut request, client, message).is_some() {
            self.core.challenged.put(key, request);
            return None;
        }
        self.core.challenged.release(key);
        // Further copies of a 2xx are the user's (RFC 6026 §7.2).
        self.core.transactions.set_client_user(client, user);
        Some(user)
    }

    /// A request to a provider had no final response: who is to hear of it.
    pub fn give_up_challenged(&mut self, key: ChallengedKey) -> Option<User> {
        let user = self.core.challenged.take(key)?.user;
        self.core.challenged.release(key);
        Some(user)
    }

    fn send_again(
        &mut self,
        key: ChallengedKey,
        challenged: &mut Challenged,
        old: ClientId,
        challenge: &Message<'_>,
    ) -> Option<ClientId> {
        let Challenged { request, way, provider, tried, user } = challenged;
        let provider = self.core.tables.providers.find(&provider.owner, &provider.name)?;
        let asked = reparse(request);
        let StartLine::Request { method, uri } = asked.start_line() else { return None };
        let cnonce = self.core.mint.draw();
        let (name, value) = credentials::answer(challenge, &provider, tried, method, uri, asked.body(), cnonce)?;
        let cseq = next_cseq(self.core, &asked)?;
        let (branch, mut draft) = (self.core.mint.draw(), self.out.draft());
        write_again(&asked, user_agent(self.core), branch, cseq, &Field::own(name, &value), &mut draft);
        let octets = draft[..].into();
        let (user, way) = (*user, *way);
        let mut ctx =
            Context { now: self.now, key: crate::slab::Key::NONE, core: self.core, world: self.world, out: self.out };
        let new = ctx.send(User::Challenged(key), method, way, branch, draft)?;
        *request = octets;
        if let User::Passing(call, _) = user {
            self.with_call(call, |call, _| {
                call.bridges_mut().for_each(|bridge| bridge.follow_again(old, new, cseq));
            });
        }
        Some(new)
    }
}

/// The number of a request that is sent again: the next one of its dialog, or, where that has ended with this very request, the
/// next one to its own.
fn next_cseq(core: &mut Core, request: &Message<'_>) -> Option<u32> {
    let parsed = request.request().ok()?;
    let (local, remote) = (parsed.from.tag.unwrap_or_default(), parsed.to.tag.unwrap_or_default());
    let key = parse_tag(local).and_then(|tag| core.dialogs.get(&tag).copied());
    let counted = key.and_then(|key| {
        let mut call = core.calls.take(key)?;
        let is_it = |dialog: &&mut Dialog| dialog.matches(parsed.call_id, local, remote);
        let ends = call.bridges_mut().flat_map(|bridge| [&mut bridge.near.dialog, &mut bridge.far.dialog]);
        let cseq = ends.filter(is_it).map(Dialog::next_cseq).next();
        core.calls.put(key, call);
        cseq
    });
    Some(counted.unwrap_or(parsed.cseq.number.saturating_add(1)))
}

impl Call {
    /// The bridges of its dialogs: early ones, or the one that was answered.
    fn bridges_mut(&mut self) -> impl Iterator<Item = &mut crate::bridge::Bridge> {
        let (early, answered) = match self {
            Self::Setup(setup) => (Some(setup.bridges.iter_mut().map(|early| &mut early.bridge)), None),
            Self::Established(established) => (None, Some(&mut established.bridge)),
        };
        early.into_iter().flatten().chain(answered)
    }
}
