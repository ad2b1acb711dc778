//! `ConnectionPool` of Trac's trunk on 29 March 2006 (SVN r3060 or so, on the way from 0.9 to 0.10).
//!
//! What follows from its code, and is so here:
//!
//! - One lock is held over everything but the wait, a connect and a rollback included: while one thread dials, nobody returns.
//! - A wait has a timeout if the caller gave one; Trac itself gave none. A wake-up that comes when the timeout has passed since
//!   the start is in vain.
//! - A dead connection is lent again: nothing looks at it. A rollback that fails on it raises out of `close()`: the
//!   connection counts for ever, and is in nobody's hands.
//! - A return counts for the thread that does it. A collector that runs in another thread returns nothing.
//!
//! Its lock was not reentrant (from January to October 2006), so a collection that ran inside it, and found a lost connection
//! of the pool, hung the process for ever: see [`Pool::holds_plain_lock`](crate::pool::Pool::holds_plain_lock).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pool::error::describe;
use crate::pool::python::condition::Condition;
use crate::pool::python::psycopg2::{Dbapi, DbapiError};
use crate::pool::{Caller, Connector, PoolError, PoolErrorKind, Status, caller};

/// The pool.
pub(super) struct OldPool {
    connector: Connector,
    max_size: u32,
    timeout: Option<Duration>,
    /// `_available`'s lock.
    lock: tokio::sync::Mutex<()>,
    available: Condition,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `_dormant`; the one returned last is taken first.
    dormant: Vec<Arc<Dbapi>>,
    /// `_active`: how often each thread has which.
    active: BTreeMap<Caller, (u32, Arc<Dbapi>)>,
    /// `_cursize`
    size: u32,
}

impl OldPool {
    pub(super) fn new(connector: Connector, max_size: u32, timeout: Option<Duration>) -> Arc<OldPool> {
        let (lock, available, state) = (tokio::sync::Mutex::new(()), Condition::default(), Mutex::default());
        Arc::new(OldPool { connector, max_size, timeout, lock, available, state })
    }

    /// `get_cnx`
    pub(super) async fn get_cnx(&self) -> Result<Arc<Dbapi>, PoolError> {
        let start = Instant::now();
        let mut locked = self.lock.lock().await;
        let thread = caller();
        if let Some((number, connection)) = self.state.lock().active.get_mut(&thread) {
            *number += 1;
            return Ok(Arc::clone(connection));
        }
        let connection = loop {
            let dormant = self.state.lock().dormant.pop();
            if let Some(connection) = dormant {
                break connection;
            }
            if self.state.lock().size < self.max_size {
                let connection = Dbapi::connect(&self.connector)
                    .await
                    .map_err(|error| PoolError { kind: PoolErrorKind::Connect, message: describe(&error) })?;
                self.state.lock().size += 1;
                break connection;
            }
            let end = self.timeout.map(|timeout| Instant::now() + timeout);
            drop(locked);
            self.available.wait(end).await;
            locked = self.lock.lock().await;
            if let Some(timeout) = self.timeout.filter(|timeout| start.elapsed() >= *timeout) {
                let message = format!("Unable to get database connection within {} seconds", timeout.as_secs());
                return Err(PoolError { kind: PoolErrorKind::Timeout, message });
            }
        };
        drop(locked);
        self.state.lock().active.insert(thread, (1, Arc::clone(&connection)));
        Ok(connection)
    }

    /// `_return_cnx`, in the name of the thread that calls it.
    pub(super) async fn return_cnx(&self, thread: Caller, connection: &Arc<Dbapi>) {
        let _locked = self.lock.lock().await;
        {
            let mut state = self.state.lock();
            let Some((number, active)) = state.active.get_mut(&thread) else { return };
            if !Arc::ptr_eq(active, connection) {
                return; // An AssertionError, which the interpreter ignores in `__del__`.
            }
            if *number > 1 {
                *number -= 1;
                return;
            }
            state.active.remove(&thread);
        }
        if self.roll_back(connection).await.is_ok() {
            self.state.lock().dormant.push(Arc::clone(connection));
            self.available.notify();
        }
    }

    async fn roll_back(&self, connection: &Dbapi) -> Result<(), DbapiError> {
        connection.end_transaction("ROLLBACK").await
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state.lock();
        let count = |n: usize| u32::try_from(n).ok();
        Status {
            size: Some(state.size),
            idle: count(state.dormant.len()),
            in_use: count(state.active.len()),
            waiting: count(self.available.waiting()),
            max_size: Some(self.max_size),
        }
    }
}
