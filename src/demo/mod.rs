//! A switch on loopback, two phones and a call, to show that it works.
//!
//! The switch is the real one ([`Switch`]), with accounts in a directory of its own; the phones ([`phone`]) speak to it
//! over UDP. Alice's calls run through a dial plan of hers. Every message of the first call is printed as it flows; some hundred
//! more calls, which are not, give the latencies.
#![expect(clippy::disallowed_methods, reason = "the demonstration is at the edge: it reads the clock")]

mod ladder;
mod phone;

use crate::{
    accounts::{Account, Aor, Database},
    config::{Config, Listen, Processes, Shards},
    switch::Switch,
};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use ladder::Ladder;
use phone::{Phone, Phones};
use sip::Transport;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Instant,
};
use store::Direction;

const DOMAIN: &str = "demo.invalid";
const PASSWORD: &str = "correct horse";

/// Alice's plan. Carol has no phone, so the call goes on to bob.
const PLAN: &str = "sys.dial(\"carol\", 10);\nsys.dial(\"bob\", 20);\n";

/// Calls that are only timed.
const TIMED_CALLS: u32 = 300;

/// Runs the demonstration; Ok when the call has completed.
pub fn run() -> anyhow::Result<()> {
    let home = Home::new()?;
    let config = config(&home.0);
    let aor = |user: &str| Aor { user: user.to_owned(), domain: DOMAIN.to_owned() };
    let accounts = ["alice", "bob", "carol"].map(|user| Account::new(aor(user), PASSWORD.as_bytes()));
    let mut database = Database::open(&config.database())?;
    database.add(accounts)?;
    database.set_plan(&aor("alice"), "demo", PLAN, &[Direction::Out])?;
    let switch = Switch::start(config, None, None).context("starting the switch")?;
    let address = *switch.addresses().first().context("the switch has no listener")?;
    println!("A switch serves {DOMAIN} on {address}, with the accounts alice, bob and carol. Alice's dial plan:\n");
    PLAN.lines().for_each(|line| println!("    {line}"));
    println!();
    let shown = show(address);
    switch.stopper().drain();
    switch.join()?;
    shown
}

fn show(address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut phones = Phones {
        alice: Phone::new("alice", DOMAIN, PASSWORD, address)?,
        bob: Phone::new("bob", DOMAIN, PASSWORD, address)?,
        ladder: Some(Ladder::new()),
    };
    phones.register_alice()?;
    phones.register_bob()?;
    phones.call()?;
    phones.wait_for_end(1)?;

    phones.ladder = None;
    let (mut setup, mut whole) = (histogram()?, histogram()?);
    for calls_before in 1..=TIMED_CALLS {
        let started = Instant::now();
        let answered = phones.call()?;
        setup.record(answered.as_micros() as u64)?;
        whole.record(started.elapsed().as_micros() as u64)?;
        phones.wait_for_end(calls_before + 1)?;
    }
    ensure!(phones.bob.calls_ended == TIMED_CALLS + 1, "bob has seen {} calls end", phones.bob.calls_ended);
    println!(
        "\nBoth phones registered with digest, alice's plan found carol away and called bob, and the call was hung up."
    );
    println!("{TIMED_CALLS} more calls, in milliseconds:      p50      p90      p99      max");
    for (what, times) in [("INVITE to its 200", &setup), ("INVITE to the BYE's 200", &whole)] {
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        println!("  {what:<26}{:>9.3}{:>9.3}{:>9.3}{:>9.3}", ms(0.5), ms(0.9), ms(0.99), ms(1.0));
    }
    Ok(())
}

/// Microseconds, up to a minute.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

fn config(home: &Path) -> Config {
    let listen = |transport| Listen {
        transport,
        // Any free port: a switch that runs on 5060 is not disturbed.
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: None,
        optional: false,
    };
    let mut config = Config {
        domains: vec![DOMAIN.to_owned()],
        data_dir: home.to_owned(),
        listen: vec![listen(Transport::Udp)],
        ..Config::default()
    };
    config.cores.switch = Shards::Count(2);
    config.processes = Processes::One;
    config
}

/// A directory that goes with the demonstration.
struct Home(PathBuf);

impl Home {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("ringswitch-demo-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}
