//! The octets of RTP, and what goes between the processes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use callback::{Event, Garbled, Impersonation, MAX_OCTETS, Media, Order, Outcome, Refusal, Rtp, Silence};
use common::{answer, wanted};

/// Sequence number 0xffff, timestamp 0xfffffff0, source 0x01020304.
const ENTROPY: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4];

fn silence(formats: &str) -> Silence {
    let sdp = format!("v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP {formats}\r\n");
    Media::of_sdp(sdp.as_bytes()).unwrap().silence().unwrap()
}

#[test]
fn the_first_packet_of_pcmu_is_these_octets() {
    let packet = Rtp::new(silence("0"), ENTROPY).next_packet();
    assert_eq!(packet[..12], [0x80, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4]);
    assert_eq!(packet[12..], [0xff; 160]);
}

#[test]
fn sequence_and_timestamp_go_on_and_wrap_and_only_the_first_has_the_marker() {
    let mut rtp = Rtp::new(silence("8"), ENTROPY);
    let headers: Vec<[u8; 12]> = (0..3).map(|_| rtp.next_packet()[..12].try_into().unwrap()).collect();
    assert_eq!(headers[0], [0x80, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4]);
    assert_eq!(headers[1], [0x80, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 1, 2, 3, 4]);
    assert_eq!(headers[2], [0x80, 0x08, 0x00, 0x01, 0x00, 0x00, 0x01, 0x30, 1, 2, 3, 4]);
}

#[test]
fn each_codec_has_its_silence_and_its_clock() {
    let map = |map: &str| format!("96\r\na=rtpmap:96 {map}");
    let cases: [(String, u8, &[u8], u32); 8] = [
        ("0".into(), 0, &[0xff; 160], 160),
        ("8".into(), 8, &[0xd5; 160], 160),
        ("9".into(), 9, &[0xfd; 160], 160),
        (map("L16/8000"), 96, &[0; 320], 160),
        (map("L16/16000"), 96, &[0; 640], 320),
        (map("opus/48000/2"), 96, &[0xf8, 0xff, 0xfe], 960),
        ("18 13".into(), 13, &[127], 160),
        (format!("{}\r\na=rtpmap:97 CN/16000", map("G729/16000").replace("96\r\n", "96 97\r\n")), 97, &[127], 320),
    ];
    for (formats, payload_type, payload, ticks) in cases {
        let mut rtp = Rtp::new(silence(&formats), [0; 10]);
        let (first, second) = (rtp.next_packet(), rtp.next_packet());
        assert_eq!((first[1] & 127, &first[12..]), (payload_type, payload), "{formats}");
        assert_eq!(u32::from_be_bytes(second[4..8].try_into().unwrap()), ticks, "{formats}");
    }
}

#[test]
fn a_silent_gsm_frame_has_the_signature_and_the_least_amplitude_in_every_subframe() {
    let packet = Rtp::new(silence("3"), [0; 10]).next_packet();
    let bits: Vec<u8> = packet[12..].iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect();
    let number =
        |from: usize, length: usize| bits[from..from + length].iter().fold(0, |n, bit| n << 1 | u32::from(*bit));
    // RFC 3551 §4.5.8.1: signature 4, LARs 36, then 4 subframes of Nc 7, bc 2, Mc 2, xmaxc 6 and 13 pulses of 3 bits.
    assert_eq!((bits.len(), number(0, 4)), (264, 0xd));
    for subframe in 0..4 {
        let begin = 40 + 56 * subframe;
        assert_eq!((number(begin + 7, 2), number(begin + 11, 6)), (0, 0), "no gain, no amplitude");
        assert!((0..13).all(|pulse| number(begin + 17 + 3 * pulse, 3) == 4), "the least pulse");
    }
}

#[test]
fn orders_and_events_come_out_as_they_went_in() {
    let six = wanted(u128::MAX, u16::MAX, "[2001:db8::5]:65535", "[2001:db8::7]:1024");
    let (from, to) = (answer("203.0.113.5:1", "0"), answer("198.51.100.7:2", "96\r\na=rtpmap:96 L16/16000"));
    let four = Impersonation::new(0, &"ü".repeat(200), 0, &from, &to).unwrap();
    for wanted in [six, four] {
        let order = Order::Impersonate(wanted.clone());
        assert_eq!(Order::decode(&order.encode()), Ok(order));
        let outcomes = [
            Outcome::Sent { number: 1, of: 3 },
            Outcome::Failed { errno: -1 },
            Outcome::Failed { errno: 101 },
            Outcome::Stopped { sent: 2 },
        ];
        for outcome in outcomes.into_iter().chain(Refusal::all().map(Outcome::Refused)) {
            let event = Event::Of(wanted.clone(), outcome);
            let octets = event.encode();
            assert!(octets.len() <= MAX_OCTETS);
            assert_eq!(Event::decode(&octets), Ok(event));
        }
    }
    let stop = Order::Stop { call: 7 };
    assert_eq!(Order::decode(&stop.encode()), Ok(stop));
    for event in [Event::Died { status: 159, pause_msecs: 100 }, Event::Lost(9), Event::Garbled] {
        assert_eq!(Event::decode(&event.encode()), Ok(event));
    }
}

#[test]
fn what_is_cut_short_or_goes_on_is_refused() {
    let octets = Order::Impersonate(wanted(1, 2, "203.0.113.5:4000", "198.51.100.7:4000")).encode();
    for length in 0..octets.len() {
        assert_eq!(Order::decode(&octets[..length]), Err(Garbled), "{length}");
    }
    let longer: Vec<u8> = octets.iter().copied().chain([0]).collect();
    assert_eq!(Order::decode(&longer), Err(Garbled));
    assert_eq!(Order::decode(&Event::Garbled.encode()), Err(Garbled), "an event is no order");
    assert_eq!(Event::decode(&octets), Err(Garbled), "an order is no event");
}

#[test]
fn each_odd_field_is_refused() {
    let octets = Order::Impersonate(wanted(1, 2, "203.0.113.5:4000", "198.51.100.7:4000")).encode();
    let (user, family) = (19, 20 + "alice@example.com".len());
    let silence = octets.len() - 4;
    let changed = |place: usize, octet: u8| {
        let mut octets = octets.clone();
        octets[place] = octet;
        Order::decode(&octets)
    };
    for (place, octet) in [
        (0, 0),
        (0, 9),
        (user, 255),
        (user + 1, 0xff),
        (family, 5),
        (silence, 128),
        (silence, 72),
        (silence + 1, 7),
        (silence + 1, 4),
        (silence + 3, 1),
    ] {
        assert_eq!(changed(place, octet), Err(Garbled), "{place}: {octet}");
    }
}

#[test]
fn no_octets_do_harm_and_what_is_read_is_written_the_same() {
    let seed = Order::Impersonate(wanted(1, 2, "203.0.113.5:4000", "198.51.100.7:4000")).encode();
    bolero::check!().with_iterations(50_000).with_max_len(300).for_each(|script: &[u8]| {
        let mut octets = seed.to_vec();
        for &[place, octet] in script.as_chunks().0 {
            let place = usize::from(place) % octets.len();
            octets[place] = octet;
        }
        for octets in [&octets[..], script] {
            if let Ok(order) = Order::decode(octets) {
                assert_eq!(order.encode()[..], *octets);
            }
            if let Ok(event) = Event::decode(octets) {
                assert_eq!(event.encode()[..], *octets);
            }
        }
    });
}
