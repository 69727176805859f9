//! A disk that refuses: registrations are answered 503, everything else goes on, and nothing acknowledged is lost.
//!
//! The disk is full by the process's limit of a file's size (setrlimit(2), RLIMIT_FSIZE), which needs no privilege, is
//! set from outside while the switch runs, and fails every write as a full disk does.

use crate::{
    phone::{Phone, Request, header, status},
    rig::{Home, Switch, wait_until},
};

#[test]
fn a_disk_that_refuses_costs_new_registrations_only_and_is_used_again_when_it_can_be() {
    let home = Home::new("[overload]\nretry_after_secs = 1\n[registrar]\nauthenticate = false");
    let mut switch = home.start();
    let mut phone = switch.udp();
    let contact = phone.contact("alice");
    let alice = Request::register("alice", &contact).line("Expires: 600");
    assert_eq!(status(&phone.ask(&alice)), 200);

    limit_files(&switch, 0);
    for request in [alice.again(), Request::register("bob", "<sip:bob@192.0.2.1>")] {
        let answer = phone.ask(&request);
        assert_eq!((status(&answer), header(&answer, "Retry-After")), (503, "1"), "{answer}");
    }
    let state = home.ask_json(&["status"])["journal"]["state"].as_str().unwrap().to_owned();
    assert!(state.starts_with("failing: "), "{state}");
    let query = phone.ask(&Request { lines: Vec::new(), ..alice.again() });
    assert_eq!(status(&query), 200);
    assert!(header(&query, "Contact").starts_with(&contact), "{query}");
    assert_is_reached(&switch, &mut phone);
    assert!(home.ask(&["bindings", "bob"]).contains("Nothing is registered"));

    limit_files(&switch, libc::RLIM_INFINITY);
    let mut again = alice.again();
    wait_until("a refresh is taken again", || {
        again = again.again();
        status(&phone.ask(&again)) == 200
    });
    assert_eq!(status(&phone.ask(&Request::register("carol", "<sip:carol@192.0.2.1>"))), 200);
    assert_eq!(home.ask_json(&["status"])["journal"]["state"], "writing");
    switch.assert_alive();

    switch.kill();
    let switch = home.start();
    let listed = home.ask_json(&["bindings"]);
    let mut found: Vec<_> = listed["bindings"].as_array().unwrap().iter().map(|b| b["aor"].as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, ["alice@example.com", "carol@example.com"]);
    assert_is_reached(&switch, &mut phone);
}

/// Alice's phone gets what is sent to her.
fn assert_is_reached(switch: &Switch<'_>, phone: &mut Phone) {
    let mut caller = switch.udp();
    let message = Request::new("MESSAGE", "sip:alice@example.com");
    caller.send_request(&message);
    let got = phone.expect();
    assert!(got.starts_with("MESSAGE sip:alice@") && got.contains(&message.call_id), "{got}");
    phone.respond(&got, "200 OK", None);
    assert_eq!(status(&caller.expect()), 200);
}

/// Lets no file of the switch grow beyond `octets`.
fn limit_files(switch: &Switch<'_>, octets: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: octets, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the new limit is read and no old one is written; the process is our child.
    let set = unsafe { libc::prlimit(switch.pid(), libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
