//! Utility commands: transactions, settings, DISCARD, LOCK, LISTEN, PREPARE, cursors.

use std::sync::Arc;

use super::super::super::error::{PgError, SqlState};
use super::super::super::locks::{Grant, Hold, Mode, Patience, Tag};
use super::super::super::settings::{Scope, join_values};
use super::super::super::transaction::{Ending, Isolation, Modes, only_in_blocks};
use super::super::bind::{self, object_name};
use super::super::cursor::{Backward, Cursor, goes_back};
use super::super::engine::Engine;
use super::super::eval::{Context, Env, Flow, Stop};
use super::super::host::Host;
use super::super::pg_catalog;
use super::super::plan::Node;
use super::super::result::{Column, Description, Rows};
use super::super::script::Command;
use super::super::session::{Prepared, Session};
use super::super::types::Type;
use super::super::utility::{Discard, SetValue, TransactionCommand, Utility};
use super::super::value::{Value, text};
use super::{Execution, Outcome};

fn one_text_column(name: &str) -> Arc<[Column]> {
    Arc::from([Column::new(name, Type::Text)])
}

fn no_prepared(name: &str) -> PgError {
    PgError::error(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
}

fn no_cursor(name: &str) -> PgError {
    PgError::error(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}

impl Engine {
    /// The columns of a utility command that returns rows.
    pub(super) fn utility_columns(
        &mut self,
        session: &Session,
        utility: &Utility,
    ) -> Result<Option<Arc<[Column]>>, PgError> {
        Ok(match utility {
            Utility::Show(name) => {
                session.settings.examine(name, session.superuser())?;
                Some(one_text_column(session.settings.canonical_name(name).unwrap_or(name)))
            }
            Utility::ShowAll => {
                Some(["name", "setting", "description"].iter().map(|name| Column::new(*name, Type::Text)).collect())
            }
            Utility::Execute { name, .. } => {
                let prepared = session.prepared.get(name).ok_or_else(|| no_prepared(name))?.clone();
                let hints: Vec<u32> = prepared.parameters.iter().map(|kind| kind.oid()).collect();
                self.describe_statement(session, &prepared.statement, &hints)?.columns
            }
            Utility::Fetch { name, moves: false, .. } => {
                Some(session.cursors.get(name).ok_or_else(|| no_cursor(name))?.columns.clone())
            }
            _ => None,
        })
    }

    /// Runs a utility command; None when EXECUTE has put its statement in place.
    pub(super) fn run_utility(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        utility: &Utility,
    ) -> Flow<Option<Outcome>> {
        let tag = |tag: &str| Ok(Some(Outcome::tag(tag)));
        match utility {
            Utility::Transaction(command) => self.transaction_command(host, session, exec, command).map(Some),
            Utility::Set { local, name, value } => {
                if *local {
                    warn_outside(session, exec, "SET LOCAL");
                }
                let scope = if *local { Scope::Local } else { Scope::Session };
                let joined = match value {
                    SetValue::Default => None,
                    SetValue::Values(values) => {
                        let values: Vec<&str> = values.iter().map(String::as_str).collect();
                        Some(join_values(name, &values)?)
                    }
                };
                self.set_setting(session, name, joined.as_deref(), scope)?;
                tag("SET")
            }
            Utility::SetTransaction(modes) => {
                warn_outside(session, exec, "SET TRANSACTION");
                self.set_modes(session, *modes)?;
                tag("SET")
            }
            Utility::SetSessionCharacteristics(modes) => {
                if let Some(isolation) = modes.isolation {
                    self.set_setting(
                        session,
                        "default_transaction_isolation",
                        Some(isolation.as_str()),
                        Scope::Session,
                    )?;
                }
                for (name, value) in [
                    ("default_transaction_read_only", modes.read_only),
                    ("default_transaction_deferrable", modes.deferrable),
                ] {
                    if let Some(value) = value {
                        self.set_setting(session, name, Some(if value { "on" } else { "off" }), Scope::Session)?;
                    }
                }
                tag("SET")
            }
            Utility::SetRole { local, role } => {
                let scope = if *local { Scope::Local } else { Scope::Session };
                if *local {
                    warn_outside(session, exec, "SET LOCAL");
                }
                self.set_setting(session, "role", Some(role.as_deref().unwrap_or("none")), scope)?;
                tag("SET")
            }
            Utility::SetSessionAuthorization { local, user } => {
                let scope = if *local { Scope::Local } else { Scope::Session };
                self.set_setting(session, "session_authorization", user.as_deref(), scope)?;
                tag("SET")
            }
            Utility::SetConstraintsAll => tag("SET CONSTRAINTS"),
            Utility::LimitRole { role, limit } => {
                self.writable(session, host, "ALTER ROLE", false)?;
                if *limit < -1 {
                    let message = format!("invalid connection limit: {limit}");
                    return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, message).into());
                }
                if self.role(role).is_none() {
                    let message = format!("role \"{role}\" does not exist");
                    return Err(PgError::error(SqlState::UNDEFINED_OBJECT, message).into());
                }
                if !session.superuser() {
                    return Err(PgError::error(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied").into());
                }
                self.assign_xid(session);
                session.transaction.role_limits.push((role.clone(), *limit));
                tag("ALTER ROLE")
            }
            Utility::Show(name) => {
                let value = session.settings.examine(name, session.superuser())?;
                let columns = one_text_column(session.settings.canonical_name(name).unwrap_or(name));
                Ok(Some(Outcome::new("SHOW", Some(Rows { columns, rows: vec![vec![text(value)]] }))))
            }
            Utility::ShowAll => {
                let columns = self.utility_columns(session, utility)?.expect("SHOW ALL returns rows");
                let rows = session
                    .settings
                    .all(session.superuser())
                    .into_iter()
                    .map(|row| vec![text(row.name), text(row.shown), text(row.short_desc)])
                    .collect();
                Ok(Some(Outcome::new("SHOW", Some(Rows { columns, rows }))))
            }
            Utility::Reset(name) => {
                self.set_setting(session, name, None, Scope::Session)?;
                tag("RESET")
            }
            Utility::ResetAll => {
                session.settings.reset_all();
                self.settings_changed(session);
                tag("RESET")
            }
            Utility::Discard(what) => self.discard(session, *what).map(Some),
            Utility::Lock { tables, mode, nowait } => self.lock_tables(host, session, tables, *mode, *nowait).map(Some),
            Utility::Listen(channel) => {
                if host.in_recovery() {
                    return Err(PgError::error(
                        SqlState::READ_ONLY_SQL_TRANSACTION,
                        "cannot execute LISTEN during recovery",
                    )
                    .into());
                }
                session.transaction.listens.push((Some(channel.clone()), true));
                tag("LISTEN")
            }
            Utility::Unlisten(channel) => {
                session.transaction.listens.push((channel.clone(), false));
                tag("UNLISTEN")
            }
            Utility::Notify { channel, payload } => {
                self.notify(session, host, channel, payload)?;
                tag("NOTIFY")
            }
            Utility::Prepare { name, types, statement } => {
                if session.prepared.contains_key(name) {
                    return Err(PgError::error(
                        SqlState::DUPLICATE_PREPARED_STATEMENT,
                        format!("prepared statement \"{name}\" already exists"),
                    )
                    .into());
                }
                let hints: Vec<u32> = types.iter().map(|kind| kind.oid()).collect();
                let Description { parameters, columns } = self.describe_statement(session, statement, &hints)?;
                let prepared_us = session.statement_us();
                let statement = statement.clone();
                let prepared = Prepared { statement, parameters, columns, from_sql: true, prepared_us };
                session.prepared.insert(name.clone(), prepared);
                tag("PREPARE")
            }
            Utility::Execute { name, arguments } => {
                let prepared = session.prepared.get(name).ok_or_else(|| no_prepared(name))?.clone();
                // `ExecuteQuery` looks at arguments only when the statement has parameters.
                let arguments = if prepared.parameters.is_empty() { &[] } else { &arguments[..] };
                if arguments.len() != prepared.parameters.len() {
                    return Err(PgError::error(
                        SqlState::SYNTAX_ERROR,
                        format!("wrong number of parameters for prepared statement \"{name}\""),
                    )
                    .detail(format!("Expected {} parameters but got {}.", prepared.parameters.len(), arguments.len()))
                    .into());
                }
                self.same_result(session, &prepared)?;
                let text = exec.statement.text.clone();
                let exprs = bind::arguments(
                    &self.catalog,
                    &session.database,
                    session.pid,
                    &text,
                    arguments,
                    &prepared.parameters,
                )?;
                let view = self.take_view(session);
                let mut context = Context {
                    engine: self,
                    session,
                    host,
                    parameters: &[],
                    view,
                    journal: &mut exec.journal,
                    rows_read: 0,
                    notices: &mut exec.notices,
                };
                let env = Env { row: &[], outer: None };
                let values: Vec<Value> = exprs.iter().map(|expr| context.eval(expr, &env)).collect::<Flow<_>>()?;
                exec.inner = Some(Box::new(Execution::new(prepared.statement, &prepared.parameters, values)));
                Ok(None)
            }
            Utility::Deallocate(None) => {
                session.prepared.clear();
                tag("DEALLOCATE ALL")
            }
            Utility::Deallocate(Some(name)) => match session.prepared.remove(name) {
                Some(_) => tag("DEALLOCATE"),
                None => Err(no_prepared(name).into()),
            },
            Utility::Declare { name, hold, scroll, query } => {
                let plan = self.plan(session, query, &exec.hints)?;
                if !*hold
                    && !session.block.is_explicit()
                    && session.block != super::super::super::transaction::Block::ImplicitBlock
                {
                    return Err(only_in_blocks("DECLARE CURSOR").into());
                }
                if session.cursors.contains_key(name) {
                    return Err(PgError::error(
                        SqlState::DUPLICATE_CURSOR,
                        format!("cursor \"{name}\" already exists"),
                    )
                    .into());
                }
                for (id, mode, _) in &plan.locks {
                    self.lock_relation(session, *id, *mode)?;
                }
                let Node::Select(select) = &plan.node else { unreachable!("it is a query") };
                if !select.locking.is_empty() {
                    return Err(PgError::unsupported("cursors with FOR UPDATE and its kin").into());
                }
                let view = self.take_view(session);
                let mut context = Context {
                    engine: self,
                    session,
                    host,
                    parameters: &exec.parameters,
                    view,
                    journal: &mut exec.journal,
                    rows_read: 0,
                    notices: &mut exec.notices,
                };
                let mut rows = Vec::new();
                let fails = match context.select_into(select, None, None, &mut rows) {
                    Ok(()) => None,
                    // PostgreSQL computes the rows of WITH HOLD at COMMIT; here it is DECLARE that fails.
                    Err(Stop::Error(error)) if !*hold && context.fails_to_plan(select).is_none() => Some(error),
                    Err(stop) => return Err(stop),
                };
                exec.rows_read = context.rows_read;
                let columns = select.columns.clone();
                let backward = match scroll {
                    Some(true) => Backward::Yes,
                    Some(false) => Backward::No,
                    None => goes_back(select, matches!(&query.command, Command::Select(query) if without_from(query))),
                };
                session.cursors.insert(name.clone(), Cursor::new(columns, rows, fails, backward, *hold));
                tag("DECLARE CURSOR")
            }
            Utility::Fetch { name, direction, moves } => {
                let cursor = session.cursors.get_mut(name).ok_or_else(|| no_cursor(name))?;
                if *moves {
                    let count = cursor.skip(*direction).map_err(Stop::Error)?;
                    return Ok(Some(Outcome { tag: self.tag("MOVE", count as u64), rows: None, fails: None }));
                }
                let rows = cursor.fetch(*direction).map_err(Stop::Error)?;
                let columns = cursor.columns.clone();
                Ok(Some(Outcome::new(self.tag("FETCH", rows.len() as u64), Some(Rows { columns, rows }))))
            }
            Utility::PrepareTransaction => self.prepare_transaction(session, exec).map(Some),
            Utility::FinishPrepared { commit, name } => {
                let command = if *commit { "COMMIT PREPARED" } else { "ROLLBACK PREPARED" };
                self.prevent_in_block(session, command)?;
                let message = format!("prepared transaction with identifier \"{name}\" does not exist");
                Err(PgError::error(SqlState::UNDEFINED_OBJECT, message).into())
            }
            Utility::Close(None) => {
                session.cursors.clear();
                tag("CLOSE CURSOR ALL")
            }
            Utility::Close(Some(name)) => match session.cursors.remove(name) {
                Some(_) => tag("CLOSE CURSOR"),
                None => Err(no_cursor(name).into()),
            },
        }
    }

    fn transaction_command(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        command: &TransactionCommand,
    ) -> Flow<Outcome> {
        match command {
            TransactionCommand::Begin { start, modes } => {
                let before = session.block;
                let warning = session.block.begin();
                exec.notices.extend(warning);
                if let Err(error) = self.set_modes(session, *modes) {
                    // BEGIN failed: there is no block (`TBLOCK_BEGIN` in `AbortCurrentTransaction`).
                    session.block = before;
                    return Err(error.into());
                }
                Ok(Outcome::tag(if *start { "START TRANSACTION" } else { "BEGIN" }))
            }
            TransactionCommand::Commit { chain } => {
                let (ending, warning) = session.block.commit(*chain)?;
                exec.notices.extend(warning);
                let modes = session.transaction.modes();
                let failed = ending == Ending::Rollback;
                if failed {
                    self.rollback_all(session);
                } else {
                    self.commit_all(session);
                }
                self.chain(host, session, *chain, modes)?;
                Ok(Outcome::tag(if failed { "ROLLBACK" } else { "COMMIT" }))
            }
            TransactionCommand::Rollback { chain } => {
                let warning = session.block.rollback(*chain)?;
                exec.notices.extend(warning);
                let modes = session.transaction.modes();
                self.rollback_all(session);
                self.chain(host, session, *chain, modes)?;
                Ok(Outcome::tag("ROLLBACK"))
            }
            TransactionCommand::Savepoint(name) => {
                session.block.savepoint("SAVEPOINT")?;
                self.savepoint(session, name);
                Ok(Outcome::tag("SAVEPOINT"))
            }
            TransactionCommand::Release(name) => {
                session.block.savepoint("RELEASE SAVEPOINT")?;
                self.release(session, name)?;
                Ok(Outcome::tag("RELEASE"))
            }
            TransactionCommand::RollbackTo(name) => {
                session.block.savepoint("ROLLBACK TO SAVEPOINT")?;
                self.rollback_to(session, name)?;
                Ok(Outcome::tag("ROLLBACK"))
            }
        }
    }

    /// What a server does that has no place for prepared transactions, which is the default.
    fn prepare_transaction(&mut self, session: &mut Session, exec: &mut Execution) -> Flow<Outcome> {
        let (ending, warning) = session.block.commit(false)?;
        let warned = warning.is_some();
        exec.notices.extend(warning);
        if ending == Ending::Commit && session.settings.examine("max_prepared_transactions", true)? != "0" {
            return Err(PgError::unsupported("two-phase commit").into());
        }
        self.rollback_all(session);
        if ending == Ending::Rollback || warned {
            return Ok(Outcome::tag("ROLLBACK"));
        }
        let error = PgError::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "prepared transactions are disabled")
            .hint("Set max_prepared_transactions to a nonzero value.");
        Err(error.into())
    }

    fn chain(&mut self, host: &dyn Host, session: &mut Session, chain: bool, modes: Modes) -> Result<(), PgError> {
        if chain {
            self.begin_transaction(host, session);
            session.block = super::super::super::transaction::Block::Explicit;
            self.set_modes(session, modes)?;
        }
        Ok(())
    }

    /// BEGIN's options and SET TRANSACTION.
    pub(super) fn set_modes(&mut self, session: &mut Session, modes: Modes) -> Result<(), PgError> {
        if let Some(isolation) = modes.isolation {
            self.set_setting(session, "transaction_isolation", Some(isolation.as_str()), Scope::Local)?;
        }
        if let Some(read_only) = modes.read_only {
            self.set_setting(
                session,
                "transaction_read_only",
                Some(if read_only { "on" } else { "off" }),
                Scope::Local,
            )?;
        }
        if let Some(deferrable) = modes.deferrable {
            self.set_setting(
                session,
                "transaction_deferrable",
                Some(if deferrable { "on" } else { "off" }),
                Scope::Local,
            )?;
        }
        Ok(())
    }

    fn discard(&mut self, session: &mut Session, what: Discard) -> Flow<Outcome> {
        match what {
            Discard::All => {
                self.prevent_in_block(session, "DISCARD ALL")?;
                session.cursors.clear();
                self.set_setting(session, "session_authorization", None, Scope::Session)?;
                session.settings.reset_all();
                self.set_setting(session, "role", Some("none"), Scope::Session)?;
                self.settings_changed(session);
                session.prepared.clear();
                session.transaction.listens.push((None, false));
                self.locks.release_session_advisory(session.pid);
                session.advisory.clear();
                self.drop_temporaries(session);
                session.sequences.clear();
                session.last_sequence = None;
                Ok(Outcome::tag("DISCARD ALL"))
            }
            Discard::Plans => Ok(Outcome::tag("DISCARD PLANS")),
            Discard::Temp => {
                self.drop_temporaries(session);
                Ok(Outcome::tag("DISCARD TEMP"))
            }
            Discard::Sequences => {
                session.sequences.clear();
                session.last_sequence = None;
                Ok(Outcome::tag("DISCARD SEQUENCES"))
            }
        }
    }

    /// Temporary tables are dropped as by DROP TABLE, so that a rollback brings them back.
    fn drop_temporaries(&mut self, session: &mut Session) {
        let pid = session.pid;
        let mut dropped = Vec::new();
        for id in self.catalog.temporaries(pid) {
            if let Some(relation) = self.catalog.get_mut(id)
                && relation.dropped_by.is_none()
            {
                relation.dropped_by = Some(pid);
                dropped.push(id);
            }
        }
        for id in dropped {
            self.log(pid, super::super::engine::Undo::Dropped(id));
        }
        self.catalog.version += 1;
        session.transaction.made_relations = true;
        self.name_temporaries(session);
    }

    /// 25001, as `PreventInTransactionBlock`.
    fn prevent_in_block(&self, session: &Session, command: &str) -> Result<(), PgError> {
        use super::super::super::transaction::Block;
        let message = match session.block {
            Block::Explicit | Block::Failed if session.transaction.in_savepoint() => {
                format!("{command} cannot run inside a subtransaction")
            }
            Block::Explicit | Block::Failed | Block::ImplicitBlock => {
                format!("{command} cannot run inside a transaction block")
            }
            _ if session.pipelined => format!("{command} cannot be executed within a pipeline"),
            _ => return Ok(()),
        };
        Err(PgError::error(SqlState::ACTIVE_SQL_TRANSACTION, message))
    }

    fn lock_tables(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        tables: &[sqlparser::ast::ObjectName],
        mode: Mode,
        nowait: bool,
    ) -> Flow<Outcome> {
        use super::super::super::transaction::Block;
        if host.in_recovery() && mode > Mode::RowExclusive {
            return Err(PgError::error(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                "cannot execute LOCK TABLE during recovery",
            )
            .into());
        }
        if !session.block.is_explicit() && session.block != Block::ImplicitBlock {
            return Err(only_in_blocks("LOCK TABLE").into());
        }
        for name in tables {
            let (schema, bare) = object_name(name)?;
            let Some(relation) = self.catalog.find(&session.database, session.pid, &bare, schema.as_deref()) else {
                if pg_catalog::has_relation(schema.as_deref(), &bare) {
                    return Err(PgError::unsupported(format!("locking the catalog {bare}")).into());
                }
                return Err(
                    PgError::error(SqlState::UNDEFINED_TABLE, format!("relation \"{bare}\" does not exist")).into()
                );
            };
            if relation.table().is_none() {
                return Err(PgError::error(SqlState("42809"), format!("\"{bare}\" is not a table or view")).into());
            }
            let id = relation.id;
            let patience = if nowait { Patience::NoWait } else { Patience::Queue };
            match self.locks.lock(session.pid, Tag::Relation(id), mode, Hold::Transaction, patience) {
                Grant::Granted => {}
                Grant::Queued => return Err(Stop::Wait),
                Grant::Refused => {
                    return Err(PgError::error(
                        SqlState::LOCK_NOT_AVAILABLE,
                        format!("could not obtain lock on relation \"{bare}\""),
                    )
                    .into());
                }
                Grant::Deadlock(edges) => return Err(super::deadlock_error(&edges[..]).into()),
            }
        }
        Ok(Outcome::tag("LOCK TABLE"))
    }
}

/// `SELECT` of constants.
fn without_from(query: &sqlparser::ast::Query) -> bool {
    matches!(&*query.body, sqlparser::ast::SetExpr::Select(select) if select.from.is_empty())
}

/// SET LOCAL and SET TRANSACTION outside a block have no effect, and say so.
fn warn_outside(session: &Session, exec: &mut Execution, command: &str) {
    use super::super::super::transaction::Block;
    if matches!(session.block, Block::Implicit | Block::Idle) {
        exec.notices.push(PgError::warning(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            format!("{command} can only be used in transaction blocks"),
        ));
    }
}

/// The isolation level that a setting's text names.
pub(in super::super) fn isolation_of(value: &str) -> Isolation {
    match value {
        "serializable" => Isolation::Serializable,
        "repeatable read" => Isolation::RepeatableRead,
        "read uncommitted" => Isolation::ReadUncommitted,
        _ => Isolation::ReadCommitted,
    }
}
