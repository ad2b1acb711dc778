//! Reading and showing the values of settings: booleans, numbers with units, enumerations and checked strings.
//!
//! This follows guc.c: `parse_bool`, `parse_int`, `parse_real`, `convert_to_base_unit`, `ShowGUCOption`, and the check hooks
//! of the strings that clients set. Left out: limits that depend on the machine (`max_stack_depth`), and locales and text
//! search configurations beyond a list of common ones.

use std::sync::Arc;

use super::catalogue::{Kind, Unit, Variable};
use crate::postgres::error::{PgError, SqlState};

/// A setting's value, in its base unit.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of pg_settings.vartype")]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Real(f64),
    /// Of a string or an enum.
    Text(Arc<str>),
}

/// Reads `text` as a value of `variable`, which the statement called `name`. `current` is the value it replaces, which
/// `DateStyle` may take one half from.
pub(super) fn parse(
    variable: &Variable,
    name: &str,
    text: &str,
    current: Option<&Value>,
    version: u32,
) -> Result<Value, PgError> {
    match &variable.kind {
        Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(|| {
            PgError::error(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{name}\" requires a Boolean value"),
            )
        }),
        Kind::Integer { min, max } => {
            let value =
                parse_integer(text, variable.unit).map_err(|hint| invalid(name, text, hint))?;
            if !(*min..=*max).contains(&value) {
                return Err(out_of_range(variable, name, &value, min, max, version));
            }
            Ok(Value::Integer(value))
        }
        Kind::Real { min, max } => {
            let value =
                parse_real(text, variable.unit).map_err(|hint| invalid(name, text, hint))?;
            if !(*min..=*max).contains(&value) {
                let (value, min, max) = (show_real(value), show_real(*min), show_real(*max));
                return Err(out_of_range(variable, name, &value, &min, &max, version));
            }
            Ok(Value::Real(value))
        }
        Kind::Text => super::check::text(variable, text, current, version)
            .map(|text| Value::Text(text.into())),
        Kind::Enum(values) => {
            let wanted = hidden_spelling(variable.name, text).unwrap_or(text);
            let hidden =
                variable.name == "client_min_messages" && wanted.eq_ignore_ascii_case("info");
            if hidden {
                return Ok(Value::Text("info".into()));
            }
            match values
                .iter()
                .find(|value| value.eq_ignore_ascii_case(wanted))
            {
                Some(value) => Ok(Value::Text((*value).into())),
                None => Err(invalid(name, text, None)
                    .hint(format!("Available values: {}.", values.join(", ")))),
            }
        }
    }
}

/// `invalid value for parameter`, 22023.
pub(super) fn invalid(name: &str, text: &str, hint: Option<&'static str>) -> PgError {
    let error = PgError::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{text}\""),
    );
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn out_of_range<T: std::fmt::Display>(
    variable: &Variable,
    name: &str,
    value: &T,
    min: &T,
    max: &T,
    version: u32,
) -> PgError {
    let unit = variable.unit.map(|unit| format!(" {}", unit.as_str()));
    let unit = unit.unwrap_or_default();
    // Version 16 put the unit behind the limits, too.
    let limits = if version >= 16 { unit.as_str() } else { "" };
    PgError::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!(
            "{value}{unit} is outside the valid range for parameter \"{name}\" ({min}{limits} .. {max}{limits})"
        ),
    )
}

/// As `SHOW` shows it: with the largest unit that leaves a whole number.
pub(super) fn show(variable: Option<&Variable>, value: &Value) -> String {
    let unit = variable.and_then(|variable| variable.unit);
    match (value, unit) {
        (Value::Integer(number), Some(unit)) if *number > 0 => {
            let suitable = scale(unit).iter().find_map(|(name, factor)| {
                let whole = *factor <= 1.0 || number % (*factor as i64) == 0;
                whole.then(|| format!("{}{name}", (*number as f64 / factor).round_ties_even()))
            });
            suitable.unwrap_or_else(|| show_plain(variable, value))
        }
        (Value::Real(number), Some(unit)) if *number > 0.0 => {
            // The largest unit in which the value is whole, or the smallest one.
            let mut shown = String::new();
            for (name, factor) in scale(unit) {
                let converted = number / factor;
                shown = format!("{}{name}", show_real(converted));
                if converted > 0.0 && (converted.round_ties_even() / converted - 1.0).abs() <= 1e-8
                {
                    break;
                }
            }
            shown
        }
        _ => show_plain(variable, value),
    }
}

/// As in `pg_settings.setting`: in base units, without their name.
pub(super) fn show_plain(variable: Option<&Variable>, value: &Value) -> String {
    match value {
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Integer(mode) if variable.is_some_and(|variable| variable.octal) => {
            format!("{mode:04o}")
        }
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => show_real(*number),
        Value::Text(text) => text.to_string(),
    }
}

/// C's `%g`: six significant digits, no trailing zeros.
fn show_real(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let scientific = format!("{number:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).unwrap_or(0);
        trim(&format!("{number:.decimals$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(digits), exponent.abs())
    }
}

/// `parse_bool`: `on`, `off`, `1`, `0`, and unambiguous beginnings of `true`, `false`, `yes`, `no`, `on` and `off`.
fn parse_bool(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if text == "1" || begins("true", 1) || begins("yes", 1) || text == "on" {
        Some(true)
    } else if text == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

type Hint = Option<&'static str>;

/// `parse_int`: C's notations (decimal, `0x`, leading `0` for octal), or a real number that is rounded.
fn parse_integer(text: &str, unit: Option<Unit>) -> Result<i64, Hint> {
    let (number, rest) = match leading_integer(text) {
        Some((number, rest)) if !rest.starts_with(['.', 'e', 'E']) => (number as f64, rest),
        _ => leading_real(text).ok_or(None)?,
    };
    let value = with_unit(number, rest, unit)?.round_ties_even();
    if value > f64::from(i32::MAX) || value < f64::from(i32::MIN) {
        return Err(Some("Value exceeds integer range."));
    }
    Ok(value as i64)
}

fn parse_real(text: &str, unit: Option<Unit>) -> Result<f64, Hint> {
    let (number, rest) = leading_real(text).ok_or(None)?;
    with_unit(number, rest, unit)
}

/// `strtol` with base 0; none on overflow, so that the caller takes the number for a real one.
fn leading_integer(text: &str) -> Option<(i64, &str)> {
    let text = text.trim_start_matches(is_space);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (radix, digits) = match hexadecimal {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, hex),
        _ if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let number = i64::from_str_radix(&digits[..end], radix).ok()?;
    Some((if negative { -number } else { number }, &digits[end..]))
}

/// `strtod`, without infinities and NaN, which no setting takes.
fn leading_real(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start_matches(is_space);
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let mut end = digits(start);
    let mut any = end > start;
    if bytes.get(end) == Some(&b'.') {
        let after = digits(end + 1);
        any |= after > end + 1;
        end = after;
    }
    if !any {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
        }
    }
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then_some((number, &text[end..]))
}

/// Applies the unit that follows a number, if one does (`convert_to_base_unit`).
fn with_unit(number: f64, rest: &str, base: Option<Unit>) -> Result<f64, Hint> {
    let unit = rest.trim_matches(is_space);
    if unit.is_empty() {
        return Ok(number);
    }
    let Some(base) = base else {
        return Err(None);
    };
    let scale = scale(base);
    let Some(place) = scale.iter().position(|(name, _)| *name == unit) else {
        return Err(Some(match base {
            Unit::Milliseconds | Unit::Seconds | Unit::Minutes => {
                "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
            }
            _ => "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".",
        }));
    };
    let value = number * scale[place].1;
    // A fraction such as 30.1GB is rounded to a multiple of the next smaller unit.
    Ok(match scale.get(place + 1) {
        Some((_, smaller)) => (value / smaller).round_ties_even() * smaller,
        None => value,
    })
}

/// The units that can be written for a base unit, largest first, each with its length in base units.
fn scale(base: Unit) -> &'static [(&'static str, f64)] {
    const K: f64 = 1024.0;
    match base {
        Unit::Bytes => &[
            ("TB", K * K * K * K),
            ("GB", K * K * K),
            ("MB", K * K),
            ("kB", K),
            ("B", 1.0),
        ],
        Unit::Kilobytes => &[
            ("TB", K * K * K),
            ("GB", K * K),
            ("MB", K),
            ("kB", 1.0),
            ("B", 1.0 / K),
        ],
        Unit::Megabytes => &[
            ("TB", K * K),
            ("GB", K),
            ("MB", 1.0),
            ("kB", 1.0 / K),
            ("B", 1.0 / (K * K)),
        ],
        Unit::Blocks => &[
            ("TB", K * K * K / 8.0),
            ("GB", K * K / 8.0),
            ("MB", K / 8.0),
            ("kB", 1.0 / 8.0),
            ("B", 1.0 / (8.0 * K)),
        ],
        Unit::Milliseconds => &[
            ("d", 86_400_000.0),
            ("h", 3_600_000.0),
            ("min", 60_000.0),
            ("s", 1000.0),
            ("ms", 1.0),
            ("us", 1.0 / 1000.0),
        ],
        Unit::Seconds => &[
            ("d", 86_400.0),
            ("h", 3600.0),
            ("min", 60.0),
            ("s", 1.0),
            ("ms", 1.0 / 1000.0),
            ("us", 1.0 / 1_000_000.0),
        ],
        Unit::Minutes => &[
            ("d", 1440.0),
            ("h", 60.0),
            ("min", 1.0),
            ("s", 1.0 / 60.0),
            ("ms", 1.0 / 60_000.0),
            ("us", 1.0 / 60_000_000.0),
        ],
    }
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Spellings of enum values that PostgreSQL accepts and does not list.
fn hidden_spelling(variable: &str, text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    match variable {
        "synchronous_commit"
        | "constraint_exclusion"
        | "backslash_quote"
        | "force_parallel_mode"
        | "debug_parallel_query"
        | "huge_pages"
        | "recovery_prefetch"
        | "compute_query_id"
        | "archive_mode" => match text.as_str() {
            "true" | "yes" | "1" => Some("on"),
            "false" | "no" | "0" => Some("off"),
            _ => None,
        },
        "client_min_messages"
        | "log_min_messages"
        | "log_min_error_statement"
        | "trace_recovery_messages" => (text == "debug").then_some("debug2"),
        "wal_compression" => match text.as_str() {
            "on" | "true" | "yes" | "1" => Some("pglz"),
            "false" | "no" | "0" => Some("off"),
            _ => None,
        },
        "wal_level" => matches!(text.as_str(), "archive" | "hot_standby").then_some("replica"),
        _ => None,
    }
}
