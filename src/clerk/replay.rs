//! Reads the journal back at the start, before any shard runs: plain blocking reads on two threads.
//!
//! A process that takes the place of another one reads most of it ahead, while that one still writes: all segments but the
//! newest are closed, and change no more. What it has to read when the other has ended is short.

use super::disk::segment_number;
use super::scan::Scan;
use super::start::StartError;
use crate::control::InUse;
use crate::file_error::FileError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use store::journal::{BadHeader, Damage, Fault, Item, Segment, SegmentHeader};
use store::{Bindings, CallIndex, CallReplay, CdrId, CdrIndex, KeptCall, Record};

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
    /// Records of any kind that were read, superseded ones too.
    pub records: u64,
    /// What could not be read, torn tails left out.
    pub damage: Vec<Damaged>,
    /// The calls that are established or have ended just now, for the application servers to take up.
    pub calls: Vec<KeptCall>,
    pub(super) call_index: CallIndex,
    pub(super) cdr_index: CdrIndex,
    pub(super) directory: PathBuf,
    pub(super) lock: OwnedFd,
}

impl Replayed {
    /// The same after its directory was renamed.
    pub fn moved_to(self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }
}

/// The closed segments of a journal which another process still writes.
#[derive(Default)]
pub struct Ahead(Vec<Contents>);

/// Damage in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Number of the segment.
    pub segment: u64,
    /// Where in it, and what.
    pub damage: Damage,
}

/// Loads the records of the journal in `directory`, which is made if need be: those of bindings into `bindings`, where those
/// whose time is over at `now`, in seconds since the Unix epoch, are forgotten. Calls and CDRs come with what is returned.
///
/// The torn tail of the newest segment, which a crash leaves, is cut. Any other damage is told to the log as an error, and
/// what follows it is salvaged. Fails if another process has the journal, or if a segment cannot be read at all.
pub fn replay(directory: &Path, bindings: &Bindings, now: u64) -> Result<Replayed, StartError> {
    replay_rest(directory, bindings, now, Ahead::default())
}

/// Loads what another process has written in `directory` so far and closed. The table is of use after [`replay_rest`] only.
pub fn read_ahead(directory: &Path, bindings: &Bindings, now: u64) -> Result<Ahead, StartError> {
    let mut found = list(directory).map_err(FileError::of("list", directory))?;
    found.sort_by_key(|&(number, _)| number);
    found.pop();
    let read = read_all(found, None, bindings, now, false)?;
    // What is not as it should be is for the owner to mend.
    Ok(Ahead(read.into_iter().filter(|contents| contents.records > 0 && contents.damage.is_empty()).collect()))
}

/// The same as [`replay`], without the segments that were read ahead.
pub fn replay_rest(
    directory: &Path,
    bindings: &Bindings,
    now: u64,
    Ahead(mut ahead): Ahead,
) -> Result<Replayed, StartError> {
    let started = Instant::now();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(FileError::of("create", directory))?;
    let lock = lock(directory)?;

    let mut found = list(directory).map_err(FileError::of("list", directory))?;
    // The newest segment first: what it supersedes is then passed over rather than put into the table and freed again.
    found.sort_by_key(|&(number, _)| number);
    let newest = found.last().map(|&(number, _)| number);
    // A segment that compaction has deleted meanwhile tells nothing any more.
    ahead.retain(|contents| found.iter().any(|&(number, _)| number == contents.number));
    found.retain(|&(number, _)| ahead.iter().all(|contents| number != contents.number));
    let mut read = read_all(found, newest, bindings, now, true)?;
    read.extend(ahead);

    bindings.finish_replay(now);
    let told = read.iter_mut().map(|contents| (contents.number, std::mem::replace(&mut contents.told, Told::new(now))));
    let (calls, cdr_index) = standing(told.collect(), now);
    let mut replayed = Replayed {
        segments: Vec::new(),
        records: 0,
        damage: Vec::new(),
        call_index: CallIndex::new(&calls),
        cdr_index,
        calls,
        directory: directory.to_owned(),
        lock,
    };
    for Contents { segment, records, damage, .. } in read {
        replayed.segments.extend(segment);
        replayed.records += records;
        replayed.damage.extend(damage);
    }
    tracing::info!(
        segments = replayed.segments.len(),
        records = replayed.records,
        bindings = bindings.census().bindings,
        calls = replayed.calls.len(),
        cdrs = replayed.cdr_index.len(),
        milliseconds = started.elapsed().as_millis() as u64,
        "the journal is read"
    );
    Ok(replayed)
}

/// Reads segments, the last of them first.
fn read_all(
    found: Vec<(u64, PathBuf)>,
    newest: Option<u64>,
    bindings: &Bindings,
    now: u64,
    is_ours: bool,
) -> Result<Vec<Contents>, StartError> {
    let waiting = Mutex::new(found);
    let next = || waiting.lock().expect("nothing panics while it is held").pop();
    let read = || {
        let mut read = Vec::new();
        while let Some((number, path)) = next() {
            let is_newest = newest == Some(number);
            read.extend(Reader { number, is_newest, is_ours, path, bindings, now }.read()?);
        }
        Ok(read)
    };
    let read = std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(read));
        let read = threads.map(|thread| thread.join().expect("a reader returns its errors"));
        read.into_iter().collect::<Result<Vec<Vec<_>>, StartError>>()
    })?;
    Ok(read.into_iter().flatten().collect())
}

/// Makes the journal ours.
fn lock(directory: &Path) -> Result<OwnedFd, StartError> {
    let file = File::open(directory).map_err(FileError::of("open", directory))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let data_dir = directory.parent().unwrap_or(directory);
            Err(StartError::InUse(InUse::by_another(data_dir)))
        }
        Err(errno) => Err(FileError::of("lock", directory)(errno.into()).into()),
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

/// What was read of a segment.
struct Contents {
    /// None if there was nothing in it.
    segment: Option<Segment>,
    number: u64,
    records: u64,
    damage: Vec<Damaged>,
    told: Told,
}

/// What a segment tells of calls and CDRs.
pub(super) struct Told {
    floor: u64,
    calls: CallReplay,
    cdrs: Vec<(CdrId, usize)>,
    cdrs_written: Vec<CdrId>,
}

/// The calls and the CDRs that stand at `now`, in seconds since the Unix epoch, by what all segments tell: their numbers, and
/// what is in each.
pub(super) fn standing(segments: Vec<(u64, Told)>, now: u64) -> (Vec<KeptCall>, CdrIndex) {
    let floor = segments.iter().map(|(_, told)| told.floor).max().unwrap_or(0);
    let (mut calls, mut cdrs, mut written) = (CallReplay::new(now), CdrIndex::default(), Vec::new());
    for (number, told) in segments {
        written.extend(told.cdrs_written);
        if number >= floor {
            calls.merge(told.calls);
            told.cdrs.into_iter().for_each(|(id, octets)| cdrs.committed(id, octets));
        }
    }
    written.into_iter().for_each(|id| cdrs.written(id));
    (calls.finish(), cdrs)
}

impl Told {
    /// Nothing yet, of a segment that is read at `now`, in seconds since the Unix epoch.
    pub(super) fn new(now: u64) -> Self {
        Self { floor: 0, calls: CallReplay::new(now), cdrs: Vec::new(), cdrs_written: Vec::new() }
    }

    /// Takes what is told of calls and CDRs, and gives back a record of bindings.
    pub(super) fn take(&mut self, item: Item<'_>) -> Option<Record> {
        match item {
            Item::Binding(record) => return Some(record),
            Item::Call(call) => self.calls.load(call),
            Item::Cdr(cdr) => self.cdrs.push((cdr.id(), cdr.octets())),
            Item::CdrsWritten(written) => self.cdrs_written.extend(written.ids()),
            Item::Floor(number) => self.floor = self.floor.max(number),
        }
        None
    }
}

struct Reader<'a> {
    number: u64,
    path: PathBuf,
    is_newest: bool,
    /// Whether the journal is ours to mend.
    is_ours: bool,
    bindings: &'a Bindings,
    now: u64,
}

impl Reader<'_> {
    /// The contents; none of a segment that its owner has deleted.
    fn read(self) -> Result<Option<Contents>, StartError> {
        let mut file = match File::open(&self.path) {
            Err(error) if !self.is_ours && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(FileError::of("open", &self.path))?,
        };
        let mut scan = Scan::default();
        let (mut records, mut damage, mut torn_at) = (0, Vec::new(), None);
        let mut told = Told::new(self.now);
        let mut header = None;
        loop {
            let read = (&mut file).take(PIECE_OCTETS).read_to_end(scan.buffer());
            let last = (read.map_err(FileError::of("read", &self.path))? as u64) < PIECE_OCTETS;
            let header = header.get_or_insert_with(|| SegmentHeader::decode(scan.header()));
            if let Err(fault @ BadHeader::Format(_)) = *header {
                return Err(StartError::Segment { path: self.path, fault });
            }
            let found = scan.items(last, |found| match found {
                Damage { offset, fault: Fault::TornTail, .. } if self.is_newest => torn_at = Some(offset),
                found => damage.push(Damaged { segment: self.number, damage: found }),
            });
            self.bindings.load(found.inspect(|_| records += 1).filter_map(|item| told.take(item)), self.now);
            if last {
                break;
            }
        }
        let octets = torn_at.unwrap_or_else(|| scan.end());
        if let Some(at) = torn_at {
            tracing::info!(
                segment = self.number,
                offset = at,
                octets = scan.read_octets() - at,
                "the last write before the end of the process was not completed, nor acknowledged; it is cut off"
            );
        }
        if self.is_ours && octets < scan.read_octets() {
            self.cut(octets)?;
        }
        let header = header.expect("it is decoded in the first pass");
        let segment = Segment { number: self.number, octets: octets as u64 };
        if !self.is_ours {
            return Ok(Some(Contents { segment: Some(segment), number: self.number, records, damage, told }));
        }
        // A crash while a segment was begun leaves a file without a header; nothing had been written behind it.
        if records == 0 && damage.is_empty() && (header.is_err() || octets == SegmentHeader::OCTETS) {
            tracing::info!(segment = self.number, "a segment without a record is removed");
            std::fs::remove_file(&self.path).map_err(FileError::of("remove", &self.path))?;
            return Ok(Some(Contents { segment: None, number: self.number, records, damage, told }));
        }
        if let Err(fault) = header {
            tracing::error!(path = %self.path.display(), %fault, "damage in the journal: its frames are read all the same");
        }
        for Damaged { damage: Damage { offset, skipped, fault }, .. } in &damage {
            tracing::error!(
                path = %self.path.display(),
                offset,
                octets = skipped,
                ?fault,
                "damage in the journal: what was kept there is lost, what follows is read"
            );
        }
        Ok(Some(Contents { segment: Some(segment), number: self.number, records, damage, told }))
    }

    /// Cuts what is behind the last frame: zeros, or a torn tail, so that it is not taken for damage when newer segments have
    /// followed.
    fn cut(&self, at: usize) -> Result<(), StartError> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let cut = file.and_then(|file| file.set_len(at as u64).and_then(|()| file.sync_data()));
        Ok(cut.map_err(FileError::of("cut", &self.path))?)
    }
}
