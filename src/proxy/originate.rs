//! Sending what application servers have written: the way that each message takes, and our address in it.
//!
//! A server writes [`PLACEHOLDER`] for an address of ours, in its one Via and in its Contact; here it becomes the address of the
//! socket that the message leaves by. Nothing else is changed: the server has counted Max-Forwards, and no Via is pushed,
//! so that one element of ours is seen outside. What leads to ourselves does not go out but comes in again; what leads
//! nowhere comes back as a 503 (§16.9), so that no server waits for what will not come.

use super::{
    AtWork,
    hop::{self, NoHop},
    route,
    serve::{self, INWARD},
    settings::Settings,
};
use agent::{Flow, Outbox, PLACEHOLDER, Posted, Received, Way};
use sip::{Edit, HeaderName, Host, Message, Octets, StartLine, Transport, Uri, Via};

impl AtWork<'_> {
    /// Sends a message of an application server. What comes of it for us ourselves is returned, to be handled as if it
    /// had been received.
    pub fn originate<'t>(&mut self, posted: &Posted<'t>, out: &mut Outbox<'t>) -> Option<Received<'t>> {
        let settings = self.settings;
        let mut message = Message::empty();
        if message.read(posted.octets, &settings.limits).is_err() {
            self.counters.unreadable_posts += 1;
            return None;
        }
        let via = message.vias().next().and_then(Result::ok);
        match way_out(settings, &message, via.as_ref(), posted.way) {
            Ok(flow) => {
                let mut edit = Edit::new(&message, out.arena());
                write_address(settings, &message, via.as_ref(), &flow, &mut edit, out);
                let slices = edit.finish();
                if serve::is_inward(&flow) {
                    return Some(serve::inward(serve::joined(slices, out)));
                }
                self.counters.originated += 1;
                out.send(flow, slices);
                None
            }
            Err(_) => {
                self.counters.unroutable += 1;
                Some(serve::inward(self.unavailable(&message, out)?))
            }
        }
    }
}

/// The flow that a message of ours takes.
fn way_out(settings: &Settings, message: &Message<'_>, via: Option<&Via<'_>>, way: Way) -> Result<Flow, NoHop> {
    match way {
        Way::Flow(flow) | Way::Response(flow) if serve::is_inward(&flow) => Ok(INWARD),
        Way::Flow(flow) => hop::of_kept(settings, flow),
        Way::Response(flow) => via.map_or(Err(NoHop::Address), |via| hop::of_kept(settings, flow.for_response(via))),
        Way::Uri => {
            let route = message.addresses(HeaderName::Route).next();
            let uri = match (route, message.start_line()) {
                (Some(Ok(route)), _) => route.parse_uri(),
                (None, StartLine::Request { uri, .. }) => Uri::parse(uri),
                _ => return Err(NoHop::Address),
            };
            let Ok(Uri::Sip(uri)) = uri else { return Err(NoHop::Name) };
            if uri.host.is_name(PLACEHOLDER) || route::own(settings, &uri).is_some() {
                return Ok(INWARD);
            }
            hop::of_uri(settings, &uri, &INWARD)
        }
    }
}

/// Puts the address of the socket that `flow` leaves by in the place of [`PLACEHOLDER`].
fn write_address<'t>(
    settings: &Settings,
    message: &Message<'t>,
    via: Option<&Via<'t>>,
    flow: &Flow,
    edit: &mut Edit<'_, 't>,
    out: &Outbox<'t>,
) {
    let sent_by = settings.listeners.sent_by(flow.listener, flow.peer.ip());
    let placeholder = |host: Host<'t>| match host {
        Host::Name(name) if host.is_name(PLACEHOLDER) => Some(name),
        _ => None,
    };
    if let Some(via) = via
        && let Some(host) = placeholder(via.host)
    {
        edit.replace(via.transport, flow.transport.token().as_bytes());
        edit.replace(host, out.arena().alloc_slice_copy(sent_by.as_bytes()));
    }
    for contact in message.addresses(HeaderName::Contact).map_while(Result::ok) {
        let Ok(Uri::Sip(uri)) = contact.parse_uri() else { continue };
        let Some(host) = placeholder(uri.host) else { continue };
        let mut address = out.draft();
        address.put(sent_by.as_bytes());
        if flow.transport != Transport::Udp {
            address.put(b";transport=");
            address.put(flow.transport.param().as_bytes());
        }
        edit.replace(host, address.into_bump_slice());
    }
}
