//! `_ConnectionRecord`: a place in a pool. Its connections come and go; the record stays, and is what the pool queues.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::base::{Pool, PoolClass};
use super::error::Error;
use super::events::EventKind;
use super::fairy::{Fairy, FairyId};
use super::flaw::Flaw;
use crate::pool::python::psycopg2::{Dbapi, User};

/// A place in a pool.
pub(super) struct Record {
    /// Not a strong one: Python has a cycle here, and an engine keeps what only the collector would free.
    pool: Weak<Pool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Dbapi>>,
    /// When the latest connect began.
    start_time: Option<Instant>,
    soft_invalidate_time: Option<Instant>,
    /// No fairy has had this connection yet.
    fresh: bool,
    /// Who has it checked out; `None` when nobody has.
    fairy: Option<FairyId>,
}

impl Record {
    /// A record with a connection.
    pub(super) async fn create(pool: &Arc<Pool>) -> Result<Arc<Record>, Error> {
        let record = Arc::new(Record { pool: Arc::downgrade(pool), state: Mutex::default() });
        record.connect(pool).await?;
        Ok(record)
    }

    /// `_ConnectionRecord.checkout`
    pub(super) async fn checkout(pool: &Arc<Pool>) -> Result<Arc<Fairy>, Error> {
        let taken = Taken(Some(pool.do_get().await?));
        let record = taken.record();
        let connection = record.get_connection(pool).await?;
        let fairy = Fairy::new(pool, connection, &record);
        record.state.lock().fairy = Some(fairy.id());
        taken.keep();
        Ok(fairy)
    }

    /// `_checkin_failed`
    pub(super) fn checkin_failed(self: &Arc<Self>, fairy_was_created: bool) {
        self.invalidate(false);
        self.checkin(fairy_was_created);
    }

    /// `checkin`
    pub(super) fn checkin(self: &Arc<Self>, fairy_was_created: bool) {
        let connection = {
            let mut state = self.state.lock();
            if state.fairy.take().is_none() && fairy_was_created {
                return; // A double checkin: SQLAlchemy warns.
            }
            state.connection.as_ref().map(|connection| connection.pid())
        };
        // Without its pool nobody can ever have it again: dropped, it is closed.
        let Some(pool) = self.pool.upgrade() else { return };
        if !pool.flawed(Flaw::CheckinBeforeReset) {
            pool.events.emit(EventKind::Checkin, connection);
        }
        pool.do_return_conn(self);
    }

    /// `close`, of a connection that nobody has a statement on.
    pub(super) fn close(&self) {
        if let Some(connection) = self.begin_close() {
            connection.close();
        }
    }

    /// `close`, of one that is lent, or was: it waits for the statement of another than this user.
    pub(super) async fn close_at_rest(&self, user: User) {
        if let Some(connection) = self.begin_close() {
            connection.close_at_rest(user).await;
        }
    }

    fn begin_close(&self) -> Option<Arc<Dbapi>> {
        let connection = self.state.lock().connection.take()?;
        self.tell(EventKind::Close, &connection);
        Some(connection)
    }

    fn tell(&self, kind: EventKind, connection: &Dbapi) {
        if let Some(pool) = self.pool.upgrade() {
            pool.events.emit(kind, Some(connection.pid()));
        }
    }

    /// `invalidate`
    pub(super) fn invalidate(&self, soft: bool) {
        let Some(connection) = self.connection() else { return };
        self.tell(if soft { EventKind::SoftInvalidate } else { EventKind::Invalidate }, &connection);
        drop(connection);
        if soft {
            self.state.lock().soft_invalidate_time = Some(Instant::now());
        } else {
            self.close();
        }
    }

    /// `invalidate`, of a connection that another than this user may have a statement on.
    pub(super) async fn invalidate_at_rest(&self, user: User) {
        let Some(connection) = self.connection() else { return };
        self.tell(EventKind::Invalidate, &connection);
        drop(connection);
        self.close_at_rest(user).await;
    }

    /// `get_connection`: a new one in the place of one that is gone, too old, or of an invalidated generation.
    pub(super) async fn get_connection(&self, pool: &Arc<Pool>) -> Result<Arc<Dbapi>, Error> {
        match self.connection() {
            None => self.connect(pool).await,
            Some(connection) if self.outlived(pool) => {
                drop(connection);
                match pool.config.class {
                    PoolClass::Static => self.close_at_rest(User::NONE).await,
                    PoolClass::Queue | PoolClass::Null | PoolClass::SingletonThread => self.close(),
                }
                self.connect(pool).await
            }
            Some(connection) => Ok(connection),
        }
    }

    fn outlived(&self, pool: &Pool) -> bool {
        let recycle = !pool.flawed(Flaw::RecycleAtCheckin) && self.too_old(pool);
        recycle || self.is_invalidated(pool)
    }

    /// Whether it is older than `recycle`.
    pub(super) fn too_old(&self, pool: &Pool) -> bool {
        let start_time = self.state.lock().start_time;
        pool.config.recycle.is_some_and(|limit| start_time.is_some_and(|start| start.elapsed() > limit))
    }

    /// Whether its pool's generation was invalidated since it was connected, or itself softly.
    fn is_invalidated(&self, pool: &Pool) -> bool {
        let state = self.state.lock();
        pool.invalidate_time() > state.start_time || state.soft_invalidate_time > state.start_time
    }

    /// `_is_hard_or_soft_invalidated`
    pub(super) fn is_hard_or_soft_invalidated(&self, pool: &Pool) -> bool {
        self.connection().is_none() || self.is_invalidated(pool)
    }

    /// `__connect`
    async fn connect(&self, pool: &Arc<Pool>) -> Result<Arc<Dbapi>, Error> {
        self.state.lock().start_time = Some(Instant::now());
        let connection = Dbapi::connect(&pool.connector).await.map_err(Error::Connect)?;
        {
            let mut state = self.state.lock();
            state.connection = Some(Arc::clone(&connection));
            state.fresh = true;
        }
        pool.events.connected(connection.pid());
        Ok(connection)
    }

    pub(super) fn connection(&self) -> Option<Arc<Dbapi>> {
        self.state.lock().connection.clone()
    }

    /// The connection leaves the record, which stays in its pool.
    pub(super) fn detach(&self) {
        let mut state = self.state.lock();
        state.fairy = None;
        state.connection = None;
    }

    pub(super) fn start_time(&self) -> Option<Instant> {
        self.state.lock().start_time
    }

    /// Whether no fairy has had its connection yet; from now on one has.
    pub(super) fn take_fresh(&self) -> bool {
        std::mem::take(&mut self.state.lock().fresh)
    }

    /// `fairy_ref`
    pub(super) fn fairy(&self) -> Option<FairyId> {
        self.state.lock().fairy
    }
}

/// A record taken from its pool for a checkout that may fail. Dropped, it goes back.
struct Taken(Option<Arc<Record>>);

impl Taken {
    fn record(&self) -> Arc<Record> {
        Arc::clone(self.0.as_ref().expect("a record is there until it is kept"))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            record.checkin_failed(false);
        }
    }
}
