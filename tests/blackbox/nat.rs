//! Phones behind NATs: they are reached on the flow that they registered or called from, whatever their Contact says.

use crate::{
    phone::{Phone, Request, header, headers, status},
    rig::Home,
};

const SETTINGS: &str = "[cores]\nswitch = 2\n[proxy]\nrecord_route = true\n[registrar]\nauthenticate = false";

#[test]
fn a_call_between_phones_with_private_contacts_goes_both_ways_by_the_token_in_record_route() {
    let home = Home::new(SETTINGS);
    let switch = home.start();
    for (mut caller, mut callee) in
        [(switch.udp(), switch.udp()), (switch.tcp(), switch.udp()), (switch.udp(), switch.tcp())]
    {
        call(&mut caller, &mut callee);
    }
}

fn call(caller: &mut Phone, callee: &mut Phone) {
    let transport = if callee.sent_by().starts_with("TCP") { ";transport=tcp" } else { "" };
    let callee_uri = format!("sip:bob@10.1.2.3:5060{transport}");
    let callee_contact = format!("<{callee_uri}>");
    // Other contacts of bob's would be as good.
    let forget = Request::register("bob", "*").line("Expires: 0");
    assert_eq!(status(&callee.ask(&forget)), 200);
    assert_eq!(status(&callee.ask(&Request::register("bob", &callee_contact))), 200);

    let invite = Request::new("INVITE", "sip:bob@example.com").line("Contact: <sip:alice@10.9.9.9:5060>");
    caller.send_request(&invite);
    let got = callee.expect();
    assert!(got.starts_with(&format!("INVITE {callee_uri} ")), "{got}");
    callee.respond(&got, "200 OK", Some(&callee_contact));
    let answer = caller.expect();
    assert_eq!(status(&answer), 200, "{answer}");

    // §12.1.2: the caller's route set is Record-Route in reverse; §12.1.1: the callee's is as it came.
    let routes = |values: Vec<&str>| values.iter().map(|value| format!("Route: {value}")).collect::<Vec<_>>();
    let mut of_caller = routes(headers(&answer, "Record-Route"));
    of_caller.reverse();
    let of_callee = routes(headers(&got, "Record-Route"));
    assert!(!of_caller.is_empty());

    let mut ack = Request { method: "ACK", uri: callee_uri.clone(), lines: of_caller.clone(), ..invite.again() };
    (ack.to, ack.cseq) = (header(&answer, "To").to_owned(), invite.cseq);
    caller.send_request(&ack);
    let got = callee.expect();
    assert!(got.starts_with(&format!("ACK {callee_uri} ")), "{got}");
    assert!(headers(&got, "Route").is_empty(), "{got}");

    let info = Request { method: "INFO", ..ack.again() };
    caller.send_request(&info);
    let got = callee.expect();
    assert!(got.starts_with(&format!("INFO {callee_uri} ")), "{got}");
    callee.respond(&got, "200 OK", None);
    assert_eq!(status(&caller.expect()), 200);

    let mut bye = Request::new("BYE", "sip:alice@10.9.9.9:5060");
    (bye.from, bye.to) = (ack.to.clone(), ack.from.clone());
    (bye.call_id, bye.lines) = (ack.call_id.clone(), of_callee);
    callee.send_request(&bye);
    let got = caller.expect();
    assert!(got.starts_with("BYE sip:alice@10.9.9.9:5060 "), "{got}");
    caller.respond(&got, "200 OK", None);
    assert_eq!(status(&callee.expect()), 200);
}

#[test]
fn a_token_of_another_call_opens_no_way() {
    let home = Home::new(SETTINGS);
    let switch = home.start();
    let (mut caller, mut callee) = (switch.udp(), switch.udp());
    let contact = callee.contact("bob");
    assert_eq!(status(&callee.ask(&Request::register("bob", &contact))), 200);
    caller.send_request(&Request::new("INVITE", "sip:bob@example.com").line("Contact: <sip:alice@10.9.9.9>"));
    let got = callee.expect();
    let token = header(&got, "Record-Route");
    let stolen = Request::new("MESSAGE", "sip:someone@127.0.0.2:5070").line(format!("Route: {token}"));
    assert_eq!(status(&caller.ask(&stolen)), 403);
}
