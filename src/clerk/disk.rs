//! What the journal asks of a disk, and the disk that there is: files of one directory, by glommio.

use crate::executor::system_error;
use glommio::io::{BufferedFile, Directory, OpenOptions};
use rustix::fs::{CWD, RenameFlags, rename, renameat_with};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, retry_on_intr};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// The name of the file that waits to become a segment; no segment's.
const SPARE: &str = "spare";

/// The files of a journal. Tests put one in its place that fails when they like.
pub(super) trait Disk {
    /// An open segment.
    type File;

    /// Creates the file of a segment; an error where there is one.
    async fn create(&self, number: u64) -> io::Result<Self::File>;

    /// Creates the file that is to become a segment, in the place of one that was left.
    async fn create_spare(&self) -> io::Result<Self::File>;

    /// Makes that file the one of a segment; an error where there is one.
    async fn adopt_spare(&self, file: &mut Self::File, number: u64) -> io::Result<()>;

    /// Removes that file, if there is one.
    async fn remove_spare(&self);

    /// Opens the file of a segment, to be read.
    async fn open(&self, number: u64) -> io::Result<Self::File>;

    /// Writes at an offset. Tells how many octets were written.
    async fn write(&self, file: &Self::File, octets: Vec<u8>, at: u64) -> io::Result<usize>;

    /// Writes at an offset, and returns when it is on the medium: the thread waits. Tells how many octets were written.
    fn commit(&self, file: &Self::File, octets: &[u8], at: u64) -> io::Result<usize>;

    /// Appends up to `len` octets from an offset to `into`; fewer at the end of the file.
    async fn read(&self, file: &Self::File, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// Returns when all that was written to the file is on the medium.
    async fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Returns when every file that was created is found after a crash.
    async fn sync_directory(&self) -> io::Result<()>;

    /// Cuts the file.
    async fn truncate(&self, file: &Self::File, octets: u64) -> io::Result<()>;

    /// Closes the file.
    async fn close(&self, file: Self::File);

    /// Has the file of a segment deleted, now or soon.
    fn delete(&self, number: u64);
}

/// An open segment.
pub(super) struct Opened {
    file: BufferedFile,
    /// The same file for commits; none in one that was opened to be read.
    direct: Option<File>,
}

/// The directory of the journal.
#[derive(Clone)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }
}

/// The file of a segment: its number in 20 digits, so that a listing by name is one by age.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.seg"))
}

/// The number of the segment whose file this is.
pub(super) fn segment_number(path: &Path) -> Option<u64> {
    (path.extension()? == "seg").then(|| path.file_stem()?.to_str()?.parse().ok())?
}

impl Disk for Files {
    type File = Opened;

    async fn create(&self, number: u64) -> io::Result<Opened> {
        create_file(&segment_path(&self.directory, number), open_direct).await
    }

    async fn create_spare(&self) -> io::Result<Opened> {
        self.remove_spare().await;
        create_file(&self.directory.join(SPARE), open_direct).await
    }

    async fn adopt_spare(&self, _: &mut Opened, number: u64) -> io::Result<()> {
        let (spare, segment) = (self.directory.join(SPARE), segment_path(&self.directory, number));
        match renameat_with(CWD, &spare, CWD, &segment, RenameFlags::NOREPLACE) {
            // Some file systems, such as NFS, cannot tell.
            Err(Errno::INVAL) if !segment.try_exists()? => Ok(rename(&spare, &segment)?),
            done => Ok(done?),
        }
    }

    async fn remove_spare(&self) {
        match glommio::io::remove(self.directory.join(SPARE)).await.map_err(system_error) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the journal's spare file stays until the next start");
            }
            _ => {}
        }
    }

    async fn open(&self, number: u64) -> io::Result<Opened> {
        let file = BufferedFile::open(segment_path(&self.directory, number)).await.map_err(system_error)?;
        Ok(Opened { file, direct: None })
    }

    async fn write(&self, file: &Opened, octets: Vec<u8>, at: u64) -> io::Result<usize> {
        file.file.write_at(octets, at).await.map_err(system_error)
    }

    fn commit(&self, file: &Opened, octets: &[u8], at: u64) -> io::Result<usize> {
        let file = file.direct.as_ref().expect("what is written to was created by us");
        let write = || pwritev2(file, &[IoSlice::new(octets)], at, ReadWriteFlags::DSYNC);
        Ok(retry_on_intr(write)?)
    }

    async fn read(&self, file: &Opened, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(&file.file.read_at(at, len).await.map_err(system_error)?);
        Ok(())
    }

    async fn sync(&self, file: &Opened) -> io::Result<()> {
        file.file.fdatasync().await.map_err(system_error)
    }

    async fn sync_directory(&self) -> io::Result<()> {
        let directory = Directory::open(&self.directory).await.map_err(system_error)?;
        let synced = directory.sync().await.map_err(system_error);
        directory.close().await.map_err(system_error)?;
        synced
    }

    async fn truncate(&self, file: &Opened, octets: u64) -> io::Result<()> {
        file.file.truncate(octets).await.map_err(system_error)
    }

    async fn close(&self, file: Opened) {
        if let Err(error) = file.file.close().await {
            tracing::warn!(%error, "a segment of the journal is closed, but the system complains");
        }
    }

    fn delete(&self, number: u64) {
        let path = segment_path(&self.directory, number);
        let deleting = async move {
            match glommio::io::remove(&path).await.map_err(system_error) {
                // What was never created need not be deleted.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %path.display(), "a segment that is no longer needed stays");
                }
                _ => {}
            }
        };
        // To take the blocks of a long file back takes the file system a while; no commit waits for it.
        glommio::spawn_local(deleting).detach();
    }
}

/// Creates a file and opens it for commits, by `open`. Where that fails its name is free again: nobody else would take it away.
async fn create_file(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Opened> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).buffered_open(path).await;
    let file = file.map_err(system_error)?;
    match open(path) {
        Ok(direct) => Ok(Opened { file, direct: Some(direct) }),
        Err(error) => {
            // Whatever else fails now, that comes first.
            let _ = file.close().await;
            let _ = glommio::io::remove(path).await;
            Err(error)
        }
    }
}

/// Opens a file for commits.
fn open_direct(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::LocalExecutor;

    #[test]
    fn no_segment_is_replaced_by_a_spare() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path().to_owned());
        LocalExecutor::default().run(async {
            let mut spare = files.create_spare().await.unwrap();
            assert_eq!(files.commit(&spare, b"spare", 0).unwrap(), 5);
            let segment = files.create(7).await.unwrap();
            let error = files.adopt_spare(&mut spare, 7).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            files.adopt_spare(&mut spare, 8).await.unwrap();
            files.close(segment).await;
            files.close(spare).await;
        });
        assert_eq!(std::fs::read(segment_path(directory.path(), 7)).unwrap(), b"");
        assert_eq!(std::fs::read(segment_path(directory.path(), 8)).unwrap(), b"spare");
    }

    #[test]
    fn a_file_that_cannot_be_opened_for_commits_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SPARE);
        LocalExecutor::default().run(async {
            let refuse = |_: &Path| Err(io::Error::from_raw_os_error(libc::EMFILE));
            let error = create_file(&path, refuse).await.err().unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert!(!path.exists());
            let file = create_file(&path, open_direct).await.unwrap();
            // A name that others have is not ours to take away.
            create_file(&path, refuse).await.err().unwrap();
            assert!(path.exists());
            file.file.close().await.unwrap();
        });
    }
}
