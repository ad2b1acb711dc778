//! A listening socket: where the connects of one seat to one server arrive, and how the kernel answers them.
//!
//! The kernel's own answers are used: a refused connect meets a port at which nobody listens, a lost SYN a listener whose backlog is
//! full. Linux answers no SYN then, and the client's kernel repeats it until there is room again. Elsewhere a connect may
//! succeed at such a listener, and stays silent.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use poolproof_sim::net::PortMode;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Connects that wait to be accepted, at most.
const BACKLOG: i32 = 1024;

/// A connection that came, and the address it came from.
pub(super) type Arrival = (TcpStream, SocketAddr);

/// The listening socket.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    /// Bound to the port and never listening: keeps the port while it is closed.
    _holder: Option<Socket>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    mode: PortMode,
    listener: Option<Arc<TcpListener>>,
    /// Connects of our own that fill the backlog, and where they came from.
    fillers: Vec<(Socket, Option<SocketAddr>)>,
    /// Fillers that were accepted after all are not for anybody.
    stray: Vec<SocketAddr>,
}

impl Door {
    /// Listens on a free port of the loopback, open.
    ///
    /// # Errors
    /// The kernel's: no port or no file descriptor is left.
    pub(super) fn open() -> io::Result<Door> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Two sockets can be bound to a port on Linux, if both say SO_REUSEADDR and none listens yet.
        let holder = if cfg!(target_os = "linux") { Some(bound(any)?) } else { None };
        let address = match &holder {
            Some(holder) => holder.local_addr()?.as_socket().unwrap_or(any),
            None => any,
        };
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let inner =
            Inner { mode: PortMode::Open, listener: Some(Arc::new(listener)), fillers: Vec::new(), stray: Vec::new() };
        Ok(Door { address, _holder: holder, inner: Mutex::new(inner), changed: Notify::new() })
    }

    /// Where to connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How connects are answered now.
    pub(super) fn mode(&self) -> PortMode {
        self.inner.lock().mode
    }

    /// Changes how connects are answered, from this call on. Gives those that had been made and not been accepted.
    ///
    /// # Errors
    /// The port could not be opened again; it stays closed.
    pub(super) fn set(&self, mode: PortMode) -> io::Result<Vec<Arrival>> {
        let mut inner = self.inner.lock();
        if inner.mode == mode {
            return Ok(Vec::new());
        }
        let mut arrived = Vec::new();
        if matches!(inner.mode, PortMode::Open | PortMode::AcceptSilence)
            && let Some(listener) = &inner.listener
        {
            while let Ok(Some(arrival)) = accept_now(listener) {
                arrived.push(arrival);
            }
        }
        arrived.retain(|(_, peer)| !inner.is_stray(*peer));
        let result = inner.become_(mode, self.address);
        inner.mode = if result.is_ok() { mode } else { PortMode::Refuse };
        drop(inner);
        self.changed.notify_waiters();
        result.map(|()| arrived)
    }

    /// Waits for the next connection, and tells how connects were answered then.
    pub(super) async fn accept(&self) -> (Arrival, PortMode) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (mode, listener) = {
                let inner = self.inner.lock();
                (inner.mode, inner.listener.clone())
            };
            let Some(listener) = listener.filter(|_| matches!(mode, PortMode::Open | PortMode::AcceptSilence)) else {
                changed.await;
                continue;
            };
            let accepted = tokio::select! {
                biased;
                () = &mut changed => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(arrival) if self.inner.lock().is_stray(arrival.1) => {}
                Ok(arrival) => return (arrival, mode),
                // A client that has gone already, or no file descriptor is left: it may be better soon.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    }
}

impl Inner {
    fn is_stray(&mut self, peer: SocketAddr) -> bool {
        let at = self.stray.iter().position(|stray| *stray == peer);
        at.map(|at| self.stray.swap_remove(at)).is_some()
    }

    fn become_(&mut self, mode: PortMode, address: SocketAddr) -> io::Result<()> {
        // Those that wait at a full backlog are let in or refused with the others.
        let made = self.fillers.drain(..).filter(|(filler, _)| filler.peer_addr().is_ok());
        self.stray.extend(made.filter_map(|(_, from)| from));
        match mode {
            PortMode::Refuse => {
                self.stray.clear();
                if let Some(listener) = self.listener.take() {
                    // Whoever waits in `accept` keeps it for a moment; on Linux this closes it at once.
                    let _ = SockRef::from(&*listener).shutdown(std::net::Shutdown::Both);
                }
                Ok(())
            }
            PortMode::Open | PortMode::AcceptSilence => match &self.listener {
                Some(listener) => SockRef::from(&**listener).listen(BACKLOG),
                None => {
                    self.listener = Some(Arc::new(listen(address)?));
                    Ok(())
                }
            },
            PortMode::LoseSyn => {
                let listener = match self.listener.take() {
                    Some(listener) => listener,
                    None => Arc::new(listen(address)?),
                };
                SockRef::from(&*listener).listen(0)?;
                self.listener = Some(listener);
                self.fill(address)
            }
        }
    }

    /// Fills the backlog: until a connect of our own finds no room.
    fn fill(&mut self, address: SocketAddr) -> io::Result<()> {
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        for _ in 0..8 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            filler.set_nonblocking(true)?;
            // EINPROGRESS; on the loopback the handshake is over by then, if it could be made.
            let _ = filler.connect(&address.into());
            let made = filler.peer_addr().is_ok();
            let from = filler.local_addr().ok().and_then(|from| from.as_socket());
            // One that found no room is kept, in case it was only late.
            self.fillers.push((filler, from));
            if !made {
                break;
            }
        }
        Ok(())
    }
}

/// A socket bound to an address that others of the same kind may share.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts a connection if there is one.
fn accept_now(listener: &TcpListener) -> io::Result<Option<Arrival>> {
    match SockRef::from(listener).accept() {
        Ok((socket, peer)) => {
            socket.set_nonblocking(true)?;
            let stream = TcpStream::from_std(socket.into())?;
            Ok(peer.as_socket().map(|peer| (stream, peer)))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
