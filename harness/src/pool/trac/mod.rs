//! Trac's connection pool (`trac/db/pool.py`), as it behaves: today's, and the one of 2006 from which others were forked.
//!
//! Both lend *a thread* its connection: a thread that has one and asks again gets the same, counted, and it goes back with the
//! last return. [`crate::pool::caller`] is the thread. A lease that is lost is found by the collector (`__del__`), which
//! returns it in the name of the thread that took it (today) or of the thread in which the collector runs (2006).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `today` | 1.6: a process-wide pool; potentially long operations are done without the lock |
//! | `of_2006` | trunk in March 2006, between 0.9 and 0.10: a lock around everything, dials included |
//! | `connection_pool` | both as one, and a connection that is lent |
//! | `adapter` | both under their names here, and the settings |
//! | `flaw` | deliberate mistakes, which the comparison with the records must notice |
//!
//! `harness/tests/truth/` has what the real ones did in each situation; the models are compared with that, step by step.
//!
//! Left out: psycopg2's implicit BEGIN in scenarios (a scenario says `begin`), also that of 1.6's ping, which in reality leaves
//! every reused connection in a transaction; several databases in one pool, and with them the replacement of another's
//! connection; what `shutdown` means for connections that are being opened.

mod adapter;
mod connection_pool;
mod flaw;
mod of_2006;
mod today;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use adapter::{Trac, VERSION};
pub use connection_pool::{CloseError, Config, ConnectionPool, Error, Listener, PooledConnection};
pub use flaw::Flaw;
