//! Scripts that fail leave no memory behind. The example does the same with a million of them.

#[path = "../examples/failing.rs"]
#[expect(dead_code, reason = "the example has a main of its own")]
mod failing;

#[test]
fn two_hundred_thousand_failing_scripts_leave_nothing_behind() {
    assert!(failing::leave_nothing(200_000), "memory has grown");
}
