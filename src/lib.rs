//! The ringswitch program as a library: the edge (`io`, `clerk`), the proxy, the configuration and the command line.
pub mod clerk;
pub mod cli;
pub mod config;
pub mod io;
pub mod proxy;
