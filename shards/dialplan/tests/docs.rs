//! The documentation: every example in it runs, every function is in it, every limit with its default.
#![expect(clippy::disallowed_methods, reason = "the documentation and the examples are files")]

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;
use dialplan::{Limits, Plan, dry_run};

fn read(path: &str) -> String {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_example_of_the_documentation_runs() {
    let docs = read("docs/dialplan.md");
    let examples: Vec<&str> = docs.split("```rhai\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 20, "{} examples", examples.len());
    for example in examples {
        let plan =
            Plan::compile("docs", example, &Limits::default()).unwrap_or_else(|fault| panic!("{example}\n{fault}"));
        for status in [408, 302, 486] {
            let told = dry_run(&plan, facts(), &Limits::default(), &[status; 20]).unwrap();
            assert!(!told.iter().any(|line| line.contains("docs:")), "{example}\n{}", told.join("\n"));
        }
    }
}

#[test]
fn every_function_is_in_the_documentation_and_in_an_example() {
    let docs = read("docs/dialplan.md");
    let examples: String = docs.split("```rhai\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    for signature in dialplan::signatures() {
        assert!(docs.contains(&format!("`{signature}`")), "`{signature}` is not documented");
        let head = signature.split(['(', ' ']).next().unwrap();
        let name = head.strip_prefix("text").or_else(|| head.strip_prefix("map")).unwrap_or(head);
        assert!(examples.contains(name), "no example of `{signature}`");
    }
}

#[test]
fn every_limit_is_in_the_documentation_with_its_default() {
    let docs = read("docs/dialplan.md");
    let limits = format!("{:?}", Limits::default());
    let inside = limits.split_once('{').unwrap().1.trim_end_matches('}');
    for field in inside.split(", ").filter(|field| field.trim().starts_with("max_")) {
        let (key, value) = field.trim().split_once(": ").unwrap();
        assert!(docs.contains(&format!("| `{key}` | {} |", value.trim())), "`{key}` with {value}");
    }
}

/// What an example plan does with calls of these statuses.
fn example(name: &str, statuses: &[u16]) -> Vec<String> {
    let limits = Limits::default();
    let plan = Plan::compile(name, &read(&format!("examples/plans/{name}.rhai")), &limits)
        .unwrap_or_else(|fault| panic!("{fault}"));
    dry_run(&plan, facts(), &limits, statuses).expect("memory is counted")
}

#[test]
fn a_provider_then_a_second_then_voicemail() {
    assert_eq!(
        example("providers_then_voicemail", &[503, 408, 200]),
        [
            "1. dials, ringing at most 45 s:",
            "   0049301234567@acme",
            "   made up: 503 failed",
            "2. dials, ringing at most 45 s:",
            "   0049301234567@second",
            "   made up: 408 no_answer",
            "3. dials:",
            "   voicemail@example.com",
            "   made up: 200 answered",
            "log: acme: failed 503",
            "log: second: no_answer 408",
            "the run ends: answered",
        ]
    );
    let busy = example("providers_then_voicemail", &[486, 486]);
    assert_eq!(busy.iter().filter(|line| line.contains("dials")).count(), 2);
    assert_eq!(busy.last().unwrap(), "the caller gets 486");
}

#[test]
fn the_desk_in_office_hours() {
    // It is Monday, 11:30 in Berlin.
    let told = example("office_hours", &[]);
    assert_eq!(told[1..3], ["   alice@example.com", "   reception@example.com (after 10 s)"]);
}

#[test]
fn all_phones_then_the_mobile() {
    let told = example("ring_all_then_mobile", &[486]);
    assert_eq!(told[2], "   00491701234567@acme (after 15 s, as Ali \"ce\")");
    assert_eq!(told.last().unwrap(), "the caller gets 486");
}

#[test]
fn callers_without_a_number_are_turned_away() {
    assert_eq!(example("block_anonymous", &[])[1], "   alice@example.com");
    let limits = Limits::default();
    let plan = Plan::compile("block", &read("examples/plans/block_anonymous.rhai"), &limits).unwrap();
    let request = INVITE.replace("alice@example.com>;tag", "anonymous@anonymous.invalid>;tag");
    let facts = dialplan::Facts { request: request.into_bytes().into(), ..facts() };
    let told = dry_run(&plan, facts, &limits, &[]).unwrap();
    assert_eq!(told, ["the caller gets 433 Anonymity Disallowed"]);
}

#[test]
fn a_caller_on_the_list_is_called_back() {
    assert_eq!(example("callback", &[])[1], "   alice@example.com");
    let limits = Limits::default();
    let plan = Plan::compile("callback", &read("examples/plans/callback.rhai"), &limits).unwrap();
    let request = INVITE.replace("alice@example.com>;tag", "01701234567@example.com>;tag");
    let facts = dialplan::Facts { request: request.into_bytes().into(), ..facts() };
    let told = dry_run(&plan, facts, &limits, &[]).unwrap();
    let expected = [
        "calls back after 5 s, first:",
        "   01701234567@acme",
        "then:",
        "   bob@example.com",
        "log: call 00000000000000000000000000000001 calls 01701234567 back",
        "the caller gets 480 Calling You Back",
    ];
    assert_eq!(told, expected);
}
