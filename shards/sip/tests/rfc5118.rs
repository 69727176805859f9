//! RFC 5118's messages about IPv6, each by its section.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use sip::{Error, HeaderName, Host, Limits, Message, Request, SipUri, Uri, Via};
use std::net::IpAddr;

macro_rules! octets {
    ($name:literal) => {
        include_bytes!(concat!("vectors/rfc5118/wire/", $name, ".dat"))
    };
}

#[test]
fn section_4_1_a_reference_is_a_host() {
    let message = message(octets!("ipv6-good"));
    let uri = sip_uri(request(&message).uri);
    assert_eq!((uri.host.ip(), uri.port), (Some(ip("2001:db8::10")), None));
    let contact = message.addresses(HeaderName::Contact).next().unwrap().unwrap();
    assert_eq!(sip_uri(contact.uri).host.ip(), Some(ip("2001:db8::1")));
    assert_eq!(top_via(&message).host.ip(), Some(ip("2001:db8::9:1")));
}

#[test]
fn section_4_2_without_brackets_it_is_none() {
    let message = message(octets!("ipv6-bad"));
    assert_eq!(Uri::parse(request(&message).uri).unwrap_err(), Error::MalformedUri);
}

#[test]
fn section_4_3_what_looks_like_a_port_is_address_inside_the_brackets() {
    let message = message(octets!("port-ambiguous"));
    let uri = sip_uri(request(&message).uri);
    assert_eq!((uri.host.ip(), uri.port), (Some(ip("2001:db8::10:5070")), None));
}

#[test]
fn section_4_4_behind_the_brackets_it_is_the_port() {
    let message = message(octets!("port-unambiguous"));
    let uri = sip_uri(request(&message).uri);
    assert_eq!((uri.host.ip(), uri.port), (Some(ip("2001:db8::10")), Some(5070)));
}

#[test]
fn section_4_5_received_comes_with_brackets_and_without_and_leaves_without() {
    for octets in [&octets!("via-received-param-with-delim")[..], octets!("via-received-param-no-delim")] {
        let message = message(octets);
        request(&message);
        let via = top_via(&message);
        assert_eq!(via.received, Some(ip("2001:db8::9:255")));
        let mut marked = Vec::new();
        via.write_marked(&mut marked, "[2001:db8::9:254]:5060".parse().unwrap());
        let marked = String::from_utf8(marked).unwrap();
        assert!(marked.contains(";received=2001:db8::9:254;branch="), "{marked}");
    }
}

#[test]
fn sections_4_6_and_4_8_session_descriptions_are_framed() {
    let of_one_family = message(octets!("ipv6-in-sdp"));
    request(&of_one_family);
    assert_eq!(of_one_family.body().len(), 251);
    let of_both = message(octets!("mult-ip-in-sdp"));
    request(&of_both);
    assert_eq!(of_both.body().len(), 189);
}

#[test]
fn section_4_7_both_families_stand_in_one_list() {
    let message = message(octets!("mult-ip-in-header"));
    request(&message);
    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    let hosts: Vec<_> = vias.iter().map(|via| via.host.ip().unwrap()).collect();
    assert_eq!(hosts, ["2001:db8::9:1", "192.0.2.1", "2001:db8::9:255"].map(ip));
    assert_eq!((vias[0].port, vias[2].received), (Some(6050), Some(ip("192.0.2.200"))));
}

#[test]
fn section_4_9_an_address_may_be_mapped() {
    let message = message(octets!("ipv4-mapped-ipv6"));
    request(&message);
    let via = top_via(&message);
    assert_eq!((via.host.ip(), via.port), (Some(ip("::ffff:192.0.2.10")), Some(19823)));
    let contact = message.addresses(HeaderName::Contact).next().unwrap().unwrap();
    assert_eq!(sip_uri(contact.uri).host.ip(), Some(ip("::ffff:192.0.2.2")));
    assert_eq!(message.body().len(), 245);
}

#[test]
fn section_4_10_an_address_has_two_colons_in_a_row_and_not_three() {
    let right = message(octets!("ipv6-correct-abnf-2-colons"));
    assert_eq!(sip_uri(request(&right).uri).host, Host::V6("2001:db8::192.0.2.1".parse().unwrap()));
    let wrong = message(octets!("ipv6-bug-abnf-3-colons"));
    assert_eq!(Uri::parse(request(&wrong).uri).unwrap_err(), Error::MalformedUri);
}

fn message(octets: &[u8]) -> Message<'_> {
    Message::parse(octets, &Limits::default()).unwrap()
}

fn request<'b>(message: &Message<'b>) -> Request<'b> {
    message.request().unwrap()
}

fn top_via<'b>(message: &Message<'b>) -> Via<'b> {
    message.vias().next().unwrap().unwrap()
}

fn sip_uri(raw: &[u8]) -> SipUri<'_> {
    Uri::parse(raw).and_then(Uri::sip).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
