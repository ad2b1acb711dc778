//! Where a scenario runs: servers, the network, machines for processes, and the faults that befall them.
//!
//! [`World`] is what a run asks of such a place. The simulated one ([`sim`]) is the default; the other is turmoil's network
//! (`turmoil`, a feature).

pub mod faults;
pub mod place;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod schedule;
pub mod sentence;
pub mod servers;
pub mod sim;
pub mod tasks;
#[cfg(feature = "turmoil")]
pub mod turmoil;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use poolproof_sim::net::Link;
use poolproof_sim::postgres::event::{Lifecycle, Pid, SessionReport};
use tokio_postgres::Config;

use crate::pool::connector::Dialer;
use crate::pool::resource::Script;
use crate::scenario::model::{AtMessage, Direction, MessagePlace, Scenario, ServerName, StopMode};
pub use place::{Place, RealTime};
pub use poolproof_sim::net::PortMode;
pub use sim::SimWorld;
use tasks::Tasks;

/// What came of something that was asked of a world: why it could not be done, in a sentence, if it could not. In the
/// simulated world everything can.
pub type Done = Result<(), String>;

/// Takes a change of a world back.
pub type Undoing = Box<dyn FnOnce() + Send>;

/// Changes of the link between apps and servers, over what the scenario's `[network]` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// One way, and what is added to it at random.
    Latency {
        /// The least.
        latency: Duration,
        /// Up to this much more.
        jitter: Duration,
    },
    /// Bytes a second.
    Bandwidth(u64),
    /// It is as the scenario has it.
    Restored,
}

impl LinkChange {
    /// The link after it.
    #[must_use]
    pub fn of(self, now: Link, scenario: &Scenario) -> Link {
        match self {
            LinkChange::Latency { latency, jitter } => Link { latency, jitter, ..now },
            LinkChange::Bandwidth(bytes) => Link { bandwidth: Some(bytes), ..now },
            LinkChange::Restored => link(scenario),
        }
    }
}

/// The link as the scenario has it.
#[must_use]
pub fn link(scenario: &Scenario) -> Link {
    let network = &scenario.network;
    Link { latency: network.latency, jitter: network.jitter, bandwidth: network.bandwidth }
}

/// The name of the machine of a seat.
fn machine_name(app: &str, seat: u32) -> String {
    format!("{app}-{}", seat + 1)
}

/// Whether the machine of this name is of an app; `None` means all apps.
fn is_machine_of(name: &str, app: Option<&str>) -> bool {
    app.is_none_or(|app| name.strip_prefix(app).is_some_and(|rest| rest.starts_with('-')))
}

/// A row of `pg_stat_activity`, as far as faults choose by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its process.
    pub pid: Pid,
    /// What it calls itself.
    pub application_name: String,
    /// `pg_stat_activity.state`.
    pub state: &'static str,
    /// How long it has been there.
    pub age: Duration,
}

/// What is asked of the servers of a world themselves, wherever they are served.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// What a server is doing.
    fn lifecycle(&self, server: ServerName) -> Lifecycle;

    /// Waits until a server takes sessions.
    async fn running(&self, server: ServerName);

    /// `pg_ctl stop`, until the server is down.
    async fn stop(&self, server: ServerName, mode: StopMode) -> Done;

    /// From now on each statement takes so much longer.
    async fn slow_down(&self, server: ServerName, by: Duration) -> Done;

    /// The client backends of a server, the oldest first.
    ///
    /// # Errors
    /// Why they are not known.
    async fn backends(&self, server: ServerName) -> Result<Vec<Backend>, String>;

    /// SIGKILL for one backend: the server crashes, and recovers.
    async fn kill_backend(&self, server: ServerName, pid: Pid) -> Done;

    /// `pg_terminate_backend`.
    async fn terminate(&self, server: ServerName, pid: Pid) -> Done;

    /// `pg_cancel_backend`.
    async fn cancel(&self, server: ServerName, pid: Pid) -> Done;

    /// `pg_ctl promote` for the standby.
    ///
    /// # Errors
    /// Why it does not become a primary.
    async fn promote(&self) -> Done;

    /// A new value of a setting, by a reload.
    ///
    /// # Errors
    /// The server's refusal.
    async fn reload(&self, server: ServerName, setting: &str, value: &str) -> Done;

    /// Asks the primary, as a superuser who counts for nothing.
    ///
    /// # Errors
    /// The server's.
    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String>;

    /// What a backend's session is like, as far as the world knows.
    fn session(&self, pid: Pid) -> Option<SessionReport>;
}

/// A place where a scenario runs.
#[async_trait]
pub trait World: Send + Sync + 'static {
    /// The scenario that made it.
    fn scenario(&self) -> &Arc<Scenario>;

    /// Its own tasks, counted.
    fn tasks(&self) -> &Tasks;

    /// How many tasks of the runtime are the world's own beside [`World::tasks`].
    fn other_tasks(&self) -> usize;

    /// What befalls the managers of pools of resources.
    fn script(&self) -> &Arc<Script>;

    /// Whether waiting takes real time.
    fn is_in_real_time(&self) -> bool {
        false
    }

    /// How long a wait of the harness itself is in this world: a duration of a scenario's time.
    fn patience(&self, time: Duration) -> Duration {
        time
    }

    /// Its servers, the primary first.
    fn servers(&self) -> &'static [ServerName] {
        if self.scenario().standby.is_some() {
            &[ServerName::Primary, ServerName::Standby]
        } else {
            &[ServerName::Primary]
        }
    }

    /// The servers themselves.
    fn control(&self) -> &dyn Control;

    /// Waits until every server takes sessions.
    async fn ready(&self) {
        for server in self.servers() {
            self.control().running(*server).await;
        }
    }

    /// `pg_ctl start`, without waiting for it; the host gets power if it has none.
    ///
    /// # Errors
    /// Why it does not start: what it is doing, if that is anything.
    async fn start(&self, server: ServerName) -> Done;

    /// SIGKILL for the server and all its backends: the kernel closes their sockets.
    async fn kill(&self, server: ServerName) -> Done;

    /// The server's host is gone, and tells nobody.
    async fn power_loss(&self, server: ServerName) -> Done;

    /// The way to one server from a machine that is none of the apps'.
    fn visitor(&self, server: ServerName, machine: &str) -> Arc<dyn Dialer>;

    /// The name that apps connect to means this server from now on.
    fn repoint(&self, server: ServerName);

    /// Changes the link between apps and servers.
    fn change_link(&self, change: LinkChange);

    /// From now on nothing gets through between an app (all apps) and the servers, in one direction or both, until it is
    /// taken back.
    fn partition(&self, app: Option<&str>, direction: Direction) -> Undoing;

    /// Connections between an app (all apps) and the servers, those that are at least this old, are forgotten by the way:
    /// nothing gets through any more, and nobody is told.
    fn forget(&self, app: Option<&str>, older_than: Option<Duration>);

    /// The same connections are reset, at both ends.
    fn reset(&self, app: Option<&str>, older_than: Option<Duration>);

    /// This befalls a connection at one of its messages, if that comes before the faults are over: once. `told` is called
    /// then, with whether there was anything to befall.
    ///
    /// # Errors
    /// That this world can't look at messages.
    fn at_message(&self, _place: MessagePlace, _what: AtMessage, _told: Box<dyn Fn(bool) + Send>) -> Done {
        Err("this world does not look at messages".to_owned())
    }

    /// What waits for its moment does not happen any more.
    fn faults_are_over(&self) {}

    /// What the servers' ports do to connects from now on.
    fn set_ports(&self, mode: PortMode);

    /// After which idle time a firewall between apps and servers forgets a connection; `None` is what the scenario says.
    fn set_idle_flow_timeout(&self, timeout: Option<Duration>);

    /// The machine of a seat, for a process that starts there now: with power, if it had none.
    fn machine(&self, app: &str, seat: u32) -> Arc<dyn Machine>;

    /// Bytes that the client's end of a backend's connection has received and not yet read.
    fn unread(&self, pid: Pid) -> u64;

    /// A role's password, where it needs one.
    fn password(&self, role: &str) -> Option<String> {
        self.scenario().server.roles.get(role)?.password.clone()
    }

    /// What a client of this name tells the driver.
    fn driver_config(&self, application: &str, user: &str) -> Config {
        let mut config = Config::new();
        config.user(user).dbname("app").application_name(application);
        if let Some(password) = self.password(user) {
            config.password(password);
        }
        if let Some(timeout) = self.scenario().network.client.connect_timeout {
            config.connect_timeout(timeout);
        }
        config
    }
}

/// A machine on which a process of an app runs.
pub trait Machine: Send + Sync + 'static {
    /// The way from here to the name that apps connect to, for a process that lives as long as `alive` says; a dial of a
    /// dead one never ends, so that what is left of it can't touch the world again.
    fn dialer(&self, alive: Arc<AtomicBool>) -> Arc<dyn Dialer>;

    /// The process is killed: the kernel closes its sockets.
    fn kill_sockets(&self);

    /// The machine is gone, and tells nobody.
    fn power_off(&self);
}
