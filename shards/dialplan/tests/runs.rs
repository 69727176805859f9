//! Runs: how they start, ask, go on, wait and end.

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;
use dialplan::{Ask, Cause, DialResult, Limits, Refusal, Reply, Step, Target};
use std::time::Duration;

#[test]
fn a_plan_dials_until_a_leg_answers() {
    let (mut machine, run, step) = start("sys.dial(\"${dst}@acme\", 20); sys.dial(\"bob\"); sys.log(\"never\")");
    let Ask::Dial(dial) = asked(Some(step)) else { panic!("no dial") };
    assert_eq!(dial.ring_secs, Some(20));
    let target = Target::Address { user: "0049301234567".into(), host: "acme".into() };
    assert_eq!(dial.steps[0][0].target, target);

    let Ask::Dial(dial) = asked(machine.resume(NOW, run, dialled(DialResult::Failed, 486))) else { panic!("no dial") };
    assert_eq!(dial.steps[0][0].target, Target::Address { user: "bob".into(), host: "example.com".into() });

    let ending = ended(machine.resume(NOW, run, dialled(DialResult::Answered, 200)));
    assert_eq!((ending.cause, ending.response, ending.fault), (Cause::Answered, None, None));
    assert!(ending.trace.is_empty());
    assert_eq!(machine.runs(), 0);
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn a_script_that_ends_passes_the_last_failure_on() {
    let (mut machine, run, _) = start("sys.dial(\"bob\");");
    let ending = ended(machine.resume(NOW, run, dialled(DialResult::Failed, 486)));
    assert_eq!(ending.cause, Cause::Finished);
    let response = ending.response.unwrap();
    assert_eq!((response.status, &*response.reason), (486, "Busy Here"));
    // A challenge was for us.
    let (mut machine, run, _) = start("sys.dial(\"bob\");");
    assert_eq!(ended(machine.resume(NOW, run, dialled(DialResult::Failed, 407))).response.unwrap().status, 480);
    assert_eq!(run_status("let x = 1;"), 480);
}

fn run_status(source: &str) -> u16 {
    run(source).response.map_or(0, |response| response.status)
}

#[test]
fn a_script_sees_how_its_dial_command_ended() {
    let source = "if sys.dial(\"bob\") == NO_ANSWER { sys.respond(480, `last ${sys.last_status}`) }";
    let (mut machine, run, _) = start(source);
    let ending = ended(machine.resume(NOW, run, dialled(DialResult::NoAnswer, 408)));
    assert_eq!(ending.cause, Cause::Responded);
    assert_eq!(&*ending.response.unwrap().reason, "last 408");
}

#[test]
fn a_cancelled_run_is_gone_at_once_and_runs_no_further() {
    let plan = "fn f() { try { sys.dial(\"bob\"); } catch { sys.log(\"caught\"); } loop { sys.log(\"on\"); } } f();";
    let (mut machine, run, _) = start(plan);
    let ending = machine.cancel(run).unwrap();
    assert_eq!((ending.cause, ending.response, ending.fault), (Cause::Cancelled, None, None));
    assert!(ending.trace.is_empty());
    assert_eq!(machine.cancel(run), None);
    assert_eq!(machine.resume(NOW, run, Reply::Done), None);
    assert_eq!((machine.runs(), machine.held_bytes()), (0, 0));
}

#[test]
fn a_machine_with_runs_can_be_dropped() {
    let (mut machine, _, _) = start("let a = [1, 2, 3]; sys.dial(\"bob\");");
    machine.start(NOW, &compile("loop {}"), facts()).unwrap();
    drop(machine);
}

#[test]
fn a_reply_that_does_not_fit_is_the_scripts_error() {
    let (mut machine, run, _) = start("sys.account_exists(\"bob\");");
    let ending = ended(machine.resume(NOW, run, Reply::Done));
    assert_eq!(ending.response.as_ref().unwrap().status, 500);
    assert!(
        told(&ending).starts_with("test:1:5: the application server has answered something else"),
        "{}",
        told(&ending)
    );
}

#[test]
fn what_cannot_be_had_can_be_caught() {
    let plan = "try { sys.web_get(\"https://example.org\") } catch (why) { sys.log(`no web: ${why}`) }";
    let (mut machine, run, _) = start(plan);
    let ending = ended(machine.resume(NOW, run, Reply::Refused("no route".to_owned())));
    assert_eq!(*ending.trace, ["no web: no route".into()]);
    assert_eq!(ending.fault, None);
}

#[test]
fn a_waiting_script_goes_on_when_its_time_is_there() {
    let (mut machine, run, step) = start("sys.sleep(3); sys.log(\"awake\");");
    assert_eq!(step, Step::Yielded);
    assert!(!machine.is_ready());
    assert_eq!(machine.next_timeout(), Some(NOW + Duration::from_secs(3)));
    let mut steps = Vec::new();
    machine.handle_timeout(NOW + Duration::from_secs(2), &mut steps);
    assert!(steps.is_empty());
    machine.handle_timeout(NOW + Duration::from_secs(3), &mut steps);
    let (id, Step::Ended(ending)) = steps.pop().unwrap() else { panic!("not ended") };
    assert_eq!((id, &*ending.trace[0]), (run, "awake"));
}

#[test]
fn users_take_turns_whatever_the_number_of_their_loops() {
    let endless = compile("loop {}");
    let long = compile("let i = 0; while i < 5000 { i += 1; }");
    let mut machine = machine(Limits { max_runs: 256, ..Limits::default() });
    for _ in 0..100 {
        let (_, step) = machine.start(NOW, &endless, of("mallory")).unwrap();
        assert_eq!(step, Step::Yielded);
    }
    let (honest, step) = machine.start(NOW, &long, of("bob")).unwrap();
    assert_eq!(step, Step::Yielded);
    let mut steps = Vec::new();
    let mut slices = 0;
    while !steps.iter().any(|(id, step)| *id == honest && matches!(step, Step::Ended(_))) {
        machine.run_slices(NOW, 1, &mut steps);
        slices += 1;
    }
    let own = steps.iter().filter(|(id, _)| *id == honest).count();
    assert!(slices <= 2 * own, "{own} slices of his own in {slices}");
}

#[test]
fn a_slice_ends_by_the_clock_too() {
    use std::cell::Cell;
    thread_local!(static TICKS: Cell<u64> = const { Cell::new(0) });
    let clock = || {
        TICKS.set(TICKS.get() + 1);
        Duration::from_micros(100 * TICKS.get())
    };
    let mut machine = dialplan::Machine::new(dialplan::Settings { limits: Limits::default(), clock }).unwrap();
    let (_, step) = machine.start(NOW, &compile("let i = 0; while i < 100 { i += 1; }"), facts()).unwrap();
    assert_eq!(step, Step::Yielded);
}

#[test]
fn nothing_of_a_run_is_seen_by_another() {
    let plan = compile(
        "let secret = sys.user; sys.set_header(\"X-Of\", secret); sys.log(secret); sys.dial(\"bob\"); \
                        sys.log(sys.trace().len().to_string() + secret); sys.dial(\"carol\");",
    );
    let mut machine = machine(Limits { max_runs: 64, ..Limits::default() });
    let runs: Vec<_> = (0..20).map(|i| machine.start(NOW, &plan, of(&format!("user{i}"))).unwrap()).collect();
    for (i, (run, _)) in runs.iter().enumerate().rev() {
        let user = format!("user{i}");
        let Ask::Dial(dial) = asked(machine.resume(NOW, *run, dialled(DialResult::Failed, 486))) else {
            panic!("no dial")
        };
        assert_eq!(*dial.shape.headers, [("X-Of".into(), user.as_str().into())]);
        let ending = machine.cancel(*run).unwrap();
        assert_eq!(*ending.trace, [user.as_str().into(), format!("1{user}").into()]);
    }
}

#[test]
fn a_call_that_is_handed_over_ends_its_run() {
    let (mut machine, run, step) = start("sys.forward(\"edge\"); sys.log(\"never\")");
    assert_eq!(asked(Some(step)), Ask::Forward("edge".into()));
    let ending = ended(machine.resume(NOW, run, Reply::Done));
    assert_eq!((ending.cause, ending.response), (Cause::Forwarded, None));
}

#[test]
fn a_call_that_is_where_it_was_to_be_handed_over_to_goes_on() {
    let (mut machine, run, step) = start("sys.forward(\"edge\"); sys.log(\"here\")");
    assert_eq!(asked(Some(step)), Ask::Forward("edge".into()));
    let ending = ended(machine.resume(NOW, run, Reply::Truth(false)));
    assert_eq!((ending.cause, &*ending.trace), (Cause::Finished, &["here".into()][..]));
}

#[test]
fn full_machines_and_users_with_too_many_runs_are_refused() {
    let plan = compile("sys.dial(\"bob\")");
    let mut machine = machine(Limits { max_runs: 3, max_runs_per_user: 2, ..Limits::default() });
    machine.start(NOW, &plan, of("a")).unwrap();
    let (second, _) = machine.start(NOW, &plan, of("a")).unwrap();
    assert_eq!(machine.start(NOW, &plan, of("a")).unwrap_err(), Refusal::TooManyRunsOfUser);
    machine.start(NOW, &plan, of("b")).unwrap();
    assert_eq!(machine.start(NOW, &plan, of("c")).unwrap_err(), Refusal::TooManyRuns);
    assert_eq!(Refusal::TooManyRuns.response().status, 503);
    machine.cancel(second);
    machine.start(NOW, &plan, of("a")).unwrap();
}
