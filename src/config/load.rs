//! Finds and reads the configuration file.

use super::{Config, Faults, document, schema};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Where the file is looked for when `--config` names none; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/ringswitch/ringswitch.toml";

/// A larger file is no configuration.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why there is no configuration. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}; name another file with --config, or let this user read it", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// The file is longer than [`MAX_FILE_BYTES`].
    #[error("{} is longer than {MAX_FILE_BYTES} bytes; is it a configuration?", .0.display())]
    TooLong(PathBuf),
    /// The file is not text.
    #[error("{}:{line}: this line is not UTF-8; save the file in that encoding", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// The first line which is not, counted from 1.
        line: usize,
    },
    /// The file says something wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Reads `file`, or the default place when None; without a file there, everything has its default.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    load_text(file).map(|(config, _)| config)
}

/// The same, with the text that was read.
pub fn load_text(file: Option<&Path>) -> Result<(Config, String), ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let octets = match read(path) {
        Ok(octets) => octets,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(ConfigError::Unreadable { file: path.to_owned(), error }),
    };
    if octets.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    let text = String::from_utf8(octets).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::NotUtf8 { file: path.to_owned(), line: valid.split(|octet| *octet == b'\n').count() }
    })?;
    let config = parse(&path.display().to_string(), &text)?;
    Ok((Config { file: file.map(Path::to_owned), ..config }, text))
}

/// Reads a configuration from `text`. Faults call it `file`.
pub fn parse(file: &str, text: &str) -> Result<Config, Faults> {
    let mut config = Config::default();
    document::read(file, text, |section| schema::read(section, &mut config))?;
    Ok(config)
}

#[expect(clippy::disallowed_methods, reason = "the command line and a reload read the file, no core does")]
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

/// `/var/lib/ringswitch` for root and for those without a home, else `~/.local/share/ringswitch`.
pub(super) fn default_data_dir() -> PathBuf {
    let system = PathBuf::from("/var/lib/ringswitch");
    if rustix::process::geteuid().is_root() {
        return system;
    }
    match std::env::var_os("HOME").map(PathBuf::from) {
        Some(home) if home.is_absolute() => home.join(".local/share/ringswitch"),
        _ => system,
    }
}
