//! Where the events of all sessions come together, and from where the observer is told.
//!
//! Events of one session are told in the order in which its tap found them, before the bytes that reveal them are forwarded,
//! and with no lock held that a question to the proxy would need.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, ReentrantMutex};
use poolproof_sim::postgres::event::{BackendState, Gone, Observer, Pid, ServerEvent};

use super::socket::AppEnd;
use super::tap::Tap;

/// Reasons kept that the log gave for backends whose end was not seen yet; the oldest process ids go first.
const REASONS: usize = 10_000;

/// What all sessions share.
pub(super) struct Desk {
    observer: Arc<dyn Observer>,
    wants_statements: bool,
    sessions: Mutex<BTreeMap<Pid, Arc<Session>>>,
    /// Ends that the server's log told of.
    logged: Mutex<BTreeMap<Pid, Gone>>,
    /// Servers whose `pg_stat_activity` somebody samples, and who will tell of backends that the wire shows no more.
    sampled: Mutex<BTreeSet<String>>,
}

impl Desk {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Arc<Desk> {
        Arc::new(Desk {
            wants_statements: observer.wants_statements(),
            observer,
            sessions: Mutex::default(),
            logged: Mutex::default(),
            sampled: Mutex::default(),
        })
    }

    /// Somebody samples this server from now on.
    pub(super) fn is_sampled(&self, server: &str) {
        self.sampled.lock().insert(server.to_owned());
    }

    /// The session of a backend that is not gone.
    pub(super) fn session(&self, pid: Pid) -> Option<Arc<Session>> {
        self.sessions.lock().get(&pid).cloned()
    }

    /// The sessions of one server, ascending by pid.
    pub(super) fn sessions_of(&self, server: &str) -> Vec<(Pid, Arc<Session>)> {
        let sessions = self.sessions.lock();
        let of = sessions.iter().filter(|(_, session)| *session.server == *server);
        of.map(|(pid, session)| (*pid, Arc::clone(session))).collect()
    }

    /// The log told why a backend ended.
    pub(super) fn log_end(&self, pid: Pid, reason: Gone) {
        let mut logged = self.logged.lock();
        // The first is the cause; what follows are its consequences.
        logged.entry(pid).or_insert(reason);
        if logged.len() > REASONS {
            logged.pop_first();
        }
    }
}

/// One connection to a server, as long as it or its backend lasts.
pub(super) struct Session {
    desk: Arc<Desk>,
    pub(super) server: Arc<str>,
    tap: Mutex<Tap>,
    untold: Mutex<VecDeque<ServerEvent>>,
    /// Held while the observer is told; the observer may cause further events.
    telling: ReentrantMutex<()>,
    app: Option<Arc<AppEnd>>,
    /// Bytes that were handed to the app's socket.
    pub(super) delivered: AtomicU64,
    /// The socket to the server is closed, though the backend may live.
    unseen: Mutex<Option<Gone>>,
}

impl Session {
    pub(super) fn new(desk: &Arc<Desk>, server: Arc<str>, tap: Tap, app: Option<Arc<AppEnd>>) -> Arc<Session> {
        Arc::new(Session {
            desk: Arc::clone(desk),
            server,
            tap: Mutex::new(tap),
            untold: Mutex::default(),
            telling: ReentrantMutex::new(()),
            app,
            delivered: AtomicU64::new(0),
            unseen: Mutex::new(None),
        })
    }

    /// Lets the tap see something, and tells what comes of it.
    pub(super) fn see(self: &Arc<Self>, see: impl FnOnce(&mut Tap, &mut Vec<ServerEvent>)) {
        {
            let mut tap = self.tap.lock();
            let mut events = Vec::new();
            see(&mut tap, &mut events);
            if events.is_empty() {
                return;
            }
            self.untold.lock().extend(events);
        }
        let _turn = self.telling.lock();
        loop {
            let Some(event) = self.untold.lock().pop_front() else { return };
            match &event {
                ServerEvent::Forked { pid, .. } => {
                    self.desk.sessions.lock().insert(*pid, Arc::clone(self));
                    self.desk.logged.lock().remove(pid);
                }
                ServerEvent::Gone { pid, .. } | ServerEvent::Refused { pid: Some(pid), .. } => {
                    let mut sessions = self.desk.sessions.lock();
                    if sessions.get(pid).is_some_and(|known| Arc::ptr_eq(known, self)) {
                        sessions.remove(pid);
                    }
                }
                ServerEvent::Statement { .. } | ServerEvent::StatementEnd { .. } if !self.desk.wants_statements => {
                    continue;
                }
                _ => {}
            }
            self.desk.observer.server_event(&self.server, event);
        }
    }

    /// Looks at what is known of it.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Tap) -> R) -> R {
        look(&self.tap.lock())
    }

    /// Bytes that arrived at the app's socket and were not read; 0 for a client that did not dial by its seat.
    pub(super) fn unread(&self) -> u64 {
        let read = self.app.as_ref().map(|app| app.read());
        read.map_or(0, |read| self.delivered.load(Ordering::Relaxed).saturating_sub(read))
    }

    /// The server's end of the socket closed: the backend is gone.
    pub(super) fn server_closed(self: &Arc<Self>) {
        let pid = self.look(Tap::pid);
        let logged = pid.and_then(|pid| self.desk.logged.lock().remove(&pid));
        self.see(|tap, out| {
            let reason = tap.known_end().or(logged).unwrap_or(Gone::Killed);
            tap.end(reason, out);
        });
    }

    /// Its backend is at a statement.
    pub(super) fn is_busy(&self) -> bool {
        self.look(Tap::state) == BackendState::Active
    }

    /// The server's end was told a RST, of this kind: an idle backend ends at once, a busy one when it notices.
    pub(super) fn cut_off(self: &Arc<Self>, kind: io::ErrorKind) {
        let reason = self.look(Tap::known_end).unwrap_or(Gone::SocketError(kind));
        *self.unseen.lock() = Some(reason.clone());
        if !(self.is_busy() && self.desk.sampled.lock().contains(&*self.server)) {
            self.see(|tap, out| tap.end(reason, out));
        }
    }

    /// The reason of its end, if the wire shows it no more.
    pub(super) fn unseen(&self) -> Option<Gone> {
        self.unseen.lock().clone()
    }

    /// A sample shows that its backend is gone.
    pub(super) fn found_gone(self: &Arc<Self>) {
        let Some(pid) = self.look(Tap::pid) else { return };
        let logged = self.desk.logged.lock().remove(&pid);
        let unseen = self.unseen();
        self.see(|tap, out| {
            let reason = tap.known_end().or(logged).or(unseen).unwrap_or(Gone::Killed);
            tap.end(reason, out);
        });
    }
}
