//! A psycopg2 connection, as far as a pool uses one: over tokio-postgres, with libpq's knowledge of the transaction.
//!
//! psycopg2 reads only when it waits for an answer, so a connection that died is good until it is used: what the driver's own
//! task has heard meanwhile is not looked at.
//!
//! A connection has a lock, which a statement holds from its implicit BEGIN to its end (`pq_execute` and `pq_abort` in
//! psycopg2's pqpath.c, `conn_close` in connection_int.c; the interpreter's lock is let go meanwhile). So a thread that closes
//! a connection, or rolls it back, waits for another one's statement on it. It can be anybody's where a pool lends one
//! connection to several (StaticPool), or closes what is lent (SingletonThreadPool).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use poolproof_sim::postgres::event::Pid;
use tokio::sync::{Mutex, MutexGuard};
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
    lock: Mutex<()>,
    /// Whose statement was the last.
    user: AtomicU64,
}

/// Who uses a connection, or ends its transaction. A statement that was given up is told from one that somebody waits for by
/// this: only its own user can have given it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) struct User(pub(in crate::pool) u64);

impl User {
    /// Whoever uses the connection: of a pool that lends each to one thread at a time.
    pub(in crate::pool) const ANY: User = User(0);
    /// None of its users.
    pub(in crate::pool) const NONE: User = User(u64::MAX);
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
    /// It waits for another one's statement, and sees then.
    Waits,
    /// It fails: the connection is closed.
    Closed,
}

impl Dbapi {
    pub(in crate::pool) async fn connect(connector: &Connector) -> Result<Arc<Dbapi>, tokio_postgres::Error> {
        let (Connection { client, task }, watch) = connector.connect_watched().await?;
        let pid = identify(&client);
        let (closed, lock, user) = (AtomicBool::new(false), Mutex::default(), AtomicU64::new(User::ANY.0));
        Ok(Arc::new(Dbapi { client, task, watch, pid, closed, lock, user }))
    }

    pub(in crate::pool) fn pid(&self) -> Pid {
        self.pid
    }

    /// The client, for statements of this user.
    pub(in crate::pool) fn client(&self, user: User) -> &Client {
        self.user.store(user.0, Ordering::Relaxed);
        &self.client
    }

    /// What `rollback()` or `commit()` of this user will do. In the middle of a statement that he gave up psycopg2 closes the
    /// connection.
    pub(in crate::pool) fn ending(&self, user: User) -> Ending {
        if self.closed.load(Ordering::Relaxed) {
            return Ending::Closed;
        }
        match self.watch.status() {
            TransactionStatus::Idle => Ending::Nothing,
            TransactionStatus::InTransaction | TransactionStatus::InError => Ending::RoundTrip,
            TransactionStatus::Active if self.user.load(Ordering::Relaxed) == user.0 => Ending::Closed,
            TransactionStatus::Active => Ending::Waits,
        }
    }

    /// Takes the lock, which may have to wait for the statement that another than this user has on it.
    async fn locked(&self, user: User) -> MutexGuard<'_, ()> {
        let lock = self.lock.lock().await;
        while self.ending(user) == Ending::Waits && !self.task.is_finished() {
            self.watch.at_rest().await;
            // Whoever waits for the answer hears it first.
            tokio::task::yield_now().await;
        }
        lock
    }

    /// Runs a statement.
    async fn execute(&self, statement: &str) -> Result<(), DbapiError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(DbapiError::AlreadyClosed);
        }
        self.client.batch_execute(statement).await.map_err(|error| self.failed(error))
    }

    /// A statement failed. Where it found the connection gone, psycopg2 knows it as closed from then on.
    pub(in crate::pool) fn heard(&self, error: &tokio_postgres::Error) {
        if is_disconnect(error) {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: tokio_postgres::Error) -> DbapiError {
        self.heard(&error);
        DbapiError::Driver(error)
    }

    /// `cursor().execute(statement)`: in a transaction, with a BEGIN before it if there is none. The first value of the first
    /// row, if there is one.
    pub(in crate::pool) async fn query(&self, user: User, statement: &str) -> Result<Option<String>, DbapiError> {
        let _lock = self.lock.lock().await;
        self.user.store(user.0, Ordering::Relaxed);
        if self.ending(user) == Ending::Nothing {
            self.execute("BEGIN").await?;
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(DbapiError::AlreadyClosed);
        }
        let messages = self.client.simple_query(statement).await.map_err(|error| self.failed(error))?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// `commit()` or `rollback()`: nothing outside of a transaction.
    pub(in crate::pool) async fn end_transaction(&self, user: User, statement: &str) -> Result<(), DbapiError> {
        let _lock = self.locked(user).await;
        match self.ending(user) {
            Ending::Nothing => Ok(()),
            Ending::Closed => Err(DbapiError::AlreadyClosed),
            Ending::RoundTrip | Ending::Waits => {
                self.user.store(user.0, Ordering::Relaxed);
                self.execute(statement).await
            }
        }
    }

    /// The dialect's `do_ping`, which begins by setting `autocommit`.
    pub(in crate::pool) async fn ping(&self) -> Result<(), DbapiError> {
        if self.ending(User::ANY) == Ending::RoundTrip {
            return Err(DbapiError::InsideTransaction);
        }
        self.execute("SELECT 1").await
    }

    /// `close()`: waits for another one's statement, then closes. Dropped before its end, it goes on.
    pub(in crate::pool) async fn close_at_rest(self: Arc<Self>, user: User) {
        if self.ending(user) != Ending::Waits && self.lock.try_lock().is_ok() {
            return self.close();
        }
        // A task of its own, which nobody can cancel; that it ends is all there is to know.
        let closing = async move {
            drop(self.locked(user).await);
            self.close();
        };
        let _ended = tokio::spawn(closing).await;
    }

    /// `close()` of a connection that nobody else has a statement on: Terminate and a FIN, at once. Whoever still has it gets
    /// errors.
    pub(in crate::pool) fn close(self: Arc<Self>) {
        self.closed.store(true, Ordering::Relaxed);
        if let Err(shared) = Arc::try_unwrap(self) {
            // The driver sends Terminate when its client is dropped; this one somebody has yet.
            shared.task.abort();
        }
    }
}

impl Drop for Dbapi {
    /// The socket is closed at once (`PQfinish`). The driver here would wait for the answer to what was sent.
    fn drop(&mut self) {
        if self.watch.status() == TransactionStatus::Active {
            self.task.abort();
        }
    }
}
