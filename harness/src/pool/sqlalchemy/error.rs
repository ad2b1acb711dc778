//! Why a checkout failed, with SQLAlchemy's texts.

use std::fmt;
use std::time::Duration;

use crate::pool::python::psycopg2::DbapiError;
use crate::pool::{PoolError, PoolErrorKind};

/// A failed checkout.
#[derive(Debug)]
pub enum Error {
    /// `sqlalchemy.exc.TimeoutError`
    Timeout {
        /// `pool_size`
        size: u32,
        /// The overflow counter at that moment.
        overflow: i64,
        /// `timeout`
        timeout: Duration,
    },
    /// psycopg2's error on a dial.
    Connect(tokio_postgres::Error),
    /// psycopg2's error on a ping that was no disconnect.
    Ping(DbapiError),
    /// `sqlalchemy.exc.InvalidRequestError`: the second ping in a row has failed.
    Exhausted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Timeout { size, overflow, timeout } => write!(
                f,
                "QueuePool limit of size {size} overflow {overflow} reached, connection timed out, timeout {:.2}",
                timeout.as_secs_f64()
            ),
            Error::Connect(error) => f.write_str(&crate::pool::error::describe(error)),
            Error::Ping(error) => error.fmt(f),
            Error::Exhausted => f.write_str("This connection is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for PoolError {
    fn from(error: Error) -> PoolError {
        let kind = match error {
            Error::Timeout { .. } => PoolErrorKind::Timeout,
            Error::Connect(_) => PoolErrorKind::Connect,
            Error::Ping(_) | Error::Exhausted => PoolErrorKind::Check,
        };
        PoolError { kind, message: error.to_string() }
    }
}
