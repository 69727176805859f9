//! The sockets that a load is sent from, each a 4-tuple of its own: one big trunk, or thousands of phones.

use std::net::{SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::mmsg;

/// Up to so many, a turn of the load looks for answers where it has just sent. Of more it asks the kernel which have any
/// (epoll(7)), or an answer would wait for thousands of turns. Few do without, for the note that the kernel makes of each
/// answer then is paid by the server that sends it.
const LOOKED_AT_BY_TURNS: usize = 64;
/// Most sources that one turn takes answers from.
const READY: usize = 16;
/// What else this process has open.
const OTHER_FILES: u64 = 64;

/// Source sockets, connected to the server so that the kernel tells when nobody listens.
pub struct Sources {
    sockets: Vec<UdpSocket>,
    ports: Vec<u16>,
    epoll: Option<OwnedFd>,
    events: Vec<epoll::Event>,
}

impl Sources {
    /// Opens `count` of them, and raises the limit of open files for that.
    pub fn open(count: usize, server: SocketAddrV4) -> Result<Self> {
        ensure!(count > 0, "a load has a source");
        allow_files(count as u64 + OTHER_FILES)?;
        let sockets = (0..count).map(|_| source(server)).collect::<Result<Vec<_>>>()?;
        let ports = sockets.iter().map(|socket| mmsg::address(socket).port()).collect();
        let epoll = match count > LOOKED_AT_BY_TURNS {
            true => Some(watch(&sockets)?),
            false => None,
        };
        Ok(Self { sockets, ports, epoll, events: Vec::with_capacity(READY) })
    }

    /// The socket, and its port, that sends in a turn.
    pub fn of_turn(&self, turn: usize) -> (&UdpSocket, u16) {
        let at = turn % self.sockets.len();
        (&self.sockets[at], self.ports[at])
    }

    /// The sockets to look at for answers in a turn.
    pub fn to_look_at(&mut self, turn: usize) -> Result<impl Iterator<Item = &UdpSocket>> {
        self.events.clear();
        if let Some(epoll) = &self.epoll {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&at_once))?;
        }
        let by_turns = self.epoll.is_none().then_some(turn % self.sockets.len());
        let ready = self.events.iter().map(|event| event.data.u64() as usize);
        Ok(by_turns.into_iter().chain(ready).map(|at| &self.sockets[at]))
    }
}

fn source(server: SocketAddrV4) -> Result<UdpSocket> {
    let socket = mmsg::bind(0)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn watch(sockets: &[UdpSocket]) -> Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, socket) in (0..).zip(sockets) {
        epoll::add(&epoll, socket, epoll::EventData::new_u64(at), epoll::EventFlags::IN)?;
    }
    Ok(epoll)
}

/// Raises the soft limit to `files` where it is lower.
fn allow_files(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit })
        .with_context(|| format!("so many sources take {files} open files; `ulimit -Hn` is the most that is allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_any_of_many_sources_is_found_in_the_next_turn() {
        let server = mmsg::bind(0).expect("a port");
        let mut many = Sources::open(LOOKED_AT_BY_TURNS + 1, mmsg::address(&server)).expect("they open");
        assert_eq!(many.to_look_at(0).expect("the kernel tells").count(), 0);
        let (socket, port) = many.of_turn(7);
        assert_eq!(mmsg::address(socket).port(), port);
        let to = mmsg::address(socket);
        server.send_to(b"answer", to).expect("it is sent");
        let ready: Vec<u16> =
            many.to_look_at(0).expect("the kernel tells").map(|it| mmsg::address(it).port()).collect();
        assert_eq!(ready, [port]);
    }

    #[test]
    fn few_sources_are_looked_at_by_turns() {
        let server = mmsg::bind(0).expect("a port");
        let mut few = Sources::open(2, mmsg::address(&server)).expect("they open");
        for turn in 0..4 {
            let port = few.of_turn(turn).1;
            let looked_at: Vec<u16> =
                few.to_look_at(turn).expect("it tells").map(|it| mmsg::address(it).port()).collect();
            assert_eq!(looked_at, [port]);
        }
    }
}
