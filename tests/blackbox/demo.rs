//! `ringswitch demo`.

use crate::rig::Home;

#[test]
fn the_demonstration_completes_a_call_and_prints_its_ladder() {
    let home = Home::new("");
    let ladder = home.ask(&["demo"]);
    let steps = [
        "sys.dial",
        "─ REGISTER",
        "─ 401",
        "─ INVITE",
        "─ 407",
        "─ INVITE",
        "─ 180 Ringing",
        "─ 200 OK (INVITE)",
        "─ ACK",
        "─ BYE",
        "p99",
    ];
    let mut rest = &*ladder;
    for step in steps {
        (_, rest) = rest.split_once(step).unwrap_or_else(|| panic!("no {step:?} where it belongs in\n{ladder}"));
    }
}
