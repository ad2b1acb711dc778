//! Session.
use super::super::event::{BackendState, Pid, SessionReport};
use super::super::transaction::TransactionStatus;
use super::script::Statement;
use super::types::Type;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How a session starts.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The backend's pid.
    pub pid: Pid,
    /// The role of the startup packet; it must exist.
    pub user: String,
    /// The database of the startup packet; it must exist.
    pub database: String,
    /// Settings of the startup packet: `application_name`, those in `options`, …
    pub settings: Vec<(String, String)>,
}

/// A prepared statement, made by Parse or by PREPARE: one namespace.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What to run.
    pub statement: Arc<Statement>,
    /// The types of its parameters.
    pub parameters: Vec<Type>,
    /// Made by SQL PREPARE, not by Parse.
    pub from_sql: bool,
}

/// One backend's state: transaction, settings, prepared statements, temporary tables, channels.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) pid: Pid,
    /// Named prepared statements.
    pub prepared: BTreeMap<String, Prepared>,
}

impl Session {
    /// The backend's pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }
    /// The current role (`current_user`).
    #[must_use]
    pub fn user(&self) -> &str {
        todo!()
    }
    /// Whether the session's user is a superuser.
    #[must_use]
    pub fn superuser(&self) -> bool {
        todo!()
    }
    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        todo!()
    }
    /// ReadyForQuery's status.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        todo!()
    }
    /// The transaction id, once it wrote something (`backend_xid`).
    #[must_use]
    pub fn xid(&self) -> Option<u64> {
        todo!()
    }
    /// When its transaction began, since the world's epoch (`xact_start`).
    #[must_use]
    pub fn transaction_start(&self) -> Option<Duration> {
        todo!()
    }
    /// What would surprise its next user. `state` and `portals` are the session layer's own.
    #[must_use]
    pub fn report(&self, _state: BackendState, _portals: Vec<String>) -> SessionReport {
        todo!()
    }
    /// Its settings.
    pub fn settings_mut(&mut self) -> &mut crate::postgres::settings::Settings {
        todo!()
    }
}
