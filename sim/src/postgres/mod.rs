//! A PostgreSQL 15 server as its clients meet it, in memory and in virtual time (or in real time, over real sockets).
//!
//! What it must reproduce was observed on a real server. A statement outside the supported set fails with SQLSTATE
//! 0A000 and says what is missing; it never succeeds by pretence.

mod activity;
mod cancel;
pub mod config;
pub mod error;
pub mod event;
mod extended;
mod lifecycle;
pub mod link;
pub mod locks;
mod query;
pub mod scram;
pub mod server;
mod session;
pub mod settings;
mod slots;
pub mod sql;
mod startup;
mod timeouts;
pub mod transaction;
mod wire;

pub use config::{Auth, Config, Database, Role, Standby, StopMode, Version};
pub use link::Socket;
pub use server::{BackendInfo, Counts, Server};
