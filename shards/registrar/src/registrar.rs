//! The registrar of one shard: a REGISTER in, an answer out, perhaps after the journal has kept what it changed.
//!
//! A change is seen by lookups at once and acknowledged when it is kept. If it cannot be kept it is undone and answered
//! with 503; from then on changes are refused with 503 before they begin, but for one in each
//! [`Settings::retry_after_secs`], until one is kept again. Queries and retransmissions need no journal.

use crate::{
    Counters, Incoming, Settings, address_of_record,
    auth::{Authenticator, Role, Verdict},
    contact::{Wanted, has_option},
    date::Date,
    refusal::{Challenged, Refusal},
    update::{Stop, Update, write_contact},
};
use agent::{Domains, Flow, Now, Outbox, PartsHash, Secret, Ticket, Wheel};
use bumpalo::{
    Bump,
    collections::{String as BumpString, Vec as BumpVec},
};
use sip::{HeaderName, Octets, StatusCode, Uri, write};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use store::{Account, Accounts, AorId, Binding, Bindings, Connection, HashedAor, Record, Source, journal};

/// The option tags that a Require may name (RFC 3261 §8.2.2.3).
const EXTENSIONS: [&[u8]; 2] = [b"path", b"outbound"];

const OK_LINE: &[u8] = b"SIP/2.0 200 OK\r\n";

/// Most addresses-of-record that are looked at in one turn because something may have run out; the rest waits for the next.
const MAX_DUE_PER_TURN: usize = 1024;

/// A buffer longer than this is not kept for the next answer.
const MAX_SPARE_OCTETS: usize = 4096;

/// The registrar of one shard.
pub struct Registrar {
    settings: Settings,
    domains: Domains,
    bindings: Arc<Bindings>,
    accounts: Arc<Accounts>,
    auth: Authenticator,
    run: u32,
    /// For tags and for telling Call-IDs apart; outsiders choose what is hashed.
    keyed: PartsHash,
    due: Wheel<AorId>,
    /// Whether the replay may have left addresses-of-record that no wheel knows.
    arming: bool,
    /// In the order of their tickets.
    held: VecDeque<Held>,
    spare: Vec<Answer>,
    journal: Journal,
    date: Date,
    counters: Counters,
}

/// Whether the journal keeps what it is given, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journal {
    Keeping,
    /// The last records could not be kept.
    Failing {
        /// When to try a change again, in monotonic time.
        next_try: Duration,
    },
}

/// A change whose record is not known to be kept yet, and its answer.
struct Held {
    ticket: Ticket,
    flow: Flow,
    answer: Answer,
    /// Hash of the request's Call-ID.
    call_id: u64,
    version: u64,
    previous: Option<Record>,
}

/// The 200 that is held, and what undoing takes. Used again and again, so that holding one allocates nothing.
#[derive(Default)]
struct Answer {
    octets: Vec<u8>,
    /// End of the headers that every answer to this request has. They begin behind the status line.
    common_end: usize,
    aor: String,
}

impl Registrar {
    /// The registrar of one shard. `run` is a number which the process chose at its start; it tells connections and nonces of another
    /// run. The bindings have been replayed; the shards take them into their wheels while they serve.
    pub fn new(
        now: Now,
        run: u32,
        secret: &Secret,
        settings: Settings,
        domains: Domains,
        bindings: Arc<Bindings>,
        accounts: Arc<Accounts>,
    ) -> Self {
        Self {
            auth: Authenticator::new(secret, run, Arc::clone(&accounts), domains.clone(), &settings),
            settings,
            domains,
            arming: bindings.has_unarmed(),
            bindings,
            accounts,
            run,
            keyed: PartsHash::new(secret, "to-tag"),
            due: Wheel::new(now.unix_secs()),
            held: VecDeque::new(),
            spare: Vec::new(),
            journal: Journal::Keeping,
            date: Date::default(),
            counters: Counters::default(),
        }
    }

    /// Answers a REGISTER, now or when its record is kept. One request or any number of them, in the order in which
    /// they came (RFC 3261 §10.3).
    pub fn handle<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) {
        if let Err(refusal) = self.register(now, incoming, out) {
            self.refuse(now, incoming, refusal, out);
        }
    }

    /// All tickets up to `up_to` that were not settled before are: their records are kept, or none of them is.
    pub fn handle_settled(&mut self, now: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'_>) {
        self.journal = if ok { Journal::Keeping } else { self.failing(now) };
        while self.held.front().is_some_and(|held| held.ticket <= up_to) {
            let held = self.held.pop_front().expect("the front is there");
            let mut draft = out.draft();
            if ok {
                draft.put(&held.answer.octets);
            } else {
                self.counters.failed += 1;
                self.bindings.restore(&held.answer.aor, held.version, held.previous);
                let unavailable = StatusCode::SERVICE_UNAVAILABLE;
                draft.put(b"SIP/2.0 ");
                draft.put_number(unavailable.get().into());
                draft.put(b" ");
                draft.put(unavailable.reason().as_bytes());
                draft.put(b"\r\n");
                draft.put(&held.answer.octets[OK_LINE.len()..held.answer.common_end]);
                self.write_retry_after(&mut draft);
                self.finish(&mut draft);
            }
            out.send_draft(held.flow, draft);
            self.put_aside(held.answer);
        }
    }

    /// When to call [`Self::handle_timeout`], in monotonic time.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        if self.arming {
            return Some(now.monotonic);
        }
        let due = Duration::from_secs(self.due.next_due()?);
        Some(now.monotonic + due.saturating_sub(now.unix))
    }

    /// Drops bindings that have run out. Nobody is told: lookups have passed them over since their second.
    pub fn handle_timeout(&mut self, now: Now) {
        let second = now.unix_secs();
        if self.arming {
            self.arming = self.bindings.arm(MAX_DUE_PER_TURN, |aor, at| self.due.insert(at, aor));
        }
        self.due.advance(second, MAX_DUE_PER_TURN, |aor| {
            self.bindings.expire(aor, second, |_, _| self.counters.expired += 1)
        });
    }

    /// Goes on with other settings: a reload. Held answers and nonces in use stay.
    pub fn configure(&mut self, settings: Settings, domains: Domains) {
        self.auth.configure(domains.clone(), &settings);
        self.settings = settings;
        self.domains = domains;
    }

    /// Challenges and verifies for the proxy of this shard too.
    pub fn authenticator(&mut self) -> &mut Authenticator {
        &mut self.auth
    }

    /// Whether `aor` has an account, so that a request for it is for a user of ours who may not be registered.
    pub fn knows(&self, aor: &str) -> bool {
        self.accounts.exists(aor)
    }

    /// The account of `aor`, if it has one that is enabled.
    pub fn account(&self, aor: &str) -> Option<Account> {
        self.accounts.find(aor).filter(|account| account.enabled)
    }

    /// What has been done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// §10.3, step by step.
    fn register<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Result<(), Refusal<'t>> {
        let Incoming { message, request, .. } = *incoming;
        let arena = out.arena();
        // Steps 1 and 5. Both URIs are looked at before anybody is challenged: the realm depends on them. A registrar
        // binds users; anything but a SIP or SIPS URI in To is no address-of-record (§10.2).
        let Uri::Sip(to) = request.to.parse_uri()? else {
            return Err(Refusal::Malformed(sip::Error::Malformed(HeaderName::To)));
        };
        let aor = address_of_record(&to, &self.domains, arena);
        let realm = aor.and_then(|aor| Some(aor.rsplit_once('@')?.1));
        // Mostly the URI is the domain's own to the letter, and says no more.
        let is_plain = realm.is_some() && request.uri.strip_prefix(b"sip:") == realm.map(str::as_bytes);
        if !is_plain {
            let uri = Uri::parse(request.uri)?.sip()?;
            if self.domains.local(&uri.host, uri.port) != realm {
                return Err(Refusal::NotInDomain);
            }
        }
        let (Some(aor), Some(realm)) = (aor, realm) else { return Err(Refusal::NotInDomain) };
        // Step 2.
        if message.tokens(HeaderName::Require).any(is_unknown) {
            return Err(Refusal::BadExtension);
        }
        // Steps 3 and 4.
        let account = self.authorize(now, incoming, aor, realm, arena)?;
        // In a large table slot and record are in no cache: they come, one after the other, while the request is read.
        let hashed = self.bindings.hashed(aor);
        self.bindings.prefetch_slot(hashed);
        // Step 6.
        let user_agent = message.value(HeaderName::UserAgent).unwrap_or_default();
        let intervals = self.settings.intervals(user_agent, account.and_then(|a| a.max_expires_secs));
        let wanted = Wanted::read(message, intervals, arena)?;
        let path = path(incoming, arena)?;
        self.bindings.prefetch_record(hashed);
        if matches!(wanted, Wanted::Nothing) {
            self.answer_query(now, incoming, aor, path, out);
            return Ok(());
        }
        // Step 7.
        let max_bindings = account.and_then(|a| a.max_bindings).unwrap_or(self.settings.max_bindings);
        let update = Update {
            wanted,
            template: Binding {
                contact: &[],
                params: &[],
                q: 0,
                registered_at: now.unix_secs(),
                expires_at: 0,
                call_id: request.call_id,
                cseq: request.cseq.number,
                user_agent,
                source: self.source(&incoming.flow),
                path,
                instance: &[],
                reg_id: None,
                methods: &[],
            },
            max_bindings: max_bindings.into(),
            when_full: self.settings.when_full,
            may_begin: self.may_begin(now),
        };
        self.update(now, incoming, hashed, &update, out)
    }

    /// Steps 3 and 4: whether the sender may register for `aor`; its account, if it has one.
    fn authorize<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        aor: &str,
        realm: &'t str,
        arena: &'t Bump,
    ) -> Result<Option<Account>, Refusal<'t>> {
        if !self.settings.authenticate {
            return Ok(self.accounts.find(aor));
        }
        let why = match self.auth.verify(now, incoming, realm, Role::Server, arena) {
            Verdict::Accepted { aor: own, account } if own == aor => return Ok(Some(account)),
            Verdict::Accepted { .. } => return Err(Refusal::Forbidden),
            Verdict::Malformed(reason) => return Err(Refusal::MalformedCredentials(reason)),
            Verdict::Missing => Challenged::Missing,
            Verdict::Stale => Challenged::Stale,
            Verdict::Refused => Challenged::Wrong,
        };
        Err(Refusal::Unauthorized { realm, why })
    }

    /// Step 7, as one, and step 8.
    fn update<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        aor: HashedAor<'t>,
        update: &Update<'t>,
        out: &mut Outbox<'t>,
    ) -> Result<(), Refusal<'t>> {
        let arena = out.arena();
        let mut answer = self.spare.pop().unwrap_or_default();
        self.begin_ok(now, incoming, &mut answer);
        let (mut ticket, mut tally) = (None, None);
        let result = self.bindings.update(
            aor,
            |current, draft| {
                tally = Some(update.decide(current, draft, arena, &mut answer.octets)?);
                Ok::<_, Stop>(())
            },
            |record| {
                ticket = Some(out.persist(|octets| journal::frame(octets, journal::Kind::Record, record.octets())));
            },
        );
        let mut call_id = self.keyed.begin();
        call_id.put(incoming.request.call_id);
        let call_id = call_id.hash();
        match result {
            Ok(updated) => {
                if let Some((aor, at)) = updated.arm {
                    self.due.insert(at, aor);
                }
                if self.journal != Journal::Keeping {
                    self.journal = self.failing(now);
                }
                tally.expect("an update was decided").add_to(&mut self.counters);
                self.counters.held += 1;
                self.finish_ok(incoming, update.template.path, update.wanted.is_outbound(), &mut answer.octets);
                answer.aor.push_str(aor.as_str());
                self.held.push_back(Held {
                    ticket: ticket.expect("an update's record goes to the journal"),
                    flow: incoming.flow.for_response(&incoming.request.via),
                    answer,
                    call_id,
                    version: updated.version,
                    previous: updated.previous,
                });
                Ok(())
            }
            Err(Stop::Unchanged) => {
                // A change of this Call-ID is not kept yet; its answer will serve its retransmission too (§17.2.2).
                if self.held.iter().any(|held| held.call_id == call_id) {
                    self.counters.absorbed += 1;
                } else {
                    self.counters.unchanged += 1;
                    self.finish_ok(incoming, update.template.path, update.wanted.is_outbound(), &mut answer.octets);
                    let mut draft = out.draft();
                    draft.put(&answer.octets);
                    out.send_draft(incoming.flow.for_response(&incoming.request.via), draft);
                }
                self.put_aside(answer);
                Ok(())
            }
            Err(Stop::Refused(refusal)) => {
                self.put_aside(answer);
                Err(refusal)
            }
        }
    }

    /// A request without Contact is told of the bindings and changes none (§10.2.3).
    fn answer_query<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        aor: &str,
        path: &[u8],
        out: &mut Outbox<'t>,
    ) {
        let second = now.unix_secs();
        let mut answer = self.spare.pop().unwrap_or_default();
        self.begin_ok(now, incoming, &mut answer);
        self.bindings.lookup(aor, second, |record| {
            record.live(second).for_each(|binding| write_contact(&binding, second, &mut answer.octets));
        });
        self.finish_ok(incoming, path, false, &mut answer.octets);
        let mut draft = out.draft();
        draft.put(&answer.octets);
        self.counters.unchanged += 1;
        out.send_draft(incoming.flow.for_response(&incoming.request.via), draft);
        self.put_aside(answer);
    }

    /// Answers with what `refusal` says.
    fn refuse<'t>(&mut self, now: Now, incoming: &Incoming<'_, 't>, refusal: Refusal<'t>, out: &mut Outbox<'t>) {
        self.count(&refusal);
        let mut reason = BumpString::new_in(out.arena());
        refusal.write_reason(&mut reason).expect("a string that only grows takes everything");
        let mut draft = out.draft();
        self.begin(incoming, refusal.response(), &reason, &mut draft);
        match refusal {
            Refusal::Unauthorized { realm, why } => {
                let stale = why == Challenged::Stale;
                self.auth.challenge(now, incoming.request.call_id, realm, Role::Server, stale, &mut draft);
            }
            Refusal::BadExtension => {
                for tag in incoming.message.tokens(HeaderName::Require).filter(|tag| is_unknown(tag)) {
                    write::header(&mut draft, HeaderName::Unsupported, tag);
                }
            }
            Refusal::TooBrief(min_secs) => write_number(&mut draft, HeaderName::MinExpires, min_secs),
            Refusal::Unavailable => self.write_retry_after(&mut draft),
            _ => {}
        }
        self.finish(&mut draft);
        out.send_draft(incoming.flow.for_response(&incoming.request.via), draft);
    }

    fn count(&mut self, refusal: &Refusal<'_>) {
        let counters = &mut self.counters;
        let counter = match refusal {
            Refusal::Unauthorized { why: Challenged::Missing, .. } => &mut counters.challenged,
            Refusal::Unauthorized { why: Challenged::Stale, .. } => &mut counters.stale,
            Refusal::Unauthorized { why: Challenged::Wrong, .. } | Refusal::Forbidden => &mut counters.refused,
            Refusal::TooManyBindings | Refusal::TooLong => &mut counters.over_limit,
            Refusal::TooBrief(_) => &mut counters.too_brief,
            Refusal::OutOfOrder => &mut counters.out_of_order,
            Refusal::Unavailable => &mut counters.shed,
            Refusal::Malformed(_)
            | Refusal::MalformedCredentials(_)
            | Refusal::NotInDomain
            | Refusal::BadExtension
            | Refusal::WildcardMisused
            | Refusal::SeveralFlows
            | Refusal::FirstHopLacksOutbound => &mut counters.rejected,
        };
        *counter += 1;
    }

    /// Whether a change may begin: its answer can be held, and there is hope that its record is kept.
    fn may_begin(&self, now: Now) -> bool {
        let hope = match self.journal {
            Journal::Keeping => true,
            Journal::Failing { next_try } => next_try <= now.monotonic,
        };
        hope && self.held.len() < self.settings.max_pending
    }

    fn source(&self, flow: &Flow) -> Source {
        let connection = flow.connection.map(|c| Connection {
            run: self.run,
            shard: c.shard,
            slot: c.slot,
            generation: c.generation,
        });
        Source { listener: flow.listener.0, transport: flow.transport, peer: flow.peer, connection }
    }

    fn failing(&self, now: Now) -> Journal {
        Journal::Failing { next_try: now.monotonic + Duration::from_secs(self.settings.retry_after_secs.into()) }
    }

    /// Keeps a buffer for the next answer. There are never more than there were answers held at a time.
    fn put_aside(&mut self, mut answer: Answer) {
        if answer.octets.capacity() <= MAX_SPARE_OCTETS {
            answer.octets.clear();
            answer.aor.clear();
            self.spare.push(answer);
        }
    }

    /// Begins any answer.
    fn begin(&self, incoming: &Incoming<'_, '_>, status: StatusCode, reason: &str, out: &mut impl Octets) {
        let Incoming { flow, message, request } = incoming;
        // §8.2.7: whoever keeps no state gives the same tag to every retransmission.
        let mut parts = self.keyed.begin();
        parts.put(request.call_id);
        parts.put(request.from.tag.unwrap_or_default());
        parts.put(request.via.branch.unwrap_or_default());
        parts.put_number(request.cseq.number.into());
        let tag = sip::hex(parts.hash());
        write::begin_response_to(out, message, request, status, reason, &tag, flow.peer);
    }

    /// Ends any answer.
    fn finish(&self, out: &mut impl Octets) {
        if !self.settings.server.is_empty() {
            out.put(b"Server: ");
            out.put(self.settings.server.as_bytes());
            out.put(b"\r\n");
        }
        write::finish(out, b"");
    }

    /// Begins a 200 up to its Contact lines (step 8).
    fn begin_ok(&mut self, now: Now, incoming: &Incoming<'_, '_>, answer: &mut Answer) {
        self.begin(incoming, StatusCode::OK, StatusCode::OK.reason(), &mut answer.octets);
        debug_assert!(answer.octets.starts_with(OK_LINE));
        answer.common_end = answer.octets.len();
        answer.octets.put(b"Date: ");
        answer.octets.put(self.date.at(now.unix_secs()).as_bytes());
        answer.octets.put(b"\r\n");
    }

    /// Ends a 200 behind its Contact lines.
    fn finish_ok(&self, incoming: &Incoming<'_, '_>, path: &[u8], is_outbound: bool, out: &mut Vec<u8>) {
        // RFC 3327 §5.3: the path is told to a client that knows what it is.
        if !path.is_empty() && has_option(incoming.message, HeaderName::Supported, b"path") {
            write::header(out, HeaderName::Path, path);
        }
        if !self.settings.service_route.is_empty() {
            write::header(out, HeaderName::ServiceRoute, self.settings.service_route.as_bytes());
        }
        // RFC 5626 §6: so the client knows that the binding is to its flow.
        if is_outbound {
            write::header(out, HeaderName::Require, b"outbound");
        }
        self.finish(out);
    }

    fn write_retry_after(&self, out: &mut impl Octets) {
        write_number(out, HeaderName::RetryAfter, self.settings.retry_after_secs);
    }
}

fn is_unknown(tag: impl AsRef<[u8]>) -> bool {
    !EXTENSIONS.iter().any(|known| tag.as_ref().eq_ignore_ascii_case(known))
}

fn write_number(out: &mut impl Octets, name: HeaderName, number: u32) {
    out.put(name.canonical().as_bytes());
    out.put(b": ");
    out.put_number(number.into());
    out.put(b"\r\n");
}

/// The value of Path, its rows joined (RFC 3327 §5.3), each of its values checked.
///
/// RFC 3327 §5.3 recommends a 420 where a Path comes for a client that does not say `Supported: path`, and lets a registrar
/// take it. We take it: such clients stand behind edge proxies that put it there on their behalf, and could not be
/// reached without.
fn path<'t>(incoming: &Incoming<'_, 't>, arena: &'t Bump) -> Result<&'t [u8], Refusal<'t>> {
    let message = incoming.message;
    for address in message.addresses(HeaderName::Path) {
        address?.parse_uri()?;
    }
    let mut rows = message.all(HeaderName::Path).map(|row| row.value);
    let first = rows.next().unwrap_or_default();
    let Some(second) = rows.next() else { return Ok(first) };
    let mut joined = BumpVec::new_in(arena);
    joined.put(first);
    for row in [second].into_iter().chain(rows) {
        joined.put(b",");
        joined.put(row);
    }
    Ok(joined.into_bump_slice())
}
