//! The handle of one server: what a world does to it, and what it sees of it.
//!
//! A `Server` is a PostgreSQL cluster with its postmaster. Whoever listens (a simulated host, a real TCP port, a test)
//! accepts connections while [`Server::lifecycle`] is not [`Lifecycle::Down`], and gives each to [`Server::serve`], in a
//! task of its own. All methods must be called inside a tokio runtime; time is tokio's.
//!
//! # The standby
//!
//! [`Server::standby_of`] makes a hot standby that shares the primary's storage: it sees every commit at once, without
//! replication lag, and refuses to write (25006). [`Server::promote`] forks the storage: from then on the two servers
//! go their own ways, and sessions on both sides go on. While they share it, a lock of one server's session also
//! holds up the other's; a real standby replays the primary's exclusive table locks only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::activity::{Backend, Signals};
use super::config::{Auth, Config};
use super::error::{PgError, SqlState};
use super::event::{BackendState, Gone, Lifecycle, Observer, Pid, ServerEvent, SessionReport};
use super::lifecycle::Life;
use super::link::Socket;
use super::scram::{self, Verifier};
use super::session::Connection;
use super::settings::ServerSettings;
use super::slots::Registry;
use super::sql::{
    ActivityRow, Engine, EngineOptions, Framing, Host, Notification, RoleOptions, Session, SessionOptions, Step,
    TransactionEvent, Type, Value,
};
use crate::clock;

/// A PostgreSQL server; a handle, cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.shared.config.name)
            .field("lifecycle", &*self.lifecycle_watch().borrow())
            .finish_non_exhaustive()
    }
}

/// A backend, as a world sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its process id.
    pub pid: Pid,
    /// Its client's address.
    pub peer: SocketAddr,
    /// Its role, once it is known.
    pub user: Option<String>,
    /// `application_name`
    pub application_name: String,
    /// What it does.
    pub state: BackendState,
    /// Whether it waits for a lock.
    pub blocked: bool,
    /// When it was forked, since the server was made.
    pub backend_start: Duration,
    /// When its transaction began, on the same base.
    pub transaction_start: Option<Duration>,
    /// When its state last changed, on the same base.
    pub state_change: Option<Duration>,
}

/// Figures of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Backends with a slot.
    pub backends: u32,
    /// Of them, those idle in a transaction or active in one.
    pub in_transaction: u32,
    /// Of them, those that wait for a lock.
    pub blocked: u32,
}

/// Storage and locks; a standby that was not promoted shares its primary's.
pub(super) struct Cluster {
    pub(super) engine: Mutex<Engine>,
    /// The servers on this storage.
    pub(super) servers: Mutex<Vec<Weak<Shared>>>,
}

/// The postmaster and what all backends share.
pub(super) struct Shared {
    pub(super) config: Config,
    observer: Option<Arc<dyn Observer>>,
    wants_statements: bool,
    pub(super) cluster: RwLock<Arc<Cluster>>,
    pub(super) registry: Mutex<Registry>,
    pub(super) life: Mutex<Life>,
    pub(super) lifecycle: watch::Sender<Lifecycle>,
    /// Whether writes fail with 25006 because the server is a standby.
    pub(super) in_recovery: std::sync::atomic::AtomicBool,
    identities: Mutex<Identities>,
    /// `postgresql.conf` as it was last read.
    pub(super) settings: Mutex<ServerSettings>,
    /// Password verifiers of the roles that have a password.
    verifiers: BTreeMap<String, Verifier>,
    /// `mock_authentication_nonce`
    scram_secret: [u8; 32],
    /// The moment that durations count from.
    epoch: Instant,
    /// Delay of each statement, ms.
    slowness_ms: AtomicU64,
    /// Clients whose backends, which are still to come, find no memory.
    starved: Mutex<Vec<SocketAddr>>,
}

/// What process ids and secrets come from.
struct Identities {
    entropy: ChaCha8Rng,
    next_pid: Pid,
}

/// What the engine wants passed on after a call.
#[derive(Default)]
pub(super) struct Settled {
    granted: Vec<Pid>,
    notifications: Vec<Notification>,
    events: Vec<TransactionEvent>,
}

impl Settled {
    pub(super) fn of(engine: &mut Engine) -> Settled {
        Settled {
            granted: engine.take_granted(),
            notifications: engine.take_notifications(),
            events: engine.take_events(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.notifications.is_empty() && self.events.is_empty()
    }

    /// Without ends of transactions: they have not ended, in the copy of the storage that counts.
    pub(super) fn without_events(mut self) -> Settled {
        self.events.clear();
        self
    }
}

impl Server {
    /// A server that is [`Lifecycle::Down`], its data made by `initial_sql`. Errors: what a
    /// setting or a statement of it fails with.
    pub fn new(config: Config, observer: Option<Arc<dyn Observer>>) -> Result<Server, PgError> {
        let mut engine = Engine::new(engine_options(&config))?;
        let owner = Owner::of(&config);
        let initial_sql = config.initial_sql.clone();
        // The server's life begins after its data: nothing of this is an event.
        let server = Server::on(config, observer, |shared| {
            run_to_end(&mut engine, shared, &owner, &initial_sql)?;
            Settled::of(&mut engine);
            Ok(Arc::new(Cluster { engine: Mutex::new(engine), servers: Mutex::new(Vec::new()) }))
        })?;
        Ok(server)
    }

    /// A standby of `primary`: the same data, read-only until it is promoted. `config.standby` says how it behaves; its
    /// `initial_sql`, roles and databases are ignored.
    pub fn standby_of(
        primary: &Server,
        mut config: Config,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Server, PgError> {
        config.roles.clone_from(&primary.shared.config.roles);
        config.databases.clone_from(&primary.shared.config.databases);
        config.standby.get_or_insert(super::config::Standby { hot_standby: true, promotion_time: Duration::ZERO });
        let cluster = primary.shared.cluster.read().clone();
        Server::on(config, observer, |_| Ok(cluster))
    }

    fn on(
        config: Config,
        observer: Option<Arc<dyn Observer>>,
        cluster: impl FnOnce(&dyn Host) -> Result<Arc<Cluster>, PgError>,
    ) -> Result<Server, PgError> {
        let epoch = Instant::now();
        let mut settings = ServerSettings::new(config.version.major());
        for (name, value) in engine_options(&config).settings {
            settings.set(&name, &value)?;
        }
        let mut entropy = ChaCha8Rng::seed_from_u64(config.seed);
        let mut scram_secret = [0; 32];
        entropy.fill(&mut scram_secret);
        let mut verifiers = BTreeMap::new();
        for role in &config.roles {
            if let (Some(password), Auth::ScramSha256) = (&role.password, config.auth) {
                let mut salt = [0; 16];
                entropy.fill(&mut salt);
                verifiers.insert(role.name.clone(), Verifier::new(password, salt));
            }
        }
        let cluster = cluster(&Bootstrap { epoch, unix_time: config.unix_time })?;
        let shared = Arc::new(Shared {
            wants_statements: observer.as_ref().is_some_and(|observer| observer.wants_statements()),
            observer,
            cluster: RwLock::new(cluster.clone()),
            registry: Mutex::new(Registry::default()),
            life: Mutex::new(Life::default()),
            lifecycle: watch::Sender::new(Lifecycle::Down),
            in_recovery: config.standby.is_some().into(),
            identities: Mutex::new(Identities { entropy, next_pid: config.first_pid }),
            settings: Mutex::new(settings),
            verifiers,
            scram_secret,
            epoch,
            slowness_ms: AtomicU64::new(0),
            starved: Mutex::default(),
            config,
        });
        cluster.servers.lock().push(Arc::downgrade(&shared));
        Ok(Server { shared })
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// Serves one accepted connection to its end: a session, a refusal or a cancel request.
    ///
    /// Dropping the future is the death of that one process, as if by SIGTERM without a message: its transaction is
    /// rolled back.
    pub async fn serve<S: Socket>(&self, socket: S, peer: SocketAddr) {
        if let Some(backend) = self.shared.fork(peer) {
            Connection::new(self.shared.clone(), backend, socket).run().await;
        }
    }

    /// What the server is doing.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        *self.shared.lifecycle.borrow()
    }

    /// To follow what the server is doing. The port is open unless it is [`Lifecycle::Down`].
    #[must_use]
    pub fn lifecycle_watch(&self) -> watch::Receiver<Lifecycle> {
        self.shared.lifecycle.subscribe()
    }

    /// `pg_terminate_backend`; false when there is no such backend.
    pub fn terminate(&self, pid: Pid) -> bool {
        self.shared.signal(pid, Signals::TERMINATE)
    }

    /// `pg_cancel_backend`; false when there is no such backend.
    pub fn cancel(&self, pid: Pid) -> bool {
        self.shared.signal(pid, Signals::CANCEL)
    }

    /// The backend of this client, if it comes to this server, finds no memory for the next message that it works on: a startup
    /// ends with FATAL 53200, a Query, Parse, Bind, Describe, Execute or Close with an ERROR.
    pub fn starve(&self, client: SocketAddr) {
        let registry = self.shared.registry.lock();
        match registry.backends.values().find(|backend| backend.peer == client) {
            Some(backend) => backend.signal(Signals::OUT_OF_MEMORY),
            None => self.shared.starved.lock().push(client),
        }
    }

    /// `ALTER ROLE … CONNECTION LIMIT`, for sessions from now on; `None` is no limit.
    pub fn limit_role(&self, role: &str, limit: Option<u32>) {
        let limit = limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let cluster = self.shared.cluster.read().clone();
        cluster.engine.lock().limit_role(role, limit);
    }

    /// Each statement from now on takes so much longer (whole milliseconds), locks held. Zero: back to normal.
    pub fn slow_down(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.shared.slowness_ms.store(by, Ordering::Relaxed);
    }

    /// The backends that hold a slot, ascending by pid.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendInfo> {
        let registry = self.shared.registry.lock();
        let info = |backend: &Arc<Backend>| {
            let activity = backend.activity.lock();
            activity.slot.then(|| BackendInfo {
                pid: backend.pid,
                peer: backend.peer,
                user: activity.user.clone(),
                application_name: activity.application_name.clone(),
                state: activity.state,
                blocked: activity.blocked,
                backend_start: activity.backend_start,
                transaction_start: activity.transaction_start,
                state_change: activity.state_change,
            })
        };
        registry.backends.values().filter_map(info).collect()
    }

    /// How many backends there are; a look at each, without allocating.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let registry = self.shared.registry.lock();
        let mut counts = Counts::default();
        for backend in registry.backends.values() {
            let activity = backend.activity.lock();
            counts.backends += u32::from(activity.slot);
            counts.in_transaction += u32::from(activity.transaction_start.is_some());
            counts.blocked += u32::from(activity.blocked);
        }
        counts
    }

    /// What of a session would surprise its next user; `None` when there is no such session.
    #[must_use]
    pub fn session_report(&self, pid: Pid) -> Option<SessionReport> {
        let backend = self.shared.registry.lock().backends.get(&pid)?.clone();
        let (state, portals) = {
            let activity = backend.activity.lock();
            (activity.state, activity.portals.clone())
        };
        let session = backend.session.lock();
        session.as_ref().map(|session| session.report(state, portals))
    }

    /// A superuser's own look at the data, in whatever state the server is, without a slot and without events: for final
    /// checks. Gives the last statement's rows as text. Errors: the statement's; 55P03 when it would have to wait.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
        let cluster = self.shared.cluster.read().clone();
        let (rows, settled) = {
            let mut engine = cluster.engine.lock();
            let rows = run_to_end(&mut engine, &*self.shared, &Owner::of(&self.shared.config), sql);
            (rows, Settled::of(&mut engine))
        };
        self.shared.pass_on(&cluster, settled);
        rows
    }
}

fn engine_options(config: &Config) -> EngineOptions {
    let limit = |limit: Option<u32>| limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
    let own = [
        ("max_connections", config.max_connections),
        ("superuser_reserved_connections", config.superuser_reserved_connections),
    ];
    EngineOptions {
        version: config.version.as_str().to_owned(),
        databases: config
            .databases
            .iter()
            .map(|database| (database.name.clone(), limit(database.connection_limit)))
            .collect(),
        roles: config
            .roles
            .iter()
            .map(|role| RoleOptions {
                name: role.name.clone(),
                superuser: role.superuser,
                connection_limit: limit(role.connection_limit),
            })
            .collect(),
        costs: config.costs.clone(),
        seed: config.seed,
        settings: own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .chain(config.settings.iter().map(|(name, value)| (name.clone(), value.clone())))
            .collect(),
    }
}

/// The pid of the server's own look at its data. No backend has it.
const OWN_PID: Pid = 1;

/// Who looks at the data on the server's own behalf: the first superuser, in the first database.
struct Owner {
    role: String,
    database: String,
}

impl Owner {
    fn of(config: &Config) -> Owner {
        let superuser = config.roles.iter().find(|role| role.superuser);
        Owner {
            role: superuser.or(config.roles.first()).map_or_else(String::new, |role| role.name.clone()),
            database: config.databases.first().map_or_else(String::new, |database| database.name.clone()),
        }
    }
}

/// Runs a script as a superuser, without ever waiting. Statements cost nothing here.
fn run_to_end(
    engine: &mut Engine,
    host: &dyn Host,
    owner: &Owner,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, PgError> {
    let script = engine.parse(sql)?;
    let mut session = engine.open_session(SessionOptions {
        pid: OWN_PID,
        user: owner.role.clone(),
        database: owner.database.clone(),
        settings: Vec::new(),
    })?;
    let mut last = Vec::new();
    let mut run = |engine: &mut Engine, session: &mut Session| {
        for statement in &script.statements {
            engine.statement_begin(host, session, Framing::Multi);
            let mut execution = engine.start(session, statement, &[], Vec::new());
            let output = loop {
                match engine.step(host, session, &mut execution)? {
                    Step::Done(output) => break output.whole()?,
                    Step::Sleep(_) => (),
                    Step::Wait => {
                        engine.give_up_wait(OWN_PID);
                        return Err(PgError::error(
                            SqlState::LOCK_NOT_AVAILABLE,
                            "the statement would have to wait for a lock",
                        ));
                    }
                }
            };
            if statement.is_transaction_control() {
                engine.commit_implicit(host, session)?;
            }
            let Some(rows) = output.rows else {
                last.clear();
                continue;
            };
            let text = |(value, kind): (&Value, Type)| match value {
                Value::Null => None,
                value => {
                    let mut text = bytes::BytesMut::new();
                    value.encode_text(kind, &mut text);
                    Some(String::from_utf8_lossy(&text).into_owned())
                }
            };
            let kinds = rows.columns.iter().map(|column| column.kind);
            last = rows.rows.iter().map(|row| row.iter().zip(kinds.clone()).map(text).collect()).collect();
        }
        engine.commit_implicit(host, session)
    };
    let result = run(engine, &mut session);
    if result.is_err() {
        engine.abort(&mut session);
    }
    engine.end_session(&mut session);
    result.map(|()| last)
}

/// The engine's host while there is no server yet.
struct Bootstrap {
    epoch: Instant,
    unix_time: Duration,
}

impl Host for Bootstrap {
    fn activity(&self) -> Vec<ActivityRow> {
        Vec::new()
    }
    fn terminate(&self, _: Pid) -> bool {
        false
    }
    fn cancel(&self, _: Pid) -> bool {
        false
    }
    fn now_us(&self) -> i64 {
        since_2000_us(self.unix_time)
    }
    fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }
    fn postmaster_start(&self) -> Duration {
        Duration::ZERO
    }
    fn in_recovery(&self) -> bool {
        false
    }
}

/// 2000-01-01 00:00 UTC, where PostgreSQL's timestamps begin, as Unix time.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

fn since_2000_us(unix: Duration) -> i64 {
    let us = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    us(unix) - us(POSTGRES_EPOCH)
}

impl Host for Shared {
    fn activity(&self) -> Vec<ActivityRow> {
        let registry = self.registry.lock();
        registry.backends.values().filter_map(|backend| backend.row()).collect()
    }
    fn terminate(&self, pid: Pid) -> bool {
        self.signal(pid, Signals::TERMINATE)
    }
    fn cancel(&self, pid: Pid) -> bool {
        self.signal(pid, Signals::CANCEL)
    }
    fn now_us(&self) -> i64 {
        since_2000_us(self.config.unix_time + self.elapsed())
    }
    fn elapsed(&self) -> Duration {
        clock::since(self.epoch)
    }
    fn now(&self) -> (i64, Duration) {
        let elapsed = self.elapsed();
        (since_2000_us(self.config.unix_time + elapsed), elapsed)
    }
    fn postmaster_start(&self) -> Duration {
        self.life.lock().started
    }
    fn in_recovery(&self) -> bool {
        self.in_recovery.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Tells the observer. No lock may be held.
    pub(super) fn emit(&self, event: ServerEvent) {
        if let Some(observer) = &self.observer {
            observer.server_event(&self.config.name, event);
        }
    }

    /// Whether anybody listens.
    pub(super) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Whether statements are to be reported.
    pub(super) fn wants_statements(&self) -> bool {
        self.wants_statements
    }

    /// How much longer each statement takes, if at all.
    pub(super) fn slowness(&self) -> Option<Duration> {
        match self.slowness_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// A new process for a connection; `None` when the server is down.
    fn fork(&self, peer: SocketAddr) -> Option<Arc<Backend>> {
        if *self.lifecycle.borrow() == Lifecycle::Down {
            return None;
        }
        let (pid, secret) = {
            let mut identities = self.identities.lock();
            let pid = identities.next_pid;
            // Other processes of the host take numbers too.
            identities.next_pid += identities.entropy.random_range(1..=3);
            (pid, identities.entropy.next_u32().cast_signed())
        };
        let backend = Arc::new(Backend::new(pid, peer, secret, self.elapsed()));
        let mut starved = self.starved.lock();
        if let Some(place) = starved.iter().position(|client| *client == peer) {
            starved.swap_remove(place);
            backend.signal(Signals::OUT_OF_MEMORY);
        }
        drop(starved);
        self.registry.lock().backends.insert(pid, backend.clone());
        Some(backend)
    }

    /// A SCRAM exchange for whoever says to be `user`; it fails at its end when there is no such role or no password.
    pub(super) fn scram_exchange(&self, user: &str) -> scram::Exchange {
        let mut nonce = [0; 18];
        self.identities.lock().entropy.fill(&mut nonce);
        scram::Exchange::new(user, self.verifiers.get(user).cloned(), nonce, &self.scram_secret)
    }

    pub(super) fn signal(&self, pid: Pid, signals: Signals) -> bool {
        let backend = self.registry.lock().backends.get(&pid).cloned();
        match backend {
            Some(backend) if backend.activity.lock().slot => {
                backend.signal(signals);
                true
            }
            _ => false,
        }
    }

    /// All processes, in the order of their pids.
    pub(super) fn processes(&self) -> Vec<Arc<Backend>> {
        self.registry.lock().backends.values().cloned().collect()
    }

    /// Passes on what the engine left behind: grants and notifications to their backends, ends of transactions to the
    /// observer. No lock may be held.
    pub(super) fn pass_on(&self, cluster: &Cluster, settled: Settled) {
        if settled.is_empty() {
            return;
        }
        let servers: Vec<Arc<Shared>> = cluster.servers.lock().iter().filter_map(Weak::upgrade).collect();
        let find = |pid: Pid| {
            servers.iter().find_map(|server| {
                let backend = server.registry.lock().backends.get(&pid)?.clone();
                Some((server, backend))
            })
        };
        for event in settled.events {
            let (pid, xid) = (event.pid, event.xid);
            self.emit(match event.committed {
                true => ServerEvent::Committed { pid, xid },
                false => ServerEvent::RolledBack { pid, xid },
            });
        }
        for pid in settled.granted {
            if let Some((server, backend)) = find(pid) {
                server.unblocked(&backend);
                backend.signal(Signals::GRANTED);
            }
        }
        let mut woken: BTreeMap<Pid, Arc<Backend>> = BTreeMap::new();
        for notification in settled.notifications {
            if let Some((_, backend)) = find(notification.to) {
                backend.inbox.lock().push(notification);
                woken.insert(backend.pid, backend);
            }
        }
        for backend in woken.values() {
            backend.signal(Signals::NOTIFY);
        }
    }

    /// A wait for a lock is over.
    pub(super) fn unblocked(&self, backend: &Backend) {
        let was_blocked = std::mem::take(&mut backend.activity.lock().blocked);
        if was_blocked {
            self.emit(ServerEvent::Unblocked { pid: backend.pid });
        }
    }

    /// The process is gone: its session is undone, its slot free. `reason` is `None` for one that was refused or never
    /// had a slot, which has been told of already.
    pub(super) fn leave(&self, backend: &Backend, reason: Option<Gone>) {
        let cluster = self.cluster.read().clone();
        let settled = {
            let mut engine = cluster.engine.lock();
            let session = backend.session.lock().take();
            if let Some(mut session) = session {
                engine.give_up_wait(backend.pid);
                engine.end_session(&mut session);
            }
            Settled::of(&mut engine)
        };
        self.unblocked(backend);
        self.registry.lock().leave(backend);
        self.pass_on(&cluster, settled);
        if let Some(reason) = reason {
            self.emit(ServerEvent::Gone { pid: backend.pid, reason });
        }
        self.process_left();
    }
}
