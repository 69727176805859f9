//! The log: where `tracing` events go and how they look. Set up once per process, before anything else.

use crate::config::{Log, LogFormat, LogLevel};
use anyhow::Context;
use std::io::{IsTerminal, stderr};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::LevelFilter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// Changes the level of a log that runs.
#[derive(Clone)]
pub struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// RUST_LOG decides, whatever the configuration says.
    fixed: bool,
}

impl Level {
    /// Writes from now on what is at least as severe as `level`, unless RUST_LOG decides.
    pub fn set(&self, level: LogLevel) {
        if !self.fixed
            && let Err(error) = self.filter.reload(filter(level))
        {
            tracing::error!(%error, "the level of the log stays as it is");
        }
    }
}

/// Sends the events of this process where `log` says.
pub fn init(log: &Log) -> anyhow::Result<Level> {
    let from_env = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(text) if !text.is_empty() => Some(
            EnvFilter::try_from_default_env().context("RUST_LOG is no filter such as `info` or `ringswitch=debug`")?,
        ),
        _ => None,
    };
    let fixed = from_env.is_some();
    let (filter, handle) = reload::Layer::new(from_env.unwrap_or_else(|| filter(log.level)));
    tracing_subscriber::registry().with(filter).with(output(log.format)?).try_init().context("the log runs already")?;
    Ok(Level { filter: handle, fixed })
}

type Output<S> = Box<dyn Layer<S> + Send + Sync>;

fn output<S>(format: LogFormat) -> anyhow::Result<Output<S>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    Ok(match format {
        LogFormat::Journald => journald()?.boxed(),
        LogFormat::Auto if stderr_is_journal() => journald()?.boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(stderr).boxed(),
        LogFormat::Auto | LogFormat::Human => {
            tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).boxed()
        }
    })
}

fn journald() -> anyhow::Result<tracing_journald::Layer> {
    tracing_journald::layer()
        .context("systemd's journal cannot be reached; set `format = \"human\"` in [log], or run under systemd")
}

/// systemd.exec(5): JOURNAL_STREAM holds the device and inode of the stream, as stderr may have been redirected since.
pub(crate) fn stderr_is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(stderr()).is_ok_and(|stat| stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    EnvFilter::default().add_directive(level.into())
}
