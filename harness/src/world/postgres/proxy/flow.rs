//! One connection: two real sockets, and what befalls the bytes between them.
//!
//! Each way has a reader, which takes bytes off one socket and says when they are due at the other, and a writer, which hands
//! them over then. What leaves while its way is blocked waits for the healing; a RST that leaves then is lost for good, as on a
//! real network, and whoever sends to its sender later is answered by another. Between reader and writer little fits, so that
//! an end that does not read is felt at the other.
//!
//! A server never closes one direction only: bytes that reach it after its FIN are answered by a RST.

use std::future::pending;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use poolproof_sim::net::SocketOptions;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::desk::Session;
use super::path::{Path, Way};
use super::socket::AppEnd;

mod outside;

/// Bytes read at once.
const CHUNK: usize = 8192;
/// Chunks on their way in one direction, at most.
const ON_THE_WAY: usize = 16;
/// What a socket of the proxy buffers, about.
const SOCKET_BUFFER: usize = 64 * 1024;

/// A host, as the flow's other end meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Host {
    /// It has the connection.
    #[default]
    Up,
    /// It has no power.
    Off,
    /// It does not know the connection any more, and answers by a RST.
    Stranger,
}

/// How a server treats its connections.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ServerSide {
    /// What it sets on its sockets.
    pub(super) options: SocketOptions,
    /// Whether a busy backend looks after its client (`client_connection_check_interval`).
    pub(super) checks_clients: bool,
}

/// What has befallen a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fate {
    /// A firewall drops its bytes silently.
    pub(super) forgotten: bool,
    /// Both ends are to get a RST.
    pub(super) reset: bool,
    pub(super) app: Host,
    pub(super) server: Host,
}

/// A flow.
pub(super) struct Flow {
    pub(super) path: Arc<Path>,
    pub(super) opened: Instant,
    pub(super) fate: watch::Sender<Fate>,
    pub(super) app: Option<Arc<AppEnd>>,
    pub(super) session: Arc<Session>,
    server: ServerSide,
    state: Mutex<State>,
    /// Something was sent into the silence, or an end closed.
    stirred: Notify,
    server_closed: AtomicBool,
    /// Whether the last of each way, its FIN, has been handed over.
    handed_over: [watch::Sender<bool>; 2],
}

#[derive(Debug)]
struct State {
    /// Bytes moved last.
    active: Instant,
    /// When the first of the bytes that wait was sent, by the app and by the server.
    waiting: [Option<Instant>; 2],
    /// How many of the two readers have ended.
    ended: u8,
}

/// What is on its way.
enum Load {
    Bytes(Bytes),
    Fin,
    Rst,
}

struct OnItsWay {
    load: Load,
    due: Instant,
    /// It left while its way was blocked.
    lost: bool,
}

/// How a flow ends.
enum End {
    /// Both ends have closed.
    Closed,
    /// The app's end is to get a RST.
    ResetApp,
    /// The server's end is to get a RST, as after this error.
    ResetServer(io::ErrorKind),
    /// Both.
    ResetBoth,
}

/// What a writer finds at the end of the way.
enum Passage {
    Open,
    /// The host at the end answers by a RST.
    Refused,
}

impl Flow {
    pub(super) fn new(
        path: Arc<Path>,
        session: Arc<Session>,
        app: Option<Arc<AppEnd>>,
        server: ServerSide,
    ) -> Arc<Flow> {
        let now = Instant::now();
        Arc::new(Flow {
            path,
            opened: now,
            fate: watch::Sender::default(),
            app,
            session,
            server,
            state: Mutex::new(State { active: now, waiting: [None; 2], ended: 0 }),
            stirred: Notify::new(),
            server_closed: AtomicBool::new(false),
            handed_over: [watch::Sender::new(false), watch::Sender::new(false)],
        })
    }

    /// Changes its fate.
    pub(super) fn befall(&self, change: impl FnOnce(&mut Fate)) {
        self.fate.send_modify(change);
    }

    /// Carries bytes until it is over.
    pub(super) async fn run(&self, app: TcpStream, server: TcpStream) {
        for socket in [&app, &server] {
            // Without these options bytes are only carried less faithfully.
            let _ = socket.set_nodelay(true);
            let socket = SockRef::from(socket);
            let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
            let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        }
        let (to_server, at_server) = mpsc::channel(ON_THE_WAY);
        let (to_app, at_app) = mpsc::channel(ON_THE_WAY);
        let carry = async {
            let all = tokio::try_join!(
                self.read(Way::Up, &app, to_server),
                self.write(Way::Up, &server, at_server),
                self.read(Way::Down, &server, to_app),
                self.write(Way::Down, &app, at_app),
            );
            all.err().unwrap_or(End::Closed)
        };
        let end = tokio::select! {
            biased;
            end = self.watch() => end,
            end = carry => end,
        };
        let (reset_app, reset_server) = match end {
            End::Closed => (false, None),
            End::ResetApp => (true, None),
            End::ResetServer(kind) => (false, Some(kind)),
            End::ResetBoth => (true, Some(io::ErrorKind::ConnectionReset)),
        };
        let of_app = async {
            if reset_app {
                let _ = app.set_zero_linger();
            } else if reset_server == Some(io::ErrorKind::TimedOut) {
                self.alone(&app).await;
            }
            drop(app);
        };
        let of_server = async {
            if reset_server.is_some() {
                self.until_noticed(&server).await;
                let _ = server.set_zero_linger();
            }
            drop(server);
            if !self.server_closed.load(Ordering::Relaxed) {
                self.session.cut_off(reset_server.unwrap_or(io::ErrorKind::ConnectionReset));
            }
        };
        tokio::join!(of_app, of_server);
    }

    /// A busy backend notices a RST when it next reads or writes. The RST is held back until then, so that what it still does is seen.
    async fn until_noticed(&self, server: &TcpStream) {
        if self.server.checks_clients || self.server_closed.load(Ordering::Relaxed) || !self.session.is_busy() {
            return;
        }
        let mut buffer = BytesMut::with_capacity(CHUNK);
        match receive(server, &mut buffer).await {
            Ok(1..) => self.session.see(|tap, out| tap.server(&buffer, out)),
            Ok(0) | Err(_) => {
                self.server_closed.store(true, Ordering::Relaxed);
                self.session.server_closed();
            }
        }
    }

    /// Takes bytes off a socket.
    async fn read(&self, way: Way, from: &TcpStream, out: mpsc::Sender<OnItsWay>) -> Result<(), End> {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let mut last_due = self.opened;
        loop {
            buffer.reserve(CHUNK);
            let load = match receive(from, &mut buffer).await {
                Ok(0) => Load::Fin,
                Ok(_) => Load::Bytes(buffer.split().freeze()),
                Err(_) => Load::Rst,
            };
            let over = !matches!(load, Load::Bytes(_));
            let fate = *self.fate.borrow();
            let host = match way {
                Way::Up => fate.app,
                Way::Down => fate.server,
            };
            if way == Way::Down {
                match &load {
                    Load::Bytes(bytes) => self.session.see(|tap, out| tap.server(bytes, out)),
                    Load::Fin | Load::Rst => {
                        self.server_closed.store(true, Ordering::Relaxed);
                        self.session.server_closed();
                    }
                }
            }
            if host == Host::Up {
                let road = *self.path.road.borrow();
                let lost = road.blocked(way) || fate.forgotten;
                let now = Instant::now();
                last_due = last_due.max(now + self.path.delay(&road.link));
                let due = match (&load, road.link.bandwidth) {
                    (Load::Bytes(bytes), Some(_)) => {
                        let left = self.path.left_at(way, bytes.len());
                        left.map_or(last_due, |left| last_due.max(left + (last_due - now)))
                    }
                    _ => last_due,
                };
                if !over {
                    let deaf = match way {
                        Way::Up => fate.server == Host::Off,
                        Way::Down => fate.app == Host::Off,
                    };
                    self.sent(way, Some(now), lost || deaf || road.blocked(other(way)));
                }
                if out.send(OnItsWay { load, due, lost }).await.is_err() {
                    break;
                }
            }
            // What a host without power still does is not heard of, but its end is seen.
            if over {
                break;
            }
        }
        self.state.lock().ended += 1;
        self.stirred.notify_one();
        if self.fate.borrow().app != Host::Up || self.fate.borrow().server != Host::Up {
            // Nothing was said to the other end: its way stays open.
            return pending().await;
        }
        Ok(())
    }

    /// Bytes left a socket at this time; into the silence, perhaps. `None`: some time ago.
    fn sent(&self, way: Way, at: Option<Instant>, unanswered: bool) {
        let mut state = self.state.lock();
        if let Some(at) = at {
            state.active = at;
        }
        let waiting = &mut state.waiting[index(way)];
        if unanswered && waiting.is_none() {
            *waiting = Some(at.unwrap_or_else(Instant::now));
            drop(state);
            self.stirred.notify_one();
        }
    }

    /// Hands bytes over to a socket.
    async fn write(&self, way: Way, to: &TcpStream, mut loads: mpsc::Receiver<OnItsWay>) -> Result<(), End> {
        let refused = match way {
            Way::Up => End::ResetApp,
            Way::Down => End::ResetServer(io::ErrorKind::ConnectionReset),
        };
        while let Some(OnItsWay { load, due, lost }) = loads.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            if lost && matches!(load, Load::Rst) {
                self.befall(|fate| match way {
                    Way::Up => fate.app = Host::Stranger,
                    Way::Down => fate.server = Host::Stranger,
                });
                return pending().await;
            }
            let passage = self.passage(way, lost);
            tokio::pin!(passage);
            let passage = match futures_util::poll!(&mut passage) {
                Poll::Ready(passage) => passage,
                Poll::Pending => {
                    // Those that were on the way when it broke are not acknowledged either.
                    if matches!(load, Load::Bytes(_)) {
                        self.sent(way, None, true);
                    }
                    passage.await
                }
            };
            if let Passage::Refused = passage {
                return Err(refused);
            }
            match load {
                Load::Bytes(bytes) => {
                    let closed = way == Way::Up && self.server_closed.load(Ordering::Relaxed);
                    if !closed {
                        if way == Way::Up {
                            self.session.see(|tap, out| tap.client(&bytes, out));
                        } else {
                            self.session.delivered.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        }
                    }
                    if closed || send(to, &bytes).await.is_err() {
                        // The answer comes behind all that was sent before.
                        let mut last = self.handed_over[index(other(way))].subscribe();
                        let _ = last.wait_for(|handed_over| *handed_over).await;
                        return Err(refused);
                    }
                }
                Load::Fin => {
                    if way == Way::Up {
                        self.session.see(|tap, _| tap.client_closed());
                    }
                    // One that is closed already has been told, or will be.
                    let _ = SockRef::from(to).shutdown(Shutdown::Write);
                    self.handed_over[index(way)].send_replace(true);
                }
                Load::Rst => {
                    return Err(match way {
                        Way::Up => End::ResetServer(io::ErrorKind::ConnectionReset),
                        Way::Down => End::ResetApp,
                    });
                }
            }
        }
        Ok(())
    }

    /// Waits until bytes get to the end of the way. What was on the way before the way was blocked does.
    async fn passage(&self, way: Way, lost: bool) -> Passage {
        let (mut fate, mut road) = (self.fate.subscribe(), self.path.road.subscribe());
        loop {
            let (now, on) = (*fate.borrow_and_update(), *road.borrow_and_update());
            let end = match way {
                Way::Up => now.server,
                Way::Down => now.app,
            };
            let stopped = now.forgotten || (lost && on.blocked(way));
            if !stopped {
                match end {
                    Host::Up => return Passage::Open,
                    // The RST has to come back.
                    Host::Stranger if !on.blocked(other(way)) => return Passage::Refused,
                    Host::Stranger | Host::Off => {}
                }
            }
            tokio::select! {
                changed = fate.changed() => if changed.is_err() { return pending().await },
                changed = road.changed() => if changed.is_err() { return pending().await },
            }
        }
    }
}

fn other(way: Way) -> Way {
    match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    }
}

fn index(way: Way) -> usize {
    match way {
        Way::Up => 0,
        Way::Down => 1,
    }
}

async fn receive(from: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

async fn send(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
