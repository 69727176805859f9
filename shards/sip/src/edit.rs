//! Editing a message on its way through (RFC 3261 §16.4 to §16.7): a list of slices, the untouched ones borrowed.
//!
//! An edit is a sorted list of splices: at an offset, leave out some octets, put in others. The slices that result go to
//! a scatter-gather send. New octets live in the turn's arena.

use crate::{HeaderName, Message, StartLine, Via, octets::decimal, write};
use bumpalo::{Bump, collections::Vec as BumpVec};
use std::net::SocketAddr;

/// Splices that a forwarded request takes: each operation below makes one or two.
const USUAL_SPLICES: usize = 8;

/// Changes to one message.
pub struct Edit<'m, 'b> {
    message: &'m Message<'b>,
    arena: &'b Bump,
    splices: BumpVec<'b, Splice<'b>>,
}

/// At `at`, `remove` octets give way to `insert`.
#[derive(Clone, Copy)]
struct Splice<'b> {
    at: usize,
    remove: usize,
    insert: &'b [u8],
    /// The octets of what is put in behind which blanks may be put; 0 for none.
    before_slack: u8,
}

impl<'m, 'b> Edit<'m, 'b> {
    /// An edit of `message` that changes nothing yet.
    pub fn new(message: &'m Message<'b>, arena: &'b Bump) -> Self {
        Self { message, arena, splices: BumpVec::with_capacity_in(USUAL_SPLICES, arena) }
    }

    fn splice(&mut self, at: usize, remove: usize, insert: &'b [u8]) {
        self.put(Splice { at, remove, insert, before_slack: 0 });
    }

    fn put(&mut self, splice: Splice<'b>) {
        let at = splice.at;
        // What is put in at an offset stands before what is taken away there.
        let is_before = |s: &Splice<'_>| s.at < at || (s.at == at && s.remove == 0);
        let place = self.splices.iter().rposition(is_before).map_or(0, |i| i + 1);
        debug_assert!(
            place == 0 || self.splices[place - 1].at + self.splices[place - 1].remove <= at,
            "two edits of the same octets"
        );
        self.splices.insert(place, splice);
    }

    /// Where `part`, a slice of the message, begins in it.
    fn offset(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.message.bytes().as_ptr() as usize
    }

    /// Puts `with` in the place of `part`, which must be a slice of the message's octets.
    pub fn replace(&mut self, part: &[u8], with: &'b [u8]) {
        let at = self.offset(part);
        self.splice(at, part.len(), with);
    }

    /// Rewrites the Request-URI (§16.6 step 2).
    pub fn set_request_uri(&mut self, uri: &'b [u8]) {
        if let StartLine::Request { uri: old, .. } = self.message.start_line() {
            self.replace(old, uri);
        }
    }

    /// Puts whole header lines before all others: what is pushed (Via, Record-Route, Route) stands first this way.
    pub fn push_lines(&mut self, lines: &'b [u8]) {
        self.splice(self.message.headers_start(), 0, lines);
    }

    /// The same for lines of which the first is our Via. Behind its colon there may be any number of blanks (§7.3.1), and
    /// [`Self::finish_with_slack`] tells where that is.
    pub fn push_via(&mut self, lines: &'b [u8]) {
        debug_assert!(lines.starts_with(b"Via:"));
        self.put(Splice { at: self.message.headers_start(), remove: 0, insert: lines, before_slack: 4 });
    }

    /// Puts whole header lines behind all others.
    pub fn append_lines(&mut self, lines: &'b [u8]) {
        self.splice(self.message.headers_end(), 0, lines);
    }

    /// Takes the first value of a list header away, with its line if it is the line's only one. `value` is that value as
    /// the parser gave it.
    pub fn pop(&mut self, name: HeaderName, value: &[u8]) {
        let Some(header) = self.message.all(name).next() else { return };
        let behind = header.value.len() - (self.offset(value) - self.offset(header.value)) - value.len();
        let after = &header.value[header.value.len() - behind..];
        match memchr::memchr(b',', after) {
            None => self.replace(header.line, &[]),
            Some(comma) => {
                let (at, end) = (self.offset(header.value), self.offset(after) + comma + 1);
                self.splice(at, end - at, &[]);
            }
        }
    }

    /// Takes a whole header line away.
    pub fn remove_line(&mut self, line: &[u8]) {
        self.replace(line, &[]);
    }

    /// Sets Max-Forwards (§16.6 step 3), adding it where it is missing.
    pub fn set_max_forwards(&mut self, hops: u8) {
        match self.message.value(HeaderName::MaxForwards) {
            Some(old) => self.replace(old, decimal(hops)),
            None => {
                let mut line = BumpVec::new_in(self.arena);
                write::header(&mut line, HeaderName::MaxForwards, decimal(hops));
                self.append_lines(line.into_bump_slice());
            }
        }
    }

    /// Marks the topmost Via with where the request really came from (§18.2.1; RFC 3581 §4): `received` where sent-by is
    /// another address or `rport` is asked for, and `rport`'s value.
    pub fn mark_received(&mut self, via: &Via<'b>, source: SocketAddr) {
        let start = self.offset(via.raw);
        via.mark(source, |at, remove, text| self.splice(start + at, remove, self.arena.alloc_slice_copy(text)));
    }

    /// The edited message as slices.
    pub fn finish(self) -> &'b [&'b [u8]] {
        self.finish_with_slack().0
    }

    /// The edited message as slices, and the slice before which blanks may be put.
    pub fn finish_with_slack(self) -> (&'b [&'b [u8]], Option<u32>) {
        let bytes = self.message.bytes();
        let mut slack = None;
        let mut slices = BumpVec::with_capacity_in(2 * self.splices.len() + 2, self.arena);
        let mut at = 0;
        for splice in &self.splices {
            if splice.at > at {
                slices.push(&bytes[at..splice.at]);
            }
            let (before, insert) = splice.insert.split_at(splice.before_slack.into());
            if !before.is_empty() {
                slices.push(before);
                slack = Some(slices.len() as u32);
            }
            if !insert.is_empty() {
                slices.push(insert);
            }
            at = splice.at + splice.remove;
        }
        if at < bytes.len() {
            slices.push(&bytes[at..]);
        }
        (slices.into_bump_slice(), slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKa, SIP/2.0/TCP host;branch=z9hG4bKb\r\n\
        Route: <sip:one;lr>\r\n\
        Route: <sip:two;lr>,<sip:three;lr>\r\n\
        Max-Forwards: 0070\r\n\
        Content-Length: 4\r\n\r\nbody";

    fn edited(text: &str, change: impl for<'b> FnOnce(&mut Edit<'_, 'b>, &Message<'b>)) -> String {
        let arena = Bump::new();
        let message = Message::parse(text.as_bytes(), &Limits::default()).unwrap();
        let mut edit = Edit::new(&message, &arena);
        change(&mut edit, &message);
        String::from_utf8(edit.finish().concat()).unwrap()
    }

    #[test]
    fn what_is_not_edited_is_not_copied() {
        let arena = Bump::new();
        let message = Message::parse(INVITE.as_bytes(), &Limits::default()).unwrap();
        let mut edit = Edit::new(&message, &arena);
        edit.push_lines(b"Via: x\r\n");
        let slices = edit.finish();
        assert_eq!(slices.len(), 3);
        assert!(std::ptr::eq(slices[2], &INVITE.as_bytes()[slices[0].len()..]));
    }

    #[test]
    fn blanks_may_stand_behind_the_colon_of_our_via() {
        let arena = Bump::new();
        let message = Message::parse(INVITE.as_bytes(), &Limits::default()).unwrap();
        let mut edit = Edit::new(&message, &arena);
        edit.set_request_uri(b"sip:other");
        edit.push_via(b"Via: x\r\nRoute: y\r\n");
        let (slices, slack) = edit.finish_with_slack();
        let (before, behind) = slices.split_at(slack.unwrap() as usize);
        assert_eq!(before.concat(), b"INVITE sip:other SIP/2.0\r\nVia:");
        assert!(behind.concat().starts_with(b" x\r\nRoute: y\r\nVia: SIP/2.0/UDP"));
        assert_eq!(Edit::new(&message, &arena).finish_with_slack().1, None);
    }

    #[test]
    fn a_forwarded_request_is_edited_in_all_its_places() {
        let text = edited(INVITE, |edit, message| {
            edit.set_max_forwards(69);
            edit.push_lines(b"Via: new\r\n");
            edit.set_request_uri(b"sip:bob@192.0.2.4");
            edit.mark_received(&message.vias().next().unwrap().unwrap(), "10.0.0.2:5070".parse().unwrap());
        });
        assert_eq!(
            text,
            INVITE
                .replace("bob@example.com", "bob@192.0.2.4")
                .replace("SIP/2.0\r\nVia", "SIP/2.0\r\nVia: new\r\nVia")
                .replace(";rport;branch=z9hG4bKa", ";rport=5070;branch=z9hG4bKa;received=10.0.0.2")
                .replace("0070", "69")
        );
    }

    #[test]
    fn a_missing_max_forwards_is_added() {
        let text = edited("OPTIONS sip:a SIP/2.0\r\nTo: b\r\n\r\n", |edit, _| edit.set_max_forwards(70));
        assert_eq!(text, "OPTIONS sip:a SIP/2.0\r\nTo: b\r\nMax-Forwards: 70\r\n\r\n");
    }

    #[test]
    fn lines_are_pushed_before_one_that_is_taken_away() {
        let text = "OPTIONS sip:a SIP/2.0\r\nRoute: <sip:own;lr>\r\nTo: b\r\n\r\n";
        let pushed = text.replace("Route: <sip:own;lr>", "Via: new");
        let pop = |edit: &mut Edit<'_, '_>, message: &Message<'_>| {
            edit.pop(HeaderName::Route, message.addresses(HeaderName::Route).next().unwrap().unwrap().raw);
        };
        let pushed_first = edited(text, |edit, message| {
            edit.push_lines(b"Via: new\r\n");
            pop(edit, message);
        });
        let popped_first = edited(text, |edit, message| {
            pop(edit, message);
            edit.push_lines(b"Via: new\r\n");
        });
        assert_eq!([pushed_first, popped_first], [pushed.clone(), pushed]);
    }

    #[test]
    fn popping_takes_the_value_or_its_whole_line() {
        let pop_first = |text: &str, name| {
            edited(text, |edit, message| match name {
                HeaderName::Via => edit.pop(name, message.vias().next().unwrap().unwrap().raw),
                _ => edit.pop(name, message.addresses(name).next().unwrap().unwrap().raw),
            })
        };
        assert_eq!(
            pop_first(INVITE, HeaderName::Via),
            INVITE.replace("SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKa,", "")
        );
        let once = pop_first(INVITE, HeaderName::Route);
        assert_eq!(once, INVITE.replace("Route: <sip:one;lr>\r\n", ""));
        assert_eq!(pop_first(&once, HeaderName::Route), once.replace("<sip:two;lr>,", ""));
    }
}
