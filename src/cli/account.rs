//! `ringswitch account …`: works on the database itself, whether or not the switch runs.

use super::{Failure, Json, table::table};
use crate::{
    accounts::{Account, Aor, Database, Page},
    config::{self, Config},
};
use anyhow::Context;
use clap::{Args, Subcommand};
use std::{io::Read, str::FromStr};

/// Octets of a password.
const MAX_PASSWORD_OCTETS: usize = 1_024;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Adds an account. The password comes from stdin; only its digests are kept.
    Add {
        /// The account, as user@domain.
        account: String,
        /// Reads the password from stdin, where its first line is all there is.
        #[arg(long, required = true)]
        password_stdin: bool,
        /// Adds it disabled.
        #[arg(long)]
        disabled: bool,
        /// Lets it send requests to domains which are not ours.
        #[arg(long)]
        may_relay: bool,
        #[command(flatten)]
        limits: Limits,
    },
    /// Lists accounts in the order of domain and user, a page at a time.
    List {
        /// Only those of this domain.
        #[arg(long)]
        domain: Option<String>,
        /// Only those behind this account in the order of the list.
        #[arg(long, value_name = "ACCOUNT")]
        after: Option<String>,
        /// The length of the page.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Shows an account, but never its digests.
    Show {
        /// The account, as user@domain.
        account: String,
        #[command(flatten)]
        json: Json,
    },
    /// Changes what is named of an account, and leaves the rest.
    Set {
        /// The account, as user@domain.
        account: String,
        /// Reads a new password from stdin.
        #[arg(long)]
        password_stdin: bool,
        /// Whether it may register and call.
        #[arg(long)]
        enabled: Option<bool>,
        /// Whether it may send requests to domains which are not ours.
        #[arg(long)]
        may_relay: Option<bool>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Removes an account. Its bindings stay until they expire, but cannot be refreshed.
    Remove {
        /// The account, as user@domain.
        account: String,
    },
}

#[derive(Args)]
pub(super) struct Limits {
    /// Bindings that it may have, or `default` for the registrar's own limit.
    #[arg(long, value_name = "N", value_parser = |text: &str| OrDefault::<u16>::bounded(text, 1_000))]
    max_bindings: Option<OrDefault<u16>>,
    /// The longest expiry that it gets, or `default` for the registrar's own limit.
    #[arg(long, value_name = "SECS", value_parser = |text: &str| OrDefault::<u32>::bounded(text, 31_536_000))]
    max_expires_secs: Option<OrDefault<u32>>,
}

/// A number, or the word `default`.
#[derive(Clone, Copy)]
struct OrDefault<N>(Option<N>);

impl<N: FromStr + From<u8> + PartialOrd + std::fmt::Display> OrDefault<N> {
    fn bounded(text: &str, most: N) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(None));
        }
        let number = text.parse().ok().filter(|number| (&N::from(1)..=&most).contains(&number));
        number.map(|number| Self(Some(number))).ok_or_else(|| format!("use a number from 1 to {most}, or `default`"))
    }
}

impl Limits {
    fn apply(&self, account: &mut Account) {
        if let Some(OrDefault(limit)) = self.max_bindings {
            account.max_bindings = limit;
        }
        if let Some(OrDefault(limit)) = self.max_expires_secs {
            account.max_expires_secs = limit;
        }
    }
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let aor = |text: &str| Aor::parse(text, config.default_domain()).map_err(Failure::Wrong);
        let open = || Database::open(&config.database());
        match self {
            Self::Add { account, password_stdin: _, disabled, may_relay, limits } => {
                let aor = aor(&account)?;
                ours(&aor, config)?;
                let mut account = Account::new(aor, &password()?);
                account.enabled = !disabled;
                account.may_relay = may_relay;
                limits.apply(&mut account);
                Ok(open()?.add([account])?)
            }
            Self::List { domain, after, limit, json } => {
                let after = after.as_deref().map(aor).transpose()?;
                let domain = domain.map(|domain| domain.to_lowercase());
                let accounts = open()?.list(&Page { domain, after, limit })?;
                json.print(&accounts, |accounts| list(accounts))?;
                match accounts.last() {
                    Some(last) if accounts.len() == limit as usize && !json.json => {
                        eprintln!("There may be more: add --after {}", last.aor);
                    }
                    _ => {}
                }
                Ok(())
            }
            Self::Show { account, json } => json.print(&open()?.show(&aor(&account)?)?, show),
            Self::Set { account, password_stdin, enabled, may_relay, limits } => {
                let changes_limits = limits.max_bindings.is_some() || limits.max_expires_secs.is_some();
                if !password_stdin && enabled.is_none() && may_relay.is_none() && !changes_limits {
                    let sentence = "There is nothing to set; `ringswitch account set --help` shows what can be.";
                    return Err(Failure::Wrong(sentence.to_owned()));
                }
                let aor = aor(&account)?;
                let password = password_stdin.then(password).transpose()?;
                open()?.set(&aor, |account| {
                    if let Some(password) = &password {
                        account.set_password(password);
                    }
                    account.enabled = enabled.unwrap_or(account.enabled);
                    account.may_relay = may_relay.unwrap_or(account.may_relay);
                    limits.apply(account);
                })?;
                Ok(())
            }
            Self::Remove { account } => Ok(open()?.remove(&aor(&account)?)?),
        }
    }
}

/// An account of a domain which is not ours could never be used.
fn ours(aor: &Aor, config: &Config) -> Result<(), Failure> {
    if config.domains.contains(&aor.domain) {
        return Ok(());
    }
    let file = config.file.as_deref().unwrap_or(config::DEFAULT_FILE.as_ref());
    Err(Failure::Wrong(format!(
        "{} is none of our domains ({}); add it to `domains` in {}, or name another file with --config",
        aor.domain,
        config.domains.join(", "),
        file.display(),
    )))
}

/// The password on stdin, without its line's end.
pub(super) fn password() -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    let most = MAX_PASSWORD_OCTETS as u64 + 3;
    std::io::stdin().take(most).read_to_end(&mut octets).context("the password cannot be read from stdin")?;
    let password = octets.strip_suffix(b"\n").unwrap_or(&octets);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    let wrong = match password {
        [] => "stdin holds no password; try: echo secret | ringswitch …",
        long if long.len() > MAX_PASSWORD_OCTETS => "the password on stdin is longer than 1024 bytes",
        text if text.iter().any(|octet| b"\r\n\0".contains(octet)) => {
            "stdin holds more than one line; give the password alone"
        }
        _ => return Ok(password.to_vec()),
    };
    Err(Failure::Wrong(wrong.to_owned()))
}

fn list(accounts: &[Account]) -> String {
    if accounts.is_empty() {
        return "There are no accounts here.".to_owned();
    }
    let row = |account: &Account| {
        vec![
            account.aor.to_string(),
            state(account).to_owned(),
            yes_or_no(account.may_relay).to_owned(),
            or_default(account.max_bindings),
            or_default(account.max_expires_secs),
        ]
    };
    let heads = ["account", "state", "may relay", "max bindings", "max expires secs"];
    table(&heads, &accounts.iter().map(row).collect::<Vec<_>>())
}

fn show(account: &Account) -> String {
    let algorithms: Vec<&str> = account.ha1.iter().map(|ha1| ha1.algorithm().token()).collect();
    format!(
        "account           {}\nstate             {}\nmay relay         {}\nmax bindings      {}\nmax expires secs  {}\ndigests           {}",
        account.aor,
        state(account),
        yes_or_no(account.may_relay),
        or_default(account.max_bindings),
        or_default(account.max_expires_secs),
        algorithms.join(", "),
    )
}

fn state(account: &Account) -> &'static str {
    if account.enabled { "enabled" } else { "disabled" }
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn or_default<N: ToString>(limit: Option<N>) -> String {
    limit.map_or_else(|| "default".to_owned(), |limit| limit.to_string())
}
