//! `ringswitch calls|hangup|callback`: asks the running switch over its control socket.

use super::{
    Failure, Json,
    control::ask,
    table::{duration, table},
};
use crate::{
    accounts::Aor,
    config::Config,
    control::{CalledBack, Calls, HungUp, MAX_LISTED, Request},
};
use clap::Args;

#[derive(Args)]
pub(super) struct CallsArgs {
    /// Only those of this user, as user@domain.
    #[arg(long, value_name = "ACCOUNT")]
    user: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
pub(super) struct HangUpArgs {
    /// The call's number, as `ringswitch calls` lists it; its first digits will do if no other call begins with them.
    #[arg(value_parser = number)]
    call: String,
}

#[derive(Args)]
pub(super) struct CallBackArgs {
    /// The account in whose name they are called, as user@domain: his providers, his CDRs.
    user: String,
    /// The party that is called first: a dial string, as in a plan.
    first: String,
    /// The other one.
    second: String,
    /// The application server that is to do it; the first one without.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

pub(super) fn list(config: &Config, args: CallsArgs) -> Result<(), Failure> {
    let CallsArgs { user, limit, json } = args;
    let user = user.map(|text| Aor::parse(&text, config.default_domain())).transpose().map_err(Failure::Wrong)?;
    let answer: Calls = ask(config, &Request::Calls { user: user.map(|user| user.to_string()), limit })?;
    json.print(&answer, show)?;
    if answer.more && !json.json {
        eprintln!("There are more: raise --limit, or narrow the list by --user.");
    }
    Ok(())
}

pub(super) fn hang_up(config: &Config, args: HangUpArgs) -> Result<(), Failure> {
    let HungUp { call } = ask(config, &Request::HangUp { call: args.call })?;
    super::print(&format!("The call {call} is hung up."))
}

pub(super) fn call_back(config: &Config, args: CallBackArgs) -> Result<(), Failure> {
    let CallBackArgs { user, first, second, server } = args;
    let user = Aor::parse(&user, config.default_domain()).map_err(Failure::Wrong)?.to_string();
    let CalledBack { call } = ask(config, &Request::CallBack { user, first, second, server })?;
    super::print(&format!(
        "The call {call} has begun. The log will say what came of it, and `ringswitch cdr` lists its legs."
    ))
}

fn number(text: &str) -> Result<String, String> {
    match (4..=32).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        true => Ok(text.to_lowercase()),
        false => Err("write 4 to 32 hexadecimal digits, as `ringswitch calls` shows them".to_owned()),
    }
}

fn show(answer: &Calls) -> String {
    if answer.calls.is_empty() {
        return "No call goes on here.".to_owned();
    }
    let mut rows = Vec::new();
    for call in &answer.calls {
        for leg in &call.legs {
            rows.push(vec![
                call.call.get(..12).unwrap_or(&call.call).to_owned(),
                call.server.clone(),
                call.user.clone(),
                call.plan.clone(),
                leg.direction.clone(),
                leg.peer.clone(),
                leg.state.clone(),
                leg.answered_secs.map(|secs| duration(secs.into())).unwrap_or_default(),
            ]);
        }
    }
    table(&["call", "server", "user", "plan", "way", "peer", "state", "talks"], &rows)
}
