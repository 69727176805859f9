//! RFC 3327: Path.

use crate::switch::*;
use bumpalo::Bump;

fn through_an_edge() -> Register {
    Register::new()
        .contact("<sip:alice@10.0.0.5>")
        .header("Path: <sip:p1.example;lr>")
        .header("Path: <sip:p2.example;lr>")
}

fn route(switch: &mut Switch) -> (String, bool) {
    let (arena, now) = (Bump::new(), switch.now);
    let target = switch.registrar(0).targets(now, "alice@example.com", &arena)[0];
    (String::from_utf8_lossy(target.route).into_owned(), target.flow.is_some())
}

#[test]
fn the_path_is_kept_in_order_and_told_to_a_client_that_supports_it() {
    // §5.3.
    let mut switch = Switch::open();
    let answer = switch.answer(&through_an_edge().header("Supported: timer, path").text());
    assert_eq!(headers(&answer, "Path"), ["<sip:p1.example;lr>,<sip:p2.example;lr>"]);
    assert_eq!(route(&mut switch), ("<sip:p1.example;lr>,<sip:p2.example;lr>".into(), false));
}

#[test]
fn the_path_of_a_client_that_does_not_support_it_is_kept_but_not_told() {
    // §5.3 leaves it to the registrar.
    let mut switch = Switch::open();
    let answer = switch.answer(&through_an_edge().text());
    assert_eq!((status(&answer), headers(&answer, "Path")), (200, vec![]));
    assert_eq!(route(&mut switch).0, "<sip:p1.example;lr>,<sip:p2.example;lr>");
}

#[test]
fn a_refresh_brings_the_path_of_its_own() {
    let mut switch = Switch::open();
    switch.answer(&through_an_edge().text());
    switch.answer(&Register::new().cseq(2).contact("<sip:alice@10.0.0.5>").text());
    assert_eq!(route(&mut switch), (String::new(), true));
}

#[test]
fn a_malformed_path_is_refused() {
    let register = Register::new().contact("<sip:alice@10.0.0.5>").header("Path: <sip:p1.example;lr>, <>");
    assert_eq!(status(&Switch::open().answer(&register.text())), 400);
}
