//! URIs compare as the examples of the RFCs say (RFC 3261 §19.1.4, RFC 5954 §4.2), in both directions.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use serde_json::Value;
use sip::{SipUri, Uri};

#[test]
fn uris_are_equal_as_the_rfcs_say() {
    assert!(all_are_equivalent("equal", true) >= 10);
}

#[test]
fn uris_differ_as_the_rfcs_say() {
    assert!(all_are_equivalent("not_equal", false) >= 7);
}

#[test]
fn a_uri_is_equal_to_itself_but_not_to_one_with_other_user_parameters_or_headers() {
    let same = "sip:alice@example.com;transport=tcp?subject=a";
    assert!(uri(same).is_equivalent(&uri(same)));
    for other in [
        "sips:alice@example.com;transport=tcp?subject=a",
        "sip:Alice@example.com;transport=tcp?subject=a",
        "sip:alice:secret@example.com;transport=tcp?subject=a",
        "sip:example.com;transport=tcp?subject=a",
        "sip:alice@example.com:5060;transport=tcp?subject=a",
        "sip:alice@example.com;transport=udp?subject=a",
        "sip:alice@example.com?subject=a",
        "sip:alice@example.com;transport=tcp?subject=b",
        "sip:alice@example.com;transport=tcp?subject=a&priority=urgent",
        "sip:alice@example.com;transport=tcp",
    ] {
        assert!(!uri(same).is_equivalent(&uri(other)), "{other}");
        assert!(!uri(other).is_equivalent(&uri(same)), "{other}");
    }
}

#[test]
fn uris_with_very_many_parameters_are_equal_only_octet_for_octet() {
    let many = |separator: &str| {
        let parameters: Vec<_> = (0..100).map(|n| format!("{separator}p{n}={n}")).collect();
        format!("sip:a@example.com{}", parameters.concat())
    };
    let (lower, upper) = (many(";"), many(";").replace(";p", ";P"));
    assert!(uri(&lower).is_equivalent(&uri(&lower)));
    assert!(!uri(&lower).is_equivalent(&uri(&upper)));
    assert!(!uri("sip:a@example.com").is_equivalent(&uri(&lower)));
}

fn all_are_equivalent(list: &str, expected: bool) -> usize {
    let vectors: Value = serde_json::from_str(include_str!("vectors/digest-and-uri/uri_rfc.json")).unwrap();
    let pairs = vectors[list].as_array().unwrap();
    for pair in pairs {
        let (a, b) = (pair["a"].as_str().unwrap(), pair["b"].as_str().unwrap());
        assert_eq!(uri(a).is_equivalent(&uri(b)), expected, "{a} {b}");
        assert_eq!(uri(b).is_equivalent(&uri(a)), expected, "{b} {a}");
    }
    pairs.len()
}

fn uri(raw: &str) -> SipUri<'_> {
    Uri::parse(raw.as_bytes()).and_then(Uri::sip).unwrap_or_else(|e| panic!("{raw}: {e}"))
}
