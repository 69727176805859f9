//! What a process needs of the machine before anything else: its directory, the cluster's secret, entropy, the time.
#![expect(clippy::disallowed_methods, reason = "the edge: it reads the clock and the secret")]

use agent::{Now, Secret};
use anyhow::{Context, bail};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Makes the directory, for this user alone.
pub(crate) fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("{} cannot be made; name another place with `data_dir`", dir.display()))
}

/// The cluster's secret: read, or made at the first start.
pub(crate) fn secret(file: &Path) -> anyhow::Result<Secret> {
    let named = || format!("the secret {}", file.display());
    match fs::read(file) {
        Ok(octets) => match octets.try_into() {
            Ok(octets) => Ok(Secret::new(octets)),
            Err(_) => bail!("{} is not 32 octets; restore it, or remove it to have another made", named()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let octets = entropy()?;
            // Whole or not at all: a secret that is cut short would make every token of ours strange after a crash.
            let draft = file.with_extension("new");
            let mut out = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)
                .with_context(named)?;
            out.write_all(&octets).and_then(|()| out.sync_all()).with_context(named)?;
            fs::rename(&draft, file).with_context(named)?;
            Ok(Secret::new(octets))
        }
        Err(error) => Err(error).with_context(named),
    }
}

pub(crate) fn entropy<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the kernel gives no entropy: {error}"))?;
    Ok(octets)
}

pub(crate) fn now(started: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: started.elapsed(), unix }
}
