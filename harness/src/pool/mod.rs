//! What poolproof asks of a connection pool: the trait that a pool author implements, and one file for each adapter.
//!
//! A pool is observed from outside only: at the calls an actor makes, at the connector, and at the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

#[cfg(feature = "bb8")]
pub mod bb8;
mod caller;
pub mod connector;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod contract;
#[cfg(feature = "deadpool")]
pub mod deadpool;
pub mod error;
#[cfg(feature = "fast_pool")]
pub mod fast_pool;
#[cfg(feature = "mobc")]
pub mod mobc;
mod python;
#[cfg(feature = "qp")]
pub mod qp;
#[cfg(feature = "r2d2")]
pub mod r2d2;
pub mod reference;
mod registry;
pub mod resource;
pub mod sqlalchemy;
#[cfg(feature = "sqlx")]
pub mod sqlx;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod testing;
#[cfg(feature = "r2d2")]
mod threads;
pub mod trac;
pub mod transaction;

pub use crate::scenario::model::{Order, PoolSettings, Reset};
/// The macro with which [`Adapter`], [`Pool`] and [`Lease`] are implemented, of crate `async-trait`.
pub use async_trait::async_trait;
pub use caller::{Caller, Entered, caller};
pub use connector::{Connection, Connector};
pub use registry::{PUBLISHED, all, by_name, models, names, published};

/// Builds pools of one kind. This is what a pool author implements, with [`Pool`] and [`Lease`].
#[async_trait]
pub trait Adapter: Send + Sync + 'static {
    /// The pool's name: `bb8`. Lower case, it is part of test names and file names.
    fn name(&self) -> &'static str;

    /// The pool's version, as on crates.io; of a model, the version of the library that it follows.
    fn version(&self) -> &'static str;

    /// What it is, for `poolproof list pools`, where its name and mapping don't tell it.
    fn about(&self) -> Option<String> {
        None
    }

    /// The library that this is a model of, and where it comes from: `SQLAlchemy (PyPI)`. `None` for a pool itself.
    fn models(&self) -> Option<&'static str> {
        None
    }

    /// What the pool can do.
    fn capabilities(&self) -> Capabilities;

    /// Why it can't be run in virtual time: `it blocks threads of its own`. `None` for a pool that can. One that can't is
    /// `unsupported` wherever time is virtual, and runs there when it is named only.
    fn needs_real_time(&self) -> Option<&'static str> {
        None
    }

    /// How each common setting is mapped to the pool's own, one line a setting, for `poolproof list pools`.
    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Builds a pool. Connections are opened by `connector` alone.
    ///
    /// # Errors
    /// The pool's own refusal, for example when it dials eagerly and the server is down.
    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError>;
}

/// A pool's version as people read it: `0.9.1`, or `2.0.58, modelled`.
#[must_use]
pub fn version_text(adapter: &dyn Adapter) -> String {
    let version = adapter.version();
    if adapter.models().is_some() { format!("{version}, modelled") } else { version.to_owned() }
}

/// One pool of connections. A pool that keeps something a thread asks [`caller`].
#[async_trait]
pub trait Pool: Send + Sync + 'static {
    /// Waits for a connection.
    ///
    /// # Errors
    /// What the pool reports: a timeout, a failed dial, closed.
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError>;

    /// The pool's own counters.
    fn status(&self) -> Option<Status>;

    /// Closes the pool: no more leases, idle connections are closed. Only called with [`Capabilities::close`].
    async fn close(&self) {}

    /// Changes `max_size`. Only called with [`Capabilities::resize`].
    fn resize(&self, _max_size: u32) {}

    /// Whether an acquire holds a lock that its own thread can't take again: a garbage collector that runs inside it and
    /// finds a lost lease then waits for ever. Of models of pools that are not Rust.
    fn holds_plain_lock(&self) -> bool {
        false
    }

    /// Lets go of all connections, and goes on empty: idle ones are closed now, leased ones are the former pool's and
    /// don't come back to this one (SQLAlchemy's `Engine.dispose()`). Only called with [`Capabilities::dispose`].
    async fn dispose(&self) {}

    /// The garbage collector of the pool's language runs: what the pool lost in reference cycles is freed. Rust has no such
    /// thing, models may. Leases lost in cycles are whoever's who lost them, to be dropped then.
    fn collect(&self) {}
}

/// A checked-out connection. Dropping it returns it to the pool, wherever that happens: inside an actor, or outside of any
/// when a lease that was lost is found by a garbage collector. What the return needs to send is then sent by a task.
#[async_trait]
pub trait Lease: Send {
    /// The connection.
    fn client(&mut self) -> &Client;

    /// Returns it to the pool, and waits as long as the pool lets its caller wait. Dropped before its end, the return goes
    /// on as if the lease had been dropped.
    async fn give_back(self: Box<Self>) {}

    /// A statement on it failed: pools that look at errors themselves see it here. Returns at once.
    fn failed(&mut self, _error: &tokio_postgres::Error) {}

    /// Closes the connection and ends the lease: its place in the pool is free (SQLAlchemy's `invalidate()`). Only called
    /// with [`Capabilities::invalidate`].
    async fn invalidate(self: Box<Self>) {}

    /// Takes the connection out of the pool for good. Only called with [`Capabilities::detach`]. The returned value
    /// keeps it open until it is dropped.
    fn detach(self: Box<Self>) -> Option<Detached> {
        None
    }
}

/// A connection that was taken out of its pool.
pub trait DetachedClient: Send {
    /// The connection.
    fn client(&mut self) -> &Client;
}

/// A connection that was taken out of its pool.
pub type Detached = Box<dyn DetachedClient>;

impl DetachedClient for Client {
    fn client(&mut self) -> &Client {
        self
    }
}

/// What a pool can do. What it can't is reported `unsupported` where a scenario needs it: never passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Has a bound on its connections.
    pub max_size: bool,
    /// Can go without that bound.
    pub unlimited: bool,
    /// Keeps a minimum of idle connections.
    pub min_idle: bool,
    /// Keeps at most so many idle connections, fewer than `max_size`.
    pub max_idle: bool,
    /// Ends an acquire after `acquire_timeout`.
    pub acquire_timeout: bool,
    /// Closes connections idle for too long by itself, without an acquire.
    pub idle_timeout: bool,
    /// Closes connections older than `max_lifetime` by itself.
    pub max_lifetime: bool,
    /// Checks a connection before it hands it out.
    pub test_on_acquire: bool,
    /// Rolls back an open transaction when a lease is returned.
    pub reset_rollback: bool,
    /// Commits an open transaction when a lease is returned.
    pub reset_commit: bool,
    /// Discards all session state when a lease is returned.
    pub reset_discard: bool,
    /// Can be closed.
    pub close: bool,
    /// Can change its size.
    pub resize: bool,
    /// Can let go of all connections and go on.
    pub dispose: bool,
    /// Can give a connection away for good.
    pub detach: bool,
    /// Can close a leased connection, and its lease with it.
    pub invalidate: bool,
    /// Serves waiters in the order in which they came, by its documentation.
    pub fair: bool,
    /// Hands out the connection idle for longest on request.
    pub fifo: bool,
    /// Hands out the connection returned last on request.
    pub lifo: bool,
    /// Keeps no connection between two leases, by its documentation: churn is what it is for. Nothing needs it.
    pub unpooled: bool,
    /// Its driver learns that a connection broke only by using it, as libpq's users do: what broke while it was idle is not
    /// known to be broken. Nothing needs it.
    pub unaware: bool,
    /// Lends a thread that has a connection the same one again, by its documentation. Nothing needs it.
    pub per_thread: bool,
    /// Lends one connection to several at once, by its documentation: no lease is exclusive. Nothing needs it.
    pub shared: bool,
    /// Its connections are made, checked and reset by a [`resource::Manager`], which a scenario can make misbehave. Set for
    /// every pool of resources.
    pub manager: bool,
}

/// A pool's own counters; `None` where it has no such counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Connections, idle and leased (and, in some pools, being dialled).
    pub size: Option<u32>,
    /// Idle connections.
    pub idle: Option<u32>,
    /// Leased connections.
    pub in_use: Option<u32>,
    /// Acquires that wait.
    pub waiting: Option<u32>,
    /// The bound.
    pub max_size: Option<u32>,
}

/// Why an acquire (or a build) failed, as the pool reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolError {
    /// The kind.
    pub kind: PoolErrorKind,
    /// The pool's own text.
    pub message: String,
}

impl PoolError {
    /// With a text of the pool's.
    #[must_use]
    pub fn new(kind: PoolErrorKind, message: impl Into<String>) -> PoolError {
        PoolError { kind, message: message.into() }
    }

    /// With an error's own text, and those of its sources that it leaves out.
    #[must_use]
    pub fn of(kind: PoolErrorKind, error: &(dyn std::error::Error + 'static)) -> PoolError {
        PoolError { kind, message: error::describe(error) }
    }
}

/// The kinds of failed acquires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolErrorKind {
    /// `acquire_timeout` passed.
    Timeout,
    /// A dial failed, and the pool passed its error on.
    Connect,
    /// A check before the hand-out or a reset failed, and the pool passed the error on.
    Check,
    /// The pool is closed.
    Closed,
    /// Anything else.
    Other,
}

impl PoolErrorKind {
    /// The word in traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PoolErrorKind::Timeout => "timeout",
            PoolErrorKind::Connect => "connect",
            PoolErrorKind::Check => "check",
            PoolErrorKind::Closed => "closed",
            PoolErrorKind::Other => "other",
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PoolError {}

/// How long after a timer's exact moment a pool is still in time: tokio's timers are whole milliseconds, and a wake-up
/// passes through a few tasks.
pub const TIMER_SLACK: Duration = Duration::from_millis(5);
