//! `_ConnectionFairy`: a checkout, from `_checkout` to `_finalize_fairy`.
//!
//! A fairy that nobody has any more is garbage at once (its reference count is zero), and its weak reference's callback
//! finalizes it: that is its drop here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::base::Pool;
use super::error::Error;
use super::events::EventKind;
use super::flaw::Flaw;
use super::record::Record;
use crate::pool::python::psycopg2::{Dbapi, DbapiError, Ending, User};
use crate::pool::{Caller, caller};

/// A fairy's number, in the place of a weak reference's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FairyId(u64);

impl FairyId {
    /// Whoever has it checked out, as psycopg2 knows threads.
    pub(super) fn user(self) -> User {
        User(self.0)
    }
}

/// A checkout.
pub struct Fairy {
    pool: Arc<Pool>,
    id: FairyId,
    state: Mutex<State>,
}

struct State {
    connection: Option<Arc<Dbapi>>,
    /// `None` when it is detached or finalized.
    record: Option<Arc<Record>>,
    /// Checkouts of this fairy, more than one in a SingletonThreadPool alone.
    counter: i32,
}

impl Fairy {
    pub(super) fn new(pool: &Arc<Pool>, connection: Arc<Dbapi>, record: &Arc<Record>) -> Arc<Fairy> {
        static LAST: AtomicU64 = AtomicU64::new(1);
        let state = State { connection: Some(connection), record: Some(Arc::clone(record)), counter: 0 };
        let id = FairyId(LAST.fetch_add(1, Ordering::Relaxed));
        Arc::new(Fairy { pool: Arc::clone(pool), id, state: Mutex::new(state) })
    }

    pub(super) fn id(&self) -> FairyId {
        self.id
    }

    /// The DBAPI connection; `None` once it is invalidated or closed.
    pub(super) fn connection(&self) -> Option<Arc<Dbapi>> {
        self.state.lock().connection.clone()
    }

    /// Its backend's pid; `None` once it is invalidated or closed.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.connection().map(|connection| connection.pid())
    }

    pub(super) fn record(&self) -> Option<Arc<Record>> {
        self.state.lock().record.clone()
    }

    /// `_checkout`, of a fairy that is new or has been checked out before: a ping, and again after a reconnect.
    pub(super) async fn check_out(self: &Arc<Self>) -> Result<(), Error> {
        let (record, first) = {
            let mut state = self.state.lock();
            state.counter += 1;
            (state.record.clone(), state.counter == 1)
        };
        let Some(record) = record.filter(|_| first) else {
            return Ok(());
        };
        let mut checking = Checking(Some(self));
        let mut attempts = 2;
        while attempts > 0 {
            let fresh = record.take_fresh() || self.pool.flawed(Flaw::NoPing);
            if fresh || !self.pool.config.pre_ping || self.ping().await? {
                self.pool.events.emit(EventKind::Checkout, self.pid());
                checking.0 = None;
                return Ok(());
            }
            // `InvalidatePoolError`: this one, and all of its generation.
            self.state.lock().connection = None;
            record.invalidate(false);
            self.pool.invalidate(Some(&record));
            let connection = record.get_connection(&self.pool).await?;
            self.state.lock().connection = Some(connection);
            attempts -= 1;
        }
        checking.0 = None;
        self.invalidate_at_once();
        Err(Error::Exhausted)
    }

    /// `_do_ping_w_event`: false for a disconnect.
    async fn ping(&self) -> Result<bool, Error> {
        let Some(connection) = self.connection() else { return Ok(false) };
        match connection.ping().await {
            Ok(()) => Ok(true),
            Err(error) if error.is_disconnect() => Ok(false),
            Err(error) => Err(Error::Ping(error)),
        }
    }

    /// `cursor().execute(statement)` of psycopg2, which begins a transaction if there is none. Answers the first value of the
    /// first row, if there is one.
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn execute(&self, statement: &str) -> Result<Option<String>, DbapiError> {
        match self.connection() {
            Some(connection) => connection.query(self.id.user(), statement).await,
            None => Err(DbapiError::AlreadyClosed),
        }
    }

    /// `commit()`
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn commit(&self) -> Result<(), DbapiError> {
        self.end_transaction("COMMIT").await
    }

    /// `rollback()`
    ///
    /// # Errors
    /// psycopg2's.
    pub async fn rollback(&self) -> Result<(), DbapiError> {
        self.end_transaction("ROLLBACK").await
    }

    async fn end_transaction(&self, statement: &str) -> Result<(), DbapiError> {
        match self.connection() {
            Some(connection) => connection.end_transaction(self.id.user(), statement).await,
            None => Err(DbapiError::AlreadyClosed),
        }
    }

    /// `close()`: back to the pool with the last checkout of it, after its reset. Dropped before its end, the reset goes on.
    pub async fn close(&self) {
        if let Some(resetting) = self.begin_close() {
            // A task of its own, which nobody can cancel; that it ends is all there is to know.
            let _ended = tokio::spawn(resetting.run()).await;
        }
    }

    /// [`Fairy::close`], without waiting for the reset.
    pub(super) fn close_in_background(&self) {
        if let Some(resetting) = self.begin_close() {
            resetting.run_in_background();
        }
    }

    fn begin_close(&self) -> Option<Resetting> {
        let mut state = self.state.lock();
        state.counter -= 1;
        if state.counter != 0 {
            return None;
        }
        drop(state);
        self.checkin()
    }

    /// `_checkin`
    fn checkin(&self) -> Option<Resetting> {
        let (connection, record) = {
            let mut state = self.state.lock();
            (state.connection.take(), state.record.take())
        };
        finalize(&self.pool, self.id.user(), connection, record)
    }

    /// `invalidate()`: closes the connection, and ends the checkout.
    pub async fn invalidate(&self) {
        if let Some(record) = self.give_up() {
            record.invalidate_at_rest(self.id.user()).await;
            self.end_invalidated();
        }
    }

    /// The same, of a connection that nobody else has a statement on, as of one that is broken.
    pub(super) fn invalidate_at_once(&self) {
        if let Some(record) = self.give_up() {
            record.invalidate(false);
            self.end_invalidated();
        }
    }

    /// `invalidate(soft=True)`: the next checkout has a new connection.
    pub fn soft_invalidate(&self) {
        let record = self.state.lock().record.clone();
        if let Some(record) = record.filter(|_| self.connection().is_some()) {
            record.invalidate(true);
        }
    }

    /// Lets go of the connection that is to be invalidated.
    fn give_up(&self) -> Option<Arc<Record>> {
        let mut state = self.state.lock();
        state.connection.take()?;
        state.record.clone()
    }

    fn end_invalidated(&self) {
        let nothing_to_reset = self.checkin();
        debug_assert!(nothing_to_reset.is_none(), "it has no connection any more");
    }

    /// `detach()`: the connection is the caller's for good, and its place in the pool free.
    pub fn detach(&self) {
        let record = self.state.lock().record.take();
        let Some(record) = record else { return };
        record.detach();
        if !self.pool.flawed(Flaw::DetachKeepsPlace) {
            self.pool.do_return_conn(&record);
        }
        self.pool.events.emit(EventKind::Detach, self.pid());
    }
}

impl Drop for Fairy {
    /// The weak reference's callback: for a fairy that was neither closed nor detached.
    fn drop(&mut self) {
        let Some(record) = self.state.get_mut().record.take() else { return };
        if record.fairy() != Some(self.id) || self.pool.flawed(Flaw::LostIsLost) {
            return;
        }
        self.state.get_mut().connection = None;
        let connection = record.connection();
        if let Some(resetting) = finalize(&self.pool, self.id.user(), connection, Some(record)) {
            resetting.run_in_background();
        }
    }
}

/// A fairy whose checkout is not complete. Dropped, its record goes back without its connection.
struct Checking<'a>(Option<&'a Arc<Fairy>>);

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        let Some(fairy) = self.0 else { return };
        let record = {
            let mut state = fairy.state.lock();
            state.connection = None;
            state.record.take()
        };
        if let Some(record) = record {
            record.checkin_failed(true);
        }
    }
}

/// `_finalize_fairy`: the reset, then the checkin. What has nothing to wait for is done when this returns.
fn finalize(
    pool: &Arc<Pool>,
    user: User,
    connection: Option<Arc<Dbapi>>,
    record: Option<Arc<Record>>,
) -> Option<Resetting> {
    let mut resetting = Resetting { pool: Arc::clone(pool), user, connection, record, caller: caller(), statement: "" };
    let Some(connection) = &resetting.connection else {
        resetting.finish(Ok(()));
        return None;
    };
    if pool.flawed(Flaw::CheckinBeforeReset) {
        pool.events.emit(EventKind::Checkin, Some(connection.pid()));
    }
    pool.events.emit(EventKind::Reset, Some(connection.pid()));
    let statement = pool.config.reset_on_return.statement().filter(|_| !pool.flawed(Flaw::NoReset));
    match (statement, connection.ending(user)) {
        (None, _) | (Some(_), Ending::Nothing) => resetting.finish(Ok(())),
        (Some(_), Ending::Closed) => resetting.finish(Err(DbapiError::AlreadyClosed)),
        (Some(statement), Ending::RoundTrip | Ending::Waits) => {
            resetting.statement = statement;
            return Some(resetting);
        }
    }
    None
}

/// A finalization that waits for the answer to its ROLLBACK or COMMIT, and before that perhaps for another one's statement.
struct Resetting {
    pool: Arc<Pool>,
    user: User,
    connection: Option<Arc<Dbapi>>,
    record: Option<Arc<Record>>,
    /// The thread that returns it.
    caller: Caller,
    statement: &'static str,
}

impl Resetting {
    async fn run(self) {
        let result = match &self.connection {
            Some(connection) => connection.end_transaction(self.user, self.statement).await,
            None => Ok(()),
        };
        self.finish(result);
    }

    /// As a task. Outside of a run there is nothing to wait with, and the connection is given up.
    fn run_in_background(self) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(self.run())),
            Err(_) => self.finish(Err(DbapiError::AlreadyClosed)),
        }
    }

    /// What follows the reset.
    fn finish(self, reset: Result<(), DbapiError>) {
        let _calls = self.caller.enter();
        let Resetting { pool, connection, record, .. } = self;
        match (record, connection) {
            (None, Some(connection)) if reset.is_ok() => {
                pool.events.emit(EventKind::CloseDetached, Some(connection.pid()));
                connection.close();
            }
            // Nobody has the connection any more: dropped, it is closed.
            (None, _) => {}
            (Some(record), connection) => {
                drop(connection);
                if reset.is_err() {
                    record.invalidate(false);
                }
                if record.fairy().is_some() {
                    record.checkin(true);
                }
            }
        }
    }
}
