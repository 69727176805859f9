//! Runs a million scripts that fail in every way, and fails itself if memory grew: `cargo run --release -p dialplan
//! --example failing -- 1000000`.
#![expect(clippy::disallowed_methods, reason = "it reads its own memory from procfs and the real clock")]

use dialplan::{Direction, Facts, Limits, Machine, Plan, Settings, Step};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

/// What the scripts of the first runs leave behind: the warm stacks and the allocator's own.
const WARM_UP: u32 = 10_000;

const SCRIPTS: &[&str] = &[
    "throw \"no\"",
    "let x = 0; 1 / x",
    "let a = [1, 2, 3]; a[7]",
    "fn f(x) { f(x + 1) } f(0)",
    "loop { }",
    "let s = \"\"; s.pad(1073741824, 'x')",
    "let a = [1]; loop { a += a }",
    "let s = \"x\"; loop { s += s }",
    "let a = [0]; loop { let b = [0]; b[0] = a; a = b; }",
    "sys.dial(\"bob\"); throw sys.last_reason",
];

fn main() -> ExitCode {
    let runs: u32 = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(200_000);
    if leave_nothing(runs) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs them, and says whether memory has stayed as it was.
pub fn leave_nothing(runs: u32) -> bool {
    let limits = Limits { max_operations: 500, max_runs: 1_000, ..Limits::default() };
    let plans: Vec<Plan> =
        SCRIPTS.iter().map(|source| Plan::compile("failing", source, &limits).expect("it compiles")).collect();
    let start = Instant::now();
    let mut machine = Machine::new(Settings { limits, clock: || Duration::ZERO }).expect("memory is counted");
    let mut before = 0;
    for i in 0..runs {
        let plan = &plans[i as usize % plans.len()];
        let (run, mut step) = machine.start(Duration::ZERO, plan, facts()).expect("there is room");
        let mut steps = Vec::new();
        loop {
            match step {
                Step::Ended(ending) if ending.fault.is_some() || ending.cause == dialplan::Cause::Cancelled => break,
                Step::Ended(ending) => panic!("a failing script has not failed: {ending:?}"),
                Step::Asks(_) => step = Step::Ended(Box::new(machine.cancel(run).expect("it waits"))),
                Step::Yielded => {
                    machine.run_slices(Duration::ZERO, 1, &mut steps);
                    step = steps.pop().expect("it was ready").1;
                }
            }
        }
        if i + 1 == WARM_UP.min(runs) {
            before = resident();
        }
    }
    let after = resident();
    let allowed = (before / 100).max(4 << 20);
    println!(
        "{runs} failing runs in {:.1} s; resident after the first {WARM_UP}: {} KiB, after all: {} KiB; held: {} octets",
        start.elapsed().as_secs_f64(),
        before >> 10,
        after >> 10,
        machine.held_bytes()
    );
    after <= before + allowed && machine.held_bytes() == 0
}

fn facts() -> Facts {
    Facts {
        direction: Direction::Out,
        user: "alice".into(),
        domain: "example.com".into(),
        source: "192.0.2.7:5060".into(),
        zone: "".into(),
        unix: Duration::ZERO,
        providers: [].into(),
        request: b"INVITE sip:bob@example.com SIP/2.0\r\n\r\n".as_slice().into(),
    }
}

/// Resident octets of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs is there");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("procfs tells the pages");
    pages * 4096
}
