//! Nesting of every kind: no stack overflows, whatever a script or its source nests.

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;
use dialplan::{Limits, Plan};

/// Builds a value that nests as deeply as memory allows, by a way that no bound of sizes sees.
const DEEP: &str = "fn deeper(a) { let b = [0]; b[0] = a; b }\n\
    let a = []; let n = 0; while n < DEPTH { n += 1; let b = [0]; b[0] = a; a = b; }\n";

fn limits() -> Limits {
    Limits { max_runs: 4, max_operations: 100_000_000, max_array_items: 1 << 20, ..Limits::default() }
}

fn deep(depth: usize, rest: &str) -> dialplan::Ending {
    run_under(limits(), &(format!("{}{rest}", DEEP.replace("DEPTH", &depth.to_string()))))
}

#[test]
fn the_deepest_value_that_memory_allows_is_copied_measured_and_dropped() {
    let ending = deep(usize::MAX >> 1, "");
    assert!(told(&ending).contains("`max_memory_bytes`"), "{}", told(&ending));
    // Half of it, so that there is room for a second one.
    for rest in [
        "let c = a; c = 0;",
        "let c = deeper(a);",
        "let c = [a];",
        "let c = #{ x: a };",
        "a.push(a);",
        "sys.log(a);",
        "print(a);",
        "throw a;",
        "let s = a.to_string();",
        "let s = `${a}`;",
        "let s = \"x\" + a;",
        "let x = a == a;",
        "let x = a != [a];",
        "let x = a in [a];",
        "let x = [a].index_of(a);",
        "let x = [a, a]; x.dedup();",
        "let x = [a, a]; x.sort();",
        "let x = [a].map(|y| y);",
        "let x = []; x.pad(3, a);",
        "let x = [a] + [a];",
        "switch a { 1 => 2, _ => 3 }",
        "let x = #{ a: a }.to_json();",
        "let x = #{ a: a } == #{ a: a };",
        "let x = #{ a: a }.values();",
        "sys.respond(486, \"\", #{ x: a });",
        "sys.store_put(\"k\", a);",
        "return a;",
        "for i in a { let b = i; }",
        "a.reverse(); a.clear();",
    ] {
        let (mut machine, run, step) = start_under(limits(), &format!("{}{rest}", DEEP.replace("DEPTH", "2400")));
        drop((step, machine.cancel(run)));
    }
}

#[test]
fn maps_nest_as_deeply_as_memory_allows() {
    let ending = run_under(limits(), "let a = #{}; loop { let b = #{ x: 0 }; b.x = a; a = b; }");
    assert!(told(&ending).contains("`max_memory_bytes`"), "{}", told(&ending));
}

#[test]
fn recursion_ends_in_every_kind_of_it() {
    let limits = Limits { max_call_levels: 1000, max_expr_depth: 160, ..limits() };
    let nested = |open: &str, inner: &str, close: &str| {
        format!("fn f(x) {{ {}{inner}{} }} f(1);", open.repeat(12), close.repeat(12))
    };
    for source in [
        "fn f(x) { f(x) } f(1);".to_owned(),
        "fn f(x) { g(x) } fn g(x) { f(x) } f(1);".to_owned(),
        "fn f(x) { 1 + f(x) } f(1);".to_owned(),
        "fn f(x) { [1].map(|y| f(y)) } f(1);".to_owned(),
        "fn f(x) { [2, 1].sort(|a, b| f(a)); f(x) } f(1);".to_owned(),
        "fn f(x) { [1, 2].reduce(|a, b| f(a)) } f(1);".to_owned(),
        "fn f(x) { let g = |y| f(y); g.call(1) } f(1);".to_owned(),
        "fn f(x) { #{ a: f(x) } } f(1);".to_owned(),
        "fn f(x) { `${f(x)}` } f(1);".to_owned(),
        "fn f(x) { if f(x) { 1 } else { 2 } } f(1);".to_owned(),
        "fn f(x) { for i in [1] { while true { switch f(x) { 1 => 2 } } } } f(1);".to_owned(),
        "fn f(x) { try { f(x) } catch { f(x) } } f(1);".to_owned(),
        nested("[", "f(x)", "]"),
        nested("(1 + ", "f(x)", ")"),
        nested("{ ", "f(x)", " }"),
        nested("#{ a: ", "f(x)", " }"),
        nested("[1].map(|y| ", "f(y)", ")"),
        nested("if true { ", "f(x)", " }"),
        nested("(true && ", "f(x)", ")"),
        nested("sys.log(", "f(x)", ")"),
        nested("`${", "f(x)", "}`"),
    ] {
        let ending = run_under(limits.clone(), &source);
        let told = told(&ending);
        assert!(
            told.contains("`max_stack_bytes`")
                || told.contains("`max_call_levels`")
                || told.contains("`max_memory_bytes`")
                || told.contains("`max_operations`"),
            "{source}\n{told}"
        );
    }
}

#[test]
fn the_deepest_script_may_hold_the_deepest_value() {
    // At the end of the stack that a script may use, with data that needs the most of what is beyond.
    let source = DEEP.replace("DEPTH", "4000") + "fn f(x, a) { f(x + 1, a) } f(0, a);";
    let told = told(&run_under(Limits { max_call_levels: 1000, ..limits() }, &source));
    assert!(told.contains("`max_memory_bytes`") || told.contains("`max_stack_bytes`"), "{told}");
}

#[test]
fn sources_that_nest_are_refused_or_run() {
    for (before, unit, after) in [
        ("", "(", ""),
        ("", "[", ""),
        ("", "#{a:", ""),
        ("", "{", ""),
        ("", "if true {", ""),
        ("", "!", "true"),
        ("", "-", "1"),
        ("1", "+1", ""),
        ("1", "**1", ""),
        ("true", "&&true", ""),
        ("1", "??1", ""),
        ("let a = [];a", "[0]", ""),
        ("let a = #{};a", ".b", ""),
        ("let a = #{};a", ".b", " = 1"),
        ("let a = 1;a", ".abs()", ""),
        ("let a = 1;a", "?.b", ""),
        ("let a = [];a", "[0].b", ""),
        ("fn f() {} f", "()", ""),
        ("if true {}", "else if true {}", ""),
        ("let x = ", "`${", ""),
        ("", "|x| ", ""),
        ("", "fn f() {", ""),
        ("", "/*", ""),
        ("", "switch 1 { 1 => ", ""),
        ("let a = [", "1,", "]"),
        ("let a = 1;", "a=", "1"),
        ("", "try {", ""),
        ("", "throw ", ""),
        ("", "return ", ""),
        ("", "let x = ", ""),
        ("1 in ", "1 in ", "1"),
        ("\"", "\\u{41}", ""),
    ] {
        let source = format!("{before}{}{after}", unit.repeat(20_000));
        if let Ok(plan) = Plan::compile("test", &source, &Limits::default()) {
            let mut machine = machine(limits());
            drop(machine.start(NOW, &plan, facts()));
        }
    }
}
