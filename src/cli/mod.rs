//! The command line. Results go to stdout, complaints to stderr, each with a way out.
//!
//! Exit status: 0 it worked, 1 it failed, 2 the command or the configuration is wrong.

mod account;
mod calls;
mod cdr;
mod control;
mod plan;
mod provider;
mod table;

use crate::{
    accounts::AccountsError,
    config::{self, Config, ConfigError, Processes},
    demo, logging, process, raw, supervisor, switch,
};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::{io::Write, path::PathBuf, process::ExitCode};

/// A carrier-scale SIP switch: a stateless proxy and a durable registrar.
///
/// Without a configuration it serves the domain `localhost` on port 5060, UDP and TCP.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    /// The configuration; without it /etc/ringswitch/ringswitch.toml, if that exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Files, all in the configuration's `data_dir` (default: /var/lib/ringswitch for root, else ~/.local/share/ringswitch):
  ringswitch.db  accounts, providers, dial plans, call detail records (SQLite)
  journal/       the bindings and the calls that go on
  apps/          the calls of application servers that have processes of their own
  secret         what seals our tokens; made at the first start
  control.sock   where a running switch answers bindings, status and reload

Environment:
  RUST_LOG       a filter for the log such as `ringswitch=debug`, which takes precedence over the configuration

Signals of `run`: SIGHUP reloads the configuration; SIGTERM and SIGINT drain and stop, a second one stops at once.

Exit status: 0 it worked, 1 it failed, 2 the command or the configuration is wrong.

A first account:
  echo secret | ringswitch account add alice@localhost --password-stdin
  ringswitch run";

#[derive(Subcommand)]
enum Command {
    /// Runs the switch in the foreground: one process or, with `processes = "separate"`, several.
    Run,
    /// Reads the configuration and compiles every dial plan, and says what is wrong with them, or what it comes to.
    Check(Json),
    /// Adds, shows, changes and removes accounts; a running switch sees it within a second.
    #[command(subcommand)]
    Account(account::Command),
    /// Adds, shows, changes and removes users' accounts with providers.
    #[command(subcommand)]
    Provider(provider::Command),
    /// Sets, shows, tests and removes users' dial plans.
    #[command(subcommand)]
    Plan(plan::Command),
    /// Lists call detail records, one a leg.
    Cdr(cdr::CdrArgs),
    /// Lists the calls that go on at the running switch.
    Calls(calls::CallsArgs),
    /// Hangs up a call at the running switch.
    Hangup(calls::HangUpArgs),
    /// Calls two parties in the name of a user, one after the other, and joins them.
    Callback(calls::CallBackArgs),
    /// Lists what is registered at the running switch.
    Bindings(control::BindingsArgs),
    /// Says how the running switch is doing.
    Status(Json),
    /// Lets the running switch read its configuration again: all of it or, when it is wrong, nothing.
    Reload(Json),
    /// Replaces a process of the running switch by a new one, whose program may be newer, and loses nothing.
    Restart(control::RestartArgs),
    /// Lets an application server take on no new calls, finish those it has, and end; `restart` brings it back.
    Drain(control::ProcessArgs),
    /// Drains and ends the running switch.
    Stop,
    /// One of the processes that `run` has started.
    #[command(hide = true)]
    Process(ProcessArgs),
    /// What sends packets with a foreign source, which `run` has started.
    #[command(hide = true)]
    Raw,
    /// Shows a switch on loopback: two phones register, one calls the other, and every message is printed.
    Demo,
}

#[derive(Args)]
struct ProcessArgs {
    /// For whoever reads the list of processes.
    #[arg(id = "name")]
    _name: String,
    /// The descriptor on which the supervisor speaks.
    #[arg(long)]
    channel: i32,
}

/// For commands which print data.
#[derive(Args)]
struct Json {
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Json {
    /// Prints `data`, as JSON or by `text`.
    fn print<T: Serialize>(&self, data: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self.json {
            true => print(&serde_json::to_string_pretty(data).map_err(anyhow::Error::from)?),
            false => print(&text(data)),
        }
    }
}

/// Why a command did not work.
enum Failure {
    /// The command or the configuration is wrong.
    Wrong(String),
    /// It could not be done.
    Failed(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<AccountsError> for Failure {
    fn from(error: AccountsError) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs the command of this process and gives its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Process(ProcessArgs { channel, .. }) = cli.command {
        return process::run(channel);
    }
    if matches!(cli.command, Command::Raw) {
        return raw::run();
    }
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(sentence)) => {
            eprintln!("{sentence}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("ringswitch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        if matches!(self.command, Command::Demo) {
            return Ok(demo::run()?);
        }
        let (config, text) = config::load_text(self.config.as_deref())?;
        match self.command {
            Command::Run => {
                let level = logging::init(&config.log)?;
                match config.processes {
                    Processes::One => switch::run(config, level)?,
                    Processes::Separate => supervisor::run(config, text, level)?,
                }
                Ok(())
            }
            Command::Check(json) => match plan::mistakes(&config)?.as_slice() {
                [] => json.print(&config::settings(&config), |_| summary(&config)),
                mistakes => Err(Failure::Wrong(mistakes.join("\n\n"))),
            },
            Command::Account(command) => command.run(&config),
            Command::Provider(command) => command.run(&config),
            Command::Plan(command) => command.run(&config),
            Command::Cdr(args) => cdr::list(&config, args),
            Command::Calls(args) => calls::list(&config, args),
            Command::Hangup(args) => calls::hang_up(&config, args),
            Command::Callback(args) => calls::call_back(&config, args),
            Command::Bindings(args) => control::bindings(&config, args),
            Command::Status(json) => control::status(&config, &json),
            Command::Reload(json) => control::reload(&config, &json),
            Command::Restart(args) => control::restart(&config, &args),
            Command::Drain(args) => control::drain(&config, args),
            Command::Stop => control::stop(&config),
            Command::Demo | Command::Process(_) | Command::Raw => Ok(()),
        }
    }
}

/// Writes `text` and a line's end to stdout. A reader that has gone, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.into())),
        _ => Ok(()),
    }
}

fn summary(config: &Config) -> String {
    let file = config.file.as_deref().unwrap_or(config::DEFAULT_FILE.as_ref());
    let listen: Vec<String> =
        config.listen.iter().map(|listen| format!("{} {}", listen.transport.param(), listen.address)).collect();
    format!(
        "{} is right.\ndomains   {}\nlisten    {}\ndata_dir  {}",
        if file.exists() { file.display().to_string() } else { "The default configuration".to_owned() },
        config.domains.join(", "),
        listen.join(", "),
        config.data_dir.display(),
    )
}
