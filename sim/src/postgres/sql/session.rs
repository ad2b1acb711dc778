//! One backend's state: transaction, settings, prepared statements, temporary tables, channels, cursors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::event::{BackendState, Pid, SessionReport};
use super::super::locks::{self, Mode, RelationId, Tag, TupleId, Xid};
use super::super::settings::{self, Settings};
use super::super::transaction::{Block, Isolation, Modes, TransactionStatus};
use super::cursor::Cursor;
use super::heap::CommitNumber;
use super::result::Column;
use super::script::Statement;
use super::types::Type;

/// How a session starts.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The backend's pid.
    pub pid: Pid,
    /// The role of the startup packet; it must exist.
    pub user: String,
    /// The database of the startup packet; it must exist.
    pub database: String,
    /// Settings of the startup packet: `application_name`, those in `options`, …
    pub settings: Vec<(String, String)>,
}

/// A prepared statement, made by Parse or by PREPARE: one namespace.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What to run.
    pub statement: Arc<Statement>,
    /// The types of its parameters.
    pub parameters: Vec<Type>,
    /// The columns of its result as they were when it was prepared.
    pub columns: Option<Arc<[Column]>>,
    /// Made by SQL PREPARE, not by Parse.
    pub from_sql: bool,
    /// When the statement or message began that made it, in microseconds as [`Value::Timestamptz`](super::Value).
    pub prepared_us: i64,
}

/// A SAVEPOINT: where everything stood.
#[derive(Debug, Clone)]
pub(super) struct Savepoint {
    pub(super) name: String,
    pub(super) undo: usize,
    pub(super) locks: locks::Mark,
    pub(super) settings: settings::Mark,
    /// The subtransaction's id, once it wrote.
    pub(super) xid: Option<Xid>,
    pub(super) listens: usize,
    pub(super) role_limits: usize,
    pub(super) notifies: usize,
    pub(super) read_only: bool,
    pub(super) cursors: BTreeSet<String>,
}

/// The running transaction.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    /// `now()`, microseconds since 2000-01-01.
    pub(super) start_us: i64,
    /// `statement_timestamp()`.
    pub(super) statement_us: i64,
    /// The start since the world's epoch.
    pub(super) start: Duration,
    pub(super) xid: Option<Xid>,
    pub(super) savepoints: Vec<Savepoint>,
    /// Ids of subtransactions that were released into their parents.
    pub(super) merged: Vec<Xid>,
    pub(super) isolation: Isolation,
    pub(super) read_only: bool,
    /// Repeatable read: what all its statements see.
    pub(super) snapshot: Option<CommitNumber>,
    /// Whether a statement took a snapshot: then it is too late for SET TRANSACTION ISOLATION LEVEL.
    pub(super) queried: bool,
    /// The number of the next statement.
    pub(super) command: u32,
    /// Whether it changed the catalog: its plans are not for others.
    pub(super) made_relations: bool,
    /// LISTEN (true) and UNLISTEN; None: all channels.
    pub(super) listens: Vec<(Option<String>, bool)>,
    /// Connection limits of roles, to be changed by the commit.
    pub(super) role_limits: Vec<(String, i32)>,
    pub(super) notifies: Vec<(String, String)>,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction {
            start_us: 0,
            statement_us: 0,
            start: Duration::ZERO,
            xid: None,
            savepoints: Vec::new(),
            merged: Vec::new(),
            isolation: Isolation::ReadCommitted,
            read_only: false,
            snapshot: None,
            queried: false,
            command: 0,
            made_relations: false,
            listens: Vec::new(),
            role_limits: Vec::new(),
            notifies: Vec::new(),
        }
    }
}

impl Transaction {
    /// What AND CHAIN hands on.
    pub(super) fn modes(&self) -> Modes {
        Modes { isolation: Some(self.isolation), read_only: Some(self.read_only), deferrable: None }
    }

    pub(super) fn in_savepoint(&self) -> bool {
        !self.savepoints.is_empty()
    }
}

/// One backend's state.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) pid: Pid,
    pub(super) database: Arc<str>,
    pub(super) login_user: String,
    pub(super) login_superuser: bool,
    pub(super) session_user: String,
    pub(super) session_superuser: bool,
    pub(super) current_user: String,
    pub(super) current_superuser: bool,
    pub(super) settings: Settings,
    /// Whether what is kept ready of the settings may be stale at the end of the transaction.
    pub(super) settings_touched: bool,
    pub(super) default_isolation: Isolation,
    pub(super) default_read_only: bool,
    /// Its server was a standby when it began.
    pub(super) began_in_recovery: bool,
    pub(super) block: Block,
    pub(super) pipelined: bool,
    pub(super) transaction: Transaction,
    /// Named prepared statements.
    pub prepared: BTreeMap<String, Prepared>,
    pub(super) cursors: BTreeMap<String, Cursor>,
    pub(super) channels: BTreeSet<String>,
    /// `currval`, by sequence.
    pub(super) sequences: BTreeMap<RelationId, i64>,
    pub(super) last_sequence: Option<RelationId>,
    /// Whether it has temporary tables, or had some lately.
    pub(super) temporary_tables: bool,
    /// Their names.
    pub(super) temporary_names: Vec<String>,
    /// Session-level advisory locks, and how often each is held.
    pub(super) advisory: BTreeMap<(Tag, Mode), u32>,
    /// The transaction whose end it waits for, or has just seen.
    pub(super) waits_for: Option<Xid>,
    /// The tuple lock that keeps its place in a row's queue.
    pub(super) row_queue: Option<(Tag, Mode)>,
    /// Where in the text the table stands that parse analysis waits for.
    pub(super) lock_position: Option<u32>,
    /// What it waits for that end for: the CONTEXT of an error meanwhile.
    pub(super) doing: Option<Doing>,
}

/// What a session does to a row while it waits for another transaction's end (`XLTW_Oper`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// SELECT … FOR UPDATE and its kin, ON CONFLICT DO UPDATE.
    Locking(RelationId, TupleId),
    Updating(RelationId, TupleId),
    Deleting(RelationId, TupleId),
    /// A row of this place would be the second of its key in the unique index; without one, ON CONFLICT looks first.
    Inserting(RelationId, TupleId, Option<usize>),
}

impl Session {
    pub(super) fn new(options: SessionOptions, superuser: bool, settings: Settings) -> Session {
        Session {
            pid: options.pid,
            database: options.database.into(),
            session_user: options.user.clone(),
            session_superuser: superuser,
            current_user: options.user.clone(),
            current_superuser: superuser,
            login_user: options.user,
            login_superuser: superuser,
            settings,
            settings_touched: false,
            default_isolation: Isolation::ReadCommitted,
            default_read_only: false,
            began_in_recovery: false,
            block: Block::Idle,
            pipelined: false,
            transaction: Transaction::default(),
            prepared: BTreeMap::new(),
            cursors: BTreeMap::new(),
            channels: BTreeSet::new(),
            sequences: BTreeMap::new(),
            last_sequence: None,
            temporary_tables: false,
            temporary_names: Vec::new(),
            advisory: BTreeMap::new(),
            waits_for: None,
            row_queue: None,
            lock_position: None,
            doing: None,
        }
    }

    /// The backend's pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The current role (`current_user`).
    #[must_use]
    pub fn user(&self) -> &str {
        &self.current_user
    }

    /// `session_user`
    #[must_use]
    pub fn session_user(&self) -> &str {
        &self.session_user
    }

    /// Whether the current role is a superuser.
    #[must_use]
    pub fn superuser(&self) -> bool {
        self.current_superuser
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its settings, to take what is to be reported.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// ReadyForQuery's status.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        self.block.status()
    }

    /// The transaction id, once it wrote something (`backend_xid`).
    #[must_use]
    pub fn xid(&self) -> Option<u64> {
        self.transaction.xid
    }

    /// When its transaction began, since the world's epoch (`xact_start`).
    #[must_use]
    pub fn transaction_start(&self) -> Option<Duration> {
        (self.block != Block::Idle).then_some(self.transaction.start)
    }

    /// When the statement that runs began.
    pub(in super::super) fn statement_us(&self) -> i64 {
        self.transaction.statement_us
    }

    /// The columns of a cursor of DECLARE.
    pub(in super::super) fn cursor_columns(&self, name: &str) -> Option<Arc<[Column]>> {
        self.cursors.get(name).map(|cursor| cursor.columns.clone())
    }

    /// Close of a cursor of DECLARE, if there is one of the name.
    pub(in super::super) fn close_cursor(&mut self, name: &str) {
        self.cursors.remove(name);
    }

    /// What would surprise its next user. `state` and `portals` are the session layer's own; cursors are added to the
    /// portals.
    #[must_use]
    pub fn report(&self, state: BackendState, mut portals: Vec<String>) -> SessionReport {
        portals.extend(self.cursors.keys().cloned());
        SessionReport {
            state,
            settings: self.settings.differing_from_startup(),
            prepared: self.prepared.keys().cloned().collect(),
            temporary_tables: self.temporary_names.clone(),
            channels: self.channels.iter().cloned().collect(),
            advisory_locks: u32::try_from(self.advisory.len()).unwrap_or(u32::MAX),
            portals,
        }
    }
}
