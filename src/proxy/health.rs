//! Which application servers are well: each is probed every few seconds, and taken out and in again by thresholds.
//!
//! A process of ours is probed by a call: an INVITE for [`Probe::USER`], whose plan there is a real script, which answers with
//! [`Probe::ANSWER`]. A server elsewhere is asked by OPTIONS (RFC 3261 §11) and is well while it answers at all. One prober
//! serves all shards of a process; what it finds out stands in the [`HealthTable`](super::HealthTable), so that all
//! choose alike. A single lost datagram changes nothing, and a server that comes and goes stays out.

use super::{
    apps::{App, Reach, State},
    hop,
    serve::{INWARD, PROBER, shard_address},
    settings::Settings,
};
use agent::{Agent, AppBranch, Draft, Flow, Now, Outbox, PLACEHOLDER, Secret};
use sip::{HeaderName, Message, Octets, StatusCode, write};
use siphasher::sip::SipHasher13;
use std::{hash::Hasher, time::Duration};

/// What a probe of ours calls, and what it expects.
pub struct Probe;

impl Probe {
    /// The user that is called, at [`PLACEHOLDER`].
    pub const USER: &'static str = "probe";
    /// The status by which its plan answers: one that no fault gives by chance.
    pub const ANSWER: StatusCode = StatusCode::BAD_EXTENSION;
}

/// How probing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// From one probe of a server to the next.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Failures one after another that take a server out.
    pub failures: u8,
    /// Successes one after another that take it in again.
    pub successes: u8,
}

/// Probes the servers of a process's configuration, on its first shard.
pub struct Prober {
    health: Health,
    keyed: SipHasher13,
    servers: Vec<Server>,
}

/// What the prober knows of the server of that place in the configuration.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// When to probe it again.
    due: Duration,
    /// The probe that is under way: its number, and when it has failed.
    pending: Option<(u64, Duration)>,
    /// Results one after another that speak against how it stands in the table.
    against: u8,
}

impl Prober {
    /// A prober of so many servers, the first probes being due at once.
    pub fn new(now: Now, secret: &Secret, health: Health, servers: usize) -> Self {
        let server = Server { due: now.monotonic, pending: None, against: 0 };
        Self { health, keyed: SipHasher13::new_with_key(&secret.derive("probe")), servers: vec![server; servers] }
    }

    /// Goes on in another way.
    pub fn configure(&mut self, health: Health) {
        self.health = health;
    }

    /// When to call [`Prober::handle_timeout`], on the monotonic clock.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.servers.iter().map(|server| server.pending.map_or(server.due, |(_, until)| until.min(server.due))).min()
    }

    /// Gives up probes that took too long, and sends those that are due.
    pub fn handle_timeout<'t>(&mut self, now: Now, settings: &Settings, out: &mut Outbox<'t>) {
        for number in 0..self.servers.len() {
            let Some(app) = settings.apps.all().get(number) else { return };
            let server = &mut self.servers[number];
            if server.pending.is_some_and(|(_, until)| until <= now.monotonic) {
                server.pending = None;
                self.note(settings, number, app, false);
            }
            let server = &mut self.servers[number];
            if server.due > now.monotonic {
                continue;
            }
            server.due = now.monotonic + self.health.interval;
            // One that is to take nothing new is left in peace; where all is one process, whoever probes is well himself.
            if app.state != State::Serving || matches!(app.reach, Reach::Here) {
                server.pending = None;
                continue;
            }
            let mut hash = self.keyed;
            hash.write_u64(number as u64);
            hash.write_u128(now.unix.as_nanos());
            let id = hash.finish();
            server.pending = Some((id, now.monotonic + self.health.timeout));
            if let Some((flow, slices)) = (Call { id, app, to: None }).write(settings, out) {
                out.send(flow, slices);
            }
        }
    }

    /// Takes a response to a probe.
    pub fn handle_response<'t>(&mut self, settings: &Settings, message: &Message<'t>, out: &mut Outbox<'t>) {
        let Ok(response) = message.response() else { return };
        let Some(branch) = response.via.branch.and_then(AppBranch::parse) else { return };
        let is_of = |server: &Server| server.pending.is_some_and(|(id, _)| id == branch.id);
        let Some(number) = self.servers.iter().position(is_of) else { return };
        if response.status.is_provisional() {
            return;
        }
        let Some(app) = settings.apps.all().get(number) else { return };
        // §17.1.1.3: whatever a call is answered with, it ends by an ACK.
        if let Reach::Process(_) = app.reach
            && let Some((flow, slices)) =
                (Call { id: branch.id, app, to: message.value(HeaderName::To) }).write(settings, out)
        {
            out.send(flow, slices);
        }
        self.servers[number].pending = None;
        let is_well = match app.reach {
            Reach::Elsewhere(_) => {
                response.status.get() < 500 && response.status != StatusCode::REQUEST_TIMEOUT
                    || response.status == StatusCode::NOT_IMPLEMENTED
            }
            _ => response.status == Probe::ANSWER,
        };
        self.note(settings, number, app, is_well);
    }

    fn note(&mut self, settings: &Settings, number: usize, app: &App, is_well: bool) {
        let server = &mut self.servers[number];
        let table = settings.apps.health();
        if is_well == table.is_well(number) {
            server.against = 0;
            return;
        }
        server.against += 1;
        if server.against < if is_well { self.health.successes } else { self.health.failures } {
            return;
        }
        server.against = 0;
        table.set(number, is_well);
        match is_well {
            true => tracing::info!(app = &*app.name, "an application server answers its probes again and is taken in"),
            false => tracing::warn!(app = &*app.name, "an application server fails its probes and is taken out"),
        }
    }
}

/// One probe.
struct Call<'a, 't> {
    id: u64,
    app: &'a App,
    /// To of the response that an ACK is for; without one it is the probe itself.
    to: Option<&'t [u8]>,
}

impl Call<'_, '_> {
    /// The message, and its way. None where it has none.
    fn write<'t>(&self, settings: &Settings, out: &Outbox<'t>) -> Option<(Flow, &'t [&'t [u8]])> {
        let call_id = {
            let mut text = out.draft();
            text.put_display(format_args!("{:016x}", self.id));
            text.into_bump_slice()
        };
        let mut draft = out.draft();
        match &self.app.reach {
            Reach::Here => None,
            Reach::Process(addresses) => {
                let mut uri = out.draft();
                uri.put_display(format_args!("sip:{}@{PLACEHOLDER}", Probe::USER));
                let method = if self.to.is_some() { "ACK" } else { "INVITE" };
                let mut source = out.draft();
                settings.keys.hops.write_source(call_id, &INWARD, &mut source);
                self.write_to(&mut draft, method, &uri, &["UDP ", PLACEHOLDER], call_id, &source);
                let peer = shard_address(settings, addresses, None, call_id)?;
                Some((settings.hop_to(peer), out.arena().alloc([draft.into_bump_slice() as &[u8]])))
            }
            Reach::Elsewhere(uri) => {
                let flow = hop::of_uri(settings, &Reach::parse_uri(uri)?, &INWARD).ok()?;
                let sent_by = settings.listeners.sent_by(flow.listener, flow.peer.ip());
                let via = [flow.transport.token(), " ", sent_by];
                self.write_to(&mut draft, "OPTIONS", uri.as_bytes(), &via, call_id, b"");
                Some((flow, out.arena().alloc([draft.into_bump_slice() as &[u8]])))
            }
        }
    }

    fn write_to(&self, out: &mut Draft<'_>, method: &str, uri: &[u8], via: &[&str], call_id: &[u8], first: &[u8]) {
        out.put(method.as_bytes());
        out.put(b" ");
        out.put(uri);
        out.put(b" SIP/2.0\r\n");
        out.put(first);
        out.put(b"Via: SIP/2.0/");
        via.iter().for_each(|part| out.put(part.as_bytes()));
        out.put(b";branch=");
        AppBranch { agent: Agent { name: PROBER, shard: 0 }, id: self.id }.write(out);
        out.put_display(format_args!(
            "\r\nMax-Forwards: 70\r\nFrom: <sip:{PROBER}@prober.invalid>;tag={:016x}\r\nTo: ",
            self.id
        ));
        match self.to {
            Some(to) => out.put(to),
            None => {
                out.put(b"<");
                out.put(uri);
                out.put(b">");
            }
        }
        out.put(b"\r\n");
        write::header(out, HeaderName::CallId, call_id);
        out.put_display(format_args!("CSeq: 1 {method}\r\nContact: <sip:{PROBER}@{PLACEHOLDER}>\r\n"));
        write::finish(out, b"");
    }
}
