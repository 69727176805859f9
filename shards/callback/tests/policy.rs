//! Each address that is never taken, as source and as destination.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use callback::{End, Impersonation, Interface, Policy, Refusal};
use common::{answer, wanted};

const PUBLIC_4: &str = "198.51.100.7:40000";
const PUBLIC_6: &str = "[2001:db8:7::7]:40000";

fn policy(networks: &[&str]) -> Policy {
    let own = [("192.0.2.17", 24), ("203.0.113.1", 32), ("2001:db8::1", 64), ("10.1.2.3", 31)];
    let own = own.map(|(address, prefix)| Interface { address: address.parse().unwrap(), prefix });
    Policy::new(own.to_vec(), networks.iter().map(|network| network.parse().unwrap()).collect())
}

/// What is said of `address` as source and as destination.
fn said(address: &str, networks: &[&str]) -> [Result<(), Refusal>; 2] {
    let other = if address.starts_with('[') { PUBLIC_6 } else { PUBLIC_4 };
    let policy = policy(networks);
    [policy.check(&wanted(1, 1, address, other)), policy.check(&wanted(1, 1, other, address))]
}

fn is_taken(address: &str, networks: &[&str]) -> bool {
    said(address, networks) == [Ok(()), Ok(())]
}

fn refuses(addresses: &[&str], about: fn(End) -> Refusal) {
    for address in addresses {
        assert_eq!(said(address, &[]), [Err(about(End::Source)), Err(about(End::Destination))], "{address}");
    }
}

#[test]
fn public_addresses_are_taken() {
    for address in ["203.0.113.5:30000", "8.8.8.8:1024", "[2001:db8:5::5]:30001", "[2a00:1450:4001::5]:65535"] {
        assert!(is_taken(address, &[]), "{address}");
    }
}

#[test]
fn loopback_is_refused() {
    refuses(&["127.0.0.1:4000", "127.255.255.254:4000", "[::1]:4000"], Refusal::Loopback);
}

#[test]
fn multicast_is_refused() {
    refuses(&["224.0.0.1:4000", "239.255.255.255:4000", "[ff02::1]:4000", "[ff0e::1:2]:4000"], Refusal::Multicast);
}

#[test]
fn broadcast_is_refused_also_that_of_our_own_networks() {
    refuses(&["255.255.255.255:4000", "192.0.2.255:4000", "192.0.2.0:4000"], Refusal::Broadcast);
    // Others' networks cannot be told from outside, and one of two addresses has none.
    assert!(is_taken("198.51.100.255:4000", &[]));
    assert!(is_taken("10.1.2.2:4000", &["10.0.0.0/8"]));
}

#[test]
fn unspecified_is_refused() {
    // `0.0.0.0` and `::` in an answer hold it; what is left of the block comes as an address.
    refuses(&["0.1.2.3:4000"], Refusal::Unspecified);
    for held in ["c=IN IP4 0.0.0.0", "c=IN IP6 ::"] {
        let sdp = format!("v=0\r\n{held}\r\nm=audio 4000 RTP/AVP 0\r\n");
        assert!(callback::Media::of_sdp(sdp.as_bytes()).is_err());
    }
}

#[test]
fn link_local_is_refused() {
    refuses(&["169.254.1.1:4000", "[fe80::1]:4000", "[febf::1]:4000"], Refusal::LinkLocal);
}

#[test]
fn our_own_addresses_are_refused() {
    refuses(&["192.0.2.17:4000", "203.0.113.1:4000", "[2001:db8::1]:4000"], Refusal::Own);
    let own = [Err(Refusal::Own(End::Source)), Err(Refusal::Own(End::Destination))];
    assert_eq!(said("10.1.2.3:4000", &["10.0.0.0/8"]), own);
}

#[test]
fn ipv4_in_the_form_of_ipv6_is_refused() {
    refuses(&["[::ffff:8.8.8.8]:4000", "[::ffff:127.0.0.1]:4000", "[::10.0.0.1]:4000", "[::2]:4000"], Refusal::Mapped);
}

#[test]
fn reserved_is_refused() {
    refuses(&["240.0.0.1:4000", "255.255.255.254:4000"], Refusal::Reserved);
}

#[test]
fn ports_below_1024_are_refused_and_odd_ones_are_not() {
    refuses(&["198.51.100.8:1023", "198.51.100.8:53", "[2001:db8:8::8]:123"], Refusal::LowPort);
    assert!(is_taken("198.51.100.8:4001", &[]));
}

#[test]
fn private_addresses_are_refused_unless_their_network_is_listed() {
    let private = [
        ("10.0.0.1:4000", "10.0.0.0/8"),
        ("172.16.0.1:4000", "172.16.0.0/12"),
        ("172.31.255.254:4000", "172.31.0.0/16"),
        ("192.168.1.1:4000", "192.168.1.1"),
        ("100.64.0.1:4000", "100.64.0.0/10"),
        ("[fc00::1]:4000", "fc00::/7"),
        ("[fd12:3456::1]:4000", "fd12:3456::/32"),
        ("[fec0::1]:4000", "fec0::/10"),
        ("[64:ff9b:1::1]:4000", "64:ff9b:1::/48"),
    ];
    for (address, network) in private {
        refuses(&[address], Refusal::Private);
        assert!(is_taken(address, &[network]), "{address} in {network}");
        assert!(said(address, &["10.99.0.0/16", "fd99::/16"]).iter().all(Result::is_err), "{address} in others");
    }
    // Nothing else is allowed by a list.
    for address in ["127.0.0.1:4000", "169.254.1.1:4000", "192.0.2.17:4000", "224.0.0.1:4000"] {
        assert!(said(address, &["0.0.0.0/0"]).iter().all(Result::is_err), "{address}");
    }
}

#[test]
fn what_a_translator_or_a_tunnel_makes_of_an_address_is_judged_too() {
    refuses(&["[64:ff9b::127.0.0.1]:4000", "[2002:7f00:1::1]:4000"], Refusal::Loopback);
    refuses(&["[64:ff9b::10.0.0.1]:4000", "[2002:a00:1::1]:4000"], Refusal::Private);
    refuses(&["[64:ff9b::192.0.2.17]:4000"], Refusal::Own);
    assert!(is_taken("[64:ff9b::8.8.8.8]:4000", &[]));
}

#[test]
fn both_addresses_are_of_one_family_and_differ() {
    let check = |source, destination| policy(&[]).check(&wanted(1, 1, source, destination));
    assert_eq!(check(PUBLIC_4, PUBLIC_6), Err(Refusal::Families));
    assert_eq!(check(PUBLIC_4, PUBLIC_4), Err(Refusal::Same));
    assert!(check(PUBLIC_4, "198.51.100.7:40002").is_ok(), "one gateway with two calls");
}

#[test]
fn a_leg_without_a_known_silence_is_refused() {
    let made = Impersonation::new(1, "alice", 1, &answer(PUBLIC_4, "0"), &answer("198.51.100.8:4000", "18"));
    assert_eq!(made, Err(Refusal::NoSilence));
    // What the other one takes does not matter.
    assert!(Impersonation::new(1, "alice", 1, &answer(PUBLIC_4, "18"), &answer("198.51.100.8:4000", "0")).is_ok());
}

#[test]
fn a_long_user_is_cut_where_a_character_ends() {
    let (from, to) = (answer(PUBLIC_4, "0"), answer("198.51.100.8:4000", "0"));
    let user = |user: &str| Impersonation::new(1, user, 1, &from, &to).unwrap().user().to_owned();
    assert_eq!(user(&"a".repeat(1_000)).len(), 128);
    assert_eq!(user(&"ä€".repeat(100)), "ä€".repeat(25) + "ä");
    assert_eq!(user(""), "");
}

#[test]
fn every_refusal_has_a_text_of_its_own() {
    let mut texts: Vec<String> = Refusal::all().map(|refusal| refusal.to_string()).collect();
    let all = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((texts.len(), all), (30, 30));
}
