//! One process in the place of another, without a fault: by an operator's order, or because the one has grown too large.

use super::member::{Excess, Seat, Stage};
use super::{Order, Supervisor};
use crate::config::Config;
use crate::control::{Answer, Done};
use crate::io::Sockets;
use crate::process::Inherited;
use crate::switch;
use anyhow::bail;
use std::sync::mpsc;

impl Supervisor {
    /// Replaces a process: by an operator's order, or for `reason` of ours.
    pub(super) fn replace(&mut self, place: usize) -> anyhow::Result<()> {
        let member = &self.members[place];
        if member.next.is_some() || member.current.as_ref().is_some_and(|current| current.stage != Stage::Serving) {
            bail!("{} is being replaced or started already", member.name);
        }
        if place == 0 {
            let inherited = Inherited::of(&member.seat.sockets);
            let running = self.spawn(place, inherited, None, true)?;
            self.members[place].next = Some((running, None));
            return Ok(());
        }
        let seat = app_seat(&self.shared.config(), member.shards())?;
        self.members[place].begin_journal();
        let journal = self.members[place].journal();
        let running = self.spawn(place, Inherited::of(&seat.sockets), journal, false)?;
        self.members[place].next = Some((running, Some(seat)));
        Ok(())
    }

    pub(super) fn obey(&mut self, order: Order, reply: mpsc::SyncSender<Answer>) {
        // Who has asked may have lost patience.
        let answer = |answer: Answer| drop(reply.try_send(answer));
        let name = match &order {
            Order::Restart(name) | Order::Drain(name) => name.as_str(),
            Order::Stop => {
                self.stop();
                return answer(Answer::ok(&Done {}));
            }
        };
        let Some(place) = self.members.iter().position(|member| member.name == name) else {
            let names: Vec<_> = self.members.iter().map(|member| member.name.as_str()).collect();
            return answer(Answer::error(format!("there is no process `{name}`; there are {}", names.join(", "))));
        };
        match order {
            Order::Drain(_) if place == 0 => answer(Answer::error(
                "the switch cannot be without proxy and registrar; `ringswitch stop` ends it, `ringswitch restart switch` replaces it",
            )),
            Order::Drain(_) => answer(match self.members[place].drain() {
                Ok(()) => Answer::ok(&Done {}),
                Err(error) => Answer::error(format!("{error:#}")),
            }),
            Order::Restart(_) => {
                if self.members[place].is_alive() {
                    match self.replace(place) {
                        Ok(()) => tracing::info!(name, "a process is being replaced"),
                        Err(error) => return answer(Answer::error(format!("{error:#}"))),
                    }
                } else {
                    self.members[place].wanted = true;
                    self.start(place);
                }
                self.members[place].asker = Some(reply);
            }
            Order::Stop => {}
        }
    }

    /// Replaces a process that has grown beyond its bound; one that has done so twice over is killed.
    pub(super) fn weigh(&mut self, place: usize) {
        let Some(limit) = self.members[place].memory_limit else { return };
        let Some(excess) = self.members[place].excess(limit) else { return };
        if self.stopping.is_some() {
            return;
        }
        match excess {
            Excess::Doomed => {}
            Excess::Over(reason) => match self.replace(place) {
                Ok(()) => {
                    tracing::warn!(name = self.members[place].name, reason, "a process is being replaced");
                    self.members[place].note(reason);
                }
                Err(error) => tracing::debug!(name = self.members[place].name, "{error:#}"),
            },
        }
    }
}

/// Sockets of an application server of so many shards, with the numbers that its listeners have in the switch.
pub(super) fn app_seat(config: &Config, shards: u16) -> anyhow::Result<Seat> {
    let mut sockets = Sockets::vacant(config.listen.len(), shards);
    let addresses = sockets.add_hop(&switch::edge_settings(config))?;
    Ok(Seat { sockets, addresses })
}
