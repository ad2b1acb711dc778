//! What goes wrong, and when.

use std::time::Duration;

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

impl FaultAction {
    /// Whether it is about a server's life: a start, a stop, a death, a promotion.
    #[must_use]
    pub fn is_of_a_servers_life(&self) -> bool {
        matches!(
            self,
            FaultAction::ServerStop { .. }
                | FaultAction::ServerStart { .. }
                | FaultAction::ServerRestart { .. }
                | FaultAction::ServerCrashBackend { .. }
                | FaultAction::ServerKill { .. }
                | FaultAction::ServerPowerLoss { .. }
                | FaultAction::ServerPromote
        )
    }
}

/// A method of the manager of a pool of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagerCall {
    /// Makes a resource.
    Connect,
    /// Asks whether it works.
    Check,
    /// Makes it as good as new.
    Reset,
}

impl ManagerCall {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ManagerCall::Connect => "connect",
            ManagerCall::Check => "check",
            ManagerCall::Reset => "reset",
        }
    }
}

/// How a manager's method misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It fails.
    Fail,
    /// It does not return until the fault is over, and fails then.
    Hang,
    /// It takes this much longer.
    Slow(Duration),
    /// It panics.
    Panic,
}

/// What befalls a connection at one of its protocol messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtMessage {
    /// Both ends get a RST.
    Cut,
    /// From here on its segments are dropped silently.
    Silence,
    /// What follows comes this much later.
    Delay(Duration),
    /// Its backend is terminated: the server answers with 57P01 and closes.
    Terminate,
    /// `pg_cancel_backend`: a statement that runs ends with 57014; nothing where none runs.
    Cancel,
    /// Its backend finds no memory for the next message that it works on: ERROR 53200, or FATAL in a startup.
    Starve,
}

impl AtMessage {
    /// All of them, in the order of the documentation; a delay of nothing.
    pub const ALL: [AtMessage; 6] = [
        AtMessage::Cut,
        AtMessage::Silence,
        AtMessage::Delay(Duration::ZERO),
        AtMessage::Terminate,
        AtMessage::Cancel,
        AtMessage::Starve,
    ];

    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AtMessage::Cut => "cut",
            AtMessage::Silence => "silence",
            AtMessage::Delay(_) => "delay",
            AtMessage::Terminate => "terminate",
            AtMessage::Cancel => "cancel",
            AtMessage::Starve => "starve",
        }
    }
}

/// One protocol message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessagePlace {
    /// The dial of the run that its connection comes of, from 1.
    pub connection: u32,
    /// Whether the app sends it; else the server does.
    pub to_server: bool,
    /// Which of this direction, from 1. StartupMessage is the app's first.
    pub message: u32,
    /// Behind the message's last byte; else before its first.
    pub after: bool,
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
    /// `net.message`: what befalls a connection at one of its messages, if that comes at the fault's time or later.
    NetMessage { place: MessagePlace, what: AtMessage },
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
    AppKill { app: String, process: Option<u32>, older_than: Option<Duration>, restart_after: Option<Duration> },
    /// `actor.kill`: actors of a workload are dropped with what they hold; their processes live on.
    ActorKill { workload: String, older_than: Option<Duration>, count: Option<u32> },
    /// `manager.fail`, `.hang`, `.slow`, `.panic`: a method of the manager of pools of resources misbehaves.
    Manager { call: ManagerCall, how: Misbehaviour, lasts: Option<Duration> },
    /// `app.power_loss`: its host vanishes without a FIN.
    AppPowerLoss { app: String, process: Option<u32>, restart_after: Option<Duration> },
}
