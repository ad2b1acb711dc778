//! A server's life: start, recovery, the three ways to stop, crashes, promotion.
//!
//! | state | port | a new connection gets |
//! | --- | --- | --- |
//! | down | closed | connection refused |
//! | starting up | open | 57P03 "is starting up" |
//! | recovering | open | 57P03 "is in recovery mode" until the last backend is gone, then "is not yet accepting connections" |
//! | running | open | a session |
//! | shutting down | open | 57P03 "is shutting down" |
//!
//! <https://www.postgresql.org/docs/15/server-shutdown.html>, and `postmaster.c` for the texts. Committed transactions
//! are durable at once, so recovery takes the time it is given and finds nothing to lose. Left out: the checkpoint at a
//! shutdown (a fast stop is over when the last backend is gone).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::activity::Signals;
use super::config::StopMode;
use super::error::{PgError, SqlState};
use super::event::{Lifecycle, Pid, ServerEvent};
use super::server::{Cluster, Server, Settled, Shared};
use super::sql::Host;

/// What the postmaster remembers.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Raised by each command; a timer of an earlier command that fires late finds that it is not meant any more.
    generation: u64,
    /// The data directory was not shut down properly.
    crashed: bool,
    /// Since the world's epoch.
    pub(super) started: Duration,
}

impl Server {
    /// `pg_ctl start`: down → starting up → (recovering, after a crash) → running. Nothing when it is not down.
    pub fn start(&self) {
        if self.lifecycle() != Lifecycle::Down {
            return;
        }
        let shared = self.shared.clone();
        let (generation, crashed) = {
            let mut life = shared.life.lock();
            life.started = shared.elapsed();
            life.generation += 1;
            (life.generation, std::mem::take(&mut life.crashed))
        };
        shared.enter(Lifecycle::StartingUp);
        if shared.config.startup_time.is_zero() && !crashed {
            shared.enter(Lifecycle::Running);
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(shared.config.startup_time).await;
            if crashed {
                if !shared.advance(generation, Lifecycle::Recovering) {
                    return;
                }
                tokio::time::sleep(shared.config.recovery_time).await;
            }
            shared.advance(generation, Lifecycle::Running);
        });
    }

    /// `pg_ctl stop`. What it does happens now; the future is done when the server is down.
    pub fn stop(&self, mode: StopMode) -> impl Future<Output = ()> + Send + 'static + use<> {
        let shared = &self.shared;
        if self.lifecycle() != Lifecycle::Down {
            shared.life.lock().generation += 1;
            shared.enter(Lifecycle::ShuttingDown);
            match mode {
                StopMode::Smart => (),
                StopMode::Fast => shared.signal_all(Signals::TERMINATE),
                StopMode::Immediate => shared.crash(|_| Signals::QUIT_STOP),
            }
            shared.process_left();
        }
        let mut lifecycle = self.lifecycle_watch();
        async move {
            let down = lifecycle.wait_for(|now| *now == Lifecycle::Down).await;
            drop(down); // an error says that the server itself was dropped
        }
    }

    /// SIGKILL for one backend. Its client gets nothing; the postmaster ends all others with a WARNING, undoes what was not
    /// committed, and takes no session until recovery is over. False when there is no such backend, or no postmaster.
    pub fn kill_backend(&self, pid: Pid) -> bool {
        let shared = self.shared.clone();
        if self.lifecycle() == Lifecycle::Down || !shared.registry.lock().backends.contains_key(&pid) {
            return false;
        }
        shared.crash(|backend| match backend == pid {
            true => Signals::KILL,
            false => Signals::QUIT_CRASH,
        });
        if self.lifecycle() == Lifecycle::ShuttingDown {
            return true; // the stop goes on and will be the end of it
        }
        let generation = {
            let mut life = shared.life.lock();
            life.crashed = false;
            life.generation += 1;
            life.generation
        };
        shared.enter(Lifecycle::Recovering);
        tokio::spawn(async move {
            tokio::time::sleep(shared.config.recovery_time).await;
            shared.advance(generation, Lifecycle::Running);
        });
        true
    }

    /// SIGKILL for the postmaster and all backends at once: sockets close, no message.
    pub fn kill(&self) {
        if self.lifecycle() == Lifecycle::Down {
            return;
        }
        let shared = &self.shared;
        shared.life.lock().generation += 1;
        shared.crash(|_| Signals::KILL);
        shared.enter(Lifecycle::Down);
    }

    /// The host loses its power. For the server that is [`Server::kill`]; that no FIN leaves the host is the network's
    /// part, and must happen before.
    pub fn power_loss(&self) {
        self.kill();
    }

    /// `pg_ctl promote`: a standby takes writes after its `promotion_time`. False, and nothing, where that fails: on a
    /// primary, and while the server is down.
    pub fn promote(&self) -> bool {
        let shared = self.shared.clone();
        let Some(standby) = shared.config.standby.filter(|_| shared.in_recovery()) else {
            return false;
        };
        if self.lifecycle() == Lifecycle::Down {
            return false;
        }
        if standby.promotion_time.is_zero() {
            shared.finish_promotion();
            return true;
        }
        tokio::spawn(async move {
            tokio::time::sleep(standby.promotion_time).await;
            shared.finish_promotion();
        });
        true
    }

    /// Makes new transactions read-only or not, on all sessions that have not set it for themselves:
    /// `default_transaction_read_only`, as a managed service does during a failover.
    pub fn set_read_only(&self, read_only: bool) {
        let value = if read_only { "on" } else { "off" };
        self.reload("default_transaction_read_only", value)
            .expect("default_transaction_read_only is a setting that takes a boolean");
    }

    /// A change of `postgresql.conf` and `pg_reload_conf`. It reaches a session between its statements. Errors: 42704 for
    /// an unknown setting, 22023 for a bad value, 55P02 for one that needs a restart.
    pub fn reload(&self, name: &str, value: &str) -> Result<(), PgError> {
        self.shared.settings.lock().reload(name, value)?;
        let cluster = self.shared.cluster.read().clone();
        cluster.engine.lock().reload(name, value)?;
        for process in self.shared.processes() {
            process.signal(Signals::CONFIG);
        }
        Ok(())
    }
}

impl Shared {
    fn enter(&self, next: Lifecycle) {
        let changed = self.lifecycle.send_replace(next) != next;
        if changed {
            self.emit(ServerEvent::Lifecycle(next));
        }
    }

    /// Goes on to `next`, unless another command came in between.
    fn advance(&self, generation: u64, next: Lifecycle) -> bool {
        let meant = self.life.lock().generation == generation;
        if meant {
            self.enter(next);
        }
        meant
    }

    fn signal_all(&self, signals: Signals) {
        for process in self.processes() {
            process.signal(signals);
        }
    }

    /// All sessions are lost. `signals` says what each process gets; from here on none of them may touch the engine.
    fn crash(&self, signals: impl Fn(Pid) -> Signals) {
        self.life.lock().crashed = true;
        let cluster = self.cluster.read().clone();
        let processes = self.processes();
        let shared_storage = self.shares(&cluster);
        let settled = {
            let mut engine = cluster.engine.lock();
            for process in &processes {
                if let Some(mut session) = process.session.lock().take()
                    && shared_storage
                {
                    // The other server on this storage goes on, so its sessions may not be lost with ours.
                    engine.give_up_wait(process.pid);
                    engine.end_session(&mut session);
                }
            }
            if !shared_storage {
                engine.crash();
            }
            Settled::of(&mut engine)
        };
        self.pass_on(&cluster, settled);
        for process in processes {
            let lost = process.activity.lock().xid;
            if let Some(xid) = lost.filter(|_| !shared_storage) {
                self.emit(ServerEvent::RolledBack { pid: process.pid, xid });
            }
            process.signal(signals(process.pid));
        }
    }

    /// Whether another server is on the same storage.
    fn shares(&self, cluster: &Cluster) -> bool {
        let servers = cluster.servers.lock();
        servers.iter().filter(|server| server.strong_count() > 0).count() > 1
    }

    /// A process is gone: perhaps the last one of a server that is shutting down.
    pub(super) fn process_left(&self) {
        if *self.lifecycle.borrow() == Lifecycle::ShuttingDown && self.registry.lock().backends.is_empty() {
            self.enter(Lifecycle::Down);
        }
    }

    /// May a session begin now (`canAcceptConnections`)? Error: FATAL 57P03.
    pub(super) fn accepts(&self) -> Result<(), PgError> {
        let refuse = |message: &'static str| PgError::fatal(SqlState::CANNOT_CONNECT_NOW, message);
        match *self.lifecycle.borrow() {
            Lifecycle::Running if self.in_recovery() && self.config.standby.is_some_and(|s| !s.hot_standby) => {
                Err(refuse("the database system is not accepting connections").detail("Hot standby mode is disabled."))
            }
            Lifecycle::Running => Ok(()),
            Lifecycle::StartingUp | Lifecycle::Down => Err(refuse("the database system is starting up")),
            Lifecycle::Recovering if self.registry.lock().slots > 0 => {
                Err(refuse("the database system is in recovery mode"))
            }
            Lifecycle::Recovering => Err(refuse("the database system is not yet accepting connections")
                .detail("Consistent recovery state has not been yet reached.")),
            Lifecycle::ShuttingDown => Err(refuse("the database system is shutting down")),
        }
    }

    /// The standby leaves its primary: each goes on with its own copy of the data and its own sessions.
    fn finish_promotion(self: &Arc<Self>) {
        if !self.in_recovery.swap(false, Ordering::AcqRel) {
            return;
        }
        let old = self.cluster.read().clone();
        if !self.shares(&old) {
            self.emit(ServerEvent::Promoted);
            return;
        }
        let settled = {
            let mut engine = old.engine.lock();
            let mut ours = engine.clone();
            let mut others: Vec<Arc<Shared>> = old.servers.lock().iter().filter_map(|s| s.upgrade()).collect();
            others.retain(|server| !Arc::ptr_eq(server, self));
            // In the copy the primary's sessions end, in the original the standby's.
            for process in others.iter().flat_map(|server| server.processes()) {
                if let Some(session) = process.session.lock().as_ref() {
                    ours.give_up_wait(process.pid);
                    ours.end_session(&mut session.clone());
                }
            }
            for process in self.processes() {
                if let Some(session) = process.session.lock().as_ref() {
                    engine.give_up_wait(process.pid);
                    engine.end_session(&mut session.clone());
                }
            }
            let ours_settled = Settled::of(&mut ours).without_events();
            let settled = Settled::of(&mut engine).without_events();
            old.servers.lock().retain(|server| server.as_ptr() != Arc::as_ptr(self));
            let cluster = Arc::new(Cluster {
                engine: parking_lot::Mutex::new(ours),
                servers: parking_lot::Mutex::new(vec![Arc::downgrade(self)]),
            });
            *self.cluster.write() = cluster.clone();
            drop(engine);
            self.pass_on(&cluster, ours_settled);
            settled
        };
        self.pass_on(&old, settled);
        self.emit(ServerEvent::Promoted);
    }
}
