//! `ringswitch provider …`: users' accounts with providers. Works on the database itself, whether or not the switch runs.

use super::{Failure, Json, account, table::table};
use crate::{
    accounts::{Aor, Database},
    config::Config,
};
use clap::{Args, Subcommand};
use serde::Serialize;
use store::{Password, Provider, ProviderSource};

/// Octets of any text of a provider's, the password included.
const MAX_TEXT_OCTETS: usize = 1_024;

/// Headers, and sources, that a provider may have.
const MAX_LISTED: usize = 32;

/// Octets of a provider's name.
const MAX_NAME_OCTETS: usize = 64;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Adds an account that a user has with a provider. The password comes from stdin.
    Add {
        /// What dial strings call it, such as `acme`.
        name: String,
        #[command(flatten)]
        owner: Owner,
        /// The SIP URI that calls go to, such as sip:sip.example.net.
        #[arg(long, value_parser = sip_uri)]
        server: String,
        /// The user part of our address there.
        #[arg(long, value_parser = text)]
        user: String,
        /// Reads the password from stdin, where its first line is all there is. It is kept as it is, for the switch must
        /// answer the provider's challenges with it.
        #[arg(long, required = true)]
        password_stdin: bool,
        /// Adds it disabled.
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Lists providers in the order of their owners.
    List {
        /// Only those of this user, as user@domain.
        #[arg(long, value_name = "ACCOUNT")]
        owner: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Shows a provider, but never its password.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        json: Json,
    },
    /// Changes what is named of a provider, and leaves the rest.
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        owner: Owner,
        /// The SIP URI that calls go to.
        #[arg(long, value_parser = sip_uri)]
        server: Option<String>,
        /// The user part of our address there.
        #[arg(long, value_parser = text)]
        user: Option<String>,
        /// Reads a new password from stdin.
        #[arg(long)]
        password_stdin: bool,
        /// Whether it takes and gives calls.
        #[arg(long)]
        enabled: Option<bool>,
        #[command(flatten)]
        options: Options,
    },
    /// Removes a provider. Calls that go on through it stay.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        owner: Owner,
    },
}

#[derive(Args)]
pub(super) struct Owner {
    /// Whose it is, as user@domain.
    #[arg(long, value_name = "ACCOUNT")]
    owner: String,
}

impl Owner {
    fn aor(&self, config: &Config) -> Result<Aor, Failure> {
        Aor::parse(&self.owner, config.default_domain()).map_err(Failure::Wrong)
    }
}

/// What a provider may do without. An empty text takes away what was there.
#[derive(Args)]
pub(super) struct Options {
    /// The SIP URI that requests are routed through; an empty text for none.
    #[arg(long, value_parser = optional(sip_uri))]
    outbound_proxy: Option<Optional>,
    /// The user name of the credentials, where it differs from --user; an empty text for none.
    #[arg(long, value_parser = optional(text))]
    auth_user: Option<Optional>,
    /// The realm that alone is answered; an empty text for any.
    #[arg(long, value_parser = optional(text))]
    realm: Option<Optional>,
    /// The From of calls through it, such as '"Sales" <sip:4711@example.net>'; an empty text for user and server.
    #[arg(long, value_parser = optional(address))]
    from: Option<Optional>,
    /// The user part of our Contact; an empty text for the switch's choice.
    #[arg(long, value_parser = optional(text))]
    contact: Option<Optional>,
    /// A header which requests to it get besides, as 'Name: value'; give it once for each, and an empty text for none.
    #[arg(long, value_parser = optional(header))]
    header: Vec<Optional>,
    /// An address, network or host that its calls come from; give it once for each, and an empty text for none. Without any,
    /// its calls are not told from a stranger's.
    #[arg(long, value_parser = optional(source))]
    source: Vec<Optional>,
}

/// A text, or none where it is empty.
#[derive(Clone)]
struct Optional(Option<String>);

impl Optional {
    fn boxed(self) -> Option<Box<str>> {
        self.0.map(Into::into)
    }
}

impl Options {
    fn is_empty(&self) -> bool {
        let Self { outbound_proxy, auth_user, realm, from, contact, header, source } = self;
        [outbound_proxy, auth_user, realm, from, contact].iter().all(|option| option.is_none())
            && header.is_empty()
            && source.is_empty()
    }

    fn check(&self) -> Result<(), Failure> {
        match self.header.len() > MAX_LISTED || self.source.len() > MAX_LISTED {
            true => Err(Failure::Wrong(format!("A provider has at most {MAX_LISTED} headers and as many sources."))),
            false => Ok(()),
        }
    }

    fn apply(self, provider: &mut Provider) {
        let fields = [
            (self.outbound_proxy, &mut provider.outbound_proxy),
            (self.auth_user, &mut provider.auth_user),
            (self.realm, &mut provider.realm),
            (self.from, &mut provider.from),
            (self.contact, &mut provider.contact),
        ];
        for (new, field) in fields {
            if let Some(new) = new {
                *field = new.boxed();
            }
        }
        if !self.header.is_empty() {
            let headers = self.header.iter().filter_map(|header| header.0.as_ref()?.split_once(':'));
            provider.headers = headers.map(|(name, value)| (name.trim().into(), value.trim().into())).collect();
        }
        if !self.source.is_empty() {
            let sources = self.source.iter().filter_map(|source| ProviderSource::parse(source.0.as_ref()?));
            provider.sources = sources.collect();
        }
    }
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let open = || Database::open(&config.database());
        match self {
            Self::Add { name, owner, server, user, password_stdin: _, disabled, options } => {
                let owner = owner.aor(config)?;
                self::name(&name).map_err(Failure::Wrong)?;
                options.check()?;
                let mut provider = Provider {
                    owner: owner.to_string().into(),
                    name: name.into(),
                    server: server.into(),
                    outbound_proxy: None,
                    user: user.into(),
                    auth_user: None,
                    password: password()?,
                    realm: None,
                    from: None,
                    contact: None,
                    headers: Box::default(),
                    sources: Box::default(),
                    enabled: !disabled,
                };
                options.apply(&mut provider);
                Ok(open()?.add_provider(&owner, &provider)?)
            }
            Self::List { owner, limit, json } => {
                let owner = owner.map(|text| Aor::parse(&text, config.default_domain())).transpose();
                let providers = open()?.list_providers(owner.map_err(Failure::Wrong)?.as_ref(), limit)?;
                json.print(&providers.iter().map(Shown::from).collect::<Vec<_>>(), |shown| list(shown))
            }
            Self::Show { name, owner, json } => {
                let provider = open()?.show_provider(&owner.aor(config)?, &name)?;
                json.print(&Shown::from(&provider), show)
            }
            Self::Set { name, owner, server, user, password_stdin, enabled, options } => {
                if server.is_none() && user.is_none() && !password_stdin && enabled.is_none() && options.is_empty() {
                    let sentence = "There is nothing to set; `ringswitch provider set --help` shows what can be.";
                    return Err(Failure::Wrong(sentence.to_owned()));
                }
                options.check()?;
                let owner = owner.aor(config)?;
                let password = password_stdin.then(password).transpose()?;
                open()?.set_provider(&owner, &name, |provider| {
                    if let Some(server) = server {
                        provider.server = server.into();
                    }
                    if let Some(user) = user {
                        provider.user = user.into();
                    }
                    if let Some(password) = password {
                        provider.password = password;
                    }
                    provider.enabled = enabled.unwrap_or(provider.enabled);
                    options.apply(provider);
                })?;
                Ok(())
            }
            Self::Remove { name, owner } => Ok(open()?.remove_provider(&owner.aor(config)?, &name)?),
        }
    }
}

fn password() -> Result<Password, Failure> {
    let octets = account::password()?;
    let text = String::from_utf8(octets);
    text.map(Password::new).map_err(|_| Failure::Wrong("the password on stdin is not UTF-8".to_owned()))
}

/// A name that a dial string can hold (`user@name`).
pub(super) fn name(text: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match (1..=MAX_NAME_OCTETS).contains(&text.len()) && text.chars().all(is_name) {
        true => Ok(()),
        false => Err(format!("`{text}` is no name; use 1 to {MAX_NAME_OCTETS} letters, digits and -_.")),
    }
}

fn text(text: &str) -> Result<String, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        long if long.len() > MAX_TEXT_OCTETS => Err(format!("it is longer than {MAX_TEXT_OCTETS} octets")),
        odd if odd.chars().any(char::is_control) => Err("it holds a control character".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn sip_uri(given: &str) -> Result<String, String> {
    let given = text(given)?;
    match sip::Uri::parse(given.as_bytes()) {
        Ok(sip::Uri::Sip(_)) => Ok(given),
        _ => Err("write a SIP URI such as sip:sip.example.net".to_owned()),
    }
}

fn address(given: &str) -> Result<String, String> {
    let given = text(given)?;
    let mut addresses = sip::Address::list(given.as_bytes());
    match (addresses.next(), addresses.next()) {
        (Some(Ok(_)), None) => Ok(given.clone()),
        _ => Err("write an address such as '\"Sales\" <sip:4711@example.net>'".to_owned()),
    }
}

fn header(given: &str) -> Result<String, String> {
    /// What the switch writes by itself (RFC 3261 §8.1.1, §12, §20).
    const OURS: [&str; 15] = [
        "via",
        "v",
        "from",
        "f",
        "to",
        "t",
        "call-id",
        "i",
        "cseq",
        "max-forwards",
        "contact",
        "m",
        "content-length",
        "l",
        "route",
    ];
    let given = text(given)?;
    let wrong = "write a header as 'Name: value'".to_owned();
    let (name, value) = given.split_once(':').ok_or_else(|| wrong.clone())?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) || value.trim().is_empty() {
        return Err(wrong);
    }
    match OURS.contains(&name.to_lowercase().as_str()) {
        true => Err(format!("the switch itself writes {name}")),
        false => Ok(given),
    }
}

fn source(given: &str) -> Result<String, String> {
    let given = text(given)?;
    let wrong = "write an address, a network or a host, such as 192.0.2.7, 192.0.2.0/24 or sip.example.net";
    ProviderSource::parse(&given).map(|_| given).ok_or_else(|| wrong.to_owned())
}

/// Lets an option take an empty text.
fn optional(
    parse: fn(&str) -> Result<String, String>,
) -> impl Fn(&str) -> Result<Optional, String> + Clone + Send + Sync + 'static {
    move |given| match given {
        "" => Ok(Optional(None)),
        given => parse(given).map(|text| Optional(Some(text))),
    }
}

/// A provider without its password.
#[derive(Serialize)]
struct Shown<'a> {
    owner: &'a str,
    name: &'a str,
    server: &'a str,
    outbound_proxy: Option<&'a str>,
    user: &'a str,
    auth_user: Option<&'a str>,
    realm: Option<&'a str>,
    from: Option<&'a str>,
    contact: Option<&'a str>,
    headers: Vec<String>,
    sources: Vec<String>,
    enabled: bool,
}

impl<'a> From<&'a Provider> for Shown<'a> {
    fn from(provider: &'a Provider) -> Self {
        Self {
            owner: &provider.owner,
            name: &provider.name,
            server: &provider.server,
            outbound_proxy: provider.outbound_proxy.as_deref(),
            user: &provider.user,
            auth_user: provider.auth_user.as_deref(),
            realm: provider.realm.as_deref(),
            from: provider.from.as_deref(),
            contact: provider.contact.as_deref(),
            headers: provider.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect(),
            sources: provider.sources.iter().map(ProviderSource::to_string).collect(),
            enabled: provider.enabled,
        }
    }
}

fn list(providers: &[Shown<'_>]) -> String {
    if providers.is_empty() {
        return "There are no providers here.".to_owned();
    }
    let row = |provider: &Shown<'_>| {
        [provider.owner, provider.name, provider.server, provider.user, state(provider), &provider.sources.join(" ")]
            .map(str::to_owned)
            .to_vec()
    };
    table(&["owner", "name", "server", "user", "state", "sources"], &providers.iter().map(row).collect::<Vec<_>>())
}

fn show(provider: &Shown<'_>) -> String {
    let lines = [
        ("owner", provider.owner),
        ("name", provider.name),
        ("state", state(provider)),
        ("server", provider.server),
        ("outbound proxy", provider.outbound_proxy.unwrap_or("none")),
        ("user", provider.user),
        ("auth user", provider.auth_user.unwrap_or("as user")),
        ("realm", provider.realm.unwrap_or("any")),
        ("from", provider.from.unwrap_or("user at server")),
        ("contact", provider.contact.unwrap_or("the switch's choice")),
        ("headers", &provider.headers.join(" | ")),
        ("sources", &provider.sources.join(" ")),
    ];
    lines.map(|(what, text)| format!("{what:<16}{text}").trim_end().to_owned()).join("\n")
}

fn state(provider: &Shown<'_>) -> &'static str {
    if provider.enabled { "enabled" } else { "disabled" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused_with_a_way_out() {
        assert!(header("Via: SIP/2.0/UDP forged").unwrap_err().contains("the switch itself"));
        assert!(header("X-A: b\r\nVia: forged").unwrap_err().contains("control character"));
        assert!(header("no header").unwrap_err().contains("'Name: value'"));
        assert_eq!(header("X-Account: a:b").unwrap(), "X-Account: a:b");
        assert!(sip_uri("tel:4711").unwrap_err().contains("sip:"));
        assert!(source("192.0.2.0/99").unwrap_err().contains("192.0.2.0/24"));
        assert!(name("a b").is_err() && name("acme-2.example").is_ok());
    }

    #[test]
    fn a_provider_is_shown_without_its_password() {
        let provider = Provider {
            owner: "alice@example.com".into(),
            name: "acme".into(),
            server: "sip:sip.example.net".into(),
            outbound_proxy: None,
            user: "4711".into(),
            auth_user: None,
            password: Password::new("hunter2"),
            realm: None,
            from: None,
            contact: None,
            headers: Box::default(),
            sources: Box::default(),
            enabled: true,
        };
        let shown = Shown::from(&provider);
        let text =
            format!("{}{}{}", show(&shown), list(&[Shown::from(&provider)]), serde_json::to_string(&shown).unwrap());
        assert!(text.contains("acme") && !text.contains("hunter2"));
    }
}
