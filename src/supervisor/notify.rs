//! What systemd wants to know of a service of its kind `notify` (sd_notify(3)): a datagram of lines to the socket that the
//! environment names. Without one, nothing.
#![expect(clippy::disallowed_methods, reason = "the edge: systemd tells its socket by the environment")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok();
        // sd_watchdog_enabled(3): WATCHDOG_PID, if there, says whom it is for.
        let is_for_us = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let micros = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|_| is_for_us);
        let socket = variable("NOTIFY_SOCKET").and_then(|name| Self::connect(&name));
        Self { socket, watchdog: micros.map(Duration::from_micros) }
    }

    fn connect(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
        // An @ stands for the zero octet of a name that is in no file system (unix(7)).
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        Some((UnixDatagram::unbound().ok()?, address.ok()?))
    }

    /// How often [`alive`](Self::alive) is to be said, if at all.
    pub fn interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|watchdog| watchdog / 2)
    }

    /// The service is up.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// It goes on.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={text}"));
    }

    fn say(&self, lines: &str) {
        if let Some((socket, address)) = &self.socket {
            // Who does not listen misses it; systemd has its own timeouts.
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let hidden = format!("ringswitch-test-{}", std::process::id());
        let listeners = [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{hidden}"), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap()),
        ];
        for (name, listener) in listeners {
            let notifier = Notifier { socket: Notifier::connect(&name), watchdog: Some(Duration::from_secs(10)) };
            notifier.ready();
            let mut octets = [0; 64];
            let length = listener.recv(&mut octets).unwrap();
            assert_eq!(&octets[..length], b"READY=1");
            assert_eq!(notifier.interval(), Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        let notifier = Notifier { socket: None, watchdog: Some(Duration::from_secs(10)) };
        notifier.ready();
        assert_eq!(notifier.interval(), None);
    }
}
