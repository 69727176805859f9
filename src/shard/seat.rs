//! What a shard grows from: everything that another thread can prepare. Scripts and their calls stay on the thread on which
//! they begin, so application servers are made there.

use super::{Place, Rules, Shard, SideLink, admission::Admission, neighbours::Neighbours, orders::AppRules};
use crate::{
    figures::Figures,
    io,
    proxy::{Prober, Proxy},
};
use agent::{Now, Secret, ShardHash};
use appserver::{AppServer, Tables};
use registrar::Registrar;
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};
use store::KeptCall;

/// The seat of a shard of the switch.
pub struct Seat {
    /// When it is made.
    pub now: Now,
    /// Which shard it is.
    pub place: Place,
    /// Whose Call-ID it is.
    pub hash: ShardHash,
    /// Its registrar.
    pub registrar: Registrar,
    /// The application servers on it, each with its number in the configuration.
    pub apps: Vec<(usize, AppSeat)>,
    /// The prober, on the first shard.
    pub prober: Option<Prober>,
    /// What scripts ask the edge by.
    pub side: SideLink,
    /// Whether a connection may be used for requests to the address that its peer names in Via (RFC 5923).
    pub alias: bool,
    /// What it follows until others come.
    pub rules: Rules,
    /// By which they come.
    pub reloads: mpsc::Receiver<Rules>,
    /// Where it publishes what it counts.
    pub figures: Arc<Figures>,
}

impl io::Seed for Seat {
    type Core = Shard;

    fn grow(self) -> Shard {
        let Self { now, place, hash, registrar, apps, prober, side, alias, rules, reloads, figures } = self;
        let mut grown = Vec::new();
        for (number, seat) in apps {
            grown.resize_with(number + 1, || None);
            grown[number] = Some(seat.grow(now, &rules.apps));
        }
        let serves_calls = !grown.is_empty();
        Shard {
            place,
            hash,
            proxy: Proxy::new(Arc::clone(&rules.proxy)),
            neighbours: Neighbours::new(registrar, grown, prober, side, &rules),
            alias,
            reloads,
            figures,
            // What costs more than a refusal is what application servers do.
            admission: Admission::new(serves_calls),
            patience: rules.patience,
            ring_full: 0,
            later: Vec::new(),
            now,
        }
    }
}

/// The seat of an application server on one shard.
pub struct AppSeat {
    /// Which one it is, and on which shard.
    pub place: appserver::Place,
    /// The cluster's secret.
    pub secret: Secret,
    /// The number which the process chose at its start.
    pub run: u32,
    /// Entropy.
    pub seed: u64,
    /// Accounts, providers and plans.
    pub tables: Tables,
    /// A monotonic clock, for the slices of scripts.
    pub clock: fn() -> Duration,
    /// The answered calls of this shard that the journal has kept.
    pub kept: Vec<KeptCall>,
}

impl AppSeat {
    /// The application server that sits here.
    pub(super) fn grow(self, now: Now, rules: &AppRules) -> AppServer {
        let limits = rules.settings.plans.clone();
        let machine = dialplan::Machine::new(dialplan::Settings { limits, clock: self.clock });
        if let Err(unfit) = &machine {
            tracing::error!(app = &*self.place.name, ?unfit, "dial plans do not run");
        }
        let settings = rules.settings.clone();
        let mut app = AppServer::new(
            now,
            settings,
            self.place.clone(),
            &self.secret,
            self.run,
            self.seed,
            self.tables,
            machine.ok(),
        );
        let lost = self.kept.iter().filter(|kept| !app.restore(now, kept)).count();
        if lost > 0 {
            tracing::error!(app = &*self.place.name, lost, "records of calls cannot be read");
        }
        app
    }
}
