//! The bench itself, in one short pass: every floor forwards, every load counts, measures and reports.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_floor_forwards_nearly_all_of_a_short_load() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["quick", "--rate", "2000", "--seconds", "0.5", "--json"])
        .output()
        .expect("the bench starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let passes: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(passes.len(), 12, "four ways; OPTIONS, INVITEs and a mix");
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
