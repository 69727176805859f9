//! RFC 6026 §7.2: the INVITE client transaction, Accepted.

use crate::user::{USER, User, tcp, udp};

#[test]
fn every_2xx_goes_to_the_user_until_timer_m() {
    for (flow, ringing) in [(udp(), false), (udp(), true), (tcp(), false), (tcp(), true)] {
        let mut user = User::new();
        let sent = user.request_on(flow, "INVITE");
        if ringing {
            user.hear(&sent, 180);
        }
        user.sent();
        assert!(user.hear(&sent, 200));
        assert_eq!(user.pass(10_000), []);
        // Repeated, and of another fork.
        assert!(user.hear(&sent, 200));
        assert_eq!(user.hear_text(&sent.response(200, "fork")), Some((sent.id, USER)));
        // The ACK is the TU's.
        assert_eq!(user.sent(), Vec::<String>::new());
        user.ends_quietly_after(22_000);
        assert!(!user.hear(&sent, 200));
    }
}

#[test]
fn accepted_absorbs_everything_else() {
    let mut user = User::new();
    let sent = user.request("INVITE");
    user.hear(&sent, 200);
    user.sent();
    assert!(!user.hear(&sent, 180) && !user.hear(&sent, 486));
    assert_eq!(user.sent(), Vec::<String>::new());
}
