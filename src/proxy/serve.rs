//! Handing messages to application servers: on this shard by a call, in another process by a hop, elsewhere by forwarding.
//!
//! A server of ours is no hop of SIP: it gets a message as it came, without a Via of ours, and the flow that it came on. What
//! comes from one of ours for another, or for one of our users, has never been outside: it comes on an inward flow.

use super::{
    AtWork, Incoming,
    agents::Agents,
    answer::Refusal,
    apps::{Choice, Reach, State},
    forward::{Hop, strip_ours},
    hop, route,
    settings::Settings,
};
use agent::{Agent, Flow, ListenerId, Now, Outbox, PLACEHOLDER, Received};
use sip::{Edit, Message, Method, StatusCode, Transport, Uri};
use std::net::{Ipv4Addr, SocketAddr};

/// The name by which a prober is addressed; no application server has it.
pub(super) const PROBER: &str = "switch";

/// The flow of what has never left us. Nobody outside has this address.
pub(super) const INWARD: Flow = Flow {
    listener: ListenerId(0),
    transport: Transport::Udp,
    peer: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    connection: None,
};

/// A message that has never left us.
pub fn inward(octets: &[u8]) -> Received<'_> {
    Received { flow: INWARD, octets, passed: false }
}

/// Whether `flow` leads to ourselves.
pub fn is_inward(flow: &Flow) -> bool {
    flow.peer.ip().is_unspecified()
}

/// An application server, and which of its shards, if that is settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    app: usize,
    shard: Option<u16>,
}

/// The server that a request names: by the token in a Contact of ours (§12.2), or, from inside, by a Route of the form
/// `<sip:NAME@ringswitch.invalid;lr>`, by which one application server hands a call to another.
pub(super) fn addressee(settings: &Settings, incoming: &mut Incoming<'_, '_>) -> Result<Option<Place>, Refusal> {
    if is_inward(&incoming.received.flow)
        && let Some(top) = incoming.routed.routes.first()
        && let Ok(Uri::Sip(uri)) = top.parse_uri()
        && uri.host.is_name(PLACEHOLDER)
    {
        let name = uri.user.and_then(|user| std::str::from_utf8(user).ok());
        let app = name.and_then(|name| settings.apps.named(name));
        incoming.routed.take_first();
        let app = app.ok_or(Refusal::Status(StatusCode::NOT_FOUND))?;
        return Ok(Some(Place { app, shard: None }));
    }
    let Uri::Sip(uri) = incoming.routed.uri else { return Ok(None) };
    if !incoming.routed.routes.is_empty() {
        return Ok(None);
    }
    let Some(Some(user)) = route::own(settings, &uri) else { return Ok(None) };
    let Some(agent) = settings.keys.tokens.open(user, incoming.request.call_id) else { return Ok(None) };
    // §12.2.2: there is no such dialog any more where its server is there no more.
    let gone = Refusal::Status(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
    let app = settings.apps.named(agent.name).ok_or(gone)?;
    Ok(Some(Place { app, shard: Some(agent.shard) }))
}

impl AtWork<'_> {
    /// Hands a request of `domain` to the server that the domain and the Call-ID choose, which is told as answered. `Ok`
    /// where there are no servers for it.
    pub(super) fn serve_domain<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        domain: &str,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<(), Refusal> {
        match self.settings.apps.choose(domain, incoming.request.call_id) {
            Choice::Nobody => Ok(()),
            Choice::AllDown => Err(Refusal::Unserved),
            Choice::App(app) => {
                self.serve(now, incoming, Place { app, shard: None }, agents, out)?;
                Err(Refusal::Answered)
            }
        }
    }

    /// Hands a request to an application server.
    pub(super) fn serve<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        place: Place,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<(), Refusal> {
        let Incoming { received, message, request, routed, .. } = incoming;
        let settings = self.settings;
        let app = &settings.apps.all()[place.app];
        if app.state == State::Down {
            // §15.1.1: to who hangs up any final response ends the call, which would then be up here and nowhere else. So a
            // BYE that will be repeated (§17.1.2.2) is left to the server's next process.
            let waits = request.method == Method::Bye && !received.flow.transport.is_reliable();
            if !waits {
                return Err(Refusal::Unserved);
            }
            self.counters.left_to_repetition += 1;
            return Ok(());
        }
        self.counters.served_requests += 1;
        let mut edit = Edit::new(message, out.arena());
        let mut lines = out.draft();
        match &app.reach {
            Reach::Elsewhere(uri) => {
                let uri = Reach::parse_uri(uri).ok_or(Refusal::Unserved)?;
                let flow = hop::of_uri(settings, &uri, &received.flow).map_err(|no_hop| self.unroutable(no_hop))?;
                return self.forward(incoming, Hop { flow, uri: None, path: &[], kept: false, is_server: true }, out);
            }
            Reach::Here => {
                strip_ours(message, &mut edit);
                routed.apply(message, None, &mut edit, &mut lines)?;
                if !lines.is_empty() {
                    edit.push_lines(lines.into_bump_slice());
                }
                match edit.finish() {
                    [same] if same.len() == message.bytes().len() => {
                        agents.serve(now, place.app, received, message, out);
                    }
                    slices => {
                        let octets = joined(slices, out);
                        let mut message = Message::empty();
                        message.read(octets, &settings.limits)?;
                        agents.serve(now, place.app, &Received { octets, ..**received }, &message, out);
                    }
                }
            }
            Reach::Process(addresses) => {
                settings.keys.hops.write_source(request.call_id, &received.flow, &mut lines);
                strip_ours(message, &mut edit);
                routed.apply(message, None, &mut edit, &mut lines)?;
                edit.push_lines(lines.into_bump_slice());
                let peer = shard_address(settings, addresses, place.shard, request.call_id);
                out.send(settings.hop_to(peer.ok_or(Refusal::Unserved)?), edit.finish());
            }
        }
        Ok(())
    }

    /// Hands a response to the one whose branch it bears. None where there is nobody of that name.
    pub(super) fn serve_response<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agent: Agent<'_>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Option<()> {
        if agent.name == PROBER {
            agents.probed(now, message, out);
            return Some(());
        }
        let settings = self.settings;
        let number = settings.apps.named(agent.name)?;
        self.counters.served_responses += 1;
        match &settings.apps.all()[number].reach {
            Reach::Here => agents.serve(now, number, received, message, out),
            Reach::Process(addresses) => {
                let call_id = message.call_id()?;
                let mut edit = Edit::new(message, out.arena());
                let mut lines = out.draft();
                settings.keys.hops.write_source(call_id, &received.flow, &mut lines);
                edit.push_lines(lines.into_bump_slice());
                strip_ours(message, &mut edit);
                let peer = shard_address(settings, addresses, Some(agent.shard), call_id)?;
                out.send(settings.hop_to(peer), edit.finish());
            }
            Reach::Elsewhere(_) => return None,
        }
        Some(())
    }
}

/// Where the shard of a process receives; where that one is there no more, or none is settled, the Call-ID's owner.
pub(super) fn shard_address(
    settings: &Settings,
    addresses: &[SocketAddr],
    shard: Option<u16>,
    call_id: &[u8],
) -> Option<SocketAddr> {
    // Of fewer shards than there were once, each takes up the calls of several.
    let shards = addresses.len() as u16;
    let shard = shard.map(|shard| shard % shards.max(1)).unwrap_or_else(|| settings.keys.hash.owner(call_id, shards));
    addresses.get(usize::from(shard)).copied()
}

/// Slices in one piece.
pub(super) fn joined<'t>(slices: &[&[u8]], out: &Outbox<'t>) -> &'t [u8] {
    let mut octets = out.draft();
    for slice in slices {
        octets.extend_from_slice_copy(slice);
    }
    octets.into_bump_slice()
}
