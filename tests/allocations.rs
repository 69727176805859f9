//! Forwarding takes nothing from the heap: what a message needs beside its own octets comes from the turn's arena.

#[path = "rfc/harness.rs"]
#[expect(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "shard/table.rs"]
#[expect(dead_code, reason = "the table serves another test and an example too")]
mod table;

use agent::{Flow, Now, Outbox, PLACEHOLDER, Posted, Received, Secret, Way};
use bumpalo::Bump;
use harness::{ALICE, BOB, OUTSIDER, Table, in_dialog, request, response, udp};
use registrar::{Incoming, Target};
use ringswitch::proxy::{Agents, App, Apps, HealthTable, Location, Proxy, Reach, Relay, State};
use sip::{Limits, Message};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread takes.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(octets, layout, size) }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(octets, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bob is at his phone; nobody else is anywhere. It allocates nothing.
struct OnlyBob;

const BOBS_PHONE: Target<'static> =
    Target { contact: b"sip:bob@192.0.2.20:5062", q: 1000, route: b"", flow: None, expires_secs: 60, user_agent: b"" };

impl Agents for OnlyBob {
    fn locate<'t>(&self, _: Now, aor: &str, _: &'t Bump) -> Location<'t> {
        match aor {
            "bob@example.com" => Location::Bound(&[BOBS_PHONE]),
            _ => Location::Unknown,
        }
    }

    fn register<'t>(&mut self, _: Now, _: &Incoming<'_, 't>, _: &mut Outbox<'t>) {}

    fn authorize_relay<'t>(&mut self, _: Now, _: &Incoming<'_, 't>, _: &mut Outbox<'t>) -> Relay {
        Relay::Refused
    }

    fn serve<'t>(&mut self, _: Now, _: usize, _: &Received<'t>, _: &Message<'t>, _: &mut Outbox<'t>) {}

    fn probed<'t>(&mut self, _: Now, _: &Message<'t>, _: &mut Outbox<'t>) {}
}

/// Handles the message in a turn of its own and gives how many messages it sent.
fn turn(proxy: &mut Proxy, arena: &mut Bump, journal: &mut Vec<u8>, flow: Flow, octets: &[u8]) -> usize {
    let mut ticket = 0;
    let sent = {
        let mut out = Outbox::new(arena, &mut [], journal, &mut ticket);
        let now = Now { monotonic: Duration::ZERO, unix: Duration::ZERO };
        let message = Message::parse(octets, &Limits::default()).expect("the test sends a sound message");
        let received = Received { flow, octets, passed: false };
        if message.is_request() {
            proxy.at_work().handle_request(now, &received, &message, &mut OnlyBob, &mut out);
        } else {
            proxy.at_work().handle_response(now, &received, &message, &mut OnlyBob, &mut out);
        }
        out.outgoing().len()
    };
    arena.reset();
    sent
}

#[test]
fn forwarding_allocates_nothing() {
    for table in [Table::new(), Table::recording()] {
        let mut table = table;
        let text =
            request("INVITE", "sip:bob@example.com", &["Contact: <sip:a@10.0.0.5>", "Route: <sip:example.com;lr>"]);
        let forwarded = table.one(udp(OUTSIDER), &text);
        let answer = response("200 OK", &forwarded);
        let mut messages = vec![(udp(OUTSIDER), text), (udp(BOB), answer)];
        if table.proxy.settings().record_route {
            messages.push((udp(BOB), in_dialog("BYE", "sip:a@10.0.0.5", &forwarded, false)));
        }
        messages.push((udp(ALICE), request("OPTIONS", "sip:example.com", &[])));
        messages.push((udp(ALICE), request("MESSAGE", "sip:nobody@example.com", &[])));
        messages.push((udp(ALICE), request("INVITE", "sip:x@far.example", &[])));

        let (mut arena, mut journal) = (Bump::new(), Vec::new());
        for round in 0..3 {
            for (flow, text) in &messages {
                let before = ALLOCATIONS.get();
                let sent = turn(&mut table.proxy, &mut arena, &mut journal, *flow, text.as_bytes());
                let allocations = ALLOCATIONS.get() - before;
                assert_eq!(sent, 1, "{text}");
                // The first round grows the arena to what a turn needs.
                assert!(round == 0 || allocations == 0, "{allocations} allocations for {text}");
            }
        }
    }
}

#[test]
fn serving_by_a_hop_and_sending_for_application_servers_allocates_nothing() {
    let secret = Secret::new([7; 32]);
    let reach = Reach::Process(vec!["127.0.0.1:40000".parse().expect("an address")]);
    let stable = App { name: "stable".into(), domains: Vec::new(), weight: 1, reach, state: State::Serving };
    let mut table = Table::with(|settings| settings.apps = Apps::new(&secret, vec![stable], HealthTable::new(1)));
    let text = request("INVITE", "sip:bob@example.com", &["Contact: <sip:a@10.0.0.5>"]);
    let posted = request("INVITE", "sip:bob@192.0.2.20:5062", &[&format!("Contact: <sip:x@{PLACEHOLDER}>")])
        .replace("192.0.2.10:5060", PLACEHOLDER);
    let (mut arena, mut journal) = (Bump::new(), Vec::new());
    for round in 0..3 {
        let before = ALLOCATIONS.get();
        assert_eq!(turn(&mut table.proxy, &mut arena, &mut journal, udp(OUTSIDER), text.as_bytes()), 1);
        let mut ticket = 0;
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        for way in [Way::Uri, Way::Flow(udp(BOB))] {
            assert!(table.proxy.at_work().originate(&Posted { way, octets: posted.as_bytes() }, &mut out).is_none());
        }
        assert_eq!(out.outgoing().len(), 2);
        drop(out);
        arena.reset();
        let allocations = ALLOCATIONS.get() - before;
        assert!(round == 0 || allocations == 0, "{allocations} allocations");
    }
}

#[test]
fn a_whole_turn_of_the_shard_allocates_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    for record_route in [true, false] {
        let mut shard = table::Table::new(record_route, directory.path()).expect("a shard");
        assert_eq!(shard.turn(&[table::register(1, 1)]), 1);
        let uris = ["sip:callee@127.0.0.1:15070", "sip:user0000001@bench.example"];
        let mut messages: Vec<_> =
            uris.iter().flat_map(|uri| [table::invite(uri, 1), table::options(uri, 2)]).collect();
        messages.extend(shard.sent(&messages.clone()).iter().map(|request| table::ok(request)));
        for round in 0..3 {
            let before = ALLOCATIONS.get();
            assert_eq!(shard.turn(&messages), 8);
            let allocations = ALLOCATIONS.get() - before;
            assert!(round == 0 || allocations == 0, "{allocations} allocations");
        }
    }
}
