//! One end of a flow, as the program there holds it: turmoil's stream, and what a kill, a middlebox's RST or the loss of
//! power does to it, which turmoil has no words for.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ::turmoil::net::TcpStream;
use parking_lot::Mutex;
use poolproof_sim::postgres;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many unread bytes are looked at; more count as so many.
const LOOK: usize = 4096;

/// Who holds a client's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) app: Arc<str>,
    pub(super) seat: u32,
}

/// The ends of one side, found by the client's address, until their programs close them.
#[derive(Default)]
pub(super) struct Ends {
    open: Mutex<BTreeMap<SocketAddr, Entry>>,
}

struct Entry {
    state: Arc<Mutex<State>>,
    seat: Option<Seat>,
    opened: Instant,
}

/// A stream as a program holds it. It must be used and dropped where turmoil's stream was made: in its host's turn.
pub(super) struct End {
    state: Arc<Mutex<State>>,
    ends: Arc<Ends>,
    client: SocketAddr,
}

struct State {
    stream: Option<TcpStream>,
    fate: Fate,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// The program was killed: nothing that it still writes gets out.
    Killed,
    /// A RST came, and the program has not been told.
    Reset,
    /// It has been told: there is nothing more to read, and nobody to write to.
    Broken,
}

fn killed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the simulated process is dead")
}

/// The bare kind, as the kernel's errors have no other text than their meaning.
fn plain(error: &io::Error) -> io::Error {
    error.kind().into()
}

impl Ends {
    /// Takes a new stream in.
    pub(super) fn hold(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, seat: Option<Seat>) -> End {
        let state = State { stream: Some(stream), fate: Fate::Whole, reader: None, writer: None };
        let state = Arc::new(Mutex::new(state));
        self.open.lock().insert(client, Entry { state: Arc::clone(&state), seat, opened: Instant::now() });
        End { state, ends: Arc::clone(self), client }
    }

    /// The clients' addresses of the ends of an app (of all apps), those that are at least so old.
    pub(super) fn of_app(&self, app: Option<&str>, older_than: Option<std::time::Duration>) -> Vec<SocketAddr> {
        let open = self.open.lock();
        let of_app = open.iter().filter(|(_, entry)| {
            entry.seat.as_ref().is_some_and(|seat| app.is_none_or(|app| *seat.app == *app))
                && older_than.is_none_or(|age| entry.opened.elapsed() >= age)
        });
        of_app.map(|(address, _)| *address).collect()
    }

    /// The kernel closes the sockets of a killed process. To be called in its host's turn.
    pub(super) fn kill(&self, seat: &Seat) {
        drop(self.take(seat));
    }

    /// The sockets of a process whose machine is gone: nobody reads them any more, and nobody closes them.
    pub(super) fn take(&self, seat: &Seat) -> Vec<TcpStream> {
        let open = self.open.lock();
        let of_seat = open.values().filter(|entry| entry.seat.as_ref() == Some(seat));
        of_seat.filter_map(|entry| entry.state.lock().end(Fate::Killed, true)).collect()
    }

    /// Whatever these programs still write does not get out. Their streams are closed by themselves.
    pub(super) fn silence(&self) {
        for entry in self.open.lock().values() {
            entry.state.lock().end(Fate::Killed, false);
        }
    }

    /// A RST comes to the end of this client's flow.
    pub(super) fn reset(&self, client: &SocketAddr) {
        if let Some(entry) = self.open.lock().get(client) {
            entry.state.lock().end(Fate::Reset, false);
        }
    }

    /// Bytes that were received at this end and not read.
    pub(super) fn unread(&self, client: &SocketAddr) -> u64 {
        self.open.lock().get(client).map_or(0, |entry| entry.state.lock().unread())
    }
}

impl State {
    /// Ends it so, if nothing has ended it before, and gives the stream if it is to go.
    fn end(&mut self, fate: Fate, take: bool) -> Option<TcpStream> {
        if matches!(self.fate, Fate::Whole | Fate::Reset) {
            self.fate = fate;
        }
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
        if take { self.stream.take() } else { None }
    }

    /// A look that keeps the reader's waker in place, as turmoil's stream has one only.
    fn unread(&mut self) -> u64 {
        let Some(stream) = &mut self.stream else { return 0 };
        let waker = self.reader.as_ref().unwrap_or(Waker::noop());
        let mut bytes = [0; LOOK];
        match stream.poll_peek(&mut Context::from_waker(waker), &mut ReadBuf::new(&mut bytes)) {
            Poll::Ready(Ok(count)) => count as u64,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.fate != Fate::Killed) else {
            return Poll::Ready(Err(killed()));
        };
        // What came before the RST can still be read.
        if let Poll::Ready(read) = Pin::new(stream).poll_read(cx, buffer) {
            return Poll::Ready(read.map_err(|error| plain(&error)));
        }
        match self.fate {
            Fate::Reset => {
                self.fate = Fate::Broken;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Fate::Broken => Poll::Ready(Ok(())),
            Fate::Whole | Fate::Killed => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let fate = self.fate;
        let Some(stream) = self.stream.as_mut().filter(|_| fate != Fate::Killed) else {
            return Poll::Ready(Err(killed()));
        };
        match fate {
            Fate::Reset => {
                self.fate = Fate::Broken;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Fate::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Fate::Whole | Fate::Killed => {
                let written = Pin::new(stream).poll_write(cx, bytes);
                if written.is_pending() {
                    self.writer = Some(cx.waker().clone());
                }
                written.map_err(|error| plain(&error))
            }
        }
    }

    fn shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match (&mut self.stream, self.fate) {
            (Some(stream), Fate::Whole) => Pin::new(stream).poll_shutdown(cx).map_err(|error| plain(&error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.state.lock().read(cx, buffer)
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.state.lock().write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.lock().shutdown(cx)
    }
}

/// turmoil tells nobody of a FIN before what came before it was read, and has no keepalive.
impl postgres::Socket for End {}

impl Drop for End {
    fn drop(&mut self) {
        {
            let mut open = self.ends.open.lock();
            if open.get(&self.client).is_some_and(|entry| Arc::ptr_eq(&entry.state, &self.state)) {
                open.remove(&self.client);
            }
        }
        let stream = self.state.lock().stream.take();
        drop(stream);
    }
}
