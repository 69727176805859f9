//! Dial plans: rhai scripts as coroutines from a pool, bounded in everything. No I/O.
//!
//! A [`Plan`] is compiled once per version. [`Machine::start`] runs it against the [`Facts`] of a call until it ends or
//! [asks](Ask) something, which suspends it on its own stack; [`Machine::resume`] goes on with the [`Reply`]. A script that
//! computes for long yields after its slice, and [`Machine::run_slices`] lets all users' runs go on in turn. Whatever a
//! script does, it ends within its [`Limits`]; what went wrong is a [`Fault`] that its author reads.
//!
//! Nothing here reads a clock, a socket or a file; what a script wants from outside is an `Ask`.

mod limits;
mod plan;
mod check;
mod fault;
mod facts;
mod machine;
mod ready;
mod run;
mod engine;
mod script;
mod ask;
mod dial;
mod stacks;
mod memory;
mod dry;

pub use ask::{
    Ask, Binding, Call, Callback, DialResult, Dialled, HeaderField, Hold, LegOutcome, OutOfDialog, Reply, Response,
    WebRequest,
};
pub use dial::{Dial, From, Leg, LegOptions, Redirect, Refer, Shape, Target};
pub use dry::dry_run;
pub use facts::{Direction, Facts};
pub use fault::Fault;
pub use limits::Limits;
pub use machine::{Cause, Ending, Machine, Refusal, RunId, Settings, Step, Unfit};
pub use memory::Counted;
pub use plan::Plan;
pub use script::signatures;
pub use stacks::Guard;
