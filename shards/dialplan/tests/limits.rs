//! Every bound, reached: the run ends, the caller gets a response, the author reads why.

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;
use dialplan::{Ask, Cause, DialResult, Ending, Limits, Plan, Reply, Step};
use std::time::Duration;

fn limits() -> Limits {
    Limits { max_runs: 64, ..Limits::default() }
}

/// The run ended with this status, and the first line of its fault is this.
fn failed(ending: &Ending, status: u16, first: &str) {
    assert_eq!(ending.cause, Cause::Failed, "{ending:?}");
    assert_eq!(ending.response.as_ref().map(|response| response.status), Some(status));
    assert_eq!(told(ending).lines().next().unwrap_or_default(), first);
}

#[test]
fn operations() {
    let ending = run_under(Limits { max_operations: 10_000, ..limits() }, "let i = 0;\nloop { i += 1; }");
    failed(&ending, 500, "test:2:13: the run took more than 10000 operations (`max_operations`)");
    assert!(ending.operations <= 10_001);
}

#[test]
fn operations_within_closures_count() {
    let plan = "let a = []; a.pad(100, 1); loop { a.map(|x| x + 1); }";
    let ending = run_under(Limits { max_operations: 10_000, ..limits() }, plan);
    failed(&ending, 500, "test:1:37: the run took more than 10000 operations (`max_operations`)");
}

#[test]
fn no_catch_stops_the_end_of_a_run() {
    let plan = "fn f() { loop { try { loop {} } catch { } } }\nloop { try { f(); } catch { } }";
    failed(
        &run_under(Limits { max_operations: 10_000, ..limits() }, plan),
        500,
        "test:2:14: the run took more than 10000 operations (`max_operations`)",
    );
}

#[test]
fn time_besides_dialling() {
    let (mut machine, run, _) = start("sys.dial(\"bob\");\nsys.web_get(\"https://example.org\");");
    // An hour of ringing, were it allowed, would not count.
    let later = NOW + Duration::from_secs(100);
    asked(machine.resume(later, run, dialled(DialResult::NoAnswer, 408)));
    assert_eq!(machine.next_timeout(), Some(later + Duration::from_secs(10)));
    let mut steps = Vec::new();
    machine.handle_timeout(later + Duration::from_secs(10), &mut steps);
    let (_, Step::Ended(ending)) = steps.pop().unwrap() else { panic!("not ended") };
    failed(&ending, 500, "test:2:5: the run took more than 10 seconds besides dialling (`max_script_secs`)");
}

#[test]
fn time_in_all_even_while_dialling() {
    let (mut machine, run, _) = start("sys.extend_time(1000); sys.dial(\"bob\");");
    assert_eq!(machine.next_timeout(), Some(NOW + Duration::from_secs(300)));
    let mut steps = Vec::new();
    machine.handle_timeout(NOW + Duration::from_secs(300), &mut steps);
    let (id, Step::Ended(ending)) = steps.pop().unwrap() else { panic!("not ended") };
    assert_eq!(id, run);
    failed(&ending, 480, "test:1:28: the run took more than 300 seconds in all (`max_run_secs`)");
}

#[test]
fn a_loop_that_never_asks_is_ended_by_time() {
    let limits = Limits { max_operations: u64::MAX, ..limits() };
    let (mut machine, _, _) = start_under(limits, "loop {}");
    let mut steps = Vec::new();
    machine.run_slices(NOW + Duration::from_secs(9), 10, &mut steps);
    assert_eq!(steps.len(), 10);
    machine.run_slices(NOW + Duration::from_secs(11), 1, &mut steps);
    assert!(matches!(steps.last(), Some((_, Step::Ended(_)))));
    assert!(machine.is_ready() || machine.next_timeout().is_none());
}

#[test]
fn time_can_be_extended() {
    let (mut machine, run, _) = start("sys.extend_time(60); sys.account_exists(\"bob\"); sys.log(\"on\")");
    let ending = ended(machine.resume(NOW + Duration::from_secs(65), run, Reply::Truth(true)));
    assert_eq!(&*ending.trace[0], "on");
}

#[test]
fn memory_of_one_run() {
    let message = "the run took more than 524288 octets of memory (`max_memory_bytes`)";
    // Each value is within its bounds, all of them together are not.
    for plan in [
        "let a = []; let s = \"\"; s.pad(60000, 'x'); loop { a.push(s.to_upper() + a.len()); }",
        "let a = [0]; loop { let b = [0]; b[0] = a; a = b; }",
        "let m = #{}; let i = 0; loop { i += 1; m[i.to_string()] = #{ x: [i, i] }; }",
        "let a = [[], []]; loop { a[0].push(#{}); a[1].push([1]); if a[0].len() > 400 { a = [a, a]; } }",
        "fn f(s) { s += s; f(s); f(s) } let s = \"\"; s.pad(30000, 'x'); f(s)",
    ] {
        let ending = run_under(
            Limits { max_map_items: 400_000, max_array_items: 900_000, max_string_bytes: 1 << 20, ..limits() },
            plan,
        );
        assert!(told(&ending).contains(message), "{plan}\n{}", told(&ending));
    }
}

#[test]
fn memory_that_errors_or_patterns_leave_behind_is_not_free() {
    for plan in [
        "let a = []; loop { try { \"x\".matches(\"(\") } catch(e) { a.push(e) } }",
        "let a = []; let s = \"\"; s.pad(3000, 'x'); loop { a.push(s.captures(\".*\")); }",
        "let a = []; let s = \"\"; s.pad(3000, 'x'); loop { a.push(s.replace_matches(\"y\", \"z\")); }",
        "let a = []; loop { try { sys.dial(\"a[b=c]\") } catch(e) { a.push(e) } }",
        "let a = []; loop { try { sys.time(\"Nowhere/Land\") } catch(e) { a.push(e) } }",
    ] {
        let ending = run_under(Limits { max_array_items: 1 << 20, max_string_bytes: 1 << 30, ..limits() }, plan);
        assert!(told(&ending).contains("(`max_memory_bytes`)"), "{plan}\n{}", told(&ending));
    }
}

#[test]
fn memory_of_all_runs_together() {
    let plan = "let a = []; a.pad(1000, 1); let s = \"\"; s.pad(60000, 'x'); sys.dial(\"bob\"); s += s; s += 1; sys.dial(\"bob\")";
    let limits = Limits { max_memory_total_bytes: 250_000, max_string_bytes: 1 << 20, ..limits() };
    let plan = Plan::compile("test", plan, &limits).unwrap();
    let mut machine = machine(limits);
    let mut ends = Vec::new();
    for _ in 0..4 {
        if let (_, Step::Ended(ending)) = machine.start(NOW, &plan, facts()).unwrap() {
            ends.push(ending);
        }
    }
    assert!(!ends.is_empty() && ends.len() < 4, "{ends:?}");
    for ending in &ends {
        assert_eq!(ending.response.as_ref().unwrap().status, 503);
        assert!(told(ending).contains("`max_memory_total_bytes`"), "{}", told(ending));
    }
}

#[test]
fn call_levels() {
    let ending = run("fn f(x) { f(x + 1) }\nf(0);");
    failed(&ending, 500, "test:2:1: functions call each other more than 32 levels deep (`max_call_levels`)");
}

#[test]
fn expression_depth() {
    let fault = refusal(&format!("let x = {}1{};", "(".repeat(100), ")".repeat(100)));
    assert!(fault.message.contains("`max_expr_depth`"), "{fault}");
}

#[test]
fn variables_and_functions() {
    let source: String = (0..300).map(|i| format!("let v{i} = {i}; ")).collect();
    let ending = run(&source);
    assert!(told(&ending).contains("more than 256 variables (`max_variables`)"), "{}", told(&ending));
    let source: String = (0..300).map(|i| format!("fn f{i}() {{}} ")).collect();
    assert!(refusal(&source).message.contains("`max_functions`"));
}

#[test]
fn source_bytes() {
    let limits = Limits { max_source_bytes: 10, ..limits() };
    let fault = Plan::compile("big", "let x = 12345;", &limits).unwrap_err();
    assert_eq!(fault.to_string(), "big: the plan has more than 10 octets (`max_source_bytes`)");
}

#[test]
fn strings() {
    let ending = run("let s = \"x\";\nloop { s += s; }");
    failed(&ending, 500, "test:2:10: texts of more than 65536 octets (`max_string_bytes`)");
    // None of these makes the text before it looks.
    for plan in [
        "let s = \"\"; s.pad(1073741824, 'x');",
        "let s = \"\"; s.pad(60000, 'x'); s.replace(\"x\", s);",
        "let s = \"\"; s.pad(60000, 'x'); s.replace('x', s);",
        "let s = \"\"; s.pad(4000, 'x'); s.replace_matches(\"x\", s);",
        "let s = \"\"; s.pad(4000, 'x'); s.replace_matches(\"x*\", \"$0$0$0$0$0$0\");",
        "let s = \"\"; s.pad(60000, 'x'); let t = `${s}${s}`;",
        "let s = \"\"; s.pad(60000, 'x'); let a = [s, s];",
    ] {
        let ending = run(plan);
        assert!(told(&ending).contains("(`max_string_bytes`)"), "{plan}\n{}", told(&ending));
    }
}

#[test]
fn arrays_and_maps() {
    let ending = run("let a = [1];\nloop { a += a; }");
    assert!(told(&ending).contains("an array of more than 1000 items (`max_array_items`)"), "{}", told(&ending));
    for plan in [
        "let a = []; a.pad(9223372036854775807, 1);",
        "let a = []; a.pad(4611686018427387904, [1, 2, 3]);",
        "let a = []; a.pad(999, [1, 2, 3]);",
        "let a = []; loop { a.push(1); }",
        "let a = [[1]]; loop { a = [a, a]; }",
    ] {
        let ending = run(plan);
        assert!(told(&ending).contains("(`max_array_items`)"), "{plan}\n{}", told(&ending));
    }
    let ending = run("let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = i; let n = #{ m: m }; }");
    assert!(told(&ending).contains("a map of more than 500 items (`max_map_items`)"), "{}", told(&ending));
}

#[test]
fn legs() {
    let (mut machine, run, mut step) = start("loop { sys.dial(\"a & b & c\"); }");
    let mut legs = 0;
    while let Step::Asks(Ask::Dial(dial)) = step {
        legs += dial.steps[0].len();
        step = machine.resume(NOW, run, dialled(DialResult::Failed, 486)).unwrap();
    }
    assert_eq!(legs, 18);
    failed(&ended(Some(step)), 500, "test:1:12: the run took more than 20 legs (`max_legs`)");
}

#[test]
fn ringing() {
    let (_, _, step) = start("sys.dial(\"bob\", 1000);");
    let Ask::Dial(dial) = asked(Some(step)) else { panic!("no dial") };
    assert_eq!(dial.ring_secs, Some(180));
}

/// Answers a question with `reply` until the run ends; gives how often it asked.
fn count(source: &str, reply: &Reply) -> (usize, Ending) {
    let (mut machine, run, mut step) = start(source);
    let mut asked = 0;
    while let Step::Asks(_) = step {
        asked += 1;
        step = machine.resume(NOW, run, reply.clone()).expect("the run has asked");
    }
    (asked, ended(Some(step)))
}

#[test]
fn web_requests() {
    let web = Reply::Web { status: 200, body: "x".repeat(100_000) };
    let (asked, ending) =
        count("loop { let r = sys.web_get(\"https://example.org\"); if r.body.len != 65536 { throw 1 } }", &web);
    assert_eq!(asked, 5);
    failed(&ending, 500, "test:1:20: the run took more than 5 requests to the web (`max_web_requests`)");
}

#[test]
fn callbacks() {
    let number = Reply::Text(Some("1".repeat(32)));
    let (asked, ending) = count("loop { sys.callback(\"a\", \"b\"); }", &number);
    assert_eq!(asked, 3);
    failed(&ending, 500, "test:1:12: the run took more than 3 calls back (`max_callbacks`)");
}

#[test]
fn questions() {
    let (asked, ending) = count("loop { sys.account_exists(\"a\"); }", &Reply::Truth(true));
    assert_eq!(asked, 200);
    failed(&ending, 500, "test:1:12: the run took more than 200 lookups, waits and requests (`max_questions`)");
}

#[test]
fn log_lines_are_cut_and_left_out() {
    let ending = run("let s = \"\"; s.pad(2000, 'x'); for i in 0..1000 { sys.log(s); }");
    assert_eq!(ending.fault, None);
    assert_eq!(ending.trace.len(), 100);
    assert_eq!(ending.trace[0].len(), 1024);
    assert_eq!(&*ending.trace[99], "further lines are left out (`max_log_lines`)");
}

#[test]
fn header_fields() {
    let ending = run("for i in 0..100 { sys.set_header(`X-${i}`, \"v\"); }");
    assert!(told(&ending).contains("more than 20 header fields (`max_headers`)"), "{}", told(&ending));
    let ending = run("for i in 0..100 { sys.remove_header(`X-${i}`); }");
    assert!(told(&ending).contains("(`max_headers`)"), "{}", told(&ending));
}

#[test]
fn patterns_and_what_they_are_tried_on() {
    for plan in [
        "\"x\".matches(\"(a{1000}){1000}\")",
        "let p = \"\"; p.pad(600, 'x'); \"x\".matches(p)",
        "let s = \"\"; s.pad(5000, 'x'); s.matches(\"x\")",
    ] {
        let ending = run(plan);
        assert_eq!(ending.response.as_ref().unwrap().status, 500, "{plan}");
    }
}
