//! `numeric`: decimal numbers with a display scale, as in `src/backend/utils/adt/numeric.c`.
//!
//! Left out: NaN, infinities, and numbers of more than 38 digits (0A000): they don't occur in balances and averages.

use std::cmp::Ordering;
use std::fmt;

use super::super::error::{PgError, SqlState};

/// `mantissa / 10^scale`; `scale` is the number of digits shown after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) mantissa: i128,
    pub(super) scale: u32,
}

fn too_long() -> PgError {
    PgError::unsupported("numeric values of more than 38 digits")
}

fn power(exponent: u32) -> Result<i128, PgError> {
    10i128.checked_pow(exponent).ok_or_else(too_long)
}

impl Decimal {
    pub(super) fn from_int(value: i64) -> Decimal {
        Decimal { mantissa: i128::from(value), scale: 0 }
    }

    /// As PostgreSQL converts float8: fifteen significant digits.
    pub(super) fn from_float(value: f64) -> Result<Decimal, PgError> {
        if !value.is_finite() {
            return Err(PgError::unsupported("numeric NaN and infinity"));
        }
        Decimal::parse(&super::value::float_text_digits(value, 15))
    }

    pub(super) fn parse(text: &str) -> Result<Decimal, PgError> {
        let bad = || {
            PgError::error(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type numeric: \"{text}\""),
            )
        };
        let trimmed = text.trim();
        let (number, exponent) = match trimmed.find(['e', 'E']) {
            Some(at) => (&trimmed[..at], trimmed[at + 1..].parse::<i32>().map_err(|_| bad())?),
            None => (trimmed, 0),
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(bad());
        }
        let mut mantissa: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(bad());
            }
            mantissa =
                mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(byte - b'0'))).ok_or_else(too_long)?;
        }
        let scale = i32::try_from(fraction.len()).map_err(|_| too_long())? - exponent;
        if negative {
            mantissa = -mantissa;
        }
        if scale < 0 {
            mantissa = mantissa.checked_mul(power(scale.unsigned_abs())?).ok_or_else(too_long)?;
        }
        Ok(Decimal { mantissa, scale: scale.max(0).unsigned_abs() })
    }

    /// The same number at another scale, rounded half away from zero.
    pub(super) fn rescale(self, scale: u32) -> Result<Decimal, PgError> {
        let mantissa = if scale >= self.scale {
            self.mantissa.checked_mul(power(scale - self.scale)?).ok_or_else(too_long)?
        } else {
            let divisor = power(self.scale - scale)?;
            let half = divisor / 2 * self.mantissa.signum();
            (self.mantissa + half) / divisor
        };
        Ok(Decimal { mantissa, scale })
    }

    fn aligned(self, other: Decimal) -> Result<(i128, i128, u32), PgError> {
        let scale = self.scale.max(other.scale);
        Ok((self.rescale(scale)?.mantissa, other.rescale(scale)?.mantissa, scale))
    }

    pub(super) fn add(self, other: Decimal) -> Result<Decimal, PgError> {
        let (a, b, scale) = self.aligned(other)?;
        Ok(Decimal { mantissa: a.checked_add(b).ok_or_else(too_long)?, scale })
    }

    pub(super) fn negate(self) -> Decimal {
        Decimal { mantissa: -self.mantissa, scale: self.scale }
    }

    pub(super) fn multiply(self, other: Decimal) -> Result<Decimal, PgError> {
        let mantissa = self.mantissa.checked_mul(other.mantissa).ok_or_else(too_long)?;
        Ok(Decimal { mantissa, scale: self.scale + other.scale })
    }

    /// The weight and value of the first digit in base 10000 (`NumericVar.weight`, `digits[0]`).
    fn first_digit(self) -> (i32, i128) {
        if self.mantissa == 0 {
            return (0, 0);
        }
        let mut weight = 0i32;
        let unit = 10i128.pow(self.scale.min(38));
        let mut value = self.mantissa.abs();
        while value < unit {
            value = value.saturating_mul(10_000);
            weight -= 1;
        }
        let mut whole = value / unit;
        while whole >= 10_000 {
            whole /= 10_000;
            weight += 1;
        }
        (weight, whole)
    }

    /// With the result's scale chosen as `select_div_scale` does: at least sixteen significant digits.
    pub(super) fn divide(self, other: Decimal) -> Result<Decimal, PgError> {
        if other.mantissa == 0 {
            return Err(PgError::error(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        let (weight1, first1) = self.first_digit();
        let (weight2, first2) = other.first_digit();
        let quotient_weight = weight1 - weight2 - i32::from(first1 <= first2);
        let scale = (16 - quotient_weight * 4).max(0).unsigned_abs().max(self.scale).max(other.scale);
        let mut numerator = self.mantissa;
        let mut denominator = other.mantissa;
        let shift = scale + other.scale;
        if shift >= self.scale {
            numerator = numerator.checked_mul(power(shift - self.scale)?).ok_or_else(too_long)?;
        } else {
            denominator = denominator.checked_mul(power(self.scale - shift)?).ok_or_else(too_long)?;
        }
        let quotient = numerator / denominator;
        let remainder = (numerator % denominator).abs();
        let sign = numerator.signum() * denominator.signum();
        let up = i128::from(remainder >= denominator.abs() - remainder);
        Ok(Decimal { mantissa: quotient + sign * up, scale })
    }

    pub(super) fn remainder(self, other: Decimal) -> Result<Decimal, PgError> {
        let (a, b, scale) = self.aligned(other)?;
        if b == 0 {
            return Err(PgError::error(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        Ok(Decimal { mantissa: a % b, scale })
    }

    pub(super) fn compare(self, other: Decimal) -> Ordering {
        match self.aligned(other) {
            Ok((a, b, _)) => a.cmp(&b),
            Err(_) => self.to_float().total_cmp(&other.to_float()),
        }
    }

    pub(super) fn to_float(self) -> f64 {
        self.to_string().parse().unwrap_or(0.0)
    }

    /// Rounded half away from zero; None when it does not fit.
    pub(super) fn to_int(self) -> Option<i64> {
        i64::try_from(self.rescale(0).ok()?.mantissa).ok()
    }

    /// The binary form: base-10000 digits, weight, sign and scale (`numeric_send`).
    pub(super) fn to_binary(self, out: &mut bytes::BytesMut) {
        use bytes::BufMut;
        // Pad the fraction to whole base-10000 digits.
        let padding = (4 - self.scale % 4) % 4;
        let fraction_digits = (self.scale + padding) / 4;
        let mut rest = self.mantissa.unsigned_abs();
        let mut digits: Vec<i16> = Vec::new();
        if padding > 0 {
            let low = rest % 10u128.pow(4 - padding) * 10u128.pow(padding);
            digits.push(i16::try_from(low).unwrap_or(0));
            rest /= 10u128.pow(4 - padding);
        }
        while rest > 0 {
            digits.push(i16::try_from(rest % 10_000).unwrap_or(0));
            rest /= 10_000;
        }
        digits.reverse();
        let mut weight = i32::try_from(digits.len()).unwrap_or(0) - fraction_digits.cast_signed() - 1;
        while digits.first() == Some(&0) {
            digits.remove(0);
            weight -= 1;
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        if digits.is_empty() {
            weight = 0;
        }
        out.put_i16(i16::try_from(digits.len()).unwrap_or(0));
        out.put_i16(i16::try_from(weight).unwrap_or(0));
        out.put_u16(if self.mantissa < 0 { 0x4000 } else { 0 });
        out.put_u16(u16::try_from(self.scale).unwrap_or(0));
        for digit in digits {
            out.put_i16(digit);
        }
    }

    /// Reads what [`Decimal::to_binary`] writes.
    pub(super) fn from_binary(bytes: &[u8]) -> Result<Decimal, PgError> {
        let bad =
            || PgError::error(SqlState::INVALID_BINARY_REPRESENTATION, "invalid length in external \"numeric\" value");
        let word = |index: usize| {
            bytes.get(index * 2..index * 2 + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).ok_or_else(bad)
        };
        let count = usize::from(word(0)?);
        let weight = i32::from(word(1)?.cast_signed());
        let sign = word(2)?;
        let scale = u32::from(word(3)?);
        if sign != 0 && sign != 0x4000 {
            return Err(PgError::unsupported("numeric NaN and infinity"));
        }
        let mut mantissa: i128 = 0;
        for index in 0..count {
            mantissa = mantissa
                .checked_mul(10_000)
                .and_then(|m| m.checked_add(i128::from(word(4 + index).ok()?)))
                .ok_or_else(too_long)?;
        }
        // The value is mantissa * 10000^(weight - count + 1).
        let exponent = (weight - i32::try_from(count).map_err(|_| bad())? + 1) * 4;
        let mut value = if exponent >= 0 {
            let mantissa = mantissa.checked_mul(power(exponent.unsigned_abs())?).ok_or_else(too_long)?;
            Decimal { mantissa, scale: 0 }
        } else {
            Decimal { mantissa, scale: exponent.unsigned_abs() }
        };
        if sign == 0x4000 {
            value.mantissa = -value.mantissa;
        }
        value.rescale(scale)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = self.scale as usize;
        if self.mantissa < 0 {
            f.write_str("-")?;
        }
        if scale == 0 {
            return f.write_str(&digits);
        }
        if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            write!(f, "{whole}.{fraction}")
        } else {
            write!(f, "0.{digits:0>scale$}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn division_has_the_scale_that_postgresql_chooses() {
        let div = |a: &str, b: &str| Decimal::parse(a).unwrap().divide(Decimal::parse(b).unwrap()).unwrap().to_string();
        // Asked of PostgreSQL 15.
        assert_eq!(div("1", "3"), "0.33333333333333333333");
        assert_eq!(div("7", "2"), "3.5000000000000000");
        assert_eq!(div("10000", "3"), "3333.3333333333333333");
        assert_eq!(div("100000000", "3"), "33333333.333333333333");
        assert_eq!(div("1.5", "0.01"), "150.0000000000000000");
        assert_eq!(div("0.0001", "3"), "0.000033333333333333333333");
    }

    #[test]
    fn binary_round_trip() {
        for text in ["0", "1", "-1", "10000", "123456789.0123456789", "0.00001", "-0.5", "1.50", "100000000"] {
            let value = Decimal::parse(text).unwrap();
            let mut out = bytes::BytesMut::new();
            value.to_binary(&mut out);
            assert_eq!(Decimal::from_binary(&out).unwrap().to_string(), text);
        }
    }
}
