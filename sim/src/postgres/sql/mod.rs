//! The SQL engine: parses, plans and executes statements on in-memory tables at read committed.
//!
//! It is synchronous and knows neither time nor sockets. A statement is executed by calling [`Engine::step`] until it is
//! done: a step that cannot go on says what it waits for, and is taken again when that has come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::PgError;
use super::event::{BackendState, Pid};

/// A row of `pg_stat_activity`, as the session layer knows it. Times are durations since the world's epoch.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are pg_stat_activity's columns")]
pub struct ActivityRow {
    pub pid: Pid,
    pub usename: Option<String>,
    pub datname: Option<String>,
    pub application_name: String,
    pub client_addr: Option<SocketAddr>,
    pub backend_start: Duration,
    pub xact_start: Option<Duration>,
    pub query_start: Option<Duration>,
    pub state_change: Option<Duration>,
    pub wait_event_type: Option<&'static str>,
    pub wait_event: Option<&'static str>,
    pub state: Option<BackendState>,
    pub backend_xid: Option<u64>,
    pub query: Arc<str>,
    pub backend_type: &'static str,
}

/// What the engine asks of the session layer.
pub trait Host {
    /// The current rows of `pg_stat_activity`, ascending by pid.
    fn activity(&self) -> Vec<ActivityRow>;
    /// `pg_terminate_backend`: false when there is no such backend.
    fn terminate(&self, pid: Pid) -> bool;
    /// `pg_cancel_backend`: false when there is no such backend.
    fn cancel(&self, pid: Pid) -> bool;
    /// Wall-clock time in the world, microseconds since 2000-01-01 00:00 UTC (PostgreSQL's own epoch).
    fn now_us(&self) -> i64;
    /// Time since the world's epoch, the base of [`ActivityRow`]'s durations.
    fn elapsed(&self) -> Duration;
    /// `pg_postmaster_start_time()`, on the same base.
    fn postmaster_start(&self) -> Duration;
    /// Whether this server is a standby (`pg_is_in_recovery()`; writes fail with 25006).
    fn in_recovery(&self) -> bool;
}

/// How a statement goes on.
#[derive(Debug)]
pub enum Step {
    /// It is complete.
    Done(Output),
    /// It waits for a lock; step again once the session's pid was in [`Engine::take_granted`].
    Wait,
    /// It takes this long (`pg_sleep`, a statement's cost); step again afterwards.
    Sleep(Duration),
}

/// What a completed statement returns.
#[derive(Debug)]
pub struct Output {
    /// CommandComplete's tag: `SELECT 1`, `INSERT 0 1`, `BEGIN`.
    pub tag: Arc<str>,
    /// The result set of a statement that returns rows.
    pub rows: Option<Rows>,
    /// NOTICEs and WARNINGs, in order, sent before CommandComplete.
    pub notices: Vec<PgError>,
    /// Settings that changed and are reported to the client (ParameterStatus), with their new values.
    pub reported: Vec<(Arc<str>, String)>,
}

/// A result set.
#[derive(Debug)]
pub struct Rows {
    /// Its columns.
    pub columns: Arc<[Column]>,
    /// Its rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// What is known of a statement before it runs (ParameterDescription, RowDescription or NoData).
#[derive(Debug, Clone)]
pub struct Description {
    /// The type of each parameter.
    pub parameters: Vec<Type>,
    /// The columns, for a statement that returns rows.
    pub columns: Option<Arc<[Column]>>,
}

/// NotificationResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The listening backend.
    pub to: Pid,
    /// The notifying backend.
    pub from: Pid,
    /// The channel.
    pub channel: String,
    /// The payload.
    pub payload: String,
}

/// A cost that a scenario gives to statements.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementCost {
    /// A LIKE pattern (`%` and `_`), compared without regard to case to the statement's text.
    pub like: String,
    /// How long such a statement takes, once it has its locks.
    pub takes: Duration,
    /// And how much more for each row read.
    pub per_row: Duration,
}

// ---- The contract between the engine and the session layer (bodies to come) ----

/// A type that the server can store and send; `oid` is `pg_type.oid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Float8,
    Numeric,
    Text,
    Varchar,
    Name,
    Oid,
    Xid,
    Timestamptz,
    Interval,
    Inet,
    Bytea,
    Json,
    Jsonb,
    Int4Array,
    TextArray,
    Void,
    Unknown,
}

/// A value; `Null` is of any type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of Type")]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Numeric(Arc<str>),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Microseconds since 2000-01-01 00:00 UTC.
    Timestamptz(i64),
    /// Microseconds.
    Interval(i64),
    Array(Arc<[Value]>),
    Void,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are RowDescription's")]
pub struct Column {
    pub name: Arc<str>,
    pub kind: Type,
}

/// ReadyForQuery's status byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InTransaction,
    /// `E`
    Failed,
}
