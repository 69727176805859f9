//! Reads the journal back at the start, before any shard runs: plain blocking reads on two threads.

use super::control;
use super::disk::segment_number;
use super::scan::Scan;
use super::start::StartError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use store::Bindings;
use store::journal::{BadHeader, Damage, Fault, Segment, SegmentHeader};

/// Segments are independent of each other, and two readers are enough to serve a million bindings within two seconds.
const THREADS: usize = 2;

/// What is read at a time.
const PIECE_OCTETS: u64 = 1 << 20;

/// The journal as it was found. It is ours from here on: the lock on its directory lives as long as this, and then as long
/// as the clerk which takes it over.
#[derive(Debug)]
pub struct Replayed {
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Records that were read, superseded ones too.
    pub records: u64,
    /// What could not be read, torn tails left out.
    pub damage: Vec<Damaged>,
    pub(super) directory: PathBuf,
    pub(super) lock: OwnedFd,
}

/// Damage in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Number of the segment.
    pub segment: u64,
    /// Where in it, and what.
    pub damage: Damage,
}

/// Loads the records of the journal in `directory`, which is made if need be, into `bindings`, and forgets those whose time
/// is over at `now`, in seconds since the Unix epoch.
///
/// The torn tail of the newest segment, which a crash leaves, is cut. Any other damage is told to the log as an error, and
/// what follows it is salvaged. Fails if another process has the journal, or if a segment cannot be read at all.
pub fn replay(directory: &Path, bindings: &Bindings, now: u64) -> Result<Replayed, StartError> {
    let started = Instant::now();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(StartError::file("create", directory))?;
    let lock = lock(directory)?;

    let mut found = list(directory).map_err(StartError::file("list", directory))?;
    let newest = found.iter().map(|&(number, _)| number).max();
    // Long segments first, so that the threads end at about the same time.
    found.sort_by_key(|(_, path)| path.metadata().map_or(0, |metadata| metadata.len()));
    let waiting = Mutex::new(found);
    let next = || waiting.lock().expect("nothing panics while it is held").pop();
    let read_all = || {
        let mut read = Vec::new();
        while let Some((number, path)) = next() {
            read.push(Reader { number, is_newest: newest == Some(number), path, bindings, now }.read()?);
        }
        Ok(read)
    };
    let read = std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(read_all));
        let read = threads.map(|thread| thread.join().expect("a reader returns its errors"));
        read.into_iter().collect::<Result<Vec<Vec<_>>, StartError>>()
    })?;

    bindings.finish_replay(now);
    let mut replayed =
        Replayed { segments: Vec::new(), records: 0, damage: Vec::new(), directory: directory.to_owned(), lock };
    for Contents { segment, records, damage } in read.into_iter().flatten() {
        replayed.segments.extend(segment);
        replayed.records += records;
        replayed.damage.extend(damage);
    }
    tracing::info!(
        segments = replayed.segments.len(),
        records = replayed.records,
        bindings = bindings.census().bindings,
        milliseconds = started.elapsed().as_millis() as u64,
        "the journal of bindings is read"
    );
    Ok(replayed)
}

/// Makes the journal ours.
fn lock(directory: &Path) -> Result<OwnedFd, StartError> {
    let file = File::open(directory).map_err(StartError::file("open", directory))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let data_dir = directory.parent().unwrap_or(directory);
            Err(StartError::InUse { data_dir: data_dir.to_owned(), pid: control::owner(data_dir) })
        }
        Err(errno) => Err(StartError::file("lock", directory)(errno.into())),
    }
}

/// The segments of a directory: number and file.
fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        found.extend(segment_number(&path).map(|number| (number, path)));
    }
    Ok(found)
}

/// What was read of a segment; no segment if there was nothing in it.
struct Contents {
    segment: Option<Segment>,
    records: u64,
    damage: Vec<Damaged>,
}

struct Reader<'a> {
    number: u64,
    path: PathBuf,
    is_newest: bool,
    bindings: &'a Bindings,
    now: u64,
}

impl Reader<'_> {
    fn read(self) -> Result<Contents, StartError> {
        let mut file = File::open(&self.path).map_err(StartError::file("open", &self.path))?;
        let mut scan = Scan::default();
        let (mut records, mut damage, mut torn_at) = (0, Vec::new(), None);
        let mut header = None;
        loop {
            let read = (&mut file).take(PIECE_OCTETS).read_to_end(scan.buffer());
            let last = (read.map_err(StartError::file("read", &self.path))? as u64) < PIECE_OCTETS;
            let header = header.get_or_insert_with(|| SegmentHeader::decode(scan.header()));
            if let Err(fault @ BadHeader::Format(_)) = *header {
                return Err(StartError::Segment { path: self.path, fault });
            }
            let found = scan.records(last, |found| match found {
                Damage { offset, fault: Fault::TornTail, .. } if self.is_newest => torn_at = Some(offset),
                found => damage.push(Damaged { segment: self.number, damage: found }),
            });
            self.bindings.load(found.inspect(|_| records += 1), self.now);
            if last {
                break;
            }
        }
        let octets = match torn_at {
            Some(at) => self.cut(at, scan.read_octets() - at)?,
            None => scan.read_octets(),
        };
        let header = header.expect("it is decoded in the first pass");
        // A crash while a segment was begun leaves a file without a header; nothing had been written behind it.
        if records == 0 && damage.is_empty() && (header.is_err() || octets == SegmentHeader::OCTETS) {
            tracing::info!(segment = self.number, "a segment without a record is removed");
            std::fs::remove_file(&self.path).map_err(StartError::file("remove", &self.path))?;
            return Ok(Contents { segment: None, records, damage });
        }
        if let Err(fault) = header {
            tracing::error!(path = %self.path.display(), %fault, "damage in the journal of bindings: its frames are read all the same");
        }
        for Damaged { damage: Damage { offset, skipped, fault }, .. } in &damage {
            tracing::error!(
                path = %self.path.display(),
                offset,
                octets = skipped,
                ?fault,
                "damage in the journal of bindings: what was kept there is lost, what follows is read"
            );
        }
        let segment = Segment { number: self.number, octets: octets as u64 };
        Ok(Contents { segment: Some(segment), records, damage })
    }

    /// Cuts a torn tail, so that it is not taken for damage when newer segments have followed.
    fn cut(&self, at: usize, torn: usize) -> Result<usize, StartError> {
        tracing::info!(
            segment = self.number,
            offset = at,
            octets = torn,
            "the last write before the end of the process was not completed, nor acknowledged; it is cut off"
        );
        let file = OpenOptions::new().write(true).open(&self.path);
        let cut = file.and_then(|file| file.set_len(at as u64).and_then(|()| file.sync_data()));
        cut.map_err(StartError::file("cut", &self.path))?;
        Ok(at)
    }
}
