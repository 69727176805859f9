//! The bench itself, in one short pass: every floor forwards, every load counts, measures and reports.

use std::{path::PathBuf, process::Command, time::Duration};

use bench::{
    floor::Way,
    load::{Load, Workload},
    message::Method,
    mmsg,
    server::{Floor, Place, Probe, Running, free_port},
    sweep,
};
use serde_json::Value;

#[test]
fn every_floor_forwards_nearly_all_of_a_short_load() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["quick", "--rate", "2000", "--seconds", "0.5", "--json"])
        .output()
        .expect("the bench starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let passes: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(passes.len(), 18, "six ways; OPTIONS, INVITEs and a mix");
    for pass in passes {
        let outcome = &pass["outcome"];
        assert_eq!(outcome["sent"], 1000, "{pass}");
        assert!(outcome["loss"].as_f64().expect("a part") < 0.05, "{pass}");
        assert_eq!(outcome["latency"]["count"], outcome["completed"], "{pass}");
        assert!(outcome["latency"]["p50_us"].as_f64().expect("microseconds") > 0.0, "{pass}");
        assert!(outcome["cpu"]["total_us"].as_f64().expect("microseconds") > 0.0, "{pass}");
        assert!(outcome["memory"]["rss"].as_u64().expect("octets") > 100_000, "{pass}");
    }
}

#[test]
fn a_load_without_a_server_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["load", "forward", "--server", "127.0.0.1:9", "--sink", "0", "--rate", "100", "--seconds", "0.2"])
        .output()
        .expect("the bench starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing listens on 127.0.0.1:9"));
}

#[test]
fn a_sweep_goes_up_to_the_highest_rate_by_equal_steps() {
    let (sink, dir) = (mmsg::bind(0).expect("a port"), tempfile::tempdir().expect("a directory"));
    let floor = Floor { program: PathBuf::from(env!("CARGO_BIN_EXE_bench")), way: Way::Mmsg };
    let listen = free_port().expect("a port");
    let place = Place { listen, sink: mmsg::address(&sink), cores: None, dir: dir.path() };
    let running = Running::start(&floor, &place, &sink, Probe::Forwards).expect("it starts");
    let load = Load {
        server: running.address,
        workload: Workload::Forward { method: Method::Options, answered: false },
        aors: &[0],
        first_cseq: 1,
        rate: 2000.0,
        count: 1,
        sources: 2,
        trains: false,
        patience: Duration::from_secs(1),
        pid: Some(running.pid()),
    };
    let sweep = sweep::run(&load, &sink, 4, Duration::from_millis(200)).expect("a rate is served");
    let rates: Vec<f64> = sweep.steps.iter().map(|step| step.rate / sweep.highest).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0]);
    assert!(sweep.steps.iter().all(|step| step.completed > 0 && step.cpu.is_some()), "{sweep}");
}
