//! RFC 3261 §10.3: processing REGISTER requests.

use crate::switch::*;
use regex::bytes::Regex;
use registrar::{Settings, UserAgentRule, WhenFull};
use store::Account;

const CONTACT: &str = "<sip:alice@192.0.2.5>";

mod step_1_and_5 {
    use super::*;

    #[test]
    fn a_domain_that_is_not_ours_is_not_found() {
        let mut switch = Switch::open();
        assert_eq!(status(&switch.answer(&Register::new().uri("sip:elsewhere.example").text())), 404);
        assert_eq!(status(&switch.answer(&Register::new().to("<sip:alice@elsewhere.example>").text())), 404);
        assert_eq!(switch.counters().rejected, 2);
    }

    #[test]
    fn an_address_of_record_of_another_domain_than_the_request_uri_is_not_found() {
        let mut switch = Switch::open();
        let register = Register::new().to("<sip:alice@b.example>").contact(CONTACT);
        assert_eq!(status(&switch.answer(&register.text())), 404);
        assert_eq!(status(&switch.answer(&register.uri("sip:b.example").text())), 200);
    }

    #[test]
    fn an_address_of_ours_stands_for_the_first_domain() {
        let mut switch = Switch::open();
        let register = Register::new().uri("sip:192.0.2.1:5060").to("<sip:alice@192.0.2.1>").contact(CONTACT);
        assert_eq!(status(&switch.answer(&register.text())), 200);
        assert_eq!(switch.contacts("alice"), ["sip:alice@192.0.2.5"]);
    }

    #[test]
    fn a_to_that_is_no_sip_uri_is_malformed() {
        let mut switch = Switch::open();
        assert_eq!(status(&switch.answer(&Register::new().to("<tel:+4930123456>").text())), 400);
        assert_eq!(status(&switch.answer(&Register::new().to("<sip:example.com>").text())), 404);
    }

    #[test]
    fn a_request_uri_that_is_no_sip_uri_is_unsupported() {
        assert_eq!(status(&Switch::open().answer(&Register::new().uri("tel:+4930123456").text())), 416);
    }

    #[test]
    fn one_user_is_one_however_it_is_written() {
        let mut switch = Switch::open();
        let tos = ["<sip:alice@example.com;user=phone>", "sip:al%69ce@EXAMPLE.COM", "<sips:alice@example.com:5061>"];
        for (n, to) in (1..).zip(tos) {
            let contact = format!("<sip:a{n}@192.0.2.5>");
            assert_eq!(status(&switch.answer(&Register::new().to(to).cseq(n).contact(&contact).text())), 200);
        }
        assert_eq!(switch.contacts("alice").len(), 3);
    }
}

mod step_2 {
    use super::*;

    #[test]
    fn what_is_required_and_not_known_is_named() {
        let mut switch = Switch::open();
        let register = Register::new().contact(CONTACT).header("Require: path, gruu").header("Require: nonsense");
        let answer = switch.answer(&register.text());
        assert_eq!((status(&answer), headers(&answer, "Unsupported")), (420, vec!["gruu", "nonsense"]));
        assert!(switch.contacts("alice").is_empty());
    }

    #[test]
    fn what_is_required_and_known_is_no_obstacle() {
        let register = Register::new().contact(CONTACT).header("Require: Path, outbound");
        assert_eq!(status(&Switch::open().answer(&register.text())), 200);
    }
}

mod step_6 {
    use super::*;

    #[test]
    fn without_contact_the_bindings_are_only_told() {
        let mut switch = Switch::open();
        assert_eq!(headers(&switch.answer(&Register::new().text()), "Contact"), [""; 0]);
        switch.answer(&Register::new().cseq(2).contact(CONTACT).text());
        let journaled = switch.journal.len();
        switch.advance(100);
        let answer = switch.send(0, &Register::new().call_id("other").text()).remove(0).text;
        assert_eq!((status(&answer), headers(&answer, "Contact")), (200, vec!["<sip:alice@192.0.2.5>;expires=3500"]));
        assert_eq!((switch.journal.len(), switch.counters().unchanged), (journaled, 2));
    }

    #[test]
    fn a_wildcard_removes_every_binding() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().contact("<sip:a@192.0.2.5>, <sip:b@192.0.2.5>").text());
        let answer = switch.answer(&Register::new().cseq(2).contact("*").header("Expires: 0").text());
        assert_eq!((status(&answer), headers(&answer, "Contact")), (200, vec![]));
        assert!(switch.contacts("alice").is_empty());
        assert_eq!(switch.counters().removed, 2);
    }

    #[test]
    fn a_wildcard_stands_alone_and_with_an_expires_of_zero() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().contact(CONTACT).text());
        let register = Register::new().cseq(2);
        for register in [
            register.clone().contact("*"),
            register.clone().contact("*").header("Expires: 60"),
            register.clone().contact("*").header("Expires: none"),
            register.clone().contact("*").contact(CONTACT).header("Expires: 0"),
            register.clone().contact(CONTACT).contact("*").header("Expires: 0"),
            register.contact("*, *").header("Expires: 0"),
        ] {
            assert_eq!(status(&switch.answer(&register.text())), 400, "{register:?}");
        }
        assert_eq!(switch.contacts("alice").len(), 1);
    }

    #[test]
    fn a_wildcard_that_is_older_than_a_binding_of_its_call_id_removes_nothing() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().cseq(5).contact("<sip:a@192.0.2.5>").text());
        switch.answer(&Register::new().call_id("other").cseq(1).contact("<sip:b@192.0.2.5>").text());
        let wildcard = Register::new().contact("*").header("Expires: 0");
        assert_eq!(status(&switch.answer(&wildcard.clone().cseq(5).text())), 500);
        assert_eq!(switch.contacts("alice").len(), 2);
        // The other binding's CSeq is of another Call-ID and does not matter.
        assert_eq!(status(&switch.answer(&wildcard.cseq(6).text())), 200);
        assert!(switch.contacts("alice").is_empty());
    }
}

mod step_7_intervals {
    use super::*;

    fn granted(switch: &mut Switch, register: Register) -> String {
        let answer = switch.answer(&register.text());
        match headers(&answer, "Contact")[..] {
            [contact] => {
                let (_, secs) = contact.split_once(";expires=").expect("every contact has an interval");
                secs.split_once(';').map_or(secs, |(secs, _)| secs).into()
            }
            _ => status(&answer).to_string(),
        }
    }

    #[test]
    fn the_parameter_counts_before_the_header_and_the_header_before_the_default() {
        let mut switch = Switch::with(|s| s.default_expires_secs = 1800);
        let header = "Expires: 120";
        let param = "<sip:alice@192.0.2.5>;expires=90";
        assert_eq!(granted(&mut switch, Register::new().cseq(1).contact(param).header(header)), "90");
        assert_eq!(granted(&mut switch, Register::new().cseq(2).contact(CONTACT).header(header)), "120");
        assert_eq!(granted(&mut switch, Register::new().cseq(3).contact(CONTACT)), "1800");
    }

    #[test]
    fn a_malformed_interval_is_an_hour() {
        // §20.10.
        let mut switch = Switch::with(|s| (s.default_expires_secs, s.max_expires_secs) = (60, 7200));
        for (n, text) in (1..).zip(["x", "-1", "280297596632815", "\"60\""]) {
            let contact = format!("{CONTACT};expires={text}");
            assert_eq!(granted(&mut switch, Register::new().cseq(n).contact(&contact)), "3600", "{text}");
        }
        let register = Register::new().cseq(9).contact(CONTACT).header("Expires: 10000000000000000000");
        assert_eq!(granted(&mut switch, register), "3600");
    }

    #[test]
    fn an_interval_below_the_minimum_is_too_brief_and_changes_nothing() {
        let mut switch = Switch::open();
        let register = Register::new().contact("<sip:a@192.0.2.5>, <sip:b@192.0.2.5>;expires=59");
        let answer = switch.answer(&register.text());
        assert_eq!((status(&answer), headers(&answer, "Min-Expires")), (423, vec!["60"]));
        assert!(switch.contacts("alice").is_empty());
        assert_eq!(switch.counters().too_brief, 1);
    }

    #[test]
    fn an_interval_of_an_hour_is_never_too_brief() {
        let mut switch = Switch::with(|s| (s.min_expires_secs, s.max_expires_secs) = (7200, 9000));
        assert_eq!(granted(&mut switch, Register::new().cseq(1).contact(CONTACT).header("Expires: 3599")), "423");
        assert_eq!(granted(&mut switch, Register::new().cseq(2).contact(CONTACT).header("Expires: 3600")), "3600");
    }

    #[test]
    fn zero_removes_and_is_never_too_brief() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().contact("<sip:a@192.0.2.5>, <sip:b@192.0.2.5>").text());
        let answer = switch.answer(&Register::new().cseq(2).contact("<sip:a@192.0.2.5>;expires=0").text());
        assert_eq!(headers(&answer, "Contact"), ["<sip:b@192.0.2.5>;expires=3600"]);
        let answer = switch.answer(&Register::new().cseq(3).contact("<sip:b@192.0.2.5>").header("Expires: 0").text());
        assert_eq!((status(&answer), headers(&answer, "Contact")), (200, vec![]));
    }

    #[test]
    fn an_interval_above_the_maximum_is_shortened() {
        let mut switch = Switch::open();
        assert_eq!(granted(&mut switch, Register::new().contact(CONTACT).header("Expires: 4294967295")), "3600");
    }

    #[test]
    fn an_account_may_be_granted_less() {
        let mut switch = Switch::open();
        let account = Account { max_expires_secs: Some(300), ..account("alice", "secret") };
        switch.accounts.put("alice@example.com", account);
        assert_eq!(granted(&mut switch, Register::new().contact(CONTACT).header("Expires: 3600")), "300");
    }

    #[test]
    fn a_user_agent_may_have_bounds_of_its_own() {
        let pattern = Regex::new("^Mobile/[0-9]").unwrap();
        let rule = UserAgentRule { pattern, min_expires_secs: Some(600), max_expires_secs: Some(86_400) };
        let mut switch = Switch::with(|s| s.user_agents = vec![rule]);
        let mobile = |secs, cseq| {
            let register = Register::new().cseq(cseq).contact(CONTACT).header("User-Agent: Mobile/7");
            register.header(&format!("Expires: {secs}"))
        };
        assert_eq!(granted(&mut switch, mobile(100_000, 1)), "86400");
        assert_eq!(granted(&mut switch, mobile(300, 2)), "423");
        assert_eq!(granted(&mut switch, Register::new().cseq(3).contact(CONTACT).header("Expires: 300")), "300");
    }

    #[test]
    fn a_binding_is_gone_when_its_interval_is_over() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().contact("<sip:a@192.0.2.5>;expires=60, <sip:b@192.0.2.5>;expires=90").text());
        let now = switch.now;
        let timeout = switch.registrar(0).next_timeout(now).expect("a binding waits");
        assert!(timeout > now.monotonic && (timeout - now.monotonic).as_secs() <= 60);
        switch.advance(60);
        assert_eq!(switch.contacts("alice"), ["sip:b@192.0.2.5"]);
        switch.expire();
        assert_eq!((switch.counters().expired, switch.bindings.census().bindings), (1, 1));
        switch.advance(3600);
        switch.expire();
        assert_eq!((switch.counters().expired, switch.bindings.census().bindings), (2, 0));
        assert_eq!(status(&switch.answer(&Register::new().cseq(2).contact(CONTACT).text())), 200);
    }
}

mod step_7_bindings {
    use super::*;

    #[test]
    fn a_contact_is_refreshed_by_any_uri_that_is_equivalent() {
        // §19.1.4.
        let mut switch = Switch::open();
        let uris = ["sip:%61lice@PHONE.example.com;transport=TCP", "sip:alice@phone.example.com;Transport=tcp;lr"];
        for (n, uri) in (1..).zip(uris) {
            switch.answer(&Register::new().cseq(n).contact(&format!("<{uri}>")).text());
        }
        assert_eq!(switch.contacts("alice"), [uris[1]]);
        let other = "<sip:alice@phone.example.com>";
        switch.answer(&Register::new().cseq(3).contact(other).text());
        assert_eq!(switch.contacts("alice").len(), 2);
        assert_eq!((switch.counters().registered, switch.counters().refreshed), (2, 1));
    }

    #[test]
    fn a_contact_need_not_be_a_sip_uri() {
        // §10.2.1.
        let mut switch = Switch::open();
        for n in [1, 2] {
            switch.answer(&Register::new().cseq(n).contact("<mailto:alice@example.com>").text());
        }
        assert_eq!(switch.contacts("alice"), ["mailto:alice@example.com"]);
    }

    #[test]
    fn a_request_older_than_a_binding_of_its_call_id_fails_as_a_whole() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().cseq(5).contact("<sip:a@192.0.2.5>").text());
        let late = Register::new().cseq(4).contact("<sip:new@192.0.2.5>").contact("<sip:a@192.0.2.5>");
        assert_eq!(status(&switch.answer(&late.text())), 500);
        assert_eq!(switch.contacts("alice"), ["sip:a@192.0.2.5"]);
        let removal = Register::new().cseq(5).contact("<sip:a@192.0.2.5>;expires=0");
        assert_eq!(status(&switch.answer(&removal.text())), 500);
        assert_eq!(switch.counters().out_of_order, 2);
    }

    #[test]
    fn a_request_of_another_call_id_is_never_too_old() {
        let mut switch = Switch::open();
        switch.answer(&Register::new().cseq(500).contact(CONTACT).header("Expires: 60").text());
        let rebooted = Register::new().call_id("after-boot").cseq(1).contact(CONTACT);
        assert_eq!(status(&switch.answer(&rebooted.text())), 200);
        assert_eq!(switch.counters().refreshed, 1);
    }

    #[test]
    fn a_retransmission_meets_the_same_answer_and_is_not_journaled() {
        let mut switch = Switch::open();
        for register in [
            Register::new().cseq(1).contact("<sip:a@192.0.2.5>, <sip:b@192.0.2.5>;q=0.3"),
            Register::new().cseq(2).contact("<sip:a@192.0.2.5>;expires=0"),
            Register::new().cseq(3).contact("*").header("Expires: 0"),
        ] {
            let first = switch.answer(&register.text());
            let journaled = switch.journal.len();
            let again = switch.send(0, &register.text());
            assert_eq!(again[0].text, first);
            assert_eq!(switch.journal.len(), journaled);
        }
        assert_eq!(switch.counters().unchanged, 3);
    }

    #[test]
    fn a_request_is_done_as_a_whole_or_not_at_all() {
        let mut switch = Switch::open();
        for bad in ["<sip:b@>", "<sip:b@192.0.2.5>;q=2", "<sip:b@192.0.2.5>;reg-id=0", "<sip:b@192.0.2.5"] {
            let register = Register::new().contact("<sip:a@192.0.2.5>").contact(bad);
            assert_eq!(status(&switch.answer(&register.text())), 400, "{bad}");
        }
        assert!(switch.contacts("alice").is_empty() && switch.journal.is_empty());
    }

    #[test]
    fn of_one_contact_twice_in_a_request_the_last_counts() {
        let mut switch = Switch::open();
        let contacts = "<sip:a@192.0.2.5>;expires=60, <sip:a@192.0.2.5>;expires=90";
        let answer = switch.answer(&Register::new().contact(contacts).text());
        assert_eq!(headers(&answer, "Contact"), ["<sip:a@192.0.2.5>;expires=90"]);
    }
}

mod limit_of_bindings {
    use super::*;

    fn fill(switch: &mut Switch) {
        for n in 1..=2 {
            switch.answer(&Register::new().call_id(&format!("{n}")).contact(&format!("<sip:{n}@192.0.2.5>")).text());
            switch.advance(1);
        }
    }

    fn two(when_full: WhenFull) -> Settings {
        Settings { authenticate: false, max_bindings: 2, when_full, ..Settings::default() }
    }

    #[test]
    fn one_more_is_refused_and_leaves_the_others() {
        let mut switch = Switch::new(two(WhenFull::Refuse), 1);
        fill(&mut switch);
        let answer = switch.answer(&Register::new().contact("<sip:3@192.0.2.5>").text());
        assert_eq!((status(&answer), switch.counters().over_limit), (403, 1));
        assert_eq!(switch.contacts("alice"), ["sip:1@192.0.2.5", "sip:2@192.0.2.5"]);
    }

    #[test]
    fn one_more_replaces_the_oldest() {
        let mut switch = Switch::new(two(WhenFull::ReplaceOldest), 1);
        fill(&mut switch);
        // Refreshed, the first is no longer the oldest.
        switch.answer(&Register::new().call_id("1").cseq(2).contact("<sip:1@192.0.2.5>").text());
        let answer = switch.answer(&Register::new().contact("<sip:3@192.0.2.5>").text());
        assert_eq!((status(&answer), switch.counters().replaced), (200, 1));
        assert_eq!(switch.contacts("alice"), ["sip:1@192.0.2.5", "sip:3@192.0.2.5"]);
    }

    #[test]
    fn more_than_fit_in_one_request_are_refused_either_way() {
        for when_full in [WhenFull::Refuse, WhenFull::ReplaceOldest] {
            let mut switch = Switch::new(two(when_full), 1);
            fill(&mut switch);
            let contacts = "<sip:3@192.0.2.5>, <sip:4@192.0.2.5>, <sip:5@192.0.2.5>";
            assert_eq!(status(&switch.answer(&Register::new().contact(contacts).text())), 403);
            assert_eq!(switch.contacts("alice"), ["sip:1@192.0.2.5", "sip:2@192.0.2.5"]);
        }
    }

    #[test]
    fn a_refresh_needs_no_room() {
        let mut switch = Switch::new(two(WhenFull::Refuse), 1);
        fill(&mut switch);
        switch.accounts.put("alice@example.com", Account { max_bindings: Some(1), ..account("alice", "secret") });
        let refresh = Register::new().call_id("1").cseq(2).contact("<sip:1@192.0.2.5>");
        assert_eq!(status(&switch.answer(&refresh.text())), 200);
        assert_eq!(switch.contacts("alice").len(), 2);
        let swap = Register::new().cseq(3).contact("<sip:1@192.0.2.5>;expires=0, <sip:3@192.0.2.5>");
        assert_eq!(status(&switch.answer(&swap.text())), 403);
    }

    #[test]
    fn a_binding_that_has_run_out_takes_no_room() {
        let mut switch = Switch::new(two(WhenFull::Refuse), 1);
        fill(&mut switch);
        switch.advance(3600);
        assert_eq!(status(&switch.answer(&Register::new().contact("<sip:3@192.0.2.5>").text())), 200);
        assert_eq!(switch.contacts("alice"), ["sip:3@192.0.2.5"]);
    }

    #[test]
    fn a_request_of_very_many_contacts_is_refused() {
        let mut switch = Switch::with(|s| s.max_bindings = 1000);
        let contacts: Vec<_> = (0..65).map(|n| format!("<sip:{n}@192.0.2.5>")).collect();
        assert_eq!(status(&switch.answer(&Register::new().contact(&contacts.join(",")).text())), 403);
    }

    #[test]
    fn bindings_too_long_to_be_kept_are_refused() {
        let mut switch = Switch::with(|s| s.max_bindings = 1000);
        let long = "x".repeat(4000);
        let contacts =
            |from: u32| -> Vec<_> { (from..from + 12).map(|n| format!("<sip:{n}@192.0.2.5;{long}>")).collect() };
        let register = |cseq| {
            contacts(cseq * 12).iter().fold(Register::new().cseq(cseq), |register, contact| register.contact(contact))
        };
        assert_eq!(status(&switch.answer(&register(1).text())), 200);
        assert_eq!(status(&switch.answer(&register(2).text())), 513);
        assert_eq!(switch.contacts("alice").len(), 12);
    }
}

mod step_8 {
    use super::*;

    #[test]
    fn every_binding_is_told_with_what_its_contact_said() {
        let mut switch = Switch::with(|s| s.server = "ringswitch".into());
        let first = "\"Alice\" <sip:a@192.0.2.5;ob>;q=0.25;expires=60;methods=\"INVITE, BYE\";+sip.ice";
        switch.answer(&Register::new().contact(first).text());
        switch.advance(10);
        let answer = switch.answer(&Register::new().call_id("2").contact("sip:b@192.0.2.5;foo=\"x;y\"").text());
        assert_eq!(
            answer,
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bK1\r\nFrom: <sip:alice@example.com>;tag=f\r\n\
             To: <sip:alice@example.com>;tag=TAG\r\nCall-ID: 2\r\nCSeq: 1 REGISTER\r\nDate: Fri, 15 Jan 2027 08:00:10 GMT\r\n\
             Contact: <sip:a@192.0.2.5;ob>;expires=50;q=0.250;methods=\"INVITE, BYE\";+sip.ice\r\n\
             Contact: <sip:b@192.0.2.5>;expires=3600;foo=\"x;y\"\r\nServer: ringswitch\r\nContent-Length: 0\r\n\r\n"
                .replace("TAG", to_tag(&answer))
        );
    }

    #[test]
    fn a_retransmission_gets_the_same_tag_and_another_request_another() {
        // §8.2.7.
        let mut switch = Switch::open();
        let [first, again, other] = [1, 1, 2].map(|cseq| switch.answer(&Register::new().cseq(cseq).text()));
        assert_eq!(to_tag(&first), to_tag(&again));
        assert_ne!(to_tag(&first), to_tag(&other));
    }

    #[test]
    fn record_route_is_ignored() {
        let register = Register::new().contact(CONTACT).header("Record-Route: <sip:proxy.example;lr>");
        assert!(headers(&Switch::open().answer(&register.text()), "Record-Route").is_empty());
    }

    fn to_tag(answer: &str) -> &str {
        headers(answer, "To")[0].split_once(";tag=").expect("a tag").1
    }
}
