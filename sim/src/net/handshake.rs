//! The three-way handshake, its losses, and the backlog.
//!
//! A SYN for a full backlog is dropped (`tcp_abort_on_overflow` = 0): a backlog of `n` holds `n + 1` connections, as
//! observed on loopback, here counting handshakes under way too. Timers run only after something was lost.

use std::io;

use super::events::Event;
use super::fault::PortMode;
use super::flow::{FlowId, Holder, Phase};
use super::observe::NetEvent;
use super::timers::{self, Micros, micros};
use super::world::World;

impl World {
    pub(crate) fn send_syn(&mut self, id: FlowId, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        if flow.loses(0) {
            self.syn_lost(id, now);
            return;
        }
        flow.seen = now;
        let (at, tie) = self.arrival(id, 0, 0, now);
        self.queue.push(at, tie, id, Event::Syn { sent: now });
    }

    /// Nothing will answer the SYN sent at `sent`: the client's timer matters from now on.
    fn syn_lost(&mut self, id: FlowId, sent: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let client = &flow.ends[0];
        let Phase::SynSent { tries, first } = client.phase else {
            return;
        };
        let mut at = sent + timers::syn_backoff(tries);
        if let Some(timeout) = client.options.user_timeout {
            // Observed: 2.5 s gives up at 2.51 s after the first SYN. The first second always passes.
            at = at.min((first + micros(timeout)).max(first + timers::SECOND));
        }
        self.schedule(at, id, Event::SynRetry);
    }

    pub(crate) fn syn_retry(&mut self, id: FlowId, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let client = &mut flow.ends[0];
        let Phase::SynSent { tries, first } = client.phase else {
            return;
        };
        let late = client.options.user_timeout.is_some_and(|t| now - first >= micros(t));
        if tries >= timers::SYN_RETRIES || late {
            let (local, peer) = (flow.addresses[0], flow.addresses[1]);
            self.report(NetEvent::TimedOut { local, peer });
            self.break_end(id, 0, Some(io::ErrorKind::TimedOut));
            return;
        }
        client.phase = Phase::SynSent { tries: tries + 1, first };
        self.send_syn(id, now);
    }

    pub(crate) fn syn_arrives(&mut self, id: FlowId, sent: Micros, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let (host, port, server) = (flow.hosts[1], flow.addresses[1].port(), flow.ends[1].phase);
        if !self.powered(host) {
            self.syn_lost(id, sent);
            return;
        }
        if matches!(server, Phase::SynRcvd { .. } | Phase::Open) {
            self.send_syn_ack(id, sent, now);
            return;
        }
        let state = &mut self.hosts[host];
        let mode = state.modes.get(&port).copied().unwrap_or_default();
        let listener = match (mode, state.listeners.get_mut(&port)) {
            (PortMode::LoseSyn, _) => {
                self.syn_lost(id, sent);
                return;
            }
            (PortMode::Refuse, _) | (PortMode::Open, None) => {
                self.refuse(id, sent, now);
                return;
            }
            (PortMode::AcceptSilence, _) if state.dead => {
                self.refuse(id, sent, now);
                return;
            }
            (PortMode::AcceptSilence, _) => None,
            (PortMode::Open, Some(listener)) if listener.queue.len() + listener.pending > listener.backlog => {
                self.syn_lost(id, sent);
                return;
            }
            (PortMode::Open, Some(listener)) => {
                listener.pending += 1;
                Some(listener.id)
            }
        };
        if let Some(flow) = self.flow(id) {
            flow.ends[1].phase = Phase::SynRcvd { tries: 0, listener };
            flow.ends[1].holder = Holder::Kernel;
            flow.ends[1].heard = now;
        }
        self.send_syn_ack(id, sent, now);
    }

    /// A RST answers the SYN; if that is lost, the client tries again.
    fn refuse(&mut self, id: FlowId, sent: Micros, now: Micros) {
        if self.flow(id).is_some_and(|f| f.loses(1)) {
            self.syn_lost(id, sent);
        } else {
            self.send_rst(id, 1, now);
        }
    }

    fn send_syn_ack(&mut self, id: FlowId, syn_sent: Micros, now: Micros) {
        if self.flow(id).is_some_and(|f| f.loses(1)) {
            self.syn_lost(id, syn_sent);
            self.syn_ack_lost(id, now);
            return;
        }
        let (at, tie) = self.arrival(id, 1, 0, now);
        self.queue.push(at, tie, id, Event::SynAck { sent: now });
    }

    fn syn_ack_lost(&mut self, id: FlowId, now: Micros) {
        if let Some(Phase::SynRcvd { tries, .. }) = self.flow(id).map(|f| f.ends[1].phase) {
            self.schedule(now + timers::syn_backoff(tries), id, Event::SynAckRetry);
        }
    }

    pub(crate) fn syn_ack_retry(&mut self, id: FlowId, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let Phase::SynRcvd { tries, listener } = flow.ends[1].phase else {
            return;
        };
        if tries >= timers::SYNACK_RETRIES {
            self.make_gone(id, 1, now);
            return;
        }
        flow.ends[1].phase = Phase::SynRcvd { tries: tries + 1, listener };
        if flow.loses(1) {
            self.syn_ack_lost(id, now);
        } else {
            let (at, tie) = self.arrival(id, 1, 0, now);
            self.queue.push(at, tie, id, Event::SynAck { sent: now });
        }
    }

    pub(crate) fn syn_ack_arrives(&mut self, id: FlowId, sent: Micros, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let (host, phase) = (flow.hosts[0], flow.ends[0].phase);
        if !self.powered(host) {
            self.syn_ack_lost(id, sent);
            return;
        }
        match phase {
            Phase::Gone | Phase::Broken => {
                self.send_rst(id, 0, now);
                return;
            }
            Phase::SynSent { .. } => {
                let Some((flow, out)) = self.flow_and_out(id) else {
                    return;
                };
                flow.ends[0].phase = Phase::Open;
                flow.ends[0].heard = now;
                flow.opened = true;
                flow.seen = now;
                out.wake(flow.ends[0].writer.take());
                let (client, server) = (flow.addresses[0], flow.addresses[1]);
                self.report(NetEvent::Opened { client, server });
            }
            Phase::Open | Phase::SynRcvd { .. } => {}
        }
        if self.flow(id).is_some_and(|f| f.loses(0)) {
            self.syn_ack_lost(id, sent);
        } else {
            let (at, tie) = self.arrival(id, 0, 0, now);
            self.queue.push(at, tie, id, Event::Established);
        }
        self.arm_keepalive(id, 0, now);
    }

    /// The handshake is complete at the server: the connection waits to be accepted.
    pub(crate) fn establish_server(&mut self, id: FlowId) {
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        let Phase::SynRcvd { listener, .. } = flow.ends[1].phase else {
            return;
        };
        let (host, port) = (flow.hosts[1], flow.addresses[1].port());
        if !self.powered(host) {
            return;
        }
        if let Some(listener) = listener {
            let open = self.hosts[host].listeners.get_mut(&port).filter(|l| l.id == listener);
            let Some(open) = open else {
                self.send_rst(id, 1, now);
                self.make_gone(id, 1, now);
                return;
            };
            open.pending -= 1;
            open.queue.push_back(id);
            for waker in open.wakers.drain(..) {
                self.out.wake(Some(waker));
            }
        }
        if let Some(flow) = self.flow(id) {
            flow.ends[1].phase = Phase::Open;
            flow.ends[1].heard = now;
        }
        self.arm_keepalive(id, 1, now);
    }

    /// A server's end that ends during the handshake makes room in the backlog.
    pub(crate) fn leave_backlog(&mut self, id: FlowId, of: usize) {
        let Some(flow) = self.flow(id) else { return };
        let Phase::SynRcvd { listener: Some(listener), .. } = flow.ends[of].phase else {
            return;
        };
        let (host, port) = (flow.hosts[of], flow.addresses[of].port());
        if let Some(open) = self.hosts[host].listeners.get_mut(&port).filter(|l| l.id == listener) {
            open.pending -= 1;
        }
    }
}
