//! The configuration as an operator meets it: defaults, the example, the documentation, and what a fault looks like.

#![expect(clippy::disallowed_methods, reason = "tests read and write files")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use ringswitch::config::{self, Config, Processes, Shards, Steering, WhenFull, parse, settings};
use sip::{Transport, digest::Algorithm};
use std::collections::BTreeSet;

const EXAMPLE: &str = include_str!("../examples/ringswitch.toml");
const DOCUMENTATION: &str = include_str!("../docs/configuration.md");

/// Every key with a value that is not its default; `processes` aside.
const EVERYTHING_ELSE: &str = r#"
domains = ["Example.com", "[2001:DB8::1]", "192.0.2.1"]
data_dir = "/srv/sip"
processes = "separate"
listen = [
    { transport = "udp", address = "192.0.2.1:5070", advertise = "sip.example.com" },
    { transport = "tcp", address = "[2001:db8::1]:5070", advertise = "[2001:db8::1]:5060" },
]

[cores]
switch = [2, 3]

[udp]
offload = false
receive_buffer_bytes = 1_000_000
send_buffer_bytes = 0x10_0000
buffers = 4096
buffer_bytes = 4096
padding_bytes = 255
steering = "off"

[batching]
window_usecs = 0

[tcp]
max_connections = 1
max_connections_per_address = 2
idle_secs = 3
message_secs = 4
connect_secs = 5
max_queued_bytes = 100000
alias = true

[mesh]
slots = 64

[sip]
max_message_bytes = 4000
max_headers = 64
max_line_bytes = 1000

[proxy]
record_route = false
relay_from = ["10.0.0.0/8", "2001:db8::/32"]
server = ""

[overload]
backlog_percent = 9
patience_msecs = 50
retry_after_secs = 8
pending_registers = 7

[registrar]
min_expires_secs = 30
max_expires_secs = 600
default_expires_secs = 300
max_bindings = 3
when_full = "replace-oldest"
authenticate = false
nonce_secs = 60
algorithms = ["SHA-256"]
service_route = ["sip:proxy.example.com:5070;transport=tcp;lr"]

[[registrar.user_agent]]
pattern = '^Linphone/\d'
min_expires_secs = 100
max_expires_secs = 900

[[app]]
name = "blue"
binary = "/opt/ringswitch/ringswitch"
cores = [4, 5]
memory_limit_mb = 0

[[app]]
name = "green"
uri = "sip:192.0.2.7:5070"
weight = 20

[[app]]
name = "edge-1"
domains = ["Edge.example.com"]

[calls]
authenticate = false
max_calls = 1
max_calls_per_user = 2
max_legs = 3
max_redirects = 4
max_plan_depth = 5
ring_secs = 6
max_setup_secs = 7
max_call_secs = 8
session_expires_secs = 900
min_session_expires_secs = 100
max_passing = 9
max_relays = 10
relay_to_all = true
max_transactions = 5000
max_reports = 10

[dialplan]
max_source_bytes = 1024
max_functions = 1
max_expr_depth = 8
max_call_levels = 4
max_variables = 16
max_operations = 1000
slice_operations = 256
slice_usecs = 50
max_script_secs = 1
max_run_secs = 1
max_memory_bytes = 65536
max_memory_total_bytes = 1048576
max_string_bytes = 256
max_array_items = 16
max_map_items = 16
max_pattern_bytes = 16
max_match_bytes = 16
max_runs = 1
max_runs_per_user = 1
max_legs = 1
max_ring_secs = 1
max_web_requests = 0
max_callbacks = 0
max_questions = 0
max_log_lines = 0
max_log_line_bytes = 80
max_headers = 0
max_stack_bytes = 65536

[callback]
impersonate = true
networks = ["10.0.0.0/8", "fd00::/8"]
packets = 2
max_packets_per_call = 4
max_packets_per_destination = 100
max_packets_per_sec = 50

[health]
interval_secs = 13
timeout_secs = 14
failures = 15
successes = 16

[supervisor]
restart_min_msecs = 17
restart_max_secs = 18
steady_secs = 19
start_secs = 20
silence_secs = 21
drain_secs = 22
nice = 1
last_words = 24

[journal]
segment_bytes = 2097152
group_bytes = 8192
window_usecs = 500
queue_batches = 32

[cdr]
json_lines = "/var/log/cdr.jsonl"

[web]
timeout_secs = 1
max_body_bytes = 2000
max_redirects = 1
max_waiting = 10
max_waiting_per_user = 3
threads = 1
allow = ["10.0.0.0/8"]

[store]
max_waiting = 20
max_waiting_per_user = 5

[log]
format = "json"
level = "debug"
"#;

fn faults(text: &str) -> String {
    parse("ringswitch.toml", text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_a_working_switch_on_5060() {
    let config = parse("empty", "").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.default_domain(), "localhost");
    let listen: Vec<_> = config.listen.iter().map(|l| (l.transport, l.address.to_string(), l.optional)).collect();
    let expected = [
        (Transport::Udp, "0.0.0.0:5060".to_owned(), false),
        (Transport::Tcp, "0.0.0.0:5060".to_owned(), false),
        (Transport::Udp, "[::]:5060".to_owned(), true),
        (Transport::Tcp, "[::]:5060".to_owned(), true),
    ];
    assert_eq!(listen, expected);
}

#[test]
fn every_key_can_be_set() {
    let config = parse("all", EVERYTHING_ELSE).unwrap();
    assert_eq!(config.domains, ["example.com", "[2001:db8::1]", "192.0.2.1"]);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.listen[0].advertise.as_ref().unwrap().to_string(), "sip.example.com");
    assert_eq!(config.listen[1].advertise.as_ref().unwrap().port, Some(5060));
    assert_eq!(config.cores.switch, Shards::On(vec![2, 3]));
    assert_eq!(config.udp.send_buffer_bytes, 1 << 20);
    assert_eq!(config.udp.steering, Steering::Off);
    assert!(config.proxy.relay_from[0].contains("10.9.8.7".parse().unwrap()));
    assert_eq!(config.registrar.when_full, WhenFull::ReplaceOldest);
    assert_eq!(config.registrar.algorithms, [Algorithm::Sha256]);
    assert!(config.registrar.user_agent[0].pattern.0.is_match(b"Linphone/5.2 (belle-sip)"));

    let (default, all) = (settings(&Config::default()), settings(&config));
    let unchanged: Vec<&String> =
        all.iter().filter(|(key, value)| default.get(*key) == Some(value)).map(|(k, _)| k).collect();
    // With all in one process `[[app]]` has fewer keys.
    assert_eq!(unchanged, ["processes"], "the text above must change these, too");
    assert_eq!(parse("one", "processes = \"one\"").unwrap().processes, Processes::One);
}

#[test]
fn application_servers_challenge_as_the_registrar_does() {
    for text in ["", "[registrar]\nalgorithms = [\"SHA-256\"]\nnonce_secs = 60"] {
        let config = parse("challenges", text).unwrap();
        let domains = agent::Domains::new(vec!["example.com".into()], Vec::new());
        let told = ringswitch::switch::app_settings(&config, domains);
        assert_eq!(told.algorithms, config.registrar.algorithms);
        assert_eq!(told.nonce_secs, config.registrar.nonce_secs);
    }
}

#[test]
fn the_example_with_its_hashes_removed_is_the_default() {
    let text: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut config = parse("example", &text).unwrap();
    let default = Config::default();

    // It says itself that these depend on the machine and the user.
    assert_eq!(config.cores.switch, Shards::Count(2));
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/ringswitch"));
    config.cores = default.cores.clone();
    config.data_dir = default.data_dir.clone();
    // Listeners that are written down are not optional.
    for listen in &mut config.listen {
        listen.optional = listen.address.is_ipv6();
    }
    assert_eq!(config, default);

    let written: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    for key in settings(&default)
        .keys()
        .filter(|key| !["listen", "registrar.user_agent", "app", "cdr.json_lines"].contains(&key.as_str()))
    {
        assert!(written.contains(key.rsplit('.').next().unwrap()), "the example lacks {key}");
    }
}

#[test]
fn the_example_as_it_stands_is_the_default() {
    assert_eq!(parse("example", EXAMPLE).unwrap(), Config::default());
}

#[test]
fn the_documentation_lists_each_key_with_its_default_and_whether_a_reload_applies_it() {
    let default = Config::default();
    let changes = default.changes(&parse("all", EVERYTHING_ELSE).unwrap());
    let rows: Vec<Vec<&str>> = DOCUMENTATION
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let row = |key: &str| {
        let name = format!("`{key}`");
        rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row for {key}"))
    };

    let machine_dependent = ["data_dir", "cores.switch", "listen", "registrar.user_agent", "app", "cdr.json_lines"];
    for (key, value) in settings(&default) {
        let rows: Vec<_> = match key.as_str() {
            "listen" => ["transport", "address", "advertise"].map(|field| row(&format!("{key}.{field}"))).to_vec(),
            "registrar.user_agent" => {
                ["pattern", "min_expires_secs", "max_expires_secs"].map(|field| row(&format!("{key}.{field}"))).to_vec()
            }
            "app" => ["name", "domains", "uri", "binary", "cores", "weight", "memory_limit_mb"]
                .map(|field| row(&format!("{key}.{field}")))
                .to_vec(),
            _ => vec![row(&key)],
        };
        let reload = if changes.applies.contains(&key) { "yes" } else { "restart" };
        assert!(rows.iter().all(|row| row[3] == reload), "{key}: {reload}");
        if !machine_dependent.contains(&key.as_str()) {
            assert_eq!(row(&key)[2], format!("`{}`", value.to_string().replace("\",\"", "\", \"")), "{key}");
        }
    }
    assert_eq!(rows.len(), settings(&default).len() + 10, "each row is a key");
}

#[test]
fn the_documented_bounds_are_those_that_hold() {
    let numbers = regex::Regex::new(r"(\d+) to (\d+)").unwrap();
    let mut seen = 0;
    for line in DOCUMENTATION.lines().filter(|line| line.starts_with("| `") && !line.contains("`app.")) {
        let key = line.split('`').nth(1).unwrap();
        let (Some(bounds), Some((section, name))) = (numbers.captures(line), key.rsplit_once('.')) else { continue };
        let (least, most): (i64, i64) = (bounds[1].parse().unwrap(), bounds[2].parse().unwrap());
        let is_refused = |value: i64| {
            // Other faults, such as a minimum above the maximum, are not about this bound.
            parse("bounds", &format!("[{section}]\n{name} = {value}"))
                .is_err_and(|faults| faults.to_string().contains("use a whole number from"))
        };
        assert_eq!([least - 1, least, most, most + 1].map(is_refused), [true, false, false, true], "{key}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn one_application_server_is_there_unless_the_file_says_otherwise() {
    let names = |text: &str| {
        let config = parse("apps", text).unwrap();
        config.app.into_iter().map(|app| app.name).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["stable"]);
    assert!(names("app = []").is_empty());
    assert_eq!(names("[[app]]\nname = 'blue'"), ["blue"]);
    assert_eq!(names("[[app]]\nname = 'edge'\ndomains = ['edge.example.com']"), ["stable", "edge"]);

    let config = parse("apps", "domains = ['a.example']\n[[app]]\nname = 'edge'\ndomains = ['b.example', 'A.example']");
    assert_eq!(config.unwrap().all_domains(), ["a.example", "b.example"]);
}

#[test]
fn a_reload_takes_what_can_change_and_leaves_the_rest() {
    let old = parse("old", "").unwrap();
    assert!(old.changes(&old).applies.is_empty() && old.changes(&old).needs_restart.is_empty());

    let new = parse("new", "[registrar]\nmax_bindings = 2\n[mesh]\nslots = 32\n[log]\nlevel = 'warn'\nformat = 'json'")
        .unwrap();
    let changes = old.changes(&new);
    assert_eq!(changes.applies, ["log.level", "registrar.max_bindings"]);
    assert_eq!(changes.needs_restart, ["log.format", "mesh.slots"]);
    assert_eq!(changes.config.registrar, new.registrar);
    assert_eq!(changes.config.mesh, old.mesh);
    // What waited for a restart still waits at the next reload.
    assert_eq!(changes.config.changes(&new).needs_restart, ["log.format", "mesh.slots"]);
    assert!(changes.config.changes(&new).applies.is_empty());
}

/// Each text with the message it causes. `UPDATE=1` rewrites the file; read the diff.
#[test]
fn faults_read_as_in_the_golden_file() {
    let texts = [
        "domain = [\"example.com\"]",
        "domains = \"example.com\"",
        "domains = [\"example.com\", \"exa mple.com\", \"EXAMPLE.com\"]",
        "domains = []",
        "data_dir = \"~/sip\"",
        "listen = []",
        "[[listen]]\ntransport = \"udp\"\naddress = \"localhost:5060\"\n\n[[listen]]\ntransport = \"tsl\"\n\n[[listen]]\ntransport = \"tls\"\naddress = \"0.0.0.0:5061\"",
        "[[listen]]\ntransport = \"udp\"\naddress = \"[::]:5060\"\nadvertise = \"2001:db8::1\"",
        "[listen]\ntransport = \"udp\"",
        "[cores]\nswitch = 0",
        "[cores]\nswitch = [1, 1]",
        "[udp]\nbuffers = 1000",
        "[udp]\nsteering = \"on\"",
        "[registrar]\nmin_expire_secs = 60\nmax_bindings = \"10\"\nwhen_full = \"replace-newest\"",
        "[registrar]\n\tmax_bindings = 10.5 # a tab before, a remark behind",
        "[registrar]\nmax_expires_secs = 30",
        "[registrar]\nmax_expires_secs = 600",
        "[registrar]\nalgorithms = [\"SHA256\", \"MD5\"]",
        "[registrar]\nservice_route = [\"sip:proxy.example.com\", \"proxy.example.com;lr\"]",
        "[[registrar.user_agent]]\npattern = \"Linphone(\"\nmax_expires_secs = 100000000",
        "[[registrar.user_agent]]\nmatch = \"Linphone\"",
        "[proxy]\nrelay_from = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"fe80::/200\"]\nrecord_route = 1",
        "[[app]]\nname = \"Edge 1\"\n[[app]]\nname = \"switch\"\n[[app]]\ndomain = [\"edge.example.com\"]",
        "[[app]]\nname = \"stable\"\ndomains = [\"a.example\"]",
        "processes = \"separate\"\n[[app]]\nname = \"a\"\nuri = \"192.0.2.7\"\nbinary = \"ringswitch\"\n[[app]]\nname = \"a\"",
        "processes = \"one\"\n[[app]]\nname = \"a\"\nmemory_limit_mb = 100\nweigth = 1",
        "app = [\"stable\"]",
        "[calls]\nmin_session_expires_secs = 3600",
        "[callback]\nimpersonate = 1\nnetworks = [\"203.0.113.0/24\", \"10.0.0.0\"]\npackets = 11",
        "[callback]\npackets = 5\nmax_packets_per_sec = 4",
        "[overload]\nnew_requests_per_turn = 256",
        "[tls]\ncertificate = \"x\"",
        "[log]\nlevel = \"warning\"\nformat = \"JSON\"",
        "proxy = true",
        "domains = [\"a.example\"\n\n[udp]\nbuffers = 16",
        "data_dir = /var/lib/ringswitch",
        "[udp]\nbuffers = 16\nbuffers = 32",
    ];
    let golden: String = texts.iter().map(|text| format!("----\n{text}\n----\n{}\n\n", faults(text))).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config_faults.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &golden).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), golden);
}

#[test]
fn a_file_full_of_faults_is_answered_by_the_first_of_them() {
    let text: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    let message = faults(&text);
    assert!(message.starts_with("ringswitch.toml:1:1: unknown key `key0`"));
    assert!(message.ends_with("and 980 more"));
}

#[test]
fn a_file_which_is_no_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ringswitch.toml");
    let fault = || config::load(Some(&file)).unwrap_err().to_string();

    assert!(fault().starts_with("cannot read "));
    std::fs::write(&file, b"# ok\ndomains = [\"\xff\"]").unwrap();
    assert!(fault().ends_with("ringswitch.toml:2: this line is not UTF-8; save the file in that encoding"));
    std::fs::write(&file, vec![b'#'; config::MAX_FILE_BYTES as usize + 1]).unwrap();
    assert!(fault().contains("is longer than 1048576 bytes"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    // Whatever stands between two cuts of a right file is read or refused.
    for (start, _) in EVERYTHING_ELSE.char_indices().step_by(7) {
        for end in [EVERYTHING_ELSE.len(), EVERYTHING_ELSE.len() - start / 2] {
            if let Err(faults) = parse("cut", EVERYTHING_ELSE.get(start..end.max(start)).unwrap_or("")) {
                assert!(faults.to_string().starts_with("cut:"));
            }
        }
    }
}
