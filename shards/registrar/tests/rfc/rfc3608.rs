//! RFC 3608: Service-Route.

use crate::switch::*;

#[test]
fn every_200_tells_the_service_route_and_no_other_answer_does() {
    let mut switch = Switch::with(|s| s.service_route = "<sip:edge.example.com;lr>".into());
    for (register, told) in [
        (Register::new().contact("<sip:alice@192.0.2.5>"), vec!["<sip:edge.example.com;lr>"]),
        (Register::new(), vec!["<sip:edge.example.com;lr>"]),
        (Register::new().header("Require: nonsense"), vec![]),
    ] {
        assert_eq!(headers(&switch.answer(&register.text()), "Service-Route"), told);
    }
}
