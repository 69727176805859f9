//! The ringswitch program as a library.
//!
//! A packet meets the edge (`io`), the core of its shard (`shard`) and the proxy (`proxy`). Beside its path are the journal
//! (`clerk`), the writer of CDRs (`cdr`), the accounts, what plans fetch from the web (`web`), the queues before both (`fair`), the counters (`figures`) and what composes them all (`switch`); then what an operator meets: the
//! configuration, the control socket, the log, the command line and the demonstration. The clerk and the control socket run by
//! executors (`executor`); a file that refuses is told by `file_error`.
pub mod io;
pub mod shard;
pub mod proxy;

pub mod accounts;
pub mod capabilities;
pub mod cdr;
pub mod clerk;
pub mod executor;
pub mod fair;
pub mod file_error;
pub mod figures;
pub mod process;
pub mod raw;
pub mod supervisor;
pub mod switch;
pub mod web;

pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod logging;
