//! The queue of what will happen. Ordered by exact microsecond, then by a tiebreak drawn from the seed when the event is
//! scheduled, then by the order of scheduling. Events of one stream direction at one instant share a tiebreak, so they
//! stay in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::flow::FlowId;
use super::timers::Micros;

/// What happens to a flow. `from` is the end (0 client, 1 server) the segment left.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A SYN reaches the server's host.
    Syn { sent: Micros },
    /// The client sends its SYN again, or gives up.
    SynRetry,
    /// A SYN-ACK reaches the client's host.
    SynAck { sent: Micros },
    /// The server sends its SYN-ACK again, or gives up.
    SynAckRetry,
    /// The client's ACK of the SYN-ACK reaches the server.
    Established,
    /// Data, or a FIN, reaches the other end: everything up to `upto`, with the ACK of what `from` had received.
    Segment { from: usize, upto: u64, ack: u64, sent: Micros },
    /// An ACK of `seq` reaches `to`.
    Ack { to: usize, seq: u64 },
    /// `to` learns that its peer reads again, or has waited for room and should look.
    Window { to: usize },
    /// A RST reaches the peer of `from`.
    Rst { from: usize },
    /// The retransmission timer of `of`.
    Rto { of: usize, generation: u32 },
    /// The keepalive timer of `of`.
    Keepalive { of: usize, generation: u32 },
    /// A keepalive probe reaches the peer of `from`.
    Probe { from: usize },
    /// The answer to a probe reaches `to`.
    ProbeAck { to: usize },
    /// `TCP_USER_TIMEOUT` of `of`, whose peer's window was closed when it had sent so much.
    WindowTimeout { of: usize, sent: u64 },
    /// A firewall on the way looks whether the flow was idle too long.
    IdleCheck,
}

#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) at: Micros,
    tie: u32,
    order: u64,
    pub(crate) flow: FlowId,
    pub(crate) event: Event,
}

impl Scheduled {
    fn key(&self) -> (Micros, u32, u64) {
        (self.at, self.tie, self.order)
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The reverse, since `BinaryHeap` gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Scheduled>,
    order: u64,
    /// Something was scheduled since the flag was last cleared.
    pub(crate) touched: bool,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Micros, tie: u32, flow: FlowId, event: Event) {
        self.order += 1;
        self.touched = true;
        self.heap.push(Scheduled { at, tie, order: self.order, flow, event });
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|s| s.at)
    }

    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<Scheduled> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop()
    }
}
