//! The way between two hosts: how long, how fast, and what of it is broken.

use std::time::Duration;

use super::timers::Micros;

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// One-way delay.
    pub latency: Duration,
    /// A further delay drawn evenly from zero to this for each segment. Segments of one direction of a stream stay in order.
    pub jitter: Duration,
    /// Bytes a second, shared by all streams in this direction. `None` is unlimited.
    pub bandwidth: Option<u64>,
}

impl Link {
    /// A link with this one-way delay, no jitter and unlimited bandwidth.
    #[must_use]
    pub fn with_latency(latency: Duration) -> Link {
        Link { latency, ..Link::default() }
    }
}

/// Which directions between `a` and `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Both ways.
    Both,
    /// Only segments from `a` to `b`.
    AToB,
}

/// One direction of one flow: its link and faults at the moment, kept with the flow so that a send looks nothing up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Path {
    pub(crate) latency: Micros,
    pub(crate) jitter: Micros,
    pub(crate) bandwidth: Option<u64>,
    /// A partition loses whatever leaves in this direction.
    pub(crate) blocked: bool,
    /// Nothing delays, loses or limits: bytes are at the other end at once.
    pub(crate) direct: bool,
}
