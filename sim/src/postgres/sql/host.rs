//! What the engine asks of the session layer: who is connected, what time it is, and to end or cancel a backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::event::{BackendState, Pid};

/// A row of `pg_stat_activity`, as the session layer knows it. Times are durations since the world's epoch.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are pg_stat_activity's columns")]
pub struct ActivityRow {
    pub pid: Pid,
    pub usename: Option<String>,
    pub datname: Option<String>,
    pub application_name: String,
    pub client_addr: Option<SocketAddr>,
    pub backend_start: Duration,
    pub xact_start: Option<Duration>,
    pub query_start: Option<Duration>,
    pub state_change: Option<Duration>,
    pub wait_event_type: Option<&'static str>,
    pub wait_event: Option<&'static str>,
    pub state: Option<BackendState>,
    pub backend_xid: Option<u64>,
    pub query: Arc<str>,
    pub backend_type: &'static str,
}

/// What the engine asks of the session layer.
pub trait Host {
    /// The current rows of `pg_stat_activity`, ascending by pid.
    fn activity(&self) -> Vec<ActivityRow>;
    /// `pg_terminate_backend`: false when there is no such backend.
    fn terminate(&self, pid: Pid) -> bool;
    /// `pg_cancel_backend`: false when there is no such backend.
    fn cancel(&self, pid: Pid) -> bool;
    /// Wall-clock time in the world, microseconds since 2000-01-01 00:00 UTC (PostgreSQL's own epoch).
    fn now_us(&self) -> i64;
    /// Time since the world's epoch, the base of [`ActivityRow`]'s durations.
    fn elapsed(&self) -> Duration;
    /// [`Host::now_us`] and [`Host::elapsed`] of one moment.
    fn now(&self) -> (i64, Duration) {
        (self.now_us(), self.elapsed())
    }
    /// `pg_postmaster_start_time()`, on the same base.
    fn postmaster_start(&self) -> Duration;
    /// Whether this server is a standby (`pg_is_in_recovery()`; writes fail with 25006).
    fn in_recovery(&self) -> bool;
}
