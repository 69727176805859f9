//! What an author reads of his mistakes.

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

mod common;

use common::*;

#[test]
fn a_mistake_is_told_like_a_compilers() {
    let fault = refusal("let who = \"bob\";\n\tsys.dail(who);\n");
    let told = "test:2:6: `sys` has no `dail`\n  |\n2 | \tsys.dail(who);\n  | \t    ^\n  = did you mean `dial`?";
    assert_eq!(fault.to_string(), told);
}

/// Compiling `source` fails with this message and hint.
fn refused(source: &str, message: &str, hint: &str) {
    let fault = refusal(source);
    assert_eq!((&*fault.message, &*fault.hint), (message, hint), "{fault}");
}

#[test]
fn names_that_do_not_exist_are_found_before_a_plan_runs() {
    refused(
        "sys.dial(whom);",
        "there is no variable `whom`",
        "write `let whom = …;` before, or quotes around it if it is a text",
    );
    refused("let whom = 1; sys.log(whon);", "there is no variable `whon`", "did you mean `whom`?");
    refused("if sys.dial(\"a\") == NO_ANSWR {}", "there is no variable `NO_ANSWR`", "did you mean `NO_ANSWER`?");
    refused("sys.usr", "`sys` has no `usr`", "did you mean `user`?");
    refused("req.header(\"X\")", "`req` has no `header`", "did you mean `headers`?");
    refused("req.user()", "`req.user` is not to be used like this", "write `req.user -> string`");
    refused(
        "fn f() { sys.dial() }",
        "`sys.dial` is not to be used like this",
        "write `sys.dial(targets) -> string` or `sys.dial(targets, ring_secs) -> string` or `sys.dial(targets, ring_secs, \
         max_call_secs) -> string`",
    );
    refused("fn route(x) { x } rout(1);", "there is no function `rout`", "did you mean `route`?");
    refused(
        "fn route(x) { x } route(1, 2);",
        "`route` is not to be called like this, with 2 arguments",
        "the plan's own function is called as `route(…)`, its parameters: 1",
    );
    refused("\"a\".to_uper()", "there is no function `to_uper`", "did you mean `to_upper`?");
    // A property may hold a closure.
    assert_eq!(trace("let m = #{ twice: |x| x * 2 }; sys.log(m.twice.call(2));"), ["4"]);
}

#[test]
fn grammar() {
    refused("let x = ;", "unexpected ';'", "");
    refused("if true {", "expecting '}' to terminate this block", "add `}`");
    refused("let x = \"abc;", "open string is not terminated", "end the text with the quote that it began with");
    for word in ["eval(\"1\")", "import \"x\"", "Fn(\"f\")", "let f = |x| x; f.curry(1)"] {
        assert!(dialplan::Plan::compile("test", word, &dialplan::Limits::default()).is_err(), "{word}");
    }
}

/// Running `source` fails with this, at this place.
fn wrong(source: &str, line: usize, column: usize, message: &str, hint: &str) {
    let fault = fault(source);
    assert_eq!((fault.line, fault.column, &*fault.message, &*fault.hint), (line, column, message, hint), "{fault}");
}

#[test]
fn mistakes_that_only_a_run_finds() {
    wrong("throw \"no luck\";", 1, 1, "no luck", "");
    wrong("let x = 0;\nlet y = 1 / x;", 2, 11, "division by zero: 1 / 0", "");
    wrong("let a = [1];\na[5]", 2, 3, "array index 5 out of bounds: only 1 element in array", "");
    wrong(
        "sys.dial(5);",
        1,
        5,
        "there is no `dial` for (sys, int)",
        "write `sys.dial(targets) -> string` or `sys.dial(targets, ring_secs) -> string` or `sys.dial(targets, ring_secs, \
         max_call_secs) -> string`",
    );
    wrong("let m = #{ a: 1 };\nm.b", 2, 3, "property not found: b", "");
    wrong("fn f() {\n  1 / 0\n}\nf();", 2, 5, "division by zero: 1 / 0", "in a function that line 4, position 1 calls");
    wrong("sys.dial(\"bob[dely=5]\")", 1, 5, "legs have no option `dely`; did you mean `delay`?", "");
    wrong(
        "sys.time(\"Europe/Berlni\")",
        1,
        5,
        "there is no time zone `Europe/Berlni`; did you mean `Europe/Berlin`?",
        "",
    );
}
