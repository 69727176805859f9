//! A disk that hangs: the clerk waits for it, and nobody else does.

use crate::clerk::disk::{Disk, Files, Opened};
use crate::clerk::{Clerk, Settings, replay};
use crate::config;
use crate::control::{Answer, ControlHandler, ControlServer, Done, Request};
use crate::io::{Waker, journal};
use agent::Ticket;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use store::{Bindings, CallEnd, put_call_end};

/// How long anything may take that takes a moment on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_control_socket_answers_while_a_commit_hangs() {
    let data_dir = tempfile::tempdir().unwrap();
    let table = Arc::new(Bindings::new([1; 16]));
    let replayed = replay(&data_dir.path().join("journal"), &table, 1000).unwrap();
    let waker = || Arc::new(Waker::new().unwrap());
    let (shard, clerk_waker) = (waker(), waker());
    let (mut link, inlet) = journal(8, shard, clerk_waker.clone());
    let (begun, begins) = mpsc::channel();
    let (goes_on, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let disk = move |directory| Hanging { files: Files::new(directory), begun, gate };
    let settings = Settings { journal: config::Journal::default(), core: None, cdrs: None };
    let clerk = Clerk::start_on(disk, settings, vec![inlet], clerk_waker, table, replayed).unwrap();
    let control = ControlServer::start(data_dir.path().to_owned(), Arc::new(Handler)).unwrap();

    let mut records = Vec::new();
    put_call_end(&mut records, 7, 1, CallEnd { at: 0, note: 0 });
    assert!(link.push(&mut records, Ticket(2)));
    begins.recv_timeout(PATIENCE).expect("the clerk commits");
    for _ in 0..3 {
        assert_eq!(ask(data_dir.path()).into_result(), Ok(Done {}));
    }
    assert_eq!(link.settled(), None, "the disk hangs still");

    drop(goes_on);
    clerk.stop().unwrap();
    assert_eq!(link.settled(), Some((Ticket(1), true)));
    control.stop().unwrap();
}

/// Asks for the status on a connection of its own.
fn ask(data_dir: &Path) -> Answer {
    let mut stream = UnixStream::connect(data_dir.join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"{\"command\":\"status\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("it answers meanwhile");
    serde_json::from_str(&line).unwrap()
}

struct Handler;

impl ControlHandler for Handler {
    fn handle(&self, _: Request) -> Answer {
        Answer::ok(&Done {})
    }
}

/// The real disk, whose every commit hangs until the gate is gone.
#[derive(Clone)]
struct Hanging {
    files: Files,
    /// Hears that one has begun.
    begun: mpsc::Sender<()>,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Disk for Hanging {
    type File = Opened;

    fn commit(&self, file: &Opened, octets: &[u8], at: u64) -> io::Result<usize> {
        let _ = self.begun.send(());
        let _ = self.gate.lock().unwrap().recv();
        self.files.commit(file, octets, at)
    }

    async fn create(&self, number: u64) -> io::Result<Opened> {
        self.files.create(number).await
    }

    async fn create_spare(&self) -> io::Result<Opened> {
        self.files.create_spare().await
    }

    async fn adopt_spare(&self, file: &mut Opened, number: u64) -> io::Result<()> {
        self.files.adopt_spare(file, number).await
    }

    async fn remove_spare(&self) {
        self.files.remove_spare().await;
    }

    async fn open(&self, number: u64) -> io::Result<Opened> {
        self.files.open(number).await
    }

    async fn write(&self, file: &Opened, octets: Vec<u8>, at: u64) -> io::Result<usize> {
        self.files.write(file, octets, at).await
    }

    async fn read(&self, file: &Opened, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.files.read(file, at, len, into).await
    }

    async fn sync(&self, file: &Opened) -> io::Result<()> {
        self.files.sync(file).await
    }

    async fn sync_directory(&self) -> io::Result<()> {
        self.files.sync_directory().await
    }

    async fn truncate(&self, file: &Opened, octets: u64) -> io::Result<()> {
        self.files.truncate(file, octets).await
    }

    async fn close(&self, file: Opened) {
        self.files.close(file).await;
    }

    fn delete(&self, number: u64) {
        self.files.delete(number);
    }
}
