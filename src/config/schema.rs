//! Which keys there are, and what each may be. The only place that knows the bounds.

use super::{
    App, Callback, Calls, Config, Cores, Dialplan, Health, HostPort, Journal, Listen, Log, LogFormat, LogLevel, Mesh,
    Overload, Pattern, Processes, Proxy, Registrar, Shards, SipLimits, Steering, Supervisor, Tcp, Udp, UserAgentRule,
    Web, WhenFull,
    document::{Section, Wrong, choose},
};
use sip::{Host, Transport, Uri, digest::Algorithm};
use std::{
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};
use store::Network;

/// Shards of a process.
pub(super) const MAX_SHARDS: u16 = 256;

const MAX_LISTENERS: usize = 64;
const MAX_APPS: usize = 64;
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
    top.text("data_dir", &mut config.data_dir, |text| absolute(text).and_then(short));
    let processes = [("one", Processes::One), ("separate", Processes::Separate)];
    top.choice("processes", &processes, &mut config.processes);

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
    apps(top, config);
    top.section("calls", |section| calls(section, &mut config.calls));
    top.section("dialplan", |section| dialplan(section, &mut config.dialplan));
    top.section("callback", |section| callback(section, &mut config.callback));
    top.section("health", |section| health(section, &mut config.health));
    top.section("supervisor", |section| supervisor(section, &mut config.supervisor));
    top.section("journal", |section| journal(section, &mut config.journal));
    top.section("cdr", |section| {
        section.text("json_lines", &mut config.cdr.json_lines, |text| absolute(text).map(Some))
    });
    top.section("web", |section| web(section, &mut config.web));
    top.section("store", |section| {
        section.number("max_waiting", 1..=65_536, &mut config.store.max_waiting);
        section.number("max_waiting_per_user", 1..=65_536, &mut config.store.max_waiting_per_user);
    });
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
    shards(section, "switch", &mut cores.switch);
}

fn shards(section: &mut Section<'_>, key: &'static str, shards: &mut Shards) {
    if section.has_list(key) {
        let mut list = Vec::new();
        section.numbers(key, 0..=1023, &mut list);
        if list.is_empty() || list.len() > usize::from(MAX_SHARDS) {
            let what = format!("`{key}` lists {} cores", list.len());
            section.blame(&[key], Wrong::new(what, format!("list from 1 to {MAX_SHARDS}")));
        }
        *shards = Shards::On(list);
    } else {
        let mut count = None;
        section.number_if_given(key, 1..=MAX_SHARDS, &mut count);
        if let Some(count) = count {
            *shards = Shards::Count(count);
        }
    }
}

/// `app = []` is none; otherwise one serves the domains that no other names.
fn apps(top: &mut Section<'_>, config: &mut Config) {
    if top.lists_nothing("app") {
        config.app.clear();
        return;
    }
    let mut written = Vec::new();
    let processes = config.processes;
    if !top.sections("app", MAX_APPS, |section| written.extend(app(section, processes, &written))) {
        return;
    }
    if written.iter().all(|app| !app.domains.is_empty()) {
        let stable = App::stable();
        if written.iter().any(|app| app.name == stable.name) {
            let mend = "add another [[app]] without `domains`, or take them from this one";
            top.blame(&["app"], Wrong::new("no application server serves the other domains", mend));
        }
        written.insert(0, stable);
    }
    config.app = written;
}

fn app(section: &mut Section<'_>, processes: Processes, others: &[App]) -> Option<App> {
    let mut app = App::named("");
    section.text("name", &mut app.name, app_name);
    section.texts("domains", &mut app.domains, host);
    section.text("uri", &mut app.uri, |text| server_uri(text).map(Some));
    section.text("binary", &mut app.binary, |text| absolute(text).map(Some));
    shards(section, "cores", &mut app.cores);
    section.number("weight", 1..=1_000, &mut app.weight);
    section.number("memory_limit_mb", 0..=1 << 20, &mut app.memory_limit_mb);

    if !section.has("name") {
        section.blame_all(Wrong::new("this [[app]] lacks `name`", "add one, such as `name = \"edge\"`"));
    }
    if app.name.is_empty() {
        return None;
    }
    if others.iter().any(|other| other.name == app.name) {
        let what = format!("an earlier [[app]] is called `{}`, too", app.name);
        section.blame(&["name"], Wrong::new(what, "give each a name of its own"));
    }
    for key in ["binary", "cores", "memory_limit_mb"].into_iter().filter(|key| section.has(key)) {
        if section.has("uri") {
            let what = format!("`{key}` is for a process of ours, and `uri` says that this one runs elsewhere");
            section.blame(&[key], Wrong::new(what, "remove one of the two"));
        } else if processes == Processes::One {
            let what = format!("`{key}` is for a process of its own, and all share one");
            section.blame(&[key], Wrong::new(what, "remove it, or take `processes = \"one\"` from the top"));
        }
    }
    Some(app)
}

fn calls(section: &mut Section<'_>, calls: &mut Calls) {
    section.flag("authenticate", &mut calls.authenticate);
    section.number("max_calls", 1..=10_000_000, &mut calls.max_calls);
    section.number("max_calls_per_user", 1..=10_000_000, &mut calls.max_calls_per_user);
    section.number("max_legs", 1..=100, &mut calls.max_legs);
    section.number("max_redirects", 0..=20, &mut calls.max_redirects);
    section.number("max_plan_depth", 1..=10, &mut calls.max_plan_depth);
    section.number("ring_secs", 5..=3_600, &mut calls.ring_secs);
    section.number("max_setup_secs", 5..=3_600, &mut calls.max_setup_secs);
    section.number("max_call_secs", 0..=YEAR_SECS, &mut calls.max_call_secs);
    section.number("session_expires_secs", 0..=86_400, &mut calls.session_expires_secs);
    // RFC 4028 §4: 90 seconds is the least that anyone may ask for.
    section.number("min_session_expires_secs", 90..=86_400, &mut calls.min_session_expires_secs);
    section.number("max_passing", 1..=100, &mut calls.max_passing);
    section.number("max_relays", 1..=10_000_000, &mut calls.max_relays);
    section.flag("relay_to_all", &mut calls.relay_to_all);
    section.number("max_transactions", 1_000..=100_000_000, &mut calls.max_transactions);
    section.number("max_reports", 1..=1_000_000, &mut calls.max_reports);
    let Calls { session_expires_secs: asked, min_session_expires_secs: least, .. } = *calls;
    if asked != 0 && asked < least {
        let what = format!("`session_expires_secs` ({asked}) is less than `min_session_expires_secs` ({least})");
        let keys = ["session_expires_secs", "min_session_expires_secs"];
        section.blame(&keys, Wrong::new(what, "raise the one or lower the other; 0 asks for no session timer"));
    }
}

fn dialplan(section: &mut Section<'_>, dialplan: &mut Dialplan) {
    section.number("max_source_bytes", 1_024..=1 << 24, &mut dialplan.max_source_bytes);
    section.number("max_functions", 1..=10_000, &mut dialplan.max_functions);
    section.number("max_expr_depth", 8..=256, &mut dialplan.max_expr_depth);
    section.number("max_call_levels", 4..=256, &mut dialplan.max_call_levels);
    section.number("max_variables", 16..=10_000, &mut dialplan.max_variables);
    section.number("max_operations", 1_000..=1_000_000_000, &mut dialplan.max_operations);
    section.number("slice_operations", 256..=1_000_000, &mut dialplan.slice_operations);
    section.number("slice_usecs", 50..=100_000, &mut dialplan.slice_usecs);
    section.number("max_script_secs", 1..=3_600, &mut dialplan.max_script_secs);
    section.number("max_run_secs", 1..=86_400, &mut dialplan.max_run_secs);
    section.number("max_memory_bytes", 65_536..=1 << 30, &mut dialplan.max_memory_bytes);
    section.number("max_memory_total_bytes", 1 << 20..=1 << 40, &mut dialplan.max_memory_total_bytes);
    section.number("max_string_bytes", 256..=1 << 24, &mut dialplan.max_string_bytes);
    section.number("max_array_items", 16..=1_000_000, &mut dialplan.max_array_items);
    section.number("max_map_items", 16..=1_000_000, &mut dialplan.max_map_items);
    section.number("max_pattern_bytes", 16..=65_536, &mut dialplan.max_pattern_bytes);
    section.number("max_match_bytes", 16..=1 << 20, &mut dialplan.max_match_bytes);
    section.number("max_runs", 1..=10_000_000, &mut dialplan.max_runs);
    section.number("max_runs_per_user", 1..=10_000_000, &mut dialplan.max_runs_per_user);
    section.number("max_legs", 1..=1_000, &mut dialplan.max_legs);
    section.number("max_ring_secs", 1..=3_600, &mut dialplan.max_ring_secs);
    section.number("max_web_requests", 0..=1_000, &mut dialplan.max_web_requests);
    section.number("max_callbacks", 0..=100, &mut dialplan.max_callbacks);
    section.number("max_questions", 0..=100_000, &mut dialplan.max_questions);
    section.number("max_log_lines", 0..=100_000, &mut dialplan.max_log_lines);
    section.number("max_log_line_bytes", 80..=65_536, &mut dialplan.max_log_line_bytes);
    section.number("max_headers", 0..=100, &mut dialplan.max_headers);
    section.number("max_stack_bytes", 65_536..=1 << 24, &mut dialplan.max_stack_bytes);
}

fn callback(section: &mut Section<'_>, callback: &mut Callback) {
    section.flag("impersonate", &mut callback.impersonate);
    section.texts("networks", &mut callback.networks, private_network);
    section.number("packets", 1..=Callback::MAX_PACKETS, &mut callback.packets);
    section.number("max_packets_per_call", 1..=Callback::MAX_PACKETS_PER_CALL, &mut callback.max_packets_per_call);
    let most = Callback::MAX_PACKETS_PER_DESTINATION;
    section.number("max_packets_per_destination", 1..=most, &mut callback.max_packets_per_destination);
    section.number("max_packets_per_sec", 1..=Callback::MAX_PACKETS_PER_SEC, &mut callback.max_packets_per_sec);
    if callback.networks.len() > Callback::MAX_NETWORKS {
        let what = format!("`networks` has {} entries", callback.networks.len());
        section.blame(&["networks"], Wrong::new(what, format!("keep at most {}", Callback::MAX_NETWORKS)));
    }
    for (key, most) in [
        ("max_packets_per_call", callback.max_packets_per_call),
        ("max_packets_per_destination", callback.max_packets_per_destination),
        ("max_packets_per_sec", callback.max_packets_per_sec),
    ] {
        if most < callback.packets.into() {
            let what = format!("`{key}` ({most}) is less than one leg's `packets` ({})", callback.packets);
            section.blame(&[key, "packets"], Wrong::new(what, "raise the one or lower the other"));
        }
    }
}

fn health(section: &mut Section<'_>, health: &mut Health) {
    section.number("interval_secs", 1..=3_600, &mut health.interval_secs);
    section.number("timeout_secs", 1..=60, &mut health.timeout_secs);
    section.number("failures", 1..=100, &mut health.failures);
    section.number("successes", 1..=100, &mut health.successes);
}

fn supervisor(section: &mut Section<'_>, supervisor: &mut Supervisor) {
    section.number("restart_min_msecs", 10..=60_000, &mut supervisor.restart_min_msecs);
    section.number("restart_max_secs", 1..=3_600, &mut supervisor.restart_max_secs);
    section.number("steady_secs", 1..=3_600, &mut supervisor.steady_secs);
    section.number("start_secs", 1..=3_600, &mut supervisor.start_secs);
    section.number("silence_secs", 2..=3_600, &mut supervisor.silence_secs);
    section.number("drain_secs", 0..=3_600, &mut supervisor.drain_secs);
    section.number("nice", 0..=19, &mut supervisor.nice);
    section.number("last_words", 16..=1 << 20, &mut supervisor.last_words);
}

fn udp(section: &mut Section<'_>, udp: &mut Udp) {
    section.number("receive_buffer_bytes", 4_096..=1 << 30, &mut udp.receive_buffer_bytes);
    section.number("send_buffer_bytes", 4_096..=1 << 30, &mut udp.send_buffer_bytes);
    section.power_of_two("buffers", 16..=32_768, &mut udp.buffers);
    section.number("buffer_bytes", 2_048..=65_535, &mut udp.buffer_bytes);
    section.flag("offload", &mut udp.offload);
    section.number("padding_bytes", 0..=255, &mut udp.padding_bytes);
    section.choice("steering", &[("auto", Steering::Auto), ("off", Steering::Off)], &mut udp.steering);
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
    section.number("backlog_percent", 1..=90, &mut overload.backlog_percent);
    section.number("patience_msecs", 0..=10_000, &mut overload.patience_msecs);
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

fn web(section: &mut Section<'_>, web: &mut Web) {
    section.number("timeout_secs", 1..=60, &mut web.timeout_secs);
    section.number("max_body_bytes", 1_024..=1 << 20, &mut web.max_body_bytes);
    section.number("max_redirects", 0..=10, &mut web.max_redirects);
    section.number("max_waiting", 1..=65_536, &mut web.max_waiting);
    section.number("max_waiting_per_user", 1..=65_536, &mut web.max_waiting_per_user);
    section.number("threads", 1..=64, &mut web.threads);
    section.texts("allow", &mut web.allow, network);
}

fn journal(section: &mut Section<'_>, journal: &mut Journal) {
    section.number("segment_bytes", 1 << 20..=1 << 40, &mut journal.segment_bytes);
    section.number("group_bytes", 4_096..=1 << 26, &mut journal.group_bytes);
    section.number("window_usecs", 0..=100_000, &mut journal.window_usecs);
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
    match Path::new(text).is_absolute() {
        true => Ok(PathBuf::from(text)),
        false => Err(Wrong::new(format!("`{text}` is no absolute path"), "begin it with `/`; `~` is not expanded")),
    }
}

fn short(path: PathBuf) -> Result<PathBuf, Wrong> {
    match path.as_os_str().len() {
        0..=MAX_DATA_DIR_OCTETS => Ok(path),
        octets => {
            let mend = format!("use at most {MAX_DATA_DIR_OCTETS} octets, so that its control socket can be named");
            Err(Wrong::new(format!("this path has {octets} octets"), mend))
        }
    }
}

/// What a branch and a token of ours can carry.
fn app_name(text: &str) -> Result<String, Wrong> {
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if text.is_empty() || text.len() > App::MAX_NAME || !is_name(text) {
        let mend = format!("use 1 to {} small letters, digits and hyphens", App::MAX_NAME);
        return Err(Wrong::new(format!("`{text}` is no name of an application server"), mend));
    }
    match App::RESERVED.contains(&text) {
        true => Err(Wrong::new(format!("`{text}` is the name of another process of ours"), "choose another one")),
        false => Ok(text.to_owned()),
    }
}

/// Where a server elsewhere is.
fn server_uri(text: &str) -> Result<String, Wrong> {
    match Uri::parse(text.as_bytes()).and_then(Uri::sip) {
        Ok(uri) if uri.user.is_none() && uri.headers().is_empty() => Ok(text.to_owned()),
        _ => {
            let mend = "give one without a user, such as `sip:192.0.2.7:5060`";
            Err(Wrong::new(format!("`{text}` is no SIP URI of a server"), mend))
        }
    }
}

fn network(text: &str) -> Result<Network, Wrong> {
    let mend = "give an address block such as `10.0.0.0/8` or `2001:db8::/32`";
    text.parse().map_err(|what: store::NoNetwork| Wrong::new(what.to_string(), mend))
}

/// One that [`callback::Policy`] would refuse otherwise.
fn private_network(text: &str) -> Result<Network, Wrong> {
    let network = network(text)?;
    match callback::is_private(network.first()) {
        true => Ok(network),
        false => Err(Wrong::new(
            format!("`{text}` is no private network"),
            "remove it: public addresses are taken without being listed, and no list restricts them",
        )),
    }
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
