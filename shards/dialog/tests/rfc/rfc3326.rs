//! Reason (RFC 3326 §2).

use crate::harness::{message, parse, written};
use dialog::Reason;

#[test]
fn the_examples_of_section_2_are_read_and_written() {
    let text = message(&[
        "BYE sip:x SIP/2.0",
        "Reason: SIP ;cause=200 ;text=\"Call completed elsewhere\", Q.850 ;cause=16 ;text=\"Terminated\"",
        "Reason: SIP ;cause=600 ;text=\"Busy Everywhere\"",
        "Reason: FOO, ;broken",
    ]);
    let message = parse(&text);
    let reasons: Vec<_> = Reason::all(&message).collect();
    assert_eq!(reasons.len(), 4);
    assert_eq!(written(|out| reasons[0].write(out)), "SIP ;cause=200 ;text=\"Call completed elsewhere\"");
    assert_eq!(reasons[1], Reason { protocol: b"Q.850", cause: Some(16), text: b"Terminated" });
    assert_eq!(reasons[2].cause, Some(600));
    assert_eq!(written(|out| reasons[3].write(out)), "FOO");
}
