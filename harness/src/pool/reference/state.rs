//! What the pool knows, behind one lock, and the one place where waiters are served.
//!
//! Every event is one [`Shared::update`]: a change under the lock, then [`State::serve`], then, with the lock released,
//! what the change asked for ([`After`]): tasks to start or stop, connections to drop. Nothing of the pool is dropped
//! or called while the lock is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::acquire::Granted;
use super::lease::restore;
use super::plant::Plant;
use super::watch;
use crate::pool::{Connector, Status};
use crate::scenario::model::{Order, PoolSettings};

/// The pause after the first failed dial in a row; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between failed dials.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// A permit's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotId(u64);

impl SlotId {
    /// From 1, in the order of the dials.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// Where a permit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A dial is under way.
    Dialling,
    /// Its connection is among the idle ones.
    Idle,
    /// Its connection is an acquire's (granted, being checked) or a lease's.
    Out,
    /// Its connection was returned and is being reset.
    Returning,
    /// Its connection was given up, and its socket is not closed yet.
    Closing,
}

/// The permits in use, at most `max_size`.
#[derive(Debug, Default)]
pub(super) struct Slots {
    phases: BTreeMap<SlotId, Phase>,
    counts: [u32; 5],
    last: u64,
}

impl Slots {
    pub(super) fn open(&mut self, phase: Phase) -> SlotId {
        self.last += 1;
        let id = SlotId(self.last);
        self.phases.insert(id, phase);
        self.counts[phase as usize] += 1;
        id
    }

    /// Moves a permit on. One that is gone (its connection broke) stays gone.
    pub(super) fn set(&mut self, id: SlotId, phase: Phase) {
        if let Some(known) = self.phases.get_mut(&id) {
            self.counts[*known as usize] -= 1;
            self.counts[phase as usize] += 1;
            *known = phase;
        }
    }

    pub(super) fn remove(&mut self, id: SlotId) {
        if let Some(phase) = self.phases.remove(&id) {
            self.counts[phase as usize] -= 1;
        }
    }

    pub(super) fn phase(&self, id: SlotId) -> Option<Phase> {
        self.phases.get(&id).copied()
    }

    pub(super) fn count(&self, phase: Phase) -> u32 {
        self.counts[phase as usize]
    }

    pub(super) fn len(&self) -> u32 {
        self.counts.iter().sum()
    }
}

/// What becomes of a connection that leaves the pool's hands: told to the task that watches it.
#[derive(Debug)]
pub(super) enum Fate {
    /// An application keeps it.
    Detached,
}

/// A connection that nobody uses. Dropping it closes the connection, and its watch sees that.
pub(super) struct Conn {
    pub(super) id: SlotId,
    /// Shared by nobody, but in [`Plant::LeaseHandedToTwo`].
    pub(super) client: Arc<Client>,
    pub(super) born: Instant,
    pub(super) idle_since: Instant,
    /// `max_lifetime`, less this connection's own part of the tenth.
    pub(super) lifetime: Option<Duration>,
    pub(super) fate: Option<oneshot::Sender<Fate>>,
}

/// An acquire in the queue. Dropping `grant` tells it that the pool is closed.
struct Waiter {
    id: WaiterId,
    grant: oneshot::Sender<Granted>,
}

/// A waiter's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaiterId(u64);

/// Where an acquire joins the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind all others.
    Back,
    /// Before all others: its connection turned out to be unusable.
    Front,
}

/// What the latest dials say of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// The latest dial succeeded, or none has failed yet.
    Up,
    /// The latest dial failed, the pause runs: nothing is dialled.
    Down { failures: u32 },
    /// The pause is over: one dial at a time.
    Probing { failures: u32 },
}

/// The dials for `min_idle`, which nobody waits for. A dial that succeeds says nothing of them: a server without a slot to spare
/// takes the one that replaces another, and refuses the next. So their pauses grow until `min_idle` was reached.
#[derive(Debug, Clone, Copy, Default)]
struct Refill {
    /// Failed dials since then, as far as each had a pause of its own.
    failures: u32,
    /// The pause runs.
    paused: bool,
}

/// Whether the pool is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    Closed,
}

/// The pool's state.
pub(super) struct State {
    max_size: u32,
    life: Life,
    pub(super) slots: Slots,
    /// The one returned last at the back.
    idle: VecDeque<Conn>,
    waiters: VecDeque<Waiter>,
    last_waiter: u64,
    server: Server,
    refill: Refill,
    last_error: Option<Arc<str>>,
    /// Dials and resets under way.
    tasks: BTreeMap<SlotId, AbortHandle>,
    retry: Option<AbortHandle>,
    pub(super) reaper: Option<AbortHandle>,
    /// When the reaper looks again.
    reaper_due: Option<Instant>,
    planted: Planted,
}

/// What only planted bugs need.
#[derive(Default)]
pub(super) struct Planted {
    /// [`Plant::LeaseHandedToTwo`]: connections that are leased once.
    pub(super) leased: BTreeMap<SlotId, Weak<Client>>,
    /// [`Plant::ReaperClosesLeased`]: when each connection is too old, and what closes it.
    pub(super) drivers: BTreeMap<SlotId, (Instant, AbortHandle)>,
    /// [`Plant::StatusCountsBroken`]
    pub(super) broken: u32,
    /// [`Plant::LeaseLostOnPanic`]
    pub(super) lost: Vec<Conn>,
}

/// What is to be done once the lock is released.
#[derive(Default)]
pub(super) struct After {
    close: Vec<Conn>,
    dial: Vec<SlotId>,
    restore: Vec<Conn>,
    abort: Vec<AbortHandle>,
    /// A pause, and how much longer the one of `min_idle` is.
    retry_in: Option<(Duration, Duration)>,
    wake_reaper: bool,
}

/// The pool, shared by its handle, leases and tasks.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) settings: PoolSettings,
    plant: Option<Plant>,
    state: Mutex<State>,
    /// Something expires before the reaper looks again.
    pub(super) wake_reaper: Notify,
    /// A permit was freed.
    pub(super) freed: Notify,
}

impl Shared {
    pub(super) fn new(settings: PoolSettings, connector: Connector, plant: Option<Plant>) -> Arc<Shared> {
        let state = State {
            max_size: settings.max_size,
            life: Life::Open,
            slots: Slots::default(),
            idle: VecDeque::new(),
            waiters: VecDeque::new(),
            last_waiter: 0,
            server: Server::Up,
            refill: Refill::default(),
            last_error: None,
            tasks: BTreeMap::new(),
            retry: None,
            reaper: None,
            reaper_due: None,
            planted: Planted::default(),
        };
        Arc::new(Shared {
            connector,
            settings,
            plant,
            state: Mutex::new(state),
            wake_reaper: Notify::new(),
            freed: Notify::new(),
        })
    }

    pub(super) fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Changes the state, serves whoever can be served, and does what the change asked for.
    pub(super) fn update<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let result = {
            let mut state = self.state.lock();
            let result = change(&mut state, &mut after);
            state.serve(self, &mut after);
            result
        };
        after.run(self);
        result
    }

    /// Looks at the state. It changes nothing that somebody waits for.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock())
    }

    /// A permit was freed: close may be waiting for that.
    pub(super) fn tell_close(&self) {
        if !self.planted(Plant::CloseNotWoken) {
            self.freed.notify_waiters();
        }
    }

    /// Whether a connection may not be handed out any more.
    pub(super) fn unusable(&self, conn: &Conn) -> bool {
        let now = Instant::now();
        let too_idle = self.settings.idle_timeout.is_some_and(|limit| now - conn.idle_since >= limit);
        (conn.client.is_closed() && !self.blind())
            || self.too_old(conn, now)
            || (too_idle && !self.planted(Plant::IdleTimeoutReadOnce))
    }

    /// Whether a planted bug keeps broken connections in circulation.
    fn blind(&self) -> bool {
        self.planted(Plant::BrokenNotNoticed) || self.planted(Plant::ReaperClosesLeased)
    }

    fn too_old(&self, conn: &Conn, now: Instant) -> bool {
        self.end_of_life(conn).is_some_and(|end| end <= now)
    }

    fn end_of_life(&self, conn: &Conn) -> Option<Instant> {
        let from = if self.planted(Plant::LifetimeFromLastReturn) { conn.idle_since } else { conn.born };
        if self.planted(Plant::ReaperClosesLeased) {
            return None; // Its reaper sees to it, wherever the connection is.
        }
        conn.lifetime.map(|lifetime| from + lifetime)
    }

    /// When an idle connection has to be closed.
    fn expiry(&self, conn: &Conn) -> Option<Instant> {
        let idle = self.settings.idle_timeout.map(|limit| conn.idle_since + limit);
        idle.into_iter().chain(self.end_of_life(conn)).min()
    }
}

impl State {
    /// Serves whoever can be served: idle connections to waiters, then dials for what is still wanted.
    fn serve(&mut self, shared: &Arc<Shared>, after: &mut After) {
        if self.life == Life::Closed {
            return;
        }
        while let Some(conn) = self.next_idle(shared) {
            if shared.unusable(&conn) {
                self.retire(conn, after);
            } else if !self.grant(conn, shared) {
                break;
            }
        }
        self.dial(shared, after);
        if shared.planted(Plant::LeaseHandedToTwo) {
            self.grant_twice(shared);
        }
    }

    /// Takes the idle connection that is next for a waiter, if there is one of each.
    fn next_idle(&mut self, shared: &Shared) -> Option<Conn> {
        if self.waiters.is_empty() {
            return None;
        }
        if shared.planted(Plant::RefillTakesLastSlot)
            && self.idle.len() <= shared.settings.min_idle as usize
            && self.slots.len() >= self.max_size
        {
            return None;
        }
        match shared.settings.order {
            None | Some(Order::Fifo) => self.idle.pop_front(),
            Some(Order::Lifo) => self.idle.pop_back(),
        }
    }

    /// Gives a connection to the first waiter that is still there. False if it went idle instead.
    fn grant(&mut self, mut conn: Conn, shared: &Arc<Shared>) -> bool {
        let id = conn.id;
        self.slots.set(id, Phase::Out);
        loop {
            let waiter =
                if shared.planted(Plant::LifoWaiters) { self.waiters.pop_back() } else { self.waiters.pop_front() };
            let Some(waiter) = waiter else { break };
            match waiter.grant.send(Granted::new(conn, Arc::clone(shared))) {
                Ok(()) => return true,
                // It is being dropped, and about to leave the queue.
                Err(refused) => conn = refused.into_conn(),
            }
            if shared.planted(Plant::WakeToDeadWaiter) {
                break;
            }
        }
        self.slots.set(id, Phase::Idle);
        self.idle.push_back(conn);
        false
    }

    /// Dials for those who wait and for `min_idle`, as far as dials under way and connections on their way back don't
    /// cover them already.
    fn dial(&mut self, shared: &Shared, after: &mut After) {
        let dialling = self.slots.count(Phase::Dialling);
        let coming = if shared.planted(Plant::DialStorm) { 0 } else { dialling + self.slots.count(Phase::Returning) };
        let idle = u32::try_from(self.idle.len()).unwrap_or(u32::MAX);
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        let missing = if self.refill.paused { 0 } else { shared.settings.min_idle.saturating_sub(idle) };
        let wanted = waiting.saturating_add(missing);
        let allowed = match self.server {
            _ if shared.planted(Plant::NoBackoff) => u32::MAX,
            Server::Up => u32::MAX,
            Server::Probing { .. } => 1u32.saturating_sub(dialling),
            Server::Down { .. } => 0,
        };
        let dials = wanted.saturating_sub(coming).min(self.room(shared)).min(allowed);
        for _ in 0..dials {
            after.dial.push(self.slots.open(Phase::Dialling));
        }
    }

    /// How many permits are free.
    fn room(&self, shared: &Shared) -> u32 {
        let mut used = self.slots.len();
        let mut max_size = self.max_size;
        if shared.planted(Plant::ClosingNotCounted) {
            used -= self.slots.count(Phase::Closing);
        }
        if shared.planted(Plant::DialRace) && self.slots.count(Phase::Dialling) > 0 {
            max_size += 1;
        }
        if shared.planted(Plant::PanicOnShrink) && !std::thread::panicking() {
            return max_size.checked_sub(used).expect("attempt to subtract with overflow");
        }
        max_size.saturating_sub(used)
    }

    /// How many connections are to go: more than `max_size`, those left out that are going already.
    fn excess(&self, shared: &Shared) -> u32 {
        if shared.planted(Plant::ResizeKeepsExcess) {
            return 0;
        }
        (self.slots.len() - self.slots.count(Phase::Closing)).saturating_sub(self.max_size)
    }

    /// Gives a connection up.
    pub(super) fn retire(&mut self, conn: Conn, after: &mut After) {
        self.slots.set(conn.id, Phase::Closing);
        after.close.push(conn);
    }

    /// Joins the queue. `None` when the pool is closed.
    pub(super) fn enqueue(
        &mut self,
        place: Place,
        grant: oneshot::Sender<Granted>,
        shared: &Shared,
    ) -> Option<WaiterId> {
        if self.life == Life::Closed {
            return None;
        }
        self.last_waiter += 1;
        let id = WaiterId(self.last_waiter);
        let waiter = Waiter { id, grant };
        match place {
            Place::Front if !shared.planted(Plant::RequeueAtTheBack) => self.waiters.push_front(waiter),
            Place::Front | Place::Back => self.waiters.push_back(waiter),
        }
        Some(id)
    }

    /// Leaves the queue, if it is still in it.
    pub(super) fn dequeue(&mut self, id: WaiterId) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// A dial succeeded.
    pub(super) fn dialled(&mut self, conn: Conn, shared: &Shared, after: &mut After) {
        self.tasks.remove(&conn.id);
        self.server = Server::Up;
        self.last_error = None;
        let closed = self.life == Life::Closed && !shared.planted(Plant::CloseForgetsDials);
        self.put(conn, closed, shared, after);
        // Those who wait get theirs in a moment.
        if self.idle.len() >= self.waiters.len() + shared.settings.min_idle as usize {
            self.refill = Refill::default();
        }
    }

    /// A connection was reset.
    pub(super) fn restored(&mut self, conn: Conn, shared: &Shared, after: &mut After) {
        self.tasks.remove(&conn.id);
        let closed = self.life == Life::Closed && !shared.planted(Plant::ResetLeftBehind);
        self.put(conn, closed, shared, after);
    }

    /// A connection could not be reset.
    pub(super) fn spoiled(&mut self, conn: Conn, after: &mut After) {
        self.tasks.remove(&conn.id);
        self.retire(conn, after);
    }

    /// A granted connection was not taken. Nobody used it: it needs no reset.
    pub(super) fn refused(&mut self, conn: Conn, shared: &Shared, after: &mut After) {
        self.put(conn, self.life == Life::Closed, shared, after);
    }

    fn put(&mut self, conn: Conn, closed: bool, shared: &Shared, after: &mut After) {
        if closed || self.excess(shared) > 0 {
            return self.retire(conn, after);
        }
        if let Some(expiry) = shared.expiry(&conn) {
            after.wake_reaper |= self.reaper_due.is_none_or(|due| expiry < due);
        }
        self.slots.set(conn.id, Phase::Idle);
        self.idle.push_back(conn);
    }

    /// A lease ended.
    pub(super) fn returned(&mut self, conn: Conn, shared: &Shared, after: &mut After) {
        self.planted.leased.remove(&conn.id);
        if conn.client.is_closed() && shared.planted(Plant::ReaperClosesLeased) {
            return self.put(conn, self.life == Life::Closed, shared, after);
        }
        let keep = self.life == Life::Open
            && !conn.client.is_closed()
            && !shared.too_old(&conn, Instant::now())
            && self.excess(shared) == 0
            && !shared.planted(Plant::Churn);
        if !keep {
            self.retire(conn, after);
        } else if shared.planted(Plant::ResetSkippedForWaiter) && !self.waiters.is_empty() {
            self.put(conn, false, shared, after);
        } else {
            self.slots.set(conn.id, Phase::Returning);
            after.restore.push(conn);
        }
    }

    /// A connection ended: it broke, or was closed. It is among the idle ones no more.
    pub(super) fn ended(&mut self, id: SlotId, shared: &Shared, after: &mut After) {
        self.planted.drivers.remove(&id);
        if shared.blind() {
            return;
        }
        if let Some(at) = self.idle.iter().position(|conn| conn.id == id) {
            after.close.extend(self.idle.remove(at));
        }
    }

    /// A dial failed.
    pub(super) fn dial_failed(&mut self, id: SlotId, error: Arc<str>, shared: &Shared, after: &mut After) {
        self.tasks.remove(&id);
        self.last_error = Some(error);
        let failures = match self.server {
            Server::Up => 1,
            Server::Probing { failures } => failures + 1,
            // Dialled before the first of them failed.
            Server::Down { .. } => return,
        };
        self.server = Server::Down { failures };
        if shared.planted(Plant::GivesUpOnServer) && failures >= 5 {
            return;
        }
        let longest = if shared.planted(Plant::BackoffUnbounded) { Duration::MAX } else { LONGEST_PAUSE };
        let pause = pause_after(failures).min(longest);
        self.refill = Refill { failures: self.refill.failures + 1, paused: !shared.planted(Plant::NoBackoff) };
        let of_refill = pause_after(self.refill.failures).min(LONGEST_PAUSE).max(pause);
        after.retry_in = Some((pause, of_refill - pause));
    }

    /// The pause after a failed dial is over; the one of what nobody waits for, too, if nothing is left of it.
    fn pause_over(&mut self, all: bool) {
        if let Server::Down { failures } = self.server {
            self.server = Server::Probing { failures };
        }
        if all {
            self.refill.paused = false;
        }
    }

    /// Closes what has expired, and says when to look again.
    pub(super) fn expire(&mut self, shared: &Shared, after: &mut After) -> Option<Instant> {
        let now = Instant::now();
        let (expired, kept): (VecDeque<_>, VecDeque<_>) =
            self.idle.drain(..).partition(|conn| shared.expiry(conn).is_some_and(|expiry| expiry <= now));
        self.idle = kept;
        if shared.planted(Plant::PanicInReaper) && !expired.is_empty() && self.idle.is_empty() {
            panic!("index out of bounds: the len is 0 but the index is 0");
        }
        for conn in expired {
            self.retire(conn, after);
        }
        if shared.planted(Plant::ReaperClosesLeased) {
            let old = self.planted.drivers.iter().filter(|(_, (expiry, _))| *expiry <= now);
            after.abort.extend(old.map(|(_, (_, driver))| driver.clone()));
            self.planted.drivers.retain(|_, (expiry, _)| *expiry > now);
        }
        let drivers = self.planted.drivers.values().map(|(expiry, _)| *expiry);
        self.reaper_due = self.idle.iter().filter_map(|conn| shared.expiry(conn)).chain(drivers).min();
        self.reaper_due
    }

    /// Changes the bound: closes idle connections and ends dials beyond it. Leases beyond it are closed at their return.
    pub(super) fn resize(&mut self, max_size: u32, shared: &Shared, after: &mut After) {
        self.max_size = max_size;
        while self.excess(shared) > 0 {
            if let Some(conn) = self.idle.pop_front() {
                self.retire(conn, after);
            } else if let Some(id) = self.latest_dial() {
                self.end_task(id, after);
            } else {
                break;
            }
        }
    }

    fn latest_dial(&self) -> Option<SlotId> {
        self.tasks.keys().copied().rev().find(|&id| self.slots.phase(id) == Some(Phase::Dialling))
    }

    fn end_task(&mut self, id: SlotId, after: &mut After) {
        self.slots.set(id, Phase::Closing);
        after.abort.extend(self.tasks.remove(&id));
    }

    /// Closes the pool: no more leases, no more dials, nothing idle.
    pub(super) fn close(&mut self, shared: &Shared, after: &mut After) {
        self.life = Life::Closed;
        self.waiters.clear();
        while let Some(conn) = self.idle.pop_front() {
            self.retire(conn, after);
        }
        let tasks: Vec<_> = self.tasks.keys().copied().collect();
        for id in tasks {
            let forgotten = match self.slots.phase(id) {
                Some(Phase::Dialling) => shared.planted(Plant::CloseForgetsDials),
                _ => shared.planted(Plant::ResetLeftBehind),
            };
            if !forgotten {
                self.end_task(id, after);
            }
        }
        after.abort.extend(self.retry.take());
        if !shared.planted(Plant::ReaperOutlivesPool) {
            after.abort.extend(self.reaper.take());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.life == Life::Closed
    }

    /// Whether everything is closed that close() waits for: all but what others hold.
    pub(super) fn is_drained(&self) -> bool {
        self.slots.len() == self.slots.count(Phase::Out)
    }

    pub(super) fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.clone()
    }

    pub(super) fn planted(&mut self) -> &mut Planted {
        &mut self.planted
    }

    pub(super) fn status(&self, shared: &Shared) -> Status {
        let open = self.slots.len() - self.slots.count(Phase::Dialling) - self.slots.count(Phase::Closing);
        let stale = shared.planted(Plant::StatusStaleAfterResize);
        Status {
            size: Some(open + self.planted.broken),
            idle: Some(self.slots.count(Phase::Idle)),
            in_use: Some(self.slots.count(Phase::Out)),
            waiting: Some(u32::try_from(self.waiters.len()).unwrap_or(u32::MAX)),
            max_size: Some(if stale { shared.settings.max_size } else { self.max_size }),
        }
    }

    /// [`Plant::GrantLostOnCancel`]
    pub(super) fn put_quietly(&mut self, conn: Conn) {
        self.slots.set(conn.id, Phase::Idle);
        self.idle.push_back(conn);
    }

    /// [`Plant::LeaseHandedToTwo`]
    fn grant_twice(&mut self, shared: &Arc<Shared>) {
        if self.waiters.len() < 2 || self.slots.len() < self.max_size {
            return;
        }
        let Some((id, client)) = self.planted.leased.pop_first() else {
            return;
        };
        let Some(client) = client.upgrade() else {
            return;
        };
        let now = Instant::now();
        let twin = Conn { id, client, born: now, idle_since: now, lifetime: None, fate: None };
        self.grant(twin, shared);
    }
}

/// The pause after so many failures in a row.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1).min(20))
}

impl After {
    fn run(self, shared: &Arc<Shared>) {
        let After { close, dial, restore: returning, abort, retry_in, wake_reaper } = self;
        drop(close);
        for task in abort {
            task.abort();
        }
        if wake_reaper {
            shared.wake_reaper.notify_one();
        }
        if dial.is_empty() && returning.is_empty() && retry_in.is_none() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The runtime is gone, and with it whoever could use a connection.
            return;
        };
        for id in dial {
            let task = runtime.spawn(watch::run(watch::Permit::new(Arc::clone(shared), id)));
            shared.register(id, task.abort_handle());
        }
        for conn in returning {
            let id = conn.id;
            let task = runtime.spawn(restore(Arc::clone(shared), conn));
            shared.register(id, task.abort_handle());
        }
        if let Some((pause, longer)) = retry_in {
            let retrying = Arc::clone(shared);
            let task = runtime.spawn(async move {
                tokio::time::sleep(pause).await;
                retrying.update(|state, _| state.pause_over(longer.is_zero()));
                if !longer.is_zero() {
                    tokio::time::sleep(longer).await;
                    retrying.update(|state, _| state.pause_over(true));
                }
            });
            // The one before has nothing left but the rest of a pause that is longer now.
            let before = shared.look(|state| state.retry.replace(task.abort_handle()));
            before.inspect(AbortHandle::abort);
        }
    }
}

impl Shared {
    /// Keeps the handle of a task that was started, to end it when the pool is closed.
    fn register(&self, id: SlotId, task: AbortHandle) {
        self.look(|state| match state.slots.phase(id) {
            Some(Phase::Dialling | Phase::Returning) => {
                state.tasks.insert(id, task);
            }
            // Closed or done in the meantime, by another thread.
            Some(Phase::Closing) | None => task.abort(),
            Some(Phase::Idle | Phase::Out) => {}
        });
    }
}
