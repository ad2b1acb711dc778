//! `ConnectionPool` and `PooledConnection`: what is the same today and in 2006.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::Pid;
use tokio_postgres::Client;

use super::adapter::Trac;
use super::flaw::Flaw;
use super::of_2006::OldPool;
use super::today::Backend;
use crate::pool::error::describe;
use crate::pool::python::psycopg2::{Dbapi, DbapiError, User};
use crate::pool::{Caller, Connector, PoolError, PoolErrorKind, Status, caller};

/// A pool's settings.
#[derive(Clone)]
pub struct Config {
    /// `maxsize`
    pub max_size: u32,
    /// What `get_cnx` is given. 1.6 does not use it.
    pub timeout: Option<Duration>,
    /// Whether 1.6's ping begins a transaction, as every statement of psycopg2 does. Scenarios say `begin` themselves.
    pub implicit_begin: bool,
    /// Told of what the pool does with a connection, in order.
    pub listener: Option<Listener>,
    /// A deliberate mistake.
    pub flaw: Option<Flaw>,
}

/// Told what a pool does with a connection: `connect`, `ping`, `rollback`, `close`.
pub type Listener = Arc<dyn Fn(&'static str, Pid) + Send + Sync>;

impl Config {
    pub(super) fn tell(&self, what: &'static str, connection: &Dbapi) {
        if let Some(listener) = &self.listener {
            listener(what, connection.pid());
        }
    }

    pub(super) fn flawed(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) async fn connect(&self, connector: &Connector) -> Result<Arc<Dbapi>, tokio_postgres::Error> {
        let connection = Dbapi::connect(connector).await?;
        self.tell("connect", &connection);
        Ok(connection)
    }

    pub(super) async fn roll_back(&self, connection: &Dbapi) -> Result<(), DbapiError> {
        self.tell("rollback", connection);
        if self.flawed(Flaw::NoRollback) {
            return Ok(());
        }
        connection.end_transaction(User::ANY, "ROLLBACK").await
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Error {
    /// `TimeoutError`: of a wait, or today of a connect that failed.
    Timeout {
        /// Which of the two.
        kind: PoolErrorKind,
        /// Its text.
        message: String,
    },
    /// In 2006: psycopg2's own, of a connect that failed.
    Connect(tokio_postgres::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Timeout { message, .. } => f.write_str(message),
            Error::Connect(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for PoolError {
    fn from(error: Error) -> PoolError {
        let kind = match &error {
            Error::Timeout { kind, .. } => *kind,
            Error::Connect(_) => PoolErrorKind::Connect,
        };
        PoolError { kind, message: error.to_string() }
    }
}

/// What comes out of `close()`.
#[derive(Debug)]
pub enum CloseError {
    /// `AssertionError`: the connection is not the one that is lent to the thread.
    Assertion,
    /// In 2006: psycopg2's, of the rollback.
    Driver(DbapiError),
}

/// A pool.
#[derive(Clone)]
pub struct ConnectionPool(Kind);

#[derive(Clone)]
enum Kind {
    Today(Arc<Backend>),
    Of2006(Arc<OldPool>),
}

impl ConnectionPool {
    /// An empty one.
    #[must_use]
    pub fn new(which: Trac, config: Config, connector: Connector) -> ConnectionPool {
        ConnectionPool(match which {
            Trac::Today => Kind::Today(Backend::new(connector, config)),
            Trac::Of2006 => Kind::Of2006(OldPool::new(connector, config)),
        })
    }

    /// `get_cnx`, of the thread that calls.
    ///
    /// # Errors
    /// Trac's own, and the driver's.
    pub async fn get_cnx(&self) -> Result<PooledConnection, Error> {
        let connection = match &self.0 {
            Kind::Today(pool) => pool.get_cnx().await?,
            Kind::Of2006(pool) => pool.get_cnx().await?,
        };
        Ok(PooledConnection { pool: self.clone(), connection: Some(connection), thread: caller() })
    }

    /// `shutdown()`
    pub async fn shutdown(&self) {
        match &self.0 {
            Kind::Today(pool) => pool.shutdown().await,
            Kind::Of2006(pool) => pool.shutdown().await,
        }
    }

    /// Its counters.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.0 {
            Kind::Today(pool) => pool.status(),
            Kind::Of2006(pool) => pool.status(),
        }
    }

    /// How many wait for a return.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.status().waiting.unwrap_or(0)
    }

    pub(super) fn holds_plain_lock(&self) -> bool {
        matches!(self.0, Kind::Of2006(_))
    }

    /// `_return_cnx`
    async fn return_cnx(self, connection: Arc<Dbapi>, thread: Caller) -> Result<(), CloseError> {
        match self.0 {
            Kind::Today(pool) => pool.return_cnx(thread).await,
            Kind::Of2006(pool) => pool.return_cnx(thread, &connection).await,
        }
    }
}

/// `PooledConnection`
pub struct PooledConnection {
    pool: ConnectionPool,
    connection: Option<Arc<Dbapi>>,
    /// `_tid`: who took it.
    thread: Caller,
}

impl PooledConnection {
    fn connection(&self) -> &Dbapi {
        self.connection.as_ref().expect("it has its connection until it is closed")
    }

    /// The driver's client.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.connection().client(User::ANY)
    }

    /// Its backend's pid; `None` once it is closed.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.connection.as_ref().map(|connection| connection.pid())
    }

    /// `cursor().execute(statement)` of psycopg2, which begins a transaction if there is none. Answers the first value of the
    /// first row, if there is one.
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn execute(&self, statement: &str) -> Result<Option<String>, DbapiError> {
        self.connection().query(User::ANY, statement).await
    }

    pub(super) fn heard(&self, error: &tokio_postgres::Error) {
        self.connection().heard(error);
    }

    /// `commit()`
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn commit(&self) -> Result<(), DbapiError> {
        self.connection().end_transaction(User::ANY, "COMMIT").await
    }

    /// `rollback()`
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn rollback(&self) -> Result<(), DbapiError> {
        self.connection().end_transaction(User::ANY, "ROLLBACK").await
    }

    /// `close()`. Dropped before its end, the return goes on. A second one does nothing.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub async fn close(&mut self) -> Result<(), CloseError> {
        match self.returning() {
            // A task of its own, which nobody can cancel; without an end it has no error.
            Some(returning) => tokio::spawn(returning).await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// The return, for whoever does it now.
    fn returning(&mut self) -> Option<impl Future<Output = Result<(), CloseError>> + Send + 'static> {
        let connection = self.connection.take()?;
        let thread = match &self.pool.0 {
            Kind::Today(_) => self.thread,
            Kind::Of2006(pool) if pool.config.flawed(Flaw::AnybodyReturns) => self.thread,
            Kind::Of2006(_) => caller(),
        };
        Some(self.pool.clone().return_cnx(connection, thread))
    }
}

impl Drop for PooledConnection {
    /// `__del__`
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(returning) = self.returning()
        {
            runtime.spawn(returning);
        }
    }
}
