//! Where an address-of-record is reached: its bindings in the order in which to try them (RFC 3261 §16.5, §16.6).

use crate::Registrar;
use agent::{ConnectionId, Flow, ListenerId, Now};
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Host, Uri};
use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};
use store::Binding;

/// A binding, as a request to it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'t> {
    /// The contact's URI: the Request-URI.
    pub contact: &'t [u8],
    /// Preference in thousandths.
    pub q: u16,
    /// Value of the Route that leads there (RFC 3327 §5.4); empty for none.
    pub route: &'t [u8],
    /// The path to take. None: where the route, or else the contact's URI, says.
    pub flow: Option<Flow>,
    /// How long it still holds.
    pub expires_secs: u32,
    /// What the phone calls itself; may be empty.
    pub user_agent: &'t [u8],
}

impl Registrar {
    /// Where `aor` is reached at `now`: by preference, then the newest first. Empty where nowhere. What is given lives in
    /// `arena`.
    pub fn targets<'t>(&self, now: Now, aor: &str, arena: &'t Bump) -> &'t [Target<'t>] {
        let now = now.unix_secs();
        let mut found = BumpVec::new_in(arena);
        self.bindings().lookup(aor, now, |record| {
            found.extend(record.live(now).enumerate().map(|(place, binding)| {
                let target = Target {
                    contact: arena.alloc_slice_copy(binding.contact),
                    q: binding.q,
                    route: arena.alloc_slice_copy(binding.path),
                    flow: flow(&binding, self.run()),
                    expires_secs: u32::try_from(binding.expires_at.saturating_sub(now)).unwrap_or(u32::MAX),
                    user_agent: arena.alloc_slice_copy(binding.user_agent),
                };
                ((Reverse(binding.q), Reverse(binding.registered_at), Reverse(place)), target)
            }));
        });
        found.sort_unstable_by_key(|&(order, _)| order);
        arena.alloc_slice_fill_iter(found.iter().map(|&(_, target)| target))
    }
}

/// The flow to take to a binding; `None` where its Path or its contact's URI alone leads there. `run` is this run of the
/// process: a connection of another is gone.
fn flow(binding: &Binding<'_>, run: u32) -> Option<Flow> {
    let source = &binding.source;
    let connection = source.connection.filter(|c| c.run == run);
    let registered_on = Flow {
        listener: ListenerId(source.listener),
        transport: source.transport,
        peer: source.peer,
        connection: connection.map(|c| ConnectionId { shard: c.shard, slot: c.slot, generation: c.generation }),
    };
    // RFC 3327 §5.4: the path leads there, whatever the last hop of the REGISTER was.
    if !binding.path.is_empty() {
        return None;
    }
    // RFC 5626 §7: the binding is to the flow itself.
    if binding.reg_id.is_some() {
        return Some(registered_on);
    }
    let Ok(Uri::Sip(uri)) = Uri::parse(binding.contact) else { return None };
    let ip = match uri.host {
        // RFC 7118 §5: browsers cannot be connected to, and write a name that nobody has.
        Host::Name(name) => return name.to_ascii_lowercase().ends_with(b".invalid").then_some(registered_on),
        Host::V4(v4) => IpAddr::V4(v4),
        Host::V6(v6) => IpAddr::V6(v6),
    };
    // A device behind a NAT takes another address for its own: the source is where the NAT lets answers, and so
    // requests, in.
    if ip != source.peer.ip() {
        return Some(registered_on);
    }
    // From its own address it may send by one port and listen on another. If it listens on a stream it is asked for on
    // the connection that it has opened (RFC 3261 §18.1.1), and where it listens once that is closed.
    let listens_on = uri.transport().ok().flatten().filter(|&transport| transport == source.transport)?;
    let peer = SocketAddr::new(ip, uri.port.unwrap_or(listens_on.default_port()));
    registered_on.connection.map(|_| Flow { peer, ..registered_on })
}
