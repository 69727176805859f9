//! The ladder of a run: each datagram in the order in which it was sent, in words that do not depend on random texts.

use sip::{Message, StartLine};
use std::{collections::BTreeMap, fmt, fs, net::SocketAddr, path::Path, time::Duration};

/// One datagram.
struct Rung {
    at: Duration,
    from: SocketAddr,
    to: SocketAddr,
    /// Which Call-ID, in the order of their first datagrams.
    call: usize,
    what: String,
    copies: usize,
}

/// A line of the ladder.
enum Line {
    Rung(Rung),
    /// Something else that has happened.
    Note(Duration, String),
}

/// All datagrams of a run.
#[derive(Default)]
pub struct Ladder {
    names: BTreeMap<SocketAddr, String>,
    calls: BTreeMap<Vec<u8>, usize>,
    lines: Vec<Line>,
}

impl Ladder {
    pub fn name(&mut self, address: SocketAddr, name: &str) {
        self.names.insert(address, name.to_owned());
    }

    pub fn add(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, message: &Message<'_>, copies: usize) {
        let next = self.calls.len() + 1;
        let call = *self.calls.entry(message.call_id().unwrap_or_default().to_vec()).or_insert(next);
        self.lines.push(Line::Rung(Rung { at, from, to, call, what: describe(message), copies }));
    }

    pub fn note(&mut self, at: Duration, what: String) {
        self.lines.push(Line::Note(at, what));
    }

    fn name_of(&self, address: SocketAddr) -> String {
        self.names.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }
}

impl Ladder {
    /// Holds the ladder to the text in `tests/sim/ladders`, or writes that anew where `UPDATE=1` is set.
    #[expect(clippy::disallowed_methods, reason = "expected ladders are files")]
    #[track_caller]
    pub fn is_that_of(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/ladders").join(name);
        let ladder = self.to_string();
        if std::env::var_os("UPDATE").is_some() {
            return fs::write(&path, ladder).expect("the ladder can be written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(ladder == expected, "{name} is now\n{ladder}\nand was\n{expected}");
    }
}

/// `INVITE 1 (body)`, `200 to INVITE 1 (body)`.
fn describe(message: &Message<'_>) -> String {
    let body = if message.body().is_empty() { "" } else { " (body)" };
    let cseq = message.value(sip::HeaderName::CSeq).map_or("?".into(), String::from_utf8_lossy);
    let (number, method) = cseq.split_once(' ').unwrap_or((&cseq, "?"));
    match message.start_line() {
        StartLine::Request { .. } => format!("{method} {number}{body}"),
        StartLine::Response { status, .. } => format!("{} to {method} {number}{body}", status.get()),
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let rung = match line {
                Line::Rung(rung) => rung,
                Line::Note(at, what) => {
                    writeln!(f, "{:>8} ms  {what}", at.as_millis())?;
                    continue;
                }
            };
            let fate = match rung.copies {
                0 => "  lost",
                1 => "",
                _ => "  twice",
            };
            let (from, to) = (self.name_of(rung.from), self.name_of(rung.to));
            writeln!(f, "{:>8} ms  {from:>10} -> {to:<10}  #{} {}{fate}", rung.at.as_millis(), rung.call, rung.what)?;
        }
        Ok(())
    }
}
