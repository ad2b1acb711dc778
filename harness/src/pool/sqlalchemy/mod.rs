//! SQLAlchemy's connection pools as they behave, not as they should: QueuePool, NullPool, SingletonThreadPool and StaticPool
//! of [`VERSION`], with psycopg2 below them.
//!
//! Followed line by line, under the library's own names: `sqlalchemy/pool/base.py`, `pool/impl.py` and `util/queue.py`, and
//! what `engine/base.py` does to a pool (`Engine.dispose`, a disconnect seen by a `Connection`). `harness/tests/truth/` has
//! what the real library did in each situation; the models are compared with that, step by step.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `engine` | an engine: its present pool, and those that it has disposed of |
//! | `base` | what the pools share: settings, invalidation of a generation |
//! | `fairy` | `_ConnectionFairy`, a checkout, and `_finalize_fairy`, its end |
//! | `record` | `_ConnectionRecord`, a place in a pool, whose connections come and go |
//! | `queue_pool`, `queue` | QueuePool and its queue |
//! | `singleton_thread_pool`, `static_pool` | the smaller ones; NullPool needs no file |
//! | `events` | the pool events, for listeners |
//! | `adapter` | the pools under their names here, and the settings |
//! | `flaw` | deliberate mistakes, which the comparison with the records must notice |
//!
//! What an `await` in the place of a blocking call changes:
//!
//! - A Python thread blocks in a checkout, a ROLLBACK, a ping; here the caller awaits. Between two awaits nobody else
//!   runs, so the races of the original that need a switch of threads inside the pool's own code do not happen.
//!   [`crate::pool::caller`] stands in the place of the thread's identity.
//! - Whoever waits can be cancelled, as a greenlet can be killed. A cancelled checkout gives back what it has as SQLAlchemy
//!   does on `BaseException`; a wake-up that it did not use goes to the next one. A connection that is returned in the
//!   middle of a statement is closed, as psycopg2 closes it (`green_panic`).
//! - A fairy that is found by the garbage collector blocks whoever the collector runs in; here its ROLLBACK is a task's.
//!
//! Left out: psycopg2's implicit BEGIN (a scenario says `begin`; a statement outside of it commits by itself, as with
//! `autocommit`), what the dialect asks a new connection (its version, the OIDs of hstore), logging, two-phase commit, pools
//! for asyncio, AssertionPool. Python's `set.pop()` takes an arbitrary element; SingletonThreadPool's clean-up takes the
//! oldest here.

mod adapter;
mod base;
mod engine;
mod error;
mod events;
mod fairy;
mod flaw;
mod queue;
mod queue_pool;
mod record;
mod singleton_thread_pool;
mod static_pool;

pub use crate::pool::python::psycopg2::DbapiError;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use adapter::{SqlAlchemy, VERSION};
pub use base::{Config, Counters, PoolClass, ResetOnReturn};
pub use engine::Engine;
pub use error::Error;
pub use events::{EventKind, Listener, PoolEvent};
pub use fairy::Fairy;
pub use flaw::Flaw;
