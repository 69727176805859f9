//! The application server in the simulation: the real core, with tables in memory and a journal that keeps everything a moment
//! later.

use crate::phone::flow;
use agent::{Domains, Now, Outbox, Received, Secret, Ticket};
use appserver::{Answer, AppServer, Impersonator, Place, Query, QueryId, Settings, Surroundings, Tables, Target};
use callback::{Impersonation, Order};
use dialplan::{Limits, Machine, Reply};
use sip::{
    Message,
    digest::{Algorithm, Ha1},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use store::{
    Account, Accounts, CallReplay, KeptCall, Password, Plan, PlanText, Plans, Provider, Providers,
    journal::{Item, frames},
};

/// The password of every account.
pub const PASSWORD: &str = "secret";

/// What surrounds the application server.
#[derive(Default)]
pub struct Around {
    bindings: BTreeMap<String, Vec<Target>>,
    /// Where calls back are to be impersonated.
    pub impersonator: Option<Asked>,
}

/// What the process that sends was asked for.
#[derive(Default)]
pub struct Asked(RefCell<Vec<Order>>);

impl Asked {
    pub fn take(&self) -> Vec<Order> {
        self.0.take()
    }
}

impl Impersonator for Asked {
    fn impersonate(&self, wanted: &Impersonation) {
        self.0.borrow_mut().push(Order::Impersonate(wanted.clone()));
    }

    fn stop(&self, call: u128) {
        self.0.borrow_mut().push(Order::Stop { call });
    }
}

impl Surroundings for Around {
    fn ask(&mut self, _: Now, _: QueryId, query: &Query<'_>) -> Option<Answer> {
        Some(match query {
            Query::Bindings { aor } => Answer::Bindings(self.bindings.get(*aor).cloned().unwrap_or_default()),
            _ => Answer::Reply(Reply::Refused("not in the simulation".into())),
        })
    }

    fn is_trusted(&self, _: IpAddr) -> bool {
        false
    }

    fn impersonator(&self) -> Option<&dyn Impersonator> {
        self.impersonator.as_ref().map(|asked| asked as &dyn Impersonator)
    }
}

pub struct Server {
    pub app: AppServer,
    pub around: Around,
    tables: Tables,
    settings: Settings,
    /// What the journal keeps.
    kept: Vec<u8>,
    pub next_ticket: u64,
    /// How often it has been started.
    pub runs: u32,
}

impl Server {
    /// At `address`, for the domain `example.com`.
    pub fn new(now: Now, address: SocketAddr, seed: u64, configure: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(Domains::new(vec!["example.com".into()], vec![address]));
        settings.authenticate = false;
        configure(&mut settings);
        let tables = Tables {
            accounts: Arc::new(Accounts::new([1; 16])),
            providers: Arc::new(Providers::new([2; 16])),
            plans: Arc::new(Plans::new([3; 16])),
        };
        let app = start(now, settings.clone(), tables.clone(), 1, seed);
        Self { app, around: Around::default(), tables, settings, kept: Vec::new(), next_ticket: 0, runs: 1 }
    }

    /// Dies without a word, and is started again with what the journal keeps.
    pub fn restart(&mut self, now: Now, seed: u64) {
        self.runs += 1;
        self.app = start(now, self.settings.clone(), self.tables.clone(), self.runs, seed);
        for call in self.kept_calls(now) {
            assert!(self.app.restore(now, &call), "the journal's records can be read");
        }
    }

    /// The calls that the journal would give a process that begins now.
    pub fn kept_calls(&self, now: Now) -> Vec<KeptCall> {
        let mut replay = CallReplay::new(now.unix_secs());
        for (kind, payload) in frames(&self.kept) {
            if let Ok(Some(Item::Call(call))) = Item::decode(kind, payload) {
                replay.load(call);
            }
        }
        replay.finish()
    }

    /// An account of `example.com`.
    pub fn account(&mut self, user: &str) {
        let ha1 = |algorithm| Ha1::new(algorithm, user.as_bytes(), b"example.com", PASSWORD.as_bytes());
        let account = Account {
            ha1_md5: ha1(Algorithm::Md5).octets().try_into().expect("16 octets"),
            ha1_sha256: ha1(Algorithm::Sha256).octets().try_into().expect("32 octets"),
            ha1_sha512_256: ha1(Algorithm::Sha512_256).octets().try_into().expect("32 octets"),
            enabled: true,
            may_relay: true,
            max_bindings: None,
            max_expires_secs: None,
        };
        self.tables.accounts.put(&format!("{user}@example.com"), account);
    }

    /// One more binding of `user`, with that preference in thousandths.
    pub fn bind(&mut self, user: &str, address: SocketAddr, q: u16) {
        let target = Target {
            uri: format!("sip:{user}@{address}").into_bytes().into(),
            route: Box::default(),
            flow: Some(flow(address)),
            q,
            expires_secs: 3600,
            user_agent: "".into(),
        };
        self.around.bindings.entry(format!("{user}@example.com")).or_default().push(target);
    }

    /// A plan of `user` for the calls that he makes.
    pub fn out_plan(&mut self, user: &str, source: &str) {
        let owner = format!("{user}@example.com").into();
        let text = PlanText { owner, name: "out".into(), source: source.into(), version: 1 };
        self.tables.plans.put(Plan { text: Arc::new(text), is_in: false, is_out: true });
    }

    /// An account of `owner` with a provider at that host.
    pub fn provider(&mut self, owner: &str, name: &str, host: &str) {
        self.tables.providers.put(Provider {
            owner: format!("{owner}@example.com").into(),
            name: name.into(),
            server: format!("sip:{host}").into(),
            outbound_proxy: None,
            user: owner.into(),
            auth_user: None,
            password: Password::new(PASSWORD),
            realm: None,
            from: None,
            contact: None,
            headers: Box::default(),
            sources: Box::default(),
            enabled: true,
        });
    }

    pub fn handle_datagram<'t>(&mut self, now: Now, from: SocketAddr, octets: &'t [u8], out: &mut Outbox<'t>) {
        let message = Message::parse(octets, &sip::Limits::default()).expect("phones write whole messages");
        let received = Received { flow: flow(from), octets, passed: false };
        self.app.handle_message(now, &received, &message, &mut self.around, out);
    }

    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox<'_>) {
        self.app.handle_timeout(now, &mut self.around, out);
    }

    /// The journal has kept these records, the last of which has that ticket.
    pub fn settle(&mut self, now: Now, records: &[u8], up_to: Ticket, out: &mut Outbox<'_>) {
        self.kept.extend_from_slice(records);
        self.app.handle_settled(now, up_to, true, &mut self.around, out);
    }

    /// Lets scripts compute to their end.
    pub fn run_slices(&mut self, now: Now, out: &mut Outbox<'_>) {
        while self.app.is_ready() {
            self.app.run_slices(now, 100, &mut self.around, out);
        }
    }
}

fn start(now: Now, settings: Settings, tables: Tables, run: u32, seed: u64) -> AppServer {
    let place = Place { name: "stable".into(), shard: 0, shards: 1 };
    // Scripts see a clock that stands still: their slices are counted in operations alone.
    let machine = Machine::new(dialplan::Settings { limits: Limits::default(), clock: || Duration::ZERO });
    let machine = machine.unwrap_or_else(|unfit| panic!("{unfit}"));
    let secret = Secret::new([7; 32]);
    AppServer::new(now, settings, place, &secret, run, seed, tables, Some(machine))
}
