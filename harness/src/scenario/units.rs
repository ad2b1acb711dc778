//! Quantities with units, as a file writes them: durations, rates, sizes a second. Each is read from text and printed back.
//!
//! A bare number is refused everywhere: `timeout = 30` has cost too many people a night. Fractions are refused too, since
//! the world's timers are whole milliseconds and `1500ms` says what happens.

use std::time::Duration;

/// The longest duration: tokio's timers end a little above two years.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What is wrong with a quantity, and how it should look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) label: String,
    pub(super) help: String,
}

fn malformed(label: impl Into<String>, help: impl Into<String>) -> Malformed {
    Malformed { label: label.into(), help: help.into() }
}

const DURATION_HELP: &str = "a duration is written with its unit: `250ms`, `5s`, `10m`, `1h30m`, `2d`";

/// Units in the order in which they may follow each other, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `250ms`, `5s`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, Malformed> {
    if text.is_empty() {
        return Err(malformed("it is empty", DURATION_HELP));
    }
    if let Ok(number) = text.parse::<f64>() {
        let whole = if number.fract() == 0.0 { text } else { "5" };
        return Err(malformed("the unit is missing", format!("is it `{whole}s` or `{whole}ms`?")));
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(malformed("this is not a duration", DURATION_HELP));
        }
        if let Some(fraction) = tail.strip_prefix('.') {
            let milliseconds = fraction.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("ms");
            let help = match milliseconds {
                true => "durations are whole milliseconds: the world's timers know nothing shorter",
                false => "write a smaller unit instead: `1500ms` for one and a half seconds",
            };
            return Err(malformed("a fraction", help));
        }
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let Some(index) = DURATION_UNITS.iter().position(|(name, _)| *name == unit) else {
            if unit.is_empty() {
                return Err(malformed(format!("no unit after `{number}`"), DURATION_HELP));
            }
            let help = match unit.to_ascii_lowercase().as_str() {
                "us" | "ns" => "the world's timers are whole milliseconds; the smallest duration is `1ms`".to_owned(),
                "msec" | "msecs" | "millis" | "milliseconds" => format!("write `{number}ms`"),
                "sec" | "secs" | "second" | "seconds" => format!("write `{number}s`"),
                "min" | "mins" | "minute" | "minutes" => format!("write `{number}m`"),
                "hr" | "hrs" | "hour" | "hours" => format!("write `{number}h`"),
                "day" | "days" => format!("write `{number}d`"),
                _ => DURATION_HELP.to_owned(),
            };
            return Err(malformed(format!("`{unit}` is no unit of time"), help));
        };
        if last_unit.is_some_and(|last| last >= index) {
            return Err(malformed("units out of order", "larger units come first, each once: `1h30m`"));
        }
        last_unit = Some(index);
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(DURATION_UNITS[index].1));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| malformed("too long", "the longest duration is `366d`"))?;
        rest = next;
    }
    let duration = Duration::from_millis(total);
    if duration > LONGEST {
        return Err(malformed("too long", "the longest duration is `366d`"));
    }
    Ok(duration)
}

/// The shortest text that [`duration`] reads as this; below a millisecond it is cut.
pub(super) fn print_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in DURATION_UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

/// `80/s`, `2/min`, `0.5/h`: how many a second. The number may have a fraction, since it is an average.
pub(super) fn rate(text: &str) -> Result<f64, Malformed> {
    const HELP: &str = "a rate is a number per unit of time: `80/s`, `2/min`, `0.5/h`";
    let Some((number, unit)) = text.split_once('/') else {
        return Err(malformed("the unit is missing", HELP));
    };
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(malformed(format!("`{other}` is no unit of time"), HELP)),
    };
    let number = number.trim();
    if !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(malformed(format!("`{number}` is not a number"), HELP));
    }
    let number: f64 = number.parse().map_err(|_| malformed("no number before the `/`", HELP))?;
    let per_second = number / seconds;
    if !(per_second > 0.0 && per_second <= 1e6) {
        return Err(malformed("out of range", "a rate is more than 0 and at most `1000000/s`"));
    }
    Ok(per_second)
}

/// The text that [`rate`] reads as exactly this.
pub(super) fn print_rate(per_second: f64) -> String {
    format!("{per_second}/s")
}

/// `1MiB/s`: bytes a second.
pub(super) fn bandwidth(text: &str) -> Result<u64, Malformed> {
    const HELP: &str = "a bandwidth is bytes per second: `64KiB/s`, `1MiB/s`, `500kB/s`, `1500B/s`";
    let Some(size) = text.strip_suffix("/s") else {
        return Err(malformed("`/s` is missing", HELP));
    };
    let digits = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
    let (number, unit) = size.split_at(digits);
    let factor = match unit.trim() {
        "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(malformed(format!("`{other}` is no unit of size"), HELP)),
    };
    let number: u64 = number.parse().map_err(|_| malformed("no number before the unit", HELP))?;
    match number.checked_mul(factor) {
        Some(bytes) if (1..=1 << 40).contains(&bytes) => Ok(bytes),
        _ => Err(malformed("out of range", "a bandwidth is at least `1B/s` and at most `1024GiB/s`")),
    }
}

/// The text that [`bandwidth`] reads as exactly this.
pub(super) fn print_bandwidth(bytes_per_second: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes_per_second.trailing_zeros() >= shift && bytes_per_second > 0 {
            return format!("{}{unit}/s", bytes_per_second >> shift);
        }
    }
    format!("{bytes_per_second}B/s")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_read_and_printed() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("5s", 5000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m500ms", 60_500),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
            assert_eq!(print_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, label) in [
            ("", "it is empty"),
            ("5", "the unit is missing"),
            ("1.5s", "a fraction"),
            ("5 s", "no unit after `5`"),
            ("5sec", "`sec` is no unit of time"),
            ("5S", "`S` is no unit of time"),
            ("30m1h", "units out of order"),
            ("1s1s", "units out of order"),
            ("99999999999999999999d", "too long"),
            ("367d", "too long"),
            ("-5s", "this is not a duration"),
            ("soon", "this is not a duration"),
            ("1h30", "no unit after `30`"),
        ] {
            assert_eq!(duration(text).unwrap_err().label, label, "{text}");
        }
    }

    #[test]
    fn below_a_millisecond_there_is_no_smaller_unit() {
        assert!(duration("1.5ms").unwrap_err().help.starts_with("durations are whole milliseconds"));
        assert!(duration("1.5s").unwrap_err().help.contains("`1500ms`"));
    }

    #[test]
    fn rates_and_bandwidths() {
        assert_eq!(rate("80/s").unwrap(), 80.0);
        assert_eq!(rate("30/min").unwrap(), 0.5);
        assert!(rate("80").is_err() && rate("0/s").is_err() && rate("-1/s").is_err() && rate("1e9/s").is_err());
        assert!(rate("inf/s").is_err() && rate("NaN/s").is_err() && rate("/s").is_err());
        assert_eq!(bandwidth("1MiB/s").unwrap(), 1 << 20);
        assert_eq!(bandwidth("500kB/s").unwrap(), 500_000);
        assert!(bandwidth("1MiB").is_err() && bandwidth("1Mib/s").is_err() && bandwidth("0B/s").is_err());
        assert!(bandwidth("99999999999GiB/s").is_err());
        for bytes in [1, 1500, 1024, 1 << 20, 3 << 30] {
            assert_eq!(bandwidth(&print_bandwidth(bytes)).unwrap(), bytes);
        }
    }
}
