//! The network between apps and real servers: a TCP proxy in this process, which applies the network's faults and sees every
//! protocol message.
//!
//! Each app process has a seat, each server is an upstream, and between each two is a path: a listening socket on the loopback at
//! which the seat's connects arrive (its door), and the flows that were accepted there. A fault changes a path or a flow; a server's
//! events are told by the tap that reads each flow, and by a [`sampler`] for what no wire shows.
//!
//! What is another network's than the simulated one, and why:
//!
//! - Nothing is retransmitted: what waited for a healing arrives at once, not when a timer fires.
//! - The loopback acknowledges for a peer that is silent. What the kernels' timers would do is done by `silence`'s arithmetic: the
//!   app's stream fails with `TimedOut`; the server gets a RST.
//! - Sockets buffer on both sides of the proxy, about 128 kB more than one connection would.
//! - Elsewhere than on Linux a lost SYN is a connect that succeeds and stays silent.
//! - Servers in process id namespaces of their own (two containers) may give out the same pid; a pid then names the later session.
//!
//! Everything must be called inside a tokio runtime with its timers and its sockets.
//!
//! | module | its story |
//! | --- | --- |
//! | `hub` | who there is, and what befalls whom |
//! | `seat`, `socket` | what an app dials with, and its end of a flow |
//! | `door` | a listening socket, and how it answers connects |
//! | `path` | the conditions between a seat and a server |
//! | `flow`, `silence` | one connection, and the timers of its ends |
//! | `wire`, `tap`, `effect`, `leftovers` | what the bytes tell: events, and what a session leaves behind |
//! | `desk` | all sessions, and the observer |
//! | `sampler`, `log` | what `pg_stat_activity` and the server's log tell besides |

mod desk;
mod door;
mod effect;
mod flow;
mod hub;
mod leftovers;
pub mod log;
mod path;
pub mod sampler;
mod seat;
mod silence;
mod socket;
mod tap;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::{Link, PortMode, SocketOptions};
use poolproof_sim::postgres::event::{Observer, Pid, SessionReport};
use tokio::task::AbortHandle;

pub use self::seat::Seat;
pub use self::socket::SeatStream;
use crate::scenario::model::Direction;
use crate::world::tasks::Tasks;
use desk::Desk;
use flow::{Host, ServerSide};
use hub::{Shared, Upstream};
use tap::Tap;

/// The network. Dropping it closes every socket and ends every task.
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// A network without hosts, latency and faults. The observer is told what the servers' sessions do; the seed is of jitter.
    ///
    /// A flow takes three of the process's file descriptors: their soft limit is raised to the hard one.
    #[must_use]
    pub fn new(observer: Arc<dyn Observer>, tasks: Tasks, seed: u64) -> Proxy {
        raise_file_limit();
        let shared = Arc::new_cyclic(|myself| Shared {
            desk: Desk::new(observer),
            tasks,
            seed,
            state: Mutex::default(),
            myself: Weak::clone(myself),
        });
        Proxy { shared }
    }

    /// A server, by the name under which its events are told; its port is closed until [`Proxy::set_port_open`].
    pub fn add_upstream(&self, name: &str, address: SocketAddr) {
        let side = ServerSide { options: SocketOptions::postgres_server(), checks_clients: false };
        let upstream = Upstream { address, open: false, powered: true, mode: PortMode::Open, side };
        self.shared.state.lock().upstreams.insert(name.into(), upstream);
    }

    /// The server listens elsewhere from now on.
    pub fn move_upstream(&self, name: &str, address: SocketAddr) {
        self.shared.change(|state| state.upstream(name, |upstream| upstream.address = address));
    }

    /// Whether the server's port is open: while its postmaster lives. A connect to a closed one is refused by the kernel.
    pub fn set_port_open(&self, name: &str, open: bool) {
        self.shared.change(|state| state.upstream(name, |upstream| upstream.open = open));
    }

    /// The server sets these options on its sockets (`tcp_keepalives_*`, `tcp_user_timeout`), for connections from now on.
    pub fn set_server_options(&self, name: &str, options: SocketOptions) {
        self.shared.change(|state| state.upstream(name, |upstream| upstream.side.options = options));
    }

    /// Whether the server looks after its clients while a statement runs (`client_connection_check_interval` is set), for
    /// connections from now on. One that does not learns of a RST when it next reads or writes, and is told then.
    pub fn set_checks_clients(&self, name: &str, checks: bool) {
        self.shared.change(|state| state.upstream(name, |upstream| upstream.side.checks_clients = checks));
    }

    /// The server's host loses its power, or has it again. Without power nothing gets to it or comes from it, and connects are
    /// lost; what is sent later on connections from before is answered by a RST. Its processes are the caller's to kill.
    pub fn set_powered(&self, name: &str, powered: bool) {
        for flow in self.shared.flows_of(None, Some(name)) {
            flow.befall(|fate| match powered {
                false => fate.server = Host::Off,
                true if fate.server == Host::Off => fate.server = Host::Stranger,
                true => {}
            });
        }
        self.shared.change(|state| state.upstream(name, |upstream| upstream.powered = powered));
    }

    /// Makes a name mean an upstream, for dials from now on.
    pub fn set_name(&self, name: &str, upstream: &str) {
        self.shared.state.lock().names.insert(name.to_owned(), upstream.into());
    }

    /// How long apps keep a resolved name. The default is not at all.
    pub fn set_dns_ttl(&self, ttl: Duration) {
        self.shared.state.lock().dns_ttl = ttl;
    }

    /// A seat: the process that lives there, or a new one if there is none.
    #[must_use]
    pub fn seat(&self, name: &str) -> Seat {
        let name: Arc<str> = name.into();
        let alive = self.shared.state.lock().seat(&name).alive.borrow().as_ref().copied();
        let incarnation = alive.unwrap_or_else(|| self.shared.next_incarnation(&name));
        Seat { shared: Arc::clone(&self.shared), name, incarnation }
    }

    /// The names of the seats that there were.
    #[must_use]
    pub fn seats(&self) -> Vec<Arc<str>> {
        self.shared.state.lock().seats.keys().cloned().collect()
    }

    /// The servers' names.
    #[must_use]
    pub fn upstreams(&self) -> Vec<Arc<str>> {
        self.shared.state.lock().upstreams.keys().cloned().collect()
    }

    /// Where a program that does not dial by a [`Seat`] reaches a server as from this seat. Its connects arrive at the proxy before
    /// the server is dialled, so a refusal that the proxy did not know of is a RST after the connect; and its unread bytes are not known.
    ///
    /// # Errors
    /// No such upstream, or the kernel's.
    pub fn address(&self, seat: &str, upstream: &str) -> io::Result<SocketAddr> {
        self.shared.path(&seat.into(), upstream).map(|path| path.door.address())
    }

    /// The link between any seat and any server, one way.
    pub fn set_link(&self, link: Link) {
        self.shared.change(|state| state.link = link);
    }

    /// Blocks the way between a seat and a server: bytes wait, and connects are lost. A way that is blocked stays so.
    pub fn partition(&self, seat: &str, upstream: &str, direction: Direction) {
        self.shared.change(|state| {
            let blocked = state.partitions.entry((seat.into(), upstream.into())).or_default();
            blocked.0 |= direction != Direction::ToApp;
            blocked.1 |= direction != Direction::ToServer;
        });
    }

    /// Ends a partition, in both directions.
    pub fn heal(&self, seat: &str, upstream: &str) {
        self.shared.change(|state| state.partitions.retain(|of, _| *of.0 != *seat || *of.1 != *upstream));
    }

    /// A firewall forgets the flows of a seat (or of all) that are at least so old: their bytes get through no more. The server's
    /// end stays open until its own timers end it. Gives how many.
    pub fn forget_flows(&self, seat: Option<&str>, older_than: Option<Duration>) -> usize {
        self.befall(seat, older_than, |fate| fate.forgotten = true)
    }

    /// Both ends of the flows get a RST. Gives how many.
    pub fn reset_flows(&self, seat: Option<&str>, older_than: Option<Duration>) -> usize {
        self.befall(seat, older_than, |fate| fate.reset = true)
    }

    fn befall(&self, seat: Option<&str>, older_than: Option<Duration>, change: fn(&mut flow::Fate)) -> usize {
        let mut flows = self.shared.flows_of(seat, None);
        flows.retain(|flow| older_than.is_none_or(|age| flow.opened.elapsed() >= age) && !flow.fate.borrow().reset);
        flows.iter().for_each(|flow| flow.befall(change));
        flows.len()
    }

    /// How connects to a server are answered while its port is open. Connections that exist are not touched.
    pub fn set_port_mode(&self, upstream: &str, mode: PortMode) {
        self.shared.change(|state| state.upstream(upstream, |upstream| upstream.mode = mode));
    }

    /// A firewall forgets flows that carried nothing for so long; keepalive probes count as traffic. `None` ends it.
    pub fn set_idle_flow_timeout(&self, timeout: Option<Duration>) {
        self.shared.change(|state| state.idle_timeout = timeout);
    }

    /// A session's leftovers as far as the wire tells; `None` for a backend that is gone, is about to be by its last word, or did not
    /// come through the proxy.
    #[must_use]
    pub fn session(&self, pid: Pid) -> Option<SessionReport> {
        self.shared.desk.session(pid)?.look(Tap::report)
    }

    /// Bytes that the client's end of a backend's connection has received and not yet read.
    #[must_use]
    pub fn unread(&self, pid: Pid) -> u64 {
        self.shared.desk.session(pid).map_or(0, |session| session.unread())
    }

    /// A line of a server's log (`log_destination = 'jsonlog'`). See [`log`].
    pub fn log_line(&self, line: &str) {
        match log::fact(line) {
            Some(log::Fact::End { pid, reason }) => self.shared.desk.log_end(pid, reason),
            Some(log::Fact::Disconnected { pid }) => {
                if let Some(session) = self.shared.desk.session(pid).filter(|session| session.unseen().is_some()) {
                    session.found_gone();
                }
            }
            Some(log::Fact::Waits { pid, by, on }) => {
                if let Some(session) = self.shared.desk.session(pid) {
                    session.see(|tap, out| tap.block(by, on, out));
                }
            }
            Some(log::Fact::Granted { pid }) => {
                if let Some(session) = self.shared.desk.session(pid) {
                    session.see(Tap::unblock);
                }
            }
            None => {}
        }
    }

    /// Connections that have an end left.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.shared.state.lock().flows.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (tasks, seats) = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            let doors = std::mem::take(&mut state.paths).into_values().map(|(_, task)| task);
            let flows = std::mem::take(&mut state.flows).into_values().map(|(_, task)| task);
            let silent = std::mem::take(&mut state.silent).into_values();
            (doors.chain(flows).chain(silent).collect::<Vec<_>>(), std::mem::take(&mut state.seats))
        };
        tasks.iter().for_each(AbortHandle::abort);
        for end in seats.into_values().flat_map(|seat| seat.ends) {
            if let Some(end) = end.upgrade() {
                end.take_away(io::ErrorKind::ConnectionAborted);
            }
        }
    }
}

/// Allows as many open files as the process may have.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // Where it can't be raised (macOS has a lower limit of its own), fewer flows are possible.
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
