//! The SQL engine: parses, plans and executes statements on in-memory tables at read committed.
//!
//! It is synchronous and knows neither time nor sockets. A statement is executed by calling [`Engine::step`] until it is
//! done: a step that cannot go on says what it waits for, and is taken again when that has come.
//!
//! | file | story |
//! | --- | --- |
//! | `host`, `result` | what the engine asks of, and gives to, the session layer |
//! | `types`, `value`, `numeric`, `datetime` | values and their text and binary forms |
//! | `script`, `utility` | a query text becomes statements |
//! | `cursor` | cursors of DECLARE |
//! | `engine`, `session` | the cluster, a backend's state, and the transaction frame |
//! | `catalog`, `heap` | tables, row versions, indexes, undo and vacuum |
//! | `plan`, `bind`, `eval`, `functions`, `regex` | names and types resolved, expressions evaluated |
//! | `execute` | statements run, wait and take effect |
//! | `sysviews` | `pg_catalog` |
//! | `pg_catalog` | the names of all that a real one has |

mod bind;
mod catalog;
mod cursor;
mod datetime;
mod engine;
mod eval;
mod execute;
mod functions;
mod heap;
mod host;
mod numeric;
mod pg_catalog;
mod plan;
mod regex;
mod result;
mod script;
mod session;
mod sysviews;
#[cfg(test)]
mod tests;
mod types;
mod utility;
mod value;

pub use engine::{Engine, EngineOptions, Framing, RoleOptions, TransactionEvent};
pub use execute::Execution;
pub use host::{ActivityRow, Host};
pub use result::{Column, Description, Notification, Output, Rows, StatementCost, Step};
pub use script::{Script, Statement, check_syntax};
pub use session::{Prepared, Session, SessionOptions};
pub use types::Type;
pub use value::Value;

pub use super::transaction::TransactionStatus;
