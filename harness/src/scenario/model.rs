//! What a scenario file says, once it is read and found right. Every value here is valid: names resolve, bounds hold.
//!
//! Durations are [`Duration`]s; a file writes them with a unit (`250ms`, `5s`, `10m`, `2h`, `1d`).

use std::time::Duration;

use indexmap::IndexMap;

/// One scenario file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// One line: what happens.
    pub title: String,
    /// The story, for a reader who has never seen the code.
    pub story: String,
    /// The seeds that `cargo test` and `run` use when none is given.
    pub seeds: Vec<u64>,
    /// The PostgreSQL server, and its host `db`.
    pub server: Server,
    /// A second server, which can be promoted and to which the name `db` can be re-pointed; its host is `standby`.
    pub standby: Option<Standby>,
    /// The network between apps and servers.
    pub network: Network,
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
    /// Default 1.
    pub processes: u32,
    /// The role it connects as. Default `app`.
    pub user: String,
    /// Its pool's settings.
    pub pool: PoolSettings,
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

/// Traffic: actors arrive, each runs the steps once.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The app it belongs to. Actors are spread over its processes in turn.
    pub app: String,
    /// When actors arrive.
    pub arrive: Arrive,
    /// No actor arrives before this. Default 0.
    pub from: Duration,
    /// No actor arrives at or after this; `None` is the end of the fault phase.
    pub until: Option<Duration>,
    /// What an actor does.
    pub steps: Vec<Step>,
    /// What an actor does when a step fails. Default [`OnError::Stop`].
    pub on_error: OnError,
}

/// When actors arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrive {
    /// Only when another workload's `spawn` step says so.
    Never,
    /// At each of these times.
    At(Vec<Duration>),
    /// One each interval, the first at `from`.
    Every(Duration),
    /// At random, this many a second on average.
    Poisson {
        /// Actors a second.
        per_second: f64,
    },
    /// This many at once, at `from`, and again each interval if one is given.
    Burst {
        /// How many at once.
        count: u32,
        /// The interval between bursts.
        every: Option<Duration>,
    },
    /// A closed loop: this many workers, each starting over when it has ended, after a pause.
    Workers {
        /// How many.
        count: u32,
        /// The pause between an actor's end and its worker's next.
        pause: Duration,
    },
}

/// What an actor does when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It ends, as `?` does in Rust: what it holds is dropped.
    Stop,
    /// It goes on with the next step.
    Continue,
    /// It sends ROLLBACK if it holds a lease in a transaction, then ends.
    Rollback,
}

/// A step of an actor, perhaps to be cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// When its future is dropped before it is complete. A cancelled step is not an error: the actor goes on.
    pub cancel: Option<Cancel>,
}

/// When a step's future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// After a time.
    After(Duration),
    /// Instead of its n-th poll (1 is before the first).
    AtPoll(u32),
    /// When it was woken for the n-th time, without being polled again.
    AtWake(u32),
    /// At each of its polls in turn: the k-th actor of the workload is cancelled instead of its k-th poll, the wakes
    /// after the polls, and round again.
    EveryPoll,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Takes a lease. It is an error when the actor holds one already.
    Acquire {
        /// The actor's own deadline (`tokio::time::timeout` around the acquire), beside the pool's.
        deadline: Option<Duration>,
    },
    /// Sends a statement by the simple query protocol. `$actor` in the text is the actor's number, `$process` its
    /// process's.
    Sql(String),
    /// Sends a statement by the extended protocol, prepared anew (`Client::query`); the same variables.
    Prepared(String),
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// Keeps what it has for a time drawn uniformly.
    Hold {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// Returns the lease.
    Release,
    /// Never returns the lease: it is kept for ever.
    Leak,
    /// The actor's task is dropped after this time, in the middle of the steps that follow.
    Abandon {
        /// After this time.
        after: Duration,
    },
    /// Panics, holding what it holds.
    Panic,
    /// Takes the connection out of the pool for good, and keeps using it.
    Detach,
    /// Closes the pool and waits for that.
    ClosePool,
    /// Builds a pool of the actor's own, used by its later steps; it replaces and drops its former own one.
    NewPool,
    /// Drops the actor's own pool (see [`Action::NewPool`]) without closing it.
    DropPool,
    /// Changes the pool's `max_size`.
    Resize(u32),
    /// Reads the pool's own counters into the trace.
    Status,
    /// Starts an actor of another workload (one that has `arrive = "never"`), and perhaps waits for its end.
    Spawn {
        /// The workload.
        workload: String,
        /// Whether to wait for its end.
        wait: bool,
    },
    /// Does these steps this many times.
    Repeat {
        /// How often.
        times: u32,
        /// What.
        steps: Vec<Step>,
    },
}

/// Something done to the server, the network, an app or a connection at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// When.
    pub at: Duration,
    /// Again each interval, if one is given, until the end of the fault phase.
    pub every: Option<Duration>,
    /// What.
    pub action: FaultAction,
}

/// How a server is stopped. See <https://www.postgresql.org/docs/15/server-shutdown.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for the sessions to end.
    Smart,
    /// Ends the sessions with 57P01.
    Fast,
    /// Ends the processes; recovery at the next start.
    Immediate,
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerName {
    /// `db`
    Primary,
    /// `standby`
    Standby,
}

/// Which backends a fault is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendFilter {
    /// Only of this application (app name).
    pub app: Option<String>,
    /// Only in this state (`idle`, `active`, `idle in transaction`).
    pub state: Option<String>,
    /// Only connected for at least this long.
    pub older_than: Option<Duration>,
    /// At most this many, the oldest first.
    pub count: Option<u32>,
}

/// One direction of a link, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// Only what apps send to servers is lost.
    ToServer,
    /// Only what servers send to apps is lost.
    ToApp,
}

/// What a fault does. `lasts` is how long; `None` is until the healing phase.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields carry the names of the file, documented in the schema")]
pub enum FaultAction {
    /// `server.stop`
    ServerStop { server: ServerName, mode: StopMode },
    /// `server.start`
    ServerStart { server: ServerName },
    /// `server.restart`: a stop, and a start `down_for` after the server is down.
    ServerRestart { server: ServerName, mode: StopMode, down_for: Duration },
    /// `server.crash_backend`: SIGKILL to one backend; all others end, the server recovers.
    ServerCrashBackend { server: ServerName, filter: BackendFilter },
    /// `server.kill`: SIGKILL to the postmaster and all its backends.
    ServerKill { server: ServerName, down_for: Option<Duration> },
    /// `server.power_loss`: the host vanishes without a FIN, and boots again after `down_for`.
    ServerPowerLoss { server: ServerName, down_for: Option<Duration> },
    /// `server.slow`: every statement takes this much longer.
    ServerSlow { server: ServerName, by: Duration, lasts: Option<Duration> },
    /// `server.terminate`: `pg_terminate_backend` for each.
    ServerTerminate { server: ServerName, filter: BackendFilter },
    /// `server.cancel`: `pg_cancel_backend` for each.
    ServerCancel { server: ServerName, filter: BackendFilter },
    /// `server.promote`: the standby becomes a primary.
    ServerPromote,
    /// `server.set`: a reload with a changed setting, effective for new sessions.
    ServerSet { server: ServerName, setting: String, value: String },
    /// `server.sql`: the DBA runs statements in a session of their own, held open for `lasts`.
    ServerSql { server: ServerName, sql: String, lasts: Option<Duration> },
    /// `server.occupy`: another client opens this many sessions and keeps them.
    ServerOccupy { server: ServerName, sessions: u32, user: String, lasts: Option<Duration> },
    /// `net.latency`
    NetLatency { latency: Duration, jitter: Duration, lasts: Option<Duration> },
    /// `net.bandwidth`
    NetBandwidth { bytes_per_second: u64, lasts: Option<Duration> },
    /// `net.partition`: segments are lost; they are sent again with backoff, and arrive after the healing.
    NetPartition { app: Option<String>, direction: Direction, lasts: Option<Duration> },
    /// `net.forget`: existing flows are dropped silently for ever, new ones work (a NAT or firewall lost its table).
    NetForget { older_than: Option<Duration>, app: Option<String> },
    /// `net.reset`: both ends of existing flows get a RST.
    NetReset { older_than: Option<Duration>, app: Option<String> },
    /// `net.refuse`: connects are answered by a RST.
    NetRefuse { lasts: Option<Duration> },
    /// `net.lose_connects`: SYNs are lost.
    NetLoseConnects { lasts: Option<Duration> },
    /// `net.accept_silence`: connects are accepted by the kernel, and nobody ever answers.
    NetAcceptSilence { lasts: Option<Duration> },
    /// `net.idle_flow_timeout`: a firewall forgets flows idle for longer than this.
    NetIdleFlowTimeout { timeout: Duration, lasts: Option<Duration> },
    /// `dns.repoint`: the name `db` resolves to this server from now on.
    DnsRepoint { to: ServerName },
    /// `app.kill`: SIGKILL; its sockets are closed by the kernel. A new process starts after `restart_after`.
    AppKill { app: String, process: Option<u32>, restart_after: Option<Duration> },
    /// `app.power_loss`: its host vanishes without a FIN.
    AppPowerLoss { app: String, process: Option<u32>, restart_after: Option<Duration> },
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// The end of the fault phase: faults end, no actor arrives any more.
    pub until: Duration,
    /// How long the healing phase may take before it is judged. Default 2 minutes.
    pub healing: Duration,
    /// Bounds given to invariants: `"recovery within 1s of server-up"`.
    pub bounds: Vec<Bound>,
    /// Invariants that are excused here, and why.
    pub excuses: Vec<Excuse>,
    /// Known bugs of published pools. Strict: they must show.
    pub known: Vec<Known>,
    /// Statements run as superuser at the end, with the value they must return.
    pub sql: Vec<SqlCheck>,
    /// What a pool must be able to do for this scenario to make sense.
    pub needs: Vec<String>,
    /// Bounds on figures: `errors.timeout = "0"`, `peak_connections = "<= 20"`.
    pub figures: IndexMap<String, Comparison>,
}

/// A bound of an invariant.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The invariant's name.
    pub invariant: String,
    /// Its value.
    pub value: BoundValue,
}

/// A bound's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundValue {
    /// `within 1s`
    Within(Duration),
    /// `at most 3`
    AtMost(u64),
}

/// An invariant that is excused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    /// The invariant's name.
    pub invariant: String,
    /// Only for this pool.
    pub pool: Option<String>,
    /// Why.
    pub why: String,
}

/// A known bug of a published pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The pool.
    pub pool: String,
    /// The versions that have it, as Cargo writes requirements.
    pub versions: String,
    /// The invariant it violates.
    pub violates: String,
    /// Where it is described.
    pub link: String,
}

/// A statement checked at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCheck {
    /// The query: one row, one column.
    pub query: String,
    /// Its value as text.
    pub equals: String,
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// How.
    pub operator: Operator,
    /// With what; durations in seconds, shares from 0 to 1.
    pub value: f64,
    /// What the file's number was.
    pub unit: FigureUnit,
}

impl Comparison {
    /// Whether a figure is as it should be. A duration is given in seconds.
    #[must_use]
    pub fn holds(&self, figure: f64) -> bool {
        match self.operator {
            Operator::Equal => figure == self.value,
            Operator::AtMost => figure <= self.value,
            Operator::AtLeast => figure >= self.value,
            Operator::Below => figure < self.value,
            Operator::Above => figure > self.value,
        }
    }
}

/// What the number of a [`Comparison`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureUnit {
    /// `20`
    Count,
    /// `2s`: seconds.
    Seconds,
    /// `95%`: a share from 0 to 1.
    Share,
}

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say what they are")]
pub enum Operator {
    Equal,
    AtMost,
    AtLeast,
    Below,
    Above,
}
