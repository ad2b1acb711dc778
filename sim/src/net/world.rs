//! The network's whole state behind one lock, and the task that lets time act on it.
//!
//! One task a network, spawned when the first event lies in the future, sleeps until the earliest event and runs
//! whatever is due. It is a task rather than a timer's waker because a runtime drops its tasks before its timers, so
//! shutting down needs no care. Where nothing delays a segment no event is queued: a write puts its bytes into the
//! peer's buffer and wakes the reader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use tokio::time::Instant;

use super::events::{Event, Queue};
use super::fault::PortMode;
use super::flow::{Flow, FlowId};
use super::link::{Link, Path};
use super::observe::{NetEvent, Observer};
use super::timers::{Micros, SECOND, micros};
use crate::clock;

/// A host as the network keeps it.
#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) ip: IpAddr,
    pub(crate) powered: bool,
    /// Counts processes: a [`Host`](super::Host) of an earlier one is dead.
    pub(crate) incarnation: u64,
    /// No process runs: between a kill and the next start.
    pub(crate) dead: bool,
    pub(crate) next_port: u16,
    pub(crate) dns_ttl: Duration,
    pub(crate) dns_cache: BTreeMap<String, (usize, Micros)>,
    pub(crate) modes: BTreeMap<u16, PortMode>,
    pub(crate) listeners: BTreeMap<u16, ListenerState>,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) id: u64,
    pub(crate) backlog: usize,
    /// Handshakes under way.
    pub(crate) pending: usize,
    /// Established, not accepted.
    pub(crate) queue: VecDeque<FlowId>,
    pub(crate) wakers: Vec<Waker>,
}

/// What is to be done when the lock is released.
#[derive(Default)]
pub(crate) struct Outbox {
    first: Option<Waker>,
    more: Vec<Waker>,
    /// Replaced wakers. Dropping one may drop anything, so not under the lock.
    stale: Vec<Waker>,
    events: Vec<NetEvent>,
    /// The driver is to be spawned. Not under the lock: a runtime that shuts down drops the task at once.
    spawn: bool,
}

impl Outbox {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            if self.first.is_none() {
                self.first = Some(waker);
            } else {
                self.more.push(waker);
            }
        }
    }

    /// Keeps the waker for later, without a clone if it is there already.
    pub(crate) fn remember(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if slot.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            return;
        }
        self.stale.extend(slot.replace(cx.waker().clone()));
    }

    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        self.stale.extend(waker);
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.has_only_wakes()
    }

    fn is_one_wake(&self) -> bool {
        self.more.is_empty() && self.has_only_wakes()
    }

    fn has_only_wakes(&self) -> bool {
        self.events.is_empty() && self.stale.is_empty() && !self.spawn
    }
}

/// The state of a network.
pub(crate) struct World {
    pub(crate) hosts: Vec<HostState>,
    pub(crate) names: BTreeMap<String, usize>,
    slots: Vec<Option<Box<Flow>>>,
    free: Vec<u32>,
    serial: u64,
    pub(crate) next_listener: u64,
    pub(crate) queue: Queue,
    pub(crate) random: ChaCha8Rng,
    pub(crate) out: Outbox,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) default_link: Link,
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    pub(crate) partitions: BTreeSet<(usize, usize)>,
    pub(crate) idle_timeouts: BTreeMap<(usize, usize), Micros>,
    /// When each direction of a link with limited bandwidth has sent what it has.
    pub(crate) link_free: BTreeMap<(usize, usize), Micros>,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    epoch: Option<Instant>,
    pub(crate) driver: Driver,
}

/// The task that runs due events.
#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) running: bool,
    /// What it sleeps until.
    armed: Option<Micros>,
    waker: Option<Waker>,
}

/// Shared by every handle of a network.
pub(crate) struct Shared {
    state: Mutex<World>,
}

impl Shared {
    pub(crate) fn new(random: ChaCha8Rng) -> Arc<Shared> {
        Arc::new(Shared {
            state: Mutex::new(World {
                hosts: Vec::new(),
                names: BTreeMap::new(),
                slots: Vec::new(),
                free: Vec::new(),
                serial: 0,
                next_listener: 0,
                queue: Queue::default(),
                random,
                out: Outbox::default(),
                observers: Vec::new(),
                default_link: Link::default(),
                links: BTreeMap::new(),
                partitions: BTreeSet::new(),
                idle_timeouts: BTreeMap::new(),
                link_free: BTreeMap::new(),
                send_buffer: 64 * 1024,
                receive_buffer: 64 * 1024,
                epoch: None,
                driver: Driver::default(),
            }),
        })
    }

    /// Does something to the network; then whatever became due, then the wakes and reports, without the lock.
    pub(crate) fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.state.lock();
        if world.epoch.is_none() {
            // The network's time begins with its first use, whether or not that needs the time.
            world.now();
        }
        let result = act(&mut world);
        // With nothing queued there is nothing due and nothing to drive.
        if world.queue.touched || (!world.driver.running && world.queue.len() > 0) {
            world.run_due();
            world.rearm();
        }
        if world.out.is_empty() {
            return result;
        }
        if world.out.is_one_wake() {
            // The commonest by far.
            let waker = world.out.first.take();
            drop(world);
            waker.into_iter().for_each(Waker::wake);
            return result;
        }
        let out = std::mem::take(&mut world.out);
        let observers = if out.events.is_empty() { Vec::new() } else { world.observers.clone() };
        drop(world);
        if out.spawn {
            let driver = Running(Arc::downgrade(self));
            // Outside a runtime, `driver` is dropped, and the next call that has one tries again.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(drive(driver));
            }
        }
        for event in out.events {
            for observer in &observers {
                observer.net_event(event.clone());
            }
        }
        out.first.into_iter().chain(out.more).for_each(Waker::wake);
        result
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The driver finds its network gone and ends.
        if let Some(waker) = self.state.get_mut().driver.waker.take() {
            waker.wake();
        }
    }
}

/// Tells the network when its driver is dropped with its runtime, so that the next runtime gets one.
struct Running(Weak<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.state.lock().driver = Driver::default();
        }
    }
}

async fn drive(running: Running) {
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx: &mut Context<'_>| {
        loop {
            let Some(shared) = running.0.upgrade() else {
                return Poll::Ready(());
            };
            let next = shared.with(|world| {
                world.queue.touched = false;
                world.run_due();
                world.driver.armed = world.queue.next_at();
                if world.driver.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
                    world.driver.waker = Some(cx.waker().clone());
                }
                world.driver.armed.map(|at| world.instant(at))
            });
            let Some(at) = next else { return Poll::Pending };
            sleep.as_mut().reset(at);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

impl World {
    /// The time since the network was first used. Later than `now` in no call.
    pub(crate) fn now(&mut self) -> Micros {
        micros(clock::since(*self.epoch.get_or_insert_with(clock::now)))
    }

    fn instant(&self, at: Micros) -> Instant {
        self.epoch.unwrap_or_else(clock::now) + Duration::from_micros(at)
    }

    fn run_due(&mut self) {
        let now = self.now();
        while let Some(due) = self.queue.pop_due(now) {
            self.handle(due.flow, due.event, due.at);
        }
        self.queue.touched = false;
    }

    /// Sees to it that the driver wakes in time for the earliest event.
    fn rearm(&mut self) {
        let Some(next) = self.queue.next_at() else {
            return;
        };
        if self.driver.running {
            if self.driver.armed.is_none_or(|armed| next < armed) {
                self.driver.armed = Some(next);
                let waker = self.driver.waker.take();
                self.out.wake(waker);
            }
        } else {
            self.driver.running = true;
            self.driver.armed = Some(0);
            self.out.spawn = true;
        }
    }

    /// Queues an event that is ordered against others of its instant by the seed.
    pub(crate) fn schedule(&mut self, at: Micros, flow: FlowId, event: Event) {
        let tie = self.random.next_u32();
        self.queue.push(at, tie, flow, event);
    }

    pub(crate) fn report(&mut self, event: NetEvent) {
        if !self.observers.is_empty() {
            self.out.events.push(event);
        }
    }

    // --- flows -------------------------------------------------------------------------------------------------------

    pub(crate) fn flow(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.slots.get_mut(id.slot as usize)?.as_deref_mut().filter(|f| f.id == id)
    }

    /// A flow, with the outbox beside it: the hot path needs both.
    pub(crate) fn flow_and_out(&mut self, id: FlowId) -> Option<(&mut Flow, &mut Outbox)> {
        let flow = self.slots.get_mut(id.slot as usize)?.as_deref_mut().filter(|f| f.id == id)?;
        Some((flow, &mut self.out))
    }

    /// All flows, oldest first.
    pub(crate) fn flow_ids(&self) -> Vec<FlowId> {
        let mut ids: Vec<FlowId> = self.slots.iter().flatten().map(|f| f.id).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn insert_flow(&mut self, build: impl FnOnce(FlowId) -> Flow) -> FlowId {
        self.serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections at a time")
        });
        let id = FlowId { serial: self.serial, slot };
        self.slots[slot as usize] = Some(Box::new(build(id)));
        self.refresh(id);
        id
    }

    pub(crate) fn remove_flow(&mut self, id: FlowId) {
        if self.flow(id).is_none() {
            return;
        }
        if let Some(flow) = self.slots[id.slot as usize].take() {
            self.free.push(id.slot);
            if flow.opened {
                self.report(NetEvent::Closed { client: flow.addresses[0], server: flow.addresses[1] });
            }
        }
    }

    // --- paths -------------------------------------------------------------------------------------------------------

    fn path(&self, from: usize, to: usize) -> Path {
        let local = if from == to { Link::default() } else { self.default_link };
        let link = self.links.get(&(from, to)).copied().unwrap_or(local);
        let blocked = self.partitions.contains(&(from, to));
        Path {
            latency: micros(link.latency),
            jitter: micros(link.jitter),
            bandwidth: link.bandwidth,
            blocked,
            direct: !blocked
                && link.latency.is_zero()
                && link.jitter.is_zero()
                && link.bandwidth.is_none()
                && self.hosts[to].powered,
        }
    }

    /// Brings a flow up to date with links and faults, and starts the timers that a broken way needs.
    pub(crate) fn refresh(&mut self, id: FlowId) {
        let Some([client, server]) = self.flow(id).map(|f| f.hosts) else {
            return;
        };
        let mut paths = [self.path(client, server), self.path(server, client)];
        let timeout =
            [(client, server), (server, client)].iter().filter_map(|pair| self.idle_timeouts.get(pair).copied()).min();
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        if flow.forgotten {
            paths.iter_mut().for_each(|p| p.direct = false);
        }
        flow.paths = paths;
        flow.idle_timeout = timeout;
        let check = (timeout.is_some() && !flow.idle_check).then(|| {
            flow.idle_check = true;
            (flow.seen + timeout.unwrap_or_default()).max(now)
        });
        if let Some(at) = check {
            self.schedule(at, id, Event::IdleCheck);
        }
        for end in 0..2 {
            self.persist(id, end, now);
            self.arm_keepalive(id, end, now);
        }
    }

    pub(crate) fn refresh_all(&mut self) {
        for id in self.flow_ids() {
            self.refresh(id);
        }
    }

    /// When a segment of `bytes` that leaves `from` now is there, and its tiebreak; never before an earlier one.
    pub(crate) fn arrival(&mut self, id: FlowId, from: usize, bytes: u64, now: Micros) -> (Micros, u32) {
        let Some(flow) = self.flow(id) else {
            return (now, 0);
        };
        let path = flow.paths[from];
        let way = (flow.hosts[from], flow.hosts[1 - from]);
        let last = flow.ends[from].sender.last_arrival;
        let mut at = now;
        if let Some(rate) = path.bandwidth {
            let free = self.link_free.entry(way).or_default();
            at = at.max(*free) + bytes.saturating_mul(SECOND) / rate.max(1);
            *free = at;
        }
        at += path.latency;
        if path.jitter > 0 {
            at += self.random.next_u64() % (path.jitter + 1);
        }
        let arrival = if at <= last.0 { last } else { (at, self.random.next_u32()) };
        if let Some(flow) = self.flow(id) {
            flow.ends[from].sender.last_arrival = arrival;
        }
        arrival
    }

    /// When an answer that carries no data, and leaves `from` now, is there.
    pub(crate) fn answer_at(&mut self, id: FlowId, from: usize, now: Micros) -> Micros {
        self.flow(id).map_or(now, |f| now + f.paths[from].latency)
    }

    pub(crate) fn powered(&self, host: usize) -> bool {
        self.hosts[host].powered
    }

    pub(crate) fn host_at(&self, ip: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|h| h.ip == ip)
    }

    pub(crate) fn addresses(&mut self, id: FlowId, end: usize) -> Option<(SocketAddr, SocketAddr)> {
        self.flow(id).map(|f| (f.addresses[end], f.addresses[1 - end]))
    }
}
