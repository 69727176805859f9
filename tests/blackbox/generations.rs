//! Calls through an application server with a process of its own, which is killed or replaced in the midst of them.

use crate::{
    phone::{Phone, Request, header, status},
    rig::{Home, PATIENCE, wait_until},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A switch with one application server, whose user bob is at a phone.
struct Office {
    home: Home,
}

impl Office {
    fn new() -> Self {
        Self::with("")
    }

    /// With more about its application server.
    fn with(more: &str) -> Self {
        let home = Home::bare();
        let sections = format!(
            "[cores]\nswitch = 2\n[registrar]\nauthenticate = false\n[calls]\nauthenticate = false\n\
             [[app]]\nname = \"stable\"\ncores = 2\n{more}"
        );
        home.configure(&home.text("domains = [\"example.com\"]\nprocesses = \"separate\"", &sections));
        home.add_account("bob@example.com", &[]);
        Self { home }
    }

    fn stable(&self) -> Value {
        let status = self.home.ask_json(&["status"]);
        let processes = status["processes"].as_array().unwrap();
        processes.iter().find(|process| process["name"] == "stable").unwrap().clone()
    }

    fn pid(&self) -> i32 {
        self.stable()["pid"].as_i64().unwrap_or(0) as i32
    }

    fn wait_until_served(&self) {
        wait_until("stable serves", || self.stable()["state"] == "serving");
    }

    fn kill_stable(&self) {
        let pid = self.pid();
        // SAFETY: the supervisor, which we have started, has named this process as its child a moment ago.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait_until("another one serves", || self.pid() != pid && self.stable()["state"] == "serving");
    }
}

fn register(phone: &mut Phone, user: &str) {
    let contact = phone.contact(user);
    let answer = phone.ask(&Request::register(user, &contact));
    assert_eq!(status(&answer), 200, "{answer}");
}

/// The next message that `wanted` says yes to; others are passed over.
fn next(phone: &mut Phone, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(message) = phone.receive(Duration::from_millis(100))
            && wanted(&message)
        {
            return message;
        }
    }
    panic!("no {what} comes")
}

fn request(phone: &mut Phone, method: &str) -> String {
    next(phone, method, |message| message.starts_with(method))
}

fn response(phone: &mut Phone, code: u16) -> String {
    next(phone, &code.to_string(), |message| message.starts_with("SIP/2.0 ") && status(message) == code)
}

/// An INVITE of the caller's for bob.
fn invite(caller: &Phone) -> Request {
    let mut request = Request::new("INVITE", "sip:bob@example.com");
    request.from = format!("<sip:carol@elsewhere.example>;tag={}", request.branch);
    request.line(format!("Contact: {}", caller.contact("carol")))
}

/// The uri in a Contact.
fn contact(message: &str) -> String {
    header(message, "Contact").trim_start_matches('<').split('>').next().unwrap().to_owned()
}

/// A request of the caller's inside the dialog that `answer` has made.
fn inside(invite: &Request, answer: &str, method: &'static str) -> Request {
    let mut request = invite.again();
    request.method = method;
    request.uri = contact(answer);
    request.to = header(answer, "To").to_owned();
    if method == "ACK" {
        request.cseq = invite.cseq;
    }
    request.lines.clear();
    request
}

/// Rings bob: the INVITE as bob's phone has it.
fn ring(caller: &mut Phone, bob: &mut Phone, invite: &Request) -> String {
    caller.send_request(invite);
    let rings = request(bob, "INVITE");
    bob.respond(&rings, "180 Ringing", Some(&bob.contact("bob")));
    response(caller, 180);
    rings
}

/// Answers at bob's: the 200 as the caller has it.
fn answer(caller: &mut Phone, bob: &mut Phone, invite: &Request, rings: &str) -> String {
    bob.respond(rings, "200 OK", Some(&bob.contact("bob")));
    let answered = response(caller, 200);
    caller.send_request(&inside(invite, &answered, "ACK"));
    request(bob, "ACK");
    answered
}

/// The caller hangs up.
fn hang_up(caller: &mut Phone, bob: &mut Phone, invite: &Request, answered: &str) {
    let bye = inside(invite, answered, "BYE");
    caller.send_request(&bye);
    let heard = request(bob, "BYE");
    bob.respond(&heard, "200 OK", None);
    let ended = next(caller, "answer to BYE", |message| {
        message.starts_with("SIP/2.0 ") && header(message, "CSeq").ends_with("BYE")
    });
    assert_eq!(status(&ended), 200, "{ended}");
}

#[test]
fn a_call_passes_an_application_server_with_a_process_of_its_own() {
    let office = Office::new();
    let switch = office.home.start();
    office.wait_until_served();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    let invite = invite(&caller);
    let rings = ring(&mut caller, &mut bob, &invite);
    assert_ne!(header(&rings, "Call-ID"), invite.call_id, "a leg of its own");
    let answered = answer(&mut caller, &mut bob, &invite, &rings);
    let calls = office.home.ask_json(&["calls"]);
    assert_eq!(calls["calls"][0]["server"], "stable", "{calls}");
    hang_up(&mut caller, &mut bob, &invite, &answered);
    wait_until("no call is left", || office.home.ask_json(&["calls"])["calls"].as_array().unwrap().is_empty());
}

#[test]
fn an_answered_call_outlives_kill_9_of_its_server_and_is_hung_up_from_either_side() {
    let office = Office::new();
    let switch = office.home.start();
    office.wait_until_served();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    for by_callee in [false, true] {
        let invite = invite(&caller);
        let rings = ring(&mut caller, &mut bob, &invite);
        let answered = answer(&mut caller, &mut bob, &invite, &rings);
        office.kill_stable();
        if by_callee {
            let mut bye = Request::new("BYE", &contact(&rings));
            bye.from = format!("{};tag=callee", header(&rings, "To"));
            bye.to = header(&rings, "From").to_owned();
            bye.call_id = header(&rings, "Call-ID").to_owned();
            bob.send_request(&bye);
            let heard = request(&mut caller, "BYE");
            caller.respond(&heard, "200 OK", None);
            response(&mut bob, 200);
        } else {
            hang_up(&mut caller, &mut bob, &invite, &answered);
        }
    }
    wait_until("the CDRs of both calls are closed", || {
        let cdrs = office.home.ask_json(&["cdr"]);
        cdrs.as_array().map(Vec::len) == Some(4)
    });
}

#[test]
fn a_call_that_is_being_set_up_when_its_server_is_killed_gets_a_final_response() {
    let office = Office::new();
    let switch = office.home.start();
    office.wait_until_served();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    let invite = invite(&caller);
    let rings = ring(&mut caller, &mut bob, &invite);
    office.kill_stable();
    let refused = response(&mut caller, 500);
    assert_eq!(header(&refused, "Call-ID"), invite.call_id);
    assert_eq!(header(&refused, "CSeq"), format!("{} INVITE", invite.cseq));
    let cancel = request(&mut bob, "CANCEL");
    assert_eq!(header(&cancel, "Call-ID"), header(&rings, "Call-ID"));
    assert_eq!(header(&cancel, "Via"), header(&rings, "Via"), "§9.1");
}

#[test]
fn a_server_is_replaced_while_calls_are_set_up_answered_and_going_on() {
    let office = Office::new();
    let switch = office.home.start();
    office.wait_until_served();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    let talking = invite(&caller);
    let rings = ring(&mut caller, &mut bob, &talking);
    let talks = answer(&mut caller, &mut bob, &talking, &rings);
    let ringing = invite(&caller);
    let rings = ring(&mut caller, &mut bob, &ringing);

    let before = office.pid();
    office.home.ask(&["restart", "stable"]);
    // What is new goes to the new one, what was begun goes on with the old one.
    let late = invite(&caller);
    let late_rings = ring(&mut caller, &mut bob, &late);
    let late_talks = answer(&mut caller, &mut bob, &late, &late_rings);
    assert_eq!(office.pid(), before, "it waits for the call that rings");
    let answered = answer(&mut caller, &mut bob, &ringing, &rings);
    wait_until("the old one has ended", || office.pid() != before && office.stable()["state"] == "serving");

    for (invite, answered) in [(&talking, &talks), (&ringing, &answered), (&late, &late_talks)] {
        hang_up(&mut caller, &mut bob, invite, answered);
    }
    wait_until("the CDRs of all calls are closed", || {
        office.home.ask_json(&["cdr"]).as_array().map(Vec::len) == Some(6)
    });
    assert_eq!(office.stable()["restarts"], 0);
}

#[test]
fn a_server_that_is_drained_refuses_new_calls_and_keeps_those_that_it_has() {
    let office = Office::new();
    let switch = office.home.start();
    office.wait_until_served();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    let talking = invite(&caller);
    let rings = ring(&mut caller, &mut bob, &talking);
    let talks = answer(&mut caller, &mut bob, &talking, &rings);
    office.home.ask(&["drain", "stable"]);
    assert_eq!(office.stable()["state"], "draining");
    wait_until("new calls are refused", || status(&caller.ask(&invite(&caller))) == 503);
    hang_up(&mut caller, &mut bob, &talking, &talks);
    wait_until("it is off", || office.stable()["state"] == "off");
    assert_eq!(status(&caller.ask(&invite(&caller))), 503);
    office.home.ask(&["restart", "stable"]);
    let again = invite(&caller);
    ring(&mut caller, &mut bob, &again);
}

#[test]
fn calls_for_a_server_that_cannot_start_are_refused_at_once_and_registrations_go_on() {
    let office = Office::with("binary = \"/bin/false\"\n");
    let switch = office.home.start();
    let (mut caller, mut bob) = (switch.udp(), switch.udp());
    register(&mut bob, "bob");
    wait_until("it has been tried", || switch.log().matches("started again").count() > 3);
    // One that comes within the grace of a process waits for the next one; then it is known to be down.
    assert_eq!(status(&caller.ask(&invite(&caller))), 503);
    let asked = Instant::now();
    assert_eq!(status(&caller.ask(&invite(&caller))), 503);
    assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
    register(&mut bob, "bob");
}
