//! A real server behind a proxy, as a run asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use poolproof_sim::net::{Link, SocketOptions};
use poolproof_sim::postgres::event::{Lifecycle, Observer, Pid, ServerEvent, SessionReport};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

use super::proxy::sampler::{Asks, Sampler};
use super::proxy::{Proxy, Seat};
use super::server::{Kind, Server, ServerError, Setup};
use super::{Servers, lacks_control};
use crate::pool::connector::{Dialer, Dialling, Socket};
use crate::pool::resource::Script;
use crate::scenario::model::{Direction, Scenario, ServerName, StopMode};
use crate::world::sim::socket_options;
use crate::world::tasks::Tasks;
use crate::world::{
    Backend, Control, Done, LinkChange, Machine, PortMode, Undoing, World, is_machine_of, link, machine_name, sentence,
};

/// The name that apps dial. It is no server's.
const NAME: &str = "database";
/// How often `pg_stat_activity` and `pg_locks` are looked at.
const SAMPLE: Duration = Duration::from_millis(25);
/// The shortest wait of the harness itself that a real machine keeps up with.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The world of one run.
pub struct PostgresWorld {
    scenario: Arc<Scenario>,
    scale: f64,
    tasks: Tasks,
    script: Arc<Script>,
    proxy: Arc<Proxy>,
    sites: Vec<Site>,
    link: Mutex<Link>,
    seats: Mutex<BTreeMap<String, Seat>>,
    /// What follows the servers' lives, logs and activity.
    watchers: Mutex<Vec<AbortHandle>>,
    servers: Arc<Servers>,
}

/// One server.
struct Site {
    name: ServerName,
    server: Option<Arc<Server>>,
}

impl Site {
    fn server(&self) -> &Arc<Server> {
        self.server.as_ref().expect("it is there until the world ends")
    }
}

impl Drop for PostgresWorld {
    fn drop(&mut self) {
        self.stop_watching();
        // The standby first: it follows the primary.
        for site in self.sites.iter_mut().rev() {
            if let Some(server) = site.server.take() {
                self.servers.dispose(server);
            }
        }
    }
}

impl PostgresWorld {
    /// Makes the servers and the network between.
    ///
    /// # Errors
    /// A server's: it does not start, or refuses the scenario's settings or `sql`.
    pub async fn new(
        scenario: &Arc<Scenario>,
        seed: u64,
        scale: f64,
        observer: Arc<dyn Observer>,
        servers: Arc<Servers>,
    ) -> Result<Arc<PostgresWorld>, ServerError> {
        let tasks = Tasks::default();
        let mut sites = Vec::new();
        let (source, setup) = (Arc::clone(servers.source()), Setup::of(scenario));
        let primary = Arc::new(servers.with(async move { source.server(setup).await }).await?);
        sites.push(Site { name: ServerName::Primary, server: Some(Arc::clone(&primary)) });
        if scenario.standby.is_some() {
            let standby = servers.with(async move { primary.standby().await }).await?;
            sites.push(Site { name: ServerName::Standby, server: Some(Arc::new(standby)) });
        }
        let proxy = Arc::new(Proxy::new(Arc::clone(&observer), tasks.clone(), seed));
        proxy.set_dns_ttl(scenario.network.dns_ttl);
        proxy.set_idle_flow_timeout(scenario.network.idle_flow_timeout);
        let world = PostgresWorld {
            scenario: Arc::clone(scenario),
            scale,
            tasks,
            script: Arc::default(),
            proxy,
            sites,
            link: Mutex::new(link(scenario)),
            seats: Mutex::default(),
            watchers: Mutex::default(),
            servers,
        };
        world.set_link(link(scenario));
        for site in &world.sites {
            let name = sentence::name(site.name);
            world.proxy.add_upstream(name, site.server().address());
            world.proxy.set_checks_clients(name, checks_clients(scenario));
            world.watch(site, Arc::clone(&observer));
        }
        world.proxy.set_name(NAME, sentence::name(ServerName::Primary));
        Ok(Arc::new(world))
    }

    /// What of the scenario these servers can't do, a reason each.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        let said = self.sites.iter().flat_map(|site| site.server().unsupported());
        let mut reasons: Vec<String> =
            said.map(|reason| reason.strip_prefix("unsupported: ").unwrap_or(reason).to_owned()).collect();
        if self.servers.source().kind() == Kind::Url {
            reasons.extend(lacks_control(&self.scenario));
        }
        reasons.dedup();
        reasons
    }

    /// Ends what follows the servers: what happens to them now is the end of the world.
    pub fn stop_watching(&self) {
        self.watchers.lock().drain(..).for_each(|watcher| watcher.abort());
    }

    /// Follows a server: its life is that of its port, its log and its activity tell what no wire shows.
    fn watch(&self, site: &Site, observer: Arc<dyn Observer>) {
        let (name, server) = (sentence::name(site.name), site.server());
        let mut watchers = self.watchers.lock();
        let mut spawn = |task| watchers.push(task);

        let (proxy, told) = (Arc::clone(&self.proxy), Arc::clone(&observer));
        let mut changes = server.lifecycle_changes();
        self.proxy.set_port_open(name, server.lifecycle() != Lifecycle::Down);
        spawn(
            self.tasks
                .spawn(async move {
                    loop {
                        match changes.recv().await {
                            Ok(state) => {
                                proxy.set_port_open(name, state != Lifecycle::Down);
                                told.server_event(name, ServerEvent::Lifecycle(state));
                            }
                            Err(RecvError::Lagged(_)) => {}
                            Err(RecvError::Closed) => return,
                        }
                    }
                })
                .abort_handle(),
        );

        if site.name == ServerName::Standby {
            let mut in_recovery = server.in_recovery();
            spawn(
                self.tasks
                    .spawn(async move {
                        if in_recovery.wait_for(|recovers| !recovers).await.is_ok() {
                            observer.server_event(name, ServerEvent::Promoted);
                        }
                    })
                    .abort_handle(),
            );
        }

        let (proxy, mut log) = (Arc::clone(&self.proxy), server.follow_log());
        spawn(
            self.tasks
                .spawn(async move {
                    loop {
                        match log.recv().await {
                            Ok(entry) => proxy.log_line(&entry.to_jsonlog()),
                            Err(RecvError::Lagged(_)) => {}
                            Err(RecvError::Closed) => return,
                        }
                    }
                })
                .abort_handle(),
        );

        let asks = Arc::new(Question { servers: Arc::clone(&self.servers), server: Arc::clone(server) });
        let sampler = Sampler::new(&self.proxy, name, asks);
        spawn(self.tasks.spawn(sampler.run(SAMPLE)).abort_handle());
    }

    fn server(&self, name: ServerName) -> &Arc<Server> {
        let site = self.sites.iter().find(|site| site.name == name).unwrap_or(&self.sites[0]);
        site.server()
    }

    /// Does something with a server, where servers are controlled.
    async fn with<T, F>(&self, name: ServerName, action: impl FnOnce(Arc<Server>) -> F + Send) -> Result<T, ServerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ServerError>> + Send + 'static,
    {
        self.servers.with(action(Arc::clone(self.server(name)))).await
    }

    fn set_link(&self, link: Link) {
        *self.link.lock() = link;
        self.proxy.set_link(link);
    }

    /// The names of the seats of an app, or of all apps.
    fn seats_of(&self, app: Option<&str>) -> Vec<String> {
        self.seats.lock().keys().filter(|name| is_machine_of(name, app)).cloned().collect()
    }
}

/// Whether the server looks after its clients while a statement runs.
fn checks_clients(scenario: &Scenario) -> bool {
    let interval = scenario.server.settings.get("client_connection_check_interval");
    interval.is_some_and(|interval| {
        !interval.trim_start_matches('0').is_empty() && interval.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Asks a server past the proxy.
struct Question {
    servers: Arc<Servers>,
    server: Arc<Server>,
}

#[async_trait]
impl Asks for Question {
    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let (server, sql) = (Arc::clone(&self.server), sql.to_owned());
        self.servers.with(async move { server.query(&sql).await }).await.map_err(|error| error.to_string())
    }
}

fn text(error: &ServerError) -> String {
    error.to_string()
}

#[async_trait]
impl Control for PostgresWorld {
    fn lifecycle(&self, server: ServerName) -> Lifecycle {
        self.server(server).lifecycle()
    }

    async fn running(&self, server: ServerName) {
        let mut lifecycle = self.server(server).lifecycle_watch();
        let _it_is_gone = lifecycle.wait_for(|state| *state == Lifecycle::Running).await;
    }

    async fn stop(&self, server: ServerName, mode: StopMode) -> Done {
        match self.with(server, move |server| async move { server.stop(mode).await }).await {
            // It went down in the same moment.
            Ok(()) | Err(ServerError::State(Lifecycle::Down)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn slow_down(&self, _server: ServerName, _by: Duration) -> Done {
        Err("a real server can't be made slower".to_owned())
    }

    async fn backends(&self, server: ServerName) -> Result<Vec<Backend>, String> {
        if self.lifecycle(server) == Lifecycle::Down {
            return Ok(Vec::new());
        }
        let rows =
            self.with(server, |server| async move { server.backends().await }).await.map_err(|error| text(&error))?;
        let row = |row: super::server::Backend| Backend {
            pid: row.pid,
            application_name: row.application_name,
            state: match row.state.as_deref() {
                Some("active" | "fastpath function call") => "active",
                Some("idle") => "idle",
                Some("idle in transaction") => "idle in transaction",
                Some("idle in transaction (aborted)") => "idle in transaction (aborted)",
                _ => "starting",
            },
            age: row.age,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn kill_backend(&self, server: ServerName, pid: Pid) -> Done {
        self.with(server, move |server| async move { server.kill_backend(pid).await })
            .await
            .map_err(|error| text(&error))
    }

    async fn terminate(&self, server: ServerName, pid: Pid) -> Done {
        let done = self.with(server, move |server| async move { server.terminate(pid).await }).await;
        done.map(drop).map_err(|error| text(&error))
    }

    async fn cancel(&self, server: ServerName, pid: Pid) -> Done {
        let done = self.with(server, move |server| async move { server.cancel(pid).await }).await;
        done.map(drop).map_err(|error| text(&error))
    }

    async fn promote(&self) -> Done {
        let name = ServerName::Standby;
        if self.lifecycle(name) == Lifecycle::Down {
            return Err("standby is down".to_owned());
        }
        if !*self.server(name).in_recovery().borrow() {
            return Err("standby is a primary already".to_owned());
        }
        self.with(name, |server| async move { server.promote().await }).await.map_err(|error| text(&error))
    }

    async fn reload(&self, server: ServerName, setting: &str, value: &str) -> Done {
        let (setting, value) = (setting.to_owned(), value.to_owned());
        let done = self.with(server, |server| async move { server.reload(&setting, &value).await }).await;
        done.map_err(|error| text(&error))
    }

    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let sql = sql.to_owned();
        self.with(ServerName::Primary, |server| async move { server.query(&sql).await })
            .await
            .map_err(|error| text(&error))
    }

    fn session(&self, pid: Pid) -> Option<SessionReport> {
        self.proxy.session(pid)
    }
}

#[async_trait]
impl World for PostgresWorld {
    fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn other_tasks(&self) -> usize {
        0
    }

    fn script(&self) -> &Arc<Script> {
        &self.script
    }

    fn is_in_real_time(&self) -> bool {
        true
    }

    fn patience(&self, time: Duration) -> Duration {
        time.mul_f64(self.scale).max(LEAST_PATIENCE.min(time))
    }

    fn control(&self) -> &dyn Control {
        self
    }

    async fn start(&self, server: ServerName) -> Done {
        let started = self.with(server, |server| async move { server.start().await }).await;
        match started {
            Ok(()) => {
                self.proxy.set_powered(sentence::name(server), true);
                Ok(())
            }
            Err(ServerError::State(state)) => Err(format!("{} is {}", sentence::name(server), state.as_str())),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn kill(&self, server: ServerName) -> Done {
        match self.with(server, |server| async move { server.kill().await }).await {
            Ok(()) | Err(ServerError::State(Lifecycle::Down)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn power_loss(&self, server: ServerName) -> Done {
        // First the silence: the kernel would close the sockets of what is killed.
        self.proxy.set_powered(sentence::name(server), false);
        self.kill(server).await
    }

    fn visitor(&self, server: ServerName, machine: &str) -> Arc<dyn Dialer> {
        let options = SocketOptions::default();
        Arc::new(Way { seat: self.proxy.seat(machine), name: sentence::name(server), options, alive: None })
    }

    fn repoint(&self, server: ServerName) {
        self.proxy.set_name(NAME, sentence::name(server));
    }

    fn change_link(&self, change: LinkChange) {
        let now = *self.link.lock();
        self.set_link(change.of(now, &self.scenario));
    }

    fn partition(&self, app: Option<&str>, direction: Direction) -> Undoing {
        let mut cut = Vec::new();
        for seat in self.seats_of(app) {
            for site in &self.sites {
                let server = sentence::name(site.name);
                self.proxy.partition(&seat, server, direction);
                cut.push((seat.clone(), server));
            }
        }
        let proxy = Arc::clone(&self.proxy);
        Box::new(move || cut.iter().for_each(|(seat, server)| proxy.heal(seat, server)))
    }

    fn forget(&self, app: Option<&str>, older_than: Option<Duration>) {
        for seat in self.seats_of(app) {
            self.proxy.forget_flows(Some(&seat), older_than);
        }
    }

    fn reset(&self, app: Option<&str>, older_than: Option<Duration>) {
        for seat in self.seats_of(app) {
            self.proxy.reset_flows(Some(&seat), older_than);
        }
    }

    fn set_ports(&self, mode: PortMode) {
        for site in &self.sites {
            self.proxy.set_port_mode(sentence::name(site.name), mode);
        }
    }

    fn set_idle_flow_timeout(&self, timeout: Option<Duration>) {
        self.proxy.set_idle_flow_timeout(timeout.or(self.scenario.network.idle_flow_timeout));
    }

    fn machine(&self, app: &str, seat: u32) -> Arc<dyn Machine> {
        let name = machine_name(app, seat);
        let mut seats = self.seats.lock();
        let seat = match seats.get(&name) {
            Some(seat) if seat.is_alive() => seat.clone(),
            Some(dead) => dead.power_on(),
            None => self.proxy.seat(&name),
        };
        seats.insert(name, seat.clone());
        Arc::new(Place { seat, options: socket_options(&self.scenario.network.client) })
    }

    fn unread(&self, pid: Pid) -> u64 {
        self.proxy.unread(pid)
    }

    fn password(&self, role: &str) -> Option<String> {
        self.server(ServerName::Primary).password(role).map(str::to_owned)
    }
}

/// A seat that a process sits on.
struct Place {
    seat: Seat,
    options: SocketOptions,
}

impl Machine for Place {
    fn dialer(&self, alive: Arc<AtomicBool>) -> Arc<dyn Dialer> {
        Arc::new(Way { seat: self.seat.clone(), name: NAME, options: self.options, alive: Some(alive) })
    }

    fn kill_sockets(&self) {
        self.seat.kill_sockets();
    }

    fn power_off(&self) {
        self.seat.power_off();
    }
}

/// The way from a seat to a name.
struct Way {
    seat: Seat,
    name: &'static str,
    options: SocketOptions,
    alive: Option<Arc<AtomicBool>>,
}

impl Dialer for Way {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            if self.alive.as_ref().is_some_and(|alive| !alive.load(Ordering::Relaxed)) {
                return std::future::pending().await;
            }
            let stream = self.seat.dial(self.name, &self.options).await?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}
