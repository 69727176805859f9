//! A quick walk through a value in the layout that nearly all have: no white space, no folds, no escapes, no quotes.
//!
//! The steps of the scanner give at once where in 64 octets something other than plain text stands, and the walk goes from
//! one such mark to the next. A value that is laid out otherwise, and every fault, is left to [`crate::lex::Cursor`].

use crate::{
    lex::Class,
    scan::{self, STEP},
};

/// A place in a text.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'b> {
    text: &'b [u8],
    at: usize,
    /// Where the current step begins.
    base: usize,
    /// The lowest bit is that of the octet at `base`; it is set where a mark is that was not passed yet.
    marks: u64,
}

impl<'b> Walk<'b> {
    /// From the octet at `at` on, which is at most the end of `text`.
    #[inline(always)]
    pub(crate) fn new(text: &'b [u8], at: usize) -> Self {
        Self { text, at, base: at, marks: scan::marks(&text[at..]) }
    }

    #[inline(always)]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What was passed since `start`.
    #[inline(always)]
    pub(crate) fn since(&self, start: usize) -> &'b [u8] {
        &self.text[start..self.at]
    }

    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes the octets of `class`; there may be none.
    #[inline(always)]
    pub(crate) fn run(&mut self, class: Class) -> &'b [u8] {
        let start = self.at;
        loop {
            while self.marks == 0 {
                self.base += STEP;
                if self.base >= self.text.len() {
                    self.at = self.text.len();
                    return self.since(start);
                }
                // Marks may have been eaten before their step was looked at.
                let passed = self.at.saturating_sub(self.base);
                self.marks = another_step(&self.text[self.base..]) & u64::MAX << passed;
            }
            self.at = self.base + self.marks.trailing_zeros() as usize;
            if !self.peek().is_some_and(|mark| class.has(mark)) {
                return self.since(start);
            }
            self.marks &= self.marks - 1;
        }
    }

    /// Steps over `mark`, which is no plain octet, if it is next.
    #[inline(always)]
    pub(crate) fn eat(&mut self, mark: u8) -> bool {
        let is_next = self.peek() == Some(mark);
        if is_next {
            self.at += 1;
            self.marks &= self.marks.wrapping_sub(1);
        }
        is_next
    }
}

/// [`scan::marks`], out of the way: most texts have one step.
#[inline(never)]
fn another_step(bytes: &[u8]) -> u64 {
    scan::marks(bytes)
}
