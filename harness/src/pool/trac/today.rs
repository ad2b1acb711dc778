//! `ConnectionPoolBackend` of Trac 1.6.
//!
//! What follows from its code, and is so here:
//!
//! - A wait has no timeout: `get_cnx(timeout)` does not use its argument. A woken waiter that finds nothing ends with
//!   `TimeoutError`, whose text names the time that has passed.
//! - While anybody waits, a newcomer waits too, even if there is room.
//! - A connect that fails makes room and notifies nobody.
//! - During the rollback of a return a connection is neither active nor in the pool, so that another one may be opened in its
//!   place: more than `maxsize`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection_pool::{CloseError, Config, Error};
use super::flaw::Flaw;
use crate::pool::python::condition::Condition;
use crate::pool::python::psycopg2::{Dbapi, DbapiError, User};
use crate::pool::{Caller, Connector, PoolErrorKind, Status, caller};

/// The pool.
pub(super) struct Backend {
    connector: Connector,
    config: Config,
    state: Mutex<State>,
    available: Condition,
}

#[derive(Default)]
struct State {
    /// What each thread has, and how often. A connection that is being opened or pinged is not there yet.
    active: BTreeMap<Caller, (Option<Arc<Dbapi>>, u32)>,
    /// The one returned first at the front.
    pool: VecDeque<Arc<Dbapi>>,
    waiters: u32,
}

/// What `_take_cnx` says is to be done without the lock.
enum Deferred {
    Ping(Arc<Dbapi>),
    Create,
}

impl Backend {
    pub(super) fn new(connector: Connector, config: Config) -> Arc<Backend> {
        let (state, available) = (Mutex::default(), Condition::default());
        Arc::new(Backend { connector, config, state, available })
    }

    /// `get_cnx`
    pub(super) async fn get_cnx(self: &Arc<Self>) -> Result<Arc<Dbapi>, Error> {
        let start = Instant::now();
        loop {
            let thread = caller();
            if let Some(mine) = self.again(thread) {
                return Ok(mine);
            }
            let deferred = match self.take_unless_others_wait(thread) {
                Some(deferred) => deferred,
                None => match self.wait(thread).await {
                    Some(deferred) => deferred,
                    None => return Err(too_late(start, PoolErrorKind::Timeout)),
                },
            };
            let placeholder = Placeholder(Some((self, thread)));
            let connection = match deferred {
                Deferred::Create => match self.config.connect(&self.connector).await {
                    Ok(connection) => connection,
                    Err(_) => {
                        drop(placeholder);
                        if self.config.flawed(Flaw::FailedConnectWakes) {
                            self.available.notify();
                        }
                        return Err(too_late(start, PoolErrorKind::Connect));
                    }
                },
                Deferred::Ping(connection) => match self.ping(&connection).await {
                    Ok(()) => connection,
                    Err(_) => continue, // The connection is garbage, and the next is tried.
                },
            };
            placeholder.replace(&connection);
            return Ok(connection);
        }
    }

    async fn ping(&self, connection: &Dbapi) -> Result<(), DbapiError> {
        if self.config.flawed(Flaw::NoPing) {
            return Ok(());
        }
        self.config.tell("ping", connection);
        if self.config.implicit_begin {
            connection.query(User::ANY, "SELECT 1").await.map(drop)
        } else {
            connection.ping().await
        }
    }

    /// The connection that the thread has already, once more.
    fn again(&self, thread: Caller) -> Option<Arc<Dbapi>> {
        let mut state = self.state.lock();
        let (connection, number) = state.active.get_mut(&thread)?;
        let connection = connection.clone()?;
        *number += 1;
        Some(connection)
    }

    fn take_unless_others_wait(&self, thread: Caller) -> Option<Deferred> {
        let mut state = self.state.lock();
        if state.waiters > 0 { None } else { state.take(thread, &self.config) }
    }

    /// `_available.wait()`, once, and one more look.
    async fn wait(&self, thread: Caller) -> Option<Deferred> {
        self.state.lock().waiters += 1;
        let waiter = Waiter(self);
        self.available.wait(None).await;
        drop(waiter);
        self.state.lock().take(thread, &self.config)
    }

    /// `_return_cnx`
    pub(super) async fn return_cnx(&self, thread: Caller) -> Result<(), CloseError> {
        if let Some(connection) = self.begin_return(thread)? {
            let rollback = self.config.roll_back(&connection).await;
            self.finish_return(connection, rollback);
        }
        Ok(())
    }

    /// `_return_cnx`, up to the rollback: answers the connection when it is the thread's last return of it.
    pub(super) fn begin_return(&self, thread: Caller) -> Result<Option<Arc<Dbapi>>, CloseError> {
        let mut state = self.state.lock();
        let (connection, number) = state.active.get_mut(&thread).ok_or(CloseError::Assertion)?;
        if *number > 1 {
            *number -= 1;
            return Ok(None);
        }
        let connection = connection.take();
        state.active.remove(&thread);
        Ok(connection)
    }

    /// `_return_cnx`, after the rollback.
    pub(super) fn finish_return(&self, connection: Arc<Dbapi>, rollback: Result<(), DbapiError>) {
        match rollback {
            Ok(()) => self.state.lock().pool.push_back(connection),
            Err(_) => {
                self.config.tell("close", &connection);
                connection.close();
            }
        }
        self.available.notify();
    }

    /// `shutdown()`: closes what is lent and what is pooled, and notifies nobody.
    pub(super) async fn shutdown(&self) {
        let all: Vec<Arc<Dbapi>> = {
            let mut state = self.state.lock();
            let active = std::mem::take(&mut state.active).into_values().filter_map(|(connection, _)| connection);
            active.chain(std::mem::take(&mut state.pool)).collect()
        };
        for connection in all {
            self.config.tell("close", &connection);
            connection.close_at_rest(User::NONE).await;
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state.lock();
        let count = |n: usize| u32::try_from(n).ok();
        Status {
            idle: count(state.pool.len()),
            in_use: count(state.active.len()),
            waiting: Some(state.waiters),
            ..Status::default()
        }
    }
}

impl State {
    /// `_take_cnx`, with a placeholder for what it takes.
    fn take(&mut self, thread: Caller, config: &Config) -> Option<Deferred> {
        let lifo = config.flawed(Flaw::LifoForFifo);
        let deferred = match if lifo { self.pool.pop_back() } else { self.pool.pop_front() } {
            Some(connection) => Deferred::Ping(connection),
            None if self.active.len() < config.max_size as usize => Deferred::Create,
            None => return None,
        };
        self.active.insert(thread, (None, 1));
        Some(deferred)
    }
}

fn too_late(start: Instant, kind: PoolErrorKind) -> Error {
    let message = format!("Unable to get database connection within {} seconds.", start.elapsed().as_secs());
    Error::Timeout { kind, message }
}

/// One that waits.
struct Waiter<'a>(&'a Backend);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiters -= 1;
    }
}

/// A thread's entry whose connection is not there yet. Dropped, it is cleared, and nobody is told.
struct Placeholder<'a>(Option<(&'a Backend, Caller)>);

impl Placeholder<'_> {
    fn replace(mut self, connection: &Arc<Dbapi>) {
        if let Some((backend, thread)) = self.0.take() {
            backend.state.lock().active.insert(thread, (Some(Arc::clone(connection)), 1));
        }
    }
}

impl Drop for Placeholder<'_> {
    fn drop(&mut self) {
        if let Some((backend, thread)) = self.0.take() {
            backend.state.lock().active.remove(&thread);
        }
    }
}
