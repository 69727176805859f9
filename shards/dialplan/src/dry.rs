//! A dry run: a plan against a made-up call, told step by step. Nothing is called.

use crate::{
    Ask, Binding, Dial, DialResult, Dialled, Facts, Leg, LegOutcome, Limits, Machine, Plan, Redirect, Refer, Reply,
    Settings, Step, Unfit,
};
use std::{collections::BTreeMap, time::Duration};

/// Where a redirecting leg of a dry run points.
const REDIRECTED: &str = "sip:redirected@example.net";

/// Runs `plan` against the call of `facts` and tells each leg that it would dial, each question, and its end. The dial
/// commands get the final statuses of `statuses` in turn, and no answer after the last: 200 answers, 3xx redirects. Every
/// account exists and is reached at one phone, the store is empty, the web cannot be reached.
pub fn dry_run(plan: &Plan, facts: Facts, limits: &Limits, statuses: &[u16]) -> Result<Vec<String>, Unfit> {
    let limits = Limits { max_runs: 1, max_runs_per_user: 1, ..limits.clone() };
    let mut machine = Machine::new(Settings { limits, clock: || Duration::ZERO })?;
    let mut world = World { statuses: statuses.iter(), store: BTreeMap::new(), told: Vec::new(), dials: 0 };
    let mut now = Duration::ZERO;
    let (run, mut step) =
        machine.start(now, plan, facts).map_err(|_| Unfit::NoStacks(std::io::ErrorKind::OutOfMemory.into()))?;
    let mut steps = Vec::new();
    loop {
        match step {
            Step::Asks(ask) => {
                let reply = world.reply(&ask);
                step = machine.resume(now, run, reply).expect("the run has asked");
            }
            Step::Yielded => {
                if machine.is_ready() {
                    machine.run_slices(now, 1, &mut steps);
                } else if let Some(due) = machine.next_timeout() {
                    world.told.push(format!("waits {} s", (due - now).as_secs()));
                    now = due;
                    machine.handle_timeout(now, &mut steps);
                }
                step = steps.pop().expect("the run goes on by itself").1;
            }
            Step::Ended(ending) => {
                world.told.extend(ending.trace.iter().map(|line| format!("log: {line}")));
                world.told.push(match ending.response {
                    Some(response) => {
                        format!("the caller gets {} {}", response.status, response.reason).trim_end().to_owned()
                    }
                    None => format!("the run ends: {:?}", ending.cause).to_lowercase(),
                });
                world.told.extend(ending.fault.map(|fault| fault.to_string()));
                return Ok(world.told);
            }
        }
    }
}

struct World<'a> {
    statuses: std::slice::Iter<'a, u16>,
    store: BTreeMap<Box<str>, Box<str>>,
    told: Vec<String>,
    dials: u32,
}

impl World<'_> {
    fn tell(&mut self, line: String) {
        self.told.push(line);
    }

    /// Tells a question and makes up its answer.
    fn reply(&mut self, ask: &Ask) -> Reply {
        match ask {
            Ask::Dial(dial) => self.dial(dial),
            Ask::Callback(callback) => {
                self.tell(format!("calls back after {} s, first:", callback.delay_secs));
                self.legs(&callback.first);
                self.tell("then:".to_owned());
                self.legs(&callback.second);
                Reply::Text(Some(format!("{:032x}", 1)))
            }
            Ask::Progress(response) => {
                self.tell(format!("responds {} {}", response.status, response.reason).trim_end().to_owned());
                Reply::Done
            }
            Ask::Forward(app) => {
                self.tell(format!("hands the call over to {app}"));
                Reply::Done
            }
            Ask::Bindings { user, domain } => {
                self.tell(format!("looks where {user}@{domain} is reached"));
                let uri = format!("sip:{user}@192.0.2.1");
                Reply::Bindings(vec![Binding { uri, q: 1000, expires_secs: 3600, user_agent: String::new() }])
            }
            Ask::AccountExists { user, domain } => {
                self.tell(format!("looks whether there is {user}@{domain}"));
                Reply::Truth(true)
            }
            Ask::CanonicalDomain(domain) => Reply::Text(Some(domain.to_string())),
            Ask::Enum(number) => {
                self.tell(format!("looks up {number} by ENUM"));
                Reply::Texts(Vec::new())
            }
            Ask::Web(request) => {
                self.tell(format!("asks the web: {}", request.url));
                Reply::Refused("a dry run does not reach the web".to_owned())
            }
            Ask::StoreGet(key) => Reply::Text(self.store.get(key).map(|value| value.to_string())),
            Ask::StorePut(key, value) => {
                self.tell(format!("stores {key}: {value}"));
                self.store.insert(key.clone(), value.clone());
                Reply::Done
            }
            Ask::StoreDelete(key) => {
                self.tell(format!("removes {key} from the store"));
                self.store.remove(key);
                Reply::Done
            }
            Ask::StoreList(prefix) => Reply::Texts(
                self.store.keys().filter(|key| key.starts_with(&**prefix)).map(|key| key.to_string()).collect(),
            ),
            Ask::CurrentCalls => Reply::Calls(Vec::new()),
            Ask::Send(request) => {
                self.tell(format!("sends {} to {}", request.method, request.target));
                Reply::Responded { status: 200, reason: "OK".to_owned(), body: String::new() }
            }
        }
    }

    fn dial(&mut self, dial: &Dial) -> Reply {
        self.dials += 1;
        let ring = dial.ring_secs.map_or(String::new(), |secs| format!(", ringing at most {secs} s"));
        let max = dial.max_call_secs.map_or(String::new(), |secs| format!(", lasting at most {secs} s"));
        self.tell(format!("{}. dials{ring}{max}:", self.dials));
        let legs = self.legs(dial);
        let status = self.statuses.next().copied().unwrap_or(408);
        let result = match status {
            200..=299 => DialResult::Answered,
            300..=399 => DialResult::Redirect,
            408 => DialResult::NoAnswer,
            _ => DialResult::Failed,
        };
        self.tell(format!("   made up: {status} {}", result.name()));
        let redirect = (result == DialResult::Redirect).then(|| REDIRECTED.to_owned());
        let legs = legs.into_iter().map(|target| LegOutcome { target, status, reason: String::new() }).collect();
        Reply::Dialled(Dialled { result, status, reason: String::new(), redirect, legs })
    }

    /// Tells the legs of a command, and gives whom they call.
    fn legs(&mut self, dial: &Dial) -> Vec<String> {
        let mut targets = Vec::new();
        for (i, step) in dial.steps.iter().enumerate() {
            if i > 0 {
                self.tell("   and if nobody answers:".to_owned());
            }
            for leg in step {
                self.tell(format!("   {}{}", leg.target, options(leg)));
                targets.push(leg.target.to_string());
            }
        }
        for (name, value) in &dial.shape.headers {
            self.tell(format!("   with {name}: {value}"));
        }
        targets
    }
}

/// A leg's options, where they are not the usual ones.
fn options(leg: &Leg) -> String {
    let options = &leg.options;
    let mut told = Vec::new();
    let mut tell = |what: &str, value: Option<String>| told.extend(value.map(|value| format!("{what} {value}")));
    tell("after", (options.delay_secs > 0).then(|| format!("{} s", options.delay_secs)));
    tell("ringing at most", options.ring_secs.map(|secs| format!("{secs} s")));
    tell("lasting at most", options.max_call_secs.map(|secs| format!("{secs} s")));
    tell("media addresses put right:", options.mangle.map(|mangle| if mangle { "yes" } else { "no" }.to_owned()));
    tell("as", options.from.name.as_deref().map(str::to_owned));
    tell("from user", options.from.user.as_deref().map(str::to_owned));
    tell("from host", options.from.host.as_deref().map(str::to_owned));
    tell(
        "redirections",
        (options.redirect != Redirect::Follow).then(|| format!("{:?}", options.redirect).to_lowercase()),
    );
    tell("transfers", (options.refer != Refer::Refuse).then(|| format!("{:?}", options.refer).to_lowercase()));
    tell("account", options.account_code.as_deref().map(str::to_owned));
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}
