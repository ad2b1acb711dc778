//! The simulated servers of a scenario, wherever they are served: what the worlds with such servers have in common.

use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::config as pg;
use poolproof_sim::postgres::error::PgError;
use poolproof_sim::postgres::event::{Lifecycle, Observer, Pid};
use poolproof_sim::postgres::server::{BackendInfo, Server};
use tokio::time::Instant;

use super::{Backend, Done};
use crate::scenario::model::{Scenario, ServerName, StopMode};
use crate::scenario::rehearsal::config;

/// The standby's process ids start here, so that a pid names one backend of the world.
const STANDBY_FIRST_PID: Pid = 500_000;

/// PostgreSQL's port.
pub const PORT: u16 = 5432;

/// The name of a server's host.
#[must_use]
pub fn host(server: ServerName) -> &'static str {
    match server {
        ServerName::Primary => "db-1",
        ServerName::Standby => "db-2",
    }
}

/// The scenario's servers, the primary first; both are down.
///
/// # Errors
/// The refusal of the scenario's settings or of its `sql`.
pub fn make(
    scenario: &Scenario,
    seed: u64,
    observer: &Arc<dyn Observer>,
) -> Result<Vec<(ServerName, Server)>, PgError> {
    let primary = Server::new(config(&scenario.server, seed), Some(Arc::clone(observer)))?;
    let mut servers = vec![(ServerName::Primary, primary)];
    if let Some(standby) = &scenario.standby {
        let mut config = config(&scenario.server, seed);
        config.name = "standby".to_owned();
        config.first_pid = STANDBY_FIRST_PID;
        config.initial_sql = String::new();
        config.standby = Some(pg::Standby { hot_standby: standby.hot_standby, promotion_time: standby.promotion_time });
        let server = Server::standby_of(&servers[0].1, config, Some(Arc::clone(observer)))?;
        servers.push((ServerName::Standby, server));
    }
    Ok(servers)
}

/// Waits until the server takes sessions.
pub async fn running(server: &Server) {
    let mut lifecycle = server.lifecycle_watch();
    while *lifecycle.borrow_and_update() != Lifecycle::Running {
        if lifecycle.changed().await.is_err() {
            return;
        }
    }
}

/// `pg_ctl stop`, until the server is down.
pub async fn stop(server: &Server, mode: StopMode) {
    let mode = match mode {
        StopMode::Smart => pg::StopMode::Smart,
        StopMode::Fast => pg::StopMode::Fast,
        StopMode::Immediate => pg::StopMode::Immediate,
    };
    server.stop(mode).await;
}

/// The client backends of a server, the oldest first. `made` is when the servers were made.
#[must_use]
pub fn backends(server: &Server, made: Instant) -> Vec<Backend> {
    // Those of a dead server are on their way out.
    let mut backends = if server.lifecycle() == Lifecycle::Down { Vec::new() } else { server.backends() };
    backends.sort_by_key(|backend| (backend.backend_start, backend.pid));
    let row = |backend: BackendInfo| Backend {
        pid: backend.pid,
        state: backend.state.as_str(),
        age: made.elapsed().saturating_sub(backend.backend_start),
        application_name: backend.application_name,
    };
    backends.into_iter().map(row).collect()
}

/// `pg_ctl promote` for the standby, if there is one.
///
/// # Errors
/// Why it does not become a primary.
pub fn promote(standby: Option<&Server>) -> Done {
    let Some(standby) = standby else { return Err("there is no standby".to_owned()) };
    if standby.promote() {
        return Ok(());
    }
    Err(match standby.lifecycle() {
        Lifecycle::Down => "standby is down".to_owned(),
        _ => "standby is a primary already".to_owned(),
    })
}

/// A bound on how long the servers may take to be ready: virtual time, a minute more than they say.
#[must_use]
pub fn boot_bound(scenario: &Scenario) -> Duration {
    scenario.server.startup_time + Duration::from_secs(60)
}
