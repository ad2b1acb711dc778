//! The proxy between real sockets on the loopback: a server of the test's own, or the simulated PostgreSQL.

mod connects;
mod ends;
mod network;
mod random;
mod sampling;
mod sessions;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::SocketOptions;
use poolproof_sim::postgres::event::{Lifecycle, Observer, ServerEvent};
use poolproof_sim::postgres::{Config, Database, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Proxy, Seat, SeatStream};
use crate::world::tasks::Tasks;

/// Longer than anything that is not stuck, on a busy machine too.
const LONG: Duration = Duration::from_secs(20);

/// All events, in order.
#[derive(Default)]
struct Events(Mutex<Vec<ServerEvent>>);

impl Observer for Events {
    fn server_event(&self, _: &str, event: ServerEvent) {
        self.0.lock().push(event);
    }
}

/// A proxy with one upstream `primary`, to which `db` points, and the socket that listens there.
struct Stage {
    proxy: Proxy,
    server: TcpListener,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Stage {
    async fn new() -> Stage {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = proxy(Arc::new(Events::default()), server.local_addr().expect("bound"));
        Stage { proxy, server }
    }

    fn seat(&self) -> Seat {
        self.proxy.seat("web-1")
    }

    /// A connection: the app's end and the server's.
    async fn connect(&self) -> (SeatStream, TcpStream) {
        self.connect_with(&SocketOptions::default()).await
    }

    async fn connect_with(&self, options: &SocketOptions) -> (SeatStream, TcpStream) {
        let app = timeout(LONG, self.seat().dial("db", options)).await.expect("in time").expect("it connects");
        let (server, _) = timeout(LONG, self.server.accept()).await.expect("in time").expect("accepted");
        (app, server)
    }
}

fn proxy(observer: Arc<dyn Observer>, server: SocketAddr) -> Proxy {
    let proxy = Proxy::new(observer, Tasks::default(), 1);
    proxy.add_upstream("primary", server);
    proxy.set_port_open("primary", true);
    proxy.set_name("db", "primary");
    proxy
}

/// Dials once and says how it failed; the time is how long it may take.
async fn dial(seat: &Seat, within: Duration) -> Result<SeatStream, io::ErrorKind> {
    match timeout(within, seat.dial("db", &SocketOptions::default())).await {
        Ok(result) => result.map_err(|error| error.kind()),
        // It hangs.
        Err(_) => Err(io::ErrorKind::WouldBlock),
    }
}

/// Writes these bytes at one end, and reads them at the other.
async fn carry(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
    from.write_all(bytes).await.expect("it takes bytes");
    assert_eq!(arrives(to, LONG, bytes.len()).await, Ok(bytes.to_vec()));
}

/// What arrives within this time: so many bytes, or the end (`UnexpectedEof`), or nothing (`WouldBlock`), or an error.
async fn arrives(at: &mut (impl AsyncRead + Unpin), within: Duration, bytes: usize) -> Result<Vec<u8>, io::ErrorKind> {
    let mut read = vec![0; bytes];
    match timeout(within, at.read_exact(&mut read)).await {
        Ok(Ok(_)) => Ok(read),
        Ok(Err(error)) => Err(error.kind()),
        Err(_) => Err(io::ErrorKind::WouldBlock),
    }
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(ms(5)).await;
        }
    };
    assert!(timeout(LONG, waiting).await.is_ok(), "not within {LONG:?}: {what}");
}

/// A real socket, as the simulated server serves it.
struct Real(TcpStream);

impl poolproof_sim::postgres::Socket for Real {}

impl AsyncRead for Real {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Real {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The simulated PostgreSQL on a real port, behind a proxy; what it told, and what the tap told.
struct Postgres {
    server: Server,
    proxy: Proxy,
    truth: Arc<Events>,
    tapped: Arc<Events>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Postgres {
    async fn start(initial_sql: &str) -> Postgres {
        let config = Config {
            startup_time: Duration::ZERO,
            fork_time: Duration::ZERO,
            initial_sql: initial_sql.to_owned(),
            // The first is that of the initial SQL.
            databases: vec![Database { name: "app".to_owned(), connection_limit: None }],
            ..Config::default()
        };
        let truth = Arc::new(Events::default());
        let server = Server::new(config, Some(Arc::clone(&truth) as Arc<dyn Observer>)).expect("a good configuration");
        server.start();
        server.lifecycle_watch().wait_for(|now| *now == Lifecycle::Running).await.expect("it starts");
        truth.0.lock().clear();
        let listening = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listening.local_addr().expect("bound");
        let serving = server.clone();
        let listener = tokio::spawn(async move {
            while let Ok((socket, peer)) = listening.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(Real(socket), peer).await });
            }
        });
        let tapped = Arc::new(Events::default());
        let proxy = proxy(Arc::clone(&tapped) as Arc<dyn Observer>, address);
        Postgres { server, proxy, truth, tapped, listener }
    }
}
