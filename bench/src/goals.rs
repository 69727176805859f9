//! What the switch is to reach, held against what a comparison found.
//!
//! Each goal is a bound of a ratio of CPU times from the same run, of the time in user space, of a latency, or of a binding's memory. One whose figures
//! a run does not have is not measured, and neither holds nor fails.

use std::fmt;

use serde::Serialize;

use crate::{
    compare::{
        Bindings, DISPATCH, FORWARD_INVITE, FORWARD_OPTIONS, LOOKUP_INVITE, LOOKUP_OPTIONS, Pace, REGISTER_DIGEST,
        REGISTER_REFRESH, Row, median,
    },
    load::TOLERATED_LOSS,
};

/// The floor that is meant.
const FLOOR: &str = "floor (mmsg)";
/// How many addresses of record are few, more and many.
const FEW: u32 = 1_000;
const MORE: u32 = 100_000;
const MANY: u32 = 1_000_000;
/// Octets of a binding, where there are [`MANY`].
const BINDING_OCTETS: f64 = 300.0;

/// What is bounded.
#[derive(Clone, Copy)]
enum Figure {
    /// The switch's CPU time over the rival's for the same.
    CpuOverRival,
    /// That over the floor's.
    CpuOverFloor,
    /// That over its own with [`FEW`] addresses of record.
    CpuOverFew,
    /// Its time in user space, microseconds.
    UserTime,
    /// The latency of 99 %, microseconds.
    P99,
}

/// Which switch is meant.
#[derive(Clone, Copy)]
enum Whose {
    /// As it is by itself.
    Usual,
    /// One that sends each datagram by itself.
    OneByOne,
}

struct Bound {
    work: &'static str,
    aors: Option<u32>,
    pace: Pace,
    whose: Whose,
    figure: Figure,
    at_most: f64,
}

impl Bound {
    /// Of the switch as it is by itself, at its highest rate.
    const fn usual(work: &'static str, aors: Option<u32>, figure: Figure, at_most: f64) -> Self {
        Self { work, aors, pace: Pace::Full, whose: Whose::Usual, figure, at_most }
    }
}

/// The bounds of forwarding, for an OPTIONS and for an INVITE.
const FORWARDING: [(Pace, Whose, Figure, f64); 9] = [
    (Pace::Full, Whose::OneByOne, Figure::CpuOverRival, 0.60),
    (Pace::Full, Whose::OneByOne, Figure::CpuOverFloor, 1.25),
    (Pace::Full, Whose::Usual, Figure::CpuOverRival, 0.45),
    (Pace::Full, Whose::Usual, Figure::CpuOverFloor, 1.0),
    (Pace::Paced(5_000), Whose::Usual, Figure::CpuOverFloor, 1.15),
    (Pace::Paced(20_000), Whose::Usual, Figure::CpuOverFloor, 0.75),
    (Pace::Eighty, Whose::OneByOne, Figure::UserTime, 0.8),
    (Pace::Eighty, Whose::Usual, Figure::UserTime, 0.8),
    (Pace::Eighty, Whose::Usual, Figure::P99, 1_000.0),
];

/// The others.
const OTHERS: [Bound; 7] = [
    Bound::usual(DISPATCH, None, Figure::CpuOverRival, 0.35),
    Bound::usual(REGISTER_DIGEST, None, Figure::CpuOverRival, 0.55),
    Bound::usual(REGISTER_REFRESH, Some(MORE), Figure::CpuOverRival, 0.50),
    Bound::usual(REGISTER_REFRESH, Some(MANY), Figure::CpuOverRival, 0.40),
    Bound::usual(REGISTER_REFRESH, Some(MANY), Figure::CpuOverFew, 1.20),
    Bound::usual(LOOKUP_OPTIONS, Some(MANY), Figure::CpuOverRival, 0.42),
    Bound::usual(LOOKUP_INVITE, Some(MANY), Figure::CpuOverRival, 0.42),
];

fn bounds() -> impl Iterator<Item = Bound> {
    let forwarding = FORWARDING.into_iter().flat_map(|(pace, whose, figure, at_most)| {
        [FORWARD_OPTIONS, FORWARD_INVITE].map(|work| Bound { work, aors: None, pace, whose, figure, at_most })
    });
    forwarding.chain(OTHERS)
}

/// A goal, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What is measured.
    pub what: String,
    /// In what.
    pub unit: String,
    /// The most that it may be.
    pub at_most: f64,
    /// What it is; None if a figure is missing.
    pub measured: Option<f64>,
    /// The larger loss of the two runs that are held against each other.
    pub loss: f64,
    /// Whether it is reached.
    pub holds: Option<bool>,
}

impl Goal {
    fn new(what: String, unit: String, at_most: f64, measured: Option<f64>, loss: f64) -> Self {
        let measured = measured.filter(|it| it.is_finite());
        Self { what, unit, at_most, measured, loss, holds: measured.map(|measured| measured <= at_most) }
    }
}

/// Holds the rows and the memory of the switch against every goal, by the names that it has in them: by itself, and where it sends each
/// datagram by itself.
pub fn judge(rows: &[Row], bindings: &[Bindings], switches: [String; 2], rival: Option<&str>) -> Vec<Goal> {
    let [switch, one_by_one] = &switches;
    let name = |whose| if matches!(whose, Whose::Usual) { switch } else { one_by_one };
    let mut goals: Vec<Goal> = bounds().map(|bound| bound.judge(rows, name(bound.whose), rival)).collect();
    let of_many = bindings.iter().filter(|it| it.server == *switch && it.count == MANY);
    let octets = median(of_many.map(|it| it.octets_each).collect());
    goals.push(Goal::new(
        format!("memory of a binding, {MANY} AORs"),
        "octets".into(),
        BINDING_OCTETS,
        Some(octets),
        0.0,
    ));
    goals
}

impl Bound {
    fn judge(&self, rows: &[Row], switch: &str, rival: Option<&str>) -> Goal {
        let &Self { work, aors, pace, whose, figure, at_most } = self;
        let row = |server: &str, aors| {
            rows.iter()
                .find(|row| (row.work.as_str(), row.aors, row.pace, row.server.as_str()) == (work, aors, pace, server))
        };
        let own = row(switch, aors);
        let over = |other: Option<&Row>| own.zip(other).map(|(own, other)| own.cpu.total_us / other.cpu.total_us);
        let (measured, other, unit) = match figure {
            Figure::CpuOverRival => {
                let its = rival.and_then(|rival| row(rival, aors));
                (over(its), its, format!("× {}", rival.unwrap_or("rival")))
            }
            Figure::CpuOverFloor => (over(row(FLOOR, aors)), row(FLOOR, aors), format!("× {FLOOR}")),
            Figure::CpuOverFew => {
                let few = row(switch, Some(FEW));
                (over(few), few, format!("× its own with {FEW} AORs"))
            }
            Figure::UserTime => (own.map(|own| own.cpu.user_us), None, "µs in user space".into()),
            Figure::P99 => (own.map(|own| own.p99_us), None, "µs, p99".into()),
        };
        let loss = own.into_iter().chain(other).map(|row| row.loss).fold(0.0, f64::max);
        let aors = aors.map(|aors| format!(", {aors} AORs")).unwrap_or_default();
        let how = if matches!(whose, Whose::OneByOne) { ", one by one" } else { "" };
        Goal::new(format!("{work}{aors}, {pace}{how}"), unit, at_most, measured, loss)
    }
}

/// The goals as a table in Markdown.
pub fn write_table(f: &mut fmt::Formatter, goals: &[Goal]) -> fmt::Result {
    writeln!(f, "| goal | in | at most | measured | |\n| --- | --- | --: | --: | --- |")?;
    for Goal { what, unit, at_most, measured, loss, holds } in goals {
        let figure = |it: f64| if it < 100.0 { format!("{it:.2}") } else { format!("{it:.0}") };
        let measured = measured.map(figure).unwrap_or_default();
        let verdict = match holds {
            Some(true) => "holds",
            Some(false) => "does not hold",
            None => "not measured",
        };
        let lossy = match *loss < TOLERATED_LOSS {
            true => String::new(),
            false => format!(", at a loss of {:.1} %", 100.0 * loss),
        };
        writeln!(f, "| {what} | {unit} | {} | {measured} | {verdict}{lossy} |", figure(*at_most))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::CpuPerMessage;

    fn ours() -> [String; 2] {
        ["ours", "ours, one by one"].map(String::from)
    }

    fn judged(goals: &[Goal], what: &str, unit: &str) -> (Option<f64>, Option<bool>) {
        let goal = goals.iter().find(|goal| goal.what == what && goal.unit == unit).expect("there is that goal");
        (goal.measured, goal.holds)
    }

    #[test]
    fn a_goal_holds_up_to_its_bound_and_not_beyond() {
        let eighty = CpuPerMessage { user_us: 0.9, ..CpuPerMessage::default() };
        let rows = [
            Row::of(FORWARD_OPTIONS, None, Pace::Full, "ours", 5.0),
            Row::of(FORWARD_OPTIONS, None, Pace::Full, "ours, one by one", 6.0),
            Row { cpu: eighty, ..Row::of(FORWARD_OPTIONS, None, Pace::Eighty, "ours, one by one", 6.0) },
            Row::of(FORWARD_OPTIONS, None, Pace::Full, "theirs", 10.0),
            Row::of(FORWARD_OPTIONS, None, Pace::Full, FLOOR, 4.0),
            Row::of(REGISTER_REFRESH, Some(FEW), Pace::Full, "ours", 10.0),
            Row::of(REGISTER_REFRESH, Some(MANY), Pace::Full, "ours", 12.0),
            Row { p99_us: 999.0, ..Row::of(FORWARD_INVITE, None, Pace::Eighty, "ours", 5.0) },
        ];
        let memory =
            [250.0, 350.0, 290.0].map(|octets_each| Bindings { server: "ours".into(), count: MANY, octets_each });
        let goals = judge(&rows, &memory, ours(), Some("theirs"));
        let options = "forward OPTIONS 462 B, full";
        assert_eq!(judged(&goals, options, "× theirs"), (Some(0.5), Some(false)));
        assert_eq!(judged(&goals, options, "× floor (mmsg)"), (Some(1.25), Some(false)));
        let one_by_one = "forward OPTIONS 462 B, full, one by one";
        assert_eq!(judged(&goals, one_by_one, "× theirs"), (Some(0.6), Some(true)));
        assert_eq!(judged(&goals, one_by_one, "× floor (mmsg)"), (Some(1.5), Some(false)));
        let eighty = "forward OPTIONS 462 B, 80 % of full, one by one";
        assert_eq!(judged(&goals, eighty, "µs in user space"), (Some(0.9), Some(false)));
        assert_eq!(judged(&goals, "forward INVITE 975 B, 80 % of full", "µs, p99"), (Some(999.0), Some(true)));
        let refresh = "REGISTER refresh, 1000000 AORs, full";
        assert_eq!(judged(&goals, refresh, "× its own with 1000 AORs"), (Some(1.2), Some(true)));
        assert_eq!(judged(&goals, "memory of a binding, 1000000 AORs", "octets"), (Some(290.0), Some(true)));
    }

    #[test]
    fn a_goal_without_its_figures_is_not_measured() {
        let goals = judge(&[Row::of(DISPATCH, None, Pace::Full, "ours", 6.0)], &[], ours(), None);
        assert!(goals.iter().all(|goal| goal.measured.is_none() && goal.holds.is_none()), "{goals:?}");
    }
}
