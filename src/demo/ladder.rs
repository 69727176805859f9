//! The message ladder, one line a message, as it flows.

use sip::{Message, StartLine};
use std::time::Instant;

/// Prints who sends what to whom: alice at the left, the switch in the middle, bob at the right.
pub struct Ladder {
    started: Instant,
}

/// Characters between two of the three.
const WIDTH: usize = 34;

impl Ladder {
    /// Prints the heads.
    pub fn new() -> Self {
        println!("      ms  {:<WIDTH$}{:<WIDTH$}bob", "alice", "ringswitch");
        Self { started: Instant::now() }
    }

    /// Prints one message. It runs between `phone` and the switch, `outward` from the phone.
    pub fn show(&self, phone: &str, outward: bool, message: &Message<'_>) {
        let text = match message.start_line() {
            StartLine::Request { method, .. } => String::from_utf8_lossy(method.as_bytes()).into_owned(),
            StartLine::Response { status, reason } => {
                let method = message.response().map(|r| r.cseq.method);
                let of = method.map_or_else(|_| String::new(), |m| format!(" ({m:?})"));
                format!("{} {}{of}", status.get(), String::from_utf8_lossy(reason))
            }
        };
        let is_left = phone == "alice";
        let rightward = is_left == outward;
        let dashes = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 5));
        let arrow = if rightward { format!("─ {text} {dashes}▶") } else { format!("◀─ {text} {dashes}") };
        let ms = self.started.elapsed().as_secs_f64() * 1000.0;
        let (left, right) = if is_left { (arrow, String::new()) } else { (" ".repeat(WIDTH - 1), arrow) };
        println!("{}", format!("{ms:>8.3}  │{left}│{right}{}", if is_left { "" } else { "│" }).trim_end());
    }
}
