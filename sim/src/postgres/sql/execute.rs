//! Statements run here, step by step; see [`Engine::step`].
//!
//! A statement finds and locks everything it needs, which may make it wait and begin again, then takes effect at once, and
//! last sleeps for as long as it costs. Its effects are not visible to others before the commit, so that sleeping
//! after them is the same as before. Within one `step` nothing else runs.

pub(super) mod command;
mod ddl;
mod fold;
mod modify;
mod select;

use std::sync::Arc;
use std::time::Duration;

use super::super::error::{PgError, SqlState};
use super::super::event::Pid;
use super::super::locks::{Grant, Hold, Mode, Patience, RelationId, Tag, Xid, ctid};
use super::bind;
use super::engine::Engine;
use super::eval::{Context, Flow, Journal, Stop, deadlock_error};
use super::heap::View;
use super::host::Host;
use super::plan::{CachedPlan, Node, Plan};
use super::result::{Column, Description, Output, Rows, Step};
use super::script::{Command, Statement, at};
use super::session::{Doing, Prepared, Session};
use super::types::Type;
use super::utility::Utility;
use super::value::Value;

pub(super) use modify::Change;

/// A statement under way. It borrows nothing; drop it after an error, [`Engine::abort`] undoes its effects.
#[derive(Debug)]
pub struct Execution {
    pub(super) statement: Arc<Statement>,
    hints: Vec<u32>,
    parameters: Vec<Value>,
    plan: Option<Arc<Plan>>,
    view: Option<View>,
    journal: Journal,
    notices: Vec<PgError>,
    /// Computed changes, of which the first `applied` have taken effect.
    changes: Option<Vec<Change>>,
    applied: usize,
    affected: u64,
    rows: Vec<Vec<Value>>,
    rows_read: u64,
    /// The result, while the statement sleeps.
    result: Option<Output>,
    /// EXECUTE's statement.
    inner: Option<Box<Execution>>,
    /// A SELECT whose executor has started: its RowDescription is due, whatever happens next.
    described: bool,
}

impl Execution {
    pub(super) fn new(statement: Arc<Statement>, types: &[Type], parameters: Vec<Value>) -> Execution {
        Execution {
            statement,
            hints: types.iter().map(|kind| kind.oid()).collect(),
            parameters,
            plan: None,
            view: None,
            journal: Journal::default(),
            notices: Vec::new(),
            changes: None,
            applied: 0,
            affected: 0,
            rows: Vec::new(),
            rows_read: 0,
            result: None,
            inner: None,
            described: false,
        }
    }

    /// The columns of a SELECT that has begun to run, though it may wait or fail: PostgreSQL sends RowDescription when
    /// the executor starts (`printtup_startup`), after analysis, table locks and planning. `None` for statements whose
    /// rows are collected before anything is sent (RETURNING, SHOW, EXPLAIN, EXECUTE, FETCH).
    #[must_use]
    pub fn described(&self) -> Option<&Arc<[Column]>> {
        self.plan.as_ref().filter(|_| self.described)?.columns.as_ref()
    }
}

/// A statement's result before notices and settings are added.
pub(super) struct Outcome {
    pub(super) tag: Arc<str>,
    pub(super) rows: Option<Rows>,
    /// See [`Output::fails`].
    pub(super) fails: Option<Box<PgError>>,
}

impl Outcome {
    pub(super) fn tag(tag: &str) -> Outcome {
        Outcome::new(tag, None)
    }

    pub(super) fn new(tag: impl Into<Arc<str>>, rows: Option<Rows>) -> Outcome {
        Outcome { tag: tag.into(), rows, fails: None }
    }
}

impl Engine {
    /// The plan of a statement for this session, from the statement's cache if it still holds.
    pub(super) fn plan(&self, session: &Session, statement: &Statement, hints: &[u32]) -> Result<Arc<Plan>, PgError> {
        let own = session.temporary_tables.then_some(session.pid);
        let version = self.catalog.version;
        if let Some(cached) = &*statement.plan.lock()
            && cached.version == version
            && cached.session == own
            && cached.hints == hints
            && cached.database == session.database
        {
            return Ok(cached.plan.clone());
        }
        let plan = Arc::new(bind::plan(&self.catalog, &session.database, session.pid, statement, hints)?);
        // What only this session sees must not be found by others.
        if !session.transaction.made_relations {
            *statement.plan.lock() = Some(CachedPlan {
                version,
                database: session.database.clone(),
                session: own,
                hints: hints.to_vec(),
                plan: plan.clone(),
            });
        }
        Ok(plan)
    }

    pub(super) fn describe_statement(
        &mut self,
        session: &Session,
        statement: &Statement,
        hints: &[u32],
    ) -> Result<Description, PgError> {
        match &statement.command {
            Command::Select(_) | Command::Insert(_) | Command::Update(_) | Command::Delete(_) => {
                let plan = self.plan(session, statement, hints)?;
                Ok(Description { parameters: plan.parameters.clone(), columns: plan.columns.clone() })
            }
            // DECLARE is analysed with its query, whose parameters are its own.
            Command::Utility(Utility::Declare { query, .. }) => {
                Ok(Description { parameters: self.plan(session, query, hints)?.parameters.clone(), columns: None })
            }
            Command::Utility(utility) => {
                Ok(Description { parameters: Vec::new(), columns: self.utility_columns(session, utility)? })
            }
            _ => Ok(Description { parameters: Vec::new(), columns: None }),
        }
    }

    /// The table locks that parse analysis takes, and that planning takes again of a prepared statement. False: one is
    /// to be waited for; ask again once the session's pid was in [`Engine::take_granted`]. To be called as
    /// [`Engine::describe`] is. Errors of a wait have a position only in parse analysis.
    ///
    /// # Errors
    /// As [`Engine::describe`].
    pub fn lock_for_analysis(
        &mut self,
        session: &mut Session,
        statement: &Statement,
        hints: &[u32],
        of_parse: bool,
    ) -> Result<bool, PgError> {
        let plan = match &statement.command {
            Command::Select(_) | Command::Insert(_) | Command::Update(_) | Command::Delete(_) => {
                self.plan(session, statement, hints)?
            }
            Command::Utility(Utility::Declare { query, .. }) => self.plan(session, query, hints)?,
            _ => return Ok(true),
        };
        match self.lock_in_analysis(session, &plan, of_parse) {
            Ok(()) => Ok(true),
            Err(Stop::Wait) => Ok(false),
            Err(Stop::Error(error)) => Err(*error),
        }
    }

    fn lock_in_analysis(&mut self, session: &mut Session, plan: &Plan, of_parse: bool) -> Flow<()> {
        for (id, mode, position) in &plan.locks {
            session.lock_position = position.filter(|_| of_parse);
            self.lock_relation(session, *id, *mode).map_err(|stop| match stop {
                Stop::Error(error) => Stop::Error(Box::new(at(*error, session.lock_position))),
                Stop::Wait => Stop::Wait,
            })?;
        }
        session.lock_position = None;
        Ok(())
    }

    /// Whether a prepared statement still returns the columns that it returned when it was prepared
    /// (`RevalidateCachedQuery`).
    ///
    /// # Errors
    /// 0A000 when a change of a table made them others; what analysis finds wrong with it now.
    pub fn same_result(&mut self, session: &Session, prepared: &Prepared) -> Result<(), PgError> {
        let Some(before) = &prepared.columns else { return Ok(()) };
        let hints: Vec<u32> = prepared.parameters.iter().map(|kind| kind.oid()).collect();
        let now = self.describe_statement(session, &prepared.statement, &hints)?.columns;
        let same = now.is_some_and(|now| {
            Arc::ptr_eq(&now, before)
                || (now.len() == before.len() && now.iter().zip(before.iter()).all(|(a, b)| a.looks_like(b)))
        });
        match same {
            true => Ok(()),
            false => Err(PgError::error(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")),
        }
    }

    /// A heavyweight lock for the transaction.
    pub(super) fn lock(&mut self, pid: Pid, tag: Tag, mode: Mode) -> Flow<()> {
        match self.locks.lock(pid, tag, mode, Hold::Transaction, Patience::Queue) {
            Grant::Granted => Ok(()),
            Grant::Queued | Grant::Refused => Err(Stop::Wait),
            Grant::Deadlock(edges) => Err(deadlock_error(&edges[..]).into()),
        }
    }

    pub(super) fn lock_relation(&mut self, session: &Session, id: RelationId, mode: Mode) -> Flow<()> {
        self.lock(session.pid, Tag::Relation(id), mode)
    }

    /// Waits for the end of a transaction. Ok: it has ended.
    pub(super) fn wait_for(&mut self, session: &mut Session, xid: Xid, doing: Option<Doing>) -> Flow<()> {
        let tag = Tag::Transaction(xid);
        session.waits_for = Some(xid);
        session.doing = doing;
        let waited = self.lock(session.pid, tag, Mode::Share);
        match waited {
            Ok(()) => {
                self.locks.unlock(session.pid, tag, Mode::Share, Hold::Transaction);
                session.waits_for = None;
                session.doing = None;
                Ok(())
            }
            Err(Stop::Error(mut error)) => {
                error.context = self.wait_context(session);
                session.doing = None;
                Err(Stop::Error(error))
            }
            Err(Stop::Wait) => Err(Stop::Wait),
        }
    }

    /// Where in the text the table stands that parse analysis waits for.
    #[must_use]
    pub fn wait_position(&self, session: &Session) -> Option<u32> {
        session.lock_position
    }

    /// The CONTEXT of an error that ends the session's wait: what it was doing to which row. None unless it waits for
    /// a transaction's end on a row's account; a wait for the place in the row's queue has none either.
    #[must_use]
    pub fn wait_context(&self, session: &Session) -> Option<String> {
        let (what, id, tuple, index) = match session.doing? {
            Doing::Locking(id, tuple) => ("locking", id, tuple, None),
            Doing::Updating(id, tuple) => ("updating", id, tuple, None),
            Doing::Deleting(id, tuple) => ("deleting", id, tuple, None),
            Doing::Inserting(id, tuple, index) => ("inserting index", id, tuple, index),
        };
        let relation = self.catalog.get(id)?;
        let name = match index {
            Some(index) => &relation.table()?.indexes.get(index)?.name,
            None => &relation.name,
        };
        let (block, offset) = ctid(tuple);
        Some(format!("while {what} tuple ({block},{offset}) in relation \"{name}\""))
    }

    /// Gives back the lock on the transaction that was waited for.
    pub(super) fn end_wait(&mut self, session: &mut Session) {
        session.doing = None;
        if let Some(xid) = session.waits_for.take() {
            self.locks.unlock(session.pid, Tag::Transaction(xid), Mode::Share, Hold::Transaction);
        }
    }

    /// Gives back the lock that keeps the place in a row's queue.
    pub(super) fn leave_row_queue(&mut self, session: &mut Session) {
        if let Some((tag, mode)) = session.row_queue.take() {
            self.locks.unlock(session.pid, tag, mode, Hold::Transaction);
        }
    }

    pub(super) fn step_execution(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
    ) -> Result<Step, PgError> {
        if let Some(output) = exec.result.take() {
            self.snapshots.remove(&session.pid);
            return Ok(Step::Done(output));
        }
        self.end_wait(session);
        if let Some(inner) = &mut exec.inner {
            return self.step_inner(host, session, inner);
        }
        if session.block.status() == super::TransactionStatus::Failed && !exec.statement.allowed_in_failed() {
            return Err(super::super::transaction::transaction_is_aborted());
        }
        let statement = exec.statement.clone();
        exec.journal.rewind();
        let outcome = match &statement.command {
            Command::Select(_) | Command::Insert(_) | Command::Update(_) | Command::Delete(_) => {
                self.run_plan(host, session, exec)
            }
            Command::Utility(utility) => match self.run_utility(host, session, exec, utility) {
                Ok(Some(outcome)) => Ok(outcome),
                // EXECUTE has set up its statement.
                Ok(None) => return self.step_execution(host, session, exec),
                Err(stop) => Err(stop),
            },
            _ => self.run_ddl(host, session, exec),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Stop::Wait) => {
                if let Some(view) = exec.view {
                    self.snapshots.insert(session.pid, view.snapshot);
                }
                return Ok(Step::Wait);
            }
            Err(Stop::Error(error)) => return Err(*error),
        };
        let Outcome { tag, rows, fails } = outcome;
        let output = Output { tag, rows, notices: std::mem::take(&mut exec.notices), fails };
        let mut takes = exec.journal.slept;
        if let Some(cost) = &statement.cost {
            let rows = u32::try_from(exec.rows_read).unwrap_or(u32::MAX);
            takes += cost.takes + cost.per_row.saturating_mul(rows);
        }
        if takes > Duration::ZERO {
            exec.result = Some(output);
            if let Some(view) = exec.view {
                self.snapshots.insert(session.pid, view.snapshot);
            }
            return Ok(Step::Sleep(takes));
        }
        self.snapshots.remove(&session.pid);
        Ok(Step::Done(output))
    }

    /// EXECUTE's statement, whose rows are collected before any is sent.
    fn step_inner(&mut self, host: &dyn Host, session: &mut Session, inner: &mut Execution) -> Result<Step, PgError> {
        match self.step_execution(host, session, inner)? {
            Step::Done(output) => output.whole().map(Step::Done),
            step => Ok(step),
        }
    }

    fn run_plan(&mut self, host: &dyn Host, session: &mut Session, exec: &mut Execution) -> Flow<Outcome> {
        let plan = match &exec.plan {
            Some(plan) => plan.clone(),
            None => {
                let plan = self.plan(session, &exec.statement, &exec.hints)?;
                self.lock_in_analysis(session, &plan, exec.hints.is_empty())?;
                if plan.parameters.len() > exec.parameters.len() {
                    let name = format!("${}", exec.parameters.len() + 1);
                    let text = &exec.statement.text;
                    let position = text.find(&name).map(|at| text[..at].chars().count() + 1);
                    let error = PgError::error(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}"));
                    return Err(at(error, position.and_then(|position| u32::try_from(position).ok())).into());
                }
                self.check_writable(host, session, &plan)?;
                exec.plan = Some(plan.clone());
                plan
            }
        };
        let view = match exec.view {
            Some(view) => view,
            None => {
                let view = self.take_view(session);
                exec.view = Some(view);
                view
            }
        };
        let Execution { journal, notices, parameters, changes, applied, affected, rows, rows_read, described, .. } =
            exec;
        let mut context = Context { engine: self, session, host, parameters, view, journal, rows_read: 0, notices };
        match &plan.node {
            Node::Select(select) => {
                let mut found = Vec::new();
                let fails = match context.select_into(select, None, None, &mut found) {
                    Ok(()) => None,
                    Err(Stop::Wait) => {
                        *described = true;
                        return Err(Stop::Wait);
                    }
                    // An error of constants alone is the planner's, who folds them before anything is described.
                    Err(error) if context.fails_to_plan(select).is_some() => return Err(error),
                    Err(Stop::Error(error)) => Some(error),
                };
                *described = true;
                *rows_read = context.rows_read;
                if !select.locking.is_empty() {
                    context.session.transaction.command += 1;
                }
                let tag = context.engine.tag("SELECT", found.len() as u64);
                Ok(Outcome { tag, rows: Some(Rows { columns: select.columns.clone(), rows: found }), fails })
            }
            node => {
                if changes.is_none() {
                    let computed = context.changes(node)?;
                    *rows_read = context.rows_read;
                    *changes = Some(computed);
                }
                let all = changes.as_ref().expect("just computed");
                while *applied < all.len() {
                    if let Some(written) = context.apply(node, &all[*applied])? {
                        *affected += 1;
                        if let Some(returning) = modify::returning(node) {
                            rows.push(context.project(&returning.output, &written)?);
                        }
                    }
                    *applied += 1;
                }
                *rows_read = (*rows_read).max(*affected);
                context.session.transaction.command += 1;
                let word = match node {
                    Node::Insert(_) => "INSERT 0",
                    Node::Update(_) => "UPDATE",
                    _ => "DELETE",
                };
                let tag = context.engine.tag(word, *affected);
                let rows = modify::returning(node)
                    .map(|returning| Rows { columns: returning.columns.clone(), rows: std::mem::take(rows) });
                Ok(Outcome::new(tag, rows))
            }
        }
    }

    /// What the planner of a bound statement finds: an error that its constants and parameters alone make.
    ///
    /// # Errors
    /// That one.
    pub fn plan_bound(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        statement: &Statement,
        hints: &[u32],
        parameters: &[Value],
    ) -> Result<(), PgError> {
        if !matches!(statement.command, Command::Select(_) | Command::Insert(_) | Command::Update(_)) {
            return Ok(());
        }
        let plan = self.plan(session, statement, hints)?;
        if !plan.folds {
            return Ok(());
        }
        let view = View { snapshot: self.commits, pid: session.pid, command: session.transaction.command };
        let (mut journal, mut notices) = (Journal::default(), Vec::new());
        let (journal, notices) = (&mut journal, &mut notices);
        let mut context = Context { engine: self, session, host, parameters, view, journal, rows_read: 0, notices };
        context.node_fails_to_plan(&plan.node).map_or(Ok(()), |error| Err(*error))
    }

    /// What a statement that begins now sees.
    pub(super) fn take_view(&mut self, session: &mut Session) -> View {
        let snapshot = if session.transaction.isolation.one_snapshot() {
            let latest = self.commits;
            let snapshot = *session.transaction.snapshot.get_or_insert(latest);
            self.long_snapshots.insert(session.pid, snapshot);
            snapshot
        } else {
            self.commits
        };
        session.transaction.queried = true;
        View { snapshot, pid: session.pid, command: session.transaction.command }
    }

    fn check_writable(&mut self, host: &dyn Host, session: &Session, plan: &Plan) -> Result<(), PgError> {
        let (name, id) = match &plan.node {
            Node::Insert(insert) => ("INSERT", insert.id),
            Node::Update(update) => ("UPDATE", update.id),
            Node::Delete(delete) => ("DELETE", delete.id),
            Node::Select(select) => match select.locking.first() {
                Some(locking) => (
                    match locking.strength {
                        super::heap::RowLock::Update => "SELECT FOR UPDATE",
                        super::heap::RowLock::NoKeyUpdate => "SELECT FOR NO KEY UPDATE",
                        super::heap::RowLock::Share => "SELECT FOR SHARE",
                        super::heap::RowLock::KeyShare => "SELECT FOR KEY SHARE",
                    },
                    locking.id,
                ),
                None => return Ok(()),
            },
        };
        let temporary = self.catalog.get(id).is_some_and(|relation| relation.temporary.is_some());
        self.writable(session, host, name, temporary)
    }

    /// 25006 in a read-only transaction and on a standby.
    pub(super) fn writable(
        &self,
        session: &Session,
        host: &dyn Host,
        command: &str,
        temporary: bool,
    ) -> Result<(), PgError> {
        if (session.transaction.read_only && !temporary) || host.in_recovery() {
            return Err(PgError::error(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {command} in a read-only transaction"),
            ));
        }
        Ok(())
    }
}
