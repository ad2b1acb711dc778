//! A seeded stream for each user of randomness in a workload. A stream depends on the run's seed, the workload's name and
//! a number alone, so that what one actor draws does not depend on when another one ran.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The number of a workload's own stream, from which its arrivals are drawn. Actors are numbered from 1.
pub const ARRIVALS: u64 = 0;

/// The stream of the `number`-th actor of a workload, or of its arrivals ([`ARRIVALS`]).
#[must_use]
pub fn stream(seed: u64, workload: &str, number: u64) -> ChaCha8Rng {
    // ChaCha takes any 32 distinct bytes as a key for an independent stream: they need no mixing.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(workload).to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    key[24..].copy_from_slice(b"workload");
    ChaCha8Rng::from_seed(key)
}

/// A whole number of milliseconds between `min` and `max`, both included; tokio's timers have no finer grain.
pub fn uniform(rng: &mut impl Rng, min: Duration, max: Duration) -> Duration {
    let (low, high) = (millis(min), millis(max).max(millis(min)));
    Duration::from_millis(between(rng, low, high))
}

/// A whole number between `min` and `max`, both included.
pub fn between(rng: &mut impl Rng, min: u64, max: u64) -> u64 {
    // Multiply and shift (Lemire). Without its rejection step the bias is below 2^-32 for any span a file can name.
    let span = u128::from(max - min) + 1;
    let drawn = (u128::from(rng.next_u64()) * span) >> 64;
    min + u64::try_from(drawn).expect("below the span, which fits")
}

/// An exponentially distributed gap of a Poisson process with this rate.
pub fn exponential(rng: &mut impl Rng, per_second: f64) -> Duration {
    // 53 bits in (0, 1]: the logarithm is finite.
    let unit = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    Duration::try_from_secs_f64(-unit.ln() / per_second).unwrap_or(Duration::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_workload_and_number_and_repeat() {
        let first = |seed, name, number| stream(seed, name, number).next_u64();
        let one = first(1, "request", 1);
        assert_eq!(one, first(1, "request", 1));
        for other in
            [first(2, "request", 1), first(1, "report", 1), first(1, "request", 2), first(1, "request", ARRIVALS)]
        {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn uniform_reaches_both_ends_and_nothing_else() {
        let mut rng = stream(7, "w", 1);
        let (min, max) = (Duration::from_millis(5), Duration::from_millis(8));
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[uniform(&mut rng, min, max).as_millis() as usize - 5] += 1;
        }
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
        assert_eq!(uniform(&mut rng, max, max), max);
    }

    #[test]
    fn gaps_have_the_mean_of_their_rate() {
        let mut rng = stream(7, "w", ARRIVALS);
        let total: f64 = (0..20_000).map(|_| exponential(&mut rng, 80.0).as_secs_f64()).sum();
        let mean = total / 20_000.0;
        assert!((mean - 1.0 / 80.0).abs() < 0.0004, "{mean}");
    }
}
