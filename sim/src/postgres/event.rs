//! What the server tells whoever watches it: the truth that pools are judged by.

use std::net::SocketAddr;
use std::sync::Arc;

use super::error::SqlState;

/// A backend's process id. Never given out twice in one run, over all servers of a world.
pub type Pid = i32;

/// `pg_stat_activity.state`, and the two moments it does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendState {
    /// Connected, not yet ReadyForQuery.
    Starting,
    /// `active`
    Active,
    /// `idle`
    Idle,
    /// `idle in transaction`
    IdleInTransaction,
    /// `idle in transaction (aborted)`
    IdleInTransactionAborted,
}

impl BackendState {
    /// The text of `pg_stat_activity.state`; `starting` for a backend that has none yet.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BackendState::Starting => "starting",
            BackendState::Active => "active",
            BackendState::Idle => "idle",
            BackendState::IdleInTransaction => "idle in transaction",
            BackendState::IdleInTransactionAborted => "idle in transaction (aborted)",
        }
    }
}

/// Why a backend ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// The client sent Terminate.
    Terminate,
    /// The client's end closed (FIN) without Terminate.
    ClientClosed,
    /// The socket failed: reset, or timed out by keepalive or retransmission.
    SocketError(std::io::ErrorKind),
    /// The server ended it with this FATAL (terminated, a timeout, shutdown, refused at startup).
    Fatal(SqlState),
    /// Immediate stop, or another backend crashed (WARNING 57P01 or 57P02, then FIN).
    Crash(SqlState),
    /// This backend was killed (SIGKILL) or the host lost its power: no message.
    Killed,
}

/// The server's own life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifecycle {
    /// No process: connects are refused.
    Down,
    /// Accepts TCP, answers 57P03 "the database system is starting up".
    StartingUp,
    /// Accepts TCP, answers 57P03 while it replays its log after a crash.
    Recovering,
    /// Takes sessions.
    Running,
    /// Smart or fast stop under way: 57P03 "the database system is shutting down".
    ShuttingDown,
}

impl Lifecycle {
    /// As a sentence goes on: "the server is …".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Down => "down",
            Lifecycle::StartingUp => "starting up",
            Lifecycle::Recovering => "recovering",
            Lifecycle::Running => "running",
            Lifecycle::ShuttingDown => "shutting down",
        }
    }
}

/// One thing that happened at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// The server's own state changed.
    Lifecycle(Lifecycle),
    /// A standby's promotion is complete: from now on it takes writes.
    Promoted,
    /// A connection took a slot and a process.
    Forked {
        /// The backend.
        pid: Pid,
        /// The client's address, as the server sees it.
        peer: SocketAddr,
    },
    /// A startup was refused (no slot, unknown role, starting up, …); the backend is gone with it.
    Refused {
        /// The backend, if it got as far.
        pid: Option<Pid>,
        /// The client's address.
        peer: SocketAddr,
        /// What the client was told.
        code: SqlState,
    },
    /// The state shown in `pg_stat_activity` changed. The first change to `Idle` is the end of the startup.
    State {
        /// The backend.
        pid: Pid,
        /// What it is now.
        state: BackendState,
    },
    /// A statement began (simple query, or Execute of a portal).
    Statement {
        /// The backend.
        pid: Pid,
        /// Its text, as sent.
        text: Arc<str>,
    },
    /// A statement ended.
    StatementEnd {
        /// The backend.
        pid: Pid,
        /// The command tag, or the error's SQLSTATE.
        result: Result<Arc<str>, SqlState>,
    },
    /// A backend began to wait for a lock.
    Blocked {
        /// The backend.
        pid: Pid,
        /// `pg_blocking_pids`, ascending.
        by: Vec<Pid>,
        /// What it waits for, as in the server log: "ShareLock on transaction 731".
        on: String,
    },
    /// The wait for a lock ended: granted, or given up.
    Unblocked {
        /// The backend.
        pid: Pid,
    },
    /// A transaction that wrote something is durable.
    Committed {
        /// The backend.
        pid: Pid,
        /// Its transaction id.
        xid: u64,
    },
    /// A transaction that wrote something was undone.
    RolledBack {
        /// The backend.
        pid: Pid,
        /// Its transaction id.
        xid: u64,
    },
    /// A backend's process and slot are gone.
    Gone {
        /// The backend.
        pid: Pid,
        /// Why.
        reason: Gone,
    },
}

/// Receives each event at the instant it happens, on the run's thread, with no lock of the server held by the caller.
pub trait Observer: Send + Sync + 'static {
    /// `server` is the server's host name.
    fn server_event(&self, server: &str, event: ServerEvent);

    /// Whether [`ServerEvent::Statement`] and [`ServerEvent::StatementEnd`] are wanted; they cost an allocation each.
    fn wants_statements(&self) -> bool {
        true
    }
}

/// What of a session would surprise its next user. See <https://www.postgresql.org/docs/15/sql-discard.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// Its state now.
    pub state: BackendState,
    /// Settings that differ from what the session started with, role included.
    pub settings: Vec<String>,
    /// Names of prepared statements (the driver's own included).
    pub prepared: Vec<String>,
    /// Names of temporary tables.
    pub temporary_tables: Vec<String>,
    /// Channels it listens to.
    pub channels: Vec<String>,
    /// Session-level advisory locks held.
    pub advisory_locks: u32,
    /// Open portals outside the unnamed one.
    pub portals: Vec<String>,
}
