//! A disk in memory that fails when a test likes, and is found after a crash as a real one may be.

use crate::clerk::disk::Disk;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// The number of the file that waits to become a segment.
const SPARE: u64 = 0;

/// A file as programs see it, and as it is found after a crash.
#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) seen: Vec<u8>,
    /// What is on the medium.
    synced: Vec<u8>,
    /// The system took these for written when a sync had failed: no later one writes them.
    lost: Vec<usize>,
    /// Whether the directory has it for good.
    is_listed: bool,
}

/// The files by number; then, of the operations to come, how many succeed, how many fail after these, and how many octets
/// are written all the same.
#[derive(Default)]
pub(super) struct Medium {
    pub(super) files: BTreeMap<u64, File>,
    pub(super) healthy: usize,
    pub(super) faulty: usize,
    pub(super) written: usize,
    /// A segment that is there already and is not ours.
    pub(super) stranger: Option<u64>,
}

impl File {
    /// The octets that a sync has to write.
    fn changed(&self) -> impl Iterator<Item = usize> {
        (0..self.seen.len()).filter(|&at| self.synced.get(at) != Some(&self.seen[at]))
    }
}

impl Medium {
    /// The segments: their numbers and files.
    pub(super) fn segments(&mut self) -> impl Iterator<Item = (u64, &mut File)> {
        self.files.iter_mut().filter(|(number, _)| **number != SPARE).map(|(&number, file)| (number, file))
    }

    /// A file that nobody of us has made.
    pub(super) fn put_stranger(&mut self, number: u64, octets: &[u8]) {
        let (seen, synced) = (octets.to_vec(), octets.to_vec());
        self.files.insert(number, File { seen, synced, lost: Vec::new(), is_listed: true });
        self.stranger = Some(number);
    }

    /// Fails where there is a file. No file of ours is in the way of another.
    fn is_free(&self, number: u64) -> io::Result<()> {
        if self.files.contains_key(&number) {
            assert_eq!(self.stranger, Some(number), "segment {number} is there already");
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    /// Fails if it is time for a fault.
    fn operate(&mut self) -> io::Result<()> {
        if self.healthy > 0 {
            self.healthy -= 1;
        } else if self.faulty > 0 {
            self.faulty -= 1;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, written: usize) {
        for (number, file) in std::mem::take(&mut self.files) {
            if !file.is_listed && written.is_multiple_of(2) {
                continue;
            }
            let mut found = file.synced.clone();
            for at in file.changed().take(written) {
                found.resize(found.len().max(at + 1), 0);
                found[at] = file.seen[at];
            }
            self.files.insert(number, File { seen: found.clone(), synced: found, lost: Vec::new(), is_listed: true });
        }
        (self.healthy, self.faulty) = (0, 0);
    }
}

impl Disk for Rc<RefCell<Medium>> {
    type File = u64;

    async fn create_spare(&self) -> io::Result<u64> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        if fault.is_ok() || medium.written.is_multiple_of(2) {
            medium.files.insert(SPARE, File::default());
        }
        fault.map(|()| SPARE)
    }

    async fn adopt_spare(&self, file: &mut u64, number: u64) -> io::Result<()> {
        assert_eq!(*file, SPARE);
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        medium.is_free(number)?;
        if fault.is_ok() || medium.written.is_multiple_of(2) {
            let spare = medium.files.remove(file).expect("it was made and not removed");
            medium.files.insert(number, File { is_listed: false, ..spare });
            *file = number;
        }
        fault
    }

    async fn remove_spare(&self) {
        let mut medium = self.borrow_mut();
        if medium.operate().is_ok() {
            medium.files.remove(&SPARE);
        }
    }

    async fn create(&self, number: u64) -> io::Result<u64> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        medium.is_free(number)?;
        // Even an operation that fails may have been carried out.
        if fault.is_ok() || medium.written.is_multiple_of(2) {
            medium.files.insert(number, File::default());
        }
        fault.map(|()| number)
    }

    async fn open(&self, number: u64) -> io::Result<u64> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        medium.files.get(&number).map(|_| number).ok_or(io::ErrorKind::NotFound.into())
    }

    async fn write(&self, file: &u64, octets: Vec<u8>, at: u64) -> io::Result<usize> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        let written = if fault.is_ok() { octets.len() } else { medium.written.min(octets.len()) };
        let seen = &mut medium.files.get_mut(file).unwrap().seen;
        let at = at as usize;
        assert!(at <= seen.len() && seen[at..].iter().all(|&octet| octet == 0), "what was written is not written over");
        seen.resize(seen.len().max(at + written), 0);
        seen[at..at + written].copy_from_slice(&octets[..written]);
        // A full disk writes what fits and says so only by the number.
        if written.is_multiple_of(2) { fault.map(|()| written) } else { Ok(written) }
    }

    fn commit(&self, file: &u64, octets: &[u8], at: u64) -> io::Result<usize> {
        let written = futures_lite::future::block_on(self.write(file, octets.to_vec(), at))?;
        futures_lite::future::block_on(self.sync(file)).map(|()| written)
    }

    async fn read(&self, file: &u64, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        let file = medium.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        into.extend(file.seen[at as usize..].iter().take(len));
        Ok(())
    }

    async fn sync(&self, file: &u64) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        let file = medium.files.get_mut(file).unwrap();
        if fault.is_ok() {
            file.synced = file.seen.clone();
            file.lost.iter().filter(|&&at| at < file.seen.len()).for_each(|&at| file.synced[at] = 0);
        } else {
            let lost: Vec<_> = file.changed().collect();
            file.lost.extend(lost);
        }
        fault
    }

    async fn sync_directory(&self) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        medium.files.values_mut().for_each(|file| file.is_listed = true);
        Ok(())
    }

    async fn truncate(&self, file: &u64, octets: u64) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        medium.files.get_mut(file).unwrap().seen.truncate(octets as usize);
        Ok(())
    }

    async fn close(&self, _: u64) {}

    fn delete(&self, number: u64) {
        let mut medium = self.borrow_mut();
        if medium.operate().is_ok() {
            medium.files.remove(&number);
        }
    }
}
