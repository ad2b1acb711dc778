//! `ConnectionPool` of Trac's trunk on 29 March 2006 (SVN r3072, on the way from 0.9 to 0.10).
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

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection_pool::{CloseError, Config, Error};
use super::flaw::Flaw;
use crate::pool::python::condition::Condition;
use crate::pool::python::psycopg2::{Dbapi, User};
use crate::pool::{Caller, Connector, PoolErrorKind, Status, caller};

/// The pool.
pub(super) struct OldPool {
    connector: Connector,
    pub(super) config: Config,
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
    pub(super) fn new(connector: Connector, config: Config) -> Arc<OldPool> {
        let (lock, available, state) = (tokio::sync::Mutex::new(()), Condition::default(), Mutex::default());
        Arc::new(OldPool { connector, config, lock, available, state })
    }

    /// `get_cnx`
    pub(super) async fn get_cnx(&self) -> Result<Arc<Dbapi>, Error> {
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
            if self.state.lock().size < self.config.max_size {
                let connection = self.config.connect(&self.connector).await.map_err(Error::Connect)?;
                self.state.lock().size += 1;
                break connection;
            }
            let end = self.config.timeout.map(|timeout| Instant::now() + timeout);
            drop(locked);
            self.available.wait(end).await;
            locked = self.lock.lock().await;
            if let Some(timeout) = self.config.timeout.filter(|timeout| start.elapsed() >= *timeout) {
                let message = format!("Unable to get database connection within {} seconds", timeout.as_secs());
                return Err(Error::Timeout { kind: PoolErrorKind::Timeout, message });
            }
        };
        drop(locked);
        self.state.lock().active.insert(thread, (1, Arc::clone(&connection)));
        Ok(connection)
    }

    /// `_return_cnx`, in the name of the thread that calls it.
    pub(super) async fn return_cnx(&self, thread: Caller, connection: &Arc<Dbapi>) -> Result<(), CloseError> {
        let _locked = self.lock.lock().await;
        {
            let mut state = self.state.lock();
            let Some((number, active)) = state.active.get_mut(&thread) else { return Ok(()) };
            if !Arc::ptr_eq(active, connection) {
                return Err(CloseError::Assertion);
            }
            if *number > 1 {
                *number -= 1;
                return Ok(());
            }
            state.active.remove(&thread);
        }
        let rollback = self.config.roll_back(connection).await;
        if rollback.is_err() && self.config.flawed(Flaw::FailedRollbackFrees) {
            self.state.lock().size -= 1;
        }
        rollback.map_err(CloseError::Driver)?;
        self.state.lock().dormant.push(Arc::clone(connection));
        self.available.notify();
        Ok(())
    }

    /// `shutdown()`: closes what is dormant, and leaves it there.
    pub(super) async fn shutdown(&self) {
        let _locked = self.lock.lock().await;
        let dormant = self.state.lock().dormant.clone();
        for connection in dormant {
            connection.close_at_rest(User::NONE).await;
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state.lock();
        let count = |n: usize| u32::try_from(n).ok();
        Status {
            size: Some(state.size),
            idle: count(state.dormant.len()),
            in_use: count(state.active.len()),
            waiting: count(self.available.waiting()),
            max_size: Some(self.config.max_size),
        }
    }
}
