//! REGISTER with digest, as phones do it (RFC 3261 §10, §22). What the registrar decides is tested with it.

use crate::{
    phone::{Request, status},
    rig::Home,
};

#[test]
fn a_phone_with_the_right_password_is_registered_over_udp_and_over_tcp() {
    let home = Home::new("[cores]\nswitch = 2");
    home.add_account("alice@example.com", &[]);
    home.add_account("carol@example.com", &[]);
    let switch = home.start();
    for mut phone in [switch.udp(), switch.tcp()] {
        let contact = phone.contact("alice");
        let request = Request::register("alice", &contact);
        assert_eq!(status(&phone.ask_with_digest(&request, "carol").1), 403, "another user's credentials");
        assert_eq!(status(&phone.ask_with_digest(&request, "nobody").1), 401, "no user's credentials");
        let (_, answer) = phone.ask_with_digest(&Request::register("alice", &contact), "alice");
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains(&format!("\r\nContact: {contact}")), "{answer}");
    }
    let bindings = home.ask_json(&["bindings", "alice"]);
    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 2, "{bindings}");
}
