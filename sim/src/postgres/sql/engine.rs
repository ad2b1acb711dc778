//! The cluster, and the frame of its transactions: begin, commit, abort, savepoints, the end of a session, a crash.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::super::error::{PgError, SqlState};
use super::super::event::Pid;
use super::super::locks::{FixedHasher, Hold, LockTable, Mode, RelationId, Tag, TupleId, Xid};
use super::super::settings::{Scope, ServerSettings, Settings, Startup};
use super::super::transaction::{Block, transaction_is_aborted};
use super::catalog::{Catalog, RelationKind};
use super::execute::Execution;
use super::execute::command::isolation_of;
use super::heap::{CommitNumber, Heap, RowLock};
use super::host::Host;
use super::result::{Column, Description, Notification, StatementCost, Step};
use super::script::{self, Script, Statement};
use super::session::{Savepoint, Session, SessionOptions, Transaction};
use super::types::Type;
use super::value::Value;

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

/// What a rollback takes back, or a commit makes final.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    /// A version was appended to a row.
    Version {
        table: RelationId,
        tuple: TupleId,
    },
    /// A row's newest version was ended.
    Delete {
        table: RelationId,
        tuple: TupleId,
    },
    Lock {
        table: RelationId,
        tuple: TupleId,
        xid: Xid,
        strength: RowLock,
    },
    Made(RelationId),
    Dropped(RelationId),
    AddedColumn {
        table: RelationId,
    },
    DroppedColumn {
        table: RelationId,
        position: usize,
    },
    AddedIndex {
        table: RelationId,
        position: usize,
    },
    DroppedIndex {
        table: RelationId,
        position: usize,
    },
    Truncated {
        table: RelationId,
        heap: Box<Heap>,
    },
}

/// Parsed texts. A copy of the cluster begins with none: plans are kept with statements, and belong to one catalog.
#[derive(Debug, Default)]
struct ParseCache(HashMap<Box<str>, Arc<Script>, BuildHasherDefault<FixedHasher>>);

impl Clone for ParseCache {
    fn clone(&self) -> ParseCache {
        ParseCache::default()
    }
}

/// Command tags of small counts, by count.
type Tags = [Vec<(&'static str, Arc<str>)>; 9];

/// How many texts are kept; then all are forgotten, which keeps the commonest anyway. A parsed text takes some ten
/// kilobytes, and texts with an actor's own numbers in them never come again: more would be memory that each run fills anew.
const CACHED_TEXTS: usize = 256;

/// One database cluster: catalog, heaps, transactions, locks, parse cache. A clone is a byte-for-byte copy, running
/// transactions included.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) catalog: Catalog,
    pub(super) locks: LockTable,
    /// How many transactions that wrote have committed: the newest snapshot.
    pub(super) commits: CommitNumber,
    next_xid: Xid,
    /// Snapshots of statements that wait or sleep.
    pub(super) snapshots: BTreeMap<Pid, CommitNumber>,
    /// Snapshots of repeatable-read transactions.
    pub(super) long_snapshots: BTreeMap<Pid, CommitNumber>,
    /// Rows with dead versions, by the commit that left them.
    /// What running transactions did, by backend.
    undo: BTreeMap<Pid, Vec<Undo>>,
    garbage: VecDeque<(CommitNumber, RelationId, TupleId)>,
    pub(super) roles: Vec<RoleOptions>,
    pub(super) databases: Vec<(String, i32)>,
    pub(super) version_text: Arc<str>,
    costs: Vec<Arc<StatementCost>>,
    random: u64,
    cache: ParseCache,
    tags: Tags,
    notifications: Vec<Notification>,
    events: Vec<TransactionEvent>,
    listeners: BTreeMap<(Arc<str>, String), BTreeSet<Pid>>,
    settings: ServerSettings,
    initial: EngineOptions,
}

impl Engine {
    /// An empty cluster.
    ///
    /// # Errors
    /// As [`ServerSettings::set`], for a setting of `options`.
    pub fn new(options: EngineOptions) -> Result<Engine, PgError> {
        let major = options.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(15);
        let mut settings = ServerSettings::new(major);
        for (name, value) in &options.settings {
            settings.set(name, value)?;
        }
        settings.set_internal("server_version", &options.version);
        Ok(Engine {
            catalog: Catalog::new(),
            locks: LockTable::for_version(major),
            commits: 1,
            next_xid: 731,
            snapshots: BTreeMap::new(),
            long_snapshots: BTreeMap::new(),
            undo: BTreeMap::new(),
            garbage: VecDeque::new(),
            roles: options.roles.clone(),
            databases: options.databases.clone(),
            version_text: format!(
                "PostgreSQL {} on x86_64-pc-linux-gnu, compiled by poolproof's simulator, 64-bit",
                options.version
            )
            .into(),
            costs: options.costs.iter().cloned().map(Arc::new).collect(),
            random: options.seed,
            cache: ParseCache::default(),
            tags: Tags::default(),
            notifications: Vec::new(),
            events: Vec::new(),
            listeners: BTreeMap::new(),
            settings,
            initial: options,
        })
    }

    /// The role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&RoleOptions> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Changes a role's connection limit (-1: none), if there is such a role.
    pub fn limit_role(&mut self, name: &str, limit: i32) {
        if let Some(role) = self.roles.iter_mut().find(|role| role.name == name) {
            role.connection_limit = limit;
        }
    }

    /// The connection limit of a database (-1: none), if there is such a database.
    #[must_use]
    pub fn database_limit(&self, name: &str) -> Option<i32> {
        self.databases.iter().find(|(database, _)| database == name).map(|(_, limit)| *limit)
    }

    /// The locks, for `pg_blocking_pids` and the deadlock check.
    #[must_use]
    pub fn locks(&self) -> &LockTable {
        &self.locks
    }

    /// The locks, for the deadlock check.
    pub fn locks_mut(&mut self) -> &mut LockTable {
        &mut self.locks
    }

    /// The server's settings.
    #[must_use]
    pub fn server_settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// A reload of `postgresql.conf` with this line changed. Running sessions see it after
    /// [`Engine::reload_session`].
    ///
    /// # Errors
    /// As [`ServerSettings::reload`].
    pub fn reload(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        self.settings.reload(name, value)
    }

    /// A session takes over the server's reloaded settings.
    pub fn reload_session(&self, session: &mut Session) {
        session.settings.reload(&self.settings);
        self.settings_changed(session);
    }

    /// Row versions kept, live and dead, over all tables.
    #[must_use]
    pub fn row_versions(&self) -> usize {
        self.catalog.iter().filter_map(|relation| relation.table()).map(|table| table.heap.version_count()).sum()
    }

    /// A backend's session.
    ///
    /// # Errors
    /// 22023, 42704 and their like for a setting of the startup packet, FATAL.
    pub fn open_session(&mut self, options: SessionOptions) -> Result<Session, PgError> {
        let superuser = self.role(&options.user).is_some_and(|role| role.superuser);
        let parameters: Vec<(&str, &str)> =
            options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let startup = Startup { user: &options.user, superuser, stored: &[], parameters: &parameters };
        let settings = Settings::new(&self.settings, startup)?;
        let mut session = Session::new(options, superuser, settings);
        self.settings_changed(&mut session);
        Ok(session)
    }

    /// Parses a query text; the result is kept.
    ///
    /// # Errors
    /// 42601, 0A000.
    pub fn parse(&mut self, text: &str) -> Result<Arc<Script>, PgError> {
        if let Some(script) = self.cache.0.get(text) {
            return Ok(script.clone());
        }
        let script = Arc::new(script::parse(text, &self.costs)?);
        if self.cache.0.len() >= CACHED_TEXTS {
            self.cache.0.clear();
        }
        self.cache.0.insert(text.into(), script.clone());
        Ok(script)
    }

    /// The types of parameters and columns; `hints` are Parse's type oids, 0 for unknown. To be called between
    /// [`Engine::statement_begin`] and [`Engine::commit_implicit`].
    ///
    /// # Errors
    /// 25P02 in a failed transaction, 42P01, 42703, 42P18, …
    pub fn describe(
        &mut self,
        session: &mut Session,
        statement: &Arc<Statement>,
        hints: &[u32],
    ) -> Result<Description, PgError> {
        if session.block == Block::Failed && !statement.allowed_in_failed() {
            return Err(transaction_is_aborted());
        }
        self.describe_statement(session, statement, hints)
    }

    /// Begins to run a statement with `parameters` of the types that `describe` gave; both empty for a simple query.
    pub fn start(
        &mut self,
        _session: &mut Session,
        statement: &Arc<Statement>,
        types: &[Type],
        parameters: Vec<Value>,
    ) -> Execution {
        Execution::new(statement.clone(), types, parameters)
    }

    /// Goes on as far as possible. After an error call [`Engine::abort`].
    ///
    /// # Errors
    /// Whatever the statement fails with.
    pub fn step(&mut self, host: &dyn Host, session: &mut Session, exec: &mut Execution) -> Result<Step, PgError> {
        self.step_execution(host, session, exec)
    }

    /// Before parse analysis or execution of each statement (`start_xact_command`): an implicit transaction, if there is
    /// none.
    pub fn statement_begin(&mut self, host: &dyn Host, session: &mut Session, framing: Framing) {
        session.pipelined = framing == Framing::Pipelined;
        if session.block == Block::Idle {
            self.begin_transaction(host, session);
            session.block = Block::Implicit;
        } else {
            session.transaction.statement_us = host.now_us();
        }
        if framing == Framing::Multi && session.block == Block::Implicit {
            session.block = Block::ImplicitBlock;
        }
    }

    /// Puts names in the place of object ids, in `regclass` columns that are shown as text (`regclassout`).
    pub fn name_relations(&self, columns: &[Column], rows: &mut [Vec<Value>], is_binary: impl Fn(usize) -> bool) {
        for at in (0..columns.len()).filter(|at| columns[*at].kind == Type::Regclass && !is_binary(*at)) {
            for row in &mut *rows {
                let id = match &row[at] {
                    Value::Int(id) => u32::try_from(*id).ok(),
                    _ => None,
                };
                if let Some(relation) = id.and_then(|id| self.catalog.get(id)) {
                    row[at] = Value::Text(relation.name.clone());
                }
            }
        }
    }

    pub(super) fn begin_transaction(&mut self, host: &dyn Host, session: &mut Session) {
        session.settings.begin();
        let in_recovery = session.began_in_recovery && self.follow_recovery(host, session);
        let (now, start) = host.now();
        session.transaction = Transaction {
            start_us: now,
            statement_us: now,
            start,
            isolation: session.default_isolation,
            read_only: session.default_read_only || in_recovery,
            ..Transaction::default()
        };
    }

    /// A session of a standby begins a transaction: it is read-only until the standby was promoted.
    fn follow_recovery(&self, host: &dyn Host, session: &mut Session) -> bool {
        let in_recovery = host.in_recovery();
        if in_recovery {
            session.settings.set_internal("transaction_read_only", "on", Scope::Local);
        }
        in_recovery
    }

    /// The session's standby was promoted. A rollback takes that back, so it is said again at each ReadyForQuery
    /// (`ReportChangedGUCOptions`).
    pub fn end_recovery(&self, session: &mut Session) {
        if session.settings.get("in_hot_standby").is_ok_and(|value| value == "on") {
            session.settings.set_internal("in_hot_standby", "off", Scope::Session);
        }
    }

    /// The session begins on a standby.
    pub fn begin_in_recovery(&self, session: &mut Session) {
        session.began_in_recovery = true;
        session.settings.set_internal("in_hot_standby", "on", Scope::Session);
        session.settings.commit();
    }

    /// At the end of a simple query, at Sync, and after the Execute of a transaction-control statement: commits an
    /// implicit transaction; does nothing in an explicit block.
    ///
    /// # Errors
    /// None at present: deferred constraints are not modelled. An error would have rolled back already.
    pub fn commit_implicit(&mut self, _host: &dyn Host, session: &mut Session) -> Result<(), PgError> {
        session.pipelined = false;
        if matches!(session.block, Block::Implicit | Block::ImplicitBlock) {
            self.commit_all(session);
        }
        Ok(())
    }

    /// After an error: an implicit transaction is rolled back, an explicit block becomes failed. Its effects are undone
    /// and its locks released at once, as PostgreSQL does.
    pub fn abort(&mut self, session: &mut Session) {
        session.pipelined = false;
        self.snapshots.remove(&session.pid);
        self.locks.give_up(session.pid);
        self.end_wait(session);
        self.leave_row_queue(session);
        if session.block == Block::Idle {
            return;
        }
        if session.block == Block::Failed {
            return;
        }
        if session.block.fail() {
            self.finish_rollback(session);
            return;
        }
        // Only the innermost subtransaction is lost: ROLLBACK TO may yet save what came before its savepoint.
        match session.transaction.savepoints.last().cloned() {
            None => self.undo_to_start(session),
            Some(savepoint) => self.undo_savepoint(session, &savepoint),
        }
    }

    fn undo_to_start(&mut self, session: &mut Session) {
        self.undo(session.pid, 0);
        session.transaction.listens.clear();
        session.transaction.role_limits.clear();
        session.transaction.notifies.clear();
        session.cursors.retain(|_, cursor| cursor.hold && !cursor.fresh);
        session.settings.rollback();
        // The block goes on as failed with its own characteristics gone; COMMIT or ROLLBACK begin afresh.
        self.settings_changed(session);
        if let Some(xid) = session.transaction.xid.take() {
            self.events.push(TransactionEvent { pid: session.pid, xid, committed: false });
        }
        self.locks.release_transaction(session.pid);
        self.long_snapshots.remove(&session.pid);
    }

    /// The backend ends: rollback, temporary tables, locks and channels are gone.
    pub fn end_session(&mut self, session: &mut Session) {
        let pid = session.pid;
        self.snapshots.remove(&pid);
        self.locks.give_up(pid);
        if session.block != Block::Idle {
            self.finish_rollback(session);
        }
        for id in self.catalog.temporaries(pid) {
            self.catalog.remove(id);
        }
        self.listeners.retain(|_, pids| {
            pids.remove(&pid);
            !pids.is_empty()
        });
        self.locks.release_all(pid);
        self.collect_garbage();
    }

    /// All sessions are lost, without `end_session`: running transactions are undone, unlogged tables are emptied,
    /// temporary ones are gone; committed data stays.
    pub fn crash(&mut self) {
        let running: Vec<Pid> = self.undo.keys().copied().collect();
        for pid in running {
            self.undo(pid, 0);
        }
        for id in self.catalog.ids() {
            if self.catalog.get(id).is_some_and(|relation| relation.temporary.is_some()) {
                self.catalog.remove(id);
            }
        }
        self.snapshots.clear();
        self.long_snapshots.clear();
        self.collect_garbage();
        self.notifications.clear();
        self.listeners.clear();
        let major = self.settings.version();
        self.locks = LockTable::for_version(major);
        for id in self.catalog.ids() {
            if let Some(RelationKind::Table(table)) = self.catalog.get_mut(id).map(|relation| &mut relation.kind)
                && table.unlogged
            {
                table.heap = table.heap.emptied();
            }
        }
    }

    /// Cancelled or timed out while it waits: its request leaves the queue. Then call [`Engine::abort`].
    pub fn give_up_wait(&mut self, pid: Pid) {
        self.locks.give_up(pid);
    }

    /// Backends whose wait ended since the last call, in order.
    pub fn take_granted(&mut self) -> Vec<Pid> {
        self.locks.take_granted()
    }

    /// NOTIFYs of transactions committed since the last call, in order.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.notifications)
    }

    /// Transactions that wrote something and ended since the last call.
    pub fn take_events(&mut self) -> Vec<TransactionEvent> {
        std::mem::take(&mut self.events)
    }

    // ---- transactions ----

    pub(super) fn commit_all(&mut self, session: &mut Session) {
        let pid = session.pid;
        self.leave_row_queue(session);
        let undo = self.undo.remove(&pid).unwrap_or_default();
        if !undo.is_empty() {
            self.commits += 1;
        }
        let number = self.commits;
        for entry in undo {
            match entry {
                Undo::Version { table, tuple } | Undo::Delete { table, tuple } => {
                    if let Some(heap) = self.catalog.heap_mut(table) {
                        heap.commit(tuple, pid, number);
                        self.garbage.push_back((number, table, tuple));
                    }
                }
                Undo::Lock { table, tuple, xid, .. } => {
                    if let Some(heap) = self.catalog.heap_mut(table) {
                        heap.unlock(tuple, xid);
                    }
                }
                Undo::Made(id) => {
                    self.catalog.version += 1;
                    if let Some(relation) = self.catalog.get_mut(id) {
                        relation.made_by = None;
                    }
                }
                Undo::Dropped(id) => {
                    self.catalog.remove(id);
                }
                Undo::AddedColumn { .. }
                | Undo::DroppedColumn { .. }
                | Undo::AddedIndex { .. }
                | Undo::DroppedIndex { .. }
                | Undo::Truncated { .. } => self.catalog.version += 1,
            }
        }
        for (channel, listen) in std::mem::take(&mut session.transaction.listens) {
            self.listen(session, channel, listen);
        }
        for (role, limit) in std::mem::take(&mut session.transaction.role_limits) {
            self.limit_role(&role, limit);
        }
        for (channel, payload) in std::mem::take(&mut session.transaction.notifies) {
            let key = (session.database.clone(), channel);
            for to in self.listeners.get(&key).into_iter().flatten() {
                self.notifications.push(Notification {
                    to: *to,
                    from: pid,
                    channel: key.1.clone(),
                    payload: payload.clone(),
                });
            }
        }
        if !session.cursors.is_empty() {
            session.cursors.retain(|_, cursor| {
                cursor.fresh = false;
                cursor.hold
            });
        }
        session.settings.commit();
        if let Some(xid) = session.transaction.xid {
            self.events.push(TransactionEvent { pid, xid, committed: true });
        }
        self.end_transaction(session);
    }

    pub(super) fn rollback_all(&mut self, session: &mut Session) {
        self.finish_rollback(session);
    }

    fn finish_rollback(&mut self, session: &mut Session) {
        self.end_wait(session);
        self.leave_row_queue(session);
        self.undo(session.pid, 0);
        session.cursors.retain(|_, cursor| cursor.hold && !cursor.fresh);
        session.settings.rollback();
        if let Some(xid) = session.transaction.xid {
            self.events.push(TransactionEvent { pid: session.pid, xid, committed: false });
        }
        self.end_transaction(session);
    }

    fn end_transaction(&mut self, session: &mut Session) {
        let pid = session.pid;
        session.block = Block::Idle;
        if session.settings_touched {
            self.settings_changed(session);
            session.settings_touched = false;
        }
        if session.transaction.made_relations {
            session.temporary_tables = !self.catalog.temporaries(pid).is_empty();
            self.name_temporaries(session);
        }
        session.transaction = Transaction::default();
        self.snapshots.remove(&pid);
        self.long_snapshots.remove(&pid);
        self.locks.release_transaction(pid);
        if !self.garbage.is_empty() {
            self.collect_garbage();
        }
    }

    /// Takes back everything after the first `keep` entries, last first.
    fn undo(&mut self, pid: Pid, keep: usize) {
        let Some(mut log) = self.undo.remove(&pid) else {
            return;
        };
        while log.len() > keep {
            let Some(entry) = log.pop() else { break };
            match entry {
                Undo::Version { table, tuple } => {
                    if let Some(heap) = self.catalog.heap_mut(table) {
                        heap.undo_version(tuple);
                    }
                }
                Undo::Delete { table, tuple } => {
                    if let Some(heap) = self.catalog.heap_mut(table) {
                        heap.undo_delete(tuple);
                    }
                }
                Undo::Lock { table, tuple, xid, strength } => {
                    if let Some(row) = self.catalog.heap_mut(table).and_then(|heap| heap.row_mut(tuple)) {
                        row.lockers.retain(|locker| locker.xid != xid || locker.strength != strength);
                    }
                    if let Some(heap) = self.catalog.heap_mut(table) {
                        heap.forget_if_empty(tuple);
                    }
                }
                Undo::Made(id) => {
                    self.catalog.remove(id);
                }
                Undo::Dropped(id) => {
                    if let Some(relation) = self.catalog.get_mut(id) {
                        relation.dropped_by = None;
                    }
                    self.catalog.version += 1;
                }
                Undo::AddedColumn { table } => {
                    self.catalog.table_mut(table).columns.pop();
                    self.catalog.version += 1;
                }
                Undo::DroppedColumn { table, position } => {
                    self.catalog.table_mut(table).columns[position].dropped = false;
                    self.catalog.version += 1;
                }
                Undo::AddedIndex { table, position } => {
                    let table = self.catalog.table_mut(table);
                    table.indexes.truncate(position);
                    table.heap.indexes.truncate(position);
                    self.catalog.version += 1;
                }
                Undo::DroppedIndex { table, position } => {
                    self.catalog.table_mut(table).indexes[position].dropped = false;
                    self.catalog.version += 1;
                }
                Undo::Truncated { table, heap } => {
                    self.catalog.table_mut(table).heap = *heap;
                    self.catalog.version += 1;
                }
            }
        }
        if !log.is_empty() {
            self.undo.insert(pid, log);
        }
    }

    /// Notes what a rollback of the backend's transaction is to take back.
    pub(super) fn log(&mut self, pid: Pid, entry: Undo) {
        self.undo.entry(pid).or_default().push(entry);
    }

    pub(super) fn savepoint(&mut self, session: &mut Session, name: &str) {
        session.transaction.savepoints.push(Savepoint {
            name: name.to_owned(),
            undo: self.undo.get(&session.pid).map_or(0, Vec::len),
            locks: self.locks.mark(session.pid),
            settings: session.settings.mark(),
            xid: None,
            listens: session.transaction.listens.len(),
            role_limits: session.transaction.role_limits.len(),
            notifies: session.transaction.notifies.len(),
            read_only: session.transaction.read_only,
            cursors: session.cursors.keys().cloned().collect(),
        });
    }

    fn find_savepoint(&self, session: &Session, name: &str) -> Result<usize, PgError> {
        session.transaction.savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| {
            PgError::error(SqlState::INVALID_SAVEPOINT_SPECIFICATION, format!("savepoint \"{name}\" does not exist"))
        })
    }

    pub(super) fn release(&mut self, session: &mut Session, name: &str) -> Result<(), PgError> {
        let at = self.find_savepoint(session, name)?;
        // The ids of subtransactions stay locked to the end of the transaction, which whoever waits waits for anyway.
        for savepoint in session.transaction.savepoints.drain(at..) {
            session.transaction.merged.extend(savepoint.xid);
        }
        Ok(())
    }

    pub(super) fn rollback_to(&mut self, session: &mut Session, name: &str) -> Result<(), PgError> {
        let at = self.find_savepoint(session, name)?;
        while session.transaction.savepoints.len() > at + 1 {
            if let Some(inner) = session.transaction.savepoints.pop() {
                self.undo_savepoint(session, &inner);
            }
        }
        let savepoint = session.transaction.savepoints[at].clone();
        self.undo_savepoint(session, &savepoint);
        session.transaction.savepoints[at].xid = None;
        session.block = Block::Explicit;
        Ok(())
    }

    /// Takes back what happened since a savepoint, which stays.
    fn undo_savepoint(&mut self, session: &mut Session, savepoint: &Savepoint) {
        self.undo(session.pid, savepoint.undo);
        session.transaction.listens.truncate(savepoint.listens);
        session.transaction.role_limits.truncate(savepoint.role_limits);
        session.transaction.notifies.truncate(savepoint.notifies);
        session.cursors.retain(|name, _| savepoint.cursors.contains(name));
        if session.transaction.made_relations {
            self.name_temporaries(session);
        }
        session.settings.rollback_to(savepoint.settings);
        self.settings_changed(session);
        session.transaction.read_only = savepoint.read_only;
        self.locks.release_since(session.pid, savepoint.locks);
        if let Some(xid) = savepoint.xid {
            self.locks.unlock(session.pid, Tag::Transaction(xid), Mode::Exclusive, Hold::Transaction);
        }
        if let Some(last) = session.transaction.savepoints.last_mut()
            && last.undo == savepoint.undo
        {
            last.xid = None;
        }
    }

    /// The id under which the session writes now: its subtransaction's, inside a savepoint.
    pub(super) fn assign_xid(&mut self, session: &mut Session) -> Xid {
        let top = self.assign_top_xid(session);
        let pid = session.pid;
        match session.transaction.savepoints.last_mut() {
            None => top,
            Some(savepoint) => match savepoint.xid {
                Some(xid) => xid,
                None => {
                    let xid = self.next_xid;
                    self.next_xid += 1;
                    savepoint.xid = Some(xid);
                    self.hold_own(pid, xid);
                    xid
                }
            },
        }
    }

    pub(super) fn assign_top_xid(&mut self, session: &mut Session) -> Xid {
        if let Some(xid) = session.transaction.xid {
            return xid;
        }
        let xid = self.next_xid;
        self.next_xid += 1;
        session.transaction.xid = Some(xid);
        self.hold_own(session.pid, xid);
        if !session.transaction.savepoints.is_empty() {
            // It outlives a ROLLBACK TO the savepoint inside which it was given.
            self.locks.keep(session.pid, Tag::Transaction(xid), Mode::Exclusive);
        }
        xid
    }

    fn hold_own(&mut self, pid: Pid, xid: Xid) {
        use super::super::locks::{Grant, Patience};
        let grant = self.locks.lock(pid, Tag::Transaction(xid), Mode::Exclusive, Hold::Transaction, Patience::NoWait);
        debug_assert_eq!(grant, Grant::Granted, "nobody can know a new transaction's id");
    }

    /// Drops versions that no snapshot needs any more.
    fn collect_garbage(&mut self) {
        let oldest = self.snapshots.values().chain(self.long_snapshots.values()).min();
        let horizon = oldest.copied().unwrap_or(self.commits);
        while let Some((number, table, tuple)) = self.garbage.front().copied() {
            if number > horizon {
                break;
            }
            self.garbage.pop_front();
            if let Some(heap) = self.catalog.heap_mut(table) {
                heap.prune(tuple, horizon);
            }
        }
    }

    // ---- session state ----

    /// Keeps the names of the session's temporary tables, for its report.
    pub(super) fn name_temporaries(&self, session: &mut Session) {
        let tables = self.catalog.temporaries(session.pid).into_iter().filter_map(|id| {
            let relation = self.catalog.get(id)?;
            (relation.table().is_some() && relation.dropped_by.is_none()).then(|| relation.name.to_string())
        });
        session.temporary_names = tables.collect();
    }

    /// SET and its kin, with the rules that need the cluster: roles exist, isolation is set in time.
    pub(super) fn set_setting(
        &mut self,
        session: &mut Session,
        name: &str,
        value: Option<&str>,
        scope: Scope,
    ) -> Result<(), PgError> {
        let lower = name.to_ascii_lowercase();
        session.settings_touched = true;
        match (lower.as_str(), value) {
            ("role", Some(role)) if role != "none" => {
                if self.role(role).is_none() {
                    return Err(no_role(role));
                }
                if role != session.session_user && !session.session_superuser {
                    return Err(PgError::error(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied to set role \"{role}\""),
                    ));
                }
            }
            ("session_authorization", Some(user)) => {
                if self.role(user).is_none() {
                    return Err(no_role(user));
                }
                if user != session.login_user && !session.login_superuser {
                    return Err(PgError::error(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied to set session authorization \"{user}\""),
                    ));
                }
            }
            ("transaction_isolation", Some(level)) => {
                let wanted = isolation_of(&level.to_ascii_lowercase());
                if wanted != session.transaction.isolation {
                    if session.transaction.queried {
                        return Err(PgError::error(
                            SqlState::ACTIVE_SQL_TRANSACTION,
                            "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                        ));
                    }
                    if !session.transaction.savepoints.is_empty() {
                        return Err(PgError::error(
                            SqlState::ACTIVE_SQL_TRANSACTION,
                            "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction",
                        ));
                    }
                }
                unserializable(wanted)?;
            }
            ("default_transaction_isolation", Some(level)) => {
                unserializable(isolation_of(&level.to_ascii_lowercase()))?;
            }
            ("transaction_read_only", Some(value)) => {
                let off = super::value::parse_bool(value) == Some(false);
                if off && session.began_in_recovery && session.settings.get("in_hot_standby")? == "on" {
                    return Err(PgError::error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "cannot set transaction read-write mode during recovery",
                    ));
                }
                if off && session.transaction.read_only {
                    if session.transaction.savepoints.last().is_some_and(|savepoint| savepoint.read_only) {
                        return Err(PgError::error(
                            SqlState::ACTIVE_SQL_TRANSACTION,
                            "cannot set transaction read-write mode inside a read-only transaction",
                        ));
                    }
                    if session.transaction.queried {
                        return Err(PgError::error(
                            SqlState::ACTIVE_SQL_TRANSACTION,
                            "transaction read-write mode must be set before any query",
                        ));
                    }
                }
            }
            _ => {}
        }
        let superuser = session.superuser();
        session.settings.set(name, value, scope, superuser)?;
        if lower == "session_authorization" {
            // Whoever one is now, SET ROLE starts anew.
            let user = session.settings.get("session_authorization").unwrap_or_default();
            let superuser = self.role(&user).is_some_and(|role| role.superuser);
            session.settings.set_internal("is_superuser", if superuser { "on" } else { "off" }, scope);
        }
        if lower == "role" {
            let role = session.settings.get("role").unwrap_or_default();
            let user = if role == "none" { session.session_user.clone() } else { role };
            let superuser = self.role(&user).is_some_and(|role| role.superuser);
            session.settings.set_internal("is_superuser", if superuser { "on" } else { "off" }, scope);
        }
        self.settings_changed(session);
        Ok(())
    }

    /// What the session keeps ready of its settings.
    pub(super) fn settings_changed(&self, session: &mut Session) {
        session.settings_touched = true;
        let get = |name: &str| session.settings.get(name).unwrap_or_default();
        let default_isolation = isolation_of(&get("default_transaction_isolation"));
        let default_read_only = get("default_transaction_read_only") == "on";
        let isolation = isolation_of(&get("transaction_isolation"));
        let authorization = get("session_authorization");
        let role = get("role");
        let read_only = session.settings.read_only();
        session.default_isolation = default_isolation;
        session.default_read_only = default_read_only;
        if session.block != Block::Idle {
            session.transaction.isolation = isolation;
            session.transaction.read_only = read_only;
        }
        session.session_user = if authorization.is_empty() { session.login_user.clone() } else { authorization };
        session.session_superuser = self.role(&session.session_user).is_some_and(|role| role.superuser);
        session.current_user = if role.is_empty() || role == "none" { session.session_user.clone() } else { role };
        session.current_superuser = self.role(&session.current_user).is_some_and(|role| role.superuser);
    }

    pub(super) fn current_schema(&self, session: &Session) -> Option<String> {
        let path = session.settings.get("search_path").unwrap_or_default();
        path.split(',')
            .map(|part| part.trim().trim_matches('"'))
            .find(|part| *part == "public" || *part == "pg_catalog")
            .map(str::to_owned)
    }

    fn listen(&mut self, session: &mut Session, channel: Option<String>, listen: bool) {
        let pid = session.pid;
        let channels: Vec<String> = match channel {
            Some(channel) => vec![channel],
            None => session.channels.iter().cloned().collect(),
        };
        for channel in channels {
            let key = (session.database.clone(), channel.clone());
            if listen {
                session.channels.insert(channel);
                self.listeners.entry(key).or_default().insert(pid);
            } else {
                session.channels.remove(&channel);
                if let Some(pids) = self.listeners.get_mut(&key) {
                    pids.remove(&pid);
                    if pids.is_empty() {
                        self.listeners.remove(&key);
                    }
                }
            }
        }
    }

    pub(super) fn notify(
        &mut self,
        session: &mut Session,
        host: &dyn Host,
        channel: &str,
        payload: &str,
    ) -> Result<(), PgError> {
        if host.in_recovery() {
            return Err(PgError::error(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot execute NOTIFY during recovery"));
        }
        if channel.is_empty() {
            return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, "channel name cannot be empty"));
        }
        if channel.len() > 63 {
            return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, "channel name too long"));
        }
        if payload.len() >= 8000 {
            return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, "payload string too long"));
        }
        // Equal notifications of one transaction are sent once. They take a transaction id, as the real queue does.
        let notification = (channel.to_owned(), payload.to_owned());
        if !session.transaction.notifies.contains(&notification) {
            session.transaction.notifies.push(notification);
        }
        Ok(())
    }

    /// A command tag with a count; the common ones are kept.
    pub(super) fn tag(&mut self, word: &'static str, count: u64) -> Arc<str> {
        let kept = usize::try_from(count).ok().and_then(|count| self.tags.get_mut(count));
        let Some(kept) = kept else {
            return format!("{word} {count}").into();
        };
        if let Some((_, tag)) = kept.iter().find(|(other, _)| *other == word) {
            return tag.clone();
        }
        let tag: Arc<str> = format!("{word} {count}").into();
        kept.push((word, tag.clone()));
        tag
    }

    /// `random()`: SplitMix64, uniform in [0, 1).
    pub(super) fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let fraction = (z >> 11) as f64 / (1u64 << 53) as f64;
        fraction
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.initial
    }
}

fn no_role(role: &str) -> PgError {
    PgError::error(SqlState::INVALID_PARAMETER_VALUE, format!("role \"{role}\" does not exist"))
}

/// SERIALIZABLE would need predicate locks; weaker isolation under its name would be a pretence.
fn unserializable(isolation: super::super::transaction::Isolation) -> Result<(), PgError> {
    if isolation == super::super::transaction::Isolation::Serializable {
        return Err(PgError::unsupported("the isolation level SERIALIZABLE"));
    }
    Ok(())
}
