//! The configuration: one TOML file in which every key has a default, so that an empty file is a working switch on 5060.
//!
//! These are the types and defaults; [`load`] reads the file, `schema` knows the keys and their bounds, `document` the
//! faults' places, `changes` what a reload applies. Names end in their unit. docs/configuration.md lists the keys.

mod app;
mod callback;
mod changes;
mod document;
mod load;
mod schema;
mod supervisor;

pub use app::{App, Calls, Dialplan, Health, Processes};
pub use callback::Callback;
pub use changes::{Changes, settings};
pub use document::Faults;
pub use load::{ConfigError, DEFAULT_FILE, MAX_FILE_BYTES, load, load_text, parse};
pub(crate) use schema::host;
pub use supervisor::Supervisor;

use serde::{Serialize, Serializer};
use sip::{Transport, digest::Algorithm};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};
use store::Network;

/// Everything an operator can choose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The file that was asked for with `--config`; a reload reads it again. None is the default place.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Our own domains in lower case, never empty. The first is the default domain; addresses we listen on are aliases of it.
    pub domains: Vec<String>,
    /// Absolute directory of the accounts, the journal, the secret and the control socket.
    pub data_dir: PathBuf,
    /// How the agents are spread over processes.
    pub processes: Processes,
    /// Where we listen, never empty.
    pub listen: Vec<Listen>,
    /// Which cores run shards.
    pub cores: Cores,
    /// Datagram sockets.
    pub udp: Udp,
    /// Gathering of datagrams before a shard wakes.
    pub batching: Batching,
    /// Stream connections.
    pub tcp: Tcp,
    /// Rings between shards.
    pub mesh: Mesh,
    /// Bounds on a message.
    pub sip: SipLimits,
    /// The stateless proxy.
    pub proxy: Proxy,
    /// What happens when there is more work than time.
    pub overload: Overload,
    /// The registrar.
    pub registrar: Registrar,
    /// The application servers. None: the proxy forwards to users' bindings by itself.
    pub app: Vec<App>,
    /// What every application server allows a call.
    pub calls: Calls,
    /// What every application server allows a dial plan.
    pub dialplan: Dialplan,
    /// Packets with a foreign source, for callbacks.
    pub callback: Callback,
    /// How application servers are probed.
    pub health: Health,
    /// The processes of the switch.
    pub supervisor: Supervisor,
    /// The journal of bindings, calls and CDRs.
    pub journal: Journal,
    /// Call detail records.
    pub cdr: Cdr,
    /// What dial plans fetch from the web.
    pub web: Web,
    /// What dial plans keep.
    pub store: Store,
    /// The log.
    pub log: Log,
}

impl Config {
    /// The domain of whoever gives none: the first of `domains`.
    pub fn default_domain(&self) -> &str {
        self.domains.first().expect("a configuration has at least one domain")
    }

    /// Every domain that is ours: `domains`, the default one first, then those of application servers that are not among
    /// them.
    pub fn all_domains(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.domains.iter().map(String::as_str).collect();
        for domain in self.app.iter().flat_map(|app| &app.domains) {
            if !all.contains(&domain.as_str()) {
                all.push(domain);
            }
        }
        all
    }

    /// The file of the accounts.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("ringswitch.db")
    }

    /// The directory of the journal's segments.
    pub fn journal_dir(&self) -> PathBuf {
        self.data_dir.join("journal")
    }

    /// The file of the cluster's secret.
    pub fn secret(&self) -> PathBuf {
        self.data_dir.join("secret")
    }

    /// The socket on which a running switch answers the command line.
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            domains: vec!["localhost".to_owned()],
            data_dir: load::default_data_dir(),
            processes: Processes::default(),
            listen: Listen::defaults(),
            cores: Cores::default(),
            udp: Udp::default(),
            batching: Batching::default(),
            tcp: Tcp::default(),
            mesh: Mesh::default(),
            sip: SipLimits::default(),
            proxy: Proxy::default(),
            overload: Overload::default(),
            registrar: Registrar::default(),
            app: vec![App::stable()],
            calls: Calls::default(),
            dialplan: Dialplan::default(),
            callback: Callback::default(),
            health: Health::default(),
            supervisor: Supervisor::default(),
            journal: Journal::default(),
            cdr: Cdr::default(),
            web: Web::default(),
            store: Store::default(),
            log: Log::default(),
        }
    }
}

/// `[[listen]]`: one socket address.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listen {
    /// UDP or TCP in this version.
    #[serde(serialize_with = "as_param")]
    pub transport: Transport,
    /// Address and port; `0.0.0.0` and `[::]` are all addresses of their family, and of no other.
    pub address: SocketAddr,
    /// What we call ourselves in Via, Record-Route and Contact; without it, the address a peer reaches us at.
    pub advertise: Option<HostPort>,
    /// Skipped without a complaint where the machine lacks the address family. Only the default IPv6 listeners are.
    #[serde(skip)]
    pub optional: bool,
}

impl Listen {
    /// 5060 on UDP and TCP, IPv4 and IPv6 (RFC 3261 §18.1.1: every element speaks both transports).
    fn defaults() -> Vec<Self> {
        let listen = |transport, ip: IpAddr| Self {
            transport,
            address: SocketAddr::new(ip, transport.default_port()),
            advertise: None,
            optional: ip.is_ipv6(),
        };
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        vec![
            listen(Transport::Udp, v4),
            listen(Transport::Tcp, v4),
            listen(Transport::Udp, v6),
            listen(Transport::Tcp, v6),
        ]
    }
}

/// A `host[:port]` (RFC 3261 §25.1 `hostport`): a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, as it goes into a header.
    pub host: String,
    /// The port; None leaves it out.
    pub port: Option<u16>,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `[cores]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cores {
    /// Shards of the switch.
    pub switch: Shards,
}

/// How many shards run, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shards {
    /// So many, on the first cores that the process may use.
    Count(u16),
    /// One on each of these cores.
    On(Vec<u16>),
}

impl Shards {
    /// How many that are.
    pub fn count(&self) -> u16 {
        match self {
            Self::Count(count) => *count,
            Self::On(cores) => cores.len() as u16,
        }
    }

    /// The cores, where they are chosen.
    pub fn cores(&self) -> &[u16] {
        match self {
            Self::Count(_) => &[],
            Self::On(cores) => cores,
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        Self::Count(available.min(schema::MAX_SHARDS as usize) as u16)
    }
}

/// `[udp]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Udp {
    /// SO_RCVBUF of each socket. The kernel grants at most net.core.rmem_max without CAP_NET_ADMIN.
    pub receive_buffer_bytes: u32,
    /// SO_SNDBUF of each socket.
    pub send_buffer_bytes: u32,
    /// Receive buffers of a shard: so many datagrams can wait for its turn in its ring. A power of two.
    pub buffers: u16,
    /// The largest datagram that is taken whole. Pages that no datagram reaches cost no memory.
    pub buffer_bytes: u32,
    /// Whether datagrams of one peer are sent and received as one where they can be (UDP GSO and GRO).
    pub offload: bool,
    /// Blanks in our Via that make a forwarded request as long as others for its peer, so that they are sent as one.
    pub padding_bytes: u8,
    /// Whether the kernel puts each datagram into the socket of the shard that owns it.
    pub steering: Steering,
}

/// `udp.steering`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Steering {
    /// With more shards than one, where the kernel lets us.
    Auto,
    /// Not at all.
    Off,
}

impl Default for Udp {
    fn default() -> Self {
        // RFC 3261 §18.1.1: implementations handle messages up to the maximum datagram size.
        Self {
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            buffers: 1024,
            buffer_bytes: 65_535,
            offload: true,
            padding_bytes: 32,
            steering: Steering::Auto,
        }
    }
}

/// `[batching]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Batching {
    /// The latency granted for gathering a batch; the window is open only while the load fills it. 0 keeps it shut.
    pub window_usecs: u32,
}

impl Default for Batching {
    fn default() -> Self {
        Self { window_usecs: 200 }
    }
}

/// `[tcp]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tcp {
    /// Connections of the process; another one is closed as soon as it is accepted.
    pub max_connections: u32,
    /// Connections of one remote address.
    pub max_connections_per_address: u32,
    /// A connection without traffic for so long is closed.
    pub idle_secs: u32,
    /// A message that has begun must be complete within this time, or its connection is closed.
    pub message_secs: u32,
    /// How long opening a connection may take.
    pub connect_secs: u32,
    /// What may wait for a slow reader; beyond it his connection is closed.
    pub max_queued_bytes: u32,
    /// Whether a Via's `alias` parameter lets us send requests back on the connection. Off unless told otherwise: RFC 5923
    /// asks for TLS with certificates, for whoever shares a peer's address can claim the peer's port.
    pub alias: bool,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            idle_secs: 900,
            message_secs: 10,
            connect_secs: 4,
            max_queued_bytes: 1 << 20,
            alias: false,
        }
    }
}

/// `[mesh]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mesh {
    /// Messages that each ring from one shard to another holds; a full ring answers 503. A power of two.
    pub slots: u32,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { slots: 1024 }
    }
}

/// `[sip]`: bounds on a message. What exceeds them is answered 513 or 400, or dropped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SipLimits {
    /// Octets of a message.
    pub max_message_bytes: u16,
    /// Header fields of a message.
    pub max_headers: u16,
    /// Octets of one header field, its folded lines included.
    pub max_line_bytes: u16,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self { max_message_bytes: 65_535, max_headers: 128, max_line_bytes: 8_192 }
    }
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proxy {
    /// Whether we stay on the path of a dialog (RFC 3261 §16.6 step 4).
    pub record_route: bool,
    /// Sources whose requests may go from outside to outside. Everyone else's are answered 403.
    #[serde(serialize_with = "as_texts")]
    pub relay_from: Vec<Network>,
    /// The Server header of our own answers (RFC 3261 §20.35); empty leaves it out.
    pub server: String,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            record_route: true,
            relay_from: Vec::new(),
            server: concat!("ringswitch/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// `[overload]`: bounded work. Requests within dialogs and responses are never refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overload {
    /// How much of a socket's receive buffer may be full without anything being refused.
    pub backlog_percent: u32,
    /// How long it must be fuller before anything is: a burst is worked off.
    pub patience_msecs: u32,
    /// The Retry-After of such a 503 (RFC 3261 §21.5.4).
    pub retry_after_secs: u32,
    /// REGISTERs of a shard that may wait for the disk; more are answered 503.
    pub pending_registers: u32,
}

impl Default for Overload {
    fn default() -> Self {
        Self { backlog_percent: 12, patience_msecs: 100, retry_after_secs: 10, pending_registers: 16_384 }
    }
}

/// `[registrar]` (RFC 3261 §10.3).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Registrar {
    /// A shorter expiry is answered 423 with Min-Expires.
    pub min_expires_secs: u32,
    /// A longer expiry is cut to this.
    pub max_expires_secs: u32,
    /// The expiry of a contact that asks for none.
    pub default_expires_secs: u32,
    /// Bindings of one address of record; an account may have its own limit.
    pub max_bindings: u16,
    /// What a binding beyond the limit meets.
    pub when_full: WhenFull,
    /// Whether a REGISTER must carry digest credentials.
    pub authenticate: bool,
    /// How long a nonce is good for.
    pub nonce_secs: u32,
    /// What a challenge offers, never empty.
    #[serde(serialize_with = "as_tokens")]
    pub algorithms: Vec<Algorithm>,
    /// The Service-Route of a 200 (RFC 3608), in order.
    pub service_route: Vec<String>,
    /// Other expiries for some user agents; the first whose pattern matches counts.
    pub user_agent: Vec<UserAgentRule>,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            min_expires_secs: 60,
            max_expires_secs: 3_600,
            default_expires_secs: 3_600,
            max_bindings: 10,
            when_full: WhenFull::Refuse,
            authenticate: true,
            nonce_secs: 300,
            // RFC 8760 §2.4 has a client pass over the challenges that it does not know. Many phones do not: they answer
            // the topmost or none at all. So out of the box all of them are asked for what all of them speak.
            algorithms: vec![Algorithm::Md5],
            service_route: Vec::new(),
            user_agent: Vec::new(),
        }
    }
}

/// `registrar.when_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// 403.
    Refuse,
    /// The binding that was refreshed the longest time ago gives way.
    ReplaceOldest,
}

/// `[[registrar.user_agent]]`: expiries for the user agents whose User-Agent header matches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserAgentRule {
    /// Searched for anywhere in the header.
    pub pattern: Pattern,
    /// In place of `registrar.min_expires_secs`.
    pub min_expires_secs: Option<u32>,
    /// In place of `registrar.max_expires_secs`.
    pub max_expires_secs: Option<u32>,
}

/// A regular expression over octets, for a header need not be UTF-8. Two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::bytes::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// `[journal]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Journal {
    /// A segment that has grown to this is closed and the next one begun.
    pub segment_bytes: u64,
    /// The most that one write commits.
    pub group_bytes: u32,
    /// From the beginning of a commit of more than a page to that of the next one, at least.
    pub window_usecs: u32,
    /// Batches of a shard that may wait for the clerk.
    pub queue_batches: u32,
}

/// `[cdr]`: call detail records. They are in the database whatever this says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cdr {
    /// A file which gets each of them as a line of JSON, too.
    pub json_lines: Option<PathBuf>,
}

/// `[web]`: what dial plans may fetch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Web {
    /// How long a request may take, redirections included.
    pub timeout_secs: u32,
    /// Octets of a response's body; a longer one is refused.
    pub max_body_bytes: u32,
    /// Redirections that are followed one after another.
    pub max_redirects: u32,
    /// Requests that may wait; more are refused at once.
    pub max_waiting: u32,
    /// Of these, those of one user.
    pub max_waiting_per_user: u32,
    /// Requests that are under way at a time.
    pub threads: u8,
    /// Private networks that may be reached all the same.
    #[serde(serialize_with = "as_texts")]
    pub allow: Vec<Network>,
}

/// `[store]`: what dial plans keep from one call to the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Store {
    /// Reads and writes that may wait; more are refused at once.
    pub max_waiting: u32,
    /// Of these, those of one user.
    pub max_waiting_per_user: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self { max_waiting: 1_024, max_waiting_per_user: 64 }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self {
            timeout_secs: 5,
            max_body_bytes: 65_536,
            max_redirects: 3,
            max_waiting: 256,
            max_waiting_per_user: 32,
            threads: 4,
            allow: Vec::new(),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, group_bytes: 1 << 20, window_usecs: 2_000, queue_batches: 1024 }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    /// How a line looks and where it goes.
    pub format: LogFormat,
    /// The least severe level that is written; the environment variable RUST_LOG takes precedence.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: LogLevel::Info }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal when systemd has connected stderr to it, else for humans.
    Auto,
    /// A line for human eyes on stderr, in colour on a terminal.
    Human,
    /// A JSON object a line on stderr.
    Json,
    /// systemd's journal, with its fields.
    Journald,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What somebody must repair.
    Error,
    /// What somebody should know.
    Warn,
    /// The life of the process.
    Info,
    /// Decisions.
    Debug,
    /// Every message.
    Trace,
}

fn as_param<S: Serializer>(transport: &Transport, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(transport.param())
}

fn as_tokens<S: Serializer>(algorithms: &[Algorithm], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(algorithms.iter().map(|algorithm| algorithm.token()))
}

fn as_texts<S: Serializer>(networks: &[Network], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(Network::to_string))
}
