//! The application server with everything around it in memory: a proxy that does nothing but note, a table of bindings, a
//! journal that keeps at once or when told.

use crate::phone::Text;
use agent::{Domains, Flow, ListenerId, Now, Outbox, Received, Secret, Ticket, Way};
use appserver::{Answer, AppServer, Place, Query, QueryId, Settings, Surroundings, Tables, Target};
use bumpalo::Bump;
use dialplan::{Limits, Machine, Reply};
use sip::{
    Message, Transport,
    digest::{Algorithm, Ha1},
};
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use store::{
    Account, Accounts, Cdr, KeptCall, Plan, PlanText, Plans, Provider, Providers,
    journal::{Item, frames},
};

/// Where the proxy is reached: what it writes in the place of our placeholder.
pub const PROXY: &str = "192.0.2.1:5060";

/// A message that was posted.
#[derive(Clone, Debug)]
pub struct Sent {
    pub way: Way,
    pub text: Text,
}

impl std::ops::Deref for Sent {
    type Target = Text;

    fn deref(&self) -> &Text {
        &self.text
    }
}

#[derive(Default)]
pub struct Around {
    pub bindings: HashMap<String, Vec<Target>>,
    /// Questions that are not answered at once.
    pub later: Vec<(QueryId, String)>,
    pub answers_later: bool,
    pub trusted: Vec<IpAddr>,
}

impl Surroundings for Around {
    fn ask(&mut self, _: Now, id: QueryId, query: &Query<'_>) -> Option<Answer> {
        let Query::Bindings { aor } = query else { return Some(Answer::Reply(Reply::Refused("not here".into()))) };
        if self.answers_later {
            self.later.push((id, (*aor).to_owned()));
            return None;
        }
        Some(Answer::Bindings(self.bindings.get(*aor).cloned().unwrap_or_default()))
    }

    fn is_trusted(&self, source: IpAddr) -> bool {
        self.trusted.contains(&source)
    }
}

pub struct World {
    pub app: AppServer,
    place: Place,
    pub around: Around,
    pub tables: Tables,
    pub settings: Settings,
    pub now: Now,
    /// All that was posted and not been looked at yet.
    pub sent: VecDeque<Sent>,
    /// The journal's octets.
    pub journal: Vec<u8>,
    next_ticket: u64,
    settled: u64,
    /// Whether the journal keeps what it is given at once.
    pub keeps: bool,
}

pub fn flow(peer: &str) -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        peer: peer.parse().expect("tests write addresses"),
        connection: None,
    }
}

fn still() -> Duration {
    Duration::ZERO
}

impl World {
    /// Alice, bob and carol have accounts, and bob and carol are registered.
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(configure: impl FnOnce(&mut Settings)) -> Self {
        Self::on(0, 1, configure)
    }

    /// The same on one of several shards.
    pub fn on(shard: u16, shards: u16, configure: impl FnOnce(&mut Settings)) -> Self {
        let place = Place { name: "stable".into(), shard, shards };
        let domains = Domains::new(vec!["example.com".into()], vec![PROXY.parse().expect("it is an address")]);
        let mut settings = Settings::new(domains);
        settings.authenticate = false;
        configure(&mut settings);
        let tables = Tables {
            accounts: Arc::new(Accounts::new([1; 16])),
            providers: Arc::new(Providers::new([2; 16])),
            plans: Arc::new(Plans::new([3; 16])),
        };
        let unix = Duration::from_secs(1_800_000_000);
        let now = Now { monotonic: Duration::from_secs(1000), unix };
        let app = build(now, &place, settings.clone(), tables.clone(), 1);
        let (sent, journal) = (VecDeque::new(), Vec::new());
        let around = Around::default();
        let mut world =
            Self { app, place, around, tables, settings, now, sent, journal, next_ticket: 0, settled: 0, keeps: true };
        for user in ["alice", "bob", "carol"] {
            world.account(user, "secret");
        }
        world.bind("bob", "10.0.0.2:5060");
        world.bind("carol", "10.0.0.3:5060");
        world
    }

    pub fn account(&mut self, user: &str, password: &str) {
        self.put_account(user, password, false);
    }

    /// Lets a user send to the outside.
    pub fn account_that_relays(&mut self, user: &str) {
        self.put_account(user, "secret", true);
    }

    fn put_account(&mut self, user: &str, password: &str, may_relay: bool) {
        let ha1 = |algorithm| Ha1::new(algorithm, user.as_bytes(), b"example.com", password.as_bytes());
        let account = Account {
            ha1_md5: ha1(Algorithm::Md5).octets().try_into().expect("16 octets"),
            ha1_sha256: ha1(Algorithm::Sha256).octets().try_into().expect("32 octets"),
            ha1_sha512_256: ha1(Algorithm::Sha512_256).octets().try_into().expect("32 octets"),
            enabled: true,
            may_relay,
            max_bindings: None,
            max_expires_secs: None,
        };
        self.tables.accounts.put(&format!("{user}@example.com"), account);
    }

    pub fn bind(&mut self, user: &str, address: &str) {
        let target = Target {
            uri: format!("sip:{user}@{address}").into_bytes().into(),
            route: Box::default(),
            flow: Some(flow(address)),
            q: 1000,
            expires_secs: 600,
            user_agent: "".into(),
        };
        self.around.bindings.entry(format!("{user}@example.com")).or_default().push(target);
    }

    /// Gives a user a plan for both directions.
    pub fn plan(&mut self, user: &str, is_in: bool, is_out: bool, source: &str) {
        let text = PlanText {
            owner: format!("{user}@example.com").into(),
            name: "main".into(),
            source: source.into(),
            version: 1,
        };
        self.tables.plans.put(Plan { text: Arc::new(text), is_in, is_out });
    }

    pub fn provider(&mut self, owner: &str, name: &str, server: &str) {
        self.tables.providers.put(Provider {
            owner: format!("{owner}@example.com").into(),
            name: name.into(),
            server: server.into(),
            outbound_proxy: None,
            user: "4711".into(),
            auth_user: None,
            password: store::Password::new("geheim"),
            realm: None,
            from: None,
            contact: None,
            headers: Box::default(),
            sources: Box::default(),
            enabled: true,
        });
    }

    fn turn(&mut self, work: impl FnOnce(&mut AppServer, Now, &mut Around, &mut Outbox<'_>)) {
        let arena = Bump::new();
        let (mut room, mut journal) = ([], Vec::new());
        let mut out = Outbox::new(&arena, &mut room, &mut journal, &mut self.next_ticket);
        work(&mut self.app, self.now, &mut self.around, &mut out);
        let posted = out.take_posted();
        for posted in posted {
            let text = String::from_utf8(posted.octets.to_vec()).expect("what tests send is text");
            self.sent.push_back(Sent { way: posted.way, text: Text(text.replace(agent::PLACEHOLDER, PROXY)) });
        }
        drop(out);
        self.journal.extend_from_slice(&journal);
        if self.keeps {
            self.settle();
        }
    }

    /// The journal keeps all that it has been given.
    pub fn settle(&mut self) {
        while self.settled < self.next_ticket {
            self.settled = self.next_ticket;
            let up_to = Ticket(self.next_ticket - 1);
            self.turn(|app, now, around, out| app.handle_settled(now, up_to, true, around, out));
        }
    }

    /// Lets a message come in from `peer`.
    pub fn receive(&mut self, peer: &str, text: &Text) {
        // The proxy gives us the message as it came, with our own address where we wrote the placeholder.
        let octets = text.0.replace(PROXY, agent::PLACEHOLDER);
        let flow = flow(peer);
        self.turn(|app, now, around, out| {
            let octets = out.arena().alloc_slice_copy(octets.as_bytes());
            let message = Message::parse(octets, &sip::Limits::default()).expect("tests write whole messages");
            app.handle_message(now, &Received { flow, octets, passed: false }, &message, around, out);
        });
    }

    /// Takes out what is for a shard of ours, and tells which: what the proxy brings in again, by the token of a Request-URI or the
    /// branch of a Via.
    pub fn next_inward(&mut self) -> Option<(usize, Text)> {
        let shard_of = |sent: &Sent| {
            let (named, prefix) = match sent.is_request() {
                true => (sent.uri(), "sip:rs.stable."),
                false => (sent.header("Via"), "z9hG4bK-rs.stable."),
            };
            named.split_once(prefix)?.1.split('.').next()?.parse().ok()
        };
        let (at, shard) = self.sent.iter().enumerate().find_map(|(at, sent)| Some((at, shard_of(sent)?)))?;
        self.sent.remove(at).map(|sent| (shard, sent.text))
    }

    /// Lets time go on, in steps as small as the timers want.
    pub fn wait(&mut self, secs: f64) {
        let end = self.now.monotonic + Duration::from_secs_f64(secs);
        while let Some(due) = self.app.next_timeout().filter(|&due| due <= end) {
            self.pass(due.saturating_sub(self.now.monotonic));
            self.turn(|app, now, around, out| app.handle_timeout(now, around, out));
        }
        self.pass(end.saturating_sub(self.now.monotonic));
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.unix += time;
    }

    pub fn slices(&mut self) {
        self.turn(|app, now, around, out| app.run_slices(now, 100, around, out));
    }

    pub fn hang_up(&mut self) {
        let number = self.app.calls().next().expect("there is a call").number;
        self.turn(|app, now, around, out| assert!(app.hang_up(now, number, around, out)));
    }

    /// The caller of this INVITE is told that nothing came of his call.
    pub fn end_unheard(&mut self, call_id: &str, tag: &str) {
        let refused = [(call_id.as_bytes(), tag.as_bytes())].into();
        self.turn(|app, now, around, out| app.end_unheard(now, &refused, around, out));
    }

    /// Answers the questions that wait.
    pub fn answer_questions(&mut self) {
        for (id, aor) in std::mem::take(&mut self.around.later) {
            let answer = Answer::Bindings(self.around.bindings.get(&aor).cloned().unwrap_or_default());
            self.turn(|app, now, around, out| app.handle_answer(now, id, answer, around, out));
        }
    }

    /// What the journal would give a process that begins now.
    pub fn kept(&self) -> Vec<KeptCall> {
        let mut replay = store::CallReplay::new(self.now.unix_secs());
        for (kind, payload) in frames(&self.journal) {
            if let Ok(Some(Item::Call(call))) = Item::decode(kind, payload) {
                replay.load(call);
            }
        }
        replay.finish()
    }

    /// The process is killed and comes back with what the journal has.
    pub fn kill(&mut self) {
        let kept = self.kept();
        self.begin_anew(&kept);
    }

    /// A new process takes up these calls.
    pub fn begin_anew(&mut self, kept: &[KeptCall]) {
        self.app = build(self.now, &self.place, self.settings.clone(), self.tables.clone(), 2);
        for call in kept {
            assert!(self.app.restore(self.now, call), "the record can be read");
        }
        self.sent.clear();
    }

    /// The next message that was posted.
    pub fn next(&mut self) -> Sent {
        self.sent.pop_front().expect("something was posted")
    }

    /// The next request of that method that was posted; what is before it stays.
    pub fn request(&mut self, method: &str) -> Sent {
        let at = self.sent.iter().position(|sent| sent.is_request() && sent.method() == method);
        let at = at.unwrap_or_else(|| panic!("no {method} was posted, but {}", self.tell()));
        self.sent.remove(at).expect("it is there")
    }

    /// The next response of that status.
    pub fn response(&mut self, status: u16) -> Sent {
        let at = self.sent.iter().position(|sent| sent.status() == status);
        let at = at.unwrap_or_else(|| panic!("no {status} was posted, but {}", self.tell()));
        self.sent.remove(at).expect("it is there")
    }

    /// What was posted, and what plans have to tell.
    fn tell(&mut self) -> String {
        let faults = self.app.take_reports().into_iter().filter_map(|report| report.fault);
        let faults: Vec<_> = faults.map(|fault| fault.to_string()).collect();
        format!("{:#?}\n{}", self.log(), faults.join("\n"))
    }

    /// What was posted, line by line, and forgets it.
    pub fn log(&mut self) -> Vec<String> {
        self.sent.drain(..).map(|sent| sent.text.0.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// Nothing was posted that has not been looked at.
    pub fn expect_silence(&mut self) {
        assert!(self.sent.is_empty(), "{:#?}", self.sent);
    }

    /// The CDRs so far: leg, status, who ended it, and whether it was answered.
    pub fn cdrs(&self) -> Vec<(u16, u16, &'static str, bool)> {
        self.each_cdr(|cdr| (cdr.id.leg, cdr.status, cdr.ended_by.word(), cdr.answered_at.is_some()))
    }

    pub fn each_cdr<T>(&self, read: impl Fn(&Cdr<'_>) -> T) -> Vec<T> {
        let mut found = Vec::new();
        for (kind, payload) in frames(&self.journal) {
            if let Ok(Some(Item::Cdr(cdr))) = Item::decode(kind, payload) {
                found.push(read(&cdr.read()));
            }
        }
        found
    }

    /// After a call nothing is left in any table, once its transactions have run out.
    pub fn expect_nothing_left(&mut self) {
        self.wait(70.0);
        assert_eq!(self.app.census(), appserver::Census::default());
        assert_eq!(self.kept(), [], "the journal keeps no call that has ended");
    }
}

fn build(now: Now, place: &Place, settings: Settings, tables: Tables, seed: u64) -> AppServer {
    let secret = Secret::new([7; 32]);
    let machine = Machine::new(dialplan::Settings { limits: Limits::default(), clock: still });
    let machine = machine.unwrap_or_else(|unfit| panic!("{unfit}"));
    AppServer::new(now, settings, place.clone(), &secret, seed as u32, seed, tables, Some(machine))
}
