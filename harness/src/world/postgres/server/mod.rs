//! A real server for a run: found, made, controlled, watched, and gone when it is dropped.
//!
//! [`Source::find`] finds where servers come from: a URL, the programs on this machine, or Docker. [`Source::server`]
//! makes one as a scenario asks ([`Setup`]), and [`Server`] is what can be done to it. The lifecycle is what the
//! server's own log and its processes tell, not what is hoped for.
//!
//! Servers listen on 127.0.0.1 only and let poolproof's own superuser in without a password, as `trust` lets everybody:
//! other users of the machine can reach them while they live.
//!
//! Nothing is left behind: a server ends when it is dropped, on panic and on Ctrl-C, and what a killed process left is
//! taken away by the next one ([`Source::swept`]).

mod control;
#[cfg(feature = "docker")]
mod docker;
mod error;
mod find;
mod folder;
mod installation;
mod life;
mod local;
mod log;
mod port;
mod processes;
mod session;
mod setup;
mod sweep;
mod url;
mod walsender;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::{Lifecycle, Pid};
use tokio::sync::{broadcast, watch};

pub use error::ServerError;
pub use find::{Kind, Source, Wanted};
pub use log::Entry;
pub use session::Backend;
pub use setup::Setup;
pub use sweep::Swept;

use crate::scenario::model::StopMode;
use control::Control;
use life::Life;
use session::Session;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come to pass that nobody tells.
const LOOK: Duration = Duration::from_millis(10);

/// A real server. It is stopped and removed when this is dropped.
pub struct Server {
    kind: Kind,
    /// Its version, as "15.18".
    version: String,
    setup: Setup,
    control: Box<dyn Control>,
    life: Arc<Life>,
    session: Arc<Session>,
    unsupported: Vec<String>,
    /// Clients' passwords, where the scenario has none.
    default_password: Option<&'static str>,
    /// Must outlive it: where it lies.
    source: Arc<Source>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.dispose();
    }
}

impl Server {
    /// Where it comes from.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its version, as "15.18".
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens, also after a restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.control.address()
    }

    /// What of the scenario it can't do, "unsupported: " and a reason each. With any of them a verdict would be one on
    /// another scenario.
    #[must_use]
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// With what a client of this role authenticates; none where it needs no password, or the role has none.
    #[must_use]
    pub fn password(&self, role: &str) -> Option<&str> {
        self.setup.password(role).or(self.default_password)
    }

    /// Its data directory, where that is on this machine.
    #[must_use]
    pub fn data_directory(&self) -> Option<&Path> {
        self.control.data_directory()
    }

    /// What it is doing.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        self.life.lifecycle()
    }

    /// To follow what it is doing.
    #[must_use]
    pub fn lifecycle_watch(&self) -> watch::Receiver<Lifecycle> {
        self.life.watch()
    }

    /// Each change of what it is doing, in order, also those too short for [`Server::lifecycle_watch`].
    #[must_use]
    pub fn lifecycle_changes(&self) -> broadcast::Receiver<Lifecycle> {
        self.life.changes()
    }

    /// Whether it is a standby; false from the moment on in which it takes writes.
    #[must_use]
    pub fn in_recovery(&self) -> watch::Receiver<bool> {
        self.life.in_recovery()
    }

    /// To follow its log. A server that is given by its URL has none.
    #[must_use]
    pub fn follow_log(&self) -> broadcast::Receiver<Entry> {
        self.life.follow_log()
    }

    /// Waits until it takes sessions (a standby without `hot_standby`: until its data are consistent).
    ///
    /// # Errors
    /// It ended, or takes longer than a minute; with the last lines of its log.
    pub async fn running(&self) -> Result<(), ServerError> {
        self.life.running(START).await
    }

    /// `pg_ctl start`, without waiting for it.
    ///
    /// # Errors
    /// It is not down, or can't be started.
    pub async fn start(&self) -> Result<(), ServerError> {
        self.control.start().await
    }

    /// `pg_ctl stop`; done when it is down. The stop goes on when this is dropped.
    ///
    /// # Errors
    /// It is down already, or can't be controlled.
    pub async fn stop(&self, mode: StopMode) -> Result<(), ServerError> {
        self.control.signal_stop(mode).await?;
        self.life.down().await;
        Ok(())
    }

    /// SIGKILL for the postmaster and all its children, none of which has any last words; done when they are gone.
    ///
    /// # Errors
    /// It is down already, or can't be controlled.
    pub async fn kill(&self) -> Result<(), ServerError> {
        self.control.kill().await?;
        self.life.down().await;
        Ok(())
    }

    /// SIGKILL for one backend: the server ends all others, and recovers.
    ///
    /// # Errors
    /// There is no such backend, or it can't be controlled.
    pub async fn kill_backend(&self, pid: Pid) -> Result<(), ServerError> {
        self.control.kill_backend(pid).await
    }

    /// SIGSTOP for all its processes: the kernel still accepts, and nobody answers.
    ///
    /// # Errors
    /// It is down, or can't be controlled.
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.control.pause().await
    }

    /// SIGCONT for all its processes.
    ///
    /// # Errors
    /// It is down, or can't be controlled.
    pub async fn unpause(&self) -> Result<(), ServerError> {
        self.control.unpause().await
    }

    /// `pg_ctl promote`, without waiting for it: [`Server::in_recovery`] tells when it takes writes.
    ///
    /// # Errors
    /// It is no standby, is down, or can't be controlled.
    pub async fn promote(&self) -> Result<(), ServerError> {
        if !*self.life.in_recovery().borrow() {
            return Err(ServerError::Failed("the server is no standby".to_owned()));
        }
        self.control.promote().await
    }

    /// A new value of a setting in `postgresql.auto.conf`, and a reload.
    ///
    /// # Errors
    /// The server's refusal; without control of it, that.
    pub async fn reload(&self, setting: &str, value: &str) -> Result<(), ServerError> {
        if self.kind == Kind::Url {
            return Err(error::needs_control());
        }
        let (setting, value) = (session::identifier(setting), session::literal(value));
        // Each alone: ALTER SYSTEM runs in no transaction.
        self.session.query(&format!("ALTER SYSTEM SET {setting} = {value}")).await?;
        self.session.query("SELECT pg_reload_conf()").await.map(drop)
    }

    /// Runs statements as a superuser who counts for nothing, in the database `app`; gives all rows, as text. What may
    /// wait belongs in a session of its own: this one is also that of [`Server::backends`]. It is a walsender's: `SHOW`
    /// is one statement at a time there.
    ///
    /// # Errors
    /// The server's, or it does not answer.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        self.session.query(sql).await
    }

    /// `pg_terminate_backend`; false where there is no such backend.
    ///
    /// # Errors
    /// The server's, or it does not answer.
    pub async fn terminate(&self, pid: Pid) -> Result<bool, ServerError> {
        self.session.signal("pg_terminate_backend", pid).await
    }

    /// `pg_cancel_backend`; false where there is no such backend.
    ///
    /// # Errors
    /// The server's, or it does not answer.
    pub async fn cancel(&self, pid: Pid) -> Result<bool, ServerError> {
        self.session.signal("pg_cancel_backend", pid).await
    }

    /// Its client backends, the oldest first, without poolproof's own.
    ///
    /// # Errors
    /// It takes no sessions, or does not answer.
    pub async fn backends(&self) -> Result<Vec<Backend>, ServerError> {
        self.session.backends().await
    }

    /// A standby of it, which streams from it and runs.
    ///
    /// # Errors
    /// Its setup has no standby; it is of a kind that has none; or it does not start.
    pub async fn standby(&self) -> Result<Server, ServerError> {
        find::standby(self).await
    }
}
