//! One backend as the others see it: its row in `pg_stat_activity`, the signals that reach it, and its session.
//!
//! A real backend is signalled by SIGINT, SIGTERM, SIGQUIT and SIGUSR1 and looks at what they left behind whenever it
//! waits (`ProcessInterrupts`). Here a signal is a bit in one atomic word beside one waker: a backend that waits for
//! nothing pays one load for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::event::{BackendState, Pid};
use super::sql::{ActivityRow, Notification, Session};

/// Signals, as bits of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signals(u32);

impl Signals {
    pub(super) const NONE: Signals = Signals(0);
    /// The lock that it waited for was granted.
    pub(super) const GRANTED: Signals = Signals(1);
    /// SIGINT: cancel the statement.
    pub(super) const CANCEL: Signals = Signals(1 << 1);
    /// SIGTERM: end the session with FATAL 57P01.
    pub(super) const TERMINATE: Signals = Signals(1 << 2);
    /// SIGQUIT by an immediate stop: WARNING 57P01, then the end.
    pub(super) const QUIT_STOP: Signals = Signals(1 << 3);
    /// SIGQUIT after another backend crashed: WARNING 57P02, then the end.
    pub(super) const QUIT_CRASH: Signals = Signals(1 << 4);
    /// SIGKILL.
    pub(super) const KILL: Signals = Signals(1 << 5);
    /// Notifications arrived.
    pub(super) const NOTIFY: Signals = Signals(1 << 6);
    /// SIGHUP: the configuration was reloaded. Looked at between statements; wakes nobody.
    pub(super) const CONFIG: Signals = Signals(1 << 7);
    /// Not a signal of a real server: the next allocation fails, as where the machine has no memory left. Looked at when a message
    /// has come.
    pub(super) const OUT_OF_MEMORY: Signals = Signals(1 << 8);
    /// All after which the backend may not touch shared memory again.
    pub(super) const DEADLY: Signals = Signals(Signals::QUIT_STOP.0 | Signals::QUIT_CRASH.0 | Signals::KILL.0);
    /// All that end the session.
    pub(super) const END: Signals = Signals(Signals::DEADLY.0 | Signals::TERMINATE.0);

    pub(super) fn has(self, any_of: Signals) -> bool {
        self.0 & any_of.0 != 0
    }
}

/// What `pg_stat_activity` shows, times since the world's epoch.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) state: BackendState,
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
    pub(super) application_name: String,
    pub(super) backend_start: Duration,
    pub(super) transaction_start: Option<Duration>,
    pub(super) query_start: Option<Duration>,
    pub(super) state_change: Option<Duration>,
    pub(super) xid: Option<u64>,
    pub(super) query: Arc<str>,
    pub(super) wait: Option<(&'static str, &'static str)>,
    /// Names of the open portals, the unnamed one left out.
    pub(super) portals: Vec<String>,
    /// Waits for a lock.
    pub(super) blocked: bool,
    /// Holds one of the `max_connections` slots.
    pub(super) slot: bool,
}

/// One backend.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) pid: Pid,
    pub(super) peer: SocketAddr,
    /// The key of its BackendKeyData.
    pub(super) secret: i32,
    signals: AtomicU32,
    waker: AtomicWaker,
    pub(super) activity: Mutex<Activity>,
    /// `None` before the startup is over, and once the session has ended. Locked after the engine.
    pub(super) session: Mutex<Option<Session>>,
    pub(super) inbox: Mutex<Vec<Notification>>,
}

impl Backend {
    pub(super) fn new(pid: Pid, peer: SocketAddr, secret: i32, now: Duration) -> Backend {
        Backend {
            pid,
            peer,
            secret,
            signals: AtomicU32::new(0),
            waker: AtomicWaker::new(),
            activity: Mutex::new(Activity {
                state: BackendState::Starting,
                user: None,
                database: None,
                application_name: String::new(),
                backend_start: now,
                transaction_start: None,
                query_start: None,
                state_change: None,
                xid: None,
                query: Arc::from(""),
                wait: None,
                portals: Vec::new(),
                blocked: false,
                slot: false,
            }),
            session: Mutex::new(None),
            inbox: Mutex::new(Vec::new()),
        }
    }

    /// Sends signals and wakes the backend.
    pub(super) fn signal(&self, signals: Signals) {
        self.signals.fetch_or(signals.0, Ordering::AcqRel);
        self.waker.wake();
    }

    /// The signals that are pending.
    pub(super) fn pending(&self) -> Signals {
        Signals(self.signals.load(Ordering::Acquire))
    }

    /// Takes back those of `signals` that are pending.
    pub(super) fn take(&self, signals: Signals) -> bool {
        self.pending().has(signals) && self.signals.fetch_and(!signals.0, Ordering::AcqRel) & signals.0 != 0
    }

    /// Wakes `waker` at the next signal.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Its row in `pg_stat_activity`; `None` before it has a slot.
    pub(super) fn row(&self) -> Option<ActivityRow> {
        let activity = self.activity.lock();
        activity.slot.then(|| ActivityRow {
            pid: self.pid,
            usename: activity.user.clone(),
            datname: activity.database.clone(),
            application_name: activity.application_name.clone(),
            client_addr: Some(self.peer),
            backend_start: activity.backend_start,
            xact_start: activity.transaction_start,
            query_start: activity.query_start,
            state_change: activity.state_change,
            wait_event_type: activity.wait.map(|wait| wait.0),
            wait_event: activity.wait.map(|wait| wait.1),
            state: (activity.state != BackendState::Starting).then_some(activity.state),
            backend_xid: activity.xid,
            query: activity.query.clone(),
            backend_type: "client backend",
        })
    }
}
