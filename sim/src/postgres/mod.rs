//! A PostgreSQL 15 server as its clients meet it, in memory and in virtual time (or in real time, over real sockets).
//!
//! What it must reproduce was observed on a real server. A statement outside the supported set fails with SQLSTATE
//! 0A000 and says what is missing; it never succeeds by pretence.

pub mod error;
pub mod event;
pub mod locks;
pub mod scram;
pub mod settings;
pub mod sql;
pub mod transaction;
