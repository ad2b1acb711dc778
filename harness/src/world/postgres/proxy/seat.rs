//! A seat: the machine of one app process, from which it dials.
//!
//! A handle is one incarnation of the process, as the simulated network's `Host` is: after [`Seat::kill_sockets`] or
//! [`Seat::power_off`] its dials fail and its streams are closed, and [`Seat::respawn`] or [`Seat::power_on`] give the next one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::net::{PortMode, SocketOptions};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::flow::Host;
use super::hub::Shared;
use super::path::{Expected, Path};
use super::socket::{AppEnd, SeatStream};

/// How long the proxy may take to accept what the kernel has connected.
const ARRIVES: Duration = Duration::from_secs(1);

/// The machine of one app process; one incarnation of it. Cheap to clone.
#[derive(Clone)]
pub struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
}

impl Seat {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This incarnation was not killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.is_alive(&self.name, self.incarnation)
    }

    /// Dials what `name` means now: an upstream, or a name that points at one. It takes a round trip of the link.
    ///
    /// The upstream is dialled first, so that its refusal is this dial's, as the kernel reports it. While connects are lost
    /// (a partition, a server without power, [`PortMode::LoseSyn`]) the dial hangs as `connect(2)` does, and succeeds if the SYN is
    /// repeated after the healing.
    ///
    /// # Errors
    /// The kernel's: `ConnectionRefused`, `TimedOut`; `ConnectionAborted` when this process is dead; an error of kind `Other` for a
    /// name that nobody has.
    pub async fn dial(&self, name: &str, options: &SocketOptions) -> io::Result<SeatStream> {
        let path = self.shared.resolve(&self.name, self.incarnation, name)?;
        let app = AppEnd::new(*options);
        let mut ends = self.shared.ends_of_seat(&self.name);
        tokio::select! {
            biased;
            _ = ends.wait_for(|alive| *alive != Some(self.incarnation)) => Err(io::ErrorKind::ConnectionAborted.into()),
            dialled = self.connect(&path, &app) => {
                let stream = app.attach(dialled?)?;
                self.shared.sat_down(&self.name, self.incarnation, &app)?;
                Ok(stream)
            }
        }
    }

    async fn connect(&self, path: &Path, app: &Arc<AppEnd>) -> io::Result<TcpStream> {
        travel(path).await;
        let mut server = None;
        if path.door.mode() == PortMode::Open {
            match TcpStream::connect(self.shared.address_of(&path.upstream)?).await {
                Ok(stream) => server = Some(stream),
                Err(error) => {
                    travel(path).await;
                    return Err(error);
                }
            }
        }
        let socket = TcpSocket::new_v4()?;
        set_options(&socket, &app.options)?;
        // Bound before it connects, so that its address is known when it arrives.
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let local = socket.local_addr()?;
        let (arrived, arrives) = oneshot::channel();
        path.expected.lock().insert(local, Expected { app: Arc::clone(app), server, arrived });
        let mut given_up = Unexpect { path, local: Some(local) };
        let stream = socket.connect(path.door.address()).await?;
        given_up.local = None;
        // From here on it is a flow that faults find. One that was accepted by a door that closed just then never arrives.
        let _ = tokio::time::timeout(ARRIVES, arrives).await;
        travel(path).await;
        Ok(stream)
    }

    /// The process dies (SIGKILL): the kernel closes its sockets, each with a FIN, or a RST if data is unread. What is left of
    /// the process gets `ConnectionAborted` from everything.
    pub fn kill_sockets(&self) {
        for app in self.shared.end_incarnation(&self.name, self.incarnation) {
            app.take_away(io::ErrorKind::ConnectionAborted);
        }
    }

    /// The machine vanishes: no FIN, no RST; what is on the wire from it still arrives.
    pub fn power_off(&self) {
        let ends = self.shared.end_incarnation(&self.name, self.incarnation);
        for flow in self.shared.flows_of(Some(&self.name), None) {
            flow.befall(|fate| fate.app = Host::Off);
        }
        for app in ends {
            app.take_away(io::ErrorKind::ConnectionAborted);
        }
    }

    /// The machine is back after [`Seat::power_off`], with a new process. What servers send on connections from before is
    /// answered by a RST.
    #[must_use = "the old handle stays dead"]
    pub fn power_on(&self) -> Seat {
        for flow in self.shared.flows_of(Some(&self.name), None) {
            flow.befall(|fate| {
                if fate.app == Host::Off {
                    fate.app = Host::Stranger;
                }
            });
        }
        self.respawn()
    }

    /// A new process on this machine; if one runs still, it is killed first.
    #[must_use = "the old handle stays dead"]
    pub fn respawn(&self) -> Seat {
        self.kill_sockets();
        Seat { incarnation: self.shared.next_incarnation(&self.name), ..self.clone() }
    }
}

/// Half a round trip.
async fn travel(path: &Path) {
    let link = path.road.borrow().link;
    let delay = path.delay(&link);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// A dial that is given up is expected no more.
struct Unexpect<'p> {
    path: &'p Path,
    /// Where it comes from, until it has succeeded.
    local: Option<SocketAddr>,
}

impl Drop for Unexpect<'_> {
    fn drop(&mut self) {
        if let Some(local) = self.local {
            self.path.expected.lock().remove(&local);
        }
    }
}

/// Sets what a program sets on its socket. `TCP_USER_TIMEOUT` is Linux's only.
fn set_options(socket: &TcpSocket, options: &SocketOptions) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    if let Some(keepalive) = options.keepalive {
        // The kernel takes whole seconds, and no zero; what is finer, in shortened time, is the proxy's own arithmetic.
        let whole = |time: Duration| Duration::from_secs(time.as_secs().max(1));
        let keepalive = TcpKeepalive::new()
            .with_time(whole(keepalive.idle))
            .with_interval(whole(keepalive.interval))
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    Ok(())
}
