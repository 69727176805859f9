//! Application servers behind the proxy: what it gives them, what it sends for them, and what nobody outside can make it do.

#[path = "rfc/harness.rs"]
#[expect(dead_code, reason = "the harness serves other tests too")]
mod harness;

use agent::{Agent, AppBranch, AppToken, Flow, ListenerId, Outbox, PLACEHOLDER, Posted, Received, Secret, Way};
use bumpalo::Bump;
use harness::{ALICE, BOB, DAVE, HOP, NOW, OUTSIDER, Sent, TRUNK, Table, request, response, tcp, udp};
use ringswitch::proxy::{
    App, Apps, Errand, Health, HealthTable, HopTokens, Probe, Prober, Reach, State, inward, read_targets, sealed,
};
use sip::{HeaderName, Message, Transport};
use std::time::Duration;

/// Where the shards of a process of ours receive.
const SHARDS: [&str; 2] = ["127.0.0.1:40000", "127.0.0.1:40001"];

/// For a realm of ours; a server asks for them itself.
const CREDENTIALS: &str = "Proxy-Authorization: Digest username=\"a\", realm=\"example.com\", nonce=\"n\", \
    uri=\"sip:x\", response=\"0123456789abcdef0123456789abcdef\"";

fn secret() -> Secret {
    Secret::new([7; 32])
}

fn app(name: &str, domains: &[&str], reach: Reach) -> App {
    let domains = domains.iter().map(|&domain| domain.into()).collect();
    App { name: name.into(), domains, weight: 100, reach, state: State::Serving }
}

fn process() -> Reach {
    Reach::Process(SHARDS.map(|address| address.parse().expect("an address")).to_vec())
}

fn table(apps: Vec<App>) -> Table {
    Table::with(|settings| {
        let health = HealthTable::new(apps.len());
        settings.apps = Apps::new(&secret(), apps, health);
    })
}

/// A table with `stable` on this shard.
fn here() -> Table {
    table(vec![app("stable", &[], Reach::Here)])
}

/// A table with `stable` in a process of its own.
fn apart() -> Table {
    table(vec![app("stable", &[], process())])
}

/// Receives a message that nobody is sent anything for, and gives what `stable` was given.
#[track_caller]
fn served(table: &mut Table, flow: Flow, octets: impl AsRef<[u8]>) -> Sent {
    assert_eq!(table.receive(flow, octets), []);
    assert_eq!(table.registrar.served.len(), 1);
    table.registrar.served.remove(0).1
}

/// The Contact user of a dialog of `name` in a call.
fn token(name: &str, shard: u16, call_id: &str) -> String {
    let mut user = Vec::new();
    AppToken::new(&secret()).write(Agent { name, shard }, call_id.as_bytes(), &mut user);
    String::from_utf8(user).expect("a token is ASCII")
}

fn branch(name: &str, shard: u16) -> String {
    let mut branch = Vec::new();
    AppBranch { agent: Agent { name, shard }, id: 7 }.write(&mut branch);
    String::from_utf8(branch).expect("a branch is ASCII")
}

/// Has the proxy send what an application server has written: what it sends, and what it wants handled.
fn post(table: &mut Table, way: Way, octets: &str) -> (Vec<Sent>, Option<Sent>) {
    let mut inward = None;
    let sent = table.turn(|table, arena, out| {
        let octets = arena.alloc_slice_copy(octets.as_bytes());
        let received = table.proxy.at_work().originate(&Posted { way, octets }, out);
        inward = received.map(|received| Sent { flow: received.flow, octets: received.octets.to_vec() });
    });
    (sent, inward)
}

/// An INVITE as an application server writes it.
fn written(uri: &str, more: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PLACEHOLDER};branch={}\r\nMax-Forwards: 69\r\n{more}\
         From: <sip:alice@example.com>;tag=a\r\nTo: <{uri}>\r\nCall-ID: ours\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:{}@{PLACEHOLDER}>\r\nContent-Length: 0\r\n\r\n",
        branch("stable", 0),
        token("stable", 0, "ours")
    )
}

// What application servers get.

#[test]
fn a_request_for_a_user_of_ours_goes_to_the_server_as_it_came() {
    let mut table = here();
    for (method, uri) in
        [("INVITE", "sip:bob@example.com"), ("MESSAGE", "sip:nobody@example.com"), ("INVITE", "tel:+1")]
    {
        let text = request(method, uri, &["Contact: <sip:alice@10.0.0.5>", CREDENTIALS]);
        assert_eq!(served(&mut table, tcp(OUTSIDER, 3), &text), Sent { flow: tcp(OUTSIDER, 3), octets: text.into() });
    }
    assert!(table.registrar.located.borrow().is_empty(), "the server looks users up itself");
}

#[test]
fn a_register_and_what_asks_the_switch_itself_go_to_no_server() {
    let mut table = here();
    assert_eq!(table.one(udp(ALICE), request("REGISTER", "sip:example.com", &[])).status(), Some(200));
    assert_eq!(table.one(udp(ALICE), request("OPTIONS", "sip:example.com", &[])).status(), Some(200));
    assert!(table.registrar.served.is_empty());
}

#[test]
fn a_route_to_us_is_taken_away_before_the_server_sees_it() {
    let plain = request("INVITE", "sip:bob@example.com", &[]);
    let routed = request("INVITE", "sip:bob@example.com", &["Route: <sip:example.com;lr>"]);
    assert_eq!(served(&mut here(), udp(ALICE), routed).text(), plain);
}

#[test]
fn cancel_and_ack_take_the_way_of_their_invite() {
    let apps = || (0..5).map(|n| app(&format!("a{n}"), &[], Reach::Here)).collect();
    let mut table = table(apps());
    for uri in ["sip:bob@example.com", "sip:bob@far.example"] {
        for method in ["INVITE", "CANCEL", "ACK"] {
            assert_eq!(table.receive(udp(ALICE), request(method, uri, &[])), []);
        }
    }
    let numbers: Vec<_> = table.registrar.served.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [numbers[0]; 6]);
}

#[test]
fn a_call_of_one_of_ours_to_the_world_goes_to_the_server_of_his_domain() {
    let mut table = table(vec![app("stable", &[], Reach::Here), app("edge", &["example.com"], Reach::Here)]);
    assert_eq!(table.receive(udp(ALICE), request("INVITE", "sip:x@far.example", &[])), []);
    assert_eq!(table.registrar.served[0].0, 1);
}

#[test]
fn what_is_no_call_of_ours_goes_to_the_world_by_the_rules_of_relaying() {
    let mut table = here();
    let message = request("MESSAGE", "sip:x@203.0.113.9", &[]);
    assert_eq!(table.one(udp(ALICE), &message).status(), Some(403));
    let stranger = request("INVITE", "sip:x@203.0.113.9", &[]).replace("alice@example.com", "alice@far.example");
    assert_eq!(table.one(udp(OUTSIDER), &stranger).status(), Some(403));
    let trusted = table.one(udp(TRUNK), request("INVITE", "sip:x@203.0.113.9", &[]));
    assert_eq!(trusted.flow, udp("203.0.113.9:5060"));
    assert!(table.registrar.served.is_empty());
}

#[test]
fn a_request_inside_a_dialog_goes_to_the_server_that_its_token_names() {
    let mut table = table(vec![app("blue", &[], Reach::Here), app("green", &[], Reach::Here)]);
    for (number, name) in ["blue", "green"].into_iter().enumerate() {
        let uri = format!("sip:{}@192.0.2.1:5060;transport=tcp", token(name, 0, "call"));
        assert_eq!(table.receive(udp(OUTSIDER), request("BYE", &uri, &[])), []);
        assert_eq!(table.registrar.served.pop().map(|(served, _)| served), Some(number));
    }
    let gone = format!("sip:{}@192.0.2.1", token("gone", 0, "call"));
    assert_eq!(table.one(udp(OUTSIDER), request("BYE", &gone, &[])).status(), Some(481));
}

#[test]
fn a_token_of_another_call_names_no_server() {
    let mut table = table(vec![app("edge", &["edge.example.com"], Reach::Here)]);
    let uri = format!("sip:{}@192.0.2.1", token("edge", 0, "other"));
    // No more than a user whom nobody knows.
    assert_eq!(table.one(udp(OUTSIDER), request("BYE", &uri, &[])).status(), Some(404));
    assert!(table.registrar.served.is_empty());
}

#[test]
fn a_response_goes_to_the_server_that_its_branch_names() {
    let mut table = here();
    let response = |branch: &str| {
        format!(
            "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: ours\r\nCSeq: 1 INVITE\r\n\r\n"
        )
    };
    let text = response(&branch("stable", 0));
    assert_eq!(served(&mut table, udp(BOB), &text), Sent { flow: udp(BOB), octets: text.clone().into() });
    assert_eq!(table.receive(udp(BOB), response(&branch("gone", 0))), []);
    // RFC 3261 §18.1.2: what names another sent-by is not for us.
    assert_eq!(table.receive(udp(BOB), text.replace("192.0.2.1", "192.0.2.2")), []);
    assert!(table.registrar.served.is_empty());
    assert_eq!(table.proxy.counters.stray_responses, 2);
    table.receive(udp(BOB), response(&branch("switch", 0)));
    assert_eq!(table.registrar.probed, 1);
}

#[test]
fn without_a_server_that_is_well_the_caller_is_told_to_come_back() {
    let mut table = table(vec![App { state: State::Down, ..app("stable", &[], process()) }]);
    for uri in ["sip:bob@example.com".to_owned(), format!("sip:{}@192.0.2.1", token("stable", 0, "call"))] {
        let refused = table.one(udp(ALICE), request("INVITE", &uri, &[]));
        assert_eq!((refused.status(), refused.all(HeaderName::RetryAfter)), (Some(503), vec!["7".to_owned()]));
    }
}

#[test]
fn a_bye_for_a_server_that_is_started_again_is_left_to_its_repetition() {
    let mut table = table(vec![App { state: State::Down, ..app("stable", &[], process()) }]);
    let bye = request("BYE", &format!("sip:{}@192.0.2.1", token("stable", 0, "call")), &[]);
    assert_eq!(table.receive(udp(ALICE), &bye), []);
    assert_eq!(table.proxy.counters.left_to_repetition, 1);
    // Over a stream nothing is repeated.
    assert_eq!(table.one(tcp(OUTSIDER, 3), &bye).status(), Some(503));
}

#[test]
fn a_server_elsewhere_is_a_hop_as_any_other() {
    let mut table = table(vec![app("far", &[], Reach::Elsewhere("sip:203.0.113.7:5070".into()))]);
    let sent = table.one(udp(ALICE), request("INVITE", "sip:bob@example.com", &[CREDENTIALS]));
    assert_eq!((sent.flow, sent.uri().as_deref()), (udp("203.0.113.7:5070"), Some("sip:bob@example.com")));
    assert_eq!(sent.all(HeaderName::ProxyAuthorization).len(), 1);
    assert_eq!((sent.all(HeaderName::Via).len(), sent.all(HeaderName::MaxForwards)), (2, vec!["69".to_owned()]));
}

// The hop to another process.

/// What a process of ours gets: where it was sent, the flow that its header tells, and the message without that.
fn opened(sent: &Sent, call_id: &str) -> (Flow, Flow, String) {
    let arena = Bump::new();
    let (token, octets) = sealed::take_source(&sent.octets, &arena).expect("the header stands first");
    let source = HopTokens::new(&secret()).open_source(call_id.as_bytes(), token).expect("the switch has sealed it");
    (sent.flow, source, String::from_utf8_lossy(octets).into_owned())
}

fn hop(shard: usize) -> Flow {
    Flow {
        listener: ListenerId(HOP),
        transport: Transport::Udp,
        peer: SHARDS[shard].parse().expect("an address"),
        connection: None,
    }
}

#[test]
fn a_server_in_another_process_gets_the_message_and_the_flow_that_it_came_on() {
    let mut table = apart();
    let text = request("INVITE", "sip:bob@example.com", &["Contact: <sip:alice@10.0.0.5>"]);
    let (to, source, octets) = opened(&table.one(tcp(OUTSIDER, 3), &text), "call");
    assert!([hop(0), hop(1)].contains(&to));
    assert_eq!((source, octets), (tcp(OUTSIDER, 3), text));
}

#[test]
fn a_token_and_a_branch_name_the_shard_of_another_process() {
    let mut table = apart();
    for shard in [0, 1] {
        let uri = format!("sip:{}@192.0.2.1", token("stable", shard, "call"));
        assert_eq!(table.one(udp(OUTSIDER), request("BYE", &uri, &[])).flow, hop(usize::from(shard)));
        let response = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: ours\r\nCSeq: 1 INVITE\r\n\r\n",
            branch("stable", shard)
        );
        let (to, source, octets) = opened(&table.one(udp(BOB), &response), "ours");
        assert_eq!((to, source, octets), (hop(usize::from(shard)), udp(BOB), response));
    }
}

#[test]
fn our_headers_from_outside_are_stripped_wherever_the_message_goes() {
    // Even one that we have sealed ourselves, for this very call.
    let mut line = Vec::new();
    HopTokens::new(&secret()).write_source(b"call", &udp(BOB), &mut line);
    let ours = String::from_utf8(line).expect("a header is ASCII");
    let lines = [ours.trim_end(), "ringswitch-way: x"];
    let plain = request("INVITE", "sip:bob@example.com", &[]);
    let forged = request("INVITE", "sip:bob@example.com", &lines);
    assert_eq!(served(&mut here(), udp(ALICE), &forged).text(), plain);
    let first = plain.replace("SIP/2.0\r\nVia", &format!("SIP/2.0\r\n{ours}Via"));
    let (_, source, octets) = opened(&apart().one(udp(ALICE), first), "call");
    assert_eq!((source, octets), (udp(ALICE), plain));
    assert!(!Table::new().one(udp(ALICE), &forged).text().to_ascii_lowercase().contains("ringswitch"));
}

#[test]
fn an_application_server_in_another_process_is_told_where_a_user_is_reached() {
    let mut table = apart();
    let mut lookup = |user: &str| {
        let text = request("OPTIONS", &format!("sip:{user}@example.com"), &[]);
        let mut sent = table.turn(|table, arena, out| {
            let message = Message::parse(arena.alloc_slice_copy(text.as_bytes()), &table.proxy.settings().limits);
            table.proxy.at_work().redirect(NOW, hop(0), &message.expect("it is sound"), &table.registrar, out);
        });
        opened(&sent.remove(0), "call")
    };
    let (to, _, answer) = lookup("dave");
    let arena = Bump::new();
    let answer = Message::parse(answer.as_bytes(), &sip::Limits::default()).expect("it is sound");
    let targets = read_targets(&answer, &arena);
    assert_eq!((to, targets.len()), (hop(0), 1));
    assert_eq!((targets[0].contact, targets[0].flow), (&b"sip:dave@10.0.0.9:5060"[..], Some(udp(DAVE))));
    assert!(lookup("carol").2.starts_with("SIP/2.0 480 "));
    assert!(lookup("mallory").2.starts_with("SIP/2.0 404 "));
}

#[test]
fn credentials_for_a_realm_of_ours_do_not_leave_us() {
    let mut table = Table::new();
    let lines = [CREDENTIALS.to_owned(), CREDENTIALS.replace("example.com", "far.example")];
    let sent = table.one(udp(TRUNK), request("INVITE", "sip:x@203.0.113.9", &[&lines[0], &lines[1]]));
    let left = sent.all(HeaderName::ProxyAuthorization);
    assert!(left.len() == 1 && left[0].contains("far.example"), "{left:?}");
}

// What application servers send.

#[test]
fn a_request_of_a_server_leaves_with_one_via_and_the_address_of_its_socket() {
    let mut table = here();
    let (sent, inward) = post(&mut table, Way::Uri, &written("sip:bob@192.0.2.20:5062", ""));
    assert_eq!((sent[0].flow, inward), (udp(BOB), None));
    let expected = written("sip:bob@192.0.2.20:5062", "").replace(PLACEHOLDER, "192.0.2.1:5060");
    assert_eq!(sent[0].text(), expected);

    let (sent, _) = post(&mut table, Way::Flow(tcp(BOB, 4)), &written("sip:bob@10.0.0.1", ""));
    assert_eq!(sent[0].flow, tcp(BOB, 4));
    let contact = format!("<sip:{}@192.0.2.1:5060;transport=tcp>", token("stable", 0, "ours"));
    assert_eq!(sent[0].all(HeaderName::Contact), [contact]);
    assert_eq!(sent[0].all(HeaderName::Via), [format!("SIP/2.0/TCP 192.0.2.1:5060;branch={}", branch("stable", 0))]);

    let routed = written("sip:bob@far.example", "Route: <sip:192.0.2.77:5070;lr>\r\n");
    assert_eq!(post(&mut table, Way::Uri, &routed).0[0].flow, udp("192.0.2.77:5070"));
}

#[test]
fn a_response_of_a_server_goes_back_by_its_topmost_via() {
    let mut table = here();
    let response = |via: &str| {
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bKalice\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: call\r\nCSeq: 1 INVITE\r\nContact: <sip:x@{PLACEHOLDER}>\r\n\r\n"
        )
    };
    let (sent, _) = post(&mut table, Way::Response(udp(ALICE)), &response("192.0.2.10:5099"));
    assert_eq!(sent[0].flow, udp("192.0.2.10:5099"));
    assert_eq!(sent[0].text(), response("192.0.2.10:5099").replace(PLACEHOLDER, "192.0.2.1:5060"));
    let (sent, _) = post(&mut table, Way::Response(udp(ALICE)), &response("10.0.0.1;rport=5060"));
    assert_eq!(sent[0].flow, udp(ALICE));
}

#[test]
fn a_server_hears_503_where_no_way_leads() {
    let mut table = here();
    for uri in ["sip:x@nowhere.example", "sip:x@192.0.2.20;transport=tls", "tel:+1"] {
        let (sent, inward) = post(&mut table, Way::Uri, &written(uri, ""));
        assert_eq!(sent, []);
        let inward = inward.expect("it is told");
        assert_eq!((inward.status(), inward.branch()), (Some(503), branch("stable", 0)), "{uri}");
        // It finds to its server as any response does.
        assert_eq!(served(&mut table, inward.flow, &inward.octets), inward);
    }
    assert_eq!(post(&mut table, Way::Uri, &written("sip:x@nowhere.example", "").replace("INVITE", "ACK")).1, None);
}

#[test]
fn what_a_server_sends_to_one_of_ours_comes_in_again() {
    let mut table = table(vec![app("stable", &[], Reach::Here), app("edge", &["edge.example"], Reach::Here)]);
    let text = written("sip:bob@example.com", "");
    let (sent, received) = post(&mut table, Way::Uri, &text);
    let received = received.expect("it is for us");
    assert_eq!((sent.len(), received.text()), (0, &*text.replace(PLACEHOLDER, "192.0.2.1:5060")));
    assert_eq!(table.receive(received.flow, &received.octets), []);
    // The answer takes the same way back.
    let response = received.text().replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK");
    let (sent, answer) = post(&mut table, Way::Response(received.flow), &response);
    assert_eq!(sent, []);
    let answer = answer.expect("it is for us");
    assert_eq!(table.receive(answer.flow, &answer.octets), []);
    assert_eq!(table.registrar.served.len(), 2);
}

#[test]
fn a_server_hands_a_call_to_another_by_name() {
    let mut table = table(vec![app("stable", &[], Reach::Here), app("edge", &["edge.example"], Reach::Here)]);
    let routed = |name: &str| written("sip:bob@example.com", &format!("Route: <sip:{name}@{PLACEHOLDER};lr>\r\n"));
    let received = post(&mut table, Way::Uri, &routed("edge")).1.expect("it is for us");
    assert_eq!(table.receive(received.flow, &received.octets), []);
    let (number, served) = table.registrar.served.remove(0);
    let plain = written("sip:bob@example.com", "").replace(PLACEHOLDER, "192.0.2.1:5060");
    assert_eq!((number, served.text()), (1, &*plain));
    // A name that nobody has is answered, and the answer finds back.
    let received = post(&mut table, Way::Uri, &routed("nobody")).1.expect("it is for us");
    let mut answer = None;
    let sent = table.turn(|table, arena, out| {
        let octets = arena.alloc_slice_copy(&received.octets);
        table.handle(&inward(octets), out);
        let posted = out.take_posted();
        let received = table.proxy.at_work().originate(&posted[0], out).expect("it is for us");
        answer = Some(Sent { flow: received.flow, octets: received.octets.to_vec() });
    });
    assert_eq!(sent, []);
    let answer = answer.expect("it is answered");
    assert_eq!(answer.status(), Some(404));
    assert_eq!(self::served(&mut table, answer.flow, &answer.octets), answer);
    // From outside the name leads nowhere.
    assert_eq!(table.one(udp(OUTSIDER), routed("edge")).status(), Some(403));
}

#[test]
fn a_server_hands_an_invite_to_the_shard_that_has_the_dialog() {
    // As the one that has it in another process, and as the other server of this one.
    let mut table = table(vec![app("stable", &[], process()), app("edge", &["edge.example"], Reach::Here)]);
    let handed = |name: &str, shard| {
        let uri = format!("sip:{}@example.com;ringswitch-caller=o.x", token(name, shard, "ours"));
        written(&uri, "Replaces: theirs;to-tag=1;from-tag=2\r\n")
    };
    for shard in [0, 1] {
        let (sent, received) = post(&mut table, Way::Uri, &handed("stable", shard));
        let received = received.expect("it is for us");
        assert_eq!(sent, []);
        let (to, source, octets) = opened(&table.one(received.flow, &received.octets), "ours");
        assert_eq!((to, source), (hop(usize::from(shard)), received.flow));
        assert!(octets.contains("Replaces: theirs;to-tag=1;from-tag=2\r\n"), "{octets}");
    }
    let received = post(&mut table, Way::Uri, &handed("edge", 0)).1.expect("it is for us");
    assert_eq!(table.receive(received.flow, &received.octets), []);
    assert_eq!(table.registrar.served.remove(0).0, 1);
    // A server that is there no more has no dialogs.
    let received = post(&mut table, Way::Uri, &handed("gone", 0)).1.expect("it is for us");
    let mut answer = None;
    table.turn(|table, arena, out| {
        table.handle(&inward(arena.alloc_slice_copy(&received.octets)), out);
        let posted = out.take_posted();
        answer = table.proxy.at_work().originate(&posted[0], out).map(|answer| answer.octets.to_vec());
    });
    assert!(answer.expect("it is answered").starts_with(b"SIP/2.0 481 "));
}

#[test]
fn a_server_elsewhere_answers_one_of_ours() {
    let far = Reach::Elsewhere("sip:203.0.113.7:5070".into());
    let mut table = table(vec![app("stable", &[], Reach::Here), app("far", &["far.example"], far)]);
    let text = written("sip:bob@example.com", &format!("Route: <sip:far@{PLACEHOLDER};lr>\r\n"));
    let received = post(&mut table, Way::Uri, &text).1.expect("it is for us");
    let forwarded = table.one(received.flow, &received.octets);
    assert_eq!(forwarded.flow, udp("203.0.113.7:5070"));
    assert!(!forwarded.text().contains(PLACEHOLDER) && !forwarded.text().contains("received"), "{}", forwarded.text());
    let answer = table.one(udp("203.0.113.7:5070"), response("200 OK", &forwarded));
    // It leaves for our own address, and comes from there to the server.
    assert_eq!((answer.flow, answer.all(HeaderName::Via).len()), (udp("192.0.2.1:5060"), 1));
    assert_eq!(served(&mut table, udp("192.0.2.1:5060"), &answer.octets).status(), Some(200));
}

#[test]
fn an_errand_is_run_for_processes_of_ours_only() {
    let tokens = HopTokens::new(&secret());
    let mut line = Vec::new();
    tokens.write_errand(b"ours", Errand::Post(Way::Flow(udp(BOB))), &mut line);
    let text = written("sip:bob@10.0.0.1", "");
    let (start, rest) = text.split_once("\r\n").expect("it has lines");
    let sealed = [start.as_bytes(), b"\r\n", &line, rest.as_bytes()].concat();
    let arena = Bump::new();
    let (token, octets) = sealed::take_errand(&sealed, &arena).expect("the header stands first");
    assert_eq!(octets, text.as_bytes());
    assert_eq!(tokens.open_errand(b"ours", token), Some(Errand::Post(Way::Flow(udp(BOB)))));
    assert_eq!(tokens.open_errand(b"other", token), None);
}

// Who is well.

const HEALTH: Health =
    Health { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), failures: 3, successes: 2 };

/// Lets the prober live `secs` seconds; `answer` gives the status with which a probe is answered. Tells when the server
/// was well.
fn probed(table: &Table, prober: &mut Prober, secs: u64, mut answer: impl FnMut(u64) -> Option<u16>) -> Vec<bool> {
    let settings = std::sync::Arc::clone(table.proxy.settings());
    let mut states = Vec::new();
    for second in 0..secs {
        let now = agent::Now { monotonic: Duration::from_secs(second), unix: Duration::from_secs(second) };
        let (arena, mut journal, mut ticket) = (Bump::new(), Vec::new(), 0);
        let mut out = Outbox::new(&arena, &mut [], &mut journal, &mut ticket);
        if prober.next_timeout().is_some_and(|due| due <= now.monotonic) {
            prober.handle_timeout(now, &settings, &mut out);
        }
        let sent: Vec<_> = out.outgoing().iter().map(agent::Outgoing::to_vec).collect();
        for octets in &sent {
            let Some(status) = answer(second) else { continue };
            let text = String::from_utf8_lossy(octets);
            let (line, rest) = text.split_once("\r\n").expect("it has lines");
            let is_invite = line.starts_with("INVITE ");
            let response = format!("SIP/2.0 {status} Answer\r\n{rest}");
            let response = Message::parse(arena.alloc_slice_copy(response.as_bytes()), &settings.limits);
            prober.handle_response(&settings, &response.expect("it is sound"), &mut out);
            let acks = out.outgoing().iter().filter(|sent| sent.to_vec().starts_with(b"ACK ")).count();
            assert_eq!(acks, usize::from(is_invite), "a call ends by an ACK");
        }
        states.push(settings.apps.health().is_well(0));
    }
    states
}

#[test]
fn a_server_is_taken_out_and_in_again_by_thresholds() {
    let well = Probe::ANSWER.get();
    let table = apart();
    let mut prober = Prober::new(agent::Now { monotonic: Duration::ZERO, unix: Duration::ZERO }, &secret(), HEALTH, 1);
    // Two failures change nothing, nor do the ones after an answer.
    let states = probed(&table, &mut prober, 20, |second| (second % 6 == 4).then_some(well));
    assert!(states.iter().all(|&is_well| is_well), "{states:?}");
    // A third one does; a wrong answer is no better than none.
    let mut prober = Prober::new(agent::Now { monotonic: Duration::ZERO, unix: Duration::ZERO }, &secret(), HEALTH, 1);
    let states = probed(&table, &mut prober, 20, |second| Some(if second < 8 { 500 } else { well }));
    let changes: Vec<_> = states.windows(2).enumerate().filter(|(_, w)| w[0] != w[1]).map(|(i, _)| i + 1).collect();
    assert_eq!((states[0], changes), (true, vec![4, 10]), "{states:?}");
}

#[test]
fn a_server_elsewhere_is_well_while_it_answers() {
    let table = table(vec![app("far", &[], Reach::Elsewhere("sip:203.0.113.7:5070".into()))]);
    let new = || Prober::new(agent::Now { monotonic: Duration::ZERO, unix: Duration::ZERO }, &secret(), HEALTH, 1);
    assert!(probed(&table, &mut new(), 20, |_| Some(405)).iter().all(|&is_well| is_well));
    assert!(!probed(&table, &mut new(), 20, |_| Some(503))[19]);
}

#[test]
fn an_inward_message_says_so() {
    let Received { flow, .. } = inward(b"x");
    assert!(flow.peer.ip().is_unspecified());
}
