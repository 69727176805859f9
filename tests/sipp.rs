//! SIPp against the real program: every scenario of `sipp/run`, each with a switch and ports of its own.

use std::process::Command;

#[test]
fn a_phone_registers_with_digest_refreshes_by_the_same_nonce_and_leaves() {
    run(0, "register_with_digest_and_refresh");
}

#[test]
fn every_algorithm_that_is_configured_is_offered() {
    run(1, "every_algorithm_is_offered");
}

#[test]
fn ten_thousand_users_register() {
    run(2, "register_10000_users");
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    run(3, "wrong_password");
}

#[test]
fn a_registered_user_is_called_and_the_call_ends() {
    run(4, "call");
}

#[test]
fn a_caller_by_udp_reaches_a_callee_by_tcp() {
    run(5, "call_udp_to_tcp");
}

#[test]
fn a_caller_by_tcp_reaches_a_callee_by_udp() {
    run(6, "call_tcp_to_udp");
}

#[test]
fn a_cancel_follows_its_invite_while_it_rings() {
    run(7, "cancel_while_ringing");
}

#[test]
fn a_reinvite_takes_the_way_of_the_dialog() {
    run(8, "reinvite");
}

#[test]
fn a_lost_200_comes_again() {
    run(9, "lost_200");
}

#[test]
fn an_unknown_user_is_not_found() {
    run(10, "not_found");
}

#[test]
fn a_user_without_a_binding_is_unavailable() {
    run(11, "unavailable");
}

#[test]
fn a_request_without_a_hop_left_goes_no_further() {
    run(12, "too_many_hops");
}

#[test]
fn an_unknown_proxy_require_is_a_bad_extension() {
    run(13, "bad_extension");
}

#[test]
fn a_plan_tries_a_provider_then_a_second_one_then_voicemail() {
    run(14, "providers_then_voicemail");
}

#[test]
fn a_plan_hands_the_same_call_to_edge() {
    run(15, "handed_to_edge");
}

/// Runs a scenario. The runner takes twenty ports, which no other test has.
fn run(number: u16, scenario: &str) {
    let found = Command::new("sipp").arg("-v").output();
    assert!(found.is_ok(), "SIPp is missing: tests/run installs it, or apt-get install sip-tester");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sipp/run"))
        .arg(scenario)
        .env("RINGSWITCH", env!("CARGO_BIN_EXE_ringswitch"))
        .env("PORT_BASE", (15_100 + 20 * number).to_string())
        .output()
        .expect("sipp/run can be executed");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
}
