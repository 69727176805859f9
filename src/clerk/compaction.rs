//! Compaction of the oldest segment by small steps between the groups.
//!
//! What may be deleted when is [`store::journal`]'s to say: everything that stood when it was looked at is copied; then every shard passes a barrier, behind which whatever overruled the others is on the disk.
//!
//! After a group that failed, two barriers are passed before the next look. A shard sees the failure, and undoes its
//! updates, in a turn that begins after it was settled; it may have begun the turn that answers the first barrier before,
//! but not the one that answers the second, which was asked for only when the first had been answered.

use super::disk::Disk;
use super::journal::Inlet;
use super::kept::Kept;
use super::scan::Scan;
use std::io;
use std::time::{Duration, Instant};
use store::journal::{Damage, Segment, Segments, put_floor};

/// What a step reads at least: some 1500 records, which take about half a millisecond.
const STEP_OCTETS: usize = 256 << 10;

/// How long a segment that cannot be read is left alone.
const REST: Duration = Duration::from_secs(60);

pub(super) struct Compaction<F> {
    /// The last barrier that was asked for.
    barrier: u64,
    /// Octets that may be copied before the shards have written more. A compaction that a crash or a fault has cut short
    /// leaves copies beside what they are copies of; both are held by the table, and copied again, until the AOR is
    /// refreshed or runs out. Without this bound a journal of many such pairs would be copied for ever.
    credit: i64,
    phase: Phase<F>,
}

enum Phase<F> {
    /// Nothing is under way, and nothing is to be before this time.
    Idle { not_before: Option<Instant> },
    /// A segment is looked through.
    Looking(Look<F>),
    /// All of it was seen; its copies are in the group that is being written, or were before.
    Seen { number: u64 },
    /// All shards were asked for the barrier behind which it may go.
    Leaving { number: u64 },
    /// A group has failed. So many barriers are to come after the one that was asked for.
    Recovering { more: u8 },
}

struct Look<F> {
    segment: Segment,
    file: F,
    scan: Scan,
}

impl<F> Phase<F> {
    const IDLE: Self = Self::Idle { not_before: None };
}

impl<F> Compaction<F> {
    /// Nothing is under way. The `octets` that were found may be copied once.
    pub(super) fn new(octets: u64) -> Self {
        Self { barrier: 0, credit: octets as i64, phase: Phase::IDLE }
    }

    /// The shards have written so many octets, into a journal of so many. Compaction needs less than half of what this
    /// grants ([`Segments::to_compact`]), and no more than one pass is saved up.
    pub(super) fn written(&mut self, octets: usize, journal_octets: u64) {
        self.credit = (self.credit + 2 * octets as i64).min(journal_octets as i64);
    }

    /// Whether a step would do anything.
    pub(super) fn has_work(&self, segments: &Segments, kept: &Kept, now: Instant) -> bool {
        match &self.phase {
            Phase::Looking(_) => true,
            Phase::Idle { not_before } if self.credit > 0 && not_before.is_none_or(|at| at <= now) => {
                segments.to_compact(kept.journal_octets()).is_some()
            }
            Phase::Idle { .. } | Phase::Seen { .. } | Phase::Leaving { .. } | Phase::Recovering { .. } => false,
        }
    }

    /// Looks at a piece of the oldest segment, if it is to go, and puts what must stay into `group`. The piece is longer
    /// than twice the group, so that compaction is faster than what it is there for.
    pub(super) async fn step<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segments: &Segments,
        kept: &Kept,
        now: Instant,
        group: &mut Vec<u8>,
    ) {
        if !self.has_work(segments, kept, now) {
            return;
        }
        let records = group.len();
        let octets = STEP_OCTETS + 2 * records;
        match std::mem::replace(&mut self.phase, Phase::IDLE) {
            Phase::Idle { .. } => {
                let oldest = segments.to_compact(kept.journal_octets());
                let Some(segment) = oldest else { return };
                match disk.open(segment.number).await {
                    Ok(file) => {
                        put_floor(group, segment.number);
                        self.phase = Phase::Looking(Look { segment, file, scan: Scan::default() });
                    }
                    Err(error) => self.rest(segment, &error, now),
                }
            }
            Phase::Looking(mut look) => match look.step(disk, octets, kept, group).await {
                Ok(false) => self.phase = Phase::Looking(look),
                Ok(true) => {
                    disk.close(look.file).await;
                    self.phase = Phase::Seen { number: look.segment.number };
                }
                Err(error) => {
                    disk.close(look.file).await;
                    self.rest(look.segment, &error, now);
                }
            },
            other => self.phase = other,
        }
        self.credit -= (group.len() - records) as i64;
    }

    /// A group has been committed. Gives the segment that may be deleted now.
    pub(super) fn committed(&mut self, inlets: &[Inlet]) -> Option<u64> {
        if let Phase::Seen { number } = self.phase {
            self.ask(inlets);
            self.phase = Phase::Leaving { number };
        }
        let passed = inlets.iter().all(|inlet| inlet.barrier >= self.barrier);
        match self.phase {
            Phase::Leaving { number } if passed => {
                self.phase = Phase::IDLE;
                Some(number)
            }
            Phase::Recovering { more: 0 } if passed => {
                self.phase = Phase::IDLE;
                None
            }
            Phase::Recovering { more } if passed => {
                self.ask(inlets);
                self.phase = Phase::Recovering { more: more - 1 };
                None
            }
            _ => None,
        }
    }

    /// A group has failed: the oldest segment stays, and is looked at anew when all shards have undone their updates.
    pub(super) fn abandon(&mut self, inlets: &[Inlet]) {
        self.ask(inlets);
        self.phase = Phase::Recovering { more: 1 };
    }

    fn ask(&mut self, inlets: &[Inlet]) {
        self.barrier += 1;
        inlets.iter().for_each(|inlet| inlet.link.ask_barrier(self.barrier));
    }

    fn rest(&mut self, segment: Segment, error: &io::Error, now: Instant) {
        tracing::error!(
            %error,
            segment = segment.number,
            "a segment of the journal cannot be read: the journal grows until it can"
        );
        self.phase = Phase::Idle { not_before: Some(now + REST) };
    }
}

impl<F> Look<F> {
    /// Reads up to `octets` on and frames what stands of them into `group`. Tells whether this was the end.
    async fn step<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        octets: usize,
        kept: &Kept,
        group: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let at = self.scan.read_octets();
        disk.read(&self.file, at as u64, octets, self.scan.buffer()).await?;
        let last = self.scan.read_octets() - at < octets;
        let number = self.segment.number;
        let items = self.scan.items(last, |Damage { offset, skipped, fault }| {
            tracing::error!(segment = number, offset, octets = skipped, ?fault, "damage in the journal");
        });
        items.for_each(|item| kept.copy(&item, group));
        Ok(last)
    }
}
