//! What transactions cost, counted by the allocator, and that nothing of them stays.

use crate::user::{User, incoming, settings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use transaction::{Arrived, ServerId, Settings};

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does it all; a counter of the thread is kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: usize = 1000;

/// Octets on the heap for each of [`COUNT`] transactions beyond their slots, and for the slots.
struct Meter {
    base: isize,
}

impl Meter {
    fn start() -> Self {
        Self { base: LIVE.get() }
    }

    fn each(&self) -> isize {
        (LIVE.get() - self.base) / COUNT as isize
    }
}

/// [`COUNT`] requests of that method, each of another call, have come; the tables have grown to hold them.
fn full_house(method: &str) -> (User, Vec<ServerId>) {
    let mut user = User::with(Settings { max: 2 * COUNT, ..settings() });
    let arrive = |user: &mut User| -> Vec<_> {
        (0..COUNT)
            .map(|n| {
                user.accept(&incoming(method, &format!("z9hG4bK{n:04}")).replace("theirs", &format!("call{n:04}")))
            })
            .collect()
    };
    for id in arrive(&mut user) {
        user.respond(id, 404);
    }
    user.pass(100_000);
    assert!(user.transactions.is_empty());
    let ids = arrive(&mut user);
    (user, ids)
}

#[test]
fn an_invite_server_keeps_a_response_only_until_its_ack() {
    let response = "SIP/2.0 200 Because\r\nContent-Length: 0\r\n\r\n".len() as isize;
    for status in [200, 404] {
        let (mut user, ids) = full_house("INVITE");
        let meter = Meter::start();
        for &id in &ids {
            user.respond(id, 180);
        }
        user.sent();
        assert_eq!(meter.each(), response, "the last provisional response");
        for &id in &ids {
            user.respond(id, status);
        }
        user.sent();
        assert_eq!(meter.each(), response, "the final response alone");
        for (n, &id) in ids.iter().enumerate() {
            let ack = incoming("ACK", &format!("z9hG4bK{n:04}")).replace("theirs", &format!("call{n:04}"));
            let arrived = user.receive(&ack);
            assert_eq!(arrived, if status == 200 { Arrived::Ack(Some(id)) } else { Arrived::Absorbed });
        }
        assert_eq!(meter.each(), 0, "nothing behind the ACK");
        user.pass(40_000);
        assert!(user.transactions.is_empty());
        assert_eq!(meter.each(), 0);
    }
}

#[test]
fn a_non_invite_server_keeps_its_last_response_until_timer_j() {
    let (mut user, ids) = full_house("BYE");
    let meter = Meter::start();
    for &id in &ids {
        user.respond(id, 200);
    }
    user.sent();
    assert_eq!(meter.each(), "SIP/2.0 200 Because\r\nContent-Length: 0\r\n\r\n".len() as isize);
    user.pass(32_000);
    assert!(user.transactions.is_empty());
    assert_eq!(meter.each(), 0);
}

#[test]
fn an_invite_client_drops_its_body_when_it_rings_for_long_and_everything_when_it_is_answered() {
    let mut user = User::with(Settings { max: 2 * COUNT, ..settings() });
    for _ in 0..COUNT {
        user.request("INVITE");
    }
    user.sent();
    user.pass(100_000);
    assert!(user.transactions.is_empty());
    let meter = Meter::start();
    let sent: Vec<_> = (0..COUNT).map(|_| user.request("INVITE")).collect();
    user.sent();
    let list = (sent.capacity() * size_of_val(&sent[0]) / COUNT) as isize + 6;
    let calling = meter.each() - list;
    assert_eq!(calling, crate::user::request("INVITE", 0).len() as isize);
    for sent in &sent {
        assert!(user.hear(sent, 180));
    }
    assert_eq!(meter.each() - list, calling);
    user.pass(6_000);
    let ringing = meter.each() - list;
    assert!(ringing < calling, "{ringing} of {calling}");
    for sent in &sent {
        assert!(user.hear(sent, 200));
    }
    assert_eq!(meter.each() - list, 0);
    user.pass(32_000);
    assert!(user.transactions.is_empty());
}
