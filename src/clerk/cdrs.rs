//! The way of call detail records from the journal to the database.
//!
//! A record that is committed goes to the writer's thread at once, while its queue has room. If it has none, because the
//! database is slow or refuses, the record stays in the journal, and the journal is looked through for such records when
//! the queue is half empty again. What the database has is told to the journal, so that a restart offers only the rest;
//! what a crash comes between is offered again and makes no second row.

use super::disk::Disk;
use super::scan::Scan;
use crate::cdr;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};
use store::journal::{Item, Segment, Segments};
use store::{CdrId, CdrIndex, MAX_WRITTEN_IDS, PackedCdr, put_cdrs_written};

/// What a step of a search reads.
const STEP_OCTETS: usize = 256 << 10;

/// How long no search is made when one has met a segment that cannot be read.
const REST: Duration = Duration::from_secs(10);

/// The records that the database does not have, and the way there.
pub(super) struct Cdrs {
    pub(super) index: CdrIndex,
    /// None in a process that keeps no calls.
    queue: Option<cdr::Queue>,
    /// What the database has and the journal does not tell yet.
    written: Vec<CdrId>,
    not_before: Option<Instant>,
}

/// A search of all segments for records that wait.
pub(super) struct Search<F> {
    segments: VecDeque<Segment>,
    reading: Option<(F, Scan, Segment)>,
}

impl Cdrs {
    pub(super) fn new(index: CdrIndex, queue: Option<cdr::Queue>) -> Self {
        Self { index, queue, written: Vec::new(), not_before: None }
    }

    /// The record is on the disk.
    pub(super) fn committed(&mut self, cdr: PackedCdr<'static>) {
        self.index.committed(cdr.id(), cdr.octets());
        self.hand(cdr);
    }

    /// Whether the database has records of which the journal does not tell yet.
    pub(super) fn has_news(&self) -> bool {
        !self.written.is_empty() || self.queue.as_ref().is_some_and(cdr::Queue::has_written)
    }

    /// Appends what the journal is to be told about the database.
    pub(super) fn put_written(&mut self, group: &mut Vec<u8>) {
        if let Some(queue) = &self.queue {
            queue.take_written(&mut self.written);
        }
        self.written.iter().for_each(|&id| self.index.written(id));
        self.written.chunks(MAX_WRITTEN_IDS).for_each(|ids| put_cdrs_written(group, ids));
    }

    /// That is on the disk.
    pub(super) fn told(&mut self) {
        self.written.clear();
    }

    /// Whether a search would find records and a place for them.
    pub(super) fn wants_search(&self, now: Instant) -> bool {
        let on_the_way = self.index.len() - self.index.waiting();
        self.index.waiting() > 0
            && self.queue.as_ref().is_some_and(|queue| on_the_way * 2 <= queue.capacity())
            && self.not_before.is_none_or(|at| at <= now)
    }

    /// Goes on with a search, or begins one. Gives it back unless it has ended.
    pub(super) async fn search<D: Disk>(
        &mut self,
        search: Option<Search<D::File>>,
        disk: &D,
        segments: &Segments,
        now: Instant,
    ) -> Option<Search<D::File>> {
        let mut search = search.unwrap_or_else(|| Search { segments: segments.all().collect(), reading: None });
        match self.step(&mut search, disk).await {
            Ok(true) => Some(search),
            Ok(false) => None,
            // Compaction has deleted what was to be read: what it held is in a later segment, for the next search.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(%error, "CDRs that wait in the journal cannot be read; trying again");
                self.not_before = Some(now + REST);
                None
            }
        }
    }

    /// Reads on. Tells whether there is more to read and room for it.
    async fn step<D: Disk>(&mut self, search: &mut Search<D::File>, disk: &D) -> io::Result<bool> {
        let Some((file, mut scan, segment)) = search.reading.take() else {
            let Some(segment) = search.segments.pop_front() else { return Ok(false) };
            search.reading = Some((disk.open(segment.number).await?, Scan::default(), segment));
            return Ok(true);
        };
        let at = scan.read_octets();
        let octets = STEP_OCTETS.min(segment.octets as usize - at);
        if let Err(error) = disk.read(&file, at as u64, octets, scan.buffer()).await {
            disk.close(file).await;
            return Err(error);
        }
        let last = scan.read_octets() == segment.octets as usize || scan.read_octets() - at < octets;
        let mut has_room = true;
        for item in scan.items(last, |_| {}) {
            if let Item::Cdr(cdr) = item
                && self.index.is_waiting(cdr.id())
            {
                has_room = has_room && self.hand(cdr.into_owned());
            }
        }
        if last || !has_room {
            disk.close(file).await;
        } else {
            search.reading = Some((file, scan, segment));
        }
        Ok(has_room)
    }

    /// Gives a record to the writer. Tells whether there was room.
    fn hand(&mut self, cdr: PackedCdr<'static>) -> bool {
        let id = cdr.id();
        let has_room = self.queue.as_ref().is_some_and(|queue| queue.push(cdr));
        if has_room {
            self.index.handed(id);
        }
        has_room
    }
}
