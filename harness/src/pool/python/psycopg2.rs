//! A psycopg2 connection, as far as a pool uses one: over tokio-postgres, with libpq's knowledge of the transaction.
//!
//! psycopg2 reads only when it waits for an answer, so a connection that died is good until it is used: what the driver's own
//! task has heard meanwhile is not looked at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use poolproof_sim::postgres::event::Pid;
use tokio::task::JoinHandle;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::pool::Connector;
use crate::pool::connector::{Connection, identify};
use crate::pool::error::describe;
use crate::pool::transaction::{TransactionStatus, TransactionWatch};

/// An open connection.
pub(in crate::pool) struct Dbapi {
    client: Client,
    task: JoinHandle<()>,
    watch: Arc<TransactionWatch>,
    pid: Pid,
    closed: AtomicBool,
}

/// An error of psycopg2's.
#[derive(Debug)]
pub enum DbapiError {
    /// `InterfaceError: connection already closed`.
    AlreadyClosed,
    /// `ProgrammingError: set_session cannot be used inside a transaction`.
    InsideTransaction,
    /// Whatever the driver reports.
    Driver(tokio_postgres::Error),
}

impl fmt::Display for DbapiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DbapiError::AlreadyClosed => f.write_str("connection already closed"),
            DbapiError::InsideTransaction => f.write_str("set_session cannot be used inside a transaction"),
            DbapiError::Driver(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for DbapiError {}

impl DbapiError {
    /// The psycopg2 dialect's `is_disconnect`.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            DbapiError::AlreadyClosed => true,
            DbapiError::InsideTransaction => false,
            DbapiError::Driver(error) => is_disconnect(error),
        }
    }
}

/// Whether the connection is gone, and not only the statement refused.
pub(in crate::pool) fn is_disconnect(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        None => true,
        Some(error) => matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
    }
}

/// What a rollback or commit has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Ending {
    /// Nothing is sent outside of a transaction.
    Nothing,
    /// A statement, and its answer.
    RoundTrip,
    /// It fails: the connection is closed.
    Closed,
}

impl Dbapi {
    pub(in crate::pool) async fn connect(connector: &Connector) -> Result<Arc<Dbapi>, tokio_postgres::Error> {
        let (Connection { client, task }, watch) = connector.connect_watched().await?;
        let pid = identify(&client);
        Ok(Arc::new(Dbapi { client, task, watch, pid, closed: AtomicBool::new(false) }))
    }

    pub(in crate::pool) fn pid(&self) -> Pid {
        self.pid
    }

    pub(in crate::pool) fn client(&self) -> &Client {
        &self.client
    }

    /// What `rollback()` or `commit()` will do. In the middle of a statement psycopg2 closes the connection.
    pub(in crate::pool) fn ending(&self) -> Ending {
        if self.closed.load(Ordering::Relaxed) {
            return Ending::Closed;
        }
        match self.watch.status() {
            TransactionStatus::Idle => Ending::Nothing,
            TransactionStatus::InTransaction | TransactionStatus::InError => Ending::RoundTrip,
            TransactionStatus::Active => Ending::Closed,
        }
    }

    /// Runs a statement.
    pub(in crate::pool) async fn execute(&self, statement: &str) -> Result<(), DbapiError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(DbapiError::AlreadyClosed);
        }
        self.client.batch_execute(statement).await.map_err(DbapiError::Driver)
    }

    /// `cursor().execute(statement)`: in a transaction, with a BEGIN before it if there is none. The first value of the first
    /// row, if there is one.
    pub(in crate::pool) async fn query(&self, statement: &str) -> Result<Option<String>, DbapiError> {
        if self.ending() == Ending::Nothing {
            self.execute("BEGIN").await?;
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(DbapiError::AlreadyClosed);
        }
        let messages = self.client.simple_query(statement).await.map_err(DbapiError::Driver)?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// `commit()` or `rollback()`: nothing outside of a transaction.
    pub(in crate::pool) async fn end_transaction(&self, statement: &str) -> Result<(), DbapiError> {
        match self.ending() {
            Ending::Nothing => Ok(()),
            Ending::Closed => Err(DbapiError::AlreadyClosed),
            Ending::RoundTrip => self.execute(statement).await,
        }
    }

    /// The dialect's `do_ping`, which begins by setting `autocommit`.
    pub(in crate::pool) async fn ping(&self) -> Result<(), DbapiError> {
        if self.ending() == Ending::RoundTrip {
            return Err(DbapiError::InsideTransaction);
        }
        self.execute("SELECT 1").await
    }

    /// `close()`: Terminate and a FIN, at once. Whoever still has the connection gets errors.
    ///
    /// A statement that another thread runs on it meanwhile is cut here. psycopg2 waits for its end (`conn_close` takes the
    /// connection's lock): SingletonThreadPool and StaticPool can get there, when they close what is lent.
    pub(in crate::pool) fn close(self: Arc<Self>) {
        self.closed.store(true, Ordering::Relaxed);
        if let Err(shared) = Arc::try_unwrap(self) {
            // The driver sends Terminate when its client is dropped; this one somebody has yet.
            shared.task.abort();
        }
    }
}
