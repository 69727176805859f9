//! The file of the next segment, made ready while the current one is written.
//!
//! The sync of a file that has grown waits for more than its data. The file system has given it blocks, marks them as
//! written when the data has come, and writes down how long the file is; ext4 leaves part of that to a thread of the
//! kernel, which has been seen to come seconds late where scripts keep a core busy. A group that goes over zeros which
//! are on the disk already needs none of it: one write, and one flush of the device.
//!
//! It is a file of its own, since a sync takes all of a file with it. Where none is ready in time, a segment grows
//! as it is written.
//!
//! There is one name for spares. So the next is made only when the last has its number, or was given up: it would else be
//! made under the name that the journal is about to take.

use super::disk::Disk;
use crate::executor::Activity;
use glommio::sync::Semaphore;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The first one after a start is made before the shards run, and most switches need no longer ones.
const SHORTEST: u64 = 1 << 20;

/// However long a segment may be.
const LONGEST: u64 = 64 << 20;

/// How much longer each is than the one before, and how much shorter where the disk has no room for it.
const GROWTH: u64 = 4;

/// Zeros written at a time.
const PIECE_OCTETS: usize = 256 << 10;

/// Zeros between two syncs, so that the device never has many of them to write before it comes to a group.
const SYNC_OCTETS: u64 = 1 << 20;

/// How long none is tried after the disk has refused.
const REST: Duration = Duration::from_secs(60);

/// A file of zeros that are on the disk, without a number yet.
pub(super) struct Spare<F> {
    pub(super) file: F,
    /// Its length.
    pub(super) octets: u64,
}

/// Where spares wait: one at most.
pub(super) struct Spares<F> {
    ready: RefCell<Option<Spare<F>>>,
    wanted: Semaphore,
    next_octets: Cell<u64>,
    longest: u64,
}

impl<F> Spares<F> {
    /// None is ready, and none wanted. None is longer than a segment.
    pub(super) fn new(segment_octets: u64) -> Self {
        let next_octets = Cell::new(SHORTEST.min(segment_octets));
        Self { ready: RefCell::new(None), wanted: Semaphore::new(0), next_octets, longest: LONGEST.min(segment_octets) }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.borrow().is_some()
    }

    /// The spare that is ready, if one is. The next one is made when its name is free ([`Self::want_next`]).
    pub(super) fn take(&self) -> Option<Spare<F>> {
        self.ready.take()
    }

    /// What was taken is a segment now, or given up; or the first one could not be made.
    pub(super) fn want_next(&self) {
        self.wanted.signal(1);
    }

    /// Makes a spare. There is none, and none that was taken is without its number.
    pub(super) async fn make<D: Disk<File = F>>(&self, disk: &D) -> io::Result<()> {
        let octets = self.next_octets.get();
        let file = disk.create_spare().await?;
        match fill(disk, &file, octets).await {
            Ok(()) => {
                self.ready.replace(Some(Spare { file, octets }));
                self.next_octets.set((octets * GROWTH).min(self.longest));
                Ok(())
            }
            Err(error) => {
                disk.close(file).await;
                disk.remove_spare().await;
                self.next_octets.set((octets / GROWTH).max(SHORTEST.min(self.longest)));
                Err(error)
            }
        }
    }

    /// Makes one whenever one is wanted, for ever.
    pub(super) async fn keep_ready<D: Disk<File = F>>(&self, disk: &D, activity: &Rc<Activity>) {
        while self.wanted.acquire(1).await.is_ok() {
            let _under_way = activity.begin();
            while let Err(error) = self.make(disk).await {
                tracing::warn!(%error, "no file can be made ready for the journal: its syncs take longer until one can");
                glommio::timer::sleep(REST).await;
            }
        }
    }

    /// Takes away what is ready, or was being made, at the end.
    pub(super) async fn remove<D: Disk<File = F>>(&self, disk: &D) {
        if let Some(spare) = self.ready.take() {
            disk.close(spare.file).await;
        }
        disk.remove_spare().await;
    }
}

/// Writes zeros to the disk.
async fn fill<D: Disk>(disk: &D, file: &D::File, octets: u64) -> io::Result<()> {
    let (mut at, mut synced) = (0, 0);
    while at < octets {
        let piece = vec![0; PIECE_OCTETS.min((octets - at) as usize)];
        super::journal::write_all(disk, file, piece, at).await?;
        at = (at + PIECE_OCTETS as u64).min(octets);
        if at == octets || at - synced >= SYNC_OCTETS {
            disk.sync(file).await?;
            synced = at;
        }
    }
    Ok(())
}
