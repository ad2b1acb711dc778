//! The simple query, and how a statement of either protocol runs: step by step, waiting where the engine says so.
//!
//! A simple query of several statements runs in one implicit transaction; an error ends it and the rest is not run
//! (`exec_simple_query`). A query's RowDescription is sent when it begins to run, so it comes before the error of one that
//! fails in a row or is ended while it waits; not before an error of analysis or planning, or of a statement that
//! collects its rows first (RETURNING). The rows before the one that fails are sent, and then the error. Left out: rows are
//! sent when the statement is complete, not while it runs, so those of one that is ended while it waits or sleeps are not
//! sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::activity::Signals;
use super::error::{PgError, SqlState};
use super::event::BackendState;
use super::link::Socket;
use super::session::{Connection, End, Stop, ended_by};
use super::sql::{Column, Execution, Framing, Output, Statement, Step, Type, Value};
use super::transaction::TransactionStatus;
use super::wire::{self, Bare, Formats, QueryText};

/// How far a statement came without waiting.
enum AtOnce {
    /// All of it, its commit included; what is left is CommandComplete with this tag.
    Committed(Arc<str>),
    /// It ran, and so many of its rows are written. All may have to be sent before the next is.
    Done(Output, usize),
    /// It waits, its RowDescription written or not.
    Waits(Box<(Execution, Step, bool)>),
}

/// NOTICEs and WARNINGs, which a statement that returns rows raises while it makes them.
fn write_notices(out: &mut BytesMut, output: &Output) {
    for notice in &output.notices {
        wire::report(out, notice);
    }
}

impl<S: Socket> Connection<S> {
    /// `exec_simple_query`. ReadyForQuery is the caller's.
    pub(super) async fn simple_query(&mut self, text: QueryText) -> Result<(), Stop> {
        self.portals.drop_unnamed();
        let script = match self.engine(|engine, _, _| engine.parse(text.as_str()))? {
            Ok(script) => script,
            Err(error) => {
                let text = Arc::from(text.as_str());
                self.set_state(BackendState::Active, Some(&text));
                self.announce(&text);
                // The transaction it would have begun is the one that fails.
                self.engine(|engine, session, host| engine.statement_begin(host, session, Framing::Single))?;
                return Err(error.into());
            }
        };
        let Some(last) = script.statements.len().checked_sub(1) else {
            self.set_state(BackendState::Active, Some(&Arc::from(text.as_str())));
            wire::bare(&mut self.link.output, Bare::EmptyQueryResponse);
            return Ok(());
        };
        let text = script.statements[last].text();
        self.set_state(BackendState::Active, Some(text));
        self.announce(text);
        let framing = if last == 0 { Framing::Single } else { Framing::Multi };
        let mut tag = None;
        for (index, statement) in script.statements.iter().enumerate() {
            self.refuse_in_failed(statement.allowed_in_failed())?;
            self.restart_statement_timeout();
            let ends = index == last || statement.is_transaction_control();
            self.hold_interrupts(statement).await?;
            let (output, sent) = match self.run_at_once(statement, framing, ends)? {
                AtOnce::Committed(done) => {
                    if self.status == TransactionStatus::Idle {
                        self.portals.end_transaction();
                    }
                    wire::command_complete(&mut self.link.output, &done);
                    tag = Some(done);
                    continue;
                }
                AtOnce::Done(output, sent) => (output, sent),
                AtOnce::Waits(waiting) => {
                    let (mut execution, step, described) = *waiting;
                    let (mut output, described) = self.go_on(statement, &mut execution, step, described).await?;
                    if let Some(rows) = &mut output.rows {
                        self.engine(|engine, _, _| engine.name_relations(&rows.columns, &mut rows.rows, |_| false))?;
                    }
                    if let (Some(rows), false) = (&output.rows, described) {
                        wire::row_description(&mut self.link.output, &rows.columns, &Formats::Text);
                    }
                    if output.rows.is_some() {
                        write_notices(&mut self.link.output, &output);
                    }
                    (output, 0)
                }
            };
            if let Some(rows) = &output.rows {
                if sent > 0 && self.link.is_full() {
                    self.link.flush();
                    self.send().await?;
                }
                self.send_rows(&rows.columns, &rows.rows[sent..], &Formats::Text).await?;
            } else {
                self.send_notices(&output);
            }
            if let Some(error) = output.fails {
                return Err((*error).into());
            }
            if !statement.ends_transaction() {
                self.check_signals()?;
            }
            if ends {
                self.commit()?;
            }
            wire::command_complete(&mut self.link.output, &output.tag);
            tag = Some(output.tag);
        }
        if let Some(tag) = tag {
            self.announce_end(Ok(tag));
        }
        Ok(())
    }

    /// Begins a statement of a simple query. One that doesn't wait is answered and, if it `ends` its implicit
    /// transaction, committed in the same call of the engine, unless there is more to be done in between.
    fn run_at_once(&mut self, statement: &Arc<Statement>, framing: Framing, ends: bool) -> Result<AtOnce, Stop> {
        let slow = self.slowness(statement).is_some();
        let ran: Result<AtOnce, PgError> = self.engine_and_output(|engine, session, host, answer| {
            engine.statement_begin(host, session, framing);
            let mut execution = engine.start(session, statement, &[], Vec::new());
            let step = engine.step(host, session, &mut execution);
            let described = execution.described();
            if let Some(columns) = described {
                wire::row_description(&mut answer.link.output, columns, &Formats::Text);
            }
            let described = described.is_some();
            let mut output = match step? {
                Step::Done(output) if !slow => output,
                step => return Ok(AtOnce::Waits(Box::new((execution, step, described)))),
            };
            let mut sent = 0;
            if let Some(rows) = &mut output.rows {
                engine.name_relations(&rows.columns, &mut rows.rows, |_| false);
            }
            if let Some(rows) = &output.rows {
                if !described {
                    wire::row_description(&mut answer.link.output, &rows.columns, &Formats::Text);
                }
                write_notices(&mut answer.link.output, &output);
                for row in &rows.rows {
                    wire::data_row(&mut answer.link.output, &rows.columns, row, &Formats::Text);
                    sent += 1;
                    if answer.link.is_full() {
                        return Ok(AtOnce::Done(output, sent));
                    }
                }
            }
            if !ends
                || !output.notices.is_empty()
                || output.fails.is_some()
                || answer.backend.pending() != Signals::NONE
            {
                return Ok(AtOnce::Done(output, sent));
            }
            engine.commit_implicit(host, session)?;
            Ok(AtOnce::Committed(output.tag))
        })?;
        ran.map_err(Stop::from)
    }

    /// 25P02, unless the transaction is sound or the statement may end it.
    pub(super) fn refuse_in_failed(&self, allowed: bool) -> Result<(), PgError> {
        if self.status != TransactionStatus::Failed || allowed {
            return Ok(());
        }
        Err(PgError::error(
            SqlState::IN_FAILED_SQL_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ))
    }

    /// Runs a statement to its end.
    pub(super) async fn run_statement(
        &mut self,
        statement: &Arc<Statement>,
        types: &[Type],
        parameters: Vec<Value>,
    ) -> Result<Output, Stop> {
        self.hold_interrupts(statement).await?;
        let (mut execution, step) = self.engine(|engine, session, host| {
            let mut execution = engine.start(session, statement, types, parameters);
            let step = engine.step(host, session, &mut execution);
            (execution, step)
        })?;
        Ok(self.go_on(statement, &mut execution, step?, true).await?.0)
    }

    /// How much longer a statement takes at its end, where it can be interrupted.
    fn slowness(&self, statement: &Statement) -> Option<Duration> {
        self.shared.slowness().filter(|_| !statement.ends_transaction())
    }

    /// What ends a transaction takes its time before it has any effect, and only a death interrupts it then.
    async fn hold_interrupts(&mut self, statement: &Statement) -> Result<(), End> {
        let Some(slowness) = self.shared.slowness().filter(|_| statement.ends_transaction()) else { return Ok(()) };
        self.backend.activity.lock().wait = Some(("IO", "WALSync"));
        self.pause(slowness, Signals::DEADLY).await?;
        self.backend.activity.lock().wait = None;
        Ok(())
    }

    /// Runs a statement to its end whose first step was made. Unless it is `described`, RowDescription is sent when
    /// PostgreSQL does; whether that was before the end is given back.
    async fn go_on(
        &mut self,
        statement: &Statement,
        execution: &mut Execution,
        mut step: Step,
        mut described: bool,
    ) -> Result<(Output, bool), Stop> {
        let output = loop {
            match step {
                Step::Done(output) => break output,
                Step::Wait => self.wait_for_lock().await?,
                Step::Sleep(time) => self.sleep(time, ("Timeout", "PgSleep")).await?,
            }
            let next = self.engine(|engine, session, host| engine.step(host, session, execution))?;
            if !described && let Some(columns) = execution.described() {
                wire::row_description(&mut self.link.output, columns, &Formats::Text);
                described = true;
            }
            step = next?;
        };
        if let Some(slowness) = self.slowness(statement) {
            self.sleep(slowness, ("IO", "DataFileRead")).await?;
        }
        Ok((output, described))
    }

    /// Parse analysis and the revalidation of a prepared statement lock its tables, for the rest of the transaction.
    pub(super) async fn lock_for_analysis(
        &mut self,
        statement: &Arc<Statement>,
        oids: &[u32],
        of_parse: bool,
    ) -> Result<(), Stop> {
        while !self.engine(|engine, session, _| engine.lock_for_analysis(session, statement, oids, of_parse))?? {
            self.wait_for_lock().await?;
        }
        Ok(())
    }

    /// What a statement that ran without waiting finds at its end: it may have cancelled or terminated itself.
    pub(super) fn check_signals(&mut self) -> Result<(), Stop> {
        let pending = self.backend.pending();
        if pending == Signals::NONE {
            return Ok(());
        }
        if let Some(end) = ended_by(pending) {
            return Err(end.into());
        }
        if self.backend.take(Signals::CANCEL) {
            return Err(super::timeouts::cancelled().into());
        }
        Ok(())
    }

    pub(super) fn send_notices(&mut self, output: &Output) {
        for notice in &output.notices {
            wire::report(&mut self.link.output, notice);
            self.link.flush();
        }
    }

    /// DataRows; a large result is sent on its way as it grows. While the client does not read, a cancel request or
    /// `statement_timeout` waits for its turn; it ends the statement at the next row. (A real backend tries its blocked send
    /// again at each signal, and the kernel sometimes takes enough then to reach the next row.)
    pub(super) async fn send_rows(
        &mut self,
        columns: &[Column],
        rows: &[Vec<Value>],
        formats: &Formats,
    ) -> Result<(), Stop> {
        for row in rows {
            wire::data_row(&mut self.link.output, columns, row, formats);
            if self.link.is_full() {
                self.link.flush();
                self.send().await?;
                self.check_signals()?;
                self.check_statement_deadline()?;
            }
        }
        Ok(())
    }
}
