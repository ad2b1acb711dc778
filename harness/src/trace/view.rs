//! The world's counters as the truth has them: kept from the events alone, one step an event, no scan.
//!
//! What a connection *is* for its pool is its [`Class`]; every count is a count of a class. The server decides what is
//! idle: a connection nobody holds, on which a statement runs (a check, a reset), is busy. A backend whose client end has
//! been gone for [`ORPHANED_AFTER`] is an orphan: it is the server's burden, not the pool's. After anything that may have cut a flow silently, no
//! connection is [`proven`](View::is_proven) until a statement on it was asked and answered: a pool may rightly be
//! waiting for the answer to a check that the server never got, or that got lost on its way back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Lifecycle, Pid, ServerEvent};

use super::event::{Acquired, ActorEnd, ActorId, ConnId, Phase, PoolId, ProcessId, SqlResult, What};
use super::recorder::IntMap;
use crate::scenario::model::{AtMessage, FaultAction, PoolSettings, Scenario, ServerName};

/// How long a backend outlives its client's end until it counts as an orphan: the news of an ordinary close is on its
/// way for a moment, too.
pub const ORPHANED_AFTER: Duration = Duration::from_secs(1);

/// What a connection is for its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Never open, or closed: nothing is left of it.
    Nothing,
    /// Being dialled.
    Dialling,
    /// Open, and an actor holds it (leaked ones included).
    Leased,
    /// An actor holds it, but the client's end is broken or closed.
    LeasedBroken,
    /// Open, nobody holds it, nothing runs on it.
    Idle,
    /// Open, nobody holds it, and a statement runs on it or it is still starting: a check, a reset, an abandoned query.
    Busy,
    /// Open at the app's end, nobody holds it, and the server has no such backend (any more).
    Dead,
    /// Known broken, and not yet dropped by the pool.
    Broken,
    /// Taken out of its pool, which may have let go of all it had.
    Detached,
}

const CLASSES: usize = 9;

/// The client's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEnd {
    /// Dialling.
    Dialling,
    /// Open.
    Open,
    /// The driver saw it break.
    Broken,
    /// Closed by its owner, or never opened.
    Closed,
}

/// A connection, from its dial on.
#[derive(Debug, Clone)]
pub struct ConnView {
    /// Its pool.
    pub pool: PoolId,
    /// The client's end.
    pub end: ClientEnd,
    /// Its backend, once known.
    pub pid: Option<Pid>,
    /// The backend's state; `None` when there is no backend.
    pub state: Option<BackendState>,
    /// When the dial began.
    pub dialled_at: Duration,
    /// When it was ready.
    pub opened_at: Duration,
    /// When the driver saw it break.
    pub broken_at: Option<Duration>,
    /// Who holds it.
    pub lease: Option<ActorId>,
    /// Who else holds it, by the pool's mistake.
    pub also: Vec<ActorId>,
    /// Whether its lease was leaked on purpose.
    pub leaked: bool,
    /// Whether it was taken out of the pool.
    pub detached: bool,
    /// Whether it is to be closed, at the wish of whoever had it: it does not come back.
    pub invalidated: bool,
    /// Whether its pool has let go of all that it had since: it does not come back.
    pub former: bool,
    /// When its last lease began.
    pub leased_at: Option<Duration>,
    /// When its last lease ended, and whose it was.
    pub released: Option<(Duration, ActorId)>,
    /// Since when nobody holds it and nothing runs on it, if that is so.
    pub idle_since: Duration,
    /// Whether its pool has a reason to discard it: a failed statement, or a lease that ended in a transaction or in
    /// the middle of a statement.
    pub tainted: bool,
    /// How many statements were given up by those who had sent them, or lost with the connection, and not ended by the
    /// server since.
    pub in_flight: u32,
    /// Whether its last lease sent a statement.
    pub used: bool,
    /// When its backend was last heard of.
    pub heard_at: Duration,
    /// Transactions with writes that its backend committed.
    pub commits: u32,
    class: Class,
    orphaned: bool,
    proven_epoch: u32,
    idle_links: Option<(u32, u32)>,
    member: u32,
}

/// A pool.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Its process.
    pub process: ProcessId,
    /// Its app, as an index into [`View::apps`].
    pub app: usize,
    /// Its settings.
    pub settings: Arc<PoolSettings>,
    /// Its bound.
    pub max_size: u32,
    /// The largest bound it had while connections of that time may still be there.
    pub max_size_before: u32,
    /// When the bound last changed.
    pub resized_at: Option<Duration>,
    /// When the bound was last lowered.
    pub shrunk_at: Option<Duration>,
    /// Whether it is an actor's own.
    pub own: bool,
    /// When it was built.
    pub built_at: Duration,
    /// When close was called first.
    pub closing_at: Option<Duration>,
    /// When each close was called that somebody still waits for, the first of them first.
    pub closes: Vec<Duration>,
    /// When close returned, the pool was dropped, or its process ended.
    pub ended_at: Option<Duration>,
    /// Acquires that wait.
    pub waiting: u32,
    /// Connections opened, ever.
    pub opened: u64,
    /// Dials begun, ever.
    pub dials: u64,
    /// Acquires begun, ever.
    pub acquires: u64,
    /// The most that was ever wanted at once: leases and waiting acquires.
    pub peak_demand: u32,
    /// The most connections that were ever open or being dialled.
    pub peak_connections: u32,
    /// Since when the pool has had room for a dial and none under way.
    pub room_since: Option<Duration>,
    /// The last failed dial, and the first of the row of failures that it ended.
    pub dial_failures: Option<(Duration, Duration)>,
    /// How many backends there were when its latest dial was refused for want of a slot (53300), if it was.
    refused_among: Option<u32>,
    /// When a lease of it last ended.
    pub released_at: Option<Duration>,
    /// When one of its counts last changed.
    pub changed_at: Duration,
    counts: [u32; CLASSES],
    waiters: (u32, u32),
    idle: (u32, u32),
    members: Vec<u32>,
}

impl PoolView {
    /// Connections of this class.
    #[must_use]
    pub fn count(&self, class: Class) -> u32 {
        self.counts[class as usize]
    }

    /// Connections open at the app's end.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.count(Class::Leased) + self.unleased()
    }

    /// Connections open at the app's end that nobody holds.
    #[must_use]
    pub fn unleased(&self) -> u32 {
        self.count(Class::Idle) + self.count(Class::Busy) + self.count(Class::Dead)
    }

    /// Leases.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.count(Class::Leased) + self.count(Class::LeasedBroken)
    }

    /// How many leases it may be asked for at once: its bound or, without one, the most that was ever wanted.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        if self.max_size == PoolSettings::UNLIMITED { self.peak_demand } else { self.max_size }
    }

    /// Dials under way.
    #[must_use]
    pub fn dialling(&self) -> u32 {
        self.count(Class::Dialling)
    }

    /// Whether it may be used: neither closing nor ended.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.closing_at.is_none() && self.ended_at.is_none()
    }
}

/// A process.
#[derive(Debug, Clone)]
pub struct ProcessView {
    /// Its app, as an index into [`View::apps`].
    pub app: usize,
    /// Its place among the app's processes, from 0.
    pub seat: u32,
    /// Whether it runs.
    pub alive: bool,
}

/// An actor that has not ended.
#[derive(Debug, Clone, Default)]
pub struct ActorView {
    /// Its workload.
    pub workload: Option<Arc<str>>,
    /// Its process.
    pub process: Option<ProcessId>,
    /// Since when it is there.
    pub since: Duration,
    /// The pool it waits for, and since when.
    pub waiting: Option<(PoolId, Duration)>,
    /// When its waiting was cancelled, if it was.
    pub cancelled_at: Option<Duration>,
    /// How often it was overtaken while it was its pool's oldest waiter.
    pub overtaken: u32,
    /// The connection that it holds, leaked ones excluded.
    pub held: Option<ConnId>,
    /// Its statement under way.
    pub sql: Option<Statement>,
    prev: u32,
    next: u32,
}

/// An actor's statement under way.
#[derive(Debug, Clone)]
pub struct Statement {
    /// On which connection.
    pub conn: ConnId,
    /// Its text.
    pub text: Arc<str>,
    /// Since when.
    pub since: Duration,
    /// [`ConnView::commits`] before it.
    pub commits: u32,
    /// Whether it follows an abandoned statement, which the server may still run before it.
    pub follows_abandoned: bool,
    /// How many times anything may have cut flows before it.
    epoch: u32,
}

#[derive(Debug, Clone)]
struct BackendView {
    conn: u32,
    state: BackendState,
    blocked: bool,
    heard_at: Duration,
}

#[derive(Debug, Clone)]
struct ServerView {
    name: Arc<str>,
    lifecycle: Lifecycle,
    /// A standby that became a primary.
    promoted: bool,
}

/// The most that was seen of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Peaks {
    /// Connections open at the apps' ends.
    pub connections: u32,
    /// Dials under way at once.
    pub dialling: u32,
    /// Backends, over all servers.
    pub backends: u32,
    /// Backends idle in a transaction, aborted ones included.
    pub in_transaction: u32,
    /// Backends that wait for a lock.
    pub blocked: u32,
    /// Backends whose client end has been gone for [`ORPHANED_AFTER`].
    pub orphans: u32,
    /// Acquires that wait.
    pub waiting: u32,
    /// Leases.
    pub in_use: u32,
}

/// The counters over all pools and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Acquires that wait.
    pub waiting: u32,
    /// Leases.
    pub in_use: u32,
    /// Idle connections.
    pub idle: u32,
    /// Dials under way.
    pub dialling: u32,
    /// Connections open at the apps' ends.
    pub open: u32,
    /// Backends.
    pub backends: u32,
    /// Backends idle in a transaction, aborted ones included.
    pub in_transaction: u32,
    /// Backends that wait for a lock.
    pub blocked: u32,
    /// Backends whose client end has been gone for [`ORPHANED_AFTER`].
    pub orphans: u32,
}

/// The world, as the events so far tell it.
#[derive(Debug, Clone)]
pub struct View {
    /// The time of the last event.
    pub now: Duration,
    /// The phase.
    pub phase: Phase,
    /// The apps' names, in the order in which their first processes started.
    pub apps: Vec<Arc<str>>,
    /// Counters over everything.
    pub totals: Totals,
    /// Their peaks.
    pub peaks: Peaks,
    /// Connections opened, ever.
    pub opened: u64,
    /// Dials that were begun in processes that had been killed: nothing comes of them, and their tasks wait for ever.
    pub dead_dials: u32,
    /// Since when the world has been healthy: no lasting fault, and the server that `db` leads to takes sessions (and is
    /// promoted, if it is a standby that will be).
    pub healthy_since: Option<Duration>,
    /// When the world last stopped being healthy.
    pub faulty_since: Option<Duration>,
    /// How long the acquire took that ended in the last event.
    pub waited: Duration,
    /// How long the statement took that ended in the last event.
    pub took: Duration,
    /// Its text.
    pub text: Option<Arc<str>>,
    /// The workload of the actor that ended in the last event, and how long it was there.
    pub lived: Option<(Arc<str>, Duration)>,
    /// The time of the last refusal by a server.
    pub refused_at: Option<Duration>,
    processes: Vec<Option<ProcessView>>,
    pools: Vec<Option<PoolView>>,
    conns: Vec<Option<ConnView>>,
    actors: IntMap<u32, ActorView>,
    backends: IntMap<Pid, BackendView>,
    servers: Vec<ServerView>,
    target: &'static str,
    // Whether the standby serves those who come to it before it is promoted: what it is there for, unless it is to be promoted.
    serves_reads: bool,
    lasting: Vec<bool>,
    cuts: Vec<bool>,
    severs: Vec<bool>,
    repoints: Vec<Option<ServerName>>,
    active: Vec<u32>,
    epoch: u32,
    // When the present epoch began.
    cut_at: Duration,
    // How long what was sent may be on its way.
    on_its_way: Duration,
    // A fault is active that may cut a flow at any time while it lasts.
    severed: bool,
    idle_flow_timeout: Option<Duration>,
    // Connections whose client end went while the server had their backend, and when, until they count as orphans.
    bereft: VecDeque<(Duration, ConnId)>,
    settings: Vec<(String, Arc<PoolSettings>)>,
}

impl View {
    /// Of a run of this scenario, before its first event.
    #[must_use]
    pub fn new(scenario: &Scenario) -> View {
        let faults = &scenario.faults;
        View {
            now: Duration::ZERO,
            phase: Phase::Fault,
            apps: Vec::new(),
            totals: Totals::default(),
            peaks: Peaks::default(),
            opened: 0,
            dead_dials: 0,
            healthy_since: Some(Duration::ZERO),
            faulty_since: None,
            waited: Duration::ZERO,
            took: Duration::ZERO,
            text: None,
            lived: None,
            refused_at: None,
            processes: Vec::new(),
            pools: Vec::new(),
            conns: Vec::new(),
            actors: IntMap::default(),
            backends: IntMap::default(),
            servers: Vec::new(),
            target: "db",
            serves_reads: scenario.standby.as_ref().is_some_and(|standby| standby.hot_standby)
                && !faults.iter().any(|fault| fault.action == FaultAction::ServerPromote),
            lasting: faults.iter().map(|fault| lasts(&fault.action)).collect(),
            cuts: faults.iter().map(|fault| cuts_flows(&fault.action)).collect(),
            severs: faults.iter().map(|fault| severs_flows(&fault.action)).collect(),
            repoints: faults.iter().map(|fault| repoints(&fault.action)).collect(),
            active: vec![0; faults.len()],
            epoch: 0,
            cut_at: Duration::ZERO,
            on_its_way: on_its_way(scenario),
            severed: false,
            idle_flow_timeout: scenario.network.idle_flow_timeout,
            bereft: VecDeque::new(),
            settings: scenario.apps.iter().map(|(name, app)| (name.clone(), Arc::new(app.pool.clone()))).collect(),
        }
    }

    /// A pool, if it was built.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&PoolView> {
        self.pools.get(index(id.0)?)?.as_ref()
    }

    /// All pools that were ever built.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &PoolView)> {
        (1..).zip(&self.pools).filter_map(|(id, pool)| Some((PoolId(id), pool.as_ref()?)))
    }

    /// A connection, if it was dialled.
    #[must_use]
    pub fn conn(&self, id: ConnId) -> Option<&ConnView> {
        self.conns.get(index(id.0)?)?.as_ref()
    }

    /// The connections of a pool that are not [`Class::Nothing`], in no particular order but always the same.
    pub fn conns_of<'a>(&'a self, pool: &'a PoolView) -> impl Iterator<Item = (ConnId, &'a ConnView)> {
        pool.members.iter().filter_map(|&id| Some((ConnId(id), self.conn(ConnId(id))?)))
    }

    /// An actor, if it has not ended.
    #[must_use]
    pub fn actor(&self, id: ActorId) -> Option<&ActorView> {
        self.actors.get(&id.0)
    }

    /// A process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&ProcessView> {
        self.processes.get(index(id.0)?)?.as_ref()
    }

    /// The connection of a backend.
    #[must_use]
    pub fn conn_of(&self, pid: Pid) -> Option<ConnId> {
        self.backends.get(&pid).filter(|backend| backend.conn != 0).map(|backend| ConnId(backend.conn))
    }

    /// What a connection is for its pool.
    #[must_use]
    pub fn class(&self, id: ConnId) -> Class {
        self.conn(id).map_or(Class::Nothing, |conn| conn.class)
    }

    /// Whether bytes are known to have gone both ways on the connection since anything may have cut its flow silently:
    /// it was opened since, or a statement was begun and answered. That the server was heard of is no proof: it may
    /// answer a question of before the cut, or into a direction that is still cut. One whose backend is gone, and
    /// whose client does not know, is not proven either: the news may be lost.
    #[must_use]
    pub fn is_proven(&self, conn: &ConnView) -> bool {
        conn.state.is_some()
            && !self.severed
            && conn.proven_epoch == self.epoch
            && self.idle_flow_timeout.is_none_or(|timeout| self.now.saturating_sub(conn.heard_at) < timeout)
    }

    /// Connections that are open at the app's end, that nobody holds, and that are not proven. The pool may be waiting
    /// for an answer on each of them that will not come, or have given it up already, which can't be seen from outside:
    /// the driver keeps the socket of a dropped client open while an answer is due.
    #[must_use]
    pub fn suspects(&self, pool: &PoolView) -> u32 {
        if self.epoch == 0 && self.idle_flow_timeout.is_none() {
            // Without a cut a backend's end is told to its client within a round trip.
            return pool.count(Class::Dead);
        }
        let suspects = self
            .conns_of(pool)
            .filter(|(_, conn)| matches!(conn.class, Class::Idle | Class::Busy | Class::Dead) && !self.is_proven(conn));
        u32::try_from(suspects.count()).unwrap_or(u32::MAX)
    }

    /// How long a question and its answer are on their way at most, faults of the scenario included.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.on_its_way * 2
    }

    /// Whether the server had no slot for the pool's latest dial, and none has become free since. The pool may be in its pause.
    #[must_use]
    pub fn has_no_slot(&self, pool: &PoolView) -> bool {
        pool.refused_among.is_some_and(|backends| self.totals.backends >= backends)
    }

    /// Connections open at the apps' ends that nobody holds and that may be dead, or are: how many of them the server believes
    /// to be idle, and how many there are in all. (Whether a pool still has one that is known to be broken can't be seen.)
    #[must_use]
    pub fn stale(&self) -> (u32, u32) {
        let (mut idle, mut all) = (0, 0);
        for pool in self.pools.iter().flatten() {
            let suspects = self.suspects(pool);
            all += suspects;
            if suspects > pool.count(Class::Dead) {
                let unproven = self.idle_conns(pool).filter(|(_, conn)| !self.is_proven(conn)).count();
                idle += u32::try_from(unproven).unwrap_or(u32::MAX);
            }
        }
        (idle, all)
    }

    /// Whether any open connection of the pool that nobody holds is not proven.
    #[must_use]
    pub fn has_suspects(&self, pool: &PoolView) -> bool {
        self.suspects(pool) > 0
    }

    /// The acquires that wait for a pool, the oldest first, each with its start.
    pub fn waiters(&self, pool: &PoolView) -> impl Iterator<Item = (ActorId, Duration)> {
        let mut at = pool.waiters.0;
        std::iter::from_fn(move || {
            let actor = self.actors.get(&at)?;
            let id = ActorId(at);
            at = actor.next;
            Some((id, actor.waiting?.1))
        })
    }

    /// The idle connections of a pool, the longest idle first.
    pub fn idle_conns<'a>(&'a self, pool: &PoolView) -> impl Iterator<Item = (ConnId, &'a ConnView)> {
        let mut at = pool.idle.0;
        std::iter::from_fn(move || {
            let conn = self.conn(ConnId(at))?;
            let id = ConnId(at);
            at = conn.idle_links?.1;
            Some((id, conn))
        })
    }

    /// Whether no lasting fault is active and the server that `db` leads to takes sessions.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy_since.is_some()
    }

    /// The state of a server's life, if it ever said.
    #[must_use]
    pub fn lifecycle(&self, server: &str) -> Option<Lifecycle> {
        self.servers.iter().find(|known| &*known.name == server).map(|known| known.lifecycle)
    }

    /// How many actors have not ended.
    #[must_use]
    pub fn actors_alive(&self) -> usize {
        self.actors.len()
    }

    /// The backends that work on an actor's statement, ascending.
    #[must_use]
    pub fn running(&self) -> Vec<Pid> {
        let sent = self.actors.values().filter_map(|actor| actor.sql.as_ref());
        let mut pids: Vec<Pid> = sent.filter_map(|sql| self.conn(sql.conn)?.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Takes the next event into account.
    pub fn apply(&mut self, at: Duration, what: &What) {
        self.now = at;
        self.count_orphans();
        match what {
            What::Server { server, event } => self.server(server, event),
            What::AcquireStart { actor, pool } => self.acquire_start(*actor, *pool),
            What::AcquireEnd { actor, pool, result } => self.acquire_end(*actor, *pool, result),
            What::SqlStart { actor, conn, text } => {
                let (commits, follows_abandoned) = slot(&mut self.conns, conn.0).map_or((0, false), |conn| {
                    conn.used = true;
                    (conn.commits, conn.in_flight > 0)
                });
                let text = Arc::clone(text);
                let epoch = self.epoch;
                self.actors.entry(actor.0).or_default().sql =
                    Some(Statement { conn: *conn, text, since: at, commits, follows_abandoned, epoch });
            }
            What::SqlEnd { actor, conn, result } => self.sql_end(*actor, *conn, result),
            What::Released { actor, conn } => self.release(*actor, *conn),
            What::ActorStart { actor, workload, process } => {
                let actor = self.actors.entry(actor.0).or_default();
                actor.workload = Some(Arc::clone(workload));
                actor.since = at;
                actor.process = Some(*process);
            }
            What::ActorEnd { actor, end } => self.actor_end(*actor, end),
            What::Dial { conn, pool } => self.dial(*conn, *pool),
            What::DialFailed { conn, code, .. } => {
                self.dial_failed(*conn, code.as_deref());
                self.end_conn(*conn, ClientEnd::Closed);
            }
            What::DialDropped { conn } | What::ConnClosed { conn } => self.end_conn(*conn, ClientEnd::Closed),
            What::Connected { conn, pid } => self.connected(*conn, *pid),
            // What a dead process's driver sees, nobody does.
            What::ConnBroken { conn, .. } => {
                if self.conn(*conn).is_some_and(|conn| conn.end != ClientEnd::Closed) {
                    self.end_conn(*conn, ClientEnd::Broken);
                }
            }
            What::Leaked { actor, conn } | What::Lost { actor, conn } | What::Kept { actor, conn } => {
                self.change(*conn, |conn| conn.leaked = true);
                if let Some(actor) = self.actors.get_mut(&actor.0) {
                    actor.held = None;
                }
            }
            What::Resumed { actor, conn } => {
                self.change(*conn, |conn| {
                    conn.lease = Some(*actor);
                    conn.leaked = false;
                });
                self.actors.entry(actor.0).or_default().held = Some(*conn);
            }
            What::Detached { actor, conn } => {
                self.release(*actor, *conn);
                self.change(*conn, |conn| conn.detached = true);
            }
            What::Invalidated { actor, conn } => {
                self.release(*actor, *conn);
                self.change(*conn, |conn| conn.invalidated = true);
            }
            What::StepCancelled { actor, .. } => {
                if let Some(actor) = self.actors.get_mut(&actor.0)
                    && actor.waiting.is_some()
                {
                    actor.cancelled_at = Some(at);
                }
            }
            What::Phase(phase) => {
                self.phase = *phase;
                if *phase != Phase::Fault {
                    // What the faults that still last leave behind, they leave now.
                    let cut = self.active.iter().zip(&self.cuts).any(|(&active, &cuts)| active > 0 && cuts);
                    if cut {
                        self.cut();
                    }
                    self.active.fill(0);
                    self.health();
                }
            }
            What::FaultBegin { index, .. } => self.fault(*index, true),
            What::FaultEnd { index, .. } => self.fault(*index, false),
            What::ProcessStart { process, app, seat } => self.process_start(*process, app, *seat),
            What::ProcessEnd { process } => self.process_end(*process),
            What::PoolBuilt { pool, process, max_size, own } => self.pool_built(*pool, *process, *max_size, *own),
            What::PoolResized { pool, max_size } => {
                if let Some(pool) = slot(&mut self.pools, pool.0) {
                    pool.max_size_before = pool.max_size_before.max(pool.max_size);
                    if *max_size < pool.max_size {
                        pool.shrunk_at = Some(at);
                    }
                    pool.max_size = *max_size;
                    pool.resized_at = Some(at);
                }
                self.room(*pool);
            }
            What::PoolDisposed { pool } => {
                let members = self.pool(*pool).map(|pool| pool.members.clone()).unwrap_or_default();
                for conn in members {
                    self.change(ConnId(conn), |conn| conn.former = true);
                }
            }
            What::PoolClosing { pool } => {
                if let Some(pool) = slot(&mut self.pools, pool.0) {
                    pool.closing_at.get_or_insert(at);
                    pool.closes.push(at);
                }
            }
            // Which of several callers it was is not told: it is taken for the first.
            What::PoolCloseCancelled { pool } => {
                if let Some(pool) = slot(&mut self.pools, pool.0).filter(|pool| !pool.closes.is_empty()) {
                    pool.closes.remove(0);
                }
            }
            What::PoolClosed { pool } | What::PoolDropped { pool } | What::PoolFailed { pool, .. } => {
                if let Some(pool) = slot(&mut self.pools, pool.0) {
                    pool.ended_at.get_or_insert(at);
                }
            }
            What::FaultEffect { .. }
            | What::PoolStatus { .. }
            | What::PoolLost { .. }
            | What::Collected { .. }
            | What::Raised { .. }
            | What::Deadlocked { .. }
            | What::Job { .. }
            | What::Join { .. }
            | What::ThreadBlocked { .. }
            | What::ThreadFree { .. }
            | What::DetachedDropped { .. }
            | What::TaskPanicked { .. }
            | What::TasksLeft { .. } => {}
        }
    }

    fn server(&mut self, server: &Arc<str>, event: &ServerEvent) {
        match event {
            ServerEvent::State { pid, state } => self.backend_state(*pid, *state),
            ServerEvent::Statement { .. } | ServerEvent::StatementEnd { .. } => {}
            ServerEvent::Committed { pid, .. } => {
                if let Some(id) = self.conn_of(*pid)
                    && let Some(conn) = slot(&mut self.conns, id.0)
                {
                    conn.commits += 1;
                }
            }
            ServerEvent::RolledBack { .. } => {}
            ServerEvent::Forked { pid, .. } => {
                let fresh = BackendView { conn: 0, state: BackendState::Starting, blocked: false, heard_at: self.now };
                if self.backends.insert(*pid, fresh).is_none() {
                    self.totals.backends += 1;
                    self.peaks.backends = self.peaks.backends.max(self.totals.backends);
                }
            }
            ServerEvent::Refused { pid, .. } => {
                self.refused_at = Some(self.now);
                if let Some(pid) = pid {
                    self.backend_gone(*pid);
                }
            }
            ServerEvent::Gone { pid, .. } => self.backend_gone(*pid),
            ServerEvent::Blocked { pid, .. } => self.blocked(*pid, true),
            ServerEvent::Unblocked { pid } => self.blocked(*pid, false),
            ServerEvent::Lifecycle(lifecycle) => {
                match self.servers.iter_mut().find(|known| known.name == *server) {
                    Some(known) => known.lifecycle = *lifecycle,
                    None => self.servers.push(ServerView {
                        name: Arc::clone(server),
                        lifecycle: *lifecycle,
                        promoted: false,
                    }),
                }
                self.health();
            }
            ServerEvent::Promoted => {
                if let Some(known) = self.servers.iter_mut().find(|known| known.name == *server) {
                    known.promoted = true;
                }
                self.health();
            }
        }
    }

    fn backend_state(&mut self, pid: Pid, state: BackendState) {
        let now = self.now;
        let Some(backend) = self.backends.get_mut(&pid) else {
            return;
        };
        let was = std::mem::replace(&mut backend.state, state);
        backend.heard_at = now;
        let conn = backend.conn;
        match (in_transaction(was), in_transaction(state)) {
            (false, true) => {
                self.totals.in_transaction += 1;
                self.peaks.in_transaction = self.peaks.in_transaction.max(self.totals.in_transaction);
            }
            (true, false) => self.totals.in_transaction -= 1,
            _ => {}
        }
        if conn == 0 {
            return;
        }
        let Some(view) = slot(&mut self.conns, conn) else {
            return;
        };
        view.heard_at = now;
        if was == BackendState::Active && state != BackendState::Active {
            view.in_flight = view.in_flight.saturating_sub(1);
        }
        if view.lease.is_some() {
            // The class of a held connection does not depend on its backend: nothing to count. This is the hot path.
            view.state = Some(state);
        } else {
            self.change(ConnId(conn), |conn| conn.state = Some(state));
        }
    }

    fn backend_gone(&mut self, pid: Pid) {
        let Some(backend) = self.backends.remove(&pid) else {
            return;
        };
        self.totals.backends -= 1;
        if in_transaction(backend.state) {
            self.totals.in_transaction -= 1;
        }
        if backend.blocked {
            self.totals.blocked -= 1;
        }
        if backend.conn == 0 {
            return;
        }
        let id = ConnId(backend.conn);
        if self.conn(id).is_some_and(|conn| conn.orphaned) {
            self.totals.orphans -= 1;
        }
        let now = self.now;
        self.change(id, |conn| {
            conn.state = None;
            conn.orphaned = false;
            conn.heard_at = now;
        });
    }

    fn blocked(&mut self, pid: Pid, blocked: bool) {
        let Some(backend) = self.backends.get_mut(&pid) else {
            return;
        };
        match (backend.blocked, blocked) {
            (false, true) => {
                self.totals.blocked += 1;
                self.peaks.blocked = self.peaks.blocked.max(self.totals.blocked);
            }
            (true, false) => self.totals.blocked -= 1,
            _ => {}
        }
        backend.blocked = blocked;
    }

    fn acquire_start(&mut self, id: ActorId, pool_id: PoolId) {
        let now = self.now;
        let Some(pool) = slot(&mut self.pools, pool_id.0) else {
            return;
        };
        let last = pool.waiters.1;
        pool.waiters.1 = id.0;
        if last == 0 {
            pool.waiters.0 = id.0;
        }
        pool.waiting += 1;
        pool.acquires += 1;
        pool.changed_at = now;
        pool.peak_demand = pool.peak_demand.max(pool.waiting + pool.in_use());
        self.totals.waiting += 1;
        self.peaks.waiting = self.peaks.waiting.max(self.totals.waiting);
        if last != 0
            && let Some(last) = self.actors.get_mut(&last)
        {
            last.next = id.0;
        }
        let actor = self.actors.entry(id.0).or_default();
        actor.waiting = Some((pool_id, now));
        actor.cancelled_at = None;
        actor.overtaken = 0;
        actor.prev = last;
        actor.next = 0;
    }

    fn acquire_end(&mut self, id: ActorId, pool_id: PoolId, result: &Acquired) {
        let now = self.now;
        let since = self.stop_waiting(id);
        self.waited = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let Acquired::Lease { conn, .. } = result else {
            return;
        };
        if let Some(since) = since
            && let Some(oldest) = self.pool(pool_id).map(|pool| pool.waiters.0)
            && let Some(oldest) = self.actors.get_mut(&oldest)
            // Within one millisecond there is no order.
            && oldest.waiting.is_some_and(|(_, start)| start.as_millis() < since.as_millis())
        {
            oldest.overtaken += 1;
        }
        self.change(*conn, |conn| {
            if let Some(before) = conn.lease.replace(id) {
                conn.also.push(before);
            }
            conn.leased_at = Some(now);
            conn.tainted = false;
            conn.leaked = false;
            conn.used = false;
        });
        self.actors.entry(id.0).or_default().held = Some(*conn);
        self.peaks.in_use = self.peaks.in_use.max(self.totals.in_use);
    }

    /// Takes an actor out of its pool's queue; answers since when it waited.
    fn stop_waiting(&mut self, id: ActorId) -> Option<Duration> {
        let actor = self.actors.get_mut(&id.0)?;
        let (pool, since) = actor.waiting.take()?;
        let (prev, next) = (actor.prev, actor.next);
        if let Some(prev) = self.actors.get_mut(&prev) {
            prev.next = next;
        }
        if let Some(next) = self.actors.get_mut(&next) {
            next.prev = prev;
        }
        if let Some(pool) = slot(&mut self.pools, pool.0) {
            if pool.waiters.0 == id.0 {
                pool.waiters.0 = next;
            }
            if pool.waiters.1 == id.0 {
                pool.waiters.1 = prev;
            }
            pool.waiting -= 1;
            pool.changed_at = self.now;
            self.totals.waiting -= 1;
        }
        Some(since)
    }

    fn sql_end(&mut self, actor: ActorId, conn: ConnId, result: &SqlResult) {
        let statement = self.actors.get_mut(&actor.0).and_then(|actor| actor.sql.take());
        self.took = statement.as_ref().map_or(Duration::ZERO, |statement| self.now.saturating_sub(statement.since));
        self.text = statement.as_ref().map(|statement| Arc::clone(&statement.text));
        let Some(conn) = slot(&mut self.conns, conn.0) else {
            return;
        };
        if let (Some(statement), SqlResult::Ok | SqlResult::Error(_)) = (&statement, result) {
            conn.proven_epoch = conn.proven_epoch.max(statement.epoch);
        }
        if *result != SqlResult::Ok {
            conn.tainted = true;
            // Where the connection broke, the server may have it still, and runs it to its end.
            conn.in_flight += u32::from(matches!(result, SqlResult::Cancelled | SqlResult::Broken(_)));
        }
    }

    fn release(&mut self, id: ActorId, conn: ConnId) {
        let now = self.now;
        let mut in_flight = false;
        if let Some(actor) = self.actors.get_mut(&id.0) {
            in_flight = actor.sql.take_if(|statement| statement.conn == conn).is_some();
            if actor.held == Some(conn) {
                actor.held = None;
            }
        }
        self.change(conn, |conn| {
            if conn.lease == Some(id) {
                conn.lease = conn.also.pop();
            } else if let Some(place) = conn.also.iter().position(|&also| also == id) {
                conn.also.swap_remove(place);
            } else {
                return;
            }
            conn.released = Some((now, id));
            conn.in_flight += u32::from(in_flight);
            conn.tainted |= in_flight || conn.state != Some(BackendState::Idle);
        });
        if let Some(pool) = self.conn(conn).map(|conn| conn.pool)
            && let Some(pool) = slot(&mut self.pools, pool.0)
        {
            pool.released_at = Some(now);
        }
    }

    fn actor_end(&mut self, id: ActorId, _end: &ActorEnd) {
        self.stop_waiting(id);
        if let Some(conn) = self.actors.get(&id.0).and_then(|actor| actor.held) {
            self.release(id, conn);
        }
        let now = self.now;
        self.lived =
            self.actors.remove(&id.0).and_then(|actor| Some((actor.workload?, now.saturating_sub(actor.since))));
    }

    fn dial(&mut self, id: ConnId, pool: PoolId) {
        let now = self.now;
        let epoch = self.epoch;
        let fresh = ConnView {
            pool,
            end: ClientEnd::Closed,
            pid: None,
            state: None,
            dialled_at: now,
            opened_at: now,
            broken_at: None,
            lease: None,
            also: Vec::new(),
            leaked: false,
            detached: false,
            invalidated: false,
            former: false,
            leased_at: None,
            released: None,
            idle_since: now,
            tainted: false,
            in_flight: 0,
            used: false,
            heard_at: now,
            commits: 0,
            class: Class::Nothing,
            orphaned: false,
            proven_epoch: epoch,
            idle_links: None,
            member: 0,
        };
        put(&mut self.conns, id.0, fresh);
        if self.pool(pool).is_none() {
            put(&mut self.pools, pool.0, PoolView::unbuilt(now));
        }
        // A process that was killed sends nothing any more, whatever its tasks still begin in that instant.
        let process = self.pool(pool).and_then(|pool| self.process(pool.process));
        if process.is_some_and(|process| !process.alive) {
            self.dead_dials += 1;
            return;
        }
        if let Some(pool) = slot(&mut self.pools, pool.0) {
            pool.dials += 1;
        }
        self.change(id, |conn| conn.end = ClientEnd::Dialling);
        self.peaks.dialling = self.peaks.dialling.max(self.totals.dialling);
    }

    fn dial_failed(&mut self, id: ConnId, code: Option<&str>) {
        let Some(conn) = self.conn(id) else { return };
        let (pool, now, backends) = (conn.pool, self.now, self.totals.backends);
        if let Some(pool) = slot(&mut self.pools, pool.0) {
            let first = pool.dial_failures.map_or(now, |(_, first)| first);
            pool.dial_failures = Some((now, first));
            pool.refused_among = (code == Some(SqlState::TOO_MANY_CONNECTIONS.0)).then_some(backends);
        }
    }

    fn connected(&mut self, id: ConnId, pid: Pid) {
        // Opened when the last answer of its startup may have been sent before the cut, it may be cut.
        let before = u32::from(self.epoch > 0 && self.now.saturating_sub(self.cut_at) <= self.on_its_way);
        let (now, epoch) = (self.now, self.epoch - before);
        let state = self.backends.get_mut(&pid).map(|backend| {
            backend.conn = id.0;
            (backend.state, backend.heard_at)
        });
        self.opened += 1;
        self.change(id, |conn| {
            conn.end = ClientEnd::Open;
            conn.pid = Some(pid);
            conn.opened_at = now;
            conn.state = state.map(|(state, _)| state);
            conn.heard_at = state.map_or(now, |(_, heard)| heard);
            conn.proven_epoch = epoch;
        });
        if let Some(pool) = self.conn(id).map(|conn| conn.pool)
            && let Some(pool) = slot(&mut self.pools, pool.0)
        {
            pool.opened += 1;
            (pool.dial_failures, pool.refused_among) = (None, None);
        }
    }

    fn end_conn(&mut self, id: ConnId, end: ClientEnd) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        if conn.end == ClientEnd::Open && conn.state.is_some() {
            self.bereft.push_back((now, id));
        }
        self.change(id, |conn| {
            conn.end = end;
            if end == ClientEnd::Broken {
                conn.broken_at.get_or_insert(now);
            }
        });
    }

    /// Those whose backends are still there after [`ORPHANED_AFTER`] are orphans from now on.
    fn count_orphans(&mut self) {
        while let Some(&(since, id)) = self.bereft.front()
            && self.now >= since + ORPHANED_AFTER
        {
            self.bereft.pop_front();
            if let Some(conn) = slot(&mut self.conns, id.0)
                && conn.state.is_some()
            {
                conn.orphaned = true;
                self.totals.orphans += 1;
                self.peaks.orphans = self.peaks.orphans.max(self.totals.orphans);
            }
        }
    }

    fn process_start(&mut self, process: ProcessId, app: &Arc<str>, seat: u32) {
        let app = self.apps.iter().position(|known| known == app).unwrap_or_else(|| {
            self.apps.push(Arc::clone(app));
            self.apps.len() - 1
        });
        put(&mut self.processes, process.0, ProcessView { app, seat, alive: true });
    }

    fn process_end(&mut self, process: ProcessId) {
        if let Some(process) = slot(&mut self.processes, process.0) {
            process.alive = false;
        }
        let mut conns = Vec::new();
        for pool in self.pools.iter_mut().flatten().filter(|pool| pool.process == process) {
            pool.ended_at.get_or_insert(self.now);
            conns.extend_from_slice(&pool.members);
        }
        for conn in conns {
            // The kernel closes the sockets of a dead process, and nobody holds a lease in it.
            self.change(ConnId(conn), |conn| {
                conn.lease = None;
                conn.also.clear();
            });
            self.end_conn(ConnId(conn), ClientEnd::Closed);
        }
    }

    fn pool_built(&mut self, id: PoolId, process: ProcessId, max_size: u32, own: bool) {
        let app = self.process(process).map_or(0, |process| process.app);
        let name = self.apps.get(app);
        let settings = self.settings.iter().find(|(known, _)| name.is_some_and(|name| **name == **known));
        let settings = settings.map_or_else(Arc::default, |(_, settings)| Arc::clone(settings));
        // A pool that dials while it is being built is known before it is built.
        if self.pool(id).is_none() {
            put(&mut self.pools, id.0, PoolView::unbuilt(self.now));
        }
        let Some(pool) = slot(&mut self.pools, id.0) else {
            return;
        };
        pool.process = process;
        pool.app = app;
        pool.settings = settings;
        pool.max_size = max_size;
        pool.own = own;
        pool.built_at = self.now;
        self.room(id);
    }

    fn cut(&mut self) {
        self.epoch += 1;
        self.cut_at = self.now;
    }

    fn fault(&mut self, index: usize, begins: bool) {
        if self.cuts.get(index).copied().unwrap_or(true) {
            self.cut();
        }
        if begins && let Some(Some(to)) = self.repoints.get(index) {
            self.target = match to {
                ServerName::Primary => "db",
                ServerName::Standby => "standby",
            };
        }
        if self.lasting.get(index).copied().unwrap_or(false) {
            let active = &mut self.active[index];
            *active = if begins { *active + 1 } else { active.saturating_sub(1) };
        }
        self.health();
    }

    fn health(&mut self) {
        self.severed = self.active.iter().zip(&self.severs).any(|(&active, &severs)| active > 0 && severs);
        let serving = self.servers.iter().find(|server| &*server.name == self.target).is_none_or(|server| {
            server.lifecycle == Lifecycle::Running && (self.target == "db" || server.promoted || self.serves_reads)
        });
        let healthy = serving && self.active.iter().all(|&active| active == 0);
        if healthy == self.healthy_since.is_some() {
            return;
        }
        if healthy {
            self.healthy_since = Some(self.now);
        } else {
            self.healthy_since = None;
            self.faulty_since = Some(self.now);
        }
    }

    /// Changes a connection, and every count that depends on it.
    fn change(&mut self, id: ConnId, change: impl FnOnce(&mut ConnView)) {
        let now = self.now;
        let Some(conn) = slot(&mut self.conns, id.0) else {
            return;
        };
        change(conn);
        let (before, after) = (conn.class, classify(conn));
        if before == after {
            return;
        }
        conn.class = after;
        if after == Class::Idle {
            conn.idle_since = now;
        }
        let pool_id = conn.pool;
        if before == Class::Idle {
            self.unlink_idle(id, pool_id);
        }
        if after == Class::Idle {
            self.link_idle(id, pool_id);
        }
        let Some(pool) = slot(&mut self.pools, pool_id.0) else {
            return;
        };
        if before == Class::Nothing
            && let Some(conn) = slot(&mut self.conns, id.0)
        {
            conn.member = u32::try_from(pool.members.len()).unwrap_or(u32::MAX);
            pool.members.push(id.0);
        } else {
            pool.counts[before as usize] -= 1;
        }
        if after != Class::Nothing {
            pool.counts[after as usize] += 1;
        } else if let Some(place) = slot(&mut self.conns, id.0).map(|conn| conn.member) {
            pool.members.swap_remove(place as usize);
            if let Some(&moved) = pool.members.get(place as usize)
                && let Some(moved) = slot(&mut self.conns, moved)
            {
                moved.member = place;
            }
        }
        pool.changed_at = now;
        let connections = pool.open() + pool.dialling();
        pool.peak_connections = pool.peak_connections.max(connections);
        pool.peak_demand = pool.peak_demand.max(pool.waiting + pool.in_use());
        self.total(before, -1);
        self.total(after, 1);
        self.peaks.connections = self.peaks.connections.max(self.totals.open);
        self.room(pool_id);
    }

    fn total(&mut self, class: Class, by: i32) {
        let totals = &mut self.totals;
        let add = |count: &mut u32| *count = count.wrapping_add_signed(by);
        match class {
            Class::Nothing | Class::Broken => {}
            Class::Dialling => add(&mut totals.dialling),
            Class::Leased => {
                add(&mut totals.in_use);
                add(&mut totals.open);
            }
            Class::LeasedBroken => add(&mut totals.in_use),
            Class::Idle => {
                add(&mut totals.idle);
                add(&mut totals.open);
            }
            Class::Busy | Class::Dead | Class::Detached => add(&mut totals.open),
        }
    }

    fn room(&mut self, pool: PoolId) {
        let now = self.now;
        let Some(pool) = slot(&mut self.pools, pool.0) else {
            return;
        };
        let room = pool.dialling() == 0 && pool.in_use() + pool.unleased() < pool.max_size;
        if room {
            pool.room_since.get_or_insert(now);
        } else {
            pool.room_since = None;
        }
    }

    fn link_idle(&mut self, id: ConnId, pool: PoolId) {
        let Some(pool) = slot(&mut self.pools, pool.0) else {
            return;
        };
        let last = std::mem::replace(&mut pool.idle.1, id.0);
        if last == 0 {
            pool.idle.0 = id.0;
        } else if let Some(last) = slot(&mut self.conns, last)
            && let Some(links) = last.idle_links.as_mut()
        {
            links.1 = id.0;
        }
        if let Some(conn) = slot(&mut self.conns, id.0) {
            conn.idle_links = Some((last, 0));
        }
    }

    fn unlink_idle(&mut self, id: ConnId, pool: PoolId) {
        let Some((prev, next)) = slot(&mut self.conns, id.0).and_then(|conn| conn.idle_links.take()) else {
            return;
        };
        if let Some(links) = slot(&mut self.conns, prev).and_then(|conn| conn.idle_links.as_mut()) {
            links.1 = next;
        }
        if let Some(links) = slot(&mut self.conns, next).and_then(|conn| conn.idle_links.as_mut()) {
            links.0 = prev;
        }
        if let Some(pool) = slot(&mut self.pools, pool.0) {
            if pool.idle.0 == id.0 {
                pool.idle.0 = next;
            }
            if pool.idle.1 == id.0 {
                pool.idle.1 = prev;
            }
        }
    }
}

impl PoolView {
    fn unbuilt(now: Duration) -> PoolView {
        PoolView {
            process: ProcessId(0),
            app: 0,
            settings: Arc::default(),
            max_size: u32::MAX,
            max_size_before: 0,
            resized_at: None,
            shrunk_at: None,
            own: false,
            built_at: now,
            closing_at: None,
            closes: Vec::new(),
            ended_at: None,
            waiting: 0,
            opened: 0,
            dials: 0,
            acquires: 0,
            peak_demand: 0,
            peak_connections: 0,
            room_since: None,
            dial_failures: None,
            refused_among: None,
            released_at: None,
            changed_at: now,
            counts: [0; CLASSES],
            waiters: (0, 0),
            idle: (0, 0),
            members: Vec::new(),
        }
    }
}

fn classify(conn: &ConnView) -> Class {
    match (conn.end, conn.lease.is_some()) {
        (ClientEnd::Dialling, _) => Class::Dialling,
        (ClientEnd::Open, _) if conn.detached || conn.former => Class::Detached,
        (ClientEnd::Open, true) => Class::Leased,
        // It is being closed.
        (ClientEnd::Open, false) if conn.invalidated => Class::Busy,
        (ClientEnd::Open, false) => match conn.state {
            None => Class::Dead,
            Some(BackendState::Starting | BackendState::Active) => Class::Busy,
            Some(_) => Class::Idle,
        },
        (ClientEnd::Broken | ClientEnd::Closed, true) => Class::LeasedBroken,
        (ClientEnd::Broken, false) if !conn.detached && !conn.former => Class::Broken,
        (ClientEnd::Broken | ClientEnd::Closed, false) => Class::Nothing,
    }
}

fn in_transaction(state: BackendState) -> bool {
    matches!(state, BackendState::IdleInTransaction | BackendState::IdleInTransactionAborted)
}

/// Whether the fault lasts, so that nothing is judged by its liveness meanwhile. A stopped server is not counted here:
/// the server's own life tells.
fn lasts(fault: &FaultAction) -> bool {
    use FaultAction as F;
    match fault {
        F::ServerSlow { .. }
        | F::ServerSql { .. }
        | F::ServerOccupy { .. }
        | F::NetLatency { .. }
        | F::NetBandwidth { .. }
        | F::NetPartition { .. }
        | F::NetRefuse { .. }
        | F::NetLoseConnects { .. }
        | F::NetAcceptSilence { .. }
        | F::NetIdleFlowTimeout { .. }
        | F::Manager { .. } => true,
        F::ServerStop { .. }
        | F::ServerStart { .. }
        | F::ServerRestart { .. }
        | F::ServerCrashBackend { .. }
        | F::ServerKill { .. }
        | F::ServerPowerLoss { .. }
        | F::ServerTerminate { .. }
        | F::ServerCancel { .. }
        | F::ServerPromote
        | F::ServerSet { .. }
        | F::NetForget { .. }
        | F::NetReset { .. }
        | F::NetMessage { .. }
        | F::DnsRepoint { .. }
        | F::AppKill { .. }
        | F::ActorKill { .. }
        | F::AppPowerLoss { .. } => false,
    }
}

/// Whether the fault's begin or end may leave flows dead or stalled (in retransmission, or on a way that has become long), without
/// either end's knowing.
fn cuts_flows(fault: &FaultAction) -> bool {
    use FaultAction as F;
    matches!(
        fault,
        F::ServerPowerLoss { .. }
            | F::NetLatency { .. }
            | F::NetBandwidth { .. }
            | F::NetPartition { .. }
            | F::NetForget { .. }
            | F::NetAcceptSilence { .. }
            | F::NetLoseConnects { .. }
            | F::NetIdleFlowTimeout { .. }
            | F::AppPowerLoss { .. }
            | F::NetMessage { what: AtMessage::Silence | AtMessage::Delay(_), .. }
    )
}

/// Whether the fault may cut or stall flows not only when it begins and ends, but at any time between.
fn severs_flows(fault: &FaultAction) -> bool {
    use FaultAction as F;
    matches!(fault, F::NetPartition { .. } | F::NetBandwidth { .. } | F::NetIdleFlowTimeout { .. })
}

/// How long a segment takes at most from one end to the other.
fn on_its_way(scenario: &Scenario) -> Duration {
    let longer = scenario.faults.iter().filter_map(|fault| match fault.action {
        FaultAction::NetLatency { latency, jitter, .. } => Some(latency + jitter),
        _ => None,
    });
    scenario.network.latency + scenario.network.jitter + longer.max().unwrap_or_default()
}

fn repoints(fault: &FaultAction) -> Option<ServerName> {
    match fault {
        FaultAction::DnsRepoint { to } => Some(*to),
        _ => None,
    }
}

fn index(id: u32) -> Option<usize> {
    (id as usize).checked_sub(1)
}

/// What has this number; number 0 is nobody.
fn slot<T>(list: &mut [Option<T>], id: u32) -> Option<&mut T> {
    list.get_mut(index(id)?)?.as_mut()
}

/// Gives a number its value, in a list that grows as numbers are given out.
fn put<T>(list: &mut Vec<Option<T>>, id: u32, value: T) {
    let Some(place) = index(id) else { return };
    if place >= list.len() {
        list.resize_with(place + 1, || None);
    }
    list[place] = Some(value);
}
