//! The journal's writer: groups, segments, and what happens when the disk refuses.

use super::cdrs::Search;
use super::compaction::Compaction;
use super::disk::Disk;
use super::kept::{Kept, News};
use super::spare::Spares;
use super::state::JournalState;
use crate::config;
use crate::io::JournalInlet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use store::journal::{Segment, SegmentHeader, Segments};

/// A group of no more than this is not waited for to grow: the disk writes no less.
const PAGE_OCTETS: usize = 4096;

/// How long nothing is tried after the disk has refused.
const RETRY: Duration = Duration::from_secs(1);

/// The writer of one process.
pub(super) struct Journal<D: Disk> {
    disk: D,
    segments: Segments,
    /// The file of the current segment; none before its first group.
    file: Option<D::File>,
    /// Up to where that file has been made ready.
    room: u64,
    spares: Rc<Spares<D::File>>,
    inlets: Vec<Inlet>,
    /// The inlet that the next group begins with, so that none is always the last.
    first: usize,
    group_octets: usize,
    compaction: Compaction<D::File>,
    kept: Kept,
    /// A search for CDRs that wait in the journal.
    search: Option<Search<D::File>>,
    /// Set while the disk refuses: when to try again.
    retry_at: Option<Instant>,
    state: Arc<JournalState>,
    _sentinel: Sentinel,
}

/// Tells that the journal has ended by a panic: from then on no record is settled, and shards refuse what they cannot
/// keep.
struct Sentinel(Arc<JournalState>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_fault(Some("the clerk's thread has panicked; restart the switch".to_owned()));
            tracing::error!(
                "the clerk has panicked: nothing is kept, and registrations and calls are refused; restart the switch"
            );
        }
    }
}

/// The clerk's end of one shard's link.
pub(super) struct Inlet {
    pub(super) link: JournalInlet,
    /// The highest barrier of the batches that were taken.
    pub(super) barrier: u64,
    /// The last batch of the group that is under way, and whether any of the group holds records.
    last: Option<u64>,
    has_records: bool,
}

impl<D: Disk> Journal<D> {
    pub(super) fn new(
        disk: D,
        settings: &config::Journal,
        found: Vec<Segment>,
        spares: Rc<Spares<D::File>>,
        inlets: Vec<JournalInlet>,
        kept: Kept,
        state: Arc<JournalState>,
    ) -> Self {
        let inlet = |link| Inlet { link, barrier: 0, last: None, has_records: false };
        let octets = found.iter().map(|segment| segment.octets).sum();
        let journal = Self {
            disk,
            segments: Segments::new(settings.segment_bytes, found),
            file: None,
            room: 0,
            spares,
            inlets: inlets.into_iter().map(inlet).collect(),
            first: 0,
            group_octets: settings.group_bytes as usize,
            compaction: Compaction::new(octets),
            kept,
            search: None,
            retry_at: None,
            _sentinel: Sentinel(state.clone()),
            state,
        };
        journal.publish();
        journal
    }

    /// Whether there is nothing to do until a shard wakes the clerk.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let may_try = self.retry_at.is_none_or(|at| at <= now);
        let has_cdrs = self.search.is_some() || self.kept.cdrs.wants_search(now) || self.kept.cdrs.has_news();
        let compacts = self.retry_at.is_none() && self.compaction.has_work(&self.segments, &self.kept, now);
        self.is_drained() && !(may_try && has_cdrs) && !compacts
    }

    /// Whether the rings of all shards are empty.
    pub(super) fn is_drained(&self) -> bool {
        self.inlets.iter().all(|inlet| inlet.link.batches.is_empty())
    }

    /// Commits what waits in the rings, with a step of compaction behind it, as one group. True if what waited was more than a
    /// page and was not refused, and all of it: the next group is to gather for a while.
    pub(super) async fn commit(&mut self, now: Instant) -> bool {
        let (mut group, batches) = self.gather();
        if !group.is_empty() && self.retry_at.is_some_and(|at| now < at) {
            self.refuse();
            return false;
        }
        let records = group.len();
        let news = News::of(&group);
        if self.retry_at.is_none_or(|at| at <= now) {
            self.kept.cdrs.put_written(&mut group);
        }
        if self.retry_at.is_none() {
            self.compaction.step(&self.disk, &self.segments, &self.kept, now, &mut group).await;
        }
        if !group.is_empty() {
            let octets = group.len();
            if let Err(error) = self.append(group).await {
                self.failed(&error, now).await;
                self.refuse();
                return false;
            }
            self.recovered();
            self.kept.committed(news);
            self.kept.cdrs.told();
            self.compaction.written(records, self.segments.octets());
            self.state.groups.fetch_add(1, Relaxed);
            self.state.batches.fetch_add(batches, Relaxed);
            self.state.written.fetch_add(octets as u64, Relaxed);
            self.state.copied.fetch_add((octets - records) as u64, Relaxed);
        }
        self.settle(true);
        if let Some(number) = self.compaction.committed(&self.inlets) {
            self.disk.delete(number);
            self.segments.deleted(number);
            self.state.deleted.fetch_add(1, Relaxed);
        }
        let may_try = self.retry_at.is_none_or(|at| at <= now);
        if may_try && (self.search.is_some() || self.kept.cdrs.wants_search(now)) {
            let search = self.search.take();
            self.search = self.kept.cdrs.search(search, &self.disk, &self.segments, now).await;
        }
        self.publish();
        (PAGE_OCTETS + 1..self.group_octets).contains(&records)
    }

    /// Takes whole batches from the rings in turn until the group is full. Gives their records, and how many they are.
    fn gather(&mut self) -> (Vec<u8>, u64) {
        let (mut group, mut batches) = (Vec::new(), 0);
        let first = self.first;
        self.first = (first + 1) % self.inlets.len().max(1);
        let (behind, ahead) = self.inlets.split_at_mut(first);
        for inlet in ahead.iter_mut().chain(behind) {
            while group.len() < self.group_octets
                && let Some(batch) = inlet.link.batches.pop()
            {
                batches += 1;
                inlet.last = Some(batch.number);
                inlet.barrier = batch.barrier;
                inlet.has_records |= !batch.records.is_empty();
                if group.is_empty() {
                    group = batch.records;
                } else {
                    group.extend_from_slice(&batch.records);
                }
            }
        }
        (group, batches)
    }

    /// Writes `group` behind all others, onto the medium.
    async fn append(&mut self, group: Vec<u8>) -> io::Result<()> {
        if self.segments.is_full() || self.outgrows(group.len()) {
            self.close().await;
            self.segments.rotate();
        }
        let Segment { number, octets: end } = self.segments.current();
        if self.file.is_none() {
            let file = self.begin(number).await?;
            let file = self.file.insert(file);
            write_all(&self.disk, file, SegmentHeader { number }.encode().to_vec(), 0).await?;
            self.disk.sync(file).await?;
            self.disk.sync_directory().await?;
        }
        let file = self.file.as_ref().expect("it is made above");
        let octets = group.len() as u64;
        whole(group.len(), self.disk.commit(file, &group, end)?)?;
        self.segments.appended(octets);
        Ok(())
    }

    /// Whether so many octets are better written to the spare than behind the current segment.
    fn outgrows(&self, octets: usize) -> bool {
        let end = self.segments.current().octets + octets as u64;
        self.file.is_some() && end > self.room && self.spares.is_ready()
    }

    /// The file of a new segment.
    async fn begin(&mut self, number: u64) -> io::Result<D::File> {
        // A disk that refuses what is written to a segment may take zeros, time after time.
        let may_take = self.retry_at.is_none();
        let Some(mut spare) = may_take.then(|| self.spares.take()).flatten() else {
            self.room = 0;
            return self.disk.create(number).await;
        };
        let adopted = self.disk.adopt_spare(&mut spare.file, number).await;
        self.spares.want_next();
        match adopted {
            Ok(()) => {
                self.room = spare.octets;
                Ok(spare.file)
            }
            Err(error) => {
                self.disk.close(spare.file).await;
                Err(error)
            }
        }
    }

    /// Closes the current segment. The zeros behind it are cut off; where that fails they are no harm.
    pub(super) async fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        let octets = self.segments.current().octets;
        if octets < self.room
            && let Err(error) = self.disk.truncate(&file, octets).await
        {
            tracing::warn!(%error, "a segment of the journal keeps the zeros behind its records");
        }
        self.disk.close(file).await;
    }

    /// Leaves the current segment as it was before the group that failed, for good: after a failed sync nobody knows what
    /// of the pages since the last one has reached the medium, and a later sync would not tell.
    async fn failed(&mut self, error: &io::Error, now: Instant) {
        if self.retry_at.is_none() {
            tracing::error!(
                %error,
                "the journal cannot be written: registrations and calls are answered 503 until it can; free or repair the disk"
            );
        }
        self.retry_at = Some(now + RETRY);
        self.state.set_fault(Some(error.to_string()));
        let Segment { number, octets } = self.segments.current();
        let is_new = octets == SegmentHeader::OCTETS as u64;
        if let Some(file) = self.file.take() {
            // What stays there if this fails is records that nobody was told are kept; whole ones may come back.
            if !is_new && let Err(error) = cut(&self.disk, &file, octets).await {
                tracing::warn!(%error, number, "a segment of the journal keeps the tail of a group that failed");
            }
            self.disk.close(file).await;
        }
        self.segments.rotate();
        if is_new {
            // What was there before us is not ours to delete.
            if error.kind() != io::ErrorKind::AlreadyExists {
                self.disk.delete(number);
            }
            self.segments.deleted(number);
        }
    }

    fn recovered(&mut self) {
        if self.retry_at.take().is_some() {
            self.state.set_fault(None);
            tracing::warn!("the journal can be written again");
        }
    }

    /// Settles the group as not kept. Its shards undo their updates, so what compaction has seen of the table no longer
    /// holds.
    fn refuse(&mut self) {
        self.settle(false);
        self.state.refused.fetch_add(1, Relaxed);
        self.compaction.abandon(&self.inlets);
        self.publish();
    }

    /// Tells each shard what became of its batches of this group. Those without records always succeed.
    fn settle(&mut self, ok: bool) {
        for inlet in &mut self.inlets {
            let has_records = std::mem::take(&mut inlet.has_records);
            if let Some(last) = inlet.last.take() {
                inlet.link.settle(last, ok || !has_records);
            }
        }
    }

    fn publish(&self) {
        let segments = self.segments.closed() + usize::from(self.file.is_some());
        self.state.segments.store(segments as u64, Relaxed);
        self.state.octets.store(self.segments.octets(), Relaxed);
        self.state.calls.store(self.kept.calls.len() as u64, Relaxed);
        self.state.unwritten_cdrs.store(self.kept.cdrs.index.len() as u64, Relaxed);
    }
}

/// Writes all of `octets` at an offset.
pub(super) async fn write_all<D: Disk>(disk: &D, file: &D::File, octets: Vec<u8>, at: u64) -> io::Result<()> {
    whole(octets.len(), disk.write(file, octets, at).await?)
}

/// That `written` octets are all. The system says why they are not only to the next write; it is mostly this.
fn whole(len: usize, written: usize) -> io::Result<()> {
    if written == len {
        return Ok(());
    }
    let fault = format!(
        "only {written} of {len} octets were written: the disk or the process's limit of a file's size is full"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, fault))
}

async fn cut<D: Disk>(disk: &D, file: &D::File, octets: u64) -> io::Result<()> {
    disk.truncate(file, octets).await?;
    disk.sync(file).await
}
