//! The simulated servers of a scenario, wherever they are served: what the worlds with such servers have in common.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use poolproof_sim::postgres::config as pg;
use poolproof_sim::postgres::error::PgError;
use poolproof_sim::postgres::event::{Lifecycle, Observer, Pid, SessionReport};
use poolproof_sim::postgres::server::{BackendInfo, Server};
use tokio::time::Instant;

use super::{Backend, Control, Done};
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

/// The servers of a world, controlled as they are simulated.
pub struct Simulated {
    servers: Vec<(ServerName, Server)>,
    /// When they were made: the base of their durations.
    made: Instant,
}

impl Simulated {
    /// Of these servers, the primary first, which are made now.
    #[must_use]
    pub fn new(servers: Vec<(ServerName, Server)>) -> Simulated {
        Simulated { servers, made: Instant::now() }
    }

    /// The server of this name. The scenario's checks saw to it that a standby exists where one is named.
    fn server(&self, name: ServerName) -> &Server {
        let found = self.servers.iter().find(|(known, _)| *known == name);
        &found.unwrap_or(&self.servers[0]).1
    }
}

#[async_trait]
impl Control for Simulated {
    fn lifecycle(&self, server: ServerName) -> Lifecycle {
        self.server(server).lifecycle()
    }

    async fn running(&self, server: ServerName) {
        let mut lifecycle = self.server(server).lifecycle_watch();
        while *lifecycle.borrow_and_update() != Lifecycle::Running {
            if lifecycle.changed().await.is_err() {
                return;
            }
        }
    }

    async fn stop(&self, server: ServerName, mode: StopMode) -> Done {
        let mode = match mode {
            StopMode::Smart => pg::StopMode::Smart,
            StopMode::Fast => pg::StopMode::Fast,
            StopMode::Immediate => pg::StopMode::Immediate,
        };
        self.server(server).stop(mode).await;
        Ok(())
    }

    async fn slow_down(&self, server: ServerName, by: Duration) -> Done {
        self.server(server).slow_down(by);
        Ok(())
    }

    async fn backends(&self, server: ServerName) -> Result<Vec<Backend>, String> {
        let server = self.server(server);
        // Those of a dead server are on their way out.
        let mut backends = if server.lifecycle() == Lifecycle::Down { Vec::new() } else { server.backends() };
        backends.sort_by_key(|backend| (backend.backend_start, backend.pid));
        let row = |backend: BackendInfo| Backend {
            pid: backend.pid,
            state: backend.state.as_str(),
            age: self.made.elapsed().saturating_sub(backend.backend_start),
            application_name: backend.application_name,
        };
        Ok(backends.into_iter().map(row).collect())
    }

    async fn kill_backend(&self, server: ServerName, pid: Pid) -> Done {
        self.server(server).kill_backend(pid);
        Ok(())
    }

    async fn terminate(&self, server: ServerName, pid: Pid) -> Done {
        self.server(server).terminate(pid);
        Ok(())
    }

    async fn cancel(&self, server: ServerName, pid: Pid) -> Done {
        self.server(server).cancel(pid);
        Ok(())
    }

    async fn promote(&self) -> Done {
        let standby = self.servers.iter().find(|(name, _)| *name == ServerName::Standby);
        let Some((_, standby)) = standby else { return Err("there is no standby".to_owned()) };
        if standby.promote() {
            return Ok(());
        }
        Err(match standby.lifecycle() {
            Lifecycle::Down => "standby is down".to_owned(),
            _ => "standby is a primary already".to_owned(),
        })
    }

    async fn reload(&self, server: ServerName, setting: &str, value: &str) -> Done {
        self.server(server).reload(setting, value).map_err(|error| error.to_string())
    }

    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        self.server(ServerName::Primary).query(sql).map_err(|error| error.to_string())
    }

    fn session(&self, pid: Pid) -> Option<SessionReport> {
        self.servers.iter().find_map(|(_, server)| server.session_report(pid))
    }
}

/// A bound on how long the servers may take to be ready: virtual time, a minute more than they say.
#[must_use]
pub fn boot_bound(scenario: &Scenario) -> Duration {
    scenario.server.startup_time + Duration::from_secs(60)
}
