//! Whole calls through one application server, message by message.

mod phone;
mod world;
mod basic;
mod challenges;
mod inside;
mod plans;
mod relays;
mod transfers;

#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);
