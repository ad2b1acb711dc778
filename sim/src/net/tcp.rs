//! What TCP does: data, ACKs, FIN and RST, retransmission, keepalive, and how an end ends.
//!
//! A healthy way costs one event a segment (none when it has no latency): ACKs are noted and looked at when needed, and
//! neither the retransmission nor the keepalive timer runs until something is lost or can't be answered.

use std::io;
use std::task::Waker;

use super::events::Event;
use super::flow::{End, FlowId, Holder, Phase, Retransmission};
use super::observe::NetEvent;
use super::timers::{self, Micros, micros};
use super::world::World;

impl World {
    pub(crate) fn handle(&mut self, id: FlowId, event: Event, now: Micros) {
        match event {
            Event::Syn { sent } => self.syn_arrives(id, sent, now),
            Event::SynRetry => self.syn_retry(id, now),
            Event::SynAck { sent } => self.syn_ack_arrives(id, sent, now),
            Event::SynAckRetry => self.syn_ack_retry(id, now),
            Event::Established => self.establish_server(id),
            Event::Segment { from, upto, ack, sent } => self.segment_arrives(id, from, upto, ack, sent, now),
            Event::Ack { to, seq } => self.ack_arrives(id, to, seq, now),
            Event::Window { to } => self.window_opens(id, to, now),
            Event::Rst { from } => self.rst_arrives(id, from),
            Event::Rto { of, generation } => self.rto_fires(id, of, generation, now),
            Event::Keepalive { of, generation } => self.keepalive_fires(id, of, generation, now),
            Event::Probe { from } => self.probe_arrives(id, from, now),
            Event::ProbeAck { to } => self.probe_ack_arrives(id, to, now),
            Event::IdleCheck => self.idle_check(id, now),
        }
    }

    // --- data --------------------------------------------------------------------------------------------------------

    /// Sends what the window allows, unless the retransmission timer has the word.
    pub(crate) fn pump(&mut self, id: FlowId, from: usize, now: Micros) {
        let receive_buffer = self.receive_buffer;
        let Some(flow) = self.flow(id) else { return };
        let target = flow.sendable(from, receive_buffer);
        let sender = &flow.ends[from].sender;
        if flow.ends[from].phase != Phase::Open || sender.retransmission.is_some() || target <= sender.sent {
            return;
        }
        self.send(id, from, target, now);
    }

    /// One segment with everything up to `upto` leaves.
    fn send(&mut self, id: FlowId, from: usize, upto: u64, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let bytes = upto - flow.ends[from].sender.arrived.min(upto);
        let new = upto - flow.ends[from].sender.sent.min(upto);
        flow.ends[from].sender.sent = flow.ends[from].sender.sent.max(upto);
        if flow.loses(from) {
            self.start_retransmission(id, from, now);
            return;
        }
        flow.seen = now;
        let ack = flow.ends[1 - from].sender.arrived;
        let (at, tie) = self.arrival(id, from, if new > 0 { new } else { bytes }, now);
        self.queue.push(at, tie, id, Event::Segment { from, upto, ack, sent: now });
    }

    fn segment_arrives(&mut self, id: FlowId, from: usize, upto: u64, ack: u64, sent: Micros, now: Micros) {
        let to = 1 - from;
        let receive_buffer = self.receive_buffer;
        let Some(host) = self.flow(id).map(|f| f.hosts[to]) else {
            return;
        };
        if !self.powered(host) {
            self.start_retransmission(id, from, sent);
            return;
        }
        if matches!(self.flow(id).map(|f| f.ends[to].phase), Some(Phase::SynRcvd { .. })) {
            self.establish_server(id);
        }
        match self.flow(id).map(|f| f.ends[to].phase) {
            None => return,
            Some(Phase::Gone | Phase::Broken | Phase::SynSent { .. } | Phase::SynRcvd { .. }) => {
                self.send_rst(id, to, now);
                return;
            }
            Some(Phase::Open) => {}
        }
        self.ack_arrives(id, to, ack, now);
        let Some((flow, out)) = self.flow_and_out(id) else {
            return;
        };
        flow.seen = now;
        let reverse_lost = flow.loses(to);
        let [client, server] = &mut flow.ends;
        let (sender_end, receiver) = if from == 0 { (client, server) } else { (server, client) };
        let sender = &mut sender_end.sender;
        receiver.heard = now;
        receiver.keepalive.probes = 0;
        let wanted = upto.min(sender.end).saturating_sub(sender.arrived);
        if wanted > 0 && receiver.holder == Holder::Nobody {
            // Data for a socket that nobody can read any more. Checked on loopback: the sender gets a RST.
            self.send_rst(id, to, now);
            self.make_gone(id, to, now);
            return;
        }
        let room = receive_buffer.saturating_sub(receiver.unread.len());
        let taken = usize::try_from(wanted).unwrap_or(usize::MAX).min(room);
        if taken > 0 {
            sender.bytes.move_to(&mut receiver.unread, taken);
            sender.arrived += taken as u64;
            out.wake(receiver.reader.take());
        }
        if sender.fin && sender.arrived == sender.end && upto > sender.end {
            sender.arrived += 1;
            receiver.peer_closed = true;
            out.wake(receiver.reader.take());
            out.wake(receiver.hangup.take());
        }
        if sender.arrived < upto.min(sender.limit()) {
            // No room: sent again when the window opens.
            sender.sent = sender.arrived;
        }
        let seq = sender.arrived;
        let watched = sender.retransmission.is_some() || sender_end.writer.is_some();
        if reverse_lost {
            self.start_retransmission(id, from, sent);
        } else {
            let at = self.answer_at(id, to, now);
            if watched {
                self.schedule(at, id, Event::Ack { to: from, seq });
            } else if let Some(flow) = self.flow(id) {
                flow.ends[from].heard = flow.ends[from].heard.max(at);
                flow.ends[from].sender.acks.push_back((seq, at));
                flow.ends[from].sender.collect_acks(now);
            }
        }
        self.finish(id, now);
    }

    fn ack_arrives(&mut self, id: FlowId, to: usize, seq: u64, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let host = flow.hosts[to];
        if !self.powered(host) {
            return;
        }
        let send_buffer = self.send_buffer as u64;
        let Some((flow, out)) = self.flow_and_out(id) else {
            return;
        };
        let rto = flow.rto();
        let end = &mut flow.ends[to];
        if end.phase != Phase::Open {
            return;
        }
        end.heard = end.heard.max(now);
        let sender = &mut end.sender;
        sender.collect_acks(now);
        let progress = seq > sender.acked;
        sender.acked = sender.acked.max(seq);
        if sender.end - sender.acked.min(sender.end) < send_buffer {
            out.wake(end.writer.take());
        }
        if end.sender.retransmission.is_some() {
            let sender = &mut end.sender;
            if sender.acked >= sender.sent {
                sender.retransmission = None;
                sender.generation = sender.generation.wrapping_add(1);
                self.pump(id, to, now);
            } else if progress {
                // The rest follows at once, and the backoff starts afresh.
                sender.retransmission = Some(Retransmission { shot: 0, stamp: None, rto });
                sender.generation = sender.generation.wrapping_add(1);
                let generation = sender.generation;
                self.schedule(now + rto, id, Event::Rto { of: to, generation });
                self.retransmit(id, to, now);
            }
        }
        self.finish(id, now);
    }

    fn window_opens(&mut self, id: FlowId, to: usize, now: Micros) {
        let send_buffer = self.send_buffer as u64;
        let Some((flow, out)) = self.flow_and_out(id) else {
            return;
        };
        let end = &mut flow.ends[to];
        end.sender.window_update = false;
        end.sender.collect_acks(now);
        if end.sender.end - end.sender.acked.min(end.sender.end) < send_buffer {
            out.wake(end.writer.take());
        }
        self.pump(id, to, now);
    }

    /// `by` has read: tell its peer when it has been waiting for that.
    pub(crate) fn update_window(&mut self, id: FlowId, by: usize) {
        let half = self.receive_buffer / 2;
        let Some(flow) = self.flow(id) else { return };
        let to = 1 - by;
        let lost = flow.loses(by);
        if flow.ends[by].unread.len() > half
            || flow.ends[to].sender.window_update
            || flow.ends[to].sender.sent >= flow.ends[to].sender.limit()
        {
            return;
        }
        if lost {
            let now = self.now();
            self.persist(id, to, now);
            return;
        }
        flow.ends[to].sender.window_update = true;
        let now = self.now();
        let at = self.answer_at(id, by, now);
        self.schedule(at, id, Event::Window { to });
    }

    // --- retransmission ----------------------------------------------------------------------------------------------

    /// A segment sent at `sent` was lost, or its ACK will be.
    pub(crate) fn start_retransmission(&mut self, id: FlowId, from: usize, sent: Micros) {
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        let rto = flow.rto();
        let end = &mut flow.ends[from];
        if end.phase != Phase::Open || end.sender.retransmission.is_some() {
            return;
        }
        end.sender.retransmission = Some(Retransmission { shot: 0, stamp: None, rto });
        end.sender.generation = end.sender.generation.wrapping_add(1);
        let generation = end.sender.generation;
        self.schedule((sent + rto).max(now), id, Event::Rto { of: from, generation });
    }

    /// A sender that waits for the window probes it (the persist timer) once window updates can't get through.
    pub(crate) fn persist(&mut self, id: FlowId, of: usize, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let sender = &flow.ends[of].sender;
        if flow.unanswered(of) && sender.sent < sender.limit() && sender.sent == sender.arrived {
            self.start_retransmission(id, of, now);
        }
    }

    fn rto_fires(&mut self, id: FlowId, of: usize, generation: u32, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let end = &mut flow.ends[of];
        if end.sender.generation != generation || end.phase != Phase::Open {
            return;
        }
        end.sender.collect_acks(now);
        let Some(mut timer) = end.sender.retransmission else {
            return;
        };
        if end.sender.acked >= end.sender.sent && end.sender.sent == end.sender.limit() {
            end.sender.retransmission = None;
            return;
        }
        let user_timeout = end.options.user_timeout.map(micros);
        let limit = user_timeout.unwrap_or(match end.holder {
            Holder::Nobody => timers::ORPHAN_RETRIES,
            Holder::Program | Holder::Kernel => timers::RETRIES2,
        });
        if timer.stamp.is_some_and(|stamp| now - stamp >= limit) {
            self.time_out(id, of, now);
            return;
        }
        let mut interval = timers::backoff(timer.rto, timer.shot);
        match timer.shot {
            0 => {}
            1 => timer.stamp = Some(now),
            _ => {}
        }
        if let (Some(stamp), Some(timeout)) = (timer.stamp, user_timeout) {
            interval = interval.min(stamp + timeout - now);
        }
        timer.shot += 1;
        end.sender.retransmission = Some(timer);
        self.schedule(now + interval, id, Event::Rto { of, generation });
        self.retransmit(id, of, now);
    }

    /// Sends what has not arrived again, or, when all has and only the ACK is missing, the last of it.
    fn retransmit(&mut self, id: FlowId, of: usize, now: Micros) {
        let receive_buffer = self.receive_buffer;
        let Some(flow) = self.flow(id) else { return };
        let upto = flow.sendable(of, receive_buffer);
        self.send(id, of, upto, now);
    }

    /// `of` gives up: `ETIMEDOUT`. See tcp(7), `tcp_retries2`.
    fn time_out(&mut self, id: FlowId, of: usize, now: Micros) {
        if let Some((local, peer)) = self.addresses(id, of) {
            self.report(NetEvent::TimedOut { local, peer });
        }
        self.break_end(id, of, Some(io::ErrorKind::TimedOut));
        self.finish(id, now);
    }

    // --- keepalive ---------------------------------------------------------------------------------------------------

    /// Starts the keepalive timer of `of`, if its probes won't be answered. Probes that were answered until now leave only
    /// their phase behind.
    pub(crate) fn arm_keepalive(&mut self, id: FlowId, of: usize, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let round_trip = flow.round_trip();
        if !flow.unanswered(of) {
            return;
        }
        let end = &mut flow.ends[of];
        let Some(keepalive) = end.options.keepalive else {
            return;
        };
        if !end.is_live() || end.keepalive.armed {
            return;
        }
        let period = micros(keepalive.idle).max(1) + round_trip;
        end.heard += now.saturating_sub(end.heard) / period * period;
        end.keepalive.armed = true;
        end.keepalive.probes = 0;
        end.keepalive.generation = end.keepalive.generation.wrapping_add(1);
        let (at, generation) = (end.heard + micros(keepalive.idle), end.keepalive.generation);
        self.schedule(at.max(now), id, Event::Keepalive { of, generation });
    }

    fn keepalive_fires(&mut self, id: FlowId, of: usize, generation: u32, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let answered = !flow.unanswered(of);
        let lost = flow.loses(of);
        let end = &mut flow.ends[of];
        let Some(keepalive) = end.options.keepalive else {
            return;
        };
        if end.keepalive.generation != generation || !end.is_live() {
            return;
        }
        let idle = micros(keepalive.idle);
        end.sender.collect_acks(now);
        if answered {
            // The way is whole again: this probe and later ones are answered, and nobody can see them.
            if now >= end.heard + idle {
                end.heard = now;
            }
            end.keepalive.armed = false;
            end.keepalive.probes = 0;
            return;
        }
        if end.sender.acked < end.sender.limit() {
            // Unacknowledged data: the retransmission timer decides (`tcp_keepalive_timer`: "packets_out").
            self.schedule(now + idle, id, Event::Keepalive { of, generation });
            return;
        }
        let elapsed = now.saturating_sub(end.heard);
        if elapsed < idle {
            let at = end.heard + idle;
            self.schedule(at, id, Event::Keepalive { of, generation });
            return;
        }
        let given_up = match end.options.user_timeout.map(micros) {
            Some(timeout) => elapsed >= timeout && end.keepalive.probes > 0,
            None => end.keepalive.probes >= keepalive.count,
        };
        if given_up {
            self.send_rst(id, of, now);
            self.time_out(id, of, now);
            return;
        }
        end.keepalive.probes += 1;
        self.schedule(now + micros(keepalive.interval).max(1), id, Event::Keepalive { of, generation });
        if !lost {
            let (at, tie) = self.arrival(id, of, 0, now);
            self.queue.push(at, tie, id, Event::Probe { from: of });
        }
    }

    fn probe_arrives(&mut self, id: FlowId, from: usize, now: Micros) {
        let to = 1 - from;
        let Some(flow) = self.flow(id) else { return };
        let (host, phase, lost) = (flow.hosts[to], flow.ends[to].phase, flow.loses(to));
        if !self.powered(host) {
            return;
        }
        if matches!(phase, Phase::Gone | Phase::Broken) {
            self.send_rst(id, to, now);
        } else if !lost {
            let at = self.answer_at(id, to, now);
            self.schedule(at, id, Event::ProbeAck { to: from });
        }
    }

    fn probe_ack_arrives(&mut self, id: FlowId, to: usize, now: Micros) {
        if let Some(flow) = self.flow(id) {
            flow.seen = now;
            flow.ends[to].heard = now;
            flow.ends[to].keepalive.probes = 0;
        }
    }

    // --- firewalls ---------------------------------------------------------------------------------------------------

    fn idle_check(&mut self, id: FlowId, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        let Some(timeout) = flow.idle_timeout else {
            flow.idle_check = false;
            return;
        };
        let refreshed = (0..2).any(|end| {
            flow.ends[end].is_live()
                && !flow.unanswered(end)
                && flow.ends[end].options.keepalive.is_some_and(|k| micros(k.idle) < timeout)
        });
        if refreshed {
            flow.seen = now;
        }
        if now - flow.seen >= timeout {
            flow.idle_check = false;
            self.forget(id);
        } else {
            let at = flow.seen + timeout;
            self.schedule(at, id, Event::IdleCheck);
        }
    }

    pub(crate) fn forget(&mut self, id: FlowId) {
        let Some(flow) = self.flow(id) else { return };
        if flow.forgotten {
            return;
        }
        flow.forgotten = true;
        let (client, server) = (flow.addresses[0], flow.addresses[1]);
        self.report(NetEvent::Forgotten { client, server });
        self.refresh(id);
    }

    // --- ends --------------------------------------------------------------------------------------------------------

    /// A RST leaves `from`, which is not sent again if it is lost.
    pub(crate) fn send_rst(&mut self, id: FlowId, from: usize, now: Micros) {
        let Some(flow) = self.flow(id) else { return };
        if flow.loses(from) {
            return;
        }
        flow.seen = now;
        let (at, tie) = self.arrival(id, from, 0, now);
        self.queue.push(at, tie, id, Event::Rst { from });
    }

    fn rst_arrives(&mut self, id: FlowId, from: usize) {
        let to = 1 - from;
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        let host = flow.hosts[to];
        if self.powered(host) {
            self.reset_end(id, to);
            self.finish(id, now);
        }
    }

    /// What a RST does to an end (`tcp_reset` in net/ipv4/tcp_input.c). Unread data stays readable; checked on loopback.
    pub(crate) fn reset_end(&mut self, id: FlowId, of: usize) {
        let Some(flow) = self.flow(id) else { return };
        let end = &flow.ends[of];
        let error = match end.phase {
            Phase::Gone | Phase::Broken => return,
            Phase::SynSent { .. } => io::ErrorKind::ConnectionRefused,
            Phase::SynRcvd { .. } | Phase::Open if end.peer_closed => io::ErrorKind::BrokenPipe,
            Phase::SynRcvd { .. } | Phase::Open => io::ErrorKind::ConnectionReset,
        };
        if end.phase == Phase::Open {
            let (local, peer) = (flow.addresses[of], flow.addresses[1 - of]);
            self.report(NetEvent::Reset { local, peer });
        }
        self.break_end(id, of, Some(error));
    }

    /// The connection is over for this end: its program is told, if it has one.
    pub(crate) fn break_end(&mut self, id: FlowId, of: usize, error: Option<io::ErrorKind>) {
        self.leave_backlog(id, of);
        let Some((flow, out)) = self.flow_and_out(id) else {
            return;
        };
        let end = &mut flow.ends[of];
        let handshake = matches!(end.phase, Phase::SynRcvd { .. });
        end.phase = if end.holder == Holder::Nobody || handshake { Phase::Gone } else { Phase::Broken };
        end.error = error;
        end.sender.purge();
        wake_all(end, |w| out.wake(w));
        let now = self.now();
        self.arm_keepalive(id, 1 - of, now);
    }

    /// The socket does not exist any more.
    pub(crate) fn make_gone(&mut self, id: FlowId, of: usize, now: Micros) {
        self.leave_backlog(id, of);
        let Some((flow, out)) = self.flow_and_out(id) else {
            return;
        };
        let end = &mut flow.ends[of];
        end.phase = Phase::Gone;
        end.holder = Holder::Nobody;
        end.unread.clear();
        end.sender.purge();
        wake_all(end, |w| out.wake(w));
        self.arm_keepalive(id, 1 - of, now);
        self.finish(id, now);
    }

    /// `close(2)`: RST when data is unread (tcp(7), RFC 2525), else the rest of the data and a FIN.
    pub(crate) fn close(&mut self, id: FlowId, of: usize) {
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        let end = &mut flow.ends[of];
        if end.holder == Holder::Nobody {
            return;
        }
        if end.phase == Phase::Open && end.unread.is_empty() {
            end.holder = Holder::Nobody;
            end.sender.fin = true;
            let wakers = [end.reader.take(), end.writer.take(), end.hangup.take()];
            wakers.into_iter().for_each(|w| self.out.discard(w));
            self.pump(id, of, now);
            self.persist(id, of, now);
            self.finish(id, now);
            return;
        }
        if matches!(end.phase, Phase::Open | Phase::SynRcvd { .. }) {
            self.send_rst(id, of, now);
        }
        self.make_gone(id, of, now);
    }

    /// `close(2)` with linger 0.
    pub(crate) fn abort(&mut self, id: FlowId, of: usize) {
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        if matches!(flow.ends[of].phase, Phase::Open | Phase::SynRcvd { .. }) {
            self.send_rst(id, of, now);
        }
        self.make_gone(id, of, now);
    }

    /// `shutdown(fd, SHUT_WR)`.
    pub(crate) fn shutdown_write(&mut self, id: FlowId, of: usize) {
        let now = self.now();
        let Some(flow) = self.flow(id) else { return };
        if flow.ends[of].phase == Phase::Open {
            flow.ends[of].sender.fin = true;
            self.pump(id, of, now);
            self.persist(id, of, now);
        }
    }

    /// Clears away ends that have nothing left to do, and the flow with its last end.
    pub(crate) fn finish(&mut self, id: FlowId, now: Micros) {
        for of in 0..2 {
            let Some(flow) = self.flow(id) else { return };
            let peer_over = matches!(flow.ends[1 - of].phase, Phase::Gone | Phase::Broken);
            let end = &flow.ends[of];
            if end.phase == Phase::Open
                && end.holder == Holder::Nobody
                && end.sender.fin_arrived()
                && end.sender.retransmission.is_none()
                && (end.peer_closed || peer_over)
            {
                self.make_gone(id, of, now);
            }
        }
        if self.flow(id).is_some_and(|f| f.ends.iter().all(|e| e.phase == Phase::Gone)) {
            self.remove_flow(id);
        }
    }
}

fn wake_all(end: &mut End, mut wake: impl FnMut(Option<Waker>)) {
    wake(end.reader.take());
    wake(end.writer.take());
    wake(end.hangup.take());
}
