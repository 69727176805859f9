//! Calls with an application server in the middle: two phones talk to it, and neither sees the other.

use crate::{
    phone::{Phone, Request, header, headers, sdp, status},
    rig::{Home, wait_until},
};
use std::net::Ipv4Addr;

const OPEN: &str = "[cores]\nswitch = 2\n[registrar]\nauthenticate = false\n[calls]\nauthenticate = false\n";

/// Answers `request` with an answer to its offer.
fn accept(phone: &mut Phone, request: &str, user: &str) {
    accept_at(phone, request, user, 30_002);
}

/// Answers it with media at that port.
fn accept_at(phone: &mut Phone, request: &str, user: &str, port: u16) {
    phone.accept(request, user, (Ipv4Addr::LOCALHOST, port).into());
}

/// A request inside the dialog that `invite` and `answer` set up, from the caller.
fn inside(invite: &Request, answer: &str, method: &'static str) -> Request {
    let uri = header(answer, "Contact").trim_matches(['<', '>']).to_owned();
    let to = header(answer, "To").to_owned();
    Request { method, uri, to, lines: Vec::new(), body: String::new(), ..invite.again() }
}

fn invite(caller: &Phone) -> Request {
    let contact = format!("Contact: {}", caller.contact("alice"));
    let invite = Request::new("INVITE", "sip:bob@example.com").line(contact).line("Content-Type: application/sdp");
    Request { body: sdp((Ipv4Addr::LOCALHOST, 30_000).into()), ..invite }
}

#[test]
fn two_phones_call_each_other_through_the_application_server() {
    let home = Home::served(OPEN);
    home.add_account("bob@example.com", &[]);
    let switch = home.start();
    for (mut caller, mut callee) in
        [(switch.udp(), switch.udp()), (switch.tcp(), switch.udp()), (switch.udp(), switch.tcp())]
    {
        assert_eq!(status(&callee.ask(&Request::register("bob", "*").line("Expires: 0"))), 200);
        assert_eq!(status(&callee.ask(&Request::register("bob", &callee.contact("bob")))), 200);
        let (mut of_caller, mut of_callee) = (Vec::new(), Vec::new());

        let invite = invite(&caller);
        caller.send_request(&invite);
        let got = callee.expect_news(&mut of_callee);
        assert!(got.starts_with("INVITE sip:bob@127.0.0.1:"), "{got}");
        assert_eq!(headers(&got, "Via").len(), 1, "{got}");
        assert_ne!(header(&got, "Call-ID"), invite.call_id);
        let hidden = |text: &str, phone: &Phone| !text.contains(&phone.address().to_string());
        assert!(hidden(&got, &caller) && !got.contains("ringswitch.invalid"), "{got}");

        accept(&mut callee, &got, "bob");
        let answer = caller.expect_news(&mut of_caller);
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(hidden(&answer, &callee) && answer.contains("m=audio 30002"), "{answer}");
        caller.send_request(&Request { cseq: invite.cseq, ..inside(&invite, &answer, "ACK") });
        let got = callee.expect_news(&mut of_callee);
        assert!(got.starts_with("ACK "), "{got}");

        let bye = inside(&invite, &answer, "BYE");
        caller.send_request(&bye);
        let got = callee.expect_news(&mut of_callee);
        assert!(got.starts_with("BYE sip:bob@127.0.0.1:"), "{got}");
        callee.respond(&got, "200 OK", None);
        assert_eq!(status(&caller.expect_news(&mut of_caller)), 200);
    }
}

#[test]
fn an_operator_has_two_phones_called_and_joined() {
    let home = Home::served(OPEN);
    for user in ["alice", "bob", "carol"] {
        home.add_account(&format!("{user}@example.com"), &[]);
    }
    let switch = home.start();
    let (mut bob, mut carol) = (switch.udp(), switch.udp());
    for (phone, user) in [(&mut bob, "bob"), (&mut carol, "carol")] {
        let contact = phone.contact(user);
        assert_eq!(status(&phone.ask(&Request::register(user, &contact))), 200);
    }
    let (mut of_bob, mut of_carol) = (Vec::new(), Vec::new());
    let begun = home.ask(&["callback", "alice@example.com", "bob", "carol"]);
    let number = begun.split_whitespace().nth(2).unwrap().to_owned();

    let held = bob.expect_news(&mut of_bob);
    assert!(
        held.starts_with("INVITE ") && held.contains("c=IN IP4 0.0.0.0\r\n") && held.contains("a=inactive"),
        "{held}"
    );
    accept_at(&mut bob, &held, "bob", 30_002);
    assert!(bob.expect_news(&mut of_bob).starts_with("ACK "));
    let offered = carol.expect_news(&mut of_carol);
    assert!(offered.contains("m=audio 30002 ") && !offered.contains("a=inactive"), "{offered}");
    accept_at(&mut carol, &offered, "carol", 30_004);
    assert!(carol.expect_news(&mut of_carol).starts_with("ACK "));
    let offered = bob.expect_news(&mut of_bob);
    assert!(offered.starts_with("INVITE ") && offered.contains("m=audio 30004 "), "{offered}");
    let origin = |message: &str| message.lines().find(|line| line.starts_with("o=")).unwrap().to_owned();
    let [first, second] = [origin(&held), origin(&offered)];
    assert_eq!(first.replace(" 1 IN ", " 2 IN "), second);
    accept_at(&mut bob, &offered, "bob", 30_002);
    assert!(bob.expect_news(&mut of_bob).starts_with("ACK "));

    home.ask(&["hangup", &number]);
    for (phone, seen) in [(&mut bob, &mut of_bob), (&mut carol, &mut of_carol)] {
        let bye = phone.expect_news(seen);
        assert!(bye.starts_with("BYE "), "{bye}");
        phone.respond(&bye, "200 OK", None);
    }
    let legs = || {
        let told = home.ask_json(&["cdr"]);
        let legs = told["cdrs"].as_array().or(told.as_array()).cloned().unwrap_or_default();
        legs.into_iter().filter(|leg| leg["call"] == *number).collect::<Vec<_>>()
    };
    wait_until("both legs are recorded", || legs().len() == 2);
    // Both ended at once, so that they are listed in either order.
    let mut numbers: Vec<_> = legs().iter().map(|leg| leg["leg"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(1), Some(2)]);
    assert!(legs().iter().all(|leg| leg["direction"] == "out"));
    switch.wait_for_log("both parties are joined");

    // Where nobody is called there is no record, and the log alone tells it.
    home.ask(&["callback", "alice@example.com", "alice", "bob"]);
    switch.wait_for_log("the first party was not reached: 480");
}

#[test]
fn the_callee_hangs_up_too() {
    let home = Home::served(OPEN);
    home.add_account("bob@example.com", &[]);
    let switch = home.start();
    let (mut caller, mut callee) = (switch.udp(), switch.udp());
    assert_eq!(status(&callee.ask(&Request::register("bob", &callee.contact("bob")))), 200);
    let (mut of_caller, mut of_callee) = (Vec::new(), Vec::new());
    let invite = invite(&caller);
    caller.send_request(&invite);
    let got = callee.expect_news(&mut of_callee);
    accept(&mut callee, &got, "bob");
    let answer = caller.expect_news(&mut of_caller);
    caller.send_request(&Request { cseq: invite.cseq, ..inside(&invite, &answer, "ACK") });
    callee.expect_news(&mut of_callee);

    let mut bye = Request::new("BYE", header(&got, "Contact").trim_matches(['<', '>']));
    bye.from = format!("{};tag=callee", header(&got, "To"));
    bye.to = header(&got, "From").to_owned();
    bye.call_id = header(&got, "Call-ID").to_owned();
    callee.send_request(&bye);
    let got = caller.expect_news(&mut of_caller);
    assert!(got.starts_with("BYE "), "{got}");
    caller.respond(&got, "200 OK", None);
    assert_eq!(status(&callee.expect_news(&mut of_callee)), 200);
}

#[test]
fn a_call_for_nobody_and_one_for_an_absent_user_end() {
    let home = Home::served("[registrar]\nauthenticate = false\n[calls]\nauthenticate = false\n");
    home.add_account("carol@example.com", &[]);
    let switch = home.start();
    let mut caller = switch.udp();
    for (user, expected) in [("nobody", 404), ("carol", 480)] {
        let invite = Request { uri: format!("sip:{user}@example.com"), ..invite(&caller) };
        let answer = caller.ask(&invite);
        assert_eq!(status(&answer), expected, "{answer}");
        let to = header(&answer, "To").to_owned();
        caller.send_request(&Request { to, ..invite.follower("ACK") });
    }
}

#[test]
fn one_of_ours_proves_who_he_is_before_he_calls() {
    let home = Home::served("[registrar]\nauthenticate = false\n");
    home.add_account("alice@example.com", &[]);
    home.add_account("bob@example.com", &[]);
    let switch = home.start();
    let (mut caller, mut callee) = (switch.udp(), switch.udp());
    assert_eq!(status(&callee.ask(&Request::register("bob", &callee.contact("bob")))), 200);
    let invite = Request { from: "<sip:alice@example.com>;tag=a".to_owned(), ..invite(&caller) };
    let refused = caller.ask(&invite);
    assert_eq!(status(&refused), 407, "{refused}");
    let to = header(&refused, "To").to_owned();
    caller.send_request(&Request { to, ..invite.follower("ACK") });
    let proven = crate::phone::answer_challenge(&invite, &refused, "alice");
    caller.send_request(&proven);
    let told = caller.expect();
    assert!(told.starts_with("SIP/2.0 100"), "{told}");
    let got = callee.expect_news(&mut Vec::new());
    assert!(got.starts_with("INVITE ") && headers(&got, "Proxy-Authorization").is_empty(), "{got}");
}

#[test]
fn an_invite_with_replaces_finds_the_call_whatever_shard_and_process_has_it() {
    for (processes, more) in [("one", ""), ("separate", "[[app]]\nname = \"stable\"\ncores = 2\n")] {
        let home = Home::served(OPEN);
        let top = format!("domains = [\"example.com\"]\nprocesses = \"{processes}\"");
        home.configure(&home.text(&top, &format!("{OPEN}{more}")));
        home.add_account("bob@example.com", &[]);
        home.add_account("carol@example.com", &[]);
        let switch = home.start();
        // Of several Call-IDs some belong to the shard that has the call, and some to the other one.
        for _ in 0..8 {
            let (mut caller, mut callee, mut third) = (switch.udp(), switch.udp(), switch.udp());
            assert_eq!(status(&callee.ask(&Request::register("bob", "*").line("Expires: 0"))), 200);
            assert_eq!(status(&callee.ask(&Request::register("bob", &callee.contact("bob")))), 200);
            let (mut of_caller, mut of_callee, mut of_third) = (Vec::new(), Vec::new(), Vec::new());
            let first = invite(&caller);
            caller.send_request(&first);
            let got = callee.expect_news(&mut of_callee);
            accept(&mut callee, &got, "bob");
            let answer = caller.expect_news(&mut of_caller);
            caller.send_request(&Request { cseq: first.cseq, ..inside(&first, &answer, "ACK") });
            assert!(callee.expect_news(&mut of_callee).starts_with("ACK "));

            let tag = |value: &str| value.split_once(";tag=").unwrap().1.to_owned();
            let (to, from) = (tag(header(&answer, "To")), tag(&first.from));
            let replaces = format!("Replaces: {};to-tag={to};from-tag={from}", first.call_id);
            let mut taking = invite(&third).line(replaces);
            taking.from = taking.from.replace("tester@elsewhere.example", "carol@example.com");
            third.send_request(&taking);
            let offered = callee.expect_news(&mut of_callee);
            assert!(offered.starts_with("INVITE sip:bob@127.0.0.1:"), "{offered}");
            assert_eq!(header(&offered, "Call-ID"), header(&got, "Call-ID"));
            accept_again(&mut callee, &offered);
            let bye = caller.expect_news(&mut of_caller);
            assert!(bye.starts_with("BYE "), "{bye}");
            caller.respond(&bye, "200 OK", None);
            let taken = third.expect_news(&mut of_third);
            assert_eq!(status(&taken), 200, "{taken}");
            third.send_request(&Request { cseq: taking.cseq, ..inside(&taking, &taken, "ACK") });
            assert!(callee.expect_news(&mut of_callee).starts_with("ACK "));
            third.send_request(&inside(&taking, &taken, "BYE"));
            let got = callee.expect_news(&mut of_callee);
            assert!(got.starts_with("BYE "), "{got}");
            callee.respond(&got, "200 OK", None);
            assert_eq!(status(&third.expect_news(&mut of_third)), 200);
        }
    }
}

/// Answers a request inside a dialog with an answer to its offer.
fn accept_again(phone: &mut Phone, request: &str) {
    let copy = |name| headers(request, name).iter().map(|value| format!("{name}: {value}\r\n")).collect::<String>();
    let (lines, body) =
        (["Via", "From", "To", "Call-ID", "CSeq"].map(copy).concat(), sdp((Ipv4Addr::LOCALHOST, 30_002).into()));
    let text = format!(
        "SIP/2.0 200 OK\r\n{lines}Contact: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        phone.contact("bob"),
        body.len()
    );
    phone.send(text.as_bytes());
}
