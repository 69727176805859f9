//! Dial strings, and what a plan may change in the requests that it sends.

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;
use dialplan::{Ask, Callback, Dial, From, Hold, LegOptions, Redirect, Refer, Reply, Target};

fn dial(source: &str) -> Dial {
    match asked(Some(start(source).2)) {
        Ask::Dial(dial) => *dial,
        other => panic!("{other:?}"),
    }
}

/// The legs of a dial string: `|` between steps, a blank between legs.
fn legs(targets: &str) -> String {
    let steps = dial(&format!("sys.dial({targets:?})")).steps;
    let step = |legs: &Vec<dialplan::Leg>| legs.iter().map(|leg| leg.target.to_string()).collect::<Vec<_>>().join(" ");
    steps.iter().map(step).collect::<Vec<_>>().join(" | ")
}

fn wrong(targets: &str) -> String {
    fault(&format!("sys.dial({targets:?})")).message.into()
}

#[test]
fn legs_ring_together_and_follow_on() {
    assert_eq!(legs("a@acme & b@second | c"), "a@acme b@second | c@example.com");
    assert_eq!(legs("acme"), "0049301234567@acme");
    assert_eq!(legs("ACME|bob"), "0049301234567@ACME | bob@example.com");
    assert_eq!(
        legs("sip:bob@192.0.2.1:5070;transport=tcp | tel:+4930123"),
        "sip:bob@192.0.2.1:5070;transport=tcp | tel:+4930123"
    );
}

#[test]
fn whom_a_command_dials_already_it_does_not_dial_again() {
    assert_eq!(legs("a & b & a | b | c"), "a@example.com b@example.com | c@example.com");
}

#[test]
fn parts_of_the_call_are_substituted() {
    assert_eq!(legs("${dst}@acme"), "0049301234567@acme");
    assert_eq!(legs("00${exten:2}@acme"), "0049301234567@acme");
    assert_eq!(legs("${EXTEN:4:2}@acme"), "30@acme");
    assert_eq!(legs("${fromuriuser}@${dsthost}"), "alice@example.com");
    assert_eq!(legs("sip:${user}@${domain}"), "sip:alice@example.com");
    assert_eq!(wrong("${dts}@acme"), "nothing stands for `${dts}`; did you mean `dst`?");
    assert_eq!(wrong("${dst:x}@acme"), "`${dst:x}`: write `${name:skip}` or `${name:skip:count}` with numbers");
}

#[test]
fn what_a_caller_writes_changes_nobody_elses_leg() {
    let request = INVITE.replace("Ali \\\"ce\\\"", "x] & evil@acme [delay=0");
    let mut machine = machine(dialplan::Limits { max_runs: 1, ..Default::default() });
    let facts = dialplan::Facts { request: request.into_bytes().into(), ..facts() };
    let plan = compile("sys.dial(\"bob [name=${fromname}]\")");
    let Ask::Dial(dial) = asked(Some(machine.start(NOW, &plan, facts).unwrap().1)) else { panic!("no dial") };
    assert_eq!(dial.steps.iter().map(Vec::len).sum::<usize>(), 1);
    assert_eq!(dial.steps[0][0].options.from.name.as_deref(), Some("x] & evil@acme [delay=0"));
}

#[test]
fn a_leg_has_options() {
    let text = "bob [delay=5, ring=20, max=3600, mangle=off, name=Alice at home, user=alice, host=a.example, redirect=script, \
                refer=place, account=c 1]";
    let options = dial(&format!("sys.dial({text:?})")).steps.remove(0).remove(0).options;
    let expected = LegOptions {
        delay_secs: 5,
        ring_secs: Some(20),
        max_call_secs: Some(3600),
        mangle: Some(false),
        from: From { name: Some("Alice at home".into()), user: Some("alice".into()), host: Some("a.example".into()) },
        redirect: Redirect::Script,
        refer: Refer::Place,
        account_code: Some("c 1".into()),
    };
    assert_eq!(options, expected);
}

fn callback(source: &str) -> Callback {
    match asked(Some(start(source).2)) {
        Ask::Callback(callback) => *callback,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_back_has_two_dial_strings_and_options() {
    let plain = callback(
        "sys.set_header(\"X-A\", \"1\"); sys.set_body(\"text/plain\", \"hi\"); sys.callback(\"a | b\", \"c\");",
    );
    assert_eq!((plain.delay_secs, plain.hold), (5, Hold::Inactive));
    assert_eq!((plain.first.steps.len(), plain.second.steps.len(), plain.first.ring_secs), (2, 1, None));
    assert_eq!(*plain.second.shape.headers, [("X-A".into(), "1".into())]);
    assert_eq!((&plain.first.shape.body, &plain.second.shape.body), (&None, &None));
    let full = callback("sys.callback(\"a\", \"b\", #{ delay: 0, ring: 20, hold: \"recvonly\" });");
    assert_eq!((full.delay_secs, full.hold), (0, Hold::ReceiveOnly));
    assert_eq!((full.first.ring_secs, full.second.ring_secs), (Some(20), Some(20)));
}

#[test]
fn a_plan_goes_on_after_a_call_back_with_its_number() {
    let (mut machine, run, step) = start("let number = sys.callback(\"a\", \"b\"); sys.log(number); sys.respond(486);");
    assert!(matches!(asked(Some(step)), Ask::Callback(_)));
    let ending = ended(machine.resume(NOW, run, Reply::Text(Some("0a".into()))));
    assert_eq!(ending.response.map(|response| response.status), Some(486));
    assert!(ending.trace.iter().any(|line| line.ends_with("0a")), "{:?}", ending.trace);
}

#[test]
fn options_of_a_call_back_that_are_wrong_say_why() {
    let wrong = |options: &str| fault(&format!("sys.callback(\"a\", \"b\", {options})")).message.to_string();
    assert_eq!(wrong("#{ wait: 1 }"), "there is no option `wait`: write delay, ring or hold");
    assert_eq!(wrong("#{ delay: -1 }"), "delay is -1: write a number from 0 to 86400");
    assert_eq!(wrong("#{ ring: \"long\" }"), "ring is a number of seconds");
    assert_eq!(wrong("#{ hold: \"music\" }"), "hold is \"inactive\" or \"recvonly\"");
}

#[test]
fn dial_strings_that_are_wrong_say_why() {
    assert_eq!(wrong(""), "a leg is empty: is there a `&` or `|` too many?");
    assert_eq!(wrong("a & "), "a leg is empty: is there a `&` or `|` too many?");
    assert_eq!(wrong("bob [delay=5"), "`bob [delay=5` lacks its `]` at the end");
    assert_eq!(wrong("bob [delay]"), "the option `delay` lacks `=value`");
    assert_eq!(wrong("bob [delay=soon]"), "`delay=soon`: write whole seconds, at most 86400");
    assert_eq!(wrong("bob [redirect=yes]"), "`redirect=yes`: write follow or script or pass");
    assert_eq!(wrong("bo b@acme"), "`bo b` is no user: ` ` cannot stand in it");
    assert_eq!(wrong("bob@ac\r\nme"), "`ac\r\nme` is no host and no provider: `\r` cannot stand in it");
    assert_eq!(wrong("sip:bob@"), "`sip:bob@` is no URI to call");
    assert_eq!(wrong("bob@"), "`bob@` lacks a host or provider behind the `@`");
    assert_eq!(wrong("bob [host=a b]"), "`a b` cannot be the host of a From");
}

#[test]
fn a_plan_shapes_its_requests() {
    let dial = dial(
        "sys.set_header(\"X-A\", \"1\"); sys.set_header(\"x-a\", \"2\"); sys.set_header(\"X-B\", \"b\"); sys.remove_header(\"X-B\");\
         sys.set_from_name(\"Alice\"); sys.set_from_user(\"4930\"); sys.set_from_host(\"acme.example\");\
         sys.set_body(\"text/plain\", \"hi\"); sys.dial(\"bob\", 10, 60);",
    );
    assert_eq!(*dial.shape.headers, [("x-a".into(), "2".into())]);
    assert_eq!(*dial.shape.removed, ["X-B".into()]);
    assert_eq!(
        dial.shape.from,
        From { name: Some("Alice".into()), user: Some("4930".into()), host: Some("acme.example".into()) }
    );
    assert_eq!(dial.shape.body, Some(("text/plain".into(), "hi".into())));
    assert_eq!((dial.ring_secs, dial.max_call_secs), (Some(10), Some(60)));
}

#[test]
fn no_plan_forges_what_the_switch_writes() {
    for source in [
        "sys.set_header(\"Via\", \"x\")",
        "sys.set_header(\"call-ID\", \"x\")",
        "sys.set_header(\"f\", \"x\")",
        "sys.set_header(\"Ringswitch-Source\", \"x\")",
        "sys.set_header(\"X-A\", \"1\\r\\nVia: x\")",
        "sys.set_header(\"X A\", \"1\")",
        "sys.remove_header(\"Max-Forwards\")",
        "sys.respond(486, \"Busy\\r\\nX: y\")",
        "sys.respond(486, \"Busy\", #{ \"Contact\": \"x\" })",
        "sys.respond(200)",
        "sys.respond(100)",
        "sys.set_from_host(\"a b\")",
        "sys.set_from_user(\"a@b\")",
        "sys.set_from_name(\"a\\r\\nb\")",
        "sys.set_body(\"text\", \"\")",
    ] {
        assert_eq!(run(source).response.unwrap().status, 500, "{source}");
    }
    for method in ["ACK", "bye", "CANCEL", "INVITE", "register"] {
        assert_eq!(
            fault(&format!("sys.send(\"{method}\", \"bob\")")).message,
            format!("a plan cannot send {}", method.to_uppercase()).into()
        );
    }
    let Ask::Send(request) = asked(Some(start("sys.send(\"message\", \"bob\", \"text/plain\", \"hi\")").2)) else {
        panic!()
    };
    assert_eq!(
        (&*request.method, request.target),
        ("MESSAGE", Target::Address { user: "bob".into(), host: "example.com".into() })
    );
}
