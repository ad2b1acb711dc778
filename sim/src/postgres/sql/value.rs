//! Values, their order, and their text and binary forms on the wire.
//!
//! Text is compared byte by byte (collation "C"). The forms are those of PostgreSQL's input, output, send and receive functions;
//! timestamps are shown in UTC (see [`super::datetime`]).

use std::cmp::Ordering;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::super::error::{PgError, SqlState};
use super::datetime;
use super::numeric::Decimal;
use super::types::Type;

/// A value; `Null` is of any type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of Type")]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Numeric(Arc<str>),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Microseconds since 2000-01-01 00:00 UTC.
    Timestamptz(i64),
    /// Microseconds.
    Interval(i64),
    Array(Arc<[Value]>),
    Void,
}

/// A number's decimal digits, written to the end of `buffer`: the hot case, faster than by a formatter.
fn digits(value: i64, buffer: &mut [u8; 20]) -> &str {
    let mut rest = value.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    std::str::from_utf8(&buffer[at..]).expect("digits are ASCII")
}

/// Text from anything that can be text.
pub(super) fn text(value: impl Into<Arc<str>>) -> Value {
    Value::Text(value.into())
}

pub(super) fn invalid_text(kind: Type, input: &str) -> PgError {
    PgError::error(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {}: \"{input}\"", kind.name()),
    )
}

pub(super) fn out_of_range(kind: Type) -> PgError {
    PgError::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{} out of range", kind.name()))
}

fn bad_binary(kind: Type) -> PgError {
    PgError::error(
        SqlState::INVALID_BINARY_REPRESENTATION,
        format!("incorrect binary data format in bind parameter of type {}", kind.name()),
    )
}

/// The least and greatest values of an integer type.
pub(super) fn integer_range(kind: Type) -> (i64, i64) {
    match kind {
        Type::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Type::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Type::Oid | Type::Xid | Type::Regclass | Type::Regtype => (0, i64::from(u32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// A float as `%.{digits}g` would, but never with an exponent that a decimal parser would not take.
pub(super) fn float_text_digits(value: f64, digits: usize) -> String {
    format!("{:.*e}", digits.saturating_sub(1), value).split_once('e').map_or_else(
        String::new,
        |(mantissa, exponent)| {
            let mantissa =
                if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
            format!("{mantissa}e{exponent}")
        },
    )
}

fn float_text(value: f64, shortest: &str) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // `shortest` is Rust's `{:e}`: the shortest digits that round-trip, as in PostgreSQL 12 and later.
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..15).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

struct Output<'a>(&'a mut BytesMut);

impl Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Value {
    /// Appends the text form, as DataRow carries it (without a length). Nothing for `Null`: the caller sends length -1.
    pub fn encode_text(&self, kind: Type, out: &mut BytesMut) {
        let mut out = Output(out);
        // Writing to a BytesMut cannot fail.
        let _ = self.write_text(kind, &mut out);
    }

    /// The text form as a string (`::text`).
    #[must_use]
    pub fn to_text(&self, kind: Type) -> String {
        let mut out = String::new();
        let _ = self.write_text(kind, &mut out);
        out
    }

    fn write_text(&self, kind: Type, out: &mut impl Write) -> std::fmt::Result {
        match self {
            Value::Null | Value::Void => Ok(()),
            Value::Bool(value) => out.write_str(if *value { "t" } else { "f" }),
            Value::Int(value) => match kind {
                Type::Regtype => match u32::try_from(*value).ok().and_then(Type::from_oid) {
                    Some(named) => out.write_str(named.name()),
                    None if *value == 0 => out.write_str("-"),
                    None => write!(out, "{value}"),
                },
                _ => out.write_str(digits(*value, &mut [0; 20])),
            },
            Value::Float(value) if kind == Type::Float4 => {
                #[expect(clippy::cast_possible_truncation, reason = "a real is stored as the double of the same value")]
                let narrow = *value as f32;
                let shortest = format!("{narrow:e}");
                let exponent: i32 = shortest.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
                if (-4..6).contains(&exponent) {
                    write!(out, "{narrow}")
                } else {
                    out.write_str(&float_text(*value, &shortest))
                }
            }
            Value::Float(value) => out.write_str(&float_text(*value, &format!("{value:e}"))),
            Value::Numeric(value) | Value::Text(value) => out.write_str(value),
            Value::Bytes(bytes) => {
                out.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
            Value::Timestamptz(us) => out.write_str(&datetime::timestamptz_text(*us)),
            Value::Interval(us) => out.write_str(&datetime::interval_text(*us)),
            Value::Array(items) => {
                let element = kind.element().unwrap_or(Type::Text);
                out.write_char('{')?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.write_char(',')?;
                    }
                    if *item == Value::Null {
                        out.write_str("NULL")?;
                        continue;
                    }
                    let item = item.to_text(element);
                    let plain = !item.is_empty()
                        && !item.eq_ignore_ascii_case("null")
                        && !item.contains(['{', '}', ',', '"', '\\', ' ', '\t', '\n']);
                    if plain {
                        out.write_str(&item)?;
                    } else {
                        write!(out, "\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))?;
                    }
                }
                out.write_char('}')
            }
        }
    }

    /// Appends the binary form (without a length). Nothing for `Null`.
    pub fn encode_binary(&self, kind: Type, out: &mut BytesMut) {
        match self {
            Value::Null | Value::Void => {}
            Value::Bool(value) => out.put_u8(u8::from(*value)),
            #[expect(clippy::cast_possible_truncation, reason = "values of a type are within its range")]
            Value::Int(value) => match kind {
                Type::Int2 => out.put_i16(*value as i16),
                Type::Int8 | Type::Xid8 => out.put_i64(*value),
                Type::Int4 => out.put_i32(*value as i32),
                _ => out.put_i32(*value as u32 as i32),
            },
            #[expect(clippy::cast_possible_truncation, reason = "a real is stored as the double of the same value")]
            Value::Float(value) if kind == Type::Float4 => out.put_f32(*value as f32),
            Value::Float(value) => out.put_f64(*value),
            Value::Numeric(value) => match Decimal::parse(value) {
                Ok(value) => value.to_binary(out),
                Err(_) => unreachable!("a numeric value is only made from a number"),
            },
            Value::Text(value) => match kind {
                Type::Jsonb => {
                    out.put_u8(1);
                    out.put_slice(value.as_bytes());
                }
                Type::Inet => inet_binary(value, out),
                _ => out.put_slice(value.as_bytes()),
            },
            Value::Bytes(bytes) => out.put_slice(bytes),
            Value::Timestamptz(us) => out.put_i64(*us),
            Value::Interval(us) => {
                out.put_i64(*us % 86_400_000_000);
                out.put_i32(i32::try_from(*us / 86_400_000_000).unwrap_or(i32::MAX));
                out.put_i32(0);
            }
            Value::Array(items) => {
                let element = kind.element().unwrap_or(Type::Text);
                out.put_i32(i32::from(!items.is_empty()));
                out.put_i32(i32::from(items.contains(&Value::Null)));
                out.put_u32(element.oid());
                if items.is_empty() {
                    return;
                }
                out.put_i32(i32::try_from(items.len()).unwrap_or(i32::MAX));
                out.put_i32(1);
                for item in items.iter() {
                    if *item == Value::Null {
                        out.put_i32(-1);
                        continue;
                    }
                    let at = out.len();
                    out.put_i32(0);
                    item.encode_binary(element, out);
                    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
                    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
    }

    /// Reads a text form.
    ///
    /// # Errors
    /// 22P02, 22003, 22007 as the type's input function words them.
    pub fn decode_text(kind: Type, input: &str) -> Result<Value, PgError> {
        let bad = || invalid_text(kind, input);
        Ok(match kind {
            Type::Bool => Value::Bool(parse_bool(input).ok_or_else(bad)?),
            Type::Regtype => {
                let name = input.trim().trim_start_matches("pg_catalog.").to_ascii_lowercase();
                match Type::from_name(&name) {
                    Some(found) => Value::Int(i64::from(found.oid())),
                    None => {
                        return Err(PgError::error(
                            SqlState::UNDEFINED_OBJECT,
                            format!("type \"{input}\" does not exist"),
                        ));
                    }
                }
            }
            Type::Int2 | Type::Int4 | Type::Int8 | Type::Oid | Type::Xid | Type::Xid8 | Type::Regclass => {
                let trimmed = input.trim();
                let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad());
                }
                let (low, high) = integer_range(kind);
                match trimmed.parse::<i64>() {
                    Ok(value) if (low..=high).contains(&value) => Value::Int(value),
                    _ => {
                        return Err(PgError::error(
                            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                            format!("value \"{input}\" is out of range for type {}", kind.name()),
                        ));
                    }
                }
            }
            Type::Float4 | Type::Float8 => {
                let trimmed = input.trim();
                let plain = trimmed.trim_start_matches(['-', '+']);
                let named = ["nan", "infinity", "inf"].iter().any(|name| plain.eq_ignore_ascii_case(name));
                if !named && !plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                    return Err(bad());
                }
                Value::Float(trimmed.parse().map_err(|_| bad())?)
            }
            Type::Numeric => Value::Numeric(Decimal::parse(input)?.to_string().into()),
            Type::Char => text(input.chars().next().map_or_else(String::new, String::from)),
            Type::Text | Type::Varchar | Type::Unknown | Type::Json | Type::Jsonb => text(input),
            Type::Name => {
                let mut end = input.len().min(63);
                while !input.is_char_boundary(end) {
                    end -= 1;
                }
                text(&input[..end])
            }
            Type::Inet => {
                let address = input.split('/').next().unwrap_or("");
                if address.parse::<IpAddr>().is_err() {
                    return Err(bad());
                }
                text(input)
            }
            Type::Timestamptz => Value::Timestamptz(datetime::parse_timestamptz(input)?),
            Type::Interval => Value::Interval(datetime::parse_interval(input)?),
            Type::Bytea => Value::Bytes(parse_bytea(input)?.into()),
            Type::Int2Array
            | Type::Int4Array
            | Type::Int8Array
            | Type::OidArray
            | Type::TextArray
            | Type::NameArray
            | Type::RegtypeArray => parse_array(kind, input)?,
            Type::Void => Value::Void,
        })
    }

    /// Reads a binary form.
    ///
    /// # Errors
    /// 22P03 when the length is wrong.
    pub fn decode_binary(kind: Type, bytes: &[u8]) -> Result<Value, PgError> {
        let bad = || bad_binary(kind);
        fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        let utf8 = |bytes: &[u8]| -> Result<Value, PgError> {
            match std::str::from_utf8(bytes) {
                Ok(valid) => Ok(text(valid)),
                Err(_) => Err(PgError::error(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\"")),
            }
        };
        Ok(match kind {
            Type::Bool => Value::Bool(fixed::<1>(bytes).ok_or_else(bad)?[0] != 0),
            Type::Int2 => Value::Int(i64::from(i16::from_be_bytes(fixed(bytes).ok_or_else(bad)?))),
            Type::Int4 => Value::Int(i64::from(i32::from_be_bytes(fixed(bytes).ok_or_else(bad)?))),
            Type::Oid | Type::Xid | Type::Regclass | Type::Regtype => {
                Value::Int(i64::from(u32::from_be_bytes(fixed(bytes).ok_or_else(bad)?)))
            }
            Type::Int8 | Type::Xid8 => Value::Int(i64::from_be_bytes(fixed(bytes).ok_or_else(bad)?)),
            Type::Float4 => Value::Float(f64::from(f32::from_be_bytes(fixed(bytes).ok_or_else(bad)?))),
            Type::Float8 => Value::Float(f64::from_be_bytes(fixed(bytes).ok_or_else(bad)?)),
            Type::Numeric => Value::Numeric(Decimal::from_binary(bytes)?.to_string().into()),
            Type::Text | Type::Varchar | Type::Name | Type::Char | Type::Unknown | Type::Json => utf8(bytes)?,
            Type::Jsonb => match bytes.split_first() {
                Some((1, rest)) => utf8(rest)?,
                _ => return Err(bad()),
            },
            Type::Inet => match bytes {
                [_, _, _, 4, a, b, c, d] => text(IpAddr::from([*a, *b, *c, *d]).to_string()),
                [_, _, _, 16, rest @ ..] => text(IpAddr::from(fixed::<16>(rest).ok_or_else(bad)?).to_string()),
                _ => return Err(bad()),
            },
            Type::Timestamptz => Value::Timestamptz(i64::from_be_bytes(fixed(bytes).ok_or_else(bad)?)),
            Type::Interval => {
                let us = i64::from_be_bytes(bytes.get(..8).and_then(fixed).ok_or_else(bad)?);
                let days = i32::from_be_bytes(bytes.get(8..12).and_then(fixed).ok_or_else(bad)?);
                let months = i32::from_be_bytes(bytes.get(12..).and_then(fixed).ok_or_else(bad)?);
                if months != 0 {
                    return Err(PgError::unsupported("intervals of months and years"));
                }
                Value::Interval(us + i64::from(days) * 86_400_000_000)
            }
            Type::Bytea => Value::Bytes(bytes.into()),
            Type::Int2Array
            | Type::Int4Array
            | Type::Int8Array
            | Type::OidArray
            | Type::TextArray
            | Type::NameArray
            | Type::RegtypeArray => {
                let word = |at: usize| bytes.get(at..at + 4).and_then(fixed).map(i32::from_be_bytes).ok_or_else(bad);
                let element = kind.element().unwrap_or(Type::Text);
                match word(0)? {
                    0 => Value::Array(Arc::from([])),
                    1 => {
                        let mut items = Vec::new();
                        let mut at = 20;
                        for _ in 0..word(12)? {
                            let length = word(at)?;
                            at += 4;
                            if length < 0 {
                                items.push(Value::Null);
                                continue;
                            }
                            let end = at + usize::try_from(length).map_err(|_| bad())?;
                            items.push(Value::decode_binary(element, bytes.get(at..end).ok_or_else(bad)?)?);
                            at = end;
                        }
                        Value::Array(items.into())
                    }
                    _ => return Err(PgError::unsupported("arrays of more than one dimension")),
                }
            }
            Type::Void => Value::Void,
        })
    }

    /// Whether this is SQL's NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The order of two values of the same type; NULLs last and equal, as in an index. Different kinds of numbers
    /// are compared as numbers.
    #[must_use]
    pub fn order(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Int(a), Value::Int(b))
            | (Value::Timestamptz(a), Value::Timestamptz(b))
            | (Value::Interval(a), Value::Interval(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => order_floats(*a, *b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Array(a), Value::Array(b)) => {
                for (x, y) in a.iter().zip(b.iter()) {
                    match x.order(y) {
                        Ordering::Equal => {}
                        unequal => return unequal,
                    }
                }
                a.len().cmp(&b.len())
            }
            (Value::Null, Value::Null) | (Value::Void, Value::Void) => Ordering::Equal,
            (Value::Null, _) => Ordering::Greater,
            (_, Value::Null) => Ordering::Less,
            (Value::Float(a), _) => order_floats(*a, other.as_float().unwrap_or(0.0)),
            (_, Value::Float(b)) => order_floats(self.as_float().unwrap_or(0.0), *b),
            _ => match (self.as_decimal(), other.as_decimal()) {
                (Some(a), Some(b)) => a.compare(b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Bool(_) => 0,
            Value::Int(_) | Value::Float(_) | Value::Numeric(_) => 1,
            Value::Text(_) => 2,
            Value::Bytes(_) => 3,
            Value::Timestamptz(_) => 4,
            Value::Interval(_) => 5,
            Value::Array(_) => 6,
            Value::Void => 7,
            Value::Null => 8,
        }
    }

    pub(super) fn as_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Int(value) => Some(Decimal::from_int(*value)),
            Value::Numeric(value) => Decimal::parse(value).ok(),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "as PostgreSQL's own cast")]
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Numeric(value) => Decimal::parse(value).ok().map(Decimal::to_float),
            _ => None,
        }
    }
}

/// NaN is greater than all numbers and equal to itself.
fn order_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// `parse_bool`: unique prefixes of true, false, yes, no; on, off, 1, 0.
pub(super) fn parse_bool(input: &str) -> Option<bool> {
    let word = input.trim().to_ascii_lowercase();
    if word.is_empty() {
        return None;
    }
    match word.as_str() {
        "on" | "1" => Some(true),
        "off" | "of" | "0" => Some(false),
        "o" => None,
        _ if "true".starts_with(&word) || "yes".starts_with(&word) => Some(true),
        _ if "false".starts_with(&word) || "no".starts_with(&word) => Some(false),
        _ => None,
    }
}

fn parse_bytea(input: &str) -> Result<Vec<u8>, PgError> {
    let bad = || invalid_text(Type::Bytea, input);
    if let Some(hex) = input.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(bad))
            .collect::<Result<_, _>>()?;
        if !digits.len().is_multiple_of(2) {
            return Err(PgError::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            ));
        }
        return Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    let bytes = input.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
        } else if bytes.get(at + 1) == Some(&b'\\') {
            out.push(b'\\');
            at += 2;
        } else {
            let octal = input.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok()).ok_or_else(bad)?;
            out.push(octal);
            at += 4;
        }
    }
    Ok(out)
}

fn parse_array(kind: Type, input: &str) -> Result<Value, PgError> {
    let element = kind.element().unwrap_or(Type::Text);
    let malformed =
        || PgError::error(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{input}\""));
    let inner = input.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    if inner.trim().is_empty() {
        return Ok(Value::Array(Arc::from([])));
    }
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut item = String::new();
        let mut quoted = false;
        match chars.peek() {
            Some('"') => {
                quoted = true;
                chars.next();
                loop {
                    match chars.next().ok_or_else(malformed)? {
                        '"' => break,
                        '\\' => item.push(chars.next().ok_or_else(malformed)?),
                        c => item.push(c),
                    }
                }
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
            }
            Some('{') => return Err(PgError::unsupported("arrays of more than one dimension")),
            _ => {
                while let Some(c) = chars.next_if(|c| *c != ',') {
                    item.push(if c == '\\' { chars.next().ok_or_else(malformed)? } else { c });
                }
                item.truncate(item.trim_end().len());
                if item.is_empty() {
                    return Err(malformed());
                }
            }
        }
        if !quoted && item.eq_ignore_ascii_case("null") {
            items.push(Value::Null);
        } else {
            items.push(Value::decode_text(element, &item)?);
        }
        match chars.next() {
            None => return Ok(Value::Array(items.into())),
            Some(',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}

fn inet_binary(value: &str, out: &mut BytesMut) {
    let (address, bits) = value.split_once('/').unwrap_or((value, ""));
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => {
            out.put_slice(&[2, bits.parse().unwrap_or(32), 0, 4]);
            out.put_slice(&v4.octets());
        }
        Ok(IpAddr::V6(v6)) => {
            out.put_slice(&[3, bits.parse().unwrap_or(128), 0, 16]);
            out.put_slice(&v6.octets());
        }
        Err(_) => unreachable!("an inet value is only made from an address"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn both_forms_round_trip() {
        for (kind, input) in [
            (Type::Bool, "t"),
            (Type::Int2, "-7"),
            (Type::Int4, "2147483647"),
            (Type::Int8, "-9223372036854775808"),
            (Type::Float8, "1e+15"),
            (Type::Float8, "0.0001"),
            (Type::Float8, "1e-05"),
            (Type::Float8, "1.2345678901234568e+17"),
            (Type::Float4, "1.5"),
            (Type::Numeric, "12.50"),
            (Type::Text, "a b"),
            (Type::Oid, "4294967295"),
            (Type::Timestamptz, "2026-11-22 02:37:56.25+00"),
            (Type::Interval, "1 day 02:00:00"),
            (Type::Inet, "127.0.0.1"),
            (Type::Inet, "::1"),
            (Type::Bytea, "\\x00ff"),
            (Type::Jsonb, "{\"a\": 1}"),
            (Type::Int4Array, "{1,NULL,3}"),
            (Type::TextArray, "{a,\"b c\",\"\",\"NULL\"}"),
            (Type::Int8Array, "{}"),
        ] {
            let value = Value::decode_text(kind, input).unwrap();
            assert_eq!(value.to_text(kind), input);
            let mut out = BytesMut::new();
            value.encode_binary(kind, &mut out);
            assert_eq!(Value::decode_binary(kind, &out).unwrap(), value, "{kind:?} {input}");
        }
    }

    #[test]
    fn bad_input_is_told_as_postgresql_tells_it() {
        let message = |kind, input| Value::decode_text(kind, input).unwrap_err().to_string();
        assert_eq!(message(Type::Int4, "x"), "ERROR 22P02 invalid input syntax for type integer: \"x\"");
        assert_eq!(message(Type::Int2, "99999"), "ERROR 22003 value \"99999\" is out of range for type smallint");
        assert_eq!(message(Type::Bool, "o"), "ERROR 22P02 invalid input syntax for type boolean: \"o\"");
    }
}
