//! Forwarding (RFC 3261 §16.6): hops, source, Via, Record-Route, next hop; and what never leaves us.

use super::{
    AtWork, Incoming, Refusal, branch,
    dialog::DialogFlows,
    hop::{self, NoHop},
    sealed,
    serve::is_inward,
    settings::Settings,
};
use agent::{Flow, Outbox};
use sip::{Edit, HeaderName, Message, Method, Octets, Request, StatusCode, Transport, Uri, digest::Credentials, write};

/// What a request starts with when it brings no Max-Forwards (§16.6 step 3).
const MAX_FORWARDS: u8 = 70;

/// Where a request is sent on to.
pub(super) struct Hop<'t> {
    /// The way.
    pub flow: Flow,
    /// The new Request-URI.
    pub uri: Option<&'t [u8]>,
    /// Route values to preload.
    pub path: &'t [u8],
    /// Whether only the flow leads there, so that the rest of the dialog must keep it.
    pub kept: bool,
    /// Whether an application server is there, which asks for credentials in our name.
    pub is_server: bool,
}

impl AtWork<'_> {
    /// Forwards a request (§16.6).
    pub(super) fn forward<'t>(
        &mut self,
        incoming: &Incoming<'_, 't>,
        hop: Hop<'t>,
        out: &mut Outbox<'t>,
    ) -> Result<(), Refusal> {
        let Incoming { received, message, request, routed, loop_hash } = incoming;
        // §16.3 step 3, where it is known that the request would go on.
        let hops = match request.max_forwards {
            Some(0) => {
                self.counters.too_many_hops += 1;
                return Err(Refusal::Status(StatusCode::TOO_MANY_HOPS));
            }
            Some(hops) => hops - 1,
            None => MAX_FORWARDS,
        };
        let settings = self.settings;
        let mut edit = Edit::new(message, out.arena());
        let mut lines = out.draft();
        // Step 8.
        lines.put(settings.listeners.via(hop.flow.listener, hop.flow.peer.ip()).as_bytes());
        settings.keys.branches.compute(message, request, &received.flow).write(&mut lines);
        if let Some(loop_hash) = loop_hash {
            branch::write_loop(*loop_hash, &mut lines);
        }
        lines.put(b"\r\n");
        // Step 4.
        if settings.record_route && forms_dialog(request) {
            record_route(settings, incoming, &hop, &mut lines);
        }
        // Steps 2, 6; RFC 3327 §5.2: the Path becomes the preloaded route.
        if !hop.path.is_empty() {
            write::header(&mut lines, HeaderName::Route, hop.path);
        }
        routed.apply(message, hop.uri, &mut edit, &mut lines)?;
        // From here on in the order in which the lines mostly stand, which takes the least to put in place.
        edit.push_via(lines.into_bump_slice());
        // What has never left us has our own address there.
        if !is_inward(&received.flow) {
            edit.mark_received(&request.via, received.flow.peer);
        }
        // Step 3.
        edit.set_max_forwards(hops);
        match hop.is_server {
            true => strip_ours(message, &mut edit),
            false => strip(settings, message, &mut edit),
        }
        out.send_with_slack(hop.flow, edit.finish_with_slack());
        self.counters.forwarded_requests += 1;
        Ok(())
    }
}

/// Takes our own headers away, whoever wrote them.
pub(super) fn strip_ours<'t>(message: &Message<'t>, edit: &mut Edit<'_, 't>) {
    for header in sealed::ours(message) {
        edit.remove_line(header.line);
    }
}

/// Takes away what is for us alone: our own headers, and credentials for a realm of ours (§22.3).
pub(super) fn strip<'t>(settings: &Settings, message: &Message<'t>, edit: &mut Edit<'_, 't>) {
    strip_ours(message, edit);
    for header in message.all(HeaderName::ProxyAuthorization) {
        let is_ours = |realm: &[u8]| settings.domains.names().any(|domain| domain.as_bytes() == realm);
        if Credentials::parse(header.value).is_ok_and(|credentials| is_ours(&credentials.realm)) {
            edit.remove_line(header.line);
        }
    }
}

/// Writes our Record-Route: one value, or one for each side where they differ in socket (the nearer one to the receiver
/// on top).
fn record_route(settings: &Settings, incoming: &Incoming<'_, '_>, hop: &Hop<'_>, lines: &mut impl Octets) {
    let Incoming { received, message, request, .. } = incoming;
    let came_on = received.flow;
    let flows =
        DialogFlows { caller: needs_flow(message, &came_on).then_some(came_on), callee: hop.kept.then_some(hop.flow) };
    let sent_by = |flow: &Flow| settings.listeners.sent_by(flow.listener, flow.peer.ip());
    let mut value = |flow: &Flow| {
        lines.put(b"Record-Route: <sip:");
        settings.keys.dialogs.write(request, &flows, lines);
        lines.put(b"@");
        lines.put(sent_by(flow).as_bytes());
        if flow.transport != Transport::Udp {
            lines.put(b";transport=");
            lines.put(flow.transport.param().as_bytes());
        }
        lines.put(b";lr>\r\n");
    };
    value(&hop.flow);
    if came_on.transport != hop.flow.transport || sent_by(&came_on) != sent_by(&hop.flow) {
        value(&came_on);
    }
}

/// Whether `request` may begin a dialog (§12.1, RFC 3515): for these a Record-Route has an effect. A NOTIFY may do so
/// inside of another one (RFC 6665 §4.3).
fn forms_dialog(request: &Request<'_>) -> bool {
    match request.method {
        Method::Invite | Method::Subscribe | Method::Refer => request.to.tag.is_none(),
        Method::Notify => true,
        _ => false,
    }
}

/// Whether the sender is not reached at his Contact: it names another address than the one he sent from, or he came on
/// a connection. The port does not count: who listens on another one than he sends from is reached at his Contact.
fn needs_flow(message: &Message<'_>, flow: &Flow) -> bool {
    if flow.connection.is_some() {
        return true;
    }
    let contact = message.addresses(HeaderName::Contact).next().and_then(Result::ok);
    match contact.map(|contact| contact.parse_uri()) {
        Some(Ok(Uri::Sip(uri))) => uri.host.ip().is_some_and(|ip| ip != flow.peer.ip()),
        _ => false,
    }
}

/// The flow to the topmost value of a Path.
pub(super) fn first_of_path(settings: &Settings, path: &[u8], came_on: &Flow) -> Result<Flow, NoHop> {
    let first = sip::Address::list(path).next().and_then(Result::ok).ok_or(NoHop::Address)?;
    match first.parse_uri() {
        Ok(Uri::Sip(uri)) => hop::of_uri(settings, &uri, came_on),
        _ => Err(NoHop::Name),
    }
}
