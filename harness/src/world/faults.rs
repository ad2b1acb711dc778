//! Applies faults to the world, and takes them back.
//!
//! A fault that lasts leaves an [`Undo`]; it is done when its time is over, or at the start of the healing phase. What
//! can't be taken back (a forgotten flow, a killed process) stays.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::postgres::event::{Lifecycle, Pid};
use tokio_postgres::{Client, NoTls};

use super::{Backend, Done, LinkChange, PortMode, Undoing, World, sentence};
use crate::apps::Apps;
use crate::scenario::model::{BackendFilter, FaultAction, ManagerCall, ServerName, StopMode};
use crate::trace::What;
use crate::workload::Traffic;

/// What ends a fault that lasts.
pub enum Undo {
    /// Statements take their usual time.
    Slow(ServerName),
    /// The link is the scenario's.
    Link,
    /// Segments arrive again.
    Heal(Undoing),
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
    pub world: Arc<dyn World>,
    /// Processes.
    pub apps: Arc<Apps>,
    /// Their actors.
    pub traffic: Arc<Traffic>,
    /// Who is told of what happens.
    pub teller: Teller,
}

/// Tells what happens to the world, and keeps the scenario's own mistakes.
#[derive(Clone)]
pub struct Teller {
    tell: Arc<dyn Fn(What) + Send + Sync>,
    mistakes: Arc<Mutex<Vec<String>>>,
}

impl Teller {
    /// One that tells this.
    #[must_use]
    pub fn new(tell: impl Fn(What) + Send + Sync + 'static) -> Teller {
        Teller { tell: Arc::new(tell), mistakes: Arc::default() }
    }

    /// Tells an event.
    pub fn tell(&self, what: What) {
        (self.tell)(what);
    }

    /// What was done by mistake of the scenario, a sentence each: a run with such a fault shows nothing.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        self.mistakes.lock().clone()
    }

    /// For one fault, by its place in the file.
    fn of(&self, fault: usize) -> OfFault {
        OfFault { teller: self.clone(), fault }
    }
}

/// Tells what came of a fault where its beginning does not say so.
#[derive(Clone)]
struct OfFault {
    teller: Teller,
    fault: usize,
}

impl OfFault {
    fn effect(&self, text: impl Into<Arc<str>>) {
        self.teller.tell(What::FaultEffect { fault: Some(self.fault), text: text.into() });
    }

    /// So many were found for the fault.
    fn found(&self, found: usize, wanted: Option<u32>, what: &str) {
        if let Some(text) = sentence::found(found, wanted, what) {
            self.effect(text);
        }
    }

    fn mistake(&self, text: String) {
        self.teller.mistakes.lock().push(format!("fault {}: {text}", self.fault + 1));
        self.effect(text);
    }

    /// `pg_ctl start`.
    async fn start(&self, world: &dyn World, server: ServerName) {
        if let Err(why) = world.start(server).await {
            self.effect(format!("pg_ctl start fails: {why}"));
        }
    }

    /// What a world could not do at all leaves nothing to judge.
    fn done(&self, done: Done) {
        if let Err(why) = done {
            self.mistake(why);
        }
    }
}

/// Why a session of another client did not do what it was for.
struct Failure {
    /// SQLSTATE, if a server said so.
    code: Option<String>,
    text: String,
    /// It never began.
    refused: bool,
}

impl Failure {
    fn new(error: &tokio_postgres::Error, refused: bool) -> Failure {
        match error.as_db_error() {
            Some(error) => {
                let code = error.code().code();
                Failure { code: Some(code.to_owned()), text: format!("{code} {}", error.message()), refused }
            }
            None => Failure { code: None, text: error.to_string(), refused },
        }
    }

    /// Whether the statement could not have succeeded at any time. What the world does to it (a timeout, a deadlock, no
    /// slot, the server's end) is no mistake.
    fn is_mistake(&self) -> bool {
        let worlds = |class: &str| matches!(class, "08" | "40" | "53" | "55" | "57" | "58");
        !self.refused && self.code.as_deref().and_then(|code| code.get(..2)).is_some_and(|class| !worlds(class))
    }
}

impl Target {
    /// Begins a fault, by its place in the file. Gives what takes it back, and when, if it lasts.
    pub async fn begin(&self, fault: usize, action: &FaultAction) -> Option<(Undo, Option<Duration>)> {
        let world = &self.world;
        let told = self.teller.of(fault);
        match action {
            FaultAction::ServerStop { server, mode } => {
                if world.control().lifecycle(*server) == Lifecycle::Down {
                    told.effect(format!("pg_ctl stop fails: {} is down", sentence::name(*server)));
                    return None;
                }
                let (world, server, mode) = (Arc::clone(world), *server, *mode);
                world.tasks().clone().spawn(async move { told.done(world.control().stop(server, mode).await) });
                None
            }
            FaultAction::ServerStart { server } => {
                told.start(&**world, *server).await;
                None
            }
            FaultAction::ServerRestart { server, mode, down_for } => {
                let (world, server, mode, down_for) = (Arc::clone(world), *server, *mode, *down_for);
                world.tasks().clone().spawn(async move {
                    told.done(world.control().stop(server, mode).await);
                    tokio::time::sleep(down_for).await;
                    told.start(&*world, server).await;
                });
                None
            }
            FaultAction::ServerCrashBackend { server, filter } => {
                let one = BackendFilter { count: filter.count.or(Some(1)), ..filter.clone() };
                for backend in self.select(&told, *server, &one).await {
                    told.done(world.control().kill_backend(*server, backend.pid).await);
                }
                None
            }
            FaultAction::ServerKill { server, down_for } => {
                if world.control().lifecycle(*server) == Lifecycle::Down {
                    told.effect(format!("{} was down already", sentence::name(*server)));
                }
                told.done(world.kill(*server).await);
                self.start_later(told, *server, *down_for);
                None
            }
            FaultAction::ServerPowerLoss { server, down_for } => {
                told.done(world.power_loss(*server).await);
                self.start_later(told, *server, *down_for);
                None
            }
            FaultAction::ServerSlow { server, by, lasts } => {
                told.done(world.control().slow_down(*server, *by).await);
                Some((Undo::Slow(*server), *lasts))
            }
            FaultAction::ServerTerminate { server, filter } => {
                for backend in self.select(&told, *server, filter).await {
                    told.done(world.control().terminate(*server, backend.pid).await);
                }
                None
            }
            FaultAction::ServerCancel { server, filter } => {
                for backend in self.select(&told, *server, filter).await {
                    told.done(world.control().cancel(*server, backend.pid).await);
                }
                None
            }
            FaultAction::ServerPromote => {
                if let Err(why) = world.control().promote().await {
                    told.effect(format!("pg_ctl promote fails: {why}"));
                }
                None
            }
            FaultAction::ServerSet { server, setting, value } => {
                // The scenario's checks asked a server of the same version already.
                if let Err(error) = world.control().reload(*server, setting, value).await {
                    told.mistake(format!("the reload changes nothing: {error}"));
                }
                None
            }
            FaultAction::ServerSql { server, sql, lasts } => {
                let session = self.sessions(*server, "postgres", "dba", 1, Some(sql.clone()), move |result| {
                    let Err(failure) = result else { return };
                    let text = &failure.text;
                    match (failure.refused, failure.is_mistake()) {
                        (true, _) => told.effect(format!("the DBA's session does not come about: {text}")),
                        (false, false) => told.effect(format!("the DBA's statement fails: {text}")),
                        (false, true) => told.mistake(format!("the DBA's statement fails: {text}")),
                    }
                });
                Some((Undo::Sessions(session), *lasts))
            }
            FaultAction::ServerOccupy { server, sessions, user, lasts } => {
                // How many are still to come, how many failed, and the first reason.
                let state = Mutex::new((*sessions, 0u32, String::new()));
                let asked = *sessions;
                let sessions = self.sessions(*server, user, "other", asked, None, move |result| {
                    let mut state = state.lock();
                    state.0 = state.0.saturating_sub(1);
                    if let Err(failure) = result {
                        state.1 += 1;
                        if state.2.is_empty() {
                            state.2 = failure.text;
                        }
                    }
                    if let (0, failed @ 1.., why) = &*state {
                        told.effect(format!("{} of the {asked} sessions came about ({why})", asked - failed));
                    }
                });
                Some((Undo::Sessions(sessions), *lasts))
            }
            FaultAction::NetLatency { latency, jitter, lasts } => {
                world.change_link(LinkChange::Latency { latency: *latency, jitter: *jitter });
                Some((Undo::Link, *lasts))
            }
            FaultAction::NetBandwidth { bytes_per_second, lasts } => {
                world.change_link(LinkChange::Bandwidth(*bytes_per_second));
                Some((Undo::Link, *lasts))
            }
            FaultAction::NetPartition { app, direction, lasts } => {
                Some((Undo::Heal(world.partition(app.as_deref(), *direction)), *lasts))
            }
            FaultAction::NetForget { older_than, app } => {
                world.forget(app.as_deref(), *older_than);
                None
            }
            FaultAction::NetReset { older_than, app } => {
                world.reset(app.as_deref(), *older_than);
                None
            }
            FaultAction::NetMessage { place, what } => {
                let text: Arc<str> = sentence::begin(action).into();
                let teller = told.clone();
                let strikes = move |struck: bool| {
                    teller.teller.tell(What::FaultBegin { index: teller.fault, text: Arc::clone(&text) });
                    if !struck {
                        teller.effect("there is no backend yet");
                    }
                };
                if let Err(why) = world.at_message(*place, *what, Box::new(strikes)) {
                    told.mistake(why);
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
                world.repoint(*to);
                None
            }
            FaultAction::AppKill { app, process, older_than, restart_after } => {
                self.kill(&told, app, *process, *older_than, *restart_after, false);
                None
            }
            FaultAction::ActorKill { workload, older_than, count } => {
                let killed = self.traffic.kill_actors(workload, *older_than, *count);
                told.found(killed, *count, "actor");
                None
            }
            FaultAction::Manager { call, how, lasts } => {
                world.script().set(*call, Some(*how));
                Some((Undo::Manager(*call), *lasts))
            }
            FaultAction::AppPowerLoss { app, process, restart_after } => {
                self.kill(&told, app, *process, None, *restart_after, true);
                None
            }
        }
    }

    /// Takes a fault back.
    pub async fn end(&self, fault: usize, undo: Undo) {
        let world = &self.world;
        match undo {
            Undo::Slow(server) => self.teller.of(fault).done(world.control().slow_down(server, Duration::ZERO).await),
            Undo::Link => world.change_link(LinkChange::Restored),
            Undo::Heal(heal) => heal(),
            Undo::Ports => world.set_ports(PortMode::Open),
            Undo::Manager(call) => world.script().set(call, None),
            Undo::IdleFlowTimeout => world.set_idle_flow_timeout(None),
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

    /// Makes the servers run again, whatever befell them: for the healing phase. A stop that is under way becomes a fast one,
    /// since a smart one waits for sessions that a pool may never let go.
    pub fn heal_servers(&self) {
        for name in self.world.servers() {
            let (world, teller) = (Arc::clone(&self.world), self.teller.clone());
            world.tasks().clone().spawn(async move {
                if world.control().lifecycle(*name) == Lifecycle::ShuttingDown {
                    let text = format!("{} is stopped fast, to be started again", sentence::name(*name));
                    teller.tell(What::FaultEffect { fault: None, text: text.into() });
                    let _down_or_on_its_way = world.control().stop(*name, StopMode::Fast).await;
                }
                // It may run already, or be on its way.
                let _ = world.start(*name).await;
                world.control().running(*name).await;
            });
        }
    }

    /// Cancels what runs on these backends. Whoever sent it is gone, and no pool is told that its statement goes on.
    pub async fn cancel(&self, pids: &[Pid]) {
        if pids.is_empty() {
            return;
        }
        let control = self.world.control();
        let mut cancelled = 0;
        for name in self.world.servers() {
            // A server that is down runs nothing.
            let backends = control.backends(*name).await.unwrap_or_default();
            for backend in backends.iter().filter(|backend| backend.state == "active" && pids.contains(&backend.pid)) {
                cancelled += u32::from(control.cancel(*name, backend.pid).await.is_ok());
            }
        }
        if cancelled > 0 {
            let text = format!("what {cancelled} of the callers that are given up had sent is cancelled");
            self.teller.tell(What::FaultEffect { fault: None, text: text.into() });
        }
    }

    fn start_later(&self, told: OfFault, server: ServerName, after: Option<Duration>) {
        let Some(after) = after else { return };
        let world = Arc::clone(&self.world);
        world.tasks().clone().spawn(async move {
            tokio::time::sleep(after).await;
            told.start(&*world, server).await;
        });
    }

    fn kill(
        &self,
        told: &OfFault,
        app: &str,
        process: Option<u32>,
        older_than: Option<Duration>,
        restart_after: Option<Duration>,
        power_loss: bool,
    ) {
        let seats = self.apps.seats(app, process, older_than);
        told.found(seats.len(), process.map(|_| 1), "process");
        for seat in seats {
            if !self.apps.kill(&self.traffic, app, seat, power_loss) {
                continue;
            }
            let Some(after) = restart_after else { continue };
            let (apps, app, due) = (Arc::clone(&self.apps), app.to_owned(), self.apps.restart_due());
            self.world.tasks().spawn(async move {
                tokio::time::sleep(after).await;
                apps.start(&app, seat).await;
                drop(due);
            });
        }
    }

    fn ports(&self, mode: PortMode) -> Undo {
        self.world.set_ports(mode);
        Undo::Ports
    }

    /// The client backends that the filter means, the oldest first.
    async fn select(&self, told: &OfFault, server: ServerName, filter: &BackendFilter) -> Vec<Backend> {
        let mut backends = match self.world.control().backends(server).await {
            Ok(backends) => backends,
            Err(why) => {
                told.mistake(why);
                return Vec::new();
            }
        };
        backends.retain(|backend| {
            filter.app.as_deref().is_none_or(|app| backend.application_name == app)
                && filter.state.as_deref().is_none_or(|state| backend.state == state)
                && filter.older_than.is_none_or(|age| backend.age >= age)
        });
        if let Some(count) = filter.count {
            backends.truncate(count as usize);
        }
        told.found(backends.len(), filter.count, "backend");
        backends
    }

    /// Sessions of a client that is none of the apps, from a host of its own. `came` is told of each when its statement, if it
    /// has one, is over.
    fn sessions(
        &self,
        server: ServerName,
        user: &str,
        application: &str,
        count: u32,
        sql: Option<String>,
        came: impl Fn(Result<(), Failure>) + Send + Sync + 'static,
    ) -> Vec<tokio::task::JoinHandle<Vec<Client>>> {
        let way = self.world.visitor(server, application);
        let config = self.world.driver_config(application, user);
        let came = Arc::new(came);
        (0..count)
            .map(|_| {
                let (way, config, sql, came) = (Arc::clone(&way), config.clone(), sql.clone(), Arc::clone(&came));
                let tasks = self.world.tasks().clone();
                self.world.tasks().spawn(async move {
                    let stream = match way.dial().await {
                        Ok(stream) => stream,
                        Err(error) => {
                            came(Err(Failure { code: None, text: error.to_string(), refused: true }));
                            return Vec::new();
                        }
                    };
                    let (client, connection) = match config.connect_raw(stream, NoTls).await {
                        Ok(made) => made,
                        Err(error) => {
                            came(Err(Failure::new(&error, true)));
                            return Vec::new();
                        }
                    };
                    tasks.spawn(connection);
                    let result = match sql {
                        // The session stays as the statement left it.
                        Some(sql) => client.batch_execute(&sql).await,
                        None => Ok(()),
                    };
                    came(result.map_err(|error| Failure::new(&error, false)));
                    vec![client]
                })
            })
            .collect()
    }
}
