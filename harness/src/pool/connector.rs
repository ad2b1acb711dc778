//! The connector: what a pool dials with. It gives the pool an ordinary [`tokio_postgres::Client`] over the world's
//! streams, and tells the trace of each dial and of each client end's death.
//!
//! It does what `tokio_postgres::Config::connect` does, with the world's stream in place of a `TcpStream`:
//!
//! - `connect_timeout` covers the opening of the stream only. Startup and authentication have no timeout of their own: a
//!   server that accepts and is silent hangs a dial for as long as the pool lets it (`connect_with_timeout` in
//!   tokio-postgres' `connect_socket.rs`).
//! - The connection is driven by a task of its own, which ends when the client is dropped and Terminate is flushed, or
//!   when the connection fails. Notices (an immediate shutdown's WARNING among them) are read and forgotten, as the
//!   driver's own `Future` does.
//!
//! One difference remains, since `tokio_postgres::Error` can't be made by others: a failed dial reaches the pool as the
//! driver's "error communicating with the server" instead of "error connecting to server", with the same
//! [`io::Error`] as its source. The trace has the right text. TLS, several hosts and `target_session_attrs` are left
//! out: the world has one name, `db`, and no certificates.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use poolproof_sim::postgres::event::Pid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, NoTls};

use crate::pool::error::describe;
use crate::pool::resource::Script;
use crate::pool::transaction::{TransactionWatch, WatchedSocket};
use crate::pool::{PoolError, PoolErrorKind};
use crate::scenario::model::ManagerCall;
use crate::trace::event::{ConnId, PoolId};
use crate::trace::{Recorder, What};

/// A byte stream of the world.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// A dial under way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send + 'a>>;

/// Opens streams from one app to the server named `db`.
pub trait Dialer: Send + Sync + 'static {
    /// Opens a stream, as `connect(2)` does.
    fn dial(&self) -> Dialling<'_>;
}

/// Opens connections for one pool.
#[derive(Clone)]
pub struct Connector {
    config: Arc<Config>,
    dialer: Arc<dyn Dialer>,
    recorder: Recorder,
    pool: PoolId,
    script: Arc<Script>,
}

/// An open connection: the client, and the task that drives it.
pub struct Connection {
    /// The driver's client.
    pub client: Client,
    /// The task that moves its bytes. It ends when the client is dropped or the connection breaks. Dropping the handle
    /// lets it go on; aborting it closes the stream at once, with a FIN and no Terminate.
    pub task: JoinHandle<()>,
}

impl Connector {
    /// A connector for one pool.
    ///
    /// `config` gives role, database, application name, password and `connect_timeout`; its hosts and TCP options are
    /// the dialer's business, and not read.
    #[must_use]
    pub fn new(config: Config, dialer: Arc<dyn Dialer>, recorder: Recorder, pool: PoolId) -> Self {
        Connector { config: Arc::new(config), dialer, recorder, pool, script: Arc::default() }
    }

    /// With what the scenario makes of the manager of a pool of resources.
    #[must_use]
    pub fn scripted(self, script: Arc<Script>) -> Self {
        Connector { script, ..self }
    }

    pub(super) fn script(&self) -> &Script {
        &self.script
    }

    /// The driver's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Dials, starts the session and spawns the task that drives the connection.
    ///
    /// # Errors
    /// What the driver reports: the stream could not be opened (an [`io::Error`] is the source), or the server refused
    /// the session (a `DbError` is the source).
    pub async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        self.start(|socket| socket).await
    }

    /// The same, with what libpq would know of the session's transaction.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_watched(&self) -> Result<(Connection, Arc<TransactionWatch>), tokio_postgres::Error> {
        let watch = Arc::new(TransactionWatch::default());
        let watched = Arc::clone(&watch);
        let connection = self.start(|socket| Box::new(WatchedSocket::new(socket, watched))).await?;
        Ok((connection, watch))
    }

    /// The same as a manager's `connect`, which may misbehave: the dial is under way as long as that.
    pub(super) async fn connect_scripted(&self) -> Result<Connection, PoolError> {
        let dial = self.begin();
        if let Err(error) = self.script.meet(ManagerCall::Connect).await {
            dial.failed(error.message.clone(), None);
            return Err(error);
        }
        self.finish(dial, |socket| socket).await.map_err(|error| PoolError::of(PoolErrorKind::Connect, &error))
    }

    fn begin(&self) -> Dial<'_> {
        let conn = self.recorder.next_conn();
        self.recorder.record(What::Dial { conn, pool: self.pool });
        Dial { recorder: &self.recorder, conn, ended: false }
    }

    async fn start(
        &self,
        wrap: impl FnOnce(Box<dyn Socket>) -> Box<dyn Socket> + Send,
    ) -> Result<Connection, tokio_postgres::Error> {
        self.finish(self.begin(), wrap).await
    }

    async fn finish(
        &self,
        dial: Dial<'_>,
        wrap: impl FnOnce(Box<dyn Socket>) -> Box<dyn Socket> + Send,
    ) -> Result<Connection, tokio_postgres::Error> {
        let conn = dial.conn;
        let socket = match open(&*self.dialer, self.config.get_connect_timeout().copied()).await {
            Ok(socket) => wrap(socket),
            Err(error) => {
                dial.failed(format!("error connecting to server: {error}"), None);
                return Err(driver_error(error).await);
            }
        };
        match self.config.connect_raw(socket, NoTls).await {
            Ok((client, connection)) => {
                let pid = identify(&client);
                dial.connected(pid);
                // Made here, so that a task aborted before its first poll tells its end, too.
                let open = Open { recorder: self.recorder.clone(), conn, broken: false };
                let task = tokio::spawn(drive(connection, open));
                Ok(Connection { client, task })
            }
            Err(error) => {
                dial.failed(describe(&error), error.code().map(|code| code.code().to_owned()));
                Err(error)
            }
        }
    }
}

/// The pid of a client's backend, from the BackendKeyData of its startup. Needs no round trip, no await and no I/O.
/// [`Recorder::conn_of`] has the connection.
///
/// The driver keeps the pid to itself, but writes it into a CancelRequest (length, code, pid, key: 16 bytes,
/// <https://www.postgresql.org/docs/15/protocol-message-formats.html>). That request is written into an array here.
///
/// # Panics
/// If the driver wrote no CancelRequest at its first poll, as tokio-postgres 0.7 does without TLS.
#[must_use]
pub fn identify(client: &Client) -> Pid {
    let mut request = CancelRequest { bytes: [0; 16], len: 0 };
    let token = client.cancel_token();
    let written = pin!(token.cancel_query_raw(&mut request, NoTls)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(written, Poll::Ready(Ok(()))), "a CancelRequest is written into memory at once");
    assert_eq!(request.len, 16, "a CancelRequest has 16 bytes");
    let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = request.bytes;
    Pid::from_be_bytes([a, b, c, d])
}

/// A stream into memory, long enough for one CancelRequest.
struct CancelRequest {
    bytes: [u8; 16],
    len: usize,
}

impl AsyncWrite for CancelRequest {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let from = self.len;
        let len = data.len().min(self.bytes.len() - from);
        self.bytes[from..from + len].copy_from_slice(&data[..len]);
        self.len += len;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for CancelRequest {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Opens a stream as tokio-postgres' `connect_with_timeout` does, error included.
async fn open(dialer: &dyn Dialer, timeout: Option<Duration>) -> io::Result<Box<dyn Socket>> {
    match timeout {
        Some(timeout) => match tokio::time::timeout(timeout, dialer.dial()).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out")),
        },
        None => dialer.dial().await,
    }
}

/// The driver's own error for a stream that could not be opened: its startup fails on the first write.
async fn driver_error(error: io::Error) -> tokio_postgres::Error {
    // Role and database play no part; without a role the driver would ask the operating system for one.
    let mut config = Config::new();
    config.user("nobody");
    match config.connect_raw(NotConnected(Some(error)), NoTls).await {
        Ok(_) => unreachable!("a stream that only fails can't start a session"),
        Err(error) => error,
    }
}

/// A stream whose first use fails with the dial's error.
struct NotConnected(Option<io::Error>);

impl NotConnected {
    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(self.0.take().unwrap_or_else(|| io::ErrorKind::NotConnected.into())))
    }
}

impl AsyncWrite for NotConnected {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncRead for NotConnected {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

/// A dial under way. Dropped before its end, it says so.
struct Dial<'a> {
    recorder: &'a Recorder,
    conn: ConnId,
    ended: bool,
}

impl Dial<'_> {
    fn connected(mut self, pid: Pid) {
        self.ended = true;
        self.recorder.record(What::Connected { conn: self.conn, pid });
    }

    fn failed(mut self, message: String, code: Option<String>) {
        self.ended = true;
        self.recorder.record(What::DialFailed { conn: self.conn, message: message.into(), code });
    }
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.recorder.record(What::DialDropped { conn: self.conn });
        }
    }
}

/// Moves a connection's bytes until its client is dropped or it breaks, and tells which.
///
/// [`What::ConnBroken`] follows the moment from which `Client::is_closed` is true. A client dropped while an answer is
/// due keeps its connection open until the answer has come, as in the driver; if the connection fails meanwhile, that is
/// told as a break, too. A task that is aborted (as deadpool-postgres does with each client that it drops) closes the
/// stream without Terminate.
async fn drive<S: Socket>(connection: tokio_postgres::Connection<S, NoTlsStream>, mut open: Open) {
    if let Err(error) = connection.await {
        open.broken = true;
        let (conn, message) = (open.conn, describe(&error).into());
        open.recorder.record(What::ConnBroken { conn, message });
    }
}

/// An open connection, told of when it ends in order or by abort.
struct Open {
    recorder: Recorder,
    conn: ConnId,
    broken: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.broken {
            self.recorder.record(What::ConnClosed { conn: self.conn });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::pool::testing::{Door, TestServer, settle};

    fn conn(n: u32) -> ConnId {
        ConnId(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_and_its_end_are_told() {
        let server = TestServer::new();
        let connection = server.connector().connect().await.unwrap();
        let pid = *server.backends().keys().next().unwrap();
        assert_eq!(identify(&connection.client), pid);
        drop(connection);
        settle().await;
        assert_eq!(
            server.events(),
            [
                What::Dial { conn: conn(1), pool: PoolId(1) },
                What::Connected { conn: conn(1), pid },
                What::ConnClosed { conn: conn(1) },
            ]
        );
        assert_eq!(server.count(), 0, "Terminate was sent");
        assert_eq!(server.recorder().conn_of(pid), Some(conn(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn identify_takes_no_round_trip() {
        let server = TestServer::new();
        let connection = server.connector().connect().await.unwrap();
        server.set_mute(true);
        assert_eq!(identify(&connection.client), 101);
        server.kill_all();
        settle().await;
        assert_eq!(identify(&connection.client), 101, "a broken connection keeps its pid");
        assert!(server.statements().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_dial_is_the_drivers_error_with_the_io_error_inside() {
        let server = TestServer::new();
        server.set_door(Door::Refused);
        let error = server.connector().connect().await.err().unwrap();
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            server.events()[1],
            What::DialFailed {
                conn: conn(1),
                message: "error connecting to server: connection refused".into(),
                code: None
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_startup_keeps_its_sqlstate() {
        let server = TestServer::new();
        server.set_door(Door::Full);
        let error = server.connector().connect().await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "53300");
        assert_eq!(
            server.events()[1],
            What::DialFailed {
                conn: conn(1),
                message: "db error: FATAL: sorry, too many clients already".into(),
                code: Some("53300".to_owned())
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn connect_timeout_covers_the_stream_and_not_the_startup() {
        let server = TestServer::new();
        let connector = server.connector_with(|config| {
            config.connect_timeout(Duration::from_secs(3));
        });
        server.set_door(Door::Lost);
        let began = tokio::time::Instant::now();
        let error = connector.connect().await.err().unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
        assert_eq!(source.to_string(), "connection timed out");

        server.set_door(Door::Silent);
        let hung = tokio::time::timeout(Duration::from_secs(3600), connector.connect()).await;
        assert!(hung.is_err(), "a silent server is not covered");
        assert_eq!(*server.events().last().unwrap(), What::DialDropped { conn: conn(2) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_is_told_once_its_client_is_known_closed() {
        let server = TestServer::new();
        let connection = server.connector().connect().await.unwrap();
        server.kill_all();
        settle().await;
        assert!(connection.client.is_closed());
        let broken = What::ConnBroken {
            conn: conn(1),
            message: "db error: FATAL: terminating connection due to administrator command".into(),
        };
        assert_eq!(*server.events().last().unwrap(), broken);
        drop(connection);
        settle().await;
        assert_eq!(*server.events().last().unwrap(), broken, "a broken connection isn't closed once more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_task_closes_the_stream() {
        let server = TestServer::new();
        let connection = server.connector().connect().await.unwrap();
        connection.task.abort();
        settle().await;
        assert!(connection.client.is_closed());
        assert_eq!(*server.events().last().unwrap(), What::ConnClosed { conn: conn(1) });
        assert_eq!(server.count(), 0);
    }
}
