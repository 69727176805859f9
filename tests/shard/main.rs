//! A shard of the switch, from what it receives in a turn to what it sends.

#[expect(dead_code, reason = "the table serves another test and an example too")]
mod table;

use std::time::Duration;
use table::{Table, invite, options};

/// More than a turn takes when the shard is overloaded.
const MANY: u32 = 600;
const TARGET: &str = "sip:callee@127.0.0.1:15070";

/// How many of `messages` are refused with 503 in a turn that takes `millis`.
fn refused(shard: &mut Table, messages: &[Vec<u8>], millis: u64) -> usize {
    let sent = shard.sent(messages);
    shard.now.monotonic += Duration::from_millis(millis);
    assert_eq!(sent.len(), messages.len(), "each is forwarded or answered");
    sent.iter().filter(|message| message.starts_with(b"SIP/2.0 503 ")).count()
}

fn shard() -> (Table, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (Table::new(false, directory.path()).expect("a shard"), directory)
}

#[test]
fn a_burst_is_served_and_of_a_load_that_lasts_what_a_turn_can_take() {
    let (mut shard, _directory) = shard();
    let many: Vec<_> = (0..MANY).map(|n| options(TARGET, n)).collect();
    for millis in [0, 20, 40, 60, 80] {
        assert_eq!(refused(&mut shard, &many, 20), 0, "after {millis} ms");
    }
    assert_eq!(refused(&mut shard, &many, 20), MANY as usize - 512, "after 100 ms");
    assert_eq!(refused(&mut shard, &many[..10], 1), 0);
    assert_eq!(refused(&mut shard, &many, 1), 0, "it had caught up");
}

#[test]
fn what_is_under_way_is_served_before_new_requests_and_never_refused() {
    let (mut shard, _directory) = shard();
    let bye = |n| String::from_utf8(invite(TARGET, n)).expect("text").replace("INVITE", "BYE").into_bytes();
    let mixed: Vec<_> = (0..MANY).map(|n| options(TARGET, n)).chain((0..MANY).map(bye)).collect();
    (0..5).for_each(|_| assert_eq!(refused(&mut shard, &mixed, 20), 0));
    assert_eq!(refused(&mut shard, &mixed, 1), MANY as usize - 512);
    let sent = shard.sent(&mixed);
    assert!(sent[..MANY as usize].iter().all(|message| message.starts_with(b"BYE ")), "they come first");
}
