//! What a scenario file says, once it is read and found right. Every value here is valid: names resolve, bounds hold.
//!
//! Durations are [`Duration`]s; a file writes them with a unit (`250ms`, `5s`, `10m`, `2h`, `1d`).

use std::time::Duration;

use indexmap::IndexMap;

mod expect;
mod fault;
mod traffic;

pub use expect::*;
pub use fault::*;
pub use traffic::*;

/// One scenario file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// One line: what happens.
    pub title: String,
    /// The story, for a reader who has never seen the code.
    pub story: String,
    /// The seeds that `cargo test` and `run` use when none is given.
    pub seeds: Vec<u64>,
    /// Another order among what is ready at the same time, drawn from this number and the seed; `None` is the runtime's own.
    pub interleave: Option<u64>,
    /// The PostgreSQL server, and its host `db`.
    pub server: Server,
    /// A second server, which can be promoted and to which the name `db` can be re-pointed; its host is `standby`.
    pub standby: Option<Standby>,
    /// The network between apps and servers.
    pub network: Network,
    /// The pools that the story is about; empty: every published one.
    pub pools: Vec<String>,
    /// Queues of jobs by name.
    pub queues: IndexMap<String, Queue>,
    /// Client programs by name.
    pub apps: IndexMap<String, App>,
    /// Traffic by name.
    pub workloads: IndexMap<String, Workload>,
    /// What goes wrong, in the order of the file.
    pub faults: Vec<Fault>,
    /// What must hold.
    pub expect: Expect,
}

/// The server's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Major version: 15, 16 or 17. Default 15.
    pub version: u32,
    /// Slots, default 100.
    pub max_connections: u32,
    /// Slots that only superusers get, default 3.
    pub superuser_reserved_connections: u32,
    /// How clients authenticate. Default trust.
    pub auth: Auth,
    /// Any other setting of `postgresql.conf` that the server knows, as text.
    pub settings: IndexMap<String, String>,
    /// Roles other than the default ones, by name.
    pub roles: IndexMap<String, Role>,
    /// `CONNECTION LIMIT` of the database `app`.
    pub database_connection_limit: Option<u32>,
    /// Statements run before the scenario starts: tables and their rows.
    pub sql: String,
    /// How long statements take.
    pub costs: Vec<Cost>,
    /// From process start to Running. Default 200 ms.
    pub startup_time: Duration,
    /// From a crash or an immediate stop to Running, once started. Default 500 ms.
    pub recovery_time: Duration,
    /// Time a backend needs from accepted TCP connection to ReadyForQuery. Default 2 ms.
    pub fork_time: Duration,
}

/// How clients authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `trust`
    Trust,
    /// `scram-sha-256`
    ScramSha256,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// `SUPERUSER`
    pub superuser: bool,
    /// `CONNECTION LIMIT`
    pub connection_limit: Option<u32>,
    /// `PASSWORD`
    pub password: Option<String>,
}

/// A cost of statements.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// A LIKE pattern on the statement's text.
    pub like: String,
    /// How long.
    pub takes: Duration,
    /// Longer by this for each row read.
    pub per_row: Duration,
}

/// The standby server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Whether it accepts read-only sessions before promotion (`hot_standby`). Default true.
    pub hot_standby: bool,
    /// How long a promotion takes. Default 500 ms.
    pub promotion_time: Duration,
}

/// The network between any app and any server.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// One way. Default 1 ms; the world's resolution is 1 ms.
    pub latency: Duration,
    /// Up to this much more, uniformly. Default 0.
    pub jitter: Duration,
    /// Bytes a second in each direction, unlimited by default.
    pub bandwidth: Option<u64>,
    /// Flows idle for longer are forgotten silently by a firewall on the way. Default never.
    pub idle_flow_timeout: Option<Duration>,
    /// How long a host name's address is cached by an app. Default 0 (asked at each dial).
    pub dns_ttl: Duration,
    /// Socket options of the apps' ends.
    pub client: SocketOptions,
}

/// TCP options, Linux's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// SO_KEEPALIVE with `tcp_keepalive_time`, `_intvl`, `_probes`; `None` is off.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT; `None` is Linux's default (retransmission gives up by `tcp_retries2`).
    pub user_timeout: Option<Duration>,
    /// How long a dial may take before the client gives it up (libpq's and tokio-postgres' `connect_timeout`); `None`
    /// waits as long as TCP does.
    pub connect_timeout: Option<Duration>,
}

/// Keepalive timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection is dead.
    pub count: u32,
}

/// A client program: one or more identical processes, each with a pool of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Default one.
    pub processes: Processes,
    /// When its garbage collector runs by itself; `None`: only when a step asks for it. Default `None`.
    pub collector: Option<Collector>,
    /// Whether its driver lets other actors of the process run while one waits for the server. Default true.
    pub cooperative: bool,
    /// The role it connects as. Default `app`.
    pub user: String,
    /// Its pool's settings.
    pub pool: PoolSettings,
}

/// A garbage collector that runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collector {
    /// After so many allocations.
    pub threshold: u32,
    /// Allocations inside each acquire, where some pools hold a lock. Default 0.
    pub acquire: u32,
}

/// The processes of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// This many, from the start of the run.
    Fixed(u32),
    /// One for each actor, as CGI does: it starts with the actor, and ends with it.
    PerRequest,
}

impl Processes {
    /// How many there are from the start.
    #[must_use]
    pub fn fixed(self) -> u32 {
        match self {
            Processes::Fixed(count) => count,
            Processes::PerRequest => 0,
        }
    }
}

/// A queue of jobs: what a step `put`s, a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// In the memory of each process of this app; `None`: in a broker of its own, which all apps reach and none takes with
    /// it.
    pub app: Option<String>,
    /// When a job is forgotten by the queue. Default [`Acknowledge::Early`].
    pub acknowledge: Acknowledge,
    /// How often a job whose actor failed is put again. Default 0.
    pub max_retries: u32,
    /// The time before it is put again. Default 0.
    pub countdown: Duration,
}

/// When a queue forgets a job that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// When it is taken: a worker that dies takes the job with it.
    Early,
    /// When it is done: the job of a worker that dies is taken by another one.
    Late,
}

/// Settings that most pools have, under one name each. An adapter maps them to its pool's own.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// At most this many connections, or [`PoolSettings::UNLIMITED`]. Default 10.
    pub max_size: u32,
    /// At least this many idle connections are kept. Default 0.
    pub min_idle: u32,
    /// At most this many idle connections are kept; more are closed when they come back. `None` keeps them all.
    pub max_idle: Option<u32>,
    /// How long an acquire may take; `None` waits for ever. Default 30 s.
    pub acquire_timeout: Option<Duration>,
    /// A connection idle for longer is closed.
    pub idle_timeout: Option<Duration>,
    /// A connection older than this is closed when it is next idle.
    pub max_lifetime: Option<Duration>,
    /// A connection is checked with a query before it is handed out. Default false.
    pub test_on_acquire: bool,
    /// What happens to a session when it is returned. Default [`Reset::None`].
    pub reset_on_return: Reset,
    /// Which idle connection is handed out next; `None` is the pool's own default.
    pub order: Option<Order>,
}

impl PoolSettings {
    /// A `max_size` without a bound.
    pub const UNLIMITED: u32 = u32::MAX;
}

impl Default for PoolSettings {
    fn default() -> Self {
        PoolSettings {
            max_size: 10,
            min_idle: 0,
            max_idle: None,
            acquire_timeout: Some(Duration::from_secs(30)),
            idle_timeout: None,
            max_lifetime: None,
            test_on_acquire: false,
            reset_on_return: Reset::None,
            order: None,
        }
    }
}

/// What a pool does to a session between two leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Nothing.
    None,
    /// ROLLBACK when a transaction is open.
    Rollback,
    /// COMMIT when a transaction is open.
    Commit,
    /// DISCARD ALL, or the pool's own nearest.
    Discard,
}

/// Which idle connection is handed out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one idle for longest.
    Fifo,
    /// The one returned last.
    Lifo,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            version: 15,
            max_connections: 100,
            superuser_reserved_connections: 3,
            auth: Auth::Trust,
            settings: IndexMap::new(),
            roles: IndexMap::new(),
            database_connection_limit: None,
            sql: String::new(),
            costs: Vec::new(),
            startup_time: Duration::from_millis(200),
            recovery_time: Duration::from_millis(500),
            fork_time: Duration::from_millis(2),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            bandwidth: None,
            idle_flow_timeout: None,
            dns_ttl: Duration::ZERO,
            client: SocketOptions::default(),
        }
    }
}

/// As tokio-postgres has them.
impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions { keepalive: Some(Keepalive::DEFAULT), user_timeout: None, connect_timeout: None }
    }
}

impl Keepalive {
    /// libpq and tokio-postgres switch keepalives on; tokio-postgres sets `tcp_keepalive_time` to two hours, which is also
    /// Linux's default, and leaves `_intvl` and `_probes` at Linux's 75 s and 9 (tcp(7)).
    pub const DEFAULT: Keepalive =
        Keepalive { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 };
}
