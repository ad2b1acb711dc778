//! The machines of apps: what dials, and what becomes of a process's sockets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::turmoil::net::TcpStream;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::flow::{Ends, Seat};
use crate::pool::connector::{Dialer, Dialling, Socket};
use crate::scenario::model::ServerName;
use crate::world::Machine;
use crate::world::servers::{PORT, host};

/// What the name that apps connect to means. turmoil's own names mean one host for ever.
pub(super) struct Name {
    means: Mutex<ServerName>,
    ttl: Duration,
}

impl Name {
    pub(super) fn new(ttl: Duration) -> Name {
        Name { means: Mutex::new(ServerName::Primary), ttl }
    }

    pub(super) fn repoint(&self, server: ServerName) {
        *self.means.lock() = server;
    }
}

/// What the machines of one seat know and share: the name's cached address, and the sockets nobody closes.
pub(super) struct Shared {
    pub(super) name: Arc<Name>,
    pub(super) clients: Arc<Ends>,
    /// The sockets of machines that lost their power. Nobody reads or closes them, so that their flows stay half-open.
    pub(super) lost: Arc<Mutex<Vec<TcpStream>>>,
    cached: Mutex<Option<(ServerName, Instant)>>,
}

impl Shared {
    pub(super) fn new(name: &Arc<Name>, clients: &Arc<Ends>, lost: &Arc<Mutex<Vec<TcpStream>>>) -> Shared {
        let (name, clients, lost) = (Arc::clone(name), Arc::clone(clients), Arc::clone(lost));
        Shared { name, clients, lost, cached: Mutex::default() }
    }

    fn resolve(&self) -> ServerName {
        let mut cached = self.cached.lock();
        match *cached {
            Some((server, asked)) if asked.elapsed() < self.name.ttl => server,
            _ => {
                let server = *self.name.means.lock();
                *cached = Some((server, Instant::now()));
                server
            }
        }
    }
}

/// The machine that a process sits on.
pub(super) struct Place {
    pub(super) seat: Seat,
    pub(super) shared: Arc<Shared>,
}

impl Machine for Place {
    fn dialer(&self, alive: Arc<AtomicBool>) -> Arc<dyn Dialer> {
        Arc::new(FromSeat { seat: self.seat.clone(), shared: Arc::clone(&self.shared), alive })
    }

    fn kill_sockets(&self) {
        self.shared.clients.kill(&self.seat);
    }

    fn power_off(&self) {
        let lost = self.shared.clients.take(&self.seat);
        self.shared.lost.lock().extend(lost);
    }
}

/// Dials the name that apps connect to, while the process lives.
struct FromSeat {
    seat: Seat,
    shared: Arc<Shared>,
    alive: Arc<AtomicBool>,
}

impl Dialer for FromSeat {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let alive = || self.alive.load(Ordering::Relaxed);
            if !alive() {
                return std::future::pending().await;
            }
            let stream = connect(self.shared.resolve()).await?;
            if !alive() {
                drop(stream);
                return std::future::pending().await;
            }
            let client = stream.local_addr()?;
            Ok(Box::new(self.shared.clients.hold(stream, client, Some(self.seat.clone()))) as Box<dyn Socket>)
        })
    }
}

/// Dials one server from a machine that is none of the apps', though it is on the same one of turmoil's hosts.
pub(super) struct Visitor(pub(super) ServerName);

impl Dialer for Visitor {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let stream = connect(self.0).await?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}

/// Opens a stream; an error is the bare kind, as the kernel's.
async fn connect(server: ServerName) -> io::Result<TcpStream> {
    let connected = TcpStream::connect((host(server), PORT)).await;
    connected.map_err(|error| error.kind().into())
}
