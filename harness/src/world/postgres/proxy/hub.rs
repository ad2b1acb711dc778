//! What seats and tasks share: who there is, the conditions of each path, and the flows.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::{Link, PortMode};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::desk::{Desk, Session};
use super::door::Door;
use super::flow::{Flow, ServerSide};
use super::path::{Expected, Path, Road};
use super::socket::AppEnd;
use super::tap::Tap;
use crate::world::tasks::Tasks;

/// A path's seat and upstream.
type Between = (Arc<str>, Arc<str>);

/// What seats and tasks share.
pub(super) struct Shared {
    pub(super) desk: Arc<Desk>,
    pub(super) tasks: Tasks,
    pub(super) seed: u64,
    pub(super) state: Mutex<State>,
    pub(super) myself: Weak<Shared>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) upstreams: BTreeMap<Arc<str>, Upstream>,
    /// Names that point at an upstream.
    pub(super) names: BTreeMap<String, Arc<str>>,
    pub(super) seats: BTreeMap<Arc<str>, SeatState>,
    pub(super) paths: BTreeMap<Between, (Arc<Path>, AbortHandle)>,
    pub(super) flows: BTreeMap<u64, (Arc<Flow>, AbortHandle)>,
    /// Connections that were accepted and are not served.
    pub(super) silent: BTreeMap<u64, AbortHandle>,
    pub(super) next: u64,
    pub(super) link: Link,
    /// Which ways are blocked: to the server, to the app.
    pub(super) partitions: BTreeMap<Between, (bool, bool)>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) dns_ttl: Duration,
}

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// Whether its port is open.
    pub(super) open: bool,
    pub(super) powered: bool,
    pub(super) mode: PortMode,
    pub(super) side: ServerSide,
}

pub(super) struct SeatState {
    /// The number of the process that lives; `None` while there is none.
    pub(super) alive: watch::Sender<Option<u64>>,
    pub(super) incarnations: u64,
    pub(super) dns: BTreeMap<String, (Arc<str>, Instant)>,
    pub(super) ends: Vec<Weak<AppEnd>>,
}

/// A name or a server that the proxy does not know.
fn unknown(name: &str) -> io::Error {
    io::Error::other(format!("failed to lookup address information: Name or service not known: {name}"))
}

fn killed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl State {
    pub(super) fn upstream(&mut self, name: &str, change: impl FnOnce(&mut Upstream)) {
        if let Some(upstream) = self.upstreams.get_mut(name) {
            change(upstream);
        }
    }

    pub(super) fn seat(&mut self, name: &Arc<str>) -> &mut SeatState {
        self.seats.entry(Arc::clone(name)).or_insert_with(|| SeatState {
            alive: watch::Sender::new(Some(0)),
            incarnations: 0,
            dns: BTreeMap::new(),
            ends: Vec::new(),
        })
    }

    pub(super) fn road(&self, path: &Between) -> Road {
        let (up_blocked, down_blocked) = self.partitions.get(path).copied().unwrap_or_default();
        Road { link: self.link, up_blocked, down_blocked, idle_timeout: self.idle_timeout }
    }

    /// How connects on a path are answered: what loses a SYN comes before what answers it.
    pub(super) fn mode(&self, path: &Between) -> PortMode {
        let road = self.road(path);
        match self.upstreams.get(&path.1) {
            Some(upstream) if !upstream.powered => PortMode::LoseSyn,
            _ if road.up_blocked || road.down_blocked => PortMode::LoseSyn,
            Some(upstream) if upstream.mode != PortMode::Open => upstream.mode,
            Some(upstream) if upstream.open => PortMode::Open,
            _ => PortMode::Refuse,
        }
    }
}

impl Shared {
    /// Changes the conditions, and lets every path follow.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut arrived = Vec::new();
        {
            let mut state = self.state.lock();
            change(&mut state);
            for (key, (path, _)) in &state.paths {
                let road = state.road(key);
                path.road.send_if_modified(|known| std::mem::replace(known, road) != road);
                // A port that can't be opened stays closed, and is tried again at the next change.
                for arrival in path.door.set(state.mode(key)).unwrap_or_default() {
                    arrived.push((Arc::clone(path), arrival));
                }
            }
        }
        for (path, (stream, peer)) in arrived {
            self.arrive(&path, stream, peer, PortMode::Open);
        }
    }

    pub(super) fn is_alive(&self, seat: &Arc<str>, incarnation: u64) -> bool {
        let mut state = self.state.lock();
        !state.closed && *state.seat(seat).alive.borrow() == Some(incarnation)
    }

    pub(super) fn ends_of_seat(&self, seat: &Arc<str>) -> watch::Receiver<Option<u64>> {
        self.state.lock().seat(seat).alive.subscribe()
    }

    /// A dial succeeded: its end is the seat's. Error: the process died meanwhile.
    pub(super) fn sat_down(&self, seat: &Arc<str>, incarnation: u64, app: &Arc<AppEnd>) -> io::Result<()> {
        let mut state = self.state.lock();
        let seat = state.seat(seat);
        if *seat.alive.borrow() != Some(incarnation) {
            return Err(killed());
        }
        seat.ends.retain(|end| end.strong_count() > 0);
        seat.ends.push(Arc::downgrade(app));
        Ok(())
    }

    /// The process of a seat ends, if it is this one. Gives its ends.
    pub(super) fn end_incarnation(&self, seat: &Arc<str>, incarnation: u64) -> Vec<Arc<AppEnd>> {
        let mut state = self.state.lock();
        let seat = state.seat(seat);
        if *seat.alive.borrow() != Some(incarnation) {
            return Vec::new();
        }
        seat.alive.send_replace(None);
        std::mem::take(&mut seat.ends).iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn next_incarnation(&self, seat: &Arc<str>) -> u64 {
        let mut state = self.state.lock();
        let seat = state.seat(seat);
        seat.incarnations += 1;
        seat.alive.send_replace(Some(seat.incarnations));
        seat.incarnations
    }

    /// What a name means to a process: the path to it.
    pub(super) fn resolve(&self, seat: &Arc<str>, incarnation: u64, name: &str) -> io::Result<Arc<Path>> {
        if !self.is_alive(seat, incarnation) {
            return Err(killed());
        }
        let upstream = {
            let mut state = self.state.lock();
            let (now, ttl) = (Instant::now(), state.dns_ttl);
            let known = state.seat(seat).dns.get(name).filter(|(_, until)| now < *until);
            match known.map(|(upstream, _)| Arc::clone(upstream)) {
                Some(upstream) => upstream,
                None => {
                    let upstream = state.names.get(name).cloned().unwrap_or_else(|| name.into());
                    if !ttl.is_zero() {
                        state.seat(seat).dns.insert(name.to_owned(), (Arc::clone(&upstream), now + ttl));
                    }
                    upstream
                }
            }
        };
        self.path(seat, &upstream)
    }

    pub(super) fn address_of(&self, upstream: &str) -> io::Result<SocketAddr> {
        self.state.lock().upstreams.get(upstream).map(|upstream| upstream.address).ok_or_else(|| unknown(upstream))
    }

    /// The path between a seat and a server, made at its first use.
    pub(super) fn path(&self, seat: &Arc<str>, upstream: &str) -> io::Result<Arc<Path>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(killed());
        }
        let Some((upstream, _)) = state.upstreams.get_key_value(upstream) else { return Err(unknown(upstream)) };
        let key = (Arc::clone(seat), Arc::clone(upstream));
        if let Some((path, _)) = state.paths.get(&key) {
            return Ok(Arc::clone(path));
        }
        let door = Door::open()?;
        door.set(state.mode(&key))?;
        let seed = self.seed.wrapping_add(state.paths.len() as u64);
        let path = Arc::new(Path::new(Arc::clone(seat), Arc::clone(&key.1), door, state.road(&key), seed));
        let (of_task, myself) = (Arc::clone(&path), Weak::clone(&self.myself));
        let task = self.tasks.spawn(async move {
            loop {
                let ((stream, peer), mode) = of_task.door.accept().await;
                let Some(shared) = myself.upgrade() else { return };
                shared.arrive(&of_task, stream, peer, mode);
            }
        });
        state.paths.insert(key, (Arc::clone(&path), task.abort_handle()));
        Ok(path)
    }

    /// A connection was accepted at a door.
    pub(super) fn arrive(&self, path: &Arc<Path>, app: TcpStream, peer: SocketAddr, mode: PortMode) {
        let expected = path.expected.lock().remove(&peer);
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let Some((address, side)) = state.upstreams.get(&path.upstream).map(|to| (to.address, to.side)) else {
            return;
        };
        state.next += 1;
        let id = state.next;
        let myself = Weak::clone(&self.myself);
        if mode == PortMode::AcceptSilence {
            let task = self.tasks.spawn(async move {
                hold(&app).await;
                if let Some(shared) = myself.upgrade() {
                    shared.state.lock().silent.remove(&id);
                }
            });
            state.silent.insert(id, task.abort_handle());
            return;
        }
        // One that is known is a flow from now on; one that is not must be dialled first.
        let (end, dialled, _arrived) = match expected {
            Some(Expected { app, server, arrived }) => (Some(app), server, Some(arrived)),
            None => (None, None, None),
        };
        match dialled {
            Some(server) => {
                drop(state);
                self.begin_flow(id, path, app, server, end, side);
            }
            None => {
                let path = Arc::clone(path);
                let task = self.tasks.spawn(async move {
                    let server = TcpStream::connect(address).await;
                    let Some(shared) = myself.upgrade() else { return };
                    shared.state.lock().silent.remove(&id);
                    match server {
                        Ok(server) => shared.begin_flow(id, &path, app, server, end, side),
                        // The connect was answered already: all that is left is a RST.
                        Err(_) => drop(app.set_zero_linger()),
                    }
                });
                state.silent.insert(id, task.abort_handle());
            }
        }
    }

    pub(super) fn begin_flow(
        &self,
        id: u64,
        path: &Arc<Path>,
        app: TcpStream,
        server: TcpStream,
        end: Option<Arc<AppEnd>>,
        side: ServerSide,
    ) {
        let Ok(peer) = server.local_addr() else {
            let _ = app.set_zero_linger();
            return;
        };
        let session = Session::new(&self.desk, Arc::clone(&path.upstream), Tap::new(peer), end.clone());
        let flow = Flow::new(Arc::clone(path), session, end, side);
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let (of_task, myself) = (Arc::clone(&flow), Weak::clone(&self.myself));
        let task = self.tasks.spawn(async move {
            of_task.run(app, server).await;
            if let Some(shared) = myself.upgrade() {
                shared.state.lock().flows.remove(&id);
            }
        });
        state.flows.insert(id, (flow, task.abort_handle()));
    }

    /// The flows of a seat, to a server; of all.
    pub(super) fn flows_of(&self, seat: Option<&str>, upstream: Option<&str>) -> Vec<Arc<Flow>> {
        let state = self.state.lock();
        let of = |flow: &Flow| {
            seat.is_none_or(|seat| *flow.path.seat == *seat)
                && upstream.is_none_or(|upstream| *flow.path.upstream == *upstream)
        };
        state.flows.values().filter(|(flow, _)| of(flow)).map(|(flow, _)| Arc::clone(flow)).collect()
    }
}

/// Keeps a connection that nobody serves, until its client closes it. What it sent stays unread.
async fn hold(app: &TcpStream) {
    while let Ok(ready) = app.ready(tokio::io::Interest::READABLE).await
        && !ready.is_read_closed()
    {
        // Data that nobody reads keeps it ready.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
