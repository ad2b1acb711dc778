//! The processes of the apps: which of them live, and what an actor gets from its own (its pool above all).
//!
//! A restarted process is a new one, with a new number and a new pool, in the seat of the former.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use indexmap::IndexMap;
use parking_lot::Mutex;
use poolproof_sim::postgres::event::{Pid, SessionReport};
use tokio::sync::watch;

use super::collector::Garbage;
use super::queue::Queue;
use super::session::Session;
use super::turn::Turn;
use crate::pool::{Adapter, Caller, Connector, Lease, Pool};
use crate::scenario::model::{App, Collector, PoolSettings};
use crate::trace::event::{PoolId, ProcessId};

/// What actors ask the world. One for all processes of a run.
pub struct WorldHooks {
    /// The session of a backend now, as its server sees it; `None` when there is no such backend any more.
    pub session: Box<dyn Fn(Pid) -> Option<SessionReport> + Send + Sync>,
    /// Bytes that the client's end of a backend's connection has received and not yet read.
    pub unread: Box<dyn Fn(Pid) -> u64 + Send + Sync>,
}

/// One process of an app.
pub struct ProcessContext {
    /// Its number in the trace.
    pub id: ProcessId,
    /// Its app's name.
    pub app: Arc<str>,
    /// Its place among the app's processes, from 0. A restarted process has its predecessor's.
    pub seat: u32,
    /// Builds its pools.
    pub adapter: Arc<dyn Adapter>,
    /// Its pools' settings.
    pub settings: PoolSettings,
    /// What each of its pools dials with.
    pub connector_for: Box<dyn Fn(PoolId) -> Connector + Send + Sync>,
    /// The world.
    pub hooks: Arc<WorldHooks>,
    /// The pool that its actors share.
    shared: Mutex<Option<(PoolId, Arc<dyn Pool>)>>,
    /// Leases that actors leaked: memory of the process, gone with it.
    leaked: Mutex<Vec<Box<dyn Lease>>>,
    /// What actors lost in reference cycles.
    pub(super) garbage: Mutex<Garbage>,
    /// When the collector runs by itself.
    pub(super) collector: Option<Collector>,
    /// The sessions of threads that have one.
    sessions: Mutex<BTreeMap<Caller, Session>>,
    /// The queues that are in the process's memory, by their place in the file.
    queues: Mutex<BTreeMap<usize, Arc<Queue>>>,
    /// The only thread, with a driver that is not cooperative.
    pub(super) turn: Option<Turn>,
    live: AtomicBool,
    killed: AtomicBool,
}

impl ProcessContext {
    /// A process that is about to live, with its shared pool.
    #[expect(clippy::too_many_arguments, reason = "each is one part of a process")]
    #[must_use]
    pub fn new(
        id: ProcessId,
        app: Arc<str>,
        seat: u32,
        adapter: Arc<dyn Adapter>,
        settings: &App,
        connector_for: Box<dyn Fn(PoolId) -> Connector + Send + Sync>,
        hooks: Arc<WorldHooks>,
        shared: (PoolId, Arc<dyn Pool>),
    ) -> Arc<ProcessContext> {
        Arc::new(ProcessContext {
            id,
            app,
            seat,
            adapter,
            settings: settings.pool.clone(),
            connector_for,
            hooks,
            shared: Mutex::new(Some(shared)),
            leaked: Mutex::new(Vec::new()),
            garbage: Mutex::default(),
            collector: settings.collector,
            sessions: Mutex::default(),
            queues: Mutex::default(),
            turn: (!settings.cooperative).then(Turn::default),
            live: AtomicBool::new(true),
            killed: AtomicBool::new(false),
        })
    }

    /// The shared pool; `None` once it was taken away at the process's end.
    #[must_use]
    pub fn shared_pool(&self) -> Option<(PoolId, Arc<dyn Pool>)> {
        self.shared.lock().clone()
    }

    /// Takes the shared pool out, so that the caller drops poolproof's last handle to it.
    #[must_use]
    pub fn take_shared_pool(&self) -> Option<(PoolId, Arc<dyn Pool>)> {
        self.shared.lock().take()
    }

    /// Takes out what applications keep in its memory, to be dropped at the process's end: sessions, leaked leases, what
    /// is lost in cycles.
    #[must_use]
    pub fn take_memory(&self) -> impl Send + use<> {
        let sessions = std::mem::take(&mut *self.sessions.lock());
        let leaked = std::mem::take(&mut *self.leaked.lock());
        (sessions, leaked, std::mem::take(&mut *self.garbage.lock()))
    }

    /// How many leases were leaked.
    #[must_use]
    pub fn leaked(&self) -> usize {
        self.leaked.lock().len()
    }

    /// Whether actors may arrive in it: it was neither killed nor ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Its memory is gone: nothing it did at the end of a scope happens any more.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    pub(super) fn set_killed(&self) {
        self.killed.store(true, Ordering::Release);
    }

    /// What this thread's session keeps, if anything.
    pub(super) fn take_session(&self, thread: Caller) -> Option<Session> {
        self.sessions.lock().remove(&thread)
    }

    pub(super) fn keep_session(&self, thread: Caller, session: Session) {
        self.sessions.lock().insert(thread, session);
    }

    /// The queue in its memory with this place in the file, made at its first use.
    pub(super) fn queue(&self, place: usize, make: impl FnOnce() -> Arc<Queue>) -> Arc<Queue> {
        Arc::clone(self.queues.lock().entry(place).or_insert_with(make))
    }

    pub(super) fn leak(&self, lease: Box<dyn Lease>) {
        self.leaked.lock().push(lease);
    }
}

/// Starts and ends the processes that come with requests.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// A process of this app, for one actor. `None` when none can be started any more, or its pool could not be built.
    async fn launch(&self, app: &str) -> Option<Arc<ProcessContext>>;

    /// Its actor has ended, and so does the process, if it was not killed before.
    fn end(&self, process: &Arc<ProcessContext>);
}

/// The live processes of all apps.
pub struct Processes {
    /// Set once; weak, since who launches has this table.
    launcher: OnceLock<Weak<dyn Launcher>>,
    apps: Mutex<IndexMap<Arc<str>, Vec<Arc<ProcessContext>>>>,
    /// Counts the starts, for those who wait for one.
    starts: watch::Sender<u64>,
}

impl Default for Processes {
    fn default() -> Self {
        Processes { launcher: OnceLock::new(), apps: Mutex::new(IndexMap::new()), starts: watch::Sender::new(0) }
    }
}

impl Processes {
    /// From now on actors arrive in this process.
    pub fn started(&self, process: Arc<ProcessContext>) {
        let mut apps = self.apps.lock();
        let list = apps.entry(Arc::clone(&process.app)).or_default();
        let place = list.partition_point(|other| other.seat < process.seat);
        list.insert(place, process);
        drop(apps);
        self.starts.send_modify(|starts| *starts += 1);
    }

    /// From now on no actor arrives in this process. Those that are there are left alone: see
    /// [`Traffic::abort_process`](super::Traffic::abort_process) for a process's death.
    pub fn ended(&self, id: ProcessId) -> Option<Arc<ProcessContext>> {
        let mut apps = self.apps.lock();
        let process = apps.values_mut().find_map(|list| {
            let place = list.iter().position(|process| process.id == id)?;
            Some(list.remove(place))
        })?;
        process.live.store(false, Ordering::Release);
        Some(process)
    }

    /// Names who starts processes that come with requests. The first one stays.
    pub fn set_launcher(&self, launcher: Weak<dyn Launcher>) {
        let _first_stays = self.launcher.set(launcher);
    }

    pub(super) fn launcher(&self) -> Option<Arc<dyn Launcher>> {
        self.launcher.get().and_then(Weak::upgrade)
    }

    /// All that live, by app in the order of their first start, then by seat.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ProcessContext>> {
        self.apps.lock().values().flatten().cloned().collect()
    }

    /// The process whose turn it is, of those of an app that live.
    pub(super) fn in_turn(&self, app: &str, turn: u64) -> Option<Arc<ProcessContext>> {
        let apps = self.apps.lock();
        let list = apps.get(app).filter(|list| !list.is_empty())?;
        let place = usize::try_from(turn % list.len() as u64).expect("below a length");
        Some(Arc::clone(&list[place]))
    }

    /// The live process in a seat.
    pub(super) fn at_seat(&self, app: &str, seat: u32) -> Option<Arc<ProcessContext>> {
        let apps = self.apps.lock();
        apps.get(app)?.iter().find(|process| process.seat == seat).cloned()
    }

    /// Changes with each start.
    pub(super) fn starts(&self) -> watch::Receiver<u64> {
        self.starts.subscribe()
    }
}
