//! Two shards: whatever socket a message comes in by, its owner handles it; a full ring between them is told, and a
//! connection of one is reached from the other. The kernel does not steer here: it takes the mesh's work away.

use crate::{
    phone::{Request, header, status},
    rig::{Home, Switch},
};
use agent::{Secret, ShardHash};
use std::time::Duration;

const TWO: &str = "[cores]\nswitch = 2\n[udp]\nsteering = \"off\"\n[registrar]\nauthenticate = false\n";

/// Tells which shard of `switch` owns a Call-ID.
fn owner(switch: &Switch<'_>) -> impl Fn(&str) -> u16 {
    let secret = std::fs::read(switch.home.data_dir().join("secret")).unwrap();
    let hash = ShardHash::new(&Secret::new(secret.try_into().unwrap()));
    move |call_id| hash.owner(call_id.as_bytes(), 2)
}

#[test]
fn messages_of_one_pair_of_addresses_are_handled_by_both_shards() {
    let home = Home::new(TWO);
    let switch = home.start();
    let owner = owner(&switch);
    let mut phone = switch.udp();
    let requests: Vec<_> = std::iter::repeat_with(Request::options).take(40).collect();
    let mut owned = [0, 0];
    for request in &requests {
        assert_eq!(status(&phone.ask(request)), 200);
        owned[usize::from(owner(&request.call_id))] += 1;
    }
    assert!(owned[0] > 0 && owned[1] > 0, "{owned:?}");
    assert_eq!(switch.counter("proxy.answered"), owned, "each was answered by its owner");
    let received = switch.counter("edge.received");
    let by = received.iter().position(|&count| count > 0).unwrap();
    assert_eq!(received[1 - by], 0, "one socket has received them all");
    assert_eq!(switch.counter("edge.passed_on")[by], owned[1 - by]);
    assert_eq!(switch.counter("edge.taken_over")[1 - by], owned[1 - by]);
}

#[test]
fn a_full_ring_between_shards_is_answered_503_and_the_switch_recovers() {
    let home = Home::new(&format!("{TWO}[mesh]\nslots = 16\n[overload]\nretry_after_secs = 7"));
    let mut switch = home.start();
    let mut phone = switch.udp();
    // A stopped process finds all that has come in the meantime in one turn.
    switch.signal(libc::SIGSTOP);
    const FLOOD: usize = 120;
    for _ in 0..FLOOD {
        phone.send_request(&Request::options());
    }
    switch.signal(libc::SIGCONT);
    let (mut taken, mut refused) = (0, 0);
    while taken + refused < FLOOD
        && let Some(answer) = phone.receive(Duration::from_secs(2))
    {
        match status(&answer) {
            200 => taken += 1,
            503 => {
                assert_eq!(header(&answer, "Retry-After"), "7");
                refused += 1;
            }
            _ => panic!("{answer}"),
        }
    }
    assert!(taken >= 16 && refused > 0, "{taken} were taken, {refused} refused");
    assert_eq!(switch.counter("shard.ring_full_refusals").iter().sum::<u64>(), refused as u64);
    for _ in 0..FLOOD {
        assert_eq!(status(&phone.ask(&Request::options())), 200);
    }
    switch.assert_alive();
}

#[test]
fn a_connection_of_one_shard_is_reached_by_requests_that_the_other_handles() {
    let home = Home::new(TWO);
    let switch = home.start();
    let owner = owner(&switch);
    let mut callee = switch.tcp();
    let contact = callee.contact("bob");
    assert_eq!(status(&callee.ask(&Request::register("bob", &contact))), 200);
    let mut caller = switch.udp();
    let mut reached = [0, 0];
    for _ in 0..20 {
        let request = Request::new("MESSAGE", "sip:bob@example.com");
        caller.send_request(&request);
        let got = callee.expect();
        assert!(got.starts_with("MESSAGE sip:bob@"), "{got}");
        assert!(got.contains(&request.call_id), "{got}");
        callee.respond(&got, "200 OK", None);
        assert_eq!(status(&caller.expect()), 200);
        reached[usize::from(owner(&request.call_id))] += 1;
    }
    assert!(reached[0] > 0 && reached[1] > 0, "{reached:?}");
    assert_eq!(switch.counter("edge.accepted").iter().sum::<u64>(), 1);
    assert_eq!(switch.counter("edge.connected"), [0, 0], "no other connection was opened");
}
