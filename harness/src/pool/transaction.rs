//! What a client library knows of its session's transaction: libpq's `PQtransactionStatus`, read off the wire.
//!
//! tokio-postgres keeps the status byte of ReadyForQuery to itself. libpq tells it, and drivers on libpq decide by it:
//! psycopg2 sends ROLLBACK only inside a transaction. So the stream of a connection that needs it is watched: the answers'
//! ReadyForQuery bytes, and the requests that will be answered by one (Query, Sync, FunctionCall;
//! <https://www.postgresql.org/docs/15/protocol-message-formats.html>). Nothing is changed or held back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::connector::Socket;

/// `PGTransactionStatusType`, without what a closed connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `PQTRANS_IDLE`: not in a transaction.
    Idle,
    /// `PQTRANS_ACTIVE`: a request was sent, and its ReadyForQuery has not come.
    Active,
    /// `PQTRANS_INTRANS`: idle in a transaction.
    InTransaction,
    /// `PQTRANS_INERROR`: idle in a transaction that has failed.
    InError,
}

/// What was seen so far on one connection.
#[derive(Debug, Default)]
pub struct TransactionWatch {
    requests: AtomicU32,
    answers: AtomicU32,
    last: AtomicU8,
    /// The stream is gone: no answer will come any more.
    gone: AtomicBool,
    changed: Notify,
}

impl TransactionWatch {
    /// The status now.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        if self.requests.load(Ordering::Relaxed) != self.answers.load(Ordering::Relaxed) {
            return TransactionStatus::Active;
        }
        match self.last.load(Ordering::Relaxed) {
            b'T' => TransactionStatus::InTransaction,
            b'E' => TransactionStatus::InError,
            _ => TransactionStatus::Idle,
        }
    }

    /// Waits until no request is without its answer, or none will come.
    pub(super) async fn at_rest(&self) {
        loop {
            let changed = self.changed.notified();
            if self.status() != TransactionStatus::Active || self.gone.load(Ordering::Relaxed) {
                return;
            }
            changed.await;
        }
    }

    fn requested(&self, kind: u8) {
        if matches!(kind, b'Q' | b'S' | b'F') {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answered(&self, kind: u8, first: u8) {
        if kind == b'Z' {
            // The startup is answered by one, too: nobody asked by a message of its own.
            if self.last.swap(first, Ordering::Relaxed) != 0 {
                self.answers.fetch_add(1, Ordering::Relaxed);
            }
            self.changed.notify_waiters();
        }
    }

    fn end(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// A stream of a client, watched.
pub(super) struct WatchedSocket {
    inner: Box<dyn Socket>,
    watch: Arc<TransactionWatch>,
    requests: Messages,
    answers: Messages,
}

impl WatchedSocket {
    pub(super) fn new(inner: Box<dyn Socket>, watch: Arc<TransactionWatch>) -> WatchedSocket {
        // What a client sends first, StartupMessage, has no type byte. There is no SSLRequest: the world has no TLS.
        WatchedSocket { inner, watch, requests: Messages::untyped(), answers: Messages::typed() }
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        self.watch.end();
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.answers.take(&buf.filled()[before..], |kind, first| this.watch.answered(kind, first));
        polled
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            this.requests.take(&buf[..written], |kind, _| this.watch.requested(kind));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Finds messages in the bytes of one direction, in whatever pieces they come.
#[derive(Debug)]
struct Messages {
    /// The next message's type and length, as far as they have come: five bytes, and one of the body.
    head: [u8; 6],
    len: usize,
    /// Bytes of the present message's body that are still to come.
    rest: usize,
}

impl Messages {
    fn typed() -> Messages {
        Messages { head: [0; 6], len: 0, rest: 0 }
    }

    /// The first message has no type byte: it counts as one of type 0.
    fn untyped() -> Messages {
        Messages { len: 1, ..Messages::typed() }
    }

    /// Calls `each` with the type and the first byte of the body (0 if it has none) of every message, once that byte came.
    fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.len] = bytes[0];
            self.len += 1;
            bytes = &bytes[1..];
            if self.len < 5 {
                continue;
            }
            let [kind, a, b, c, d, first] = self.head;
            let body = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
            if self.len == 5 && body > 0 {
                continue;
            }
            each(kind, if body > 0 { first } else { 0 });
            self.rest = body.saturating_sub(1);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn messages_are_found_in_any_pieces() {
        let all = [message(b'R', &[0; 4]), message(b'Z', b"T"), message(b'S', b""), message(b'Z', b"I")].concat();
        for piece in 1..=all.len() {
            let (mut messages, mut seen) = (Messages::typed(), Vec::new());
            for bytes in all.chunks(piece) {
                messages.take(bytes, |kind, first| seen.push((kind, first)));
            }
            assert_eq!(seen, [(b'R', 0), (b'Z', b'T'), (b'S', 0), (b'Z', b'I')], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_startup_message_has_no_type() {
        let startup = message(0, b"\0\x03\0\0user\0app\0\0");
        let (mut messages, mut seen) = (Messages::untyped(), Vec::new());
        let bytes = [&startup[1..], &message(b'Q', b"BEGIN\0")].concat();
        messages.take(&bytes, |kind, _| seen.push(kind));
        assert_eq!(seen, [0, b'Q']);
    }

    #[test]
    fn the_status_follows_requests_and_answers() {
        let watch = TransactionWatch::default();
        watch.answered(b'Z', b'I');
        assert_eq!(watch.status(), TransactionStatus::Idle);
        watch.requested(b'Q');
        assert_eq!(watch.status(), TransactionStatus::Active);
        watch.answered(b'C', 0);
        watch.answered(b'Z', b'T');
        assert_eq!(watch.status(), TransactionStatus::InTransaction);
        watch.requested(b'P');
        assert_eq!(watch.status(), TransactionStatus::InTransaction, "libpq would say active; no answer is due yet");
        watch.requested(b'S');
        watch.answered(b'Z', b'E');
        assert_eq!(watch.status(), TransactionStatus::InError);
    }
}
