//! RFC 3261 §17.1.2, figure 6: the non-INVITE client transaction.

use crate::user::{User, events, tcp};

#[test]
fn trying_retransmits_by_timer_e_up_to_t2_and_gives_up_by_timer_f() {
    let mut user = User::new();
    user.request("BYE");
    assert_eq!(user.sent(), ["BYE"]);
    let at = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = at.iter().map(|&at| (at, "BYE")).collect();
    expected.push((32_000, "timeout of 7"));
    assert_eq!(user.pass(40_000), events(&expected));
    assert!(user.transactions.is_empty());
}

#[test]
fn proceeding_retransmits_at_t2_and_gives_up_by_timer_f() {
    let mut user = User::new();
    let sent = user.request("OPTIONS");
    user.sent();
    assert_eq!(user.pass(600), events(&[(500, "OPTIONS")]));
    assert!(user.hear(&sent, 100));
    assert!(user.hear(&sent, 100));
    // Timer E had been set to one second, and is set to T2 when it fires.
    assert_eq!(user.pass(10_000), events(&[(900, "OPTIONS"), (4900, "OPTIONS"), (8900, "OPTIONS")]));
    assert_eq!(user.pass(30_000).last(), events(&[(21_400, "timeout of 7")]).first());
    assert!(user.transactions.is_empty());
}

#[test]
fn over_a_reliable_transport_nothing_is_retransmitted() {
    let mut user = User::new();
    user.request_on(tcp(), "OPTIONS");
    user.sent();
    assert_eq!(user.pass(40_000), events(&[(32_000, "timeout of 7")]));
}

#[test]
fn a_final_response_is_told_once_and_absorbed_until_timer_k() {
    for provisional in [false, true] {
        for status in [200, 302, 404, 500, 603] {
            let mut user = User::new();
            let sent = user.request("BYE");
            if provisional {
                assert!(user.hear(&sent, 100));
            }
            user.sent();
            assert!(user.hear(&sent, status));
            assert!(!user.hear(&sent, status) && !user.hear(&sent, 100));
            assert_eq!(user.sent(), Vec::<String>::new());
            user.ends_quietly_after(5000);
        }
    }
}

#[test]
fn timer_k_has_no_length_over_a_reliable_transport() {
    let mut user = User::new();
    let sent = user.request_on(tcp(), "BYE");
    assert!(user.hear(&sent, 200));
    assert!(user.transactions.is_empty());
    assert!(!user.hear(&sent, 200));
}
