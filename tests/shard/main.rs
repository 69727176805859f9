//! A shard of the switch, from what it receives in a turn to what it sends.

#[expect(dead_code, reason = "the table serves another test and an example too")]
mod table;

use ringswitch::io::{Backlog, Core};
use std::time::Duration;
use table::{Table, invite, options};

const MANY: u32 = 600;
const TARGET: &str = "sip:callee@127.0.0.1:15070";

/// How many of `messages` are refused with 503, and how many are dropped.
fn refused(shard: &mut Table, messages: &[Vec<u8>]) -> (usize, usize) {
    let sent = shard.sent(messages);
    let refused = sent.iter().filter(|message| message.starts_with(b"SIP/2.0 503 "));
    (refused.count(), messages.len() - sent.len())
}

/// Lets so long pass with the sockets as full as that, which are looked at every ten milliseconds.
fn look(table: &mut Table, millis: u64, level: f64) {
    for _ in 0..millis / 10 {
        table.now.monotonic += Duration::from_millis(10);
        table.shard.handle_backlog(table.now, Backlog { level, received: 100, lost: 0 });
    }
}

fn shard() -> (Table, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (Table::new(false, directory.path()).expect("a shard"), directory)
}

fn many_options() -> Vec<Vec<u8>> {
    (0..MANY).map(|n| options(TARGET, n)).collect()
}

#[test]
fn a_burst_is_served_and_of_a_load_that_lasts_what_can_be_done() {
    let (mut shard, _directory) = shard();
    let many = many_options();
    look(&mut shard, 100, 1.0);
    assert_eq!(refused(&mut shard, &many), (0, 0), "a pause may take that long");
    look(&mut shard, 10, 1.0);
    let (some, dropped) = refused(&mut shard, &many);
    assert!((100..200).contains(&some) && dropped == 0, "a quarter: {some} refused and {dropped} dropped");
    assert_eq!(refused(&mut shard, &many), (some, 0), "the same ones");
    look(&mut shard, 1500, 1.0);
    let (few, dropped) = refused(&mut shard, &many);
    assert!(few < 10 && dropped > 500, "{few} refused and {dropped} dropped");
    look(&mut shard, 1500, 0.0);
    assert_eq!(refused(&mut shard, &many), (0, 0), "it has caught up");
}

#[test]
fn what_is_under_way_is_never_refused() {
    let (mut shard, _directory) = shard();
    let text = |n| String::from_utf8(invite(TARGET, n)).expect("text");
    let under_way = |n| {
        let re_invite = text(n).replace(&format!("To: <{TARGET}>"), &format!("To: <{TARGET}>;tag=1"));
        [
            text(n).replace("INVITE", "BYE"),
            text(n).replace("INVITE", "ACK"),
            text(n).replace("INVITE", "CANCEL"),
            re_invite,
        ]
    };
    let under_way: Vec<_> = (0..MANY).flat_map(under_way).map(String::into_bytes).collect();
    look(&mut shard, 2000, 1.0);
    assert!(refused(&mut shard, &many_options()).1 > 500);
    assert_eq!(refused(&mut shard, &under_way), (0, 0));
}

#[test]
fn what_is_malformed_is_dropped_as_readily_as_what_is_new() {
    let (mut shard, _directory) = shard();
    let malformed =
        |n| String::from_utf8(options(TARGET, n)).expect("text").replace("Call-ID:", "Call-ID").into_bytes();
    let many: Vec<_> = (0..MANY).map(malformed).collect();
    let answered =
        |shard: &mut Table| shard.sent(&many).iter().filter(|message| message.starts_with(b"SIP/2.0 400 ")).count();
    assert_eq!(answered(&mut shard), many.len());
    look(&mut shard, 110, 1.0);
    assert!(refused(&mut shard, &many_options()).0 > 100);
    assert_eq!(answered(&mut shard), many.len(), "while what is new is answered, so is this");
    look(&mut shard, 2000, 1.0);
    assert!(answered(&mut shard) < 100);
}
