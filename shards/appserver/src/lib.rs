//! The application server: a back-to-back user agent that dial plans command (RFC 3261 §6). No I/O.
//!
//! An INVITE meets these in order: [`AppServer`] gives it a transaction and asks who calls (`caller`). The call begins with
//! one run, of a user's plan or of the default (`ring`): it dials steps of legs, whose targets become domains of ours,
//! providers or URIs (`route`), and each leg sends an INVITE of its own (`leg`). What the legs' responses say reaches the
//! caller, each early dialog as one of ours with him (`answer`); of the failures the best goes to the script (`best`). The
//! first 2xx ends the run and every other leg, and when the journal keeps the call, the caller has his answer and little is
//! left (`established`): two dialogs (`bridge`) and the requests that pass between them (`passing`), each side refreshed by its own
//! session timer (`refresh`). Each leg that ends leaves a CDR.
//! A transfer (`transfer`) and a call back (`call_back`) have no caller (`unsent`): who is there already takes his place; the parties of a call
//! back are told of each other until both agree (`align`).
//! Requests outside of calls are relayed to users' bindings (`relay`),
//! the ends of their dialogs hidden from each other (`hidden`).
//!
//! What an application server must ask others is a [`Query`] to its [`Surroundings`]. It posts its messages to the proxy, which
//! sends them; it reads no clock, and nothing of it blocks.

mod settings;
mod surroundings;
mod counters;
mod server;
mod dispatch;
mod shared;
mod slab;
mod mint;
mod caller;
mod unsent;
mod call;
mod setup;
mod ring;
mod target;
mod script;
mod plans;
mod route;
mod leg;
mod credentials;
mod challenged;
mod answer;
mod unwanted;
mod best;
mod headers;
mod bridge;
mod passing;
mod refresh;
mod inside;
mod reliable;
mod established;
mod replaced;
mod transfer;
mod call_back;
mod align;
mod impersonate;
mod origin;
mod cdr;
mod record;
mod relay;
mod hidden;

pub use counters::Counters;
pub use server::{AppServer, CallLine, Census, Report, Tables};
pub use settings::{Place, Settings};
pub use surroundings::{Answer, Impersonator, Query, QueryId, Surroundings, Target};
