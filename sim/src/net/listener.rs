//! A listening socket.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use super::flow::{FlowId, Holder};
use super::host::{Host, killed};
use super::stream::Stream;
use super::timers::SocketOptions;
use super::world::World;

/// Accepts connections. Dropping it closes the port: connects are refused, and connections not yet accepted get a RST, as
/// observed on loopback.
pub struct Listener {
    host: Host,
    port: u16,
    id: u64,
    options: SocketOptions,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Listener {
    pub(crate) fn new(host: Host, port: u16, id: u64) -> Listener {
        Listener { host, port, id, options: SocketOptions::default() }
    }

    /// What the server sets on each socket it accepts from now on. The default is nothing, as a listening socket without
    /// options hands on.
    pub fn set_accepted_options(&mut self, options: SocketOptions) {
        self.options = options;
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.host.ip(), self.port)
    }

    /// The next connection of the backlog, with the client's address. It may be broken already.
    ///
    /// # Errors
    /// `ConnectionAborted` when the process is dead. It stays so: stop accepting.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (id, local, peer) = poll_fn(|cx| {
            self.host.shared.with(|w| {
                let Some(state) = w.hosts[self.host.index].listeners.get_mut(&self.port).filter(|l| l.id == self.id)
                else {
                    return Poll::Ready(Err(killed()));
                };
                let Some(id) = state.queue.pop_front() else {
                    if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                        state.wakers.push(cx.waker().clone());
                    }
                    return Poll::Pending;
                };
                match w.accepted(id, self.options) {
                    Some((local, peer)) => Poll::Ready(Ok((id, local, peer))),
                    None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                }
            })
        })
        .await?;
        Ok((Stream::new(Arc::clone(&self.host.shared), id, 1, local, peer), peer))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.host.shared.with(|w| {
            let listeners = &mut w.hosts[self.host.index].listeners;
            if listeners.get(&self.port).is_none_or(|l| l.id != self.id) {
                return;
            }
            let waiting = listeners.remove(&self.port).map(|l| l.queue).unwrap_or_default();
            let now = w.now();
            for id in waiting {
                w.send_rst(id, 1, now);
                w.make_gone(id, 1, now);
            }
        });
    }
}

impl World {
    fn accepted(&mut self, id: FlowId, options: SocketOptions) -> Option<(SocketAddr, SocketAddr)> {
        let flow = self.flow(id)?;
        flow.ends[1].holder = Holder::Program;
        flow.ends[1].options = options;
        let addresses = (flow.addresses[1], flow.addresses[0]);
        let now = self.now();
        self.arm_keepalive(id, 1, now);
        Some(addresses)
    }
}
