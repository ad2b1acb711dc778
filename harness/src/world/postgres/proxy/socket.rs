//! The app's end of a flow: a real socket, with what the kernel would do to it if the proxy were a network.
//!
//! Bytes read are counted, so that unread ones are known. The seat can take the socket away from a process that died, and the
//! proxy from one whose kernel would have given up by its timers: the proxy's end of the loopback acknowledges all, so those timers
//! never fire by themselves.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use poolproof_sim::net::SocketOptions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is behind a [`SeatStream`], shared with the proxy.
#[derive(Debug)]
pub(super) struct AppEnd {
    /// As the app set them.
    pub(super) options: SocketOptions,
    read: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stream: Option<TcpStream>,
    /// Why there is no stream any more.
    error: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl AppEnd {
    pub(super) fn new(options: SocketOptions) -> Arc<AppEnd> {
        Arc::new(AppEnd { options, read: AtomicU64::new(0), inner: Mutex::default() })
    }

    /// The connect succeeded. Error: the process died meanwhile.
    pub(super) fn attach(self: &Arc<Self>, stream: TcpStream) -> io::Result<SeatStream> {
        let mut inner = self.inner.lock();
        if let Some(error) = inner.error {
            return Err(error.into());
        }
        inner.stream = Some(stream);
        drop(inner);
        Ok(SeatStream { end: Arc::clone(self) })
    }

    /// Bytes that the app has read.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Closes the socket as the kernel does: with a FIN, or a RST if data is unread. Whoever still holds the stream gets this
    /// error from everything.
    pub(super) fn take_away(&self, error: io::ErrorKind) {
        let (stream, wakers) = {
            let mut inner = self.inner.lock();
            inner.error.get_or_insert(error);
            (inner.stream.take(), [inner.reader.take(), inner.writer.take()])
        };
        drop(stream);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A stream that [`super::Seat::dial`] opened. Dropping it closes the socket.
#[derive(Debug)]
pub struct SeatStream {
    end: Arc<AppEnd>,
}

impl SeatStream {
    /// The app's own address.
    ///
    /// # Errors
    /// What the stream's other operations fail with.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        let inner = self.end.inner.lock();
        match &inner.stream {
            Some(stream) => stream.local_addr(),
            None => Err(gone(&inner)),
        }
    }

    fn with<R>(
        &self,
        cx: &mut Context<'_>,
        waker: fn(&mut Inner) -> &mut Option<Waker>,
        operation: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let mut inner = self.end.inner.lock();
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(gone(&inner))) };
        let result = operation(Pin::new(stream), cx);
        if result.is_pending() {
            let known = waker(&mut inner);
            match known {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *known = Some(cx.waker().clone()),
            }
        }
        result
    }
}

fn gone(inner: &Inner) -> io::Error {
    inner.error.unwrap_or(io::ErrorKind::NotConnected).into()
}

impl Drop for SeatStream {
    fn drop(&mut self) {
        self.end.take_away(io::ErrorKind::NotConnected);
    }
}

impl AsyncRead for SeatStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = self.with(cx, |inner| &mut inner.reader, |stream, cx| stream.poll_read(cx, buf));
        let read = buf.filled().len() - before;
        self.end.read.fetch_add(read as u64, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for SeatStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(cx, |inner| &mut inner.writer, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |inner| &mut inner.writer, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |inner| &mut inner.writer, |stream, cx| stream.poll_shutdown(cx))
    }
}
