//! What can be done to the network while it runs.
//!
//! A loss is decided as a segment leaves: what is on the wire when a partition begins still arrives. Loss by a host
//! without power is decided on arrival.

use std::time::Duration;

use super::flow::{FlowId, Phase};
use super::host::Host;
use super::link::Direction;
use super::timers::micros;
use super::world::World;
use super::{FlowInfo, Net};

/// How a host treats new connections to one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortMode {
    /// As the listener there decides; refused without one.
    #[default]
    Open,
    /// Answered by a RST.
    Refuse,
    /// SYNs are lost.
    LoseSyn,
    /// The kernel completes the handshake and takes what fits into the receive buffer; no process ever reads or answers.
    AcceptSilence,
}

/// Selects connections. The default selects all.
#[derive(Debug, Clone, Default)]
pub struct FlowFilter {
    hosts: Vec<usize>,
    older_than: Option<Duration>,
    at_most: Option<usize>,
}

impl FlowFilter {
    /// Every connection.
    #[must_use]
    pub fn all() -> FlowFilter {
        FlowFilter::default()
    }

    /// Only those with an end at this host; given twice, those between the two hosts.
    #[must_use]
    pub fn touching(mut self, host: &Host) -> FlowFilter {
        self.hosts.push(host.index);
        self
    }

    /// Only those between these two hosts, whoever opened them.
    #[must_use]
    pub fn between(self, a: &Host, b: &Host) -> FlowFilter {
        self.touching(a).touching(b)
    }

    /// Only those whose connect began at least this long ago.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> FlowFilter {
        self.older_than = Some(age);
        self
    }

    /// Only so many, the oldest first.
    #[must_use]
    pub fn at_most(mut self, count: usize) -> FlowFilter {
        self.at_most = Some(count);
        self
    }
}

impl World {
    /// The connections a filter selects, oldest first.
    pub(crate) fn select(&mut self, filter: &FlowFilter) -> Vec<FlowId> {
        let now = self.now();
        let mut ids = self.flow_ids();
        ids.retain(|&id| {
            self.flow(id).is_some_and(|f| {
                filter.hosts.iter().all(|h| f.hosts.contains(h))
                    && filter.older_than.is_none_or(|age| now - f.opened_at >= micros(age))
            })
        });
        ids.truncate(filter.at_most.unwrap_or(usize::MAX));
        ids
    }

    pub(crate) fn reset_flow(&mut self, id: FlowId) {
        let now = self.now();
        for end in 0..2 {
            self.reset_end(id, end);
        }
        self.finish(id, now);
    }
}

impl Net {
    /// Segments between these hosts are lost from now on: data, ACKs, SYNs, RSTs. Names resolve all the same.
    pub fn partition(&self, a: &Host, b: &Host, direction: Direction) {
        self.shared.with(|w| {
            w.partitions.insert((a.index, b.index));
            if direction == Direction::Both {
                w.partitions.insert((b.index, a.index));
            }
            w.refresh_all();
        });
    }

    /// Ends a partition between these hosts, in both directions. What was lost arrives when its sender's retransmission
    /// timer fires next.
    pub fn heal(&self, a: &Host, b: &Host) {
        self.shared.with(|w| {
            w.partitions.remove(&(a.index, b.index));
            w.partitions.remove(&(b.index, a.index));
            w.refresh_all();
        });
    }

    /// Ends every partition.
    pub fn heal_all(&self) {
        self.shared.with(|w| {
            w.partitions.clear();
            w.refresh_all();
        });
    }

    /// A firewall or NAT loses its state: the selected connections' segments are dropped silently for ever, while new
    /// connections work. Returns how many were selected.
    pub fn forget_flows(&self, filter: &FlowFilter) -> usize {
        self.shared.with(|w| {
            let ids = w.select(filter);
            ids.iter().for_each(|&id| w.forget(id));
            ids.len()
        })
    }

    /// A middlebox sends both ends of the selected connections a RST, which is there at once. Connects under way are
    /// refused. Returns how many were selected.
    pub fn reset_flows(&self, filter: &FlowFilter) -> usize {
        self.shared.with(|w| {
            let ids = w.select(filter);
            ids.iter().for_each(|&id| w.reset_flow(id));
            ids.len()
        })
    }

    /// A firewall between these hosts forgets connections, as [`Net::forget_flows`] does, that carried nothing for this
    /// long. Keepalive probes that are answered count as traffic. `None` ends it; what is forgotten stays forgotten.
    pub fn set_idle_flow_timeout(&self, a: &Host, b: &Host, timeout: Option<Duration>) {
        self.shared.with(|w| {
            match timeout {
                Some(timeout) => w.idle_timeouts.insert((a.index, b.index), micros(timeout)),
                None => {
                    w.idle_timeouts.remove(&(b.index, a.index));
                    w.idle_timeouts.remove(&(a.index, b.index))
                }
            };
            w.refresh_all();
        });
    }

    /// How a host's port treats connects from now on. Connections that exist are not touched.
    pub fn set_port_mode(&self, host: &Host, port: u16, mode: PortMode) {
        self.shared.with(|w| {
            w.hosts[host.index].modes.insert(port, mode);
        });
    }

    /// Connections that have at least one end left, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowInfo> {
        self.shared.with(|w| {
            let now = w.now();
            w.flow_ids()
                .into_iter()
                .filter_map(|id| {
                    let flow = w.flow(id)?;
                    Some(FlowInfo {
                        serial: id.serial,
                        client: flow.addresses[0],
                        server: flow.addresses[1],
                        age: Duration::from_micros(now - flow.opened_at),
                        client_state: flow.ends[0].state(),
                        server_state: flow.ends[1].state(),
                        forgotten: flow.forgotten,
                    })
                })
                .collect()
        })
    }

    /// Connections whose end at this host is held by a program and is neither closed nor broken, connects under way
    /// included.
    #[must_use]
    pub fn open_flows(&self, host: &Host) -> usize {
        self.shared.with(|w| {
            let mut ids = w.flow_ids();
            ids.retain(|&id| {
                w.flow(id).is_some_and(|f| {
                    (0..2).any(|end| {
                        f.hosts[end] == host.index
                            && (f.ends[end].is_live() || matches!(f.ends[end].phase, Phase::SynSent { .. }))
                    })
                })
            });
            ids.len()
        })
    }
}
