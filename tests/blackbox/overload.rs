//! More comes at once than a shard handles in a turn: a burst is worked off.

use crate::{
    phone::{Request, status},
    rig::Home,
};
use std::time::Duration;

const ONE: &str = "[cores]\nswitch = 1\n[registrar]\nauthenticate = false\n";

#[test]
fn a_burst_is_worked_off() {
    let home = Home::new(ONE);
    let mut switch = home.start();
    let mut phone = switch.udp();
    // What a stopped process finds when it goes on, it finds in a turn or two.
    const BURST: usize = 400;
    switch.signal(libc::SIGSTOP);
    (0..BURST).for_each(|_| phone.send_request(&Request::options()));
    switch.signal(libc::SIGCONT);
    let answers: Vec<_> = std::iter::from_fn(|| phone.receive(Duration::from_secs(2))).take(BURST).collect();
    // The phone's own socket may lose some.
    assert!(answers.len() > 100, "{}", answers.len());
    assert!(answers.iter().all(|answer| status(answer) == 200));
    assert_eq!(switch.counter("proxy.overloaded"), [0]);
    switch.assert_alive();
}
