//! A backend's end of the connection: one socket, what has arrived, and what is to be sent.
//!
//! PostgreSQL collects what it sends in a buffer and hands it to the kernel at ReadyForQuery, at Flush, and when 8 kB
//! are full. Here a mark says how much of the buffer must be on its way before the backend waits for anything, so a
//! pipeline of messages is answered with one write.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use crate::net::{Keepalive, SocketOptions};

/// The stream that a client is served over.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the peer's FIN or RST has arrived, though bytes before it may be unread: what `POLLRDHUP` tells
    /// `client_connection_check_interval`. A stream that cannot tell answers `Pending`, and the check finds nothing.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// `tcp_keepalives_idle`, `_interval` (seconds), `_count` and `tcp_user_timeout` (milliseconds) of the session;
    /// 0 leaves the system's default. Called when the session starts and when one of them changes.
    fn set_keepalive(&mut self, idle_s: u32, interval_s: u32, count: u32, user_timeout_ms: u32) {
        let _ = (idle_s, interval_s, count, user_timeout_ms);
    }
}

impl Socket for tokio::io::DuplexStream {}

impl Socket for crate::net::Stream {
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        crate::net::Stream::poll_hangup(self, cx)
    }

    fn set_keepalive(&mut self, idle_s: u32, interval_s: u32, count: u32, user_timeout_ms: u32) {
        let system = Keepalive::default();
        let seconds = |given: u32, default: Duration| match given {
            0 => default,
            given => Duration::from_secs(given.into()),
        };
        self.set_options(SocketOptions {
            keepalive: Some(Keepalive {
                idle: seconds(idle_s, system.idle),
                interval: seconds(interval_s, system.interval),
                count: if count == 0 { system.count } else { count },
            }),
            user_timeout: (user_timeout_ms > 0).then(|| Duration::from_millis(user_timeout_ms.into())),
        });
    }
}

/// Bytes that PostgreSQL collects before it sends them unasked (`PQ_SEND_BUFFER_SIZE`).
const SEND_BUFFER: usize = 8192;
/// Room kept for reading, bytes.
const READ_BUFFER: usize = 4096;

/// The socket with its buffers.
#[derive(Debug)]
pub(super) struct Link<S> {
    pub(super) socket: S,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    /// How much of `output` must be sent before the next wait.
    due: usize,
}

impl<S: Socket> Link<S> {
    pub(super) fn new(socket: S) -> Link<S> {
        Link {
            socket,
            input: BytesMut::with_capacity(READ_BUFFER),
            output: BytesMut::with_capacity(SEND_BUFFER),
            due: 0,
        }
    }

    /// Everything written so far is to be sent before the backend waits.
    pub(super) fn flush(&mut self) {
        self.due = self.output.len();
    }

    /// Whether something has to be sent before the backend may wait.
    pub(super) fn is_due(&self) -> bool {
        self.due > 0
    }

    /// Whether a large result should be sent before it grows further.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= SEND_BUFFER
    }

    /// Sends what is due.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.due > 0 {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.output[..self.due]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
            self.due -= sent;
        }
        if self.output.is_empty() {
            // Gives the whole buffer back, instead of what is left behind the bytes sent.
            self.output.clear();
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Reads what has arrived: the number of bytes, 0 at the peer's FIN.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < READ_BUFFER / 4 {
            self.input.reserve(READ_BUFFER);
        }
        // The future of read_buf keeps no state between polls.
        pin!(self.socket.read_buf(&mut self.input)).poll(cx)
    }
}

/// One timer for all of a session's timeouts, moved only when it would be late.
///
/// Most deadlines are withdrawn before they come. A timer that is set to an earlier time than needed is left alone and
/// set anew when it fires, so that a statement with a timeout costs a comparison and no timer registration.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline || (sleep.is_elapsed() && sleep.deadline() != deadline) {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
