//! What goes wrong with a real server.

use poolproof_sim::postgres::event::Lifecycle;
use thiserror::Error;

use crate::pool::error::describe;

/// Why a real server does not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum ServerError {
    /// There is none to be had.
    #[error("no PostgreSQL is to be had here: {}", .0.join("; "))]
    NotFound(
        /// What was tried, and why it failed.
        Vec<String>,
    ),
    /// A server of this kind can't do it.
    #[error("{0}")]
    Unsupported(
        /// The reason: "needs control of the server".
        String,
    ),
    /// It makes no sense in this state of the server.
    #[error("the server is {}", .0.as_str())]
    State(
        /// What it is doing.
        Lifecycle,
    ),
    /// The server refused a statement.
    #[error("{code} {message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's own words.
        message: String,
    },
    /// It failed.
    #[error("{0}")]
    Failed(
        /// What, and why.
        String,
    ),
}

/// What needs control, of a server that is known by its URL only.
pub(super) fn needs_control() -> ServerError {
    ServerError::Unsupported("needs control of the server".to_owned())
}

/// What takes a while and waits for the operating system.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(failed("making a server", error)))
}

/// "what: why"
pub(super) fn failed(what: impl std::fmt::Display, why: impl std::fmt::Display) -> ServerError {
    ServerError::Failed(format!("{what}: {why}"))
}

impl From<tokio_postgres::Error> for ServerError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => {
                ServerError::Refused { code: said.code().code().to_owned(), message: said.message().to_owned() }
            }
            None => ServerError::Failed(describe(&error)),
        }
    }
}
