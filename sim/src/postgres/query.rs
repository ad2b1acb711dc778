//! The simple query, and how a statement of either protocol runs: step by step, waiting where the engine says so.
//!
//! A simple query of several statements runs in one implicit transaction; an error ends it and the rest is not run
//! (`exec_simple_query`). A query's RowDescription is sent when it begins to run, so it comes before the error of one that
//! fails in a row or is ended while it waits; not before an error of analysis or planning, or of a statement that
//! collects its rows first (RETURNING). Left out: rows are sent when the statement is complete, not while it runs, so
//! those before the one that fails are not sent.

use std::sync::Arc;

use super::activity::Signals;
use super::error::{PgError, SqlState};
use super::event::BackendState;
use super::link::Socket;
use super::session::{Connection, Stop};
use super::sql::{Column, Execution, Framing, Output, Statement, Step, Value};
use super::transaction::TransactionStatus;
use super::wire::{self, Bare, Formats};

impl<S: Socket> Connection<S> {
    /// `exec_simple_query`. ReadyForQuery is the caller's.
    pub(super) async fn simple_query(&mut self, text: String) -> Result<(), Stop> {
        self.portals.drop_unnamed();
        let script = match self.engine(|engine, _, _| engine.parse(&text))? {
            Ok(script) => script,
            Err(error) => {
                let text = Arc::from(text);
                self.set_state(BackendState::Active, Some(&text));
                self.announce(&text);
                // The transaction it would have begun is the one that fails.
                self.engine(|engine, session, host| engine.statement_begin(host, session, Framing::Single))?;
                return Err(error.into());
            }
        };
        let Some(last) = script.statements.len().checked_sub(1) else {
            self.set_state(BackendState::Active, Some(&Arc::from(text)));
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
            let mut execution = self.engine(|engine, session, host| {
                engine.statement_begin(host, session, framing);
                engine.start(session, statement, &[], Vec::new())
            })?;
            let (output, described) = self.run_statement(&mut execution, true).await?;
            if let Some(rows) = &output.rows {
                if !described {
                    wire::row_description(&mut self.link.output, &rows.columns, &Formats::Text);
                }
                self.send_rows(&rows.columns, &rows.rows, &Formats::Text).await?;
            }
            self.send_notices(&output);
            self.check_signals()?;
            if index == last || statement.is_transaction_control() {
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

    /// Runs a statement to its end. With `describe`, RowDescription is sent when PostgreSQL does; whether that was before
    /// the end is given back.
    pub(super) async fn run_statement(
        &mut self,
        execution: &mut Execution,
        describe: bool,
    ) -> Result<(Output, bool), Stop> {
        let mut described = false;
        let output = loop {
            let step = self.engine(|engine, session, host| engine.step(host, session, execution))?;
            if describe
                && !described
                && let Some(columns) = execution.described()
            {
                wire::row_description(&mut self.link.output, columns, &Formats::Text);
                described = true;
            }
            match step? {
                Step::Done(output) => break output,
                Step::Wait => self.wait_for_lock().await?,
                Step::Sleep(time) => self.sleep(time, ("Timeout", "PgSleep")).await?,
            }
        };
        if let Some(slowness) = self.shared.slowness() {
            self.sleep(slowness, ("IO", "DataFileRead")).await?;
        }
        Ok((output, described))
    }

    /// Parse analysis and the revalidation of a prepared statement lock its tables, for the rest of the transaction.
    pub(super) async fn lock_for_analysis(&mut self, statement: &Arc<Statement>, oids: &[u32]) -> Result<(), Stop> {
        while !self.engine(|engine, session, _| engine.lock_for_analysis(session, statement, oids))?? {
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
        if let Some(end) = super::session::ended_by(pending) {
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
    /// `statement_timeout` waits for its turn; it ends the statement at the next row.
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
