//! A shorter run, round times, smaller numbers.

use std::time::Duration;

use super::Cuts;
use crate::strategy::parts::{Time, each_number, each_time};

const SECOND: Duration = Duration::from_secs(1);

/// An earlier end.
pub(super) fn end(cuts: &mut Cuts<'_>) {
    let until = cuts.of.expect.until;
    let mut last = Duration::ZERO;
    let mut copy = cuts.of.clone();
    each_time(&mut copy, &mut |time, value| {
        if time == Time::Moment {
            last = last.max(*value);
        }
    });
    let whole = |time: Duration| Duration::from_secs(time.as_secs().max(1));
    for shorter in [SECOND, whole(until / 2), whole(last) + SECOND, whole(until.saturating_sub(SECOND))] {
        if shorter < until {
            cuts.add(|s| s.expect.until = shorter);
        }
    }
    cuts.add(|s| s.expect.healing = Duration::from_secs(120));
}

/// Each time at zero, or at the nearest round one.
pub(super) fn rounded(cuts: &mut Cuts<'_>) {
    let mut all = Vec::new();
    let mut copy = cuts.of.clone();
    each_time(&mut copy, &mut |kind, time| all.push((kind, *time)));
    for (chosen, (kind, time)) in all.into_iter().enumerate() {
        for new in simpler_times(kind, time) {
            cuts.add(|s| {
                let mut place = 0;
                each_time(s, &mut |_, time| {
                    if place == chosen {
                        *time = new;
                    }
                    place += 1;
                });
            });
        }
    }
}

/// Rounder times than this one: fewer digits, or an earlier moment.
fn simpler_times(kind: Time, time: Duration) -> Vec<Duration> {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    if kind == Time::Moment && millis > 0 {
        found.push(0);
        // The same moment in a row of seconds is easier to follow, and an earlier one makes the run shorter.
        if millis > 1_000 {
            found.push(1_000 + millis % 1_000);
        }
    }
    for grain in [10_000, 1_000, 100, 10] {
        let rounded = (millis + grain / 2) / grain * grain;
        // Half a time, rounded, is less than the time: shrinking comes to an end.
        if millis % grain != 0 && millis > grain {
            found.push(rounded);
        }
    }
    found.into_iter().map(Duration::from_millis).collect()
}

pub(super) fn smaller_numbers(cuts: &mut Cuts<'_>) {
    let mut count = 0;
    let mut copy = cuts.of.clone();
    each_number(&mut copy, &mut |_, _| count += 1);
    for chosen in 0..count {
        cuts.add(|s| {
            let mut place = 0;
            each_number(s, &mut |least, number| {
                if place == chosen && *number > least {
                    *number -= 1;
                }
                place += 1;
            });
        });
    }
}
