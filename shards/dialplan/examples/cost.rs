//! What a plan costs: CPU of a plan with one dial, memory of runs that wait. `cargo run --release -p dialplan --example
//! cost -- 100000`.
#![expect(clippy::disallowed_methods, reason = "it reads its own memory from procfs and the real clock")]

use dialplan::{Ask, DialResult, Dialled, Direction, Facts, Limits, Machine, Plan, Reply, Settings, Step};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

const PLAN: &str = "sys.dial(\"${dst}@acme\", 30);";

/// A plan as people have them: a function, conditions, two commands.
const LONGER: &str = r#"
fn route(number) {
    if number.starts_with("1800") { number + "@tollfree" }
    else if number.len() == 3 { number }
    else { number + "@acme" }
}
if sys.is_out && req.user.starts_with("00") { sys.set_header("X-Route", "world"); }
if sys.dial(route(req.user), 30) == NO_ANSWER { sys.log("nobody there"); }
sys.dial("voicemail");
"#;

const INVITE: &[u8] = b"INVITE sip:0049301234567@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK776asdhds\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n\
    To: <sip:0049301234567@example.com>\r\n\
    Call-ID: a84b4c76e66710@192.0.2.7\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@192.0.2.7>\r\n\
    User-Agent: Phone/1.0\r\n\
    Content-Length: 0\r\n\r\n";

fn main() {
    let waiting: u32 = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let limits = Limits { max_runs: waiting.max(1), max_runs_per_user: waiting.max(1), ..Limits::default() };
    let compile = |source| Plan::compile("cost", source, &limits).expect("it compiles");
    let (short, longer) = (compile(PLAN), compile(LONGER));
    let mut machine = Machine::new(Settings { limits, clock: monotonic }).expect("memory is counted");

    for (name, plan) in [("one dial", &short), ("a function, conditions, two dials", &longer)] {
        let mut best = f64::MAX;
        for _ in 0..7 {
            let calls = 20_000;
            let start = cpu();
            for _ in 0..calls {
                one(&mut machine, plan);
            }
            best = best.min((cpu() - start).as_secs_f64() * 1e6 / f64::from(calls));
        }
        println!("{name}: {best:.2} µs of CPU a call");
    }
    // What building the facts of a call costs without any plan.
    let start = cpu();
    for _ in 0..100_000 {
        std::hint::black_box(facts());
    }
    println!("of which the facts: {:.2} µs", (cpu() - start).as_secs_f64() * 1e6 / 1e5);

    let before = memory();
    let start = Instant::now();
    let runs: Vec<_> = (0..waiting)
        .map(|_| {
            let (run, mut step) = machine.start(Duration::ZERO, &longer, facts()).expect("there is room");
            let mut steps = Vec::new();
            while step == Step::Yielded {
                machine.run_slices(Duration::ZERO, 1, &mut steps);
                step = steps.pop().expect("it was ready").1;
            }
            assert!(matches!(step, Step::Asks(Ask::Dial(_))));
            run
        })
        .collect();
    let each = |octets: u64| octets as f64 / f64::from(waiting) / 1024.0;
    let after = memory();
    println!(
        "{waiting} runs wait in sys.dial: {:.1} KiB resident each, {:.1} KiB of page tables each, started in {:.2} µs each",
        each(after.0.saturating_sub(before.0)),
        each(after.1.saturating_sub(before.1)),
        start.elapsed().as_secs_f64() * 1e6 / f64::from(waiting)
    );
    machine.cancel(runs[0]);
    let start = Instant::now();
    for _ in 0..10_000 {
        one(&mut machine, &short);
    }
    println!("beside them, another call takes {:.2} µs", start.elapsed().as_secs_f64() * 1e6 / 1e4);
    let start = Instant::now();
    for run in &runs[1..] {
        machine.resume(Duration::ZERO, *run, reply(DialResult::Answered, 200));
    }
    println!("answering them: {:.2} µs each", start.elapsed().as_secs_f64() * 1e6 / f64::from(waiting));
}

/// A call whose legs are all refused but the last.
fn one(machine: &mut Machine, plan: &Plan) {
    let (run, mut step) = machine.start(Duration::ZERO, plan, facts()).expect("there is room");
    let mut result = DialResult::NoAnswer;
    let mut steps = Vec::new();
    loop {
        match step {
            Step::Asks(_) => {
                step = machine.resume(Duration::ZERO, run, reply(result, 408)).expect("it waits");
                result = DialResult::Answered;
            }
            Step::Yielded => {
                machine.run_slices(Duration::ZERO, 1, &mut steps);
                step = steps.pop().expect("it was ready").1;
            }
            Step::Ended(_) => return,
        }
    }
}

fn reply(result: DialResult, status: u16) -> Reply {
    Reply::Dialled(Dialled { result, status, reason: String::new(), redirect: None, legs: Vec::new() })
}

fn facts() -> Facts {
    Facts {
        direction: Direction::Out,
        user: "alice".into(),
        domain: "example.com".into(),
        source: "192.0.2.7:5060".into(),
        zone: "".into(),
        unix: Duration::from_secs(1_795_429_800),
        providers: ["acme".into()].into(),
        request: INVITE.into(),
    }
}

fn monotonic() -> Duration {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// CPU time of this process, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("procfs is there");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("procfs tells the time"))
}

/// Resident octets of this process, and those of its page tables.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is there");
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("procfs tells it");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    };
    (kib("VmRSS:"), kib("VmPTE:"))
}
