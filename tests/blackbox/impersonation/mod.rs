//! Calls back between gateways that latch, in a network of the test's own: with impersonation they hear each other, and without it they
//! stay silent.

mod capture;
mod confinement;
mod gateway;
mod network;

use crate::{
    own_network::in_its_own_network,
    phone::{Phone, Request, status},
    rig::{Home, Switch, wait_until},
};
use capture::Capture;
use gateway::Media;
use network::{Family, Network};
use std::{net::SocketAddr, thread::sleep, time::Duration};

/// After that long no packet is on its way any longer.
const A_WHILE: Duration = Duration::from_millis(800);

const ON: &str = "[callback]\nimpersonate = true";

/// A switch on its node, with `sections` in its configuration.
fn home(sections: &str) -> Home {
    let home = Home::bare();
    let listens = [Family::V4, Family::V6].map(|family| {
        format!(
            "[[listen]]\ntransport = \"udp\"\naddress = \"{}\"\n",
            SocketAddr::new(Network::switch_ip(family), 5060)
        )
    });
    home.configure(&format!(
        "domains = [\"example.com\"]\ndata_dir = \"{}\"\n{}\n[registrar]\nauthenticate = false\n{sections}\n",
        home.data_dir().display(),
        listens.concat()
    ));
    for user in ["alice", "bob", "carol"] {
        home.add_account(&format!("{user}@example.com"), &[]);
    }
    home
}

fn start<'h>(network: &Network, home: &'h Home) -> Switch<'h> {
    network.switch.run(|| home.start())
}

/// Two gateways whose phones are joined by a call back, and the number of that.
struct Joined {
    media: [Media; 2],
    phones: [Phone; 2],
    number: String,
}

/// Calls bob back at the first gateway and carol at the second.
fn join(network: &Network, home: &Home, family: Family) -> Joined {
    let at = |number| Network::gateway_ip(number, family);
    let media = [0, 1].map(|number| Media::open(&network.gateways[number], at(number), 0xb0b0_0000 + number as u32));
    join_with(network, home, family, media)
}

fn join_with(network: &Network, home: &Home, family: Family, media: [Media; 2]) -> Joined {
    let switch = SocketAddr::new(Network::switch_ip(family), 5060);
    let mut phones = [0, 1].map(|number| {
        let ip = Network::gateway_ip(number, family).to_string();
        network.gateways[number].run(|| Phone::udp(&ip, switch))
    });
    for (phone, user) in phones.iter_mut().zip(["bob", "carol"]) {
        let contact = phone.contact(user);
        // He may be registered at an address of the other family.
        assert_eq!(status(&phone.ask(&Request::register(user, "*").line("Expires: 0"))), 200);
        assert_eq!(status(&phone.ask(&Request::register(user, &contact))), 200);
    }
    let begun = home.ask(&["callback", "alice@example.com", "bob", "carol"]);
    let number = begun.split_whitespace().nth(2).unwrap().to_owned();
    let mut seen = [Vec::new(), Vec::new()];
    for (user, leg) in [("bob", 0), ("carol", 1), ("bob", 0)] {
        let phone = &mut phones[leg];
        let offer = phone.expect_news(&mut seen[leg]);
        assert!(offer.starts_with("INVITE "), "{offer}");
        phone.accept(&offer, user, media[leg].address);
        let ack = phone.expect_news(&mut seen[leg]);
        assert!(ack.starts_with("ACK "), "{ack}");
    }
    Joined { media, phones, number }
}

const PACKET: &str = "a packet is sent with another's source";

#[test]
fn gateways_that_latch_hear_each_other_and_every_packet_is_told() {
    in_its_own_network("impersonation::gateways_that_latch_hear_each_other_and_every_packet_is_told", || {
        let (network, home) = (Network::new(), home(ON));
        let switch = start(&network, &home);
        for family in [Family::V4, Family::V6] {
            let captures = [0, 1].map(|number| Capture::start(&network.gateways[number]));
            let joined = join(&network, &home, family);
            wait_until("both hear the other", || joined.media.iter().all(|media| media.heard() > 20));
            for (leg, capture) in captures.into_iter().enumerate() {
                let (here, there) = (&joined.media[leg], &joined.media[1 - leg]);
                check_forged(capture, &home, family, here, there);
                for number in 1..=3 {
                    let event = format!(
                        "call={} user=\"alice@example.com\" leg={} source={} destination={} number={number} of=3",
                        joined.number,
                        leg + 1,
                        there.address,
                        here.address,
                    );
                    let log = switch.log();
                    let told = log.lines().filter(|line| line.contains(PACKET) && line.ends_with(&event)).count();
                    assert_eq!(told, 1, "{event}\n{log}");
                }
            }
        }
        // Two legs of three packets each, twice.
        assert_eq!(switch.log().matches(PACKET).count(), 12);
    });
}

/// What a gateway has been sent in the other's name: three packets of silence, 20 ms apart, right to the last checksum.
fn check_forged(capture: Capture, home: &Home, family: Family, here: &Media, there: &Media) {
    let ip: &[&str] = match family {
        Family::V4 => &["ip.src", "ip.dst", "ip.ttl", "ip.len", "ip.checksum.status"],
        Family::V6 => &["ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.plen"],
    };
    let udp = ["udp.srcport", "udp.length", "udp.checksum.status"];
    let rtp = ["rtp.ssrc", "rtp.version", "rtp.p_type", "rtp.marker", "rtp.seq", "rtp.timestamp", "rtp.payload"];
    let fields = [&["frame.time_epoch"], ip, &udp, &rtp].concat();
    let packets = capture.read(&home.data_dir(), here.address.port(), Some("sip.Method == ACK"), &fields);
    let field = |packet: &[String], name: &str| packet[fields.iter().position(|field| *field == name).unwrap()].clone();
    let is_forged = |packet: &Vec<String>| {
        let ssrc = field(packet, "rtp.ssrc");
        !ssrc.is_empty() && ssrc != format!("0x{:08x}", there.ssrc)
    };
    let acknowledged = packets.iter().rposition(|packet| field(packet, "rtp.ssrc").is_empty());
    assert!(acknowledged.is_some() && acknowledged < packets.iter().position(is_forged), "{packets:?}");
    let forged: Vec<_> = packets.into_iter().filter(is_forged).collect();
    let [first, _, last] = &forged[..] else { panic!("{forged:?}") };
    let number = |packet: &[String], name| field(packet, name).parse::<f64>().unwrap_or_else(|_| panic!("{packet:?}"));
    let (source, destination) = (there.address.ip().to_string(), here.address.ip().to_string());
    for (n, packet) in forged.iter().enumerate() {
        let mut wanted = vec![
            ("udp.srcport", there.address.port().to_string()),
            // A header of 8 octets, RTP's of 12, and 20 ms of G.711.
            ("udp.length", "180".to_owned()),
            ("udp.checksum.status", "1".to_owned()),
            ("rtp.version", "2".to_owned()),
            ("rtp.p_type", "0".to_owned()),
            ("rtp.marker", if n == 0 { "True" } else { "False" }.to_owned()),
            ("rtp.ssrc", field(first, "rtp.ssrc")),
            ("rtp.seq", ((number(first, "rtp.seq") as u64 + n as u64) % (1 << 16)).to_string()),
            ("rtp.timestamp", ((number(first, "rtp.timestamp") as u64 + 160 * n as u64) % (1 << 32)).to_string()),
            ("rtp.payload", "ff".repeat(160)),
        ];
        // The router has counted one hop.
        wanted.extend(match family {
            Family::V4 => vec![
                ("ip.src", source.clone()),
                ("ip.dst", destination.clone()),
                ("ip.ttl", "63".to_owned()),
                ("ip.len", "200".to_owned()),
                ("ip.checksum.status", "1".to_owned()),
            ],
            Family::V6 => vec![
                ("ipv6.src", source.clone()),
                ("ipv6.dst", destination.clone()),
                ("ipv6.hlim", "63".to_owned()),
                ("ipv6.plen", "180".to_owned()),
            ],
        });
        for (name, value) in wanted {
            let is = field(packet, name).replace(':', if name == "rtp.payload" { "" } else { ":" });
            let is = match (name, is.as_str()) {
                ("rtp.marker", "1") => "True".to_owned(),
                ("rtp.marker", "0") => "False".to_owned(),
                _ => is,
            };
            assert_eq!(is, value, "{name} of packet {n}: {packet:?}");
        }
    }
    // 40 ms; when each is written down may be late, and the first one later than the last.
    let span = number(last, "frame.time_epoch") - number(first, "frame.time_epoch");
    assert!(span > 0.02, "{span}");
}

#[test]
fn without_impersonation_gateways_that_latch_stay_silent() {
    in_its_own_network("impersonation::without_impersonation_gateways_that_latch_stay_silent", || {
        let (network, home) = (Network::new(), home(""));
        let switch = start(&network, &home);
        for family in [Family::V4, Family::V6] {
            let captures = [0, 1].map(|number| Capture::start(&network.gateways[number]));
            let joined = join(&network, &home, family);
            switch.wait_for_log(&joined.number);
            sleep(A_WHILE);
            for (media, capture) in joined.media.iter().zip(captures) {
                let packets = capture.read(&home.data_dir(), media.address.port(), None, &["rtp.ssrc"]);
                assert_eq!((media.heard(), packets.len()), (0, 0), "{packets:?}");
            }
        }
        assert!(!switch.log().contains("impersonation"));
    });
}

#[test]
fn a_network_that_checks_sources_lets_nothing_through_and_the_call_goes_on() {
    in_its_own_network(
        "impersonation::a_network_that_checks_sources_lets_nothing_through_and_the_call_goes_on",
        || {
            let (network, home) = (Network::new(), home(ON));
            network.filter_sources(true);
            let switch = start(&network, &home);
            let mut joined = join(&network, &home, Family::V4);
            wait_until("all packets are sent", || switch.log().matches(PACKET).count() == 6);
            sleep(A_WHILE);
            assert_eq!(joined.media.each_ref().map(Media::heard), [0, 0]);
            home.ask(&["hangup", &joined.number]);
            for phone in &mut joined.phones {
                assert!(phone.expect().starts_with("BYE "));
            }
        },
    );
}

#[test]
fn what_must_not_be_impersonated_is_not_whoever_answers_so() {
    in_its_own_network("impersonation::what_must_not_be_impersonated_is_not_whoever_answers_so", || {
        let (network, home) = (Network::new(), home(ON));
        let switch = start(&network, &home);
        let good = Network::gateway_ip(0, Family::V4);
        for (told, why) in [
            ("127.0.0.1:40000", "a loopback address"),
            ("192.0.2.2:40000", "an address of this switch"),
            ("192.0.2.255:40000", "a broadcast address"),
            ("10.1.2.3:40000", "a private address"),
            ("203.0.113.2:1023", "the port of the"),
            ("224.0.0.1:40000", "a multicast address"),
        ] {
            let capture = Capture::start(&network.gateways[0]);
            let media = [Media::open(&network.gateways[0], good, 1), Media::told(told.parse().unwrap())];
            let joined = join_with(&network, &home, Family::V4, media);
            let refused = format!("an impersonation is refused call={}", joined.number);
            wait_until("both are refused", || {
                switch.log().lines().filter(|line| line.contains(&refused) && line.contains(why)).count() == 2
            });
            sleep(A_WHILE / 8);
            let packets = capture.read(&home.data_dir(), joined.media[0].address.port(), None, &["rtp.ssrc"]);
            assert_eq!(packets.len(), 0, "{told}");
        }
        assert!(!switch.log().contains(PACKET));
    });
}

#[test]
fn no_more_packets_go_out_than_may() {
    in_its_own_network("impersonation::no_more_packets_go_out_than_may", || {
        let network = Network::new();
        for (bound, calls, legs, why) in [
            ("max_packets_per_sec", 1, 1, "as many packets go out in a second as may"),
            ("max_packets_per_call", 1, 1, "the call has had as many packets as it may"),
            ("max_packets_per_destination", 2, 2, "the destination has had as many packets in a minute as it may"),
        ] {
            // Enough for one leg.
            let home = home(&format!("{ON}\n{bound} = 3"));
            let switch = start(&network, &home);
            (0..calls).for_each(|_| drop(join(&network, &home, Family::V4)));
            switch.wait_for_log(why);
            sleep(A_WHILE / 4);
            assert_eq!(switch.log().matches(PACKET).count(), legs * 3, "{bound}");
            assert_eq!(switch.log().matches(why).count(), calls * 2 - legs, "{bound}");
        }
    });
}
