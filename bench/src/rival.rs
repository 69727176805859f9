//! Kamailio, which the switch is held against.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use crate::{
    digest::Algorithm,
    server::{Place, Server},
};

/// Its configuration.
const CONFIG: &str = include_str!("../kamailio.cfg");
/// Its shared memory, which holds the bindings: more than a million of them take.
const SHARED_MB: u32 = 4096;
/// The memory of each of its processes.
const PRIVATE_MB: u32 = 64;

/// Kamailio with one worker and the allocator `fm`.
#[derive(Clone, Copy, Debug)]
pub struct Kamailio {
    /// What its configuration is made to do besides.
    defines: &'static [&'static str],
}

impl Kamailio {
    /// Looks whether it is there.
    pub fn find() -> Result<Self> {
        match Command::new("kamailio").arg("-v").output() {
            Ok(output) if output.status.success() => Ok(Self { defines: &[] }),
            _ => bail!("there is no `kamailio` on the PATH: `apt-get install kamailio` installs it on Debian"),
        }
    }

    /// The same, which challenges every REGISTER.
    pub fn challenging(self, algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self { defines: &["DIGEST"] },
            Algorithm::Sha256 => Self { defines: &["DIGEST", "SHA256"] },
        }
    }

    /// The same, which checks requests, records its route in those for the bench's domain, and dispatches these to the sink by
    /// their Call-ID.
    pub fn dispatching(self) -> Self {
        Self { defines: &["DISPATCH"] }
    }
}

impl Server for Kamailio {
    fn name(&self) -> String {
        "kamailio (fm)".into()
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let config = place.dir.join("kamailio.cfg");
        fs::write(&config, CONFIG)?;
        fs::write(place.dir.join("dispatcher.list"), format!("1 sip:{}\n", place.sink))?;
        let mut command = Command::new("kamailio");
        // -DD: in the foreground, with its workers; -E: to stderr.
        command.args(["-DD", "-E", "-x", "fm", "-X", "fm", "-n", "1"]);
        command.args(["-m", &SHARED_MB.to_string(), "-M", &PRIVATE_MB.to_string()]);
        command.args(["-l", &format!("udp:127.0.0.1:{}", place.listen)]);
        command.arg("-f").arg(config).arg("-Y").arg(place.dir).arg("-w").arg(place.dir);
        for define in self.defines {
            command.args(["-A", define]);
        }
        Ok(command)
    }
}
