//! The redirect service: an application server in another process asks where a user is reached, and is told by a 302 with every
//! live contact (RFC 3261 §8.3, §21.3.3).
//!
//! Beside `q` and `expires` a contact bears what leads there when its URI does not: the flow that it registered on
//! (RFC 5626) and its Path (RFC 3327), and what the phone calls itself. The answer has the header by which a process of
//! ours knows that it comes from the switch, for the Call-ID of its question.

use super::{
    AtWork,
    agents::{Agents, Location},
    flow_text,
    serve::INWARD,
    user::LocalUser,
};
use agent::{Draft, Flow, Now, Outbox};
use arrayvec::ArrayVec;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bumpalo::{Bump, collections::Vec as BumpVec};
use registrar::Target;
use sip::{Address, Edit, HeaderName, Message, Octets, StartLine, StatusCode, Uri, write};

/// The parameters of a contact that only we write.
const FLOW: &[u8] = b"rs-flow";
const ROUTE: &[u8] = b"rs-route";
const AGENT: &[u8] = b"rs-agent";

/// Octets of contacts in one answer, which is one datagram; the worst ones beyond are left out.
const MAX_OCTETS: usize = 48 * 1024;

impl AtWork<'_> {
    /// Answers a question of an application server, which came on `flow`.
    pub fn redirect<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        agents: &impl Agents,
        out: &mut Outbox<'t>,
    ) {
        self.counters.lookups += 1;
        let StartLine::Request { uri, .. } = message.start_line() else { return };
        let Some(call_id) = message.call_id() else { return };
        let settings = self.settings;
        let aor = Uri::parse(uri).ok().and_then(|uri| LocalUser::of(settings, &uri, out.arena())?.aor);
        let (status, targets) = match aor.map(|aor| agents.locate(now, aor, out.arena())) {
            Some(Location::Bound(targets)) => (StatusCode::MOVED_TEMPORARILY, targets),
            Some(Location::Absent) => (StatusCode::TEMPORARILY_UNAVAILABLE, &[][..]),
            Some(Location::Unknown) | None => (StatusCode::NOT_FOUND, &[][..]),
        };
        let mut draft = out.draft();
        let tag = settings.keys.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, status.reason(), &tag, flow.peer);
        let start = draft.len();
        for target in targets {
            let end = draft.len();
            write_target(target, &mut draft);
            if draft.len() - start > MAX_OCTETS {
                draft.truncate(end);
                break;
            }
        }
        write::finish(&mut draft, b"");
        let Ok(answer) = Message::parse(draft.into_bump_slice(), &settings.limits) else { return };
        let mut source = out.draft();
        settings.keys.hops.write_source(call_id, &INWARD, &mut source);
        let mut edit = Edit::new(&answer, out.arena());
        edit.push_lines(source.into_bump_slice());
        out.send(flow, edit.finish());
    }
}

fn write_target(target: &Target<'_>, out: &mut Draft<'_>) {
    out.put(b"Contact: <");
    out.put(target.contact);
    out.put_display(format_args!(">;q={}.{:03};expires={}", target.q / 1000, target.q % 1000, target.expires_secs));
    if let Some(flow) = &target.flow {
        let mut text = ArrayVec::<u8, { flow_text::MAX_LEN }>::new();
        flow_text::put(Some(flow), &mut text);
        write_param(FLOW, &text, out);
    }
    for (name, octets) in [(ROUTE, target.route), (AGENT, target.user_agent)] {
        if !octets.is_empty() {
            let mut text = BumpVec::new_in(out.bump());
            text.resize(octets.len().div_ceil(3) * 4, 0);
            let length = URL_SAFE_NO_PAD.encode_slice(octets, &mut text).expect("the buffer holds the longest text");
            write_param(name, &text[..length], out);
        }
    }
    out.put(b"\r\n");
}

fn write_param(name: &[u8], value: &[u8], out: &mut Draft<'_>) {
    out.put(b";");
    out.put(name);
    out.put(b"=");
    out.put(value);
}

/// The targets that an answer of [`AtWork::redirect`] tells, in its order; none where it tells that there are none.
pub fn read_targets<'t>(answer: &Message<'t>, arena: &'t Bump) -> BumpVec<'t, Target<'t>> {
    let mut targets = BumpVec::new_in(arena);
    targets.extend(answer.addresses(HeaderName::Contact).map_while(Result::ok).filter_map(|c| read_target(&c, arena)));
    targets
}

fn read_target<'t>(contact: &Address<'t>, arena: &'t Bump) -> Option<Target<'t>> {
    let mut target = Target { contact: contact.uri, q: 1000, route: &[], flow: None, expires_secs: 0, user_agent: &[] };
    for param in contact.params.iter() {
        let value = param.value.unwrap_or_default();
        let text = || {
            let mut octets = BumpVec::new_in(arena);
            octets.resize(value.len(), 0);
            let length = URL_SAFE_NO_PAD.decode_slice(value, &mut octets).ok()?;
            octets.truncate(length);
            Some(octets.into_bump_slice() as &[u8])
        };
        match param.name {
            b"q" => target.q = thousandths(value)?,
            b"expires" => target.expires_secs = sip::number(value)?,
            FLOW => target.flow = flow_text::take(value)?,
            ROUTE => target.route = text()?,
            AGENT => target.user_agent = text()?,
            _ => {}
        }
    }
    Some(target)
}

/// `0.500` as it was written above.
fn thousandths(q: &[u8]) -> Option<u16> {
    let (whole, part) = q.split_at_checked(1)?;
    let whole = sip::number(whole)?;
    let part = sip::number(part.strip_prefix(b".")?)?;
    u16::try_from(whole * 1000 + part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::ListenerId;
    use sip::{Limits, Transport};

    #[test]
    fn a_target_that_is_written_is_read() {
        let arena = Bump::new();
        let flow = Flow {
            listener: ListenerId(1),
            transport: Transport::Udp,
            peer: "198.51.100.7:31000".parse().unwrap(),
            connection: None,
        };
        let target = |contact: &'static str| Target {
            contact: contact.as_bytes(),
            q: 1000,
            route: b"",
            flow: None,
            expires_secs: 60,
            user_agent: b"",
        };
        let targets = [
            target("sip:bob@192.0.2.20:5062"),
            Target { q: 250, flow: Some(flow), user_agent: b"Phone \"1\"; x", ..target("sip:bob@10.0.0.1;ob") },
            Target { q: 0, route: b"<sip:edge;lr>, <sip:core;lr>", ..target("sip:bob@example.net") },
        ];
        let mut text = BumpVec::new_in(&arena);
        text.put(b"SIP/2.0 302 Moved Temporarily\r\n");
        targets.iter().for_each(|target| write_target(target, &mut text));
        text.put(b"\r\n");
        let message = Message::parse(text.into_bump_slice(), &Limits::default()).unwrap();
        assert_eq!(&read_targets(&message, &arena)[..], targets);
    }
}
