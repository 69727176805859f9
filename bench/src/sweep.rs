//! How latency grows with the load: the same load at one rate after another, up to the highest that is served.

use std::{fmt, net::UdpSocket, thread, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    load::{self, Latency, Load, Outcome},
    plot::{self, Curve},
};

/// While the server works off what it has queued.
const REST: Duration = Duration::from_millis(200);

/// What a sweep found.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The highest rate that was served in the search for it.
    pub highest: f64,
    /// The outcomes from the lowest rate to that one.
    pub steps: Vec<Outcome>,
}

/// Searches the highest rate up to `load.rate`, and then runs the load at `steps` rates from an equal part of it up to the whole,
/// for `time` each.
pub fn run(load: &Load, sink: &UdpSocket, steps: u32, time: Duration) -> Result<Sweep> {
    ensure!(steps > 0, "a sweep has a step");
    let found = load::find_max(load, sink, time)?;
    ensure!(found.sustained(), "no rate up to {:.0} a second is served without loss", load.rate);
    let mut load = load.clone();
    load.first_cseq = found.next_cseq;
    let mut outcomes = Vec::new();
    for step in 1..=steps {
        thread::sleep(REST);
        load.rate = found.rate * f64::from(step) / f64::from(steps);
        load.count = ((load.rate * time.as_secs_f64()) as u64).max(1);
        let outcome = load::run(&load, sink)?;
        load.first_cseq = outcome.next_cseq;
        outcomes.push(outcome);
    }
    Ok(Sweep { highest: found.rate, steps: outcomes })
}

impl Sweep {
    /// The plot of p50, p99 and p99.9, as SVG.
    pub fn svg(&self, title: &str) -> String {
        let curve = |name, us: fn(&Latency) -> f64| Curve {
            name,
            points: self.steps.iter().map(|step| (step.sent_rate, us(&step.latency))).collect(),
        };
        plot::svg(title, &[curve("p50", |it| it.p50_us), curve("p99", |it| it.p99_us), curve("p99.9", |it| it.p999_us)])
    }
}

impl fmt::Display for Sweep {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "| messages/s | p50 µs | p99 µs | p99.9 µs | max µs | loss % | CPU µs |")?;
        writeln!(f, "| --: | --: | --: | --: | --: | --: | --: |")?;
        for Outcome { sent_rate, latency, loss, cpu, .. } in &self.steps {
            let Latency { p50_us, p99_us, p999_us, max_us, .. } = latency;
            let cpu = cpu.map(|cpu| format!("{:.2}", cpu.total_us)).unwrap_or_default();
            let loss = 100.0 * loss;
            writeln!(
                f,
                "| {sent_rate:.0} | {p50_us:.0} | {p99_us:.0} | {p999_us:.0} | {max_us:.0} | {loss:.3} | {cpu} |"
            )?;
        }
        Ok(())
    }
}
