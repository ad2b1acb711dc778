//! Linux's TCP timers: the numbers, and the arithmetic on them. Everything is in microseconds of virtual time since
//! the network began.
//!
//! The sources are tcp(7) and `Documentation/networking/ip-sysctl`. The retransmission schedule was checked on a Linux
//! 6 kernel with a filter that drops one direction: a lost small write is sent again after one RTO (the tail loss probe), then
//! at 2, 4, 8, … RTOs (`sent at 0, healed at 0.7 s, arrives at 0.851 s`); with `tcp_retries2 = 5` it gives up at 13.3 s, with
//! `TCP_USER_TIMEOUT` of 500 ms and 3 s at 0.917 s and 3.418 s, which is the second retransmission plus the timeout.
//!
//! Left out: RTT estimation (the RTO follows from the links' latency), fast retransmission, delayed ACKs.

use std::time::Duration;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

/// `TCP_RTO_MIN`: 200 ms.
const RTO_MIN: Micros = 200_000;

/// What a kernel with HZ = 250 adds at least: timers count jiffies. Observed on loopback: 201 to 208 ms.
const JIFFY: Micros = 4_000;

/// `TCP_RTO_MAX`: 120 s.
const RTO_MAX: Micros = 120 * SECOND;

/// `tcp_syn_retries` = 6: sent again after 1, 3, 7, 15, 31 and 63 s, given up after 127 s. (Since Linux 6.5 the first four
/// are one second apart, `tcp_syn_linear_timeouts`; servers in the field mostly are older.)
pub(crate) const SYN_RETRIES: u32 = 6;

/// `tcp_synack_retries` = 5: sent again after 1, 3, 7, 15 and 31 s, forgotten after 63 s.
pub(crate) const SYNACK_RETRIES: u32 = 5;

/// `tcp_retries2` = 15 as the kernel reckons it: the first retransmission that would come later than this after the
/// first one gives up (`retransmits_timed_out` in net/ipv4/tcp_timer.c).
pub(crate) const RETRIES2: Micros = 924_600_000;

/// `tcp_orphan_retries` = 0, which means 8: the same for a socket that no process holds any more.
pub(crate) const ORPHAN_RETRIES: Micros = 102_200_000;

/// A duration as microseconds.
pub(crate) fn micros(d: Duration) -> Micros {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX / 4)
}

/// The time from a SYN (or SYN-ACK) sent as the `tries`-th repetition to the next.
pub(crate) fn syn_backoff(tries: u32) -> Micros {
    SECOND << tries
}

/// The retransmission timeout of a path with this round trip.
pub(crate) fn rto(round_trip: Micros) -> Micros {
    (RTO_MIN + round_trip.max(JIFFY)).min(RTO_MAX)
}

/// From the `shot`-th retransmission (0 is the tail loss probe) to the next one.
pub(crate) fn backoff(rto: Micros, shot: u32) -> Micros {
    rto.checked_shl(shot).filter(|t| *t < RTO_MAX && shot < 32).unwrap_or(RTO_MAX)
}

/// Keepalive as `setsockopt` sets it: `SO_KEEPALIVE` with `TCP_KEEPIDLE`, `TCP_KEEPINTVL` and `TCP_KEEPCNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe. Linux's default is 7200 s.
    pub idle: Duration,
    /// From one unanswered probe to the next. Linux's default is 75 s.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up. Linux's default is 9.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// What a program sets on its socket. The default is Linux's: no keepalive, no user timeout.
///
/// A PostgreSQL server sets keepalive with the system's defaults on each connection: [`SocketOptions::postgres_server`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// `SO_KEEPALIVE`.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged; also replaces the keepalive count. See tcp(7).
    pub user_timeout: Option<Duration>,
}

impl SocketOptions {
    /// What a PostgreSQL 15 server sets: `tcp_keepalives_*` = 0 (the system's), `tcp_user_timeout` = 0.
    #[must_use]
    pub fn postgres_server() -> Self {
        SocketOptions { keepalive: Some(Keepalive::default()), user_timeout: None }
    }
}
