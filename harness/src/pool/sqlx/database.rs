//! A `sqlx_core::database::Database` whose connections are tokio-postgres' over the connector, with what a pool asks of one:
//! connect, ping, close, close_hard, and drop. Each does what sqlx-postgres 0.9 does:
//!
//! - A ping is a Sync and its answer, behind the answers to statements that were given up (`PgConnection::ping`).
//! - `close` sends Terminate and a FIN, `close_hard` and a drop a FIN alone. One difference: while an answer is due,
//!   tokio-postgres waits for it before it sends Terminate, sqlx-postgres doesn't.
//! - What a dial meets is told so that `PoolInner::connect` treats it alike: refused connects and the SQLSTATEs 53300 and
//!   57P03 are tried again, all else is passed on (`PgDatabaseError::is_transient_in_connect_phase`).
//!
//! sqlx's queries and transactions are left out: actors send their statements on the client themselves.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use sqlx_core::Url;
use sqlx_core::connection::{ConnectOptions, Connection};
use sqlx_core::database::Database;
use sqlx_core::error::{DatabaseError, Error, ErrorKind};
use sqlx_core::sql_str::SqlStr;
use sqlx_core::transaction::{Transaction, TransactionManager};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::never::{Never, NoArguments, NoResult};
use crate::pool::Connector;
use crate::pool::error::describe;

/// The database.
#[derive(Debug)]
pub(super) struct TokioPostgres;

impl Database for TokioPostgres {
    type Connection = Session;
    type TransactionManager = NoTransactions;
    type Row = Never;
    type QueryResult = NoResult;
    type Column = Never;
    type TypeInfo = Never;
    type Value = Never;
    type ValueRef<'r> = Never;
    type Arguments = NoArguments;
    type ArgumentBuffer = ();
    type Statement = Never;

    const NAME: &'static str = "tokio-postgres";
    const URL_SCHEMES: &'static [&'static str] = &[];
}

/// What to connect to.
#[derive(Clone)]
pub(super) struct Options(pub(super) Connector);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options")
    }
}

impl FromStr for Options {
    type Err = Error;

    fn from_str(_: &str) -> Result<Self, Error> {
        Err(left_out("URLs"))
    }
}

impl ConnectOptions for Options {
    type Connection = Session;

    fn from_url(_: &Url) -> Result<Self, Error> {
        Err(left_out("URLs"))
    }

    async fn connect(&self) -> Result<Session, Error> {
        let connection = self.0.connect().await.map_err(as_sqlx)?;
        Ok(Session { client: Some(connection.client), task: connection.task })
    }

    fn log_statements(self, _: LevelFilter) -> Self {
        self
    }

    fn log_slow_statements(self, _: LevelFilter, _: Duration) -> Self {
        self
    }
}

/// A connection.
pub(super) struct Session {
    /// `None` while it is being closed.
    client: Option<Client>,
    /// Moves its bytes.
    task: JoinHandle<()>,
}

impl Session {
    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("closing takes the session itself")
    }

    /// Sends one statement by the simple query protocol.
    pub(super) async fn execute(&self, statement: &str) -> Result<(), Error> {
        self.client().batch_execute(statement).await.map_err(as_sqlx)
    }
}

/// Closes the stream without Terminate, as a socket that is dropped.
impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection for Session {
    type Database = TokioPostgres;
    type Options = Options;

    async fn close(mut self) -> Result<(), Error> {
        self.client = None;
        // How the connection ended is told to the trace.
        let _ = (&mut self.task).await;
        Ok(())
    }

    async fn close_hard(self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.client().check_connection().await.map_err(as_sqlx)
    }

    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_, TokioPostgres>, Error>> + Send + '_ {
        Transaction::begin(self, None)
    }

    fn shrink_buffers(&mut self) {}

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn should_flush(&self) -> bool {
        false
    }
}

/// Refuses to begin one.
pub(super) struct NoTransactions;

impl TransactionManager for NoTransactions {
    type Database = TokioPostgres;

    async fn begin(_: &mut Session, _: Option<SqlStr>) -> Result<(), Error> {
        Err(left_out("transactions"))
    }

    async fn commit(_: &mut Session) -> Result<(), Error> {
        Err(left_out("transactions"))
    }

    async fn rollback(_: &mut Session) -> Result<(), Error> {
        Err(left_out("transactions"))
    }

    fn start_rollback(_: &mut Session) {}

    fn get_transaction_depth(_: &Session) -> usize {
        0
    }
}

fn left_out(what: &str) -> Error {
    Error::Configuration(format!("{what} of sqlx are left out: statements are sent on the client").into())
}

/// The driver's error as sqlx-postgres would report it.
fn as_sqlx(error: tokio_postgres::Error) -> Error {
    if error.as_db_error().is_some() {
        return Error::Database(Box::new(Refusal(error)));
    }
    if error.is_closed() {
        return Error::Io(io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()));
    }
    let text = describe(&error);
    match error.into_source().map(|source| source.downcast::<io::Error>()) {
        Some(Ok(error)) => Error::Io(*error),
        _ => Error::Protocol(text),
    }
}

/// An error that the server reported.
#[derive(Debug)]
struct Refusal(tokio_postgres::Error);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Refusal {}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        self.0.as_db_error().map_or("", |error| error.message())
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.0.code().map(|code| Cow::Borrowed(code.code()))
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn is_transient_in_connect_phase(&self) -> bool {
        self.0.code().is_some_and(|code| ["53300", "57P03"].contains(&code.code()))
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
