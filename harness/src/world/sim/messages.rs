//! What befalls a connection at one of its protocol messages: `net.message`.
//!
//! The client's ends of streams are wrapped where a scenario has such a fault (or varies the order of events, or a run's
//! messages are counted); all others pass as they are. The wrapper finds the messages in the bytes that go by
//! (<https://www.postgresql.org/docs/15/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS>), and does what is due in front
//! of the first byte of a message or behind its last one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use poolproof_sim::net::Stream;
use poolproof_sim::postgres::event::Pid;
use poolproof_sim::postgres::server::Server;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::census;
use crate::interleave::{Order, Yields};
use crate::scenario::model::{AtMessage, FaultAction, MessagePlace, Scenario};

/// What is told when a fault strikes: whether there was anything to strike.
type Told = Box<dyn Fn(bool) + Send>;

/// What waits for its message.
struct Rule {
    place: MessagePlace,
    what: AtMessage,
    told: Told,
}

/// The faults at messages of a run, and its dials.
pub(super) struct Messages {
    servers: Vec<Server>,
    order: Option<Order>,
    /// Whether streams are looked at.
    watches: bool,
    dials: AtomicU32,
    rules: Mutex<Vec<Rule>>,
}

impl Messages {
    /// None is armed yet.
    #[must_use]
    pub(super) fn new(scenario: &Scenario, seed: u64, servers: Vec<Server>) -> Messages {
        let order = Order::of(scenario, seed);
        let has_any = scenario.faults.iter().any(|fault| matches!(fault.action, FaultAction::NetMessage { .. }));
        Messages {
            servers,
            order,
            watches: has_any || order.is_some() || census::is_on(),
            dials: AtomicU32::new(0),
            rules: Mutex::default(),
        }
    }

    /// From now on this happens at this message, once. `told` is told when it does.
    pub(super) fn arm(&self, place: MessagePlace, what: AtMessage, told: Told) {
        self.rules.lock().push(Rule { place, what, told });
    }

    /// What has not happened yet does not happen any more.
    pub(super) fn disarm(&self) {
        self.rules.lock().clear();
        census::faults_are_over();
    }

    /// The next dial of the run; `None` if its stream may pass as it is.
    pub(super) fn dial(messages: &Arc<Messages>) -> Option<Dialled> {
        let number = messages.dials.fetch_add(1, Ordering::Relaxed) + 1;
        let yields = |what: &str| messages.order.map(|order| Yields::new(order, &format!("{what} of dial {number}")));
        messages.watches.then(|| Dialled {
            reads: yields("reads"),
            writes: yields("writes"),
            messages: Arc::clone(messages),
            number,
        })
    }

    /// Whether anything waits for a message of this direction of this connection.
    fn waits(&self, dial: u32, to_server: bool) -> bool {
        self.rules.lock().iter().any(|rule| rule.place.connection == dial && rule.place.to_server == to_server)
    }

    /// The first place in these bytes at which anything is due.
    fn next(&self, dial: u32, to_server: bool, framing: Framing, bytes: &[u8]) -> Option<usize> {
        let rules = self.rules.lock();
        let of_this = rules.iter().filter(|rule| rule.place.connection == dial && rule.place.to_server == to_server);
        of_this.filter_map(|rule| framing.find(rule.place, bytes)).min()
    }

    /// Takes what is due at this very place: before the message that would begin here if bytes follow, and behind the one
    /// that ended here.
    fn due(&self, dial: u32, to_server: bool, framing: Framing, follows: bool) -> Option<Rule> {
        let mut rules = self.rules.lock();
        let is_due = |rule: &Rule| {
            let place = rule.place;
            let here =
                if place.after { framing.complete == place.message } else { framing.complete + 1 == place.message };
            place.connection == dial
                && place.to_server == to_server
                && framing.is_between()
                && here
                && (place.after || follows)
        };
        rules.iter().position(is_due).map(|found| rules.remove(found))
    }

    /// Signals the backend of the client at this address; false if there is none.
    fn signal(&self, client: SocketAddr, signal: impl Fn(&Server, Pid) -> bool) -> bool {
        self.servers.iter().any(|server| {
            let backends = server.backends();
            let backend = backends.iter().find(|backend| backend.peer == client);
            backend.is_some_and(|backend| signal(server, backend.pid))
        })
    }
}

/// A dial whose stream is looked at.
pub(super) struct Dialled {
    messages: Arc<Messages>,
    number: u32,
    reads: Option<Yields>,
    writes: Option<Yields>,
}

/// A client's end of a connection, at whose messages something may happen.
pub(super) struct MessageStream {
    stream: Stream,
    dial: Dialled,
    sent: Framing,
    received: Framing,
    /// Bytes that have come, and that the program has not got yet, since something is due among them.
    held: Vec<u8>,
    /// Nothing that comes gets through any more.
    deaf: bool,
    read_stall: Option<Pin<Box<Sleep>>>,
    write_stall: Option<Pin<Box<Sleep>>>,
}

impl MessageStream {
    pub(super) fn new(stream: Stream, dial: Dialled) -> MessageStream {
        MessageStream {
            stream,
            dial,
            // StartupMessage has no type byte. There is no SSLRequest: the world has no TLS.
            sent: Framing::untyped(),
            received: Framing::default(),
            held: Vec::new(),
            deaf: false,
            read_stall: None,
            write_stall: None,
        }
    }

    fn strike(&mut self, rule: &Rule) {
        let mut struck = true;
        match rule.what {
            AtMessage::Cut => self.stream.handle().reset(),
            AtMessage::Silence => self.stream.handle().silence(),
            AtMessage::Terminate => struck = self.dial.messages.signal(self.stream.local_addr(), Server::terminate),
            AtMessage::Cancel => struck = self.dial.messages.signal(self.stream.local_addr(), Server::cancel),
            AtMessage::Starve => {
                let client = self.stream.local_addr();
                self.dial.messages.servers.iter().for_each(|server| server.starve(client));
            }
            AtMessage::Delay(by) => {
                let stall = if rule.place.to_server { &mut self.write_stall } else { &mut self.read_stall };
                *stall = Some(Box::pin(sleep(by)));
            }
        }
        if !rule.place.to_server && matches!(rule.what, AtMessage::Cut | AtMessage::Silence) {
            self.deaf = true;
            self.held.clear();
        }
        (rule.told)(struck);
    }

    /// Does all that is due here. `follows`: a byte follows.
    fn strike_due(&mut self, to_server: bool, follows: bool) {
        let framing = if to_server { self.sent } else { self.received };
        while let Some(rule) = self.dial.messages.due(self.dial.number, to_server, framing, follows) {
            self.strike(&rule);
        }
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        self.sent.pass(bytes);
        census::messages(self.dial.number, true, self.sent.complete);
    }

    fn note_received(&mut self, bytes: &[u8]) {
        self.received.pass(bytes);
        census::messages(self.dial.number, false, self.received.complete);
    }

    /// Reads what comes, and forgets it, until there is no more.
    fn poll_deaf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut lost = [0; 1024];
            let mut lost = ReadBuf::new(&mut lost);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut lost))?;
            if lost.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Waits until a stall is over.
fn poll_stall(stall: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = stall {
        ready!(sleep.as_mut().poll(cx));
        *stall = None;
    }
    Poll::Ready(())
}

fn poll_yields(yields: &mut Option<Yields>, cx: &mut Context<'_>) -> Poll<()> {
    yields.as_mut().map_or(Poll::Ready(()), |yields| yields.poll_pause(cx))
}

impl AsyncRead for MessageStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(poll_yields(&mut this.dial.reads, cx));
        loop {
            if this.deaf {
                return this.poll_deaf(cx);
            }
            ready!(poll_stall(&mut this.read_stall, cx));
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                if !this.dial.messages.waits(this.dial.number, false) {
                    let before = buf.filled().len();
                    let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
                    this.note_received(&buf.filled()[before..]);
                    return polled;
                }
                let mut came = [0; 8192];
                let mut came = ReadBuf::new(&mut came);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut came))?;
                if came.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.held.extend_from_slice(came.filled());
            }
            this.strike_due(false, true);
            if this.deaf || this.read_stall.is_some() {
                continue;
            }
            let next = this.dial.messages.next(this.dial.number, false, this.received, &this.held);
            let count = next.unwrap_or(this.held.len()).min(buf.remaining());
            let passed: Vec<u8> = this.held.drain(..count).collect();
            buf.put_slice(&passed);
            this.note_received(&passed);
            this.strike_due(false, false);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(poll_yields(&mut this.dial.writes, cx));
        ready!(poll_stall(&mut this.write_stall, cx));
        this.strike_due(true, !buf.is_empty());
        ready!(poll_stall(&mut this.write_stall, cx));
        let next = this.dial.messages.next(this.dial.number, true, this.sent, buf);
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &buf[..next.unwrap_or(buf.len())]))?;
        this.note_sent(&buf[..written]);
        this.strike_due(true, false);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Where one direction of a connection is among its messages.
#[derive(Debug, Clone, Copy, Default)]
struct Framing {
    /// Whether the present message has no type byte.
    untyped: bool,
    /// Bytes of the present message's type and length that have gone by, of five.
    head: u8,
    /// Its length, as far as it is known.
    length: u32,
    /// Bytes of its body that are still to come.
    rest: u32,
    /// Whole messages that have gone by.
    complete: u32,
}

impl Framing {
    /// The first message has no type byte.
    fn untyped() -> Framing {
        Framing { untyped: true, head: 1, ..Framing::default() }
    }

    /// Whether the last message is whole, and the next one has not begun.
    fn is_between(self) -> bool {
        self.head == u8::from(self.untyped)
    }

    /// Passes bytes of the present message, up to its end. Gives how many.
    fn pass_one(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            if self.rest > 0 {
                let body = (self.rest as usize).min(bytes.len() - passed);
                passed += body;
                self.rest -= u32::try_from(body).unwrap_or(self.rest);
            } else {
                if self.head > 0 {
                    self.length = self.length << 8 | u32::from(bytes[passed]);
                }
                self.head += 1;
                passed += 1;
                if self.head < 5 {
                    continue;
                }
                self.rest = self.length.saturating_sub(4);
            }
            if self.rest == 0 {
                *self = Framing { complete: self.complete + 1, ..Framing::default() };
                break;
            }
        }
        passed
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.pass_one(bytes);
            bytes = &bytes[passed..];
        }
    }

    /// Where this place is in the bytes that come next, if it is before the last of them or, behind a message, after it. Not
    /// at their very beginning.
    fn find(mut self, place: MessagePlace, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            at += self.pass_one(&bytes[at..]);
            let here = if place.after { self.complete == place.message } else { self.complete + 1 == place.message };
            if here && self.is_between() && (place.after || at < bytes.len()) {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(message: u32, after: bool) -> MessagePlace {
        MessagePlace { connection: 1, to_server: true, message, after }
    }

    #[test]
    fn messages_are_found_in_any_pieces() {
        // StartupMessage of 9 bytes, then Query of 7, Sync of 5.
        let all = [&[0, 0, 0, 9, 0, 3, 0, 0, 0][..], b"Q\0\0\0\x06a\0", b"S\0\0\0\x04"].concat();
        let start = Framing::untyped();
        assert!(start.is_between());
        for (wanted, at) in [(place(1, true), 9), (place(2, false), 9), (place(2, true), 16), (place(3, true), 21)] {
            assert_eq!(start.find(wanted, &all), Some(at), "{wanted:?}");
        }
        assert_eq!(start.find(place(4, false), &all), None, "nothing follows");
        for piece in 1..=all.len() {
            let mut framing = start;
            let ends: Vec<u32> = all
                .chunks(piece)
                .map(|bytes| {
                    framing.pass(bytes);
                    framing.complete
                })
                .collect();
            assert_eq!(ends.last(), Some(&3), "in pieces of {piece}");
            assert!(framing.is_between());
        }
    }
}
