//! The switch's side: who wants a leg impersonated asks here.

use super::own;
use crate::config::Config;
use appserver::Impersonator;
use callback::{Event, Impersonation, MAX_OCTETS, Order, Outcome, Policy, Refusal};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The way to the process that sends. Any thread may use it, and nothing here waits.
#[derive(Debug)]
pub struct Raw(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: OwnedFd,
    policy: Policy,
    is_off: AtomicBool,
    figures: Figures,
}

/// What has been done since this process was started.
#[derive(Debug, Default)]
struct Figures {
    sent: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicU64,
    lost: AtomicU64,
    died: AtomicU64,
}

impl Figures {
    fn add(figure: &AtomicU64, number: u64) {
        figure.fetch_add(number, Ordering::Relaxed);
    }
}

impl Raw {
    /// The way by `socket`, one of those that [`start`](super::start()) has made; `config` says what is refused at once. A thread tells the
    /// log what comes back.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(socket: OwnedFd, config: &Config) -> io::Result<Self> {
        let policy = Policy::new(own::interfaces(config), config.callback.networks.clone());
        let inner = Arc::new(Inner { socket, policy, is_off: AtomicBool::new(false), figures: Figures::default() });
        let heard = Arc::clone(&inner);
        std::thread::Builder::new().name("callback".to_owned()).spawn(move || heard.hear())?;
        Ok(Self(inner))
    }

    /// Has nothing asked for any more.
    pub fn turn_off(&self) {
        self.0.is_off.store(true, Ordering::Relaxed);
    }

    /// Whether it has been turned off.
    pub fn is_off(&self) -> bool {
        self.0.is_off.load(Ordering::Relaxed)
    }

    /// What has been done, by names such as `callback.sent`.
    pub fn figures(&self) -> impl Iterator<Item = (String, u64)> + use<> {
        let Figures { sent, refused, failed, stopped, lost, died } = &self.0.figures;
        let named = [
            ("sent", sent),
            ("refused", refused),
            ("failed", failed),
            ("stopped", stopped),
            ("events_lost", lost),
            ("died", died),
        ];
        named.map(|(name, figure)| (format!("callback.{name}"), figure.load(Ordering::Relaxed))).into_iter()
    }
}

impl Impersonator for Raw {
    fn impersonate(&self, wanted: &Impersonation) {
        let inner = &*self.0;
        let asked = inner.policy.check(wanted).and_then(|()| inner.say(&Order::Impersonate(wanted.clone())));
        if let Err(refusal) = asked {
            inner.tell(wanted, Outcome::Refused(refusal));
        }
    }

    fn stop(&self, call: u128) {
        // Where nobody listens nothing is sent. Where nobody has listened for long, what was asked for before this may still be sent, within
        // its bounds and to where this call's answers said.
        let _ = self.0.say(&Order::Stop { call });
    }
}

impl Inner {
    fn say(&self, order: &Order) -> Result<(), Refusal> {
        match send(&self.socket, &order.encode(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(Refusal::Queue),
            Err(_) => Err(Refusal::Away),
        }
    }

    /// Hears events until the other end has gone.
    fn hear(&self) {
        let mut octets = [0; MAX_OCTETS + 1];
        loop {
            match recv(&self.socket, &mut octets, RecvFlags::empty()) {
                Ok((_, 0)) => return,
                Ok((_, length)) => match Event::decode(&octets[..length.min(octets.len())]) {
                    Ok(event) => self.heard(&event),
                    Err(error) => tracing::error!(%error, "what the process that sends says is not understood"),
                },
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the process that sends is heard no more");
                    return;
                }
            }
        }
    }

    fn heard(&self, event: &Event) {
        match event {
            Event::Of(wanted, outcome) => self.tell(wanted, *outcome),
            Event::Died { status, pause_msecs } => {
                Figures::add(&self.figures.died, 1);
                tracing::error!(
                    status,
                    pause_msecs,
                    "the process that sends has died; nothing is impersonated until the next one is there"
                );
            }
            Event::Lost(events) => {
                Figures::add(&self.figures.lost, (*events).into());
                tracing::warn!(
                    events,
                    "nobody has read events of impersonations in time; what they were for has ended"
                );
            }
            Event::Garbled => tracing::error!("the process that sends has not understood an order"),
        }
    }

    /// Each packet is an event, and so is each that is not sent.
    fn tell(&self, wanted: &Impersonation, outcome: Outcome) {
        let call = format_args!("{:032x}", wanted.call());
        let (user, leg) = (wanted.user(), wanted.leg());
        let (source, destination) = (wanted.source(), wanted.destination());
        match outcome {
            Outcome::Sent { number, of } => {
                Figures::add(&self.figures.sent, 1);
                tracing::info!(call, user, leg, %source, %destination, number, of, "a packet is sent with another's source");
            }
            Outcome::Refused(why) => {
                Figures::add(&self.figures.refused, 1);
                tracing::warn!(call, user, leg, %source, %destination, %why, "an impersonation is refused");
            }
            Outcome::Failed { errno } => {
                Figures::add(&self.figures.failed, 1);
                let error = io::Error::from_raw_os_error(errno);
                tracing::error!(call, user, leg, %source, %destination, %error, "an impersonation has failed");
            }
            Outcome::Stopped { sent } => {
                Figures::add(&self.figures.stopped, 1);
                tracing::info!(call, user, leg, %source, %destination, sent, "an impersonation is stopped");
            }
        }
    }
}
