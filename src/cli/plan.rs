//! `ringswitch plan …`: users' dial plans. Works on the database itself, whether or not the switch runs.

use super::{Failure, Json, provider, table::table};
use crate::{
    accounts::{Aor, Database},
    config::Config,
};
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use dialplan::{Facts, Limits};
use serde::Serialize;
use std::{
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use store::Direction;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Gives a user a plan, or another text to one that he has. A plan with mistakes is refused; a running switch takes it up
    /// within a second.
    Set {
        /// Whose, as user@domain.
        user: String,
        /// The plan's name.
        name: String,
        /// The file with its text; `-` is stdin.
        #[arg(long)]
        file: PathBuf,
        /// The calls that it runs for, in the place of the plan that does: those that come in to the user, those that go out
        /// from him, or both (`--as in --as out`).
        #[arg(long = "as", value_name = "DIRECTION")]
        directions: Vec<Way>,
    },
    /// Prints a plan's text.
    Show {
        /// Whose, as user@domain.
        user: String,
        /// The plan's name.
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Lists plans in the order of their owners.
    List {
        /// Only those of this user, as user@domain.
        user: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Removes a plan. Calls that began with it finish with it.
    Remove {
        /// Whose, as user@domain.
        user: String,
        /// The plan's name.
        name: String,
    },
    /// Runs a plan dry against a made-up call and prints what it would do, step by step. Nothing is sent.
    Test(Test),
}

#[derive(Args)]
pub(super) struct Test {
    /// Whose, as user@domain.
    user: String,
    /// The plan's name.
    name: String,
    /// The caller's URI or number.
    #[arg(long)]
    from: Option<String>,
    /// What he dials.
    #[arg(long)]
    to: Option<String>,
    /// Which of the user's calls this is.
    #[arg(long = "as", value_name = "DIRECTION", default_value = "out")]
    direction: Way,
    /// What the dial commands come to, one after the other, such as 486,302,200; those beyond are not answered.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(200..=699))]
    answer: Vec<u16>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Way {
    /// Calls that come in to the user.
    In,
    /// Calls that he makes.
    Out,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::In => Self::In,
            Way::Out => Self::Out,
        }
    }
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let aor = |text: &str| Aor::parse(text, config.default_domain()).map_err(Failure::Wrong);
        let open = || Database::open(&config.database());
        match self {
            Self::Set { user, name, file, directions } => {
                let user = aor(&user)?;
                provider::name(&name).map_err(Failure::Wrong)?;
                let limits = config.dialplan.limits();
                let source = read(&file, &limits)?;
                compile(&name, &source, &limits)?;
                let directions: Vec<Direction> = directions.into_iter().map(Into::into).collect();
                Ok(open()?.set_plan(&user, &name, &source, &directions)?)
            }
            Self::Show { user, name, json } => {
                let plan = open()?.show_plan(&aor(&user)?, &name)?;
                json.print(&Shown::of(&plan, true), |_| plan.text.source.to_string())
            }
            Self::List { user, limit, json } => {
                let user = user.as_deref().map(aor).transpose()?;
                let plans = open()?.list_plans(user.as_ref(), limit)?;
                json.print(&plans.iter().map(|plan| Shown::of(plan, false)).collect::<Vec<_>>(), |shown| list(shown))
            }
            Self::Remove { user, name } => Ok(open()?.remove_plan(&aor(&user)?, &name)?),
            Self::Test(test) => run_dry(test, config),
        }
    }
}

/// Compiles every plan of the database. Gives the mistakes, as their authors are to read them.
pub(super) fn mistakes(config: &Config) -> Result<Vec<String>, Failure> {
    let mut mistakes = Vec::new();
    // A check makes no database where none is yet.
    if !config.database().exists() {
        return Ok(mistakes);
    }
    Database::open(&config.database())?.each_plan(|plan| {
        if let Err(fault) = dialplan::Plan::compile(&plan.text.name, &plan.text.source, &config.dialplan.limits()) {
            mistakes.push(format!("In a plan of {}:\n{fault}", plan.text.owner));
        }
    })?;
    Ok(mistakes)
}

fn compile(name: &str, source: &str, limits: &Limits) -> Result<dialplan::Plan, Failure> {
    dialplan::Plan::compile(name, source, limits).map_err(|fault| Failure::Wrong(fault.to_string()))
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the file that it is given")]
fn read(file: &Path, limits: &Limits) -> Result<String, Failure> {
    let named = || format!("the plan {}", file.display());
    let most = limits.max_source_bytes as u64 + 1;
    let mut source = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_string(&mut source),
        false => std::fs::File::open(file).with_context(named)?.take(most).read_to_string(&mut source),
    };
    read.with_context(named)?;
    Ok(source)
}

#[expect(clippy::disallowed_methods, reason = "a made-up call comes now")]
fn run_dry(test: Test, config: &Config) -> Result<(), Failure> {
    let user = Aor::parse(&test.user, config.default_domain()).map_err(Failure::Wrong)?;
    let database = Database::open(&config.database())?;
    let text = database.show_plan(&user, &test.name)?.text;
    let providers = database.list_providers(Some(&user), 1000)?;
    let limits = config.dialplan.limits();
    let plan = compile(&text.name, &text.source, &limits)?;
    let uri = |given: Option<String>, else_to: String| {
        let given = given.unwrap_or(else_to);
        let uri = match (given.contains(':'), given.contains('@')) {
            (true, _) => given,
            (false, true) => format!("sip:{given}"),
            (false, false) => format!("sip:{given}@{}", user.domain),
        };
        match sip::Uri::parse(uri.as_bytes()) {
            Ok(_) if !uri.contains(char::is_control) => Ok(uri),
            _ => Err(Failure::Wrong(format!("`{uri}` is no URI; write a number or sip:user@host"))),
        }
    };
    let (ours, other) = (user.to_string(), "100".to_owned());
    let (from, to) = match test.direction {
        Way::Out => (uri(test.from, ours)?, uri(test.to, other)?),
        Way::In => (uri(test.from, other)?, uri(test.to, ours)?),
    };
    let request = format!(
        "INVITE {to} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKdryrun\r\nMax-Forwards: 70\r\n\
         From: <{from}>;tag=dryrun\r\nTo: <{to}>\r\nCall-ID: dryrun@127.0.0.1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:127.0.0.1:5060>\r\nContent-Length: 0\r\n\r\n"
    );
    let facts = Facts {
        direction: match test.direction {
            Way::In => dialplan::Direction::In,
            Way::Out => dialplan::Direction::Out,
        },
        user: user.user.as_str().into(),
        domain: user.domain.as_str().into(),
        source: "127.0.0.1:5060".into(),
        zone: "".into(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
        providers: providers.iter().map(|provider| provider.name.clone()).collect(),
        request: request.into_bytes().into(),
    };
    let told = dialplan::dry_run(&plan, facts, &limits, &test.answer).map_err(anyhow::Error::from)?;
    let mut text = format!("INVITE {to} from {from}\n");
    for (n, line) in (1..).zip(told) {
        text.push_str(&format!("{n:>3}. {line}\n"));
    }
    super::print(&text)
}

#[derive(Serialize)]
struct Shown<'a> {
    owner: &'a str,
    name: &'a str,
    is_in: bool,
    is_out: bool,
    version: u64,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(plan: &'a store::Plan, with_source: bool) -> Self {
        Self {
            owner: &plan.text.owner,
            name: &plan.text.name,
            is_in: plan.is_in,
            is_out: plan.is_out,
            version: plan.text.version,
            bytes: plan.text.source.len(),
            source: with_source.then_some(&*plan.text.source),
        }
    }
}

fn list(plans: &[Shown<'_>]) -> String {
    if plans.is_empty() {
        return "There are no plans here.".to_owned();
    }
    let row = |plan: &Shown<'_>| {
        let ways = [(plan.is_in, "in"), (plan.is_out, "out")];
        let ways: Vec<&str> = ways.iter().filter(|(is, _)| *is).map(|(_, way)| *way).collect();
        vec![
            plan.owner.to_owned(),
            plan.name.to_owned(),
            ways.join(" "),
            plan.version.to_string(),
            plan.bytes.to_string(),
        ]
    };
    table(&["owner", "name", "runs for", "version", "bytes"], &plans.iter().map(row).collect::<Vec<_>>())
}
