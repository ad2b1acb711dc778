//! One end of a connection, as a program holds it.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::events::Event;
use super::flow::{Flow, FlowId, Holder, Phase, StreamState};
use super::host::killed;
use super::timers::SocketOptions;
use super::world::{Outbox, Shared, World};

/// A TCP stream. Dropping it is `close(2)`: a FIN after what was written, or a RST if received data was not read.
///
/// Reads: data; then the end of stream after a FIN; an error once after a RST or timeout, the end of stream after that. Writes
/// after the peer closed: the first succeeds, a RST comes back, the next fails with `BrokenPipe`. All of it as on Linux.
pub struct Stream {
    shared: Arc<Shared>,
    id: FlowId,
    end: usize,
    local: SocketAddr,
    peer: SocketAddr,
}

/// Looks at a stream, and acts on it, without holding it. Cheap to clone.
#[derive(Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    id: FlowId,
    end: usize,
    local: SocketAddr,
    peer: SocketAddr,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, id: FlowId, end: usize, local: SocketAddr, peer: SocketAddr) -> Stream {
        Stream { shared, id, end, local, peer }
    }

    /// This end's address. Together with the peer's it names the connection for the whole run.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// A handle that outlives the stream.
    #[must_use]
    pub fn handle(&self) -> StreamHandle {
        StreamHandle {
            shared: Arc::clone(&self.shared),
            id: self.id,
            end: self.end,
            local: self.local,
            peer: self.peer,
        }
    }

    /// Bytes received and not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.handle().unread()
    }

    /// The peer's FIN, a RST or a timeout is here, even if unread data comes before it (`POLLRDHUP`, see poll(2)).
    #[must_use]
    pub fn is_hungup(&self) -> bool {
        self.shared.with(|w| w.flow(self.id).is_none_or(|f| hungup(f, self.end)))
    }

    /// Waits for [`Stream::is_hungup`].
    pub fn poll_hangup(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.with(|w| match w.flow_and_out(self.id) {
            Some((flow, out)) if !hungup(flow, self.end) => {
                out.remember(&mut flow.ends[self.end].hangup, cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }

    /// `close(2)` with `SO_LINGER` of 0 seconds: a RST, and what was not sent yet is lost.
    pub fn abort(self) {
        self.shared.with(|w| w.abort(self.id, self.end));
    }

    /// Sets the socket's options, `setsockopt(2)`.
    pub fn set_options(&self, options: SocketOptions) {
        self.shared.with(|w| {
            let now = w.now();
            if let Some(flow) = w.flow(self.id) {
                let end = &mut flow.ends[self.end];
                end.options = options;
                end.keepalive.armed = false;
                end.keepalive.generation = end.keepalive.generation.wrapping_add(1);
                w.arm_keepalive(self.id, self.end, now);
            }
        });
    }
}

fn hungup(flow: &Flow, of: usize) -> bool {
    let end = &flow.ends[of];
    end.killed || end.peer_closed || end.phase != Phase::Open
}

impl StreamHandle {
    /// A number that names the connection in its network, growing with its age's beginning; both ends have the same.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.id.serial
    }

    /// This end's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes received and not read; none when the stream is gone.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.shared.with(|w| w.flow(self.id).map_or(0, |f| f.ends[self.end].unread.len()))
    }

    /// What this end is now.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.shared.with(|w| w.flow(self.id).map_or(StreamState::Gone, |f| f.ends[self.end].state()))
    }

    /// Both ends get a RST now.
    pub fn reset(&self) {
        self.shared.with(|w| w.reset_flow(self.id));
    }

    /// From now on the network drops this connection's segments silently.
    pub fn silence(&self) {
        self.shared.with(|w| w.forget(self.id));
    }
}

impl World {
    fn read(&mut self, id: FlowId, of: usize, cx: &Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some((flow, out)) = self.flow_and_out(id) else {
            return Poll::Ready(Err(killed()));
        };
        let end = &mut flow.ends[of];
        if end.killed {
            return Poll::Ready(Err(killed()));
        }
        let n = end.unread.len().min(buffer.remaining());
        if n > 0 {
            buffer.put_slice(end.unread.front(n));
            end.unread.advance(n);
            let peer = &flow.ends[1 - of].sender;
            if peer.sent < peer.limit() {
                self.update_window(id, of);
            }
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() == 0 || end.peer_closed {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = end.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        if end.phase != Phase::Open {
            return Poll::Ready(Ok(()));
        }
        out.remember(&mut end.reader, cx);
        Poll::Pending
    }

    fn write(&mut self, id: FlowId, of: usize, cx: &Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (send_buffer, receive_buffer) = (self.send_buffer as u64, self.receive_buffer);
        let now = self.now();
        let Some((flow, out)) = self.flow_and_out(id) else {
            return Poll::Ready(Err(killed()));
        };
        let end = &mut flow.ends[of];
        if end.killed {
            return Poll::Ready(Err(killed()));
        }
        if end.phase != Phase::Open {
            return Poll::Ready(Err(end.error.take().unwrap_or(io::ErrorKind::BrokenPipe).into()));
        }
        if end.sender.fin {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let total: usize = parts.iter().map(|p| p.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if is_direct(flow, of) {
            let written = deliver(flow, out, of, now, parts, receive_buffer);
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
        }
        let sender = &mut flow.ends[of].sender;
        sender.collect_acks(now);
        let room = send_buffer.saturating_sub(sender.end - sender.acked.min(sender.end));
        let taken = total.min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 {
            let ack = sender.acks.front().copied();
            out.remember(&mut flow.ends[of].writer, cx);
            if let Some((seq, at)) = ack {
                self.schedule(at, id, Event::Ack { to: of, seq });
            }
            return Poll::Pending;
        }
        let mut rest = taken;
        for part in parts {
            let n = part.len().min(rest);
            sender.bytes.push(&part[..n]);
            rest -= n;
        }
        sender.end += taken as u64;
        self.pump(id, of, now);
        self.persist(id, of, now);
        Poll::Ready(Ok(taken))
    }
}

/// Nothing delays bytes from this end, and none are on their way.
fn is_direct(flow: &Flow, from: usize) -> bool {
    let sender = &flow.ends[from].sender;
    let peer = &flow.ends[1 - from];
    flow.paths[0].direct
        && flow.paths[1].direct
        && peer.phase == Phase::Open
        && peer.holder != Holder::Nobody
        && sender.retransmission.is_none()
        // A segment would carry an ACK that the peer's timer waits for.
        && peer.sender.retransmission.is_none()
        && sender.bytes.is_empty()
        && sender.acks.is_empty()
}

/// Puts what fits straight into the peer's buffer: sent, arrived and acknowledged in one.
fn deliver(
    flow: &mut Flow,
    out: &mut Outbox,
    from: usize,
    now: u64,
    parts: &[IoSlice<'_>],
    receive_buffer: usize,
) -> usize {
    flow.seen = now;
    flow.ends[from].heard = now;
    let peer = &mut flow.ends[1 - from];
    peer.heard = now;
    let mut room = receive_buffer.saturating_sub(peer.unread.len());
    let mut written = 0;
    for part in parts {
        let n = part.len().min(room);
        peer.unread.push(&part[..n]);
        room -= n;
        written += n;
    }
    if written > 0 {
        out.wake(peer.reader.take());
        let sender = &mut flow.ends[from].sender;
        sender.end += written as u64;
        sender.sent = sender.end;
        sender.arrived = sender.end;
        sender.acked = sender.end;
    }
    written
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|w| w.read(self.id, self.end, cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.with(|w| w.write(self.id, self.end, cx, &[IoSlice::new(bytes)]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.with(|w| w.write(self.id, self.end, cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|w| w.shutdown_write(self.id, self.end));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.with(|w| w.close(self.id, self.end));
    }
}
