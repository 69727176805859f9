//! Whole calls in a simulator: phones, an application server and a network under one virtual clock, all from one seed.
//!
//! Phones are user agents of `transaction` and `dialog` that follow a [`script::Script`]. The network loses, doubles, delays and
//! so reorders what they send. A stand-in for the proxy maps ways to addresses and writes addresses where agents leave
//! them open. At the end of a run the [`audit`] looks at every message that was sent and at every table: whatever it
//! finds fails the test, with the seed and the ladder, which both reproduce the run. `RINGSWITCH_SIM_SEED=…` runs that one seed.

mod audit;
mod ladder;
mod network;
mod phone;
mod proxy;
mod script;
mod server;
mod simulation;

mod phones_alone;
mod calls;
mod call_back;
mod rfc3665;
mod soak;

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);
