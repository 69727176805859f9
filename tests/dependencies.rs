//! The table of dependencies between the crates, and what the cores keep away from.
#![expect(clippy::disallowed_methods, reason = "the test reads the sources")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each crate with the crates of ours that it may depend on. A new arrow is a change of the design.
const ARROWS: &[(&str, &[&str])] = &[
    ("sip", &[]),
    ("agent", &["sip"]),
    ("store", &["sip", "agent"]),
    ("registrar", &["sip", "agent", "store"]),
    ("transaction", &["sip", "agent"]),
    ("dialog", &["sip", "agent"]),
    ("callback", &["sip", "store", "dialog"]),
    ("dialplan", &["sip"]),
    ("appserver", &["sip", "agent", "store", "registrar", "transaction", "dialog", "callback", "dialplan"]),
    ("bench", &["sip", "agent", "ringswitch"]),
    (
        "ringswitch",
        &["sip", "agent", "store", "registrar", "transaction", "dialog", "callback", "dialplan", "appserver"],
    ),
];

/// Crates that do I/O. Only the program and the benches know them.
const IO: &[&str] =
    &["glommio", "io-uring", "socket2", "rusqlite", "rustix", "libc", "tokio", "pnet", "signal-hook", "getrandom"];

/// What is written nowhere in a core, and how clippy.toml, which sees through imports and aliases, bans it.
const BANNED: &[(&str, &str)] = &[
    ("std::net::UdpSocket", "std::net::UdpSocket::bind"),
    ("std::net::TcpStream", "std::net::TcpStream::connect"),
    ("std::net::TcpListener", "std::net::TcpListener::bind"),
    ("std::fs", "std::fs::File::open"),
    ("Instant::now", "std::time::Instant::now"),
    ("SystemTime::now", "std::time::SystemTime::now"),
    ("thread::spawn", "std::thread::spawn"),
    ("std::env::var", "std::env::var"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The directory of every core.
fn cores() -> Vec<PathBuf> {
    let shards = fs::read_dir(root().join("shards")).expect("the cores are there");
    shards.map(|entry| entry.expect("a directory").path()).collect()
}

/// A crate's name and what its tables of dependencies name; those for tests only if `dev`.
fn dependencies(directory: &Path, dev: bool) -> (String, BTreeSet<String>) {
    let manifest: toml::Table = read(&directory.join("Cargo.toml")).parse().expect("a manifest is TOML");
    let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"];
    let tables = &tables[..if dev { 3 } else { 2 }];
    let all = tables.iter().filter_map(|t| manifest.get(*t)?.as_table()).flat_map(|t| t.keys().cloned()).collect();
    (name, all)
}

#[test]
fn crates_depend_on_each_other_only_as_the_table_allows() {
    let mut arrows: BTreeMap<&str, BTreeSet<String>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().map(ToString::to_string).collect())).collect();
    for directory in cores().into_iter().chain([root().join("bench"), root().to_owned()]) {
        let (name, dependencies) = dependencies(&directory, true);
        let allowed = arrows.remove(&*name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let ours = dependencies.into_iter().filter(|d| ARROWS.iter().any(|(ours, _)| d == ours));
        let beyond: Vec<_> = ours.filter(|d| !allowed.contains(d)).collect();
        assert!(beyond.is_empty(), "{name} may not depend on {beyond:?}");
    }
    assert!(arrows.is_empty(), "no such crates: {arrows:?}");
}

#[test]
fn no_core_depends_on_a_crate_that_does_io() {
    for directory in cores() {
        let (name, dependencies) = dependencies(&directory, false);
        // The pool of stacks maps its memory itself.
        let maps = |d: &str| name == "dialplan" && d == "libc";
        let io: Vec<_> = dependencies.iter().filter(|d| IO.contains(&&***d) && !maps(d)).collect();
        assert!(io.is_empty(), "{name} depends on {io:?}");
    }
}

#[test]
fn no_core_touches_a_clock_a_socket_or_a_file() {
    for directory in cores() {
        for file in sources(&directory.join("src")) {
            for (number, line) in read(&file).lines().enumerate() {
                let found = BANNED.iter().find(|(text, _)| line.contains(text) && !line.trim_start().starts_with("//"));
                assert!(found.is_none(), "{}:{}: {line}", file.display(), number + 1);
            }
        }
    }
    let clippy: toml::Table = read(&root().join("clippy.toml")).parse().expect("clippy.toml is TOML");
    let methods = clippy["disallowed-methods"].as_array().expect("a list of methods");
    let banned: BTreeSet<_> = methods.iter().filter_map(|m| m.get("path")?.as_str()).collect();
    for (_, method) in BANNED {
        assert!(banned.contains(method), "clippy.toml does not ban {method}");
    }
}

/// Every Rust file below `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a core has sources").map(|entry| entry.expect("an entry").path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}
