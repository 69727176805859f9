//! What the command line and a running switch say to each other on the control socket.
//!
//! Each is one JSON object on a line of its own: a [`Request`], then an [`Answer`]. A connection carries as many pairs as
//! the client likes, one after the other.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;

/// A longer line is no request.
pub const MAX_REQUEST_BYTES: usize = 4_096;

/// The most bindings that one answer lists.
pub const MAX_LISTED: u32 = 10_000;

/// What a client asks, such as `{"command":"bindings","aor":"alice@example.com","limit":100}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Answered by a [`Status`].
    Status,
    /// Answered by [`Bindings`].
    Bindings {
        /// Only those of this address of record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aor: Option<String>,
        /// Only those of addresses of record that begin like this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// How many at most, up to [`MAX_LISTED`].
        limit: u32,
    },
    /// The calls that go on. Answered by [`Calls`].
    Calls {
        /// Only those of this user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// How many at most, up to [`MAX_LISTED`].
        limit: u32,
    },
    /// Hangs up a call, in the name of the administrator. Answered by a [`HungUp`].
    HangUp {
        /// Its number, or as many first digits of it as no other call has.
        call: String,
    },
    /// Calls two parties in the name of a user, one after the other, and joins them. Answered by a [`CalledBack`].
    CallBack {
        /// The user's address of record.
        user: String,
        /// Dial string of the party that is called first.
        first: String,
        /// That of the other one.
        second: String,
        /// The application server that is to do it; the first one without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// Reads the configuration again. Answered by a [`Reload`].
    Reload,
    /// Replaces a process by a new one. Answered by a [`Restarted`].
    Restart {
        /// The process.
        name: String,
    },
    /// Lets an application server take on nothing new, finish what it has, and end. Answered at once, by [`Done`].
    Drain {
        /// The process.
        name: String,
    },
    /// Drains and ends the switch, all its processes. Answered at once, by [`Done`].
    Stop,
}

/// What the switch answers: `{"ok":true,"result":…}` or `{"ok":false,"error":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Answer {
    /// The request succeeded.
    pub fn ok(result: &impl Serialize) -> Self {
        let result = serde_json::to_value(result).expect("results have only text keys");
        Self { ok: true, result: Some(result), error: None }
    }

    /// The request failed; `error` is a sentence for the operator.
    pub fn error(error: impl Into<String>) -> Self {
        Self { ok: false, result: None, error: Some(error.into()) }
    }

    /// The result as what the request is answered by, or the error's sentence.
    pub fn into_result<T: DeserializeOwned>(self) -> Result<T, String> {
        match self {
            Self { ok: true, result: Some(result), .. } => serde_json::from_value(result)
                .map_err(|error| format!("the switch is of another version, its answer is not understood: {error}")),
            Self { error, .. } => Err(error.unwrap_or_else(|| "the switch gives no reason".to_owned())),
        }
    }
}

/// What was asked for is done, or begun; there is nothing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {}

/// How a switch is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Since the process began to serve.
    pub uptime_secs: u64,
    /// By number.
    pub shards: Vec<ShardStatus>,
    /// Bindings that are served.
    pub bindings: u64,
    /// Addresses of record which have a binding.
    pub aors: u64,
    /// Accounts in memory.
    pub accounts: u64,
    /// The journal of bindings, calls and CDRs.
    pub journal: JournalStatus,
    /// Whether the kernel steers datagrams; told by the process that has bound the sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering: Option<SteeringStatus>,
    /// The processes of the switch, where it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessStatus>,
}

/// How a process is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// `supervisor`, `switch`, or the name of an application server.
    pub name: String,
    /// Its process id, unless it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// `serving`, `starting`, `draining`, `waiting` until it is started again, or `off`.
    pub state: String,
    /// Since it was started.
    pub uptime_secs: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// How many threads serve.
    pub shards: u16,
    /// How often it was started again since the supervisor started it first.
    pub restarts: u64,
    /// The latest of them, the newest last.
    pub reasons: Vec<Restart>,
}

/// A process was started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// Why the one before it ended.
    pub reason: String,
}

/// A process was replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// The new one.
    pub pid: u32,
    /// From the last message that the old one took to the first that the new one could.
    pub gap_msecs: u64,
}

/// How a shard is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Whatever the shard counts, since its start.
    pub counters: BTreeMap<String, u64>,
}

/// Whether the kernel puts datagrams into the sockets of the shards that own them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SteeringStatus {
    /// `on`, `off`, `not needed`, or why it is not possible.
    pub state: String,
    /// Datagrams that it has put there since the sockets were bound.
    pub steered: u64,
    /// Those whose owner it could not tell.
    pub left: u64,
}

/// How the journal is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Files.
    pub segments: u64,
    /// Octets of all of them.
    pub bytes: u64,
    /// A word such as `writing`, or what is wrong.
    pub state: String,
}

/// A list of bindings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bindings {
    /// In no order that one could rely on.
    pub bindings: Vec<Binding>,
    /// Whether there are more than the limit allowed.
    pub more: bool,
}

/// One binding (RFC 3261 §10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The address of record, as `user@domain`.
    pub aor: String,
    /// The contact's URI.
    pub contact: String,
    /// Its preference from 0 to 1, in the header's spelling.
    pub q: String,
    /// Until it expires.
    pub expires_secs: u32,
    /// Where its REGISTER came from, such as `udp 192.0.2.7:5060`.
    pub received: String,
    /// The Path it registered with (RFC 3327), outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// `+sip.instance` (RFC 5626 §4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626 §4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reg_id: Option<u32>,
    /// Call-ID of its last REGISTER.
    pub call_id: String,
    /// CSeq of its last REGISTER.
    pub cseq: u32,
    /// What registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A list of calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// In no order that one could rely on.
    pub calls: Vec<Call>,
    /// Whether there are more than the limit allowed.
    pub more: bool,
}

/// A call that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its number, 32 hexadecimal digits; its CDRs have it too.
    pub call: String,
    /// The application server that has it.
    pub server: String,
    /// Whose call it is, as `user@domain`; empty where nobody's of ours.
    pub user: String,
    /// The plan that decides about it; empty where none does.
    pub plan: String,
    /// Its legs, the caller's first.
    pub legs: Vec<CallLeg>,
}

/// A leg of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallLeg {
    /// `in` or `out`.
    pub direction: String,
    /// URI of the far end.
    pub peer: String,
    /// A word such as `trying`, `ringing` or `answered`.
    pub state: String,
    /// Since its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_secs: Option<u32>,
}

/// Which call was hung up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HungUp {
    /// Its whole number.
    pub call: String,
}

/// A call back has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalledBack {
    /// The number of its call, as CDRs have it.
    pub call: String,
}

/// What a reload has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// Keys whose new value holds from now on.
    pub applies: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub needs_restart: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_read_as_documented() {
        let request: Request = serde_json::from_str(r#"{"command":"status"}"#).unwrap();
        assert_eq!(request, Request::Status);
        let request: Request = serde_json::from_str(r#"{"command":"bindings","aor":"a@b","limit":9}"#).unwrap();
        assert_eq!(request, Request::Bindings { aor: Some("a@b".into()), prefix: None, limit: 9 });
        assert!(serde_json::from_str::<Request>(r#"{"command":"bindings","limit":9,"color":1}"#).is_err());
        let request: Request = serde_json::from_str(r#"{"command":"hang-up","call":"00c0ffee"}"#).unwrap();
        assert_eq!(request, Request::HangUp { call: "00c0ffee".into() });

        let reload = Reload { applies: vec!["domains".into()], needs_restart: vec![] };
        let text = serde_json::to_string(&Answer::ok(&reload)).unwrap();
        assert_eq!(text, r#"{"ok":true,"result":{"applies":["domains"],"needs_restart":[]}}"#);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap().into_result(), Ok(reload));
        let text = serde_json::to_string(&Answer::error("no.")).unwrap();
        assert_eq!(text, r#"{"ok":false,"error":"no."}"#);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap().into_result::<Reload>(), Err("no.".into()));
    }
}
