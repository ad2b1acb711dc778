//! When a kernel gives up a connection whose peer is silent: by TCP_USER_TIMEOUT, by keepalive, by `tcp_retries2`. See tcp(7).
//!
//! Between proxy and app, and between proxy and server, is a loopback that acknowledges everything, so the kernels' own timers never
//! see the silence that the proxy makes. This is their arithmetic. A kernel finds out at its next timer, somewhat later.

use std::time::Duration;

use poolproof_sim::net::SocketOptions;
use tokio::time::Instant;

/// `tcp_retries2` = 15.
const RETRIES2: Duration = Duration::from_millis(924_600);

/// When an end gives up, if nothing changes. `heard` is when its peer last acknowledged or sent something, `unacknowledged` when the
/// first of the bytes was sent that the peer has not acknowledged.
pub(super) fn gives_up(options: &SocketOptions, heard: Instant, unacknowledged: Option<Instant>) -> Option<Instant> {
    if let Some(sent) = unacknowledged {
        // No keepalive is sent meanwhile.
        return Some(sent + options.user_timeout.unwrap_or(RETRIES2));
    }
    let keepalive = options.keepalive?;
    let probes = match options.user_timeout {
        None => keepalive.count,
        // The first probe's time at which the user timeout is over.
        Some(timeout) => {
            let over = timeout.saturating_sub(keepalive.idle).as_nanos();
            u32::try_from(over.div_ceil(keepalive.interval.as_nanos().max(1))).unwrap_or(u32::MAX).max(1)
        }
    };
    Some(heard + keepalive.idle + keepalive.interval.saturating_mul(probes))
}

/// When the peer was last heard of, with the answers to the keepalive probes of an idle connection that was whole until `broken`.
pub(super) fn heard(options: &SocketOptions, last: Instant, broken: Instant) -> Instant {
    let Some(idle) = options.keepalive.map(|keepalive| keepalive.idle).filter(|idle| !idle.is_zero()) else {
        return last;
    };
    let quiet = broken.saturating_duration_since(last);
    let answered = u32::try_from(quiet.as_nanos() / idle.as_nanos()).unwrap_or(0);
    last + idle.saturating_mul(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolproof_sim::net::Keepalive;

    fn options(user_timeout: Option<u64>) -> SocketOptions {
        let seconds = Duration::from_secs;
        SocketOptions {
            keepalive: Some(Keepalive { idle: seconds(10), interval: seconds(2), count: 3 }),
            user_timeout: user_timeout.map(seconds),
        }
    }

    #[test]
    fn the_timers_are_linuxs() {
        let now = Instant::now();
        let after = |options: &SocketOptions, sent| gives_up(options, now, sent).map(|at| (at - now).as_millis());
        assert_eq!(after(&options(None), None), Some(16_000));
        assert_eq!(after(&options(Some(13)), None), Some(14_000), "at the second probe's time");
        assert_eq!(after(&options(Some(13)), Some(now)), Some(13_000));
        assert_eq!(after(&options(None), Some(now)), Some(924_600), "keepalive does not help with unsent data");
        assert_eq!(after(&SocketOptions::default(), None), None);
    }

    #[test]
    fn answered_probes_count() {
        let last = Instant::now();
        let at = |seconds| heard(&options(None), last, last + Duration::from_secs(seconds)) - last;
        assert_eq!(at(9), Duration::ZERO);
        assert_eq!(at(25), Duration::from_secs(20));
    }
}
