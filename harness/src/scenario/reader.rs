//! Takes typed values out of a TOML tree and writes down every mistake on the way.
//!
//! serde stops at the first mistake, so a file's tables are read by hand: a [`Reader`] gives out a table's keys one by one,
//! and its `finish` complains about those that nobody asked for. A value that can't be read is logged and stands as
//! `None`, and reading goes on: the file fails at the end because its log isn't empty.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Diagnostic;
use super::units;

/// A place in the file, in bytes.
pub(super) type Span = Range<usize>;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// The mistakes found so far.
pub(super) struct Log<'t> {
    pub(super) text: &'t str,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'t> Log<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Log { text, found: RefCell::default() }
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    pub(super) fn into_inner(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// Something else than what is expected there.
    fn mismatch(&self, value: &Value<'_, '_>, expected: &str) {
        self.push(
            Diagnostic::new(
                "scenario::wrong_type",
                value.span.clone(),
                format!("`{}` must be {expected}, and is {}", value.path, kind(value.raw)),
            )
            .label(format!("expected {expected}")),
        );
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The nearest of `known`, if any is near enough to be meant.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?``, or all that there is.
pub(super) fn suggest<'n>(name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> Option<String> {
    if let Some(near) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    (!all.is_empty()).then(|| format!("there is {}", all.join(", ")))
}

/// A value of the tree with its place and the path of keys that leads to it.
#[derive(Clone)]
pub(super) struct Value<'v, 'i> {
    pub(super) raw: &'v DeValue<'i>,
    pub(super) span: Span,
    /// `app.web.pool.max_size`
    pub(super) path: String,
    /// The place of its key, or of itself in an array.
    pub(super) key_span: Span,
}

impl<'v, 'i> Value<'v, 'i> {
    fn element(&self, raw: &'v Spanned<DeValue<'i>>) -> Self {
        Value { raw: raw.get_ref(), span: raw.span(), path: self.path.clone(), key_span: raw.span() }
    }

    pub(super) fn string(&self, log: &Log<'_>) -> Option<&'v str> {
        let text = self.raw.as_str();
        if text.is_none() {
            log.mismatch(self, "a string");
        }
        text
    }

    /// A string with something in it.
    pub(super) fn words(&self, log: &Log<'_>) -> Option<&'v str> {
        let text = self.string(log)?;
        if text.trim().is_empty() {
            log.push(
                Diagnostic::new("scenario::empty", self.span.clone(), format!("`{}` is empty", self.path))
                    .label("some text is needed"),
            );
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self, log: &Log<'_>) -> Option<bool> {
        let value = self.raw.as_bool();
        if value.is_none() {
            log.mismatch(self, "true or false");
        }
        value
    }

    pub(super) fn integer(&self, log: &Log<'_>, allowed: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.raw.as_integer() else {
            log.mismatch(self, "a whole number");
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        let inside = u64::try_from(value).ok().filter(|value| allowed.contains(value));
        if inside.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            log.push(
                Diagnostic::new(
                    "scenario::out_of_range",
                    self.span.clone(),
                    format!("`{}` is out of range", self.path),
                )
                .label(format!("expected {least} to {most}")),
            );
        }
        inside
    }

    pub(super) fn count(&self, log: &Log<'_>, allowed: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let value = self.integer(log, u64::from(*allowed.start())..=u64::from(*allowed.end()))?;
        u32::try_from(value).ok()
    }

    /// A count, or a word that stands for one.
    pub(super) fn count_or(
        &self,
        log: &Log<'_>,
        allowed: std::ops::RangeInclusive<u32>,
        (word, meaning): (&'static str, u32),
    ) -> Option<u32> {
        if self.raw.as_str().is_some() {
            return self.choice(log, &[(word, meaning)]);
        }
        if self.raw.as_integer().is_none() {
            log.mismatch(self, &format!("a whole number or \"{word}\""));
            return None;
        }
        self.count(log, allowed)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, log: &Log<'_>, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.string(log)?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names = choices.iter().map(|(name, _)| *name);
            log.push(
                Diagnostic::new(
                    "scenario::unknown_value",
                    self.span.clone(),
                    format!("`{text}` is not a value of `{}`", self.path),
                )
                .label(format!("expected {}", one_of(names.clone())))
                .maybe_help(nearest(text, names).map(|near| format!("did you mean `{near}`?"))),
            );
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn duration(&self, log: &Log<'_>) -> Option<Duration> {
        self.quantity(log, "duration", "a duration, like \"5s\"", units::duration)
    }

    /// A duration that isn't zero.
    pub(super) fn positive(&self, log: &Log<'_>) -> Option<Duration> {
        let duration = self.duration(log)?;
        if duration.is_zero() {
            log.push(
                Diagnostic::new(
                    "scenario::out_of_range",
                    self.span.clone(),
                    format!("`{}` must be more than zero", self.path),
                )
                .label("at least `1ms`"),
            );
            return None;
        }
        Some(duration)
    }

    /// A duration that isn't zero, or `"never"`.
    pub(super) fn timeout(&self, log: &Log<'_>) -> Option<Option<Duration>> {
        if self.raw.as_str() == Some("never") {
            return Some(None);
        }
        self.positive(log).map(Some)
    }

    pub(super) fn rate(&self, log: &Log<'_>) -> Option<f64> {
        self.quantity(log, "rate", "a rate, like \"80/s\"", units::rate)
    }

    pub(super) fn bandwidth(&self, log: &Log<'_>) -> Option<u64> {
        self.quantity(log, "bandwidth", "a bandwidth, like \"1MiB/s\"", units::bandwidth)
    }

    fn quantity<T>(
        &self,
        log: &Log<'_>,
        what: &str,
        expected: &str,
        read: fn(&str) -> Result<T, units::Malformed>,
    ) -> Option<T> {
        let text = match self.raw {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) => {
                let help = format!("it is {expected}");
                log.push(
                    Diagnostic::new(
                        "scenario::missing_unit",
                        self.span.clone(),
                        format!("`{}` has no unit", self.path),
                    )
                    .label(format!("{} of what?", number.as_str()))
                    .help(help),
                );
                return None;
            }
            _ => {
                log.mismatch(self, expected);
                return None;
            }
        };
        match read(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                log.push(
                    Diagnostic::new("scenario::bad_quantity", self.span.clone(), format!("`{text}` is not a {what}"))
                        .label(wrong.label)
                        .help(wrong.help),
                );
                None
            }
        }
    }

    pub(super) fn array(&self, log: &Log<'_>) -> Option<Vec<Value<'v, 'i>>> {
        let Some(array) = self.raw.as_array() else {
            log.mismatch(self, "an array");
            return None;
        };
        Some(array.iter().map(|raw| self.element(raw)).collect())
    }

    /// The elements of an array, each read by `read`; those that can't be read are left out (and logged).
    pub(super) fn list<T>(&self, log: &Log<'_>, mut read: impl FnMut(&Value<'v, 'i>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.array(log)?.iter().filter_map(&mut read).collect())
    }

    pub(super) fn table<'l>(&self, log: &'l Log<'l>) -> Option<Reader<'v, 'i, 'l>> {
        let Some(table) = self.raw.as_table() else {
            log.mismatch(self, "a table");
            return None;
        };
        Some(Reader::new(log, &self.path, table, self.key_span.clone()))
    }

    /// A table whose keys are names of the author's choice, in the order of the file.
    pub(super) fn named(&self, log: &Log<'_>) -> Option<Vec<(At<&'v str>, Value<'v, 'i>)>> {
        let Some(table) = self.raw.as_table() else {
            log.mismatch(self, "a table");
            return None;
        };
        Some(entries(table, &self.path))
    }
}

/// `a`, `b` or `c`.
pub(super) fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

fn entries<'v, 'i>(table: &'v DeTable<'i>, path: &str) -> Vec<(At<&'v str>, Value<'v, 'i>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let name = At { value: key.get_ref().as_ref(), span: key.span() };
            let path = if path.is_empty() { name.value.to_owned() } else { format!("{path}.{}", name.value) };
            let value = Value { raw: value.get_ref(), span: value.span(), path, key_span: key.span() };
            (name, value)
        })
        .collect();
    // The tree is sorted by name; a file has an order.
    entries.sort_by_key(|(name, _)| name.span.start);
    entries
}

/// A table that is being read.
pub(super) struct Reader<'v, 'i, 'l> {
    pub(super) log: &'l Log<'l>,
    pub(super) path: String,
    /// The table's name in the file.
    pub(super) span: Span,
    left: Vec<(At<&'v str>, Value<'v, 'i>)>,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'v, 'i, 'l> Reader<'v, 'i, 'l> {
    pub(super) fn new(log: &'l Log<'l>, path: &str, table: &'v DeTable<'i>, span: Span) -> Self {
        Reader { log, path: path.to_owned(), span, left: entries(table, path), known: Vec::new(), missing: Vec::new() }
    }

    /// Takes a key out, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'v, 'i>> {
        self.known.push(key);
        let index = self.left.iter().position(|(name, _)| name.value == key)?;
        Some(self.left.remove(index).1)
    }

    /// Whether a key is (still) there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.iter().any(|(name, _)| name.value == key)
    }

    /// The value of a key that may be absent; `None` also when it can't be read.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'v, 'i>, &'l Log<'l>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        read(&value, self.log)
    }

    /// The same with its place.
    pub(super) fn read_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'v, 'i>, &'l Log<'l>) -> Option<T>,
    ) -> Option<At<T>> {
        let taken = self.take(key)?;
        let span = taken.span.clone();
        read(&taken, self.log).map(|value| At { value, span })
    }

    /// The value of a key that must be there.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'v, 'i>, &'l Log<'l>) -> Option<T>,
    ) -> Option<T> {
        self.expect(key);
        self.read(key, read)
    }

    /// The same with its place.
    pub(super) fn need_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'v, 'i>, &'l Log<'l>) -> Option<T>,
    ) -> Option<At<T>> {
        self.expect(key);
        self.read_at(key, read)
    }

    fn expect(&mut self, key: &'static str) {
        if !self.has(key) {
            self.missing.push(key);
        }
    }

    /// Complains about the keys that are left, and about those that are missing. Says whether some were left.
    pub(super) fn finish(self) -> bool {
        let place = |root: &str| {
            if self.path.is_empty() { root.to_owned() } else { format!("`{}`", self.path) }
        };
        let mut missing = self.missing;
        // Where the kind is unknown, the keys of all kinds were tried, some more than once.
        let mut known: Vec<&str> = Vec::new();
        for key in &self.known {
            if !known.contains(key) {
                known.push(key);
            }
        }
        for (name, _) in &self.left {
            let near = nearest(name.value, known.iter().copied());
            // A misspelt key is one mistake: what it was meant to be isn't missing too.
            missing.retain(|key| near != Some(key));
            self.log.push(
                Diagnostic::new(
                    "scenario::unknown_key",
                    name.span.clone(),
                    format!("`{}` is not a key of {}", name.value, place("the top level")),
                )
                .label("unknown key")
                .maybe_help(suggest(name.value, known.iter().copied())),
            );
        }
        for key in missing {
            self.log.push(
                Diagnostic::new(
                    "scenario::missing_key",
                    self.span.clone(),
                    format!("`{key}` is missing in {}", place("the file")),
                )
                .label(format!("needs `{key}`")),
            );
        }
        !self.left.is_empty()
    }
}

/// The place of a part of a string value: `from..to` are bytes of the decoded string, `span` is its place in the file,
/// quotes included.
pub(super) fn inside(text: &str, span: &Span, decoded: &str, from: usize, to: usize) -> Span {
    let Some(raw) = text.get(span.clone()) else {
        return span.clone();
    };
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| raw.starts_with(quote)).unwrap_or("");
    let escapes = quotes.starts_with('"');
    let mut at = quotes.len();
    if quotes.len() == 3 {
        // A newline right after the opening quotes isn't part of the string.
        at += ["\r\n", "\n"].iter().find(|end| raw[at..].starts_with(**end)).map_or(0, |end| end.len());
    }
    // Walks both texts side by side until the decoded one is at `wanted`.
    let mut decoded_at = 0;
    let mut advance = |wanted: usize| {
        while decoded_at < wanted && at < raw.len() {
            let Some(c) = decoded[decoded_at..].chars().next() else {
                break;
            };
            at += match raw.as_bytes()[at] {
                b'\\' if escapes => match raw.as_bytes().get(at + 1) {
                    Some(b'x') => 4,
                    Some(b'u') => 6,
                    Some(b'U') => 10,
                    Some(b'\n' | b'\r' | b' ' | b'\t') => {
                        // A line that goes on: nothing is decoded.
                        let tail = &raw[at + 1..];
                        at += 1 + (tail.len() - tail.trim_start().len());
                        continue;
                    }
                    _ => 2,
                },
                b'\r' if c == '\n' => 2,
                _ => raw[at..].chars().next().map_or(1, char::len_utf8),
            };
            decoded_at += c.len_utf8();
            while at < raw.len() && !raw.is_char_boundary(at) {
                at += 1;
            }
        }
        span.start + at.min(raw.len())
    };
    let start = advance(from);
    let end = advance(to);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_inside(raw: &str, decoded: &str, part: &str, expected: &str) {
        let text = format!("x = {raw}\n");
        let span = 4..4 + raw.len();
        let from = decoded.find(part).expect("the part is in the string");
        let found = inside(&text, &span, decoded, from, from + part.len());
        assert_eq!(&text[found], expected);
    }

    #[test]
    fn a_part_of_a_string_is_found_behind_escapes() {
        check_inside("\"hold 5mz\"", "hold 5mz", "5mz", "5mz");
        check_inside("'hold 5mz'", "hold 5mz", "5mz", "5mz");
        check_inside(r#""sql \"a\" 5mz""#, "sql \"a\" 5mz", "5mz", "5mz");
        check_inside(r#""\u00e9\t5mz""#, "é\t5mz", "5mz", "5mz");
        check_inside("\"é 5mz\"", "é 5mz", "5mz", "5mz");
        check_inside("\"\"\"\nhold \\\n    5mz\"\"\"", "hold 5mz", "5mz", "\\\n    5mz");
        check_inside("'''\r\na\r\n5mz'''", "a\n5mz", "5mz", "5mz");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("max_sise", ["min_idle", "max_size"]), Some("max_size"));
        assert_eq!(nearest("quux", ["min_idle", "max_size"]), None);
        assert_eq!(suggest("quux", ["a", "b"]).as_deref(), Some("there is `a`, `b`"));
    }
}
