//! What an application server must ask others: where an address-of-record is reached, what the web or ENUM says.
//!
//! An answer may be there at once (the table of bindings is in this process) or come later, by
//! [`AppServer::handle_answer`](crate::AppServer::handle_answer); a question whose answer never comes costs its own call
//! only, by the time that the call may take.

use agent::{Flow, Now};
use callback::Impersonation;
use dialplan::{Reply, WebRequest};
use std::net::IpAddr;

/// Names a question until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryId(pub u64);

/// A question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Query<'q> {
    /// Where an address-of-record is reached: [`Answer::Bindings`].
    Bindings {
        /// The canonical address-of-record.
        aor: &'q str,
    },
    /// The URIs of a telephone number (RFC 6116): [`Reply::Texts`].
    Enum {
        /// The number as the script has it.
        number: &'q str,
    },
    /// A request to the web: [`Reply::Web`].
    Web {
        /// Whose script asks.
        user: &'q str,
        /// What it asks for.
        request: &'q WebRequest,
    },
    /// A key of a user's store: [`Reply::Text`].
    StoreGet {
        /// Whose store.
        user: &'q str,
        /// The key.
        key: &'q str,
    },
    /// Writes a key of a user's store: [`Reply::Done`].
    StorePut {
        /// Whose store.
        user: &'q str,
        /// The key.
        key: &'q str,
        /// Its value from now on.
        value: &'q str,
    },
    /// Takes a key out of a user's store: [`Reply::Done`].
    StoreDelete {
        /// Whose store.
        user: &'q str,
        /// The key.
        key: &'q str,
    },
    /// The keys of a user's store that begin so: [`Reply::Texts`].
    StoreList {
        /// Whose store.
        user: &'q str,
        /// What they begin with.
        prefix: &'q str,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Query::Bindings`]: best first, empty where there are none.
    Bindings(Vec<Target>),
    /// To everything else: as the script gets it. [`Reply::Refused`] where it cannot be had.
    Reply(Reply),
}

/// A way to a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The contact's URI: the Request-URI.
    pub uri: Box<[u8]>,
    /// Value of the Route that leads there (RFC 3327 §5.4); empty for none.
    pub route: Box<[u8]>,
    /// The path to take. None: where the route, or else the URI, says.
    pub flow: Option<Flow>,
    /// Preference in thousandths.
    pub q: u16,
    /// How long it still holds.
    pub expires_secs: u32,
    /// What the phone calls itself; may be empty.
    pub user_agent: Box<str>,
}

/// What surrounds an application server.
pub trait Surroundings {
    /// Asks. `Some` is the answer; else it comes later, under this `id`.
    fn ask(&mut self, now: Now, id: QueryId, query: &Query<'_>) -> Option<Answer>;

    /// Whether requests from there are let in as they are: networks that the operator trusts.
    fn is_trusted(&self, source: IpAddr) -> bool;

    /// The way to what sends packets to the parties of calls back in each other's name. None where the operator has not turned it on.
    fn impersonator(&self) -> Option<&dyn Impersonator> {
        None
    }
}

/// What sends packets to the parties of calls back in each other's name. Whether it does, and what, is its own affair, and it tells the log.
pub trait Impersonator {
    /// Has a party hear packets that seem to come from the other.
    fn impersonate(&self, wanted: &Impersonation);

    /// Has no more packets sent to either party of the call of that number.
    fn stop(&self, call: u128);
}
