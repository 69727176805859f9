//! A machine, a call to run plans for, and a clock that stands still.
#![expect(dead_code, reason = "each test binary uses its own part")]

use dialplan::{
    Ask, DialResult, Dialled, Direction, Ending, Facts, Fault, Limits, Machine, Plan, Reply, RunId, Settings, Step,
};
use std::time::Duration;

pub const NOW: Duration = Duration::from_secs(1000);

pub const INVITE: &str = "INVITE sip:0049301234567@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKx\r\n\
    From: \"Ali \\\"ce\\\"\" <sip:alice@example.com>;tag=abc\r\n\
    To: <sip:0049301234567@example.com>\r\n\
    Call-ID: 42@192.0.2.7\r\n\
    CSeq: 1 INVITE\r\n\
    Contact: <sip:alice@192.0.2.7>\r\n\
    Max-Forwards: 70\r\n\
    User-Agent: Phone/1.0\r\n\
    X-Color: red\r\n\
    x-color: green\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 5\r\n\
    \r\n\
    hello";

/// A call that alice places, on Monday 2026-11-23 at 10:30 UTC.
pub fn facts() -> Facts {
    Facts {
        direction: Direction::Out,
        user: "alice".into(),
        domain: "example.com".into(),
        source: "192.0.2.7:5060".into(),
        zone: "Europe/Berlin".into(),
        unix: Duration::from_secs(1_795_429_800),
        providers: ["acme".into(), "second".into()].into(),
        request: INVITE.as_bytes().into(),
    }
}

pub fn of(user: &str) -> Facts {
    Facts { user: user.into(), ..facts() }
}

pub fn machine(limits: Limits) -> Machine {
    Machine::new(Settings { limits, clock: || Duration::ZERO }).expect("the tests count memory")
}

pub fn compile(source: &str) -> Plan {
    Plan::compile("test", source, &Limits::default()).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Starts a plan on a machine of its own.
pub fn start(source: &str) -> (Machine, RunId, Step) {
    start_under(Limits { max_runs: 64, ..Limits::default() }, source)
}

pub fn start_under(limits: Limits, source: &str) -> (Machine, RunId, Step) {
    let plan = Plan::compile("test", source, &limits).unwrap_or_else(|fault| panic!("{fault}"));
    let mut machine = machine(limits);
    let (run, step) = machine.start(NOW, &plan, facts()).expect("there is room");
    (machine, run, step)
}

/// Runs a plan which asks nothing to its end.
pub fn run(source: &str) -> Ending {
    run_under(Limits { max_runs: 64, ..Limits::default() }, source)
}

pub fn run_under(limits: Limits, source: &str) -> Ending {
    let (mut machine, run, step) = start_under(limits, source);
    finish(&mut machine, run, step)
}

/// Gives a run slices until it ends.
pub fn finish(machine: &mut Machine, run: RunId, mut step: Step) -> Ending {
    let mut steps = Vec::new();
    loop {
        match step {
            Step::Ended(ending) => return *ending,
            Step::Asks(ask) => panic!("asks {ask:?}"),
            Step::Yielded => {
                machine.run_slices(NOW, 1, &mut steps);
                let (id, next) = steps.pop().expect("the run is ready");
                assert_eq!(id, run);
                step = next;
            }
        }
    }
}

/// What a plan logs that asks nothing and is right.
pub fn trace(source: &str) -> Vec<String> {
    let ending = run(source);
    if let Some(fault) = ending.fault {
        panic!("{fault}");
    }
    ending.trace.iter().map(|line| line.to_string()).collect()
}

pub fn fault(source: &str) -> Fault {
    *run(source).fault.expect("the plan is wrong")
}

pub fn refusal(source: &str) -> Fault {
    Plan::compile("test", source, &Limits::default()).expect_err("the plan is wrong")
}

pub fn asked(step: Option<Step>) -> Ask {
    match step {
        Some(Step::Asks(ask)) => ask,
        other => panic!("{other:?}"),
    }
}

pub fn ended(step: Option<Step>) -> Ending {
    match step {
        Some(Step::Ended(ending)) => *ending,
        other => panic!("{other:?}"),
    }
}

pub fn dialled(result: DialResult, status: u16) -> Reply {
    Reply::Dialled(Dialled { result, status, reason: "Busy Here".to_owned(), redirect: None, legs: Vec::new() })
}

/// The fault of an ending, for reading.
pub fn told(ending: &Ending) -> String {
    ending.fault.as_ref().map(ToString::to_string).unwrap_or_default()
}
