//! The state of one TCP connection: two ends, and for each the bytes on their way to the other.
//!
//! Sequence numbers count bytes from 0 in each direction; a FIN counts as one. Since this is one program, a byte is kept
//! in one place only: in the sender's buffer until it arrives, then in the receiver's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use super::link::Path;
use super::timers::{self, Micros, SocketOptions};

/// Names one flow of a network, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowId {
    pub(crate) serial: u64,
    pub(crate) slot: u32,
}

/// What an end of a connection is, as `ss` would show it, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamState {
    /// SYN sent or received; the handshake is under way.
    Connecting,
    /// Established, and the peer has not closed.
    Open,
    /// The peer's FIN is here, this end has not closed (`CLOSE-WAIT`).
    PeerClosed,
    /// Closed by its program; the kernel still delivers what is left (`FIN-WAIT`, `LAST-ACK`).
    Closing,
    /// Broken by a RST or a timeout; the program still holds it.
    Broken,
    /// Does not exist any more.
    Gone,
}

/// Where an end is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A client waits for the SYN-ACK, its SYN sent again so many times since `first`.
    SynSent { tries: u32, first: Micros },
    /// A server waits for the ACK; the listener, unless the port accepts in silence.
    SynRcvd { tries: u32, listener: Option<u64> },
    /// Established; also while it closes.
    Open,
    /// Ended by RST or timeout, still held.
    Broken,
    /// No such socket.
    Gone,
}

/// Who holds an end's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A [`Stream`](super::Stream) or a connect under way.
    Program,
    /// It waits in a listener's backlog, or is accepted by a process that never reads.
    Kernel,
    /// Closed: an orphan until everything is delivered.
    Nobody,
}

/// Bytes in order: a vector read from the front.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    data: Vec<u8>,
    read: usize,
}

impl Bytes {
    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.read
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Move the rest to the front when more is read than left: each byte is moved at most once on average.
        if self.read > self.len() && self.data.len() + bytes.len() > self.data.capacity() {
            self.data.drain(..self.read);
            self.read = 0;
        }
        self.data.extend_from_slice(bytes);
    }

    pub(crate) fn front(&self, n: usize) -> &[u8] {
        &self.data[self.read..self.read + n]
    }

    pub(crate) fn advance(&mut self, n: usize) {
        self.read += n;
        if self.read == self.data.len() {
            self.clear();
        }
    }

    pub(crate) fn truncate(&mut self, n: usize) {
        self.data.truncate(self.read.saturating_add(n));
    }

    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.read = 0;
    }

    pub(crate) fn move_to(&mut self, other: &mut Bytes, n: usize) {
        if other.is_empty() && n == self.len() {
            other.clear();
            std::mem::swap(self, other);
        } else {
            other.push(self.front(n));
            self.advance(n);
        }
    }
}

/// Something sent stays unacknowledged: the retransmission timer runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retransmission {
    /// The number of the next shot; 0 is the tail loss probe, 1 the first timeout.
    pub(crate) shot: u32,
    /// When shot 1 fired: timeouts count from there.
    pub(crate) stamp: Option<Micros>,
    /// The path's RTO when it began.
    pub(crate) rto: Micros,
}

/// One direction, as its sender keeps it.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    /// Bytes written that have not arrived: `arrived..end`.
    pub(crate) bytes: Bytes,
    /// Acknowledged up to here, as far as the sender has processed ACKs.
    pub(crate) acked: u64,
    /// At the receiver up to here.
    pub(crate) arrived: u64,
    /// Sent at least once up to here.
    pub(crate) sent: u64,
    /// Written up to here, the FIN not counted.
    pub(crate) end: u64,
    /// The program closed or shut down this direction: a FIN follows the last byte.
    pub(crate) fin: bool,
    /// ACKs on a healthy way back, with their arrival. Looked at when somebody needs to know: no event each.
    pub(crate) acks: VecDeque<(u64, Micros)>,
    /// The last segment's arrival and tiebreak: later ones come after it.
    pub(crate) last_arrival: (Micros, u32),
    pub(crate) retransmission: Option<Retransmission>,
    /// Makes timers that were set before stale.
    pub(crate) generation: u32,
    /// A window update is on its way to this sender.
    pub(crate) window_update: bool,
    /// How much was sent when the user timeout of a closed window was set.
    pub(crate) closed_window: Option<u64>,
}

impl Sender {
    /// One past everything to send, the FIN included.
    pub(crate) fn limit(&self) -> u64 {
        self.end + u64::from(self.fin)
    }

    /// The FIN has reached the peer.
    pub(crate) fn fin_arrived(&self) -> bool {
        self.fin && self.arrived == self.end + 1
    }

    /// Takes notice of the ACKs that have come in.
    pub(crate) fn collect_acks(&mut self, now: Micros) {
        while let Some(&(seq, at)) = self.acks.front() {
            if at > now {
                break;
            }
            self.acked = self.acked.max(seq);
            self.acks.pop_front();
        }
    }

    /// The socket is gone: nothing is sent any more. What is on its way still arrives.
    pub(crate) fn purge(&mut self) {
        let sent = self.sent.min(self.end).max(self.arrived.min(self.end));
        self.bytes.truncate(usize::try_from(sent - self.arrived.min(sent)).unwrap_or(usize::MAX));
        self.fin = self.fin && self.sent > self.end;
        self.end = sent;
        self.acks.clear();
        self.retransmission = None;
        self.generation = self.generation.wrapping_add(1);
    }
}

/// The keepalive timer, set only while a probe would not be answered: others have no effect anyone can see.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct KeepaliveTimer {
    pub(crate) armed: bool,
    pub(crate) probes: u32,
    pub(crate) generation: u32,
}

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) phase: Phase,
    pub(crate) holder: Holder,
    /// The process or host died under the program: its calls fail.
    pub(crate) killed: bool,
    pub(crate) options: SocketOptions,
    pub(crate) unread: Bytes,
    pub(crate) peer_closed: bool,
    /// `sk_err`: told once.
    pub(crate) error: Option<io::ErrorKind>,
    /// The last segment from the peer.
    pub(crate) heard: Micros,
    pub(crate) keepalive: KeepaliveTimer,
    pub(crate) sender: Sender,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) hangup: Option<Waker>,
}

impl End {
    pub(crate) fn new(phase: Phase, holder: Holder, options: SocketOptions) -> End {
        End {
            phase,
            holder,
            killed: false,
            options,
            unread: Bytes::default(),
            peer_closed: false,
            error: None,
            heard: 0,
            keepalive: KeepaliveTimer::default(),
            sender: Sender::default(),
            reader: None,
            writer: None,
            hangup: None,
        }
    }

    pub(crate) fn state(&self) -> StreamState {
        match self.phase {
            Phase::SynSent { .. } | Phase::SynRcvd { .. } => StreamState::Connecting,
            Phase::Open if self.holder == Holder::Nobody => StreamState::Closing,
            Phase::Open if self.peer_closed => StreamState::PeerClosed,
            Phase::Open => StreamState::Open,
            Phase::Broken => StreamState::Broken,
            Phase::Gone => StreamState::Gone,
        }
    }

    /// Established, held, and not closed or broken.
    pub(crate) fn is_live(&self) -> bool {
        self.phase == Phase::Open && self.holder != Holder::Nobody
    }
}

/// One connection. Index 0 is the client's end, 1 the server's.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: FlowId,
    pub(crate) hosts: [usize; 2],
    pub(crate) addresses: [SocketAddr; 2],
    pub(crate) opened_at: Micros,
    /// The last segment on the way, for firewalls.
    pub(crate) seen: Micros,
    /// A firewall lost it: every segment is dropped.
    pub(crate) forgotten: bool,
    /// The client's end was established.
    pub(crate) opened: bool,
    pub(crate) ends: [End; 2],
    /// `paths[i]` leads from end `i` to the other.
    pub(crate) paths: [Path; 2],
    /// The shortest idle time a firewall on the way bears.
    pub(crate) idle_timeout: Option<Micros>,
    pub(crate) idle_check: bool,
}

impl Flow {
    /// A segment leaving `from` now is lost.
    pub(crate) fn loses(&self, from: usize) -> bool {
        self.forgotten || self.paths[from].blocked
    }

    pub(crate) fn rto(&self) -> Micros {
        timers::rto(self.round_trip())
    }

    pub(crate) fn round_trip(&self) -> Micros {
        self.paths.iter().map(|p| p.latency + p.jitter).sum()
    }

    /// A probe from `of` would not be answered by an ACK.
    pub(crate) fn unanswered(&self, of: usize) -> bool {
        self.loses(of) || self.loses(1 - of) || matches!(self.ends[1 - of].phase, Phase::Gone | Phase::Broken)
    }

    /// Where in the writer's window the next segment may end.
    pub(crate) fn sendable(&self, from: usize, receive_buffer: usize) -> u64 {
        let sender = &self.ends[from].sender;
        let peer = &self.ends[1 - from];
        if peer.phase != Phase::Open {
            return sender.limit();
        }
        let edge = sender.arrived + receive_buffer.saturating_sub(peer.unread.len()) as u64;
        if edge >= sender.end { sender.limit() } else { edge.max(sender.sent) }
    }
}
