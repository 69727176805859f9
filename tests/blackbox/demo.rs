//! `ringswitch demo`.

use crate::rig::Home;

#[test]
fn the_demonstration_completes_a_call_and_prints_its_ladder() {
    let home = Home::new("");
    let ladder = home.ask(&["demo"]);
    let place = |text: &str| ladder.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{ladder}"));
    let steps = ["─ REGISTER", "─ 401", "─ INVITE", "─ 180 Ringing", "─ 200 OK (INVITE)", "─ ACK", "─ BYE", "p99"];
    assert!(steps.map(place).is_sorted(), "{ladder}");
}
