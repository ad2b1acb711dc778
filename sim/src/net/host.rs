//! A machine with one process: what it dials and listens on, its death and its power.
//!
//! A [`Host`] handle belongs to one incarnation of the process. After [`Host::kill_sockets`] or [`Host::power_off`] every
//! handle, stream and listener of that incarnation fails for ever, so that code which lives on in the simulator after its
//! process died cannot touch the world. [`Host::respawn`] and [`Host::power_on`] return the handle of the next one.
//!
//! Left out: several processes a host (give each a host), routing, DNS latency and failure.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::flow::{End, Flow, FlowId, Holder, Phase};
use super::listener::Listener;
use super::stream::Stream;
use super::timers::{SocketOptions, micros};
use super::world::{ListenerState, Shared, World};

/// One incarnation of a host's process. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    incarnation: u64,
    name: Arc<str>,
    ip: IpAddr,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).field("ip", &self.ip).finish_non_exhaustive()
    }
}

/// What code of a dead process gets from every call.
pub(crate) fn killed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the simulated process is dead")
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, incarnation: u64, name: Arc<str>, ip: IpAddr) -> Host {
        Host { shared, index, incarnation, name, ip }
    }

    /// The name it was added with, which also resolves to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address: 10.0.0.1 for the first host of a network, and so on.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// This incarnation has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.with(|w| self.alive(w))
    }

    fn alive(&self, world: &World) -> bool {
        let state = &world.hosts[self.index];
        state.powered && !state.dead && state.incarnation == self.incarnation
    }

    /// How long this host's programs keep a resolved name (the resolver of a language runtime, or nscd). The default is
    /// not at all, as glibc does.
    pub fn set_dns_ttl(&self, ttl: Duration) {
        self.shared.with(|w| w.hosts[self.index].dns_ttl = ttl);
    }

    /// Listens on a port of this host, `listen(2)` with this backlog.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there; `ConnectionAborted` when this process is dead.
    pub fn listen(&self, port: u16, backlog: usize) -> io::Result<Listener> {
        self.shared.with(|w| {
            if !self.alive(w) {
                return Err(killed());
            }
            w.next_listener += 1;
            let id = w.next_listener;
            let listeners = &mut w.hosts[self.index].listeners;
            if listeners.contains_key(&port) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let state = ListenerState { id, backlog, pending: 0, queue: Default::default(), wakers: Vec::new() };
            listeners.insert(port, state);
            Ok(Listener::new(self.clone(), port, id))
        })
    }

    /// Opens a connection, `getaddrinfo(3)` and `connect(2)`. It takes a round trip. Dropping the future gives it up.
    ///
    /// # Errors
    /// `ConnectionRefused` after a round trip when nobody listens; `TimedOut` after 127 s without an answer
    /// (`tcp_syn_retries` = 6) or after the user timeout; `ConnectionAborted` when this process is dead; an error of kind
    /// `Other` for a name that nobody has; `AddrNotAvailable` without a free port. Here a host has 64511 of them a run, each of
    /// which is used once, so that an address names one connection.
    pub async fn connect(&self, name: &str, port: u16, options: &SocketOptions) -> io::Result<Stream> {
        let id = self.shared.with(|w| {
            if !self.alive(w) {
                return Err(killed());
            }
            let server = w.resolve(self.index, name)?;
            w.start_connect(self.index, server, port, *options)
        })?;
        Connecting { shared: &self.shared, id: Some(id) }.await
    }

    /// The process dies (SIGKILL): the kernel closes its sockets, each with a FIN, or a RST if data is unread or the
    /// connection was not accepted yet. Code of
    /// this incarnation that still runs gets `ConnectionAborted` from everything.
    pub fn kill_sockets(&self) {
        self.shared.with(|w| {
            if self.alive(w) {
                w.kill(self.index);
            }
        });
    }

    /// A new process on this host, after [`Host::kill_sockets`]; if one runs still, it is killed first.
    #[must_use = "the old handle stays dead"]
    pub fn respawn(&self) -> Host {
        let incarnation = self.shared.with(|w| {
            if w.hosts[self.index].powered && !w.hosts[self.index].dead {
                w.kill(self.index);
            }
            w.hosts[self.index].dead = false;
            w.hosts[self.index].incarnation += 1;
            w.hosts[self.index].incarnation
        });
        Host { incarnation, ..self.clone() }
    }

    /// The host vanishes: no FIN, no RST. Peers find out by their timers. What is on the wire from it still arrives; what is
    /// on the wire to it is lost.
    pub fn power_off(&self) {
        self.shared.with(|w| {
            w.hosts[self.index].powered = false;
            w.hosts[self.index].dead = true;
            w.end_all(self.index, World::vanish);
            w.refresh_all();
        });
    }

    /// The host is back after [`Host::power_off`], with a new process: nobody listens yet, and segments of connections
    /// from before are answered by a RST.
    #[must_use = "the old handle stays dead"]
    pub fn power_on(&self) -> Host {
        self.shared.with(|w| {
            if !w.hosts[self.index].powered {
                w.hosts[self.index].powered = true;
                w.hosts[self.index].dns_cache.clear();
                w.refresh_all();
            }
        });
        self.respawn()
    }
}

impl World {
    fn resolve(&mut self, host: usize, name: &str) -> io::Result<usize> {
        let now = self.now();
        if let Some(&(to, until)) = self.hosts[host].dns_cache.get(name)
            && now < until
        {
            return Ok(to);
        }
        let to =
            self.names.get(name).copied().or_else(|| name.parse().ok().and_then(|ip| self.host_at(ip))).ok_or_else(
                || io::Error::other(format!("failed to lookup address information: Name or service not known: {name}")),
            )?;
        let ttl = micros(self.hosts[host].dns_ttl);
        if ttl > 0 {
            self.hosts[host].dns_cache.insert(name.to_owned(), (to, now + ttl));
        }
        Ok(to)
    }

    fn start_connect(&mut self, client: usize, server: usize, port: u16, options: SocketOptions) -> io::Result<FlowId> {
        let now = self.now();
        let state = &mut self.hosts[client];
        let local = SocketAddr::new(state.ip, state.next_port);
        state.next_port = state.next_port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let peer = SocketAddr::new(self.hosts[server].ip, port);
        let server_options = SocketOptions::default();
        let id = self.insert_flow(|id| Flow {
            id,
            hosts: [client, server],
            addresses: [local, peer],
            opened_at: now,
            seen: now,
            forgotten: false,
            opened: false,
            ends: [
                End::new(Phase::SynSent { tries: 0, first: now }, Holder::Program, options),
                End::new(Phase::Gone, Holder::Nobody, server_options),
            ],
            paths: Default::default(),
            idle_timeout: None,
            idle_check: false,
        });
        self.send_syn(id, now);
        Ok(id)
    }

    fn kill(&mut self, host: usize) {
        self.hosts[host].dead = true;
        // With a listening socket go the connections that it had not accepted.
        let listeners = &mut self.hosts[host].listeners;
        let waiting: Vec<FlowId> = listeners.values_mut().flat_map(|listener| listener.queue.drain(..)).collect();
        for id in waiting {
            self.abort(id, 1);
        }
        self.end_all(host, World::close);
    }

    /// Power loss, for one end.
    fn vanish(&mut self, id: FlowId, of: usize) {
        let now = self.now();
        self.make_gone(id, of, now);
    }

    /// Ends every socket of a host, and tells the code that holds it.
    fn end_all(&mut self, host: usize, end: impl Fn(&mut World, FlowId, usize)) {
        let listeners = std::mem::take(&mut self.hosts[host].listeners);
        for waker in listeners.into_values().flat_map(|l| l.wakers) {
            self.out.wake(Some(waker));
        }
        for id in self.flow_ids() {
            for of in 0..2 {
                let Some((flow, out)) = self.flow_and_out(id) else {
                    break;
                };
                if flow.hosts[of] != host {
                    continue;
                }
                let this = &mut flow.ends[of];
                this.killed = true;
                for waker in [this.reader.take(), this.writer.take(), this.hangup.take()] {
                    out.wake(waker);
                }
                end(self, id, of);
            }
        }
    }
}

/// A connect under way.
struct Connecting<'a> {
    shared: &'a Arc<Shared>,
    id: Option<FlowId>,
}

impl Future for Connecting<'_> {
    type Output = io::Result<Stream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let Some(id) = self.id else {
            return Poll::Ready(Err(killed()));
        };
        let result = self.shared.with(|w| {
            let Some((flow, out)) = w.flow_and_out(id) else {
                return Poll::Ready(Err(killed()));
            };
            let end = &mut flow.ends[0];
            if end.killed {
                return Poll::Ready(Err(killed()));
            }
            match end.phase {
                Phase::Open => Poll::Ready(Ok(flow.addresses)),
                Phase::SynSent { .. } | Phase::SynRcvd { .. } => {
                    out.remember(&mut end.writer, cx);
                    Poll::Pending
                }
                Phase::Broken | Phase::Gone => {
                    Poll::Ready(Err(end.error.take().unwrap_or(io::ErrorKind::ConnectionReset).into()))
                }
            }
        });
        match result {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok([local, peer])) => {
                self.id = None;
                Poll::Ready(Ok(Stream::new(self.shared.clone(), id, 0, local, peer)))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
        }
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.with(|w| w.close(id, 0));
        }
    }
}
