//! Digest authentication against the examples of its RFCs, and what clients really send.

use proptest::{collection::vec, option, prelude::*};
use serde_json::Value;
use sip::StatusCode;
use sip::digest::{
    Algorithm, Challenge, Covered, Credentials, DigestError, Ha1, Hash, Hex, MAX_PARAM_OCTETS, Offer, Param,
    Protection, Qop, response,
};
use std::borrow::Cow;

const VECTORS: &str = include_str!("vectors/digest-and-uri/digest_rfc.json");

/// In the shape of RFC 3665 §2.1, with a response of our own: the RFC's are illustrative.
const BOB: &str = "Digest username=\"bob\", realm=\"atlanta.example.com\", \
    nonce=\"ea9c8e88df84f1cec4341ae6cbe5a359\", opaque=\"\", uri=\"sips:ss2.biloxi.example.com\", \
    response=\"dfe56131d1958046689d83306477ecc1\"";

#[test]
fn the_examples_of_the_rfcs_verify() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors.len(), 5);
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().map(str::as_bytes);
        let need = |name: &str| text(name).unwrap_or_else(|| panic!("{name} in {vector}"));
        let algorithm = text("algorithm").map_or(Algorithm::Md5, |token| Algorithm::from_token(token).unwrap());
        let ha1 = Ha1::new(algorithm, need("username"), need("realm"), need("password"));
        if let Some(expected) = text("expect_ha1") {
            assert_eq!(ha1.octets(), Hash::from_hex(expected).unwrap().octets());
        }
        let protection = text("qop").map(|qop| {
            assert_eq!(text("nc"), Some(b"00000001".as_slice()));
            Protection::new(Qop::from_token(qop).unwrap(), 1, need("cnonce"))
        });
        let covered = Covered { method: need("method"), uri: need("uri"), body: b"" };
        let answer = response(&ha1, need("nonce"), protection.as_ref(), &covered);
        assert_eq!(answer.hex().as_bytes(), need("response"), "{}", vector["source"]);
        let credentials = Credentials {
            username: Cow::Borrowed(need("username")),
            userhash: false,
            realm: Cow::Borrowed(need("realm")),
            nonce: Cow::Borrowed(need("nonce")),
            opaque: text("opaque").map(Cow::Borrowed),
            uri: Cow::Borrowed(need("uri")),
            algorithm,
            protection,
            response: answer,
        };
        let written = written(|out| credentials.write_to(out));
        let parsed = Credentials::parse(&written).unwrap();
        assert_eq!(parsed, credentials);
        assert!(parsed.verify(&ha1, need("method"), b""));
        assert!(!parsed.verify(&ha1, b"POST", b""));
        let wrong = Ha1::new(algorithm, need("username"), need("realm"), b"wrong");
        assert!(!parsed.verify(&wrong, need("method"), b""));
    }
}

#[test]
fn auth_int_covers_the_body() {
    let ha1 = Ha1::new(Algorithm::Md5, b"bob", b"biloxi.com", b"zanzibar");
    let offer = Offer { auth: false, auth_int: true };
    let challenge = Challenge { qop: offer, ..challenge(Algorithm::Md5) };
    let covered = Covered { method: b"INVITE", uri: b"sip:bob@biloxi.com", body: b"v=0\r\n" };
    let credentials = challenge.answer(b"bob", &ha1, &covered, 1, b"0a4f113b").unwrap();
    // Computed step by step with another implementation of MD5.
    assert_eq!(credentials.response.hex().as_str(), "5f802710d5eda7ca9e6aace8a344aead");
    assert!(credentials.verify(&ha1, b"INVITE", b"v=0\r\n"));
    assert!(!credentials.verify(&ha1, b"INVITE", b"v=1\r\n"));
    assert!(!credentials.verify(&ha1, b"INVITE", b""));
}

#[test]
fn an_answer_verifies_with_every_algorithm() {
    for algorithm in Algorithm::STRONGEST_FIRST {
        let challenge = challenge(algorithm);
        let challenge = written(|out| challenge.write_to(out));
        let challenge = Challenge::parse(&challenge).unwrap();
        let ha1 = Ha1::new(algorithm, b"bob", &challenge.realm, b"zanzibar");
        let covered = Covered { method: b"REGISTER", uri: b"sip:biloxi.com", body: b"" };
        let credentials = challenge.answer(b"bob", &ha1, &covered, 0x1a, b"0a4f113b").unwrap();
        let header = written(|out| credentials.write_to(out));
        let parsed = Credentials::parse(&header).unwrap();
        assert_eq!(parsed.protection.as_ref().unwrap().nonce_count(), 0x1a);
        assert!(parsed.verify(&ha1, b"REGISTER", b""));

        for other in Algorithm::STRONGEST_FIRST.into_iter().filter(|a| *a != algorithm) {
            let ha1 = Ha1::new(other, b"bob", &challenge.realm, b"zanzibar");
            assert!(!parsed.verify(&ha1, b"REGISTER", b""));
            assert_eq!(challenge.answer(b"bob", &ha1, &covered, 1, b"0a4f113b"), None);
        }
    }
}

#[test]
fn a_challenge_is_written_as_phones_expect_it() {
    let challenge = Challenge { stale: true, ..challenge(Algorithm::Sha256) };
    assert_eq!(
        String::from_utf8(written(|out| challenge.write_to(out))).unwrap(),
        "Digest realm=\"biloxi.com\", nonce=\"dcd98b71\", stale=true, algorithm=SHA-256, qop=\"auth\""
    );
}

#[test]
fn a_challenge_without_qop_is_answered_as_in_rfc_2069() {
    let challenge = Challenge::parse(b"Digest realm=\"biloxi.com\", nonce=\"dcd98b71\", stale=FALSE").unwrap();
    assert_eq!((challenge.qop, challenge.algorithm, challenge.stale), (Offer::default(), Algorithm::Md5, false));
    let ha1 = Ha1::new(Algorithm::Md5, b"bob", b"biloxi.com", b"zanzibar");
    let covered = Covered { method: b"REGISTER", uri: b"sip:biloxi.com", body: b"" };
    let credentials = challenge.answer(b"bob", &ha1, &covered, 1, b"0a4f113b").unwrap();
    assert_eq!(credentials.protection, None);
    assert!(credentials.verify(&ha1, b"REGISTER", b""));
}

#[test]
fn auth_is_chosen_before_auth_int_and_unknown_qualities_are_ignored() {
    let choose = |qop: &str| {
        let header = format!("Digest realm=\"r\", nonce=\"n\", qop={qop}");
        let challenge = Challenge::parse(header.as_bytes())?;
        let ha1 = Ha1::new(Algorithm::Md5, b"u", b"r", b"p");
        let covered = Covered { method: b"INVITE", uri: b"sip:b@c", body: b"" };
        Ok(challenge.answer(b"u", &ha1, &covered, 1, b"c").unwrap().protection.unwrap().qop)
    };
    assert_eq!(choose("\"auth-int, auth\""), Ok(Qop::Auth));
    assert_eq!(choose("\"auth-conf,AUTH-INT\""), Ok(Qop::AuthInt));
    assert_eq!(choose("auth"), Ok(Qop::Auth));
    assert_eq!(choose("\"auth-conf\""), Err(DigestError::Unsupported(Param::Qop)));
}

#[test]
fn the_shapes_that_clients_send_are_read_alike() {
    let expected = Credentials::parse(BOB.as_bytes()).unwrap();
    let cases = [
        BOB.replace("Digest ", "dIGEST \t "),
        BOB.replace("username", "UserName").replace("nonce=", "NONCE = "),
        BOB.replace(", ", ",\r\n\t"),
        BOB.replace(", ", " , ,"),
        BOB.replace("\"bob\"", "bob"),
        BOB.replace("\"bob\"", "\"b\\ob\""),
        format!("{BOB}, algorithm=md5"),
        format!("{BOB}, algorithm=\"MD5\""),
        format!("{BOB}, cnonce=\"1\", nc=00000001"),
        format!("{BOB}, future=\"a \\\" quote, and a comma\", other=1"),
    ];
    for case in cases {
        assert_eq!(Credentials::parse(case.as_bytes()).as_ref(), Ok(&expected), "{case}");
    }
}

#[test]
fn qop_may_be_quoted_and_a_nonce_count_in_capitals_is_hashed_as_it_stands() {
    let header = format!("{BOB}, qop=\"auth\", cnonce=\"abc\", nc=0000000A");
    let credentials = Credentials::parse(header.as_bytes()).unwrap();
    let protection = credentials.protection.as_ref().unwrap();
    assert_eq!((protection.qop, protection.nonce_count()), (Qop::Auth, 10));
    assert!(String::from_utf8(written(|out| credentials.write_to(out))).unwrap().contains("nc=0000000A"));
    assert_ne!(*protection, Protection::new(Qop::Auth, 10, b"abc"));
}

#[test]
fn texts_are_borrowed_unless_they_have_escapes_or_folds() {
    let plain = Credentials::parse(BOB.as_bytes()).unwrap();
    assert!(matches!(plain.username, Cow::Borrowed(b"bob")));
    let header = BOB.replace("\"bob\"", "\"b \\\"\\\\\r\n  b\"");
    let escaped = Credentials::parse(header.as_bytes()).unwrap();
    assert_eq!(&*escaped.username, b"b \"\\ b");
}

#[test]
fn faults_are_named() {
    use DigestError::*;
    let cases = [
        ("NoOneKnowsThisScheme opaque-data=here".into(), OtherScheme),
        ("Basic Ym9iOnphbnppYmFy".into(), OtherScheme),
        ("Digestive x=y".into(), OtherScheme),
        (String::new(), OtherScheme),
        ("Digest".into(), Missing(Param::Username)),
        ("Digest username".into(), Malformed),
        ("Digest =bob".into(), Malformed),
        ("Digest username=".into(), Malformed),
        ("Digest username=\"bob".into(), Malformed),
        ("Digest username=\"bob\\".into(), Malformed),
        ("Digest username=\"bob\" realm=\"r\"".into(), Malformed),
        (BOB.replace("username=\"bob\"", "username=\"b\rob\""), Illegal(Param::Username)),
        (BOB.replace("username=\"bob\"", "username=\"b\\\nob\""), Malformed),
        (BOB.replace("username=\"bob\", ", ""), Missing(Param::Username)),
        (BOB.replace("realm=", "x="), Missing(Param::Realm)),
        (BOB.replace("nonce=", "x="), Missing(Param::Nonce)),
        (BOB.replace("uri=", "x="), Missing(Param::Uri)),
        (BOB.replace("response=", "x="), Missing(Param::Response)),
        (BOB.replace("6477ecc1", "6477ecc"), Illegal(Param::Response)),
        (BOB.replace("6477ecc1", "6477eccg"), Illegal(Param::Response)),
        (format!("{BOB}, algorithm=SHA-256"), Illegal(Param::Response)),
        (format!("{BOB}, algorithm=MD5-sess"), Unsupported(Param::Algorithm)),
        (format!("{BOB}, qop=auth-conf"), Unsupported(Param::Qop)),
        (format!("{BOB}, qop=auth, nc=00000001"), Missing(Param::Cnonce)),
        (format!("{BOB}, qop=auth, cnonce=\"c\""), Missing(Param::Nc)),
        (format!("{BOB}, qop=auth, cnonce=\"c\", nc=1"), Illegal(Param::Nc)),
        (format!("{BOB}, qop=auth, cnonce=\"c\", nc=+0000001"), Illegal(Param::Nc)),
        (format!("{BOB}, URI=\"sip:b@c\""), Duplicate(Param::Uri)),
        (format!("{BOB}, cnonce=\"{}\"", "c".repeat(MAX_PARAM_OCTETS)), TooLong(Param::Cnonce)),
    ];
    for (header, fault) in cases {
        assert_eq!(Credentials::parse(header.as_bytes()), Err(fault), "{header}");
        let is_ours = !matches!(fault, OtherScheme | Unsupported(_));
        assert_eq!(fault.response(), is_ours.then_some(StatusCode::BAD_REQUEST));
    }
    assert_eq!(Missing(Param::Cnonce).to_string(), "parameter cnonce is missing");
    assert_eq!(Challenge::parse(b"Digest nonce=\"n\""), Err(Missing(Param::Realm)));
    assert_eq!(Challenge::parse(b"Digest realm=\"r\""), Err(Missing(Param::Nonce)));
}

#[test]
fn a_line_end_cannot_be_smuggled_into_a_header_field() {
    let challenge = Challenge { realm: Cow::Borrowed(b"r\r\nVia: x"), ..challenge(Algorithm::Md5) };
    let header = written(|out| challenge.write_to(out));
    assert!(header.starts_with(b"Digest realm=\"r  Via: x\", "));
}

#[test]
fn what_is_stored_of_an_account_comes_back_and_is_not_shown() {
    for algorithm in Algorithm::STRONGEST_FIRST {
        let ha1 = Ha1::new(algorithm, b"bob", b"biloxi.com", b"zanzibar");
        assert_eq!(ha1.octets().len(), algorithm.octets());
        assert_eq!(Ha1::from_octets(algorithm, ha1.octets()), Some(ha1.clone()));
        assert_eq!(Ha1::from_octets(algorithm, &ha1.octets()[1..]), None);
        assert_eq!(Ha1::from_octets(algorithm, &[0; 33]), None);
        assert_eq!(format!("{ha1:?}"), format!("Ha1({}, …)", algorithm.token()));
    }
}

proptest! {
    #[test]
    fn credentials_come_back_as_they_were_written(credentials in credentials()) {
        let header = written(|out| credentials.write_to(out));
        prop_assert_eq!(Credentials::parse(&header), Ok(credentials));
    }

    #[test]
    fn challenges_come_back_as_they_were_written(
        realm in text(), nonce in text(), opaque in option::of(text()), stale: bool, algorithm in algorithm(),
        auth: bool, auth_int: bool,
    ) {
        let challenge = Challenge { realm, nonce, opaque, stale, algorithm, qop: Offer { auth, auth_int } };
        let header = written(|out| challenge.write_to(out));
        prop_assert_eq!(Challenge::parse(&header), Ok(challenge));
    }

    #[test]
    fn hashes_come_back_from_hex(hash in hash(Algorithm::Sha256)) {
        let hex: Hex = hash.hex();
        prop_assert_eq!(Hash::from_hex(hex.to_uppercase().as_bytes()), Some(hash));
    }

    #[test]
    fn arbitrary_octets_are_read_or_refused_but_never_panic(octets: Vec<u8>, cut in 0..BOB.len(), end in 0..BOB.len()) {
        let _ = Credentials::parse(&octets);
        let spliced = [&BOB.as_bytes()[..cut], &octets, &BOB.as_bytes()[end..]].concat();
        let _ = Challenge::parse(&spliced);
        if let Ok(credentials) = Credentials::parse(&spliced) {
            let ha1 = Ha1::new(credentials.algorithm, b"bob", b"r", b"p");
            credentials.verify(&ha1, b"REGISTER", &octets);
            let header = written(|out| credentials.write_to(out));
            prop_assert_eq!(Credentials::parse(&header), Ok(credentials));
        }
    }
}

fn challenge(algorithm: Algorithm) -> Challenge<'static> {
    Challenge {
        realm: Cow::Borrowed(b"biloxi.com"),
        nonce: Cow::Borrowed(b"dcd98b71"),
        opaque: None,
        stale: false,
        algorithm,
        qop: Offer::AUTH,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Any octets but those which no quoted string can hold, and no more than fit when each is escaped.
fn text() -> impl Strategy<Value = Cow<'static, [u8]>> {
    let octet = any::<u8>().prop_filter("a line end", |c| !matches!(c, b'\r' | b'\n'));
    vec(octet, 0..40).prop_map(Cow::Owned)
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    proptest::sample::select(Algorithm::STRONGEST_FIRST.to_vec())
}

fn hash(algorithm: Algorithm) -> impl Strategy<Value = Hash> {
    vec(any::<u8>(), algorithm.octets()).prop_map(|octets| {
        let hex: String = octets.iter().map(|o| format!("{o:02x}")).collect();
        Hash::from_hex(hex.as_bytes()).expect("it is as many digits as a hash has")
    })
}

fn credentials() -> impl Strategy<Value = Credentials<'static>> {
    let qop = proptest::sample::select(vec![Qop::Auth, Qop::AuthInt]);
    let protection =
        (qop, any::<u32>(), text()).prop_map(|(qop, nonce_count, cnonce)| Protection::new(qop, nonce_count, cnonce));
    let texts = (text(), text(), text(), text(), option::of(text()));
    let rest = algorithm().prop_flat_map(|algorithm| (Just(algorithm), hash(algorithm)));
    (texts, option::of(protection), any::<bool>(), rest).prop_map(
        |((username, realm, nonce, uri, opaque), protection, userhash, (algorithm, response))| Credentials {
            username,
            userhash,
            realm,
            nonce,
            opaque,
            uri,
            algorithm,
            protection,
            response,
        },
    )
}
