//! The program from outside: started as an operator starts it, met over its sockets, stopped and killed by its process id.
//!
//! [`rig`] starts the switch in a directory and on ports of its own; [`phone`] is a peer of it, over UDP or TCP. Every
//! wait has a bound, and what a test starts ends with it.

#![expect(clippy::disallowed_methods, reason = "tests start processes, open sockets and read the clock")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod apps;
mod demo;
mod disk;
mod generations;
mod hostile;
mod impersonation;
mod kill;
mod lifecycle;
mod nat;
mod overload;
#[path = "../common/own_network.rs"]
mod own_network;
mod phone;
mod registrar;
mod relay;
mod rig;
mod shards;
mod steering;
mod streams;
mod supervisor;
