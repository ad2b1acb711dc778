//! Applies faults to the world, and takes them back.
//!
//! A fault that lasts leaves an [`Undo`]; it is done when its time is over, or at the start of the healing phase. What
//! can't be taken back (a forgotten flow, a killed process) stays.

use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::net::{self, FlowFilter, Host, Link, PortMode};
use poolproof_sim::postgres::config as pg;
use poolproof_sim::postgres::event::Lifecycle;
use poolproof_sim::postgres::server::BackendInfo;
use tokio_postgres::{Client, NoTls};

use super::sim::{PORT, SimWorld, Site, down, running};
use crate::apps::Apps;
use crate::scenario::model::{BackendFilter, Direction, FaultAction, ManagerCall, ServerName, StopMode};
use crate::workload::Traffic;

/// What ends a fault that lasts.
pub enum Undo {
    /// Statements take their usual time.
    Slow(ServerName),
    /// The link is the scenario's.
    Link,
    /// Segments arrive again.
    Heal(Vec<(Host, Host)>),
    /// Connects are answered.
    Ports,
    /// The firewall is the scenario's.
    IdleFlowTimeout,
    /// A manager's method works again.
    Manager(ManagerCall),
    /// Sessions of another client end.
    Sessions(Vec<tokio::task::JoinHandle<Vec<Client>>>),
}

/// What faults are applied to.
#[derive(Clone)]
pub struct Target {
    /// Servers and network.
    pub world: Arc<SimWorld>,
    /// Processes.
    pub apps: Arc<Apps>,
    /// Their actors.
    pub traffic: Arc<Traffic>,
}

impl Target {
    /// Begins a fault. Gives what takes it back, and when, if it lasts.
    pub fn begin(&self, action: &FaultAction) -> Option<(Undo, Option<Duration>)> {
        let world = &self.world;
        match action {
            FaultAction::ServerStop { server, mode } => {
                let server = world.site(*server).server.clone();
                let mode = stop_mode(*mode);
                world.tasks.spawn(async move { server.stop(mode).await });
                None
            }
            FaultAction::ServerStart { server } => {
                world.site(*server).start();
                None
            }
            FaultAction::ServerRestart { server, mode, down_for } => {
                let (world, name, mode, down_for) = (Arc::clone(world), *server, stop_mode(*mode), *down_for);
                world.tasks.clone().spawn(async move {
                    let site = world.site(name);
                    site.server.stop(mode).await;
                    tokio::time::sleep(down_for).await;
                    site.start();
                });
                None
            }
            FaultAction::ServerCrashBackend { server, filter } => {
                let site = world.site(*server);
                let one = BackendFilter { count: filter.count.or(Some(1)), ..filter.clone() };
                for backend in self.select(site, &one) {
                    site.server.kill_backend(backend.pid);
                }
                None
            }
            FaultAction::ServerKill { server, down_for } => {
                let site = world.site(*server);
                // The kernel closes a killed program's sockets; its own last words must not get out.
                site.host().kill_sockets();
                site.server.kill();
                self.start_later(*server, *down_for);
                None
            }
            FaultAction::ServerPowerLoss { server, down_for } => {
                let site = world.site(*server);
                site.host().power_off();
                site.server.power_loss();
                self.start_later(*server, *down_for);
                None
            }
            FaultAction::ServerSlow { server, by, lasts } => {
                world.site(*server).server.slow_down(*by);
                Some((Undo::Slow(*server), *lasts))
            }
            FaultAction::ServerTerminate { server, filter } => {
                let site = world.site(*server);
                for backend in self.select(site, filter) {
                    site.server.terminate(backend.pid);
                }
                None
            }
            FaultAction::ServerCancel { server, filter } => {
                let site = world.site(*server);
                for backend in self.select(site, filter) {
                    site.server.cancel(backend.pid);
                }
                None
            }
            FaultAction::ServerPromote => {
                if let Some(standby) = &world.standby {
                    standby.server.promote();
                }
                None
            }
            FaultAction::ServerSet { server, setting, value } => {
                // The scenario's checks can't know every setting's range: a refused reload is told by the server's log in
                // reality, and changes nothing.
                let _ = world.site(*server).server.reload(setting, value);
                None
            }
            FaultAction::ServerSql { server, sql, lasts } => {
                let session = self.sessions(*server, "postgres", "dba", 1, Some(sql.clone()));
                Some((Undo::Sessions(session), *lasts))
            }
            FaultAction::ServerOccupy { server, sessions, user, lasts } => {
                let sessions = self.sessions(*server, user, "other", *sessions, None);
                Some((Undo::Sessions(sessions), *lasts))
            }
            FaultAction::NetLatency { latency, jitter, lasts } => {
                world.set_link(Link { latency: *latency, jitter: *jitter, ..world.link() });
                Some((Undo::Link, *lasts))
            }
            FaultAction::NetBandwidth { bytes_per_second, lasts } => {
                world.set_link(Link { bandwidth: Some(*bytes_per_second), ..world.link() });
                Some((Undo::Link, *lasts))
            }
            FaultAction::NetPartition { app, direction, lasts } => {
                let mut cut = Vec::new();
                for client in world.hosts(app.as_deref()) {
                    for site in world.sites() {
                        let server = site.host();
                        let (from, to, direction) = match direction {
                            Direction::Both => (&client, &server, net::Direction::Both),
                            Direction::ToServer => (&client, &server, net::Direction::AToB),
                            Direction::ToApp => (&server, &client, net::Direction::AToB),
                        };
                        world.net.partition(from, to, direction);
                        cut.push((from.clone(), to.clone()));
                    }
                }
                Some((Undo::Heal(cut), *lasts))
            }
            FaultAction::NetForget { older_than, app } => {
                for filter in self.flows(*older_than, app.as_deref()) {
                    world.net.forget_flows(&filter);
                }
                None
            }
            FaultAction::NetReset { older_than, app } => {
                for filter in self.flows(*older_than, app.as_deref()) {
                    world.net.reset_flows(&filter);
                }
                None
            }
            FaultAction::NetRefuse { lasts } => Some((self.ports(PortMode::Refuse), *lasts)),
            FaultAction::NetLoseConnects { lasts } => Some((self.ports(PortMode::LoseSyn), *lasts)),
            FaultAction::NetAcceptSilence { lasts } => Some((self.ports(PortMode::AcceptSilence), *lasts)),
            FaultAction::NetIdleFlowTimeout { timeout, lasts } => {
                world.set_idle_flow_timeout(Some(*timeout));
                Some((Undo::IdleFlowTimeout, *lasts))
            }
            FaultAction::DnsRepoint { to } => {
                world.net.set_name(super::sim::NAME, &world.site(*to).host());
                None
            }
            FaultAction::AppKill { app, process, older_than, restart_after } => {
                self.kill(app, *process, *older_than, *restart_after, false);
                None
            }
            FaultAction::ActorKill { workload, older_than, count } => {
                self.traffic.kill_actors(workload, *older_than, *count);
                None
            }
            FaultAction::Manager { call, how, lasts } => {
                world.script.set(*call, Some(*how));
                Some((Undo::Manager(*call), *lasts))
            }
            FaultAction::AppPowerLoss { app, process, restart_after } => {
                self.kill(app, *process, None, *restart_after, true);
                None
            }
        }
    }

    /// Takes a fault back.
    pub fn end(&self, undo: Undo) {
        let world = &self.world;
        match undo {
            Undo::Slow(server) => world.site(server).server.slow_down(Duration::ZERO),
            Undo::Link => world.restore_link(),
            Undo::Heal(cut) => {
                for (a, b) in cut {
                    world.net.heal(&a, &b);
                }
            }
            Undo::Ports => {
                let _ = self.ports(PortMode::Open);
            }
            Undo::Manager(call) => world.script.set(call, None),
            Undo::IdleFlowTimeout => world.set_idle_flow_timeout(world.scenario.network.idle_flow_timeout),
            Undo::Sessions(sessions) => {
                for session in sessions {
                    // One that is still dialling or running its statement ends here; a finished one's client is the
                    // task's result, and goes with the handle.
                    session.abort();
                    drop(session);
                }
            }
        }
    }

    /// Makes the servers run again, whatever befell them: for the healing phase.
    pub fn heal_servers(&self) {
        for name in [ServerName::Primary, ServerName::Standby] {
            if name == ServerName::Standby && self.world.standby.is_none() {
                continue;
            }
            let world = Arc::clone(&self.world);
            world.tasks.clone().spawn(async move {
                let site = world.site(name);
                // A smart stop may be waiting for its last session.
                if site.server.lifecycle() == Lifecycle::ShuttingDown {
                    down(&site.server).await;
                }
                site.start();
                running(&site.server).await;
            });
        }
    }

    fn start_later(&self, server: ServerName, after: Option<Duration>) {
        let Some(after) = after else { return };
        let world = Arc::clone(&self.world);
        world.tasks.clone().spawn(async move {
            tokio::time::sleep(after).await;
            world.site(server).start();
        });
    }

    fn kill(
        &self,
        app: &str,
        process: Option<u32>,
        older_than: Option<Duration>,
        restart_after: Option<Duration>,
        power_loss: bool,
    ) {
        for seat in self.apps.seats(app, process, older_than) {
            if !self.apps.kill(&self.traffic, app, seat, power_loss) {
                continue;
            }
            let Some(after) = restart_after else { continue };
            let (apps, app, due) = (Arc::clone(&self.apps), app.to_owned(), self.apps.restart_due());
            self.world.tasks.spawn(async move {
                tokio::time::sleep(after).await;
                apps.start(&app, seat).await;
                drop(due);
            });
        }
    }

    fn ports(&self, mode: PortMode) -> Undo {
        for site in self.world.sites() {
            self.world.net.set_port_mode(&site.host(), PORT, mode);
        }
        Undo::Ports
    }

    fn flows(&self, older_than: Option<Duration>, app: Option<&str>) -> Vec<FlowFilter> {
        let mut filters = Vec::new();
        for client in self.world.hosts(app) {
            for site in self.world.sites() {
                let filter = FlowFilter::all().between(&client, &site.host());
                filters.push(match older_than {
                    Some(age) => filter.older_than(age),
                    None => filter,
                });
            }
        }
        filters
    }

    /// The client backends that the filter means, the oldest first.
    fn select(&self, site: &Site, filter: &BackendFilter) -> Vec<BackendInfo> {
        let mut backends = site.server.backends();
        backends.retain(|backend| {
            filter.app.as_deref().is_none_or(|app| backend.application_name == app)
                && filter.state.as_deref().is_none_or(|state| backend.state.as_str() == state)
                && filter.older_than.is_none_or(|age| self.world.since(backend.backend_start) >= age)
        });
        backends.sort_by_key(|backend| (backend.backend_start, backend.pid));
        if let Some(count) = filter.count {
            backends.truncate(count as usize);
        }
        backends
    }

    /// Sessions of a client that is none of the apps, from a host of its own.
    fn sessions(
        &self,
        server: ServerName,
        user: &str,
        application: &str,
        count: u32,
        sql: Option<String>,
    ) -> Vec<tokio::task::JoinHandle<Vec<Client>>> {
        let host = self.world.other_host(application);
        let name = match server {
            ServerName::Primary => "db-1",
            ServerName::Standby => "db-2",
        };
        let config = self.world.driver_config(application, user);
        (0..count)
            .map(|_| {
                let (host, config, sql) = (host.clone(), config.clone(), sql.clone());
                let tasks = self.world.tasks.clone();
                self.world.tasks.spawn(async move {
                    let options = net::SocketOptions::default();
                    let Ok(stream) = host.connect(name, PORT, &options).await else { return Vec::new() };
                    let Ok((client, connection)) = config.connect_raw(stream, NoTls).await else { return Vec::new() };
                    tasks.spawn(connection);
                    if let Some(sql) = sql {
                        // Its failure is in the server's events; the session stays as the statement left it.
                        let _ = client.batch_execute(&sql).await;
                    }
                    vec![client]
                })
            })
            .collect()
    }
}

fn stop_mode(mode: StopMode) -> pg::StopMode {
    match mode {
        StopMode::Smart => pg::StopMode::Smart,
        StopMode::Fast => pg::StopMode::Fast,
        StopMode::Immediate => pg::StopMode::Immediate,
    }
}
