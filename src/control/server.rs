//! The socket: the operator's command line asks here, one JSON line at a time.
//!
//! It has an executor of its own, which a disk that hangs does not stop. Its connections are few, short and bounded in every way; a
//! request is handled on a side thread, so that a long listing holds up nobody else's.
#![expect(clippy::disallowed_methods, reason = "the edge: it owns the socket")]

use super::orders::{Answer, MAX_REQUEST_BYTES, Request};
use super::start::{InUse, StartError};
use crate::executor::{Activity, Executor, system_error};
use crate::file_error::FileError;
use crate::io::Waker;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::Placement;
use glommio::net::{UnixListener, UnixStream};
use glommio::sync::Semaphore;
use glommio::timer::{sleep, timeout};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const NAME: &str = "control.sock";

/// Where the socket is made, out of everybody's reach until its mode is set.
const NURSERY: &str = ".new";

/// Connections at a time; another one is told so and closed.
const MAX_CONNECTIONS: u64 = 8;

/// How long a whole request may take to come, and each piece of an answer to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// A piece of an answer.
const PIECE_OCTETS: usize = 64 << 10;

/// What the rest of the program answers.
pub trait ControlHandler: Send + Sync {
    /// Answers a request, on a side thread and one at a time. It may take a while.
    fn handle(&self, request: Request) -> Answer;
}

/// The control socket, on an executor of its own.
pub struct ControlServer {
    executor: Executor,
    stop: Arc<Waker>,
}

impl ControlServer {
    /// Answers by `handler` in `data_dir` when this returns.
    pub fn start(data_dir: PathBuf, handler: Arc<dyn ControlHandler>) -> Result<Self, StartError> {
        let stop = Waker::new().map(Arc::new).map_err(FileError::of("make an eventfd for", &data_dir))?;
        let serve = {
            let stop = stop.clone();
            move |started: mpsc::Sender<Result<(), StartError>>, activity: Rc<Activity>| async move {
                stop.prepare_to_sleep();
                let stops = stop.to_file()?;
                let socket = match Socket::bind(&data_dir) {
                    Ok(socket) => Rc::new(socket),
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = started.send(Ok(()));
                let serving = glommio::spawn_local(socket.clone().serve(handler, activity.clone()));
                stops.read_at(0, size_of::<u64>()).await.map_err(system_error)?;
                let _ending = activity.begin();
                serving.cancel().await;
                socket.close().await;
                Ok(())
            }
        };
        let (executor, started) = Executor::start("control", Placement::Unbound, serve)?;
        started?;
        Ok(Self { executor, stop })
    }

    /// Answers the request that is being handled, and removes the socket.
    pub fn stop(self) -> io::Result<()> {
        self.stop.wake();
        self.executor.join()
    }
}

/// The listening socket.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    connections: Semaphore,
    /// One request is handled at a time.
    turn: Semaphore,
}

impl Socket {
    /// Binds the socket, for its owner alone, in the place of one that a dead process has left.
    fn bind(data_dir: &Path) -> Result<Self, StartError> {
        let path = data_dir.join(NAME);
        let in_use = InUse::by_another(data_dir);
        if in_use.pid.is_some() {
            return Err(StartError::InUse(in_use));
        }
        let nursery = data_dir.join(NURSERY);
        let newborn = nursery.join("s");
        // What a crash between these lines has left.
        let _ = fs::remove_file(&newborn);
        let _ = fs::remove_dir(&nursery);
        DirBuilder::new().mode(0o700).create(&nursery).map_err(FileError::of("create", &nursery))?;
        let listener = UnixListener::bind(&newborn).map_err(|error| match system_error(error) {
            error if error.kind() == io::ErrorKind::InvalidInput => StartError::LongPath { path: path.clone() },
            error => FileError::of("listen on", &path)(error).into(),
        })?;
        fs::set_permissions(&newborn, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&newborn, &path))
            .and_then(|()| fs::remove_dir(&nursery))
            .map_err(FileError::of("listen on", &path))?;
        let (connections, turn) = (Semaphore::new(MAX_CONNECTIONS), Semaphore::new(1));
        Ok(Self { listener, path, connections, turn })
    }

    /// Accepts and serves connections, for ever.
    async fn serve(self: Rc<Self>, handler: Arc<dyn ControlHandler>, activity: Rc<Activity>) {
        loop {
            let mut stream = match self.listener.accept().await.map_err(system_error) {
                Ok(stream) => stream,
                Err(error) => {
                    // Such as too many open files.
                    tracing::warn!(%error, "a connection to the control socket is not accepted");
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (socket, handler, under_way) = (self.clone(), handler.clone(), activity.begin());
            let connection = async move {
                let _under_way = under_way;
                let served = match socket.connections.try_acquire_permit(1) {
                    Ok(_permit) => socket.converse(&mut stream, &handler).await,
                    Err(_) => send(&mut stream, &line(&Answer::error("too many connections; try again"))).await,
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection to the control socket ends early");
                }
            };
            glommio::spawn_local(connection).detach();
        }
    }

    /// Waits for the request that is being handled, and removes the socket.
    async fn close(&self) {
        let _turn = self.turn.acquire_permit(1).await;
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the control socket stays");
        }
    }

    /// Answers request after request until the client has no more.
    async fn converse(&self, stream: &mut UnixStream, handler: &Arc<dyn ControlHandler>) -> io::Result<()> {
        let mut pending = Vec::new();
        loop {
            let receiving = async { Ok(receive(stream, &mut pending).await?) };
            let answer = match timeout(PATIENCE, receiving).await.map_err(system_error)? {
                Received::Nothing => return Ok(()),
                Received::TooLong => {
                    let error = format!("a request is one line of at most {MAX_REQUEST_BYTES} octets");
                    return send(stream, &line(&Answer::error(error))).await;
                }
                Received::Line(octets) => match serde_json::from_slice::<Request>(&octets) {
                    Ok(request) => self.ask(handler.clone(), request).await,
                    Err(error) => line(&Answer::error(format!("this is no request: {error}"))),
                },
            };
            send(stream, &answer).await?;
        }
    }

    /// Has a request handled on a side thread, when it is its turn. Gives the answer's line.
    async fn ask(&self, handler: Arc<dyn ControlHandler>, request: Request) -> Vec<u8> {
        let _turn = self.turn.acquire_permit(1).await;
        let handling = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| handler.handle(request)));
            line(&answer.unwrap_or_else(|_| Answer::error("the request met a fault of ours; see the log")))
        };
        glommio::executor().spawn_blocking(handling).await
    }
}

/// The process that listens on the control socket of a data directory.
pub(super) fn owner(data_dir: &Path) -> Option<i32> {
    let stream = net::UnixStream::connect(data_dir.join(NAME)).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

fn line(answer: &Answer) -> Vec<u8> {
    let mut octets = serde_json::to_vec(answer).expect("an answer has only text keys");
    octets.push(b'\n');
    octets
}

enum Received {
    Line(Vec<u8>),
    TooLong,
    Nothing,
}

/// The next line. `pending` keeps what was read beyond it.
async fn receive(stream: &mut UnixStream, pending: &mut Vec<u8>) -> io::Result<Received> {
    loop {
        if let Some(end) = pending.iter().position(|&octet| octet == b'\n') {
            let rest = pending.split_off(end + 1);
            return Ok(Received::Line(std::mem::replace(pending, rest)));
        }
        if pending.len() > MAX_REQUEST_BYTES {
            return Ok(Received::TooLong);
        }
        let mut octets = [0; 1024];
        match stream.read(&mut octets).await? {
            0 => return Ok(Received::Nothing),
            len => pending.extend_from_slice(&octets[..len]),
        }
    }
}

async fn send(stream: &mut UnixStream, answer: &[u8]) -> io::Result<()> {
    for piece in answer.chunks(PIECE_OCTETS) {
        let sending = async { Ok(stream.write_all(piece).await?) };
        timeout(PATIENCE, sending).await.map_err(system_error)?;
    }
    Ok(())
}
