//! The channel between the supervisor and a child: a pair of stream sockets, on which each message is a frame, a length of
//! four octets in network order and so many octets of JSON.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest frame: ten thousand bindings, the longest answer, take a quarter of it.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// How long the other side may take to read what is sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The end to speak; any thread may.
#[derive(Clone, Debug)]
pub struct Speaker(Arc<Mutex<UnixStream>>);

/// The end to listen.
#[derive(Debug)]
pub struct Listener(UnixStream);

/// Both ends of this side.
pub fn split(stream: UnixStream) -> io::Result<(Speaker, Listener)> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let heard = stream.try_clone()?;
    Ok((Speaker(Arc::new(Mutex::new(stream))), Listener(heard)))
}

impl Speaker {
    /// Sends a message whole. After an error the channel is of no use any more.
    pub fn say(&self, message: &impl Serialize) -> io::Result<()> {
        let mut frame = vec![0; 4];
        serde_json::to_writer(&mut frame, message)?;
        let octets = frame.len() - 4;
        if octets > MAX_FRAME_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {octets} octets is too long")));
        }
        frame[..4].copy_from_slice(&(octets as u32).to_be_bytes());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame)
    }
}

impl Listener {
    /// Waits for the next message; None when the other side has ended.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            read => read?,
        }
        let octets = u32::from_be_bytes(length) as usize;
        if octets > MAX_FRAME_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {octets} octets is too long")));
        }
        let mut frame = vec![0; octets];
        self.0.read_exact(&mut frame)?;
        Ok(Some(serde_json::from_slice(&frame)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ((Speaker, Listener), (Speaker, Listener)) {
        let (a, b) = UnixStream::pair().unwrap();
        (split(a).unwrap(), split(b).unwrap())
    }

    #[test]
    fn messages_arrive_whole_and_in_order_and_the_end_is_told() {
        let ((speaker, _), (_, mut listener)) = pair();
        for text in ["one", "", "three"] {
            speaker.say(&text).unwrap();
        }
        for text in ["one", "", "three"] {
            assert_eq!(listener.hear::<String>().unwrap().as_deref(), Some(text));
        }
        drop(speaker);
    }

    #[test]
    fn a_frame_longer_than_the_bound_is_refused_on_both_sides() {
        let ((speaker, _), (other, mut listener)) = pair();
        assert!(speaker.say(&"x".repeat(MAX_FRAME_BYTES)).is_err());
        drop(other);
        speaker.0.lock().unwrap().write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(listener.hear::<String>().is_err());
    }

    #[test]
    fn who_has_gone_is_heard_no_more() {
        let (this, that) = pair();
        drop(that);
        let (speaker, mut listener) = this;
        assert!(listener.hear::<String>().unwrap().is_none());
        assert!(speaker.say(&"anybody?").is_err());
    }
}
