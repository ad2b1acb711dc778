//! What a server is started with: PostgreSQL's own settings under their own names, and what the model needs besides.

use std::time::Duration;

use indexmap::IndexMap;

use super::event::Pid;
use super::sql::StatementCost;

/// How clients prove who they are (`pg_hba.conf`; one method for all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// `trust`: whoever they say.
    #[default]
    Trust,
    /// `scram-sha-256`: costs the client about a millisecond of CPU.
    ScramSha256,
}

/// A major version; texts, `reserved_connections` (16) and `transaction_timeout` (17) depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    #[default]
    V15,
    V16,
    V17,
}

impl Version {
    /// 15, 16 or 17.
    #[must_use]
    pub fn major(self) -> u32 {
        match self {
            Version::V15 => 15,
            Version::V16 => 16,
            Version::V17 => 17,
        }
    }

    /// `server_version`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V15 => "15.18",
            Version::V16 => "16.14",
            Version::V17 => "17.10",
        }
    }
}

/// A role that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// `rolname`
    pub name: String,
    /// `rolsuper`
    pub superuser: bool,
    /// `rolconnlimit`; none by default.
    pub connection_limit: Option<u32>,
    /// What [`Auth::ScramSha256`] asks for.
    pub password: Option<String>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `datname`
    pub name: String,
    /// `datconnlimit`; none by default.
    pub connection_limit: Option<u32>,
}

/// How a standby behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// `hot_standby`: whether it takes read-only sessions before it is promoted (57P03 otherwise).
    pub hot_standby: bool,
    /// From `pg_promote` to the first write.
    pub promotion_time: Duration,
}

/// What a server is started with. `Config::default()` is what `initdb` gives, with the roles `postgres` (superuser) and
/// `app`, and the databases `postgres` and `app`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host's name, under which events are reported.
    pub name: String,
    /// The major version.
    pub version: Version,
    /// `max_connections`
    pub max_connections: u32,
    /// `superuser_reserved_connections`
    pub superuser_reserved_connections: u32,
    /// `reserved_connections` (from 16 on; no role has `pg_use_reserved_connections`).
    pub reserved_connections: u32,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Roles.
    pub roles: Vec<Role>,
    /// Databases.
    pub databases: Vec<Database>,
    /// `postgresql.conf`: defaults of settings for all sessions.
    pub settings: IndexMap<String, String>,
    /// How long statements take.
    pub costs: Vec<StatementCost>,
    /// Run once, as a superuser, before the server ever starts.
    pub initial_sql: String,
    /// From `pg_ctl start` to the first session; 57P03 meanwhile.
    pub startup_time: Duration,
    /// How much longer it takes after a crash.
    pub recovery_time: Duration,
    /// From the startup packet to the end of authentication: the time of a fork and of a backend's initialisation.
    pub fork_time: Duration,
    /// The first backend's process id. Servers of one world take ranges that don't overlap.
    pub first_pid: Pid,
    /// Seeds secrets, gaps between process ids, and `random()`.
    pub seed: u64,
    /// Unix time at the moment of [`super::server::Server::new`].
    pub unix_time: Duration,
    /// Makes it a standby; see [`super::server::Server::standby_of`].
    pub standby: Option<Standby>,
}

impl Default for Config {
    fn default() -> Self {
        let role =
            |name: &str, superuser| Role { name: name.to_owned(), superuser, connection_limit: None, password: None };
        let database = |name: &str| Database { name: name.to_owned(), connection_limit: None };
        Config {
            name: "db".to_owned(),
            version: Version::V15,
            max_connections: 100,
            superuser_reserved_connections: 3,
            reserved_connections: 0,
            auth: Auth::Trust,
            roles: vec![role("postgres", true), role("app", false)],
            databases: vec![database("postgres"), database("app")],
            settings: IndexMap::new(),
            costs: Vec::new(),
            initial_sql: String::new(),
            startup_time: Duration::from_millis(100),
            recovery_time: Duration::from_millis(100),
            fork_time: Duration::from_millis(2),
            first_pid: 1000,
            seed: 0,
            unix_time: Duration::from_secs(1_767_225_600), // 2026-01-01 00:00 UTC
            standby: None,
        }
    }
}

/// How a server is asked to stop (`pg_ctl stop -m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// New sessions are refused, the others go on until they leave.
    Smart,
    /// Every session ends with FATAL 57P01.
    Fast,
    /// Every session ends with a WARNING; the next start recovers.
    Immediate,
}
