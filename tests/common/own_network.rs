//! A test in a network namespace of its own.
//!
//! It is executed anew inside a user namespace, where it may make one whoever runs it; where the system allows no user
//! namespace it takes root's right.

use std::process::Command;

/// Set inside.
const INSIDE: &str = "RINGSWITCH_TEST_NETWORK";

/// Runs the test of that name, all of which is `inside`, in a network namespace of its own.
pub fn in_its_own_network(name: &str, inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let user: &[&str] = &["--user", "--map-root-user"];
    let is_allowed = Command::new("unshare").args(user).args(["--net", "true"]).output().unwrap().status.success();
    let output = Command::new("unshare")
        .args(if is_allowed { user } else { &[] })
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
