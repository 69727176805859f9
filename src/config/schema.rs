//! Which keys there are, and what each may be. The only place that knows the bounds.

use super::{
    Config, Cores, HostPort, Journal, Listen, Log, LogFormat, LogLevel, Mesh, Network, Overload, Pattern, Proxy,
    Registrar, Shards, SipLimits, Tcp, Udp, UserAgentRule, WhenFull,
    document::{Section, Wrong, choose},
};
use sip::{Host, Transport, Uri, digest::Algorithm};
use std::{
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Shards of a process.
pub(super) const MAX_SHARDS: u16 = 256;

const MAX_LISTENERS: usize = 64;
const MAX_USER_AGENT_RULES: usize = 64;

/// RFC 3261 §20.19 allows 2**32-1; a year is more than anyone waits.
const YEAR_SECS: u32 = 365 * 86_400;

/// What one compiled pattern may occupy.
const MAX_PATTERN_BYTES: usize = 1 << 20;

pub(super) fn read(top: &mut Section<'_>, config: &mut Config) {
    top.texts("domains", &mut config.domains, host);
    if config.domains.is_empty() {
        top.blame(&["domains"], Wrong::new("a switch has at least one domain", "write `domains = [\"localhost\"]`"));
    }
    top.text("data_dir", &mut config.data_dir, absolute);

    let mut listen = Vec::new();
    if top.sections("listen", MAX_LISTENERS, |section| listener(section, &mut listen)) {
        config.listen = listen;
    }
    top.section("cores", |section| cores(section, &mut config.cores));
    top.section("udp", |section| udp(section, &mut config.udp));
    top.section("batching", |section| section.number("window_usecs", 0..=10_000, &mut config.batching.window_usecs));
    top.section("tcp", |section| tcp(section, &mut config.tcp));
    top.section("mesh", |section| mesh(section, &mut config.mesh));
    top.section("sip", |section| sip_limits(section, &mut config.sip));
    top.section("proxy", |section| proxy(section, &mut config.proxy));
    top.section("overload", |section| overload(section, &mut config.overload));
    top.section("registrar", |section| registrar(section, &mut config.registrar));
    top.section("journal", |section| journal(section, &mut config.journal));
    top.section("log", |section| log(section, &mut config.log));
}

fn listener(section: &mut Section<'_>, listen: &mut Vec<Listen>) {
    let mut transport = None;
    let mut address = None;
    let mut advertise = None;
    section.text("transport", &mut transport, |text| self::transport(text).map(Some));
    section.text("address", &mut address, |text| socket_address(text).map(Some));
    section.text("advertise", &mut advertise, |text| host_port(text).map(Some));

    for (key, example) in [("transport", "udp"), ("address", "0.0.0.0:5060")] {
        if !section.has(key) {
            let what = format!("this [[listen]] lacks `{key}`");
            section.blame_all(Wrong::new(what, format!("add `{key} = \"{example}\"`")));
        }
    }
    let (Some(transport), Some(address)) = (transport, address) else { return };
    if listen.iter().any(|other| other.transport == transport && other.address == address) {
        let what = format!("an earlier [[listen]] is {} on {address}, too", transport.param());
        return section.blame(&["address"], Wrong::new(what, "remove one of the two"));
    }
    listen.push(Listen { transport, address, advertise, optional: false });
}

fn cores(section: &mut Section<'_>, cores: &mut Cores) {
    if section.has_list("switch") {
        let mut list = Vec::new();
        section.numbers("switch", 0..=1023, &mut list);
        if list.is_empty() || list.len() > usize::from(MAX_SHARDS) {
            let what = format!("`switch` lists {} cores", list.len());
            section.blame(&["switch"], Wrong::new(what, format!("list from 1 to {MAX_SHARDS}")));
        }
        cores.switch = Shards::On(list);
    } else {
        let mut count = None;
        section.number_if_given("switch", 1..=MAX_SHARDS, &mut count);
        cores.switch = count.map_or(cores.switch.clone(), Shards::Count);
    }
}

fn udp(section: &mut Section<'_>, udp: &mut Udp) {
    section.number("receive_buffer_bytes", 4_096..=1 << 30, &mut udp.receive_buffer_bytes);
    section.number("send_buffer_bytes", 4_096..=1 << 30, &mut udp.send_buffer_bytes);
    section.power_of_two("buffers", 16..=32_768, &mut udp.buffers);
    section.number("buffer_bytes", 2_048..=65_535, &mut udp.buffer_bytes);
}

fn tcp(section: &mut Section<'_>, tcp: &mut Tcp) {
    section.number("max_connections", 1..=1_000_000, &mut tcp.max_connections);
    section.number("max_connections_per_address", 1..=1_000_000, &mut tcp.max_connections_per_address);
    section.number("idle_secs", 1..=86_400, &mut tcp.idle_secs);
    section.number("message_secs", 1..=600, &mut tcp.message_secs);
    section.number("connect_secs", 1..=60, &mut tcp.connect_secs);
    section.number("max_queued_bytes", 65_536..=1 << 30, &mut tcp.max_queued_bytes);
    section.flag("alias", &mut tcp.alias);
}

fn mesh(section: &mut Section<'_>, mesh: &mut Mesh) {
    section.power_of_two("slots", 16..=65_536, &mut mesh.slots);
}

fn sip_limits(section: &mut Section<'_>, sip: &mut SipLimits) {
    section.number("max_message_bytes", 1_300..=65_535, &mut sip.max_message_bytes);
    section.number("max_headers", 16..=128, &mut sip.max_headers);
    section.number("max_line_bytes", 256..=65_535, &mut sip.max_line_bytes);
}

fn proxy(section: &mut Section<'_>, proxy: &mut Proxy) {
    section.flag("record_route", &mut proxy.record_route);
    section.texts("relay_from", &mut proxy.relay_from, network);
    section.text("server", &mut proxy.server, header_text);
}

fn overload(section: &mut Section<'_>, overload: &mut Overload) {
    section.number("new_requests_per_turn", 1..=65_536, &mut overload.new_requests_per_turn);
    section.number("retry_after_secs", 1..=3_600, &mut overload.retry_after_secs);
    section.number("pending_registers", 1..=1 << 20, &mut overload.pending_registers);
}

fn registrar(section: &mut Section<'_>, registrar: &mut Registrar) {
    section.number("min_expires_secs", 1..=YEAR_SECS, &mut registrar.min_expires_secs);
    section.number("max_expires_secs", 1..=YEAR_SECS, &mut registrar.max_expires_secs);
    section.number("default_expires_secs", 1..=YEAR_SECS, &mut registrar.default_expires_secs);
    let Registrar { min_expires_secs: min, max_expires_secs: max, default_expires_secs: default, .. } = *registrar;
    if min > max {
        let what = format!("`min_expires_secs` ({min}) is more than `max_expires_secs` ({max})");
        section.blame(&["min_expires_secs", "max_expires_secs"], Wrong::new(what, "raise the one or lower the other"));
    } else if !(min..=max).contains(&default) {
        let what = format!("`default_expires_secs` ({default}) is not from `min_expires_secs` to `max_expires_secs`");
        let keys = ["default_expires_secs", "max_expires_secs", "min_expires_secs"];
        section.blame(&keys, Wrong::new(what, format!("add `default_expires_secs = {}`", default.clamp(min, max))));
    }

    section.number("max_bindings", 1..=1_000, &mut registrar.max_bindings);
    let choices = [("refuse", WhenFull::Refuse), ("replace-oldest", WhenFull::ReplaceOldest)];
    section.choice("when_full", &choices, &mut registrar.when_full);

    section.flag("authenticate", &mut registrar.authenticate);
    section.number("nonce_secs", 10..=86_400, &mut registrar.nonce_secs);
    section.texts("algorithms", &mut registrar.algorithms, |text| {
        choose("algorithms", &Algorithm::STRONGEST_FIRST.map(|algorithm| (algorithm.token(), algorithm)), text)
    });
    if registrar.algorithms.is_empty() {
        let mend = "name one, or switch digest off with `authenticate = false`";
        section.blame(&["algorithms"], Wrong::new("a challenge offers at least one algorithm", mend));
    }
    section.texts("service_route", &mut registrar.service_route, loose_route);

    let bounds = (registrar.min_expires_secs, registrar.max_expires_secs);
    let rules = &mut registrar.user_agent;
    section.sections("user_agent", MAX_USER_AGENT_RULES, |section| rules.extend(user_agent_rule(section, bounds)));
}

/// `default` is the registrar's own least and greatest expiry, which the rule's stand in for.
fn user_agent_rule(section: &mut Section<'_>, default: (u32, u32)) -> Option<UserAgentRule> {
    let mut pattern = None;
    let mut min = None;
    let mut max = None;
    section.text("pattern", &mut pattern, |text| regex(text).map(Some));
    section.number_if_given("min_expires_secs", 1..=YEAR_SECS, &mut min);
    section.number_if_given("max_expires_secs", 1..=YEAR_SECS, &mut max);

    if !section.has("pattern") {
        let mend = "add one, such as `pattern = \"^Linphone\"`";
        section.blame_all(Wrong::new("this [[registrar.user_agent]] lacks `pattern`", mend));
    }
    if !section.has("min_expires_secs") && !section.has("max_expires_secs") {
        let what = "this [[registrar.user_agent]] changes nothing";
        section.blame_all(Wrong::new(what, "add `min_expires_secs`, `max_expires_secs` or both"));
    }
    let (least, most) = (min.unwrap_or(default.0), max.unwrap_or(default.1));
    if least > most && default.0 <= default.1 {
        let what = format!("for these user agents the least expiry ({least}) is more than the greatest ({most})");
        section.blame(&["min_expires_secs", "max_expires_secs"], Wrong::new(what, "give both, the lesser as `min`"));
    }
    Some(UserAgentRule { pattern: pattern?, min_expires_secs: min, max_expires_secs: max })
}

fn journal(section: &mut Section<'_>, journal: &mut Journal) {
    section.number("segment_bytes", 1 << 20..=1 << 40, &mut journal.segment_bytes);
    section.number("group_bytes", 4_096..=1 << 26, &mut journal.group_bytes);
    section.number("queue_batches", 16..=65_536, &mut journal.queue_batches);
    if u64::from(journal.group_bytes) > journal.segment_bytes {
        let wrong = Wrong::new("`group_bytes` is more than `segment_bytes`", "raise the one or lower the other");
        section.blame(&["group_bytes", "segment_bytes"], wrong);
    }
}

fn log(section: &mut Section<'_>, log: &mut Log) {
    let formats = [
        ("auto", LogFormat::Auto),
        ("human", LogFormat::Human),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    section.choice("format", &formats, &mut log.format);
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    section.choice("level", &levels, &mut log.level);
}

fn transport(text: &str) -> Result<Transport, Wrong> {
    let transports = [
        ("udp", Transport::Udp),
        ("tcp", Transport::Tcp),
        ("tls", Transport::Tls),
        ("ws", Transport::Ws),
        ("wss", Transport::Wss),
    ];
    match choose("transport", &transports, text)? {
        transport @ (Transport::Udp | Transport::Tcp) => Ok(transport),
        _ => Err(Wrong::new(format!("transport `{text}` is not available in this version"), "use `udp` or `tcp`")),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    let mend = "give an IP address and a port, such as `0.0.0.0:5060` or `[::]:5060`";
    let address: SocketAddr =
        text.parse().map_err(|_| Wrong::new(format!("`{text}` is no address to listen on"), mend))?;
    match address.port() {
        0 => Err(Wrong::new("there is no port 0", "SIP's own port is 5060")),
        _ => Ok(address),
    }
}

fn host_port(text: &str) -> Result<HostPort, Wrong> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && text.parse::<Ipv6Addr>().is_err() => (name, Some(port)),
        _ => (text, None),
    };
    let port = port
        .map(|digits| {
            digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                Wrong::new(format!("`{digits}` is no port"), "use a number from 1 to 65535, or leave it out")
            })
        })
        .transpose()?;
    Ok(HostPort { host: host(name)?, port })
}

/// A domain name, an IPv4 address, or an IPv6 address in brackets (RFC 3261 §25.1 `host`), in lower case.
pub(crate) fn host(text: &str) -> Result<String, Wrong> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Wrong::new(format!("`{text}` lacks brackets"), format!("write `[{text}]`")));
    }
    // A name's last label begins with a letter, which tells a mistyped address from a name.
    let is_name = || text.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()));
    match Host::new(text.as_bytes()) {
        Some(Host::V4(_) | Host::V6(_)) => Ok(text.to_ascii_lowercase()),
        Some(Host::Name(_)) if is_name() => Ok(text.to_ascii_lowercase()),
        _ => {
            let mend = "give a domain name such as `example.com`, or an IP address";
            Err(Wrong::new(format!("`{text}` is no domain"), mend))
        }
    }
}

/// unix(7): a socket's path has at most 107 octets, and the control socket lies in this directory.
const MAX_DATA_DIR_OCTETS: usize = 107 - "/control.sock".len();

fn absolute(text: &str) -> Result<PathBuf, Wrong> {
    if !Path::new(text).is_absolute() {
        return Err(Wrong::new(format!("`{text}` is no absolute path"), "begin it with `/`; `~` is not expanded"));
    }
    if text.len() > MAX_DATA_DIR_OCTETS {
        let mend = format!("use at most {MAX_DATA_DIR_OCTETS} octets, so that its control socket can be named");
        return Err(Wrong::new(format!("this path has {} octets", text.len()), mend));
    }
    Ok(PathBuf::from(text))
}

fn network(text: &str) -> Result<Network, Wrong> {
    text.parse()
        .map_err(|what: String| Wrong::new(what, "give an address block such as `10.0.0.0/8` or `2001:db8::/32`"))
}

/// What may stand in a Server header (RFC 3261 §25.1 `server-val`, of which only the octets are checked).
fn header_text(text: &str) -> Result<String, Wrong> {
    match text.len() <= 128 && text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) && text.trim() == text {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new("this is no header value", "use at most 128 printable ASCII characters")),
    }
}

/// A URI for a Service-Route (RFC 3608 §5): one with `lr`, for a strict route would rewrite the phone's requests.
fn loose_route(text: &str) -> Result<String, Wrong> {
    let Ok(uri) = Uri::parse(text.as_bytes()).and_then(Uri::sip) else {
        return Err(Wrong::new(format!("`{text}` is no SIP URI"), "give one such as `sip:proxy.example.com;lr`"));
    };
    match uri.is_loose() {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new("this route is strict: it lacks `lr`", format!("write `{text};lr`"))),
    }
}

fn regex(text: &str) -> Result<Pattern, Wrong> {
    let pattern = regex::bytes::RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build();
    pattern.map(Pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Wrong::new("this pattern grows too large", "make its repetitions smaller"),
        // The message repeats the pattern on several lines; its last one says what is wrong.
        error => {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let mend = "in 'single quotes' a backslash needs no second one; docs.rs/regex lists the syntax";
            Wrong::new(format!("this is no regular expression: {last}"), mend)
        }
    })
}
