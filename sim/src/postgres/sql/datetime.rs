//! `timestamptz` and `interval` as text, in UTC and ISO style, whatever `TimeZone` and `DateStyle` say: the simulated world has
//! one time zone. Intervals are microseconds: days are 24 hours, months are refused.

use super::super::error::{PgError, SqlState};

const DAY: i64 = 86_400_000_000;
/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;

/// Civil date of a day number counted from 1970-01-01 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

fn clock(out: &mut String, us: i64) {
    use std::fmt::Write;
    let seconds = us / 1_000_000;
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = us % 1_000_000;
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
        while out.ends_with('0') {
            out.pop();
        }
    }
}

/// `2026-11-22 02:37:56.25+00`
pub(super) fn timestamptz_text(us: i64) -> String {
    let (year, month, day) = civil(us.div_euclid(DAY) + EPOCH_DAYS);
    let mut out = format!("{year:04}-{month:02}-{day:02} ");
    clock(&mut out, us.rem_euclid(DAY));
    out.push_str("+00");
    out
}

/// `1 day 02:00:00`
pub(super) fn interval_text(us: i64) -> String {
    let days = us / DAY;
    let rest = us % DAY;
    let mut out = String::new();
    if days != 0 {
        out = format!("{days} day{}", if days == 1 { "" } else { "s" });
        if rest == 0 {
            return out;
        }
        out.push(' ');
    }
    if rest < 0 {
        out.push('-');
    }
    clock(&mut out, rest.abs());
    out
}

fn fraction_us(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded: String = text.chars().chain("000000".chars()).take(6).collect();
    padded.parse().ok()
}

/// `HH:MM[:SS[.ffffff]]` in microseconds.
fn clock_us(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (seconds.parse::<i64>().ok()?, 0),
            Some((whole, fraction)) => (whole.parse::<i64>().ok()?, fraction_us(fraction)?),
        },
    };
    if parts.next().is_some() || !(0..60).contains(&minutes) || !(0..=60).contains(&seconds) {
        return None;
    }
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction)
}

pub(super) fn parse_timestamptz(text: &str) -> Result<i64, PgError> {
    let inner = || -> Option<i64> {
        let trimmed = text.trim();
        let (date, time) = match trimmed.find([' ', 'T']) {
            Some(at) => (&trimmed[..at], trimmed[at + 1..].trim()),
            None => (trimmed, ""),
        };
        let mut fields = date.split('-');
        let year: i64 = fields.next()?.parse().ok()?;
        let month: i64 = fields.next()?.parse().ok()?;
        let day: i64 = fields.next()?.parse().ok()?;
        if fields.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_from_civil(year, month, day);
        if civil(days) != (year, month, day) {
            return None;
        }
        let (time, offset) = if let Some(time) = time.strip_suffix(['Z', 'z']) {
            (time, 0)
        } else if let Some(time) = time.strip_suffix("UTC") {
            (time.trim_end(), 0)
        } else if let Some(at) = time.rfind(['+', '-']) {
            let sign = if time[at..].starts_with('-') { -1 } else { 1 };
            let zone = &time[at + 1..];
            let (hours, minutes) = match zone.split_once(':') {
                Some((hours, minutes)) => (hours, minutes),
                None if zone.len() == 4 => zone.split_at(2),
                None => (zone, "0"),
            };
            let offset = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            (&time[..at], sign * offset * 60_000_000)
        } else {
            (time, 0)
        };
        let time = if time.is_empty() { 0 } else { clock_us(time)? };
        Some((days - EPOCH_DAYS) * DAY + time - offset)
    };
    inner().ok_or_else(|| {
        PgError::error(
            SqlState("22007"),
            format!("invalid input syntax for type timestamp with time zone: \"{text}\""),
        )
    })
}

pub(super) fn parse_interval(text: &str) -> Result<i64, PgError> {
    let bad = || {
        PgError::error(
            SqlState("22007"),
            format!("invalid input syntax for type interval: \"{text}\""),
        )
    };
    let mut total = 0i64;
    let mut words = text.split_whitespace().peekable();
    let mut any = false;
    let mut ago = false;
    while let Some(word) = words.next() {
        any = true;
        if word.eq_ignore_ascii_case("ago") {
            ago = true;
            continue;
        }
        if word.contains(':') {
            let (sign, clock) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
            total += sign * clock_us(clock).ok_or_else(bad)?;
            continue;
        }
        // "5s" as well as "5 s"; a bare number is seconds.
        let split = word
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(word.len());
        let (number, attached) = word.split_at(split);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let unit = if attached.is_empty() {
            words.next().unwrap_or("s")
        } else {
            attached
        };
        let unit = unit.to_ascii_lowercase();
        #[expect(clippy::cast_precision_loss, reason = "a day in microseconds is exact")]
        let scale = match unit.as_str() {
            "us" | "usec" | "microsecond" | "microseconds" => 1.0,
            "ms" | "msec" | "millisecond" | "milliseconds" => 1e3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e6,
            "m" | "min" | "mins" | "minute" | "minutes" => 6e7,
            "h" | "hr" | "hour" | "hours" => 3.6e9,
            "d" | "day" | "days" => DAY as f64,
            "week" | "weeks" => 7.0 * DAY as f64,
            "mon" | "month" | "months" | "year" | "years" | "y" => {
                return Err(PgError::unsupported("intervals of months and years"));
            }
            _ => return Err(bad()),
        };
        #[expect(clippy::cast_possible_truncation, reason = "saturates, as intended")]
        {
            total += (number * scale).round() as i64;
        }
    }
    if !any {
        return Err(bad());
    }
    Ok(if ago { -total } else { total })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn texts_round_trip() {
        for text in [
            "2000-01-01 00:00:00+00",
            "2026-11-22 02:37:56.25+00",
            "1999-12-31 23:59:59.999999+00",
            "2024-02-29 12:00:00+00",
        ] {
            assert_eq!(timestamptz_text(parse_timestamptz(text).unwrap()), text);
        }
        assert_eq!(parse_timestamptz("2000-01-01T02:00:00+02").unwrap(), 0);
        assert!(parse_timestamptz("2023-02-29").is_err());
        assert_eq!(
            interval_text(parse_interval("1 day 2 hours").unwrap()),
            "1 day 02:00:00"
        );
        assert_eq!(
            interval_text(parse_interval("250 ms").unwrap()),
            "00:00:00.25"
        );
        assert_eq!(
            interval_text(parse_interval("-00:00:01").unwrap()),
            "-00:00:01"
        );
    }
}
