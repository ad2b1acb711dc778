//! When the actors of an open workload arrive. Times are since the start of the run, and whole milliseconds once they
//! reach tokio's timers.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::random;
use crate::scenario::model::Arrive;

/// The times at which actors arrive, ascending, each with how many.
pub(super) struct Arrivals {
    kind: Kind,
    from: Duration,
    until: Duration,
}

enum Kind {
    /// At these times.
    At(std::vec::IntoIter<Duration>),
    /// This many, the next at this time, then each interval.
    Regular { count: u32, next: Option<Duration>, every: Option<Duration> },
    /// The last at this time, as seconds: rounding each gap would change the rate.
    Poisson { rng: Box<ChaCha8Rng>, per_second: f64, last: Duration },
}

impl Arrivals {
    /// The arrivals of a workload; `None` if nobody arrives by time (another workload spawns them, or they are workers).
    pub(super) fn new(arrive: &Arrive, from: Duration, until: Duration, seed: u64, workload: &str) -> Option<Arrivals> {
        let kind = match arrive {
            Arrive::Never | Arrive::Workers { .. } | Arrive::Jobs { .. } => return None,
            Arrive::At(times) => {
                let mut times = times.clone();
                times.sort_unstable();
                Kind::At(times.into_iter())
            }
            Arrive::Every(every) => Kind::Regular { count: 1, next: Some(from), every: Some(*every) },
            Arrive::Burst { count, every } => Kind::Regular { count: *count, next: Some(from), every: *every },
            Arrive::Poisson { per_second } => Kind::Poisson {
                rng: Box::new(random::stream(seed, workload, random::ARRIVALS)),
                per_second: *per_second,
                last: from,
            },
        };
        Some(Arrivals { kind, from, until })
    }
}

impl Iterator for Arrivals {
    type Item = (Duration, u32);

    fn next(&mut self) -> Option<(Duration, u32)> {
        let from = self.from;
        let arrival = match &mut self.kind {
            Kind::At(times) => (times.find(|at| *at >= from)?, 1),
            Kind::Regular { count, next, every } => {
                let at = (*next)?;
                // An interval of zero would never end; the parser refuses it, and this loop does too.
                *next = every.filter(|every| !every.is_zero()).and_then(|every| at.checked_add(every));
                (at, *count)
            }
            Kind::Poisson { rng, per_second, last } => {
                *last = last.checked_add(random::exponential(&mut **rng, *per_second))?;
                (*last, 1)
            }
        };
        (arrival.0 < self.until).then_some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn times(arrive: &Arrive, from: Duration, until: Duration) -> Vec<(Duration, u32)> {
        Arrivals::new(arrive, from, until, 7, "w").into_iter().flatten().collect()
    }

    #[test]
    fn at_is_sorted_and_cut_to_the_window() {
        let arrive = Arrive::At(vec![s(9), s(1), s(5), s(5), s(20)]);
        assert_eq!(times(&arrive, s(2), s(20)), [(s(5), 1), (s(5), 1), (s(9), 1)]);
    }

    #[test]
    fn every_begins_at_from_and_ends_before_until() {
        assert_eq!(times(&Arrive::Every(s(2)), s(1), s(5)), [(s(1), 1), (s(3), 1)]);
    }

    #[test]
    fn a_burst_comes_once_or_again() {
        let burst = |every| Arrive::Burst { count: 9, every };
        assert_eq!(times(&burst(None), s(1), s(9)), [(s(1), 9)]);
        assert_eq!(times(&burst(Some(s(5))), s(1), s(9)), [(s(1), 9), (s(6), 9)]);
        assert_eq!(times(&burst(Some(s(0))), s(1), s(9)), [(s(1), 9)]);
    }

    #[test]
    fn poisson_has_its_rate_and_repeats_by_the_seed() {
        let arrive = Arrive::Poisson { per_second: 80.0 };
        let one = times(&arrive, s(0), s(100));
        assert!((7700..8300).contains(&one.len()), "{}", one.len());
        assert_eq!(one, times(&arrive, s(0), s(100)));
        assert!(one.is_sorted());
    }

    #[test]
    fn never_and_workers_do_not_arrive_by_time() {
        assert!(times(&Arrive::Never, s(0), s(9)).is_empty());
        assert!(times(&Arrive::Workers { count: 3, pause: s(0) }, s(0), s(9)).is_empty());
    }
}
