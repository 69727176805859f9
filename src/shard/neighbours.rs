//! Who the proxy works with on its shard: the registrar, the application servers of this process, the prober.

use super::{
    orders::{AppRules, Rules},
    side::{Answered, SideLink},
};
use crate::proxy::{self, Agents, Location, Prober, Relay};
use agent::{Domains, Now, Outbox, Received};
use appserver::{Answer, AppServer, Impersonator, Query, QueryId, Surroundings};
use bumpalo::Bump;
use dialplan::Reply;
use registrar::{
    Incoming, Registrar,
    auth::{Role, Verdict},
};
use sip::{Message, Method, Request, StatusCode, Uri, write};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// The neighbours of a shard's proxy.
pub(super) struct Neighbours {
    pub registrar: Registrar,
    proxy: Arc<proxy::Settings>,
    /// By their numbers in the configuration; none where one is not of this process.
    apps: Vec<Option<AppServer>>,
    rules: AppRules,
    prober: Option<Prober>,
    side: SideLink,
}

/// What surrounds an application server on a shard of the switch.
pub(super) struct World<'w> {
    /// Whose world it is, by its number in the configuration.
    app: usize,
    registrar: &'w Registrar,
    rules: &'w AppRules,
    side: &'w SideLink,
}

impl Surroundings for World<'_> {
    fn ask(&mut self, now: Now, id: QueryId, query: &Query<'_>) -> Option<Answer> {
        match query {
            Query::Bindings { aor } => {
                let arena = Bump::new();
                Some(Answer::Bindings(self.registrar.targets(now, aor, &arena).iter().map(target).collect()))
            }
            other => self.side.ask(self.app, id, other),
        }
    }

    fn is_trusted(&self, source: IpAddr) -> bool {
        self.rules.is_trusted(source)
    }

    fn impersonator(&self) -> Option<&dyn Impersonator> {
        self.side.impersonator()
    }
}

/// The answer to a question that nobody here knows.
pub(super) fn refused() -> Answer {
    Answer::Reply(Reply::Refused("this switch has no service for it".to_owned()))
}

/// A binding as an application server keeps it.
pub(super) fn target(target: &registrar::Target<'_>) -> appserver::Target {
    appserver::Target {
        uri: target.contact.into(),
        route: target.route.into(),
        flow: target.flow,
        q: target.q,
        expires_secs: target.expires_secs,
        user_agent: String::from_utf8_lossy(target.user_agent).into(),
    }
}

impl Neighbours {
    pub fn new(
        registrar: Registrar,
        apps: Vec<Option<AppServer>>,
        prober: Option<Prober>,
        side: SideLink,
        rules: &Rules,
    ) -> Self {
        Self { registrar, proxy: Arc::clone(&rules.proxy), apps, rules: rules.apps.clone(), prober, side }
    }

    /// Goes on by other rules.
    pub fn configure(&mut self, rules: &Rules) {
        self.registrar.configure(rules.registrar.clone(), rules.proxy.domains.clone());
        self.proxy = Arc::clone(&rules.proxy);
        self.rules = rules.apps.clone();
        self.apps.iter_mut().flatten().for_each(|app| app.configure(rules.apps.settings.clone()));
        if let Some(prober) = &mut self.prober {
            prober.configure(rules.health);
        }
    }

    /// Whether a message belongs to something that an application server of this process has begun.
    pub fn knows(&self, message: &Message<'_>) -> bool {
        self.apps.iter().flatten().any(|app| app.knows(message))
    }

    /// Calls `then` for each application server with what surrounds it.
    pub fn each_app(&mut self, mut then: impl FnMut(&mut AppServer, &mut World<'_>)) {
        for number in 0..self.apps.len() {
            self.with_app(number, &mut then);
        }
    }

    /// Calls `then` for the application server of that number, if it is here.
    fn with_app(&mut self, number: usize, then: impl FnOnce(&mut AppServer, &mut World<'_>)) {
        let Self { registrar, rules, side, .. } = self;
        if let Some(Some(app)) = self.apps.get_mut(number) {
            then(app, &mut World { app: number, registrar, rules, side });
        }
    }

    /// Hands on the answers that have come to what scripts have asked.
    pub fn take_answers(&mut self, now: Now, out: &mut Outbox<'_>) {
        while let Some(Answered { app, id, answer }) = self.side.next() {
            self.with_app(app, |app, world| app.handle_answer(now, id, answer, world, out));
        }
    }

    /// Whether scripts wait for the rest of a turn.
    pub fn has_ready_scripts(&self) -> bool {
        self.apps.iter().flatten().any(AppServer::is_ready)
    }

    /// When the next of their timers is due.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let apps = self.apps.iter().flatten().filter_map(AppServer::next_timeout);
        let prober = self.prober.as_ref().and_then(Prober::next_timeout);
        apps.chain(self.registrar.next_timeout(now)).chain(prober).min()
    }

    /// Does what is due, then lets scripts compute.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox<'_>) {
        self.registrar.handle_timeout(now);
        if let Some(prober) = &mut self.prober
            && prober.next_timeout().is_some_and(|due| due <= now.monotonic)
        {
            prober.handle_timeout(now, &self.proxy, out);
        }
        self.each_app(|app, world| run_due(app, now, world, out));
    }

    /// What the application servers have counted, together; nothing where there are none.
    pub fn counted(&self) -> Option<[u64; appserver::Counters::NAMES.len()]> {
        let all = self.apps.iter().flatten().map(|app| app.counters().values());
        all.reduce(|sums, values| std::array::from_fn(|i| sums[i] + values[i]))
    }

    /// Hands on what plans have left for their authors.
    pub fn tell_reports(&mut self) {
        self.apps.iter_mut().flatten().for_each(tell_reports);
    }
}

/// Does what is due in an application server, then lets its scripts compute for a while.
pub(super) fn run_due(app: &mut AppServer, now: Now, world: &mut impl Surroundings, out: &mut Outbox<'_>) {
    if app.next_timeout().is_some_and(|due| due <= now.monotonic) {
        app.handle_timeout(now, world, out);
    }
    if app.is_ready() {
        app.run_slices(now, super::SLICES, world, out);
    }
}

/// Writes what plans have left for their authors to the log.
pub(super) fn tell_reports(app: &mut AppServer) {
    for report in app.take_reports() {
        let call = format_args!("{:032x}", report.call);
        match &report.fault {
            Some(fault) => tracing::info!(user = &*report.user, plan = &*report.plan, %call, %fault, "a plan failed"),
            // Nobody but its owner may know that it was to be, and where nobody was called there is no CDR.
            None if report.plan.is_empty() => {
                let outcome = report.trace.join("; ");
                tracing::info!(user = &*report.user, %call, outcome, "a call back");
            }
            None => {
                tracing::debug!(user = &*report.user, plan = &*report.plan, %call, trace = ?report.trace, "a plan ran")
            }
        }
    }
}

impl Agents for Neighbours {
    fn locate<'t>(&self, now: Now, aor: &str, arena: &'t Bump) -> Location<'t> {
        match self.registrar.targets(now, aor, arena) {
            [] if self.registrar.knows(aor) => Location::Absent,
            [] => Location::Unknown,
            targets => Location::Bound(targets),
        }
    }

    fn register<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) {
        self.registrar.handle(now, incoming, out);
    }

    fn authorize_relay<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Relay {
        let Incoming { flow, message, request } = *incoming;
        let Some((realm, sender)) = sender(&self.proxy.domains, request, out.arena()) else { return Relay::Refused };
        // §22.1: neither an ACK nor a CANCEL is challenged; they repeat what the INVITE was granted.
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return if self.registrar.account(sender).is_some_and(|a| a.may_relay) {
                Relay::Allowed
            } else {
                Relay::Refused
            };
        }
        let auth = self.registrar.authenticator();
        let stale = match auth.verify(now, incoming, realm, Role::Proxy, out.arena()) {
            Verdict::Accepted { aor, account } => {
                return if aor == sender && account.may_relay { Relay::Allowed } else { Relay::Refused };
            }
            Verdict::Malformed(_) => return Relay::Refused,
            Verdict::Stale => true,
            Verdict::Missing | Verdict::Refused => false,
        };
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let mut draft = out.draft();
        let tag = self.proxy.keys.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, status.reason(), &tag, flow.peer);
        auth.challenge(now, request.call_id, realm, Role::Proxy, stale, &mut draft);
        write::finish(&mut draft, b"");
        out.send_draft(proxy::answer_flow(flow, message), draft);
        Relay::Challenged
    }

    fn serve<'t>(
        &mut self,
        now: Now,
        app: usize,
        received: &Received<'t>,
        message: &Message<'t>,
        out: &mut Outbox<'t>,
    ) {
        self.with_app(app, |app, world| app.handle_message(now, received, message, world, out));
    }

    fn probed<'t>(&mut self, _now: Now, message: &Message<'t>, out: &mut Outbox<'t>) {
        if let Some(prober) = &mut self.prober {
            prober.handle_response(&self.proxy, message, out);
        }
    }
}

/// The domain of ours and the address of record that From claims.
fn sender<'s, 't>(domains: &'s Domains, request: &Request<'_>, arena: &'t Bump) -> Option<(&'s str, &'t str)> {
    let Ok(Uri::Sip(from)) = request.from.parse_uri() else { return None };
    let domain = domains.local(&from.host, from.port)?;
    Some((domain, registrar::address_of_record(&from, domains, arena)?))
}
