//! Engine.
use super::super::error::PgError;
use super::super::event::Pid;
use super::super::locks::LockTable;
use super::*;
use std::sync::Arc;

/// A role (`pg_roles`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleOptions {
    /// `rolname`
    pub name: String,
    /// `rolsuper`
    pub superuser: bool,
    /// `rolconnlimit`, -1 for none.
    pub connection_limit: i32,
}

/// What a cluster starts with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// `server_version`: `15.18`.
    pub version: String,
    /// `datname` and `datconnlimit` (-1 for none).
    pub databases: Vec<(String, i32)>,
    /// Roles.
    pub roles: Vec<RoleOptions>,
    /// Costs of statements; the first pattern that matches counts.
    pub costs: Vec<StatementCost>,
    /// Seeds `random()`.
    pub seed: u64,
    /// Server-wide settings (postgresql.conf): `max_connections`, `statement_timeout`, …
    pub settings: Vec<(String, String)>,
}

/// How messages frame statements; see [`Engine::statement_begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A simple query of one statement, or the first Execute since Sync.
    Single,
    /// One of several statements of a simple query: they share an implicit transaction block.
    Multi,
    /// A further Execute before Sync.
    Pipelined,
}

/// The end of a transaction that wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEvent {
    /// The backend.
    pub pid: Pid,
    /// Its transaction id.
    pub xid: u64,
    /// Committed, or rolled back.
    pub committed: bool,
}

/// A statement under way. It borrows nothing; drop it after an error, [`Engine::abort`] undoes its effects.
#[derive(Debug)]
pub struct Execution {
    _private: (),
}

/// Figures of the engine, for tests and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Row versions kept, live and dead.
    pub versions: usize,
}

/// One database cluster: catalog, heaps, transactions, locks, parse cache.
#[derive(Debug, Clone)]
pub struct Engine {
    _private: (),
}

impl Engine {
    /// An empty cluster.
    #[must_use]
    pub fn new(_options: EngineOptions) -> Engine {
        todo!()
    }
    /// Whether the role exists, and what it is.
    #[must_use]
    pub fn role(&self, _name: &str) -> Option<&RoleOptions> {
        todo!()
    }
    /// Whether the database exists: its connection limit.
    #[must_use]
    pub fn database_limit(&self, _name: &str) -> Option<i32> {
        todo!()
    }
    /// A backend's session. Errors: 22023, 42704 for a bad setting of the startup packet (PostgreSQL makes them FATAL).
    pub fn open_session(&mut self, _options: SessionOptions) -> Result<Session, PgError> {
        todo!()
    }
    /// Parses, by a cache. Errors: 42601, 0A000.
    pub fn parse(&mut self, _text: &str) -> Result<Arc<Script>, PgError> {
        todo!()
    }
    /// Types of parameters and columns; `hints` are Parse's type oids, 0 for unknown. Call it between
    /// `statement_begin` and `commit_implicit`. Errors: 25P02 in a failed transaction, 42P01, 42703, 42P18, …
    pub fn describe(
        &mut self,
        _session: &mut Session,
        _st: &Arc<Statement>,
        _hints: &[u32],
    ) -> Result<Description, PgError> {
        todo!()
    }
    /// Begins to run a statement whose parameters are bound to `params`, of the types `describe` gave (`types`; empty
    /// for a simple query).
    pub fn start(
        &mut self,
        _session: &mut Session,
        _st: &Arc<Statement>,
        _types: &[Type],
        _params: Vec<Value>,
    ) -> Execution {
        todo!()
    }
    /// Goes on as far as possible. On an error call [`Engine::abort`].
    pub fn step(&mut self, _host: &dyn Host, _session: &mut Session, _exec: &mut Execution) -> Result<Step, PgError> {
        todo!()
    }
    /// Before parse analysis or execution of each statement (PostgreSQL's `start_xact_command`): an implicit transaction, if there is none.
    pub fn statement_begin(&mut self, _host: &dyn Host, _session: &mut Session, _framing: Framing) {
        todo!()
    }
    /// At the end of a simple query, at Sync, and after the Execute of a transaction-control statement: commits an
    /// implicit transaction; nothing in an explicit block. An error here rolled back already.
    pub fn commit_implicit(&mut self, _host: &dyn Host, _session: &mut Session) -> Result<(), PgError> {
        todo!()
    }
    /// After an error: an implicit transaction is rolled back, an explicit block becomes failed. Gives settings that
    /// changed back and are reported (ParameterStatus).
    pub fn abort(&mut self, _session: &mut Session) -> Vec<(Arc<str>, String)> {
        todo!()
    }
    /// The backend ends: rollback, temporary tables, locks, channels gone.
    pub fn end_session(&mut self, _session: &mut Session) {
        todo!()
    }
    /// All sessions are lost (drop them without `end_session`); committed data stays, unlogged tables are emptied.
    pub fn crash(&mut self) {
        todo!()
    }
    /// Cancelled or timed out while it waits: its request leaves the queue. Then call [`Engine::abort`].
    pub fn give_up_wait(&mut self, _pid: Pid) {
        todo!()
    }
    /// Backends whose wait ended since the last call, in order.
    pub fn take_granted(&mut self) -> Vec<Pid> {
        todo!()
    }
    /// NOTIFYs of transactions committed since the last call, in order.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        todo!()
    }
    /// The lock table, for `pg_blocking_pids` and the deadlock check.
    #[must_use]
    pub fn locks(&self) -> &LockTable {
        todo!()
    }
    /// The lock table, for the deadlock check.
    pub fn locks_mut(&mut self) -> &mut LockTable {
        todo!()
    }
    /// A reload of `postgresql.conf` with this line changed, for sessions that start from now on.
    pub fn reload(&mut self, _name: &str, _value: &str) -> Result<(), PgError> {
        todo!()
    }
    /// Transactions ended since the last call.
    pub fn take_events(&mut self) -> Vec<TransactionEvent> {
        todo!()
    }
}
