//! What the switch must know of the application servers, and what waits in sockets that it sends to no more.

use super::{Purpose, Supervisor};
use crate::process::{AppPlace, ToChild};
use std::time::{Duration, Instant};

/// How long a socket is looked after when the switch has been told of another.
const LINGER: Duration = Duration::from_millis(100);

/// The table of application servers that the switch is to have, and how much of it it has.
#[derive(Default)]
pub(super) struct AppsTable {
    pub(super) places: Vec<AppPlace>,
    version: u64,
    taken: u64,
    /// The version that it was told last, and until when its answer is waited for.
    told: Option<(u64, Instant)>,
}

impl AppsTable {
    /// Whether the switch has it all.
    pub(super) fn is_taken(&self) -> bool {
        self.version == self.taken
    }

    /// The switch has that version.
    pub(super) fn took(&mut self, version: u64) {
        self.taken = self.taken.max(version);
    }

    /// It is to be told again, not before `at`.
    pub(super) fn tell_again(&mut self, at: Instant) {
        self.version += 1;
        self.told = Some((self.version, at));
    }
}

impl Supervisor {
    /// Tells the switch when an application server has moved or changed.
    pub(super) fn tell_apps(&mut self, now: Instant) {
        self.members[1..].iter_mut().for_each(|member| member.look_whether_down(now, &self.settings));
        let places = self.places();
        if places != self.apps.places {
            self.apps.places = places;
            self.apps.version += 1;
        }
        let version = self.apps.version;
        // A switch that has not answered is asked again when the answer is overdue.
        let is_told = |&(told, until): &(u64, Instant)| told == version && now < until;
        if self.apps.is_taken() || self.apps.told.as_ref().is_some_and(is_told) {
            return;
        }
        let Some(switch) = self.members[0].serving_child() else { return };
        self.apps.told = Some((version, now + 2 * self.settings.answer));
        let apps = self.apps.places.clone();
        self.ask(switch, |_| Purpose::Apps(version), move |id| ToChild::Apps { id, apps });
    }

    /// Passes on what has come, or still comes, to an application server that has been replaced.
    pub(super) fn pass_waiting_on(&mut self, now: Instant) {
        let is_taken = self.apps.is_taken();
        for member in &mut self.members {
            let to = &member.seat.addresses;
            member.retired.iter().for_each(|retired| retired.seat.sockets.pass_waiting_on(to));
            member.retired.retain_mut(|retired| {
                if !is_taken {
                    retired.since = now;
                }
                now.saturating_duration_since(retired.since) < LINGER
            });
        }
    }
}
