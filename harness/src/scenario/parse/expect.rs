//! `[expect]`: the end, bounds, known bugs, excuses, statements and figures.

use std::time::Duration;

use indexmap::IndexMap;
use toml::de::DeValue;

use super::Names;
use super::server::scalar;
use super::traffic::push_wrong;
use crate::invariant::{self, Takes};
use crate::scenario::model::{
    Bound, BoundValue, Comparison, Declared, ErrorCheck, Excuse, Expect, FigureUnit, Known, Operator, SqlCheck,
};
use crate::scenario::reader::{At, Log, Span, Value, suggest};
use crate::scenario::report::Diagnostic;
use crate::scenario::steps::Wrong;
use crate::scenario::units;
use crate::trace::figures;

/// The end of the fault phase if it could be read, and the expectations if all of them could.
pub(super) fn expect(
    value: &Value<'_, '_>,
    log: &Log<'_>,
    names: &Names<'_>,
) -> Option<(Option<Duration>, Option<Expect>)> {
    let mut reader = value.table(log)?;
    let until = reader.need("until", |v, log| v.positive(log));
    let healing = reader.read("healing", |v, log| v.positive(log)).unwrap_or(Duration::from_secs(120));
    let holds = reader.read("holds", |v, log| v.list(log, |v| hold(v, log, names))).unwrap_or_default();
    let needs = reader
        .read("needs", |v, log| {
            v.list(log, |v| {
                let name = v.words(log)?;
                known_name(log, "capability", "undefined_capability", name, &v.span, names.capabilities);
                Some(name.to_owned())
            })
        })
        .unwrap_or_default();
    let known = reader.read("known", |v, log| v.list(log, |v| known(v, log, names))).unwrap_or_default();
    let violations = reader.read("violation", |v, log| v.list(log, |v| declared(v, log, names))).unwrap_or_default();
    let errors = reader.read("error", |v, log| v.list(log, |v| error(v, log))).unwrap_or_default();
    let excuses = reader.read("excuse", |v, log| v.list(log, |v| excuse(v, log, names))).unwrap_or_default();
    let sql = reader.read("sql", |v, log| v.list(log, |v| sql(v, log))).unwrap_or_default();
    let mut figures = IndexMap::new();
    if let Some(value) = reader.take("figures") {
        read_figures(&value, log, names, "", &mut figures);
    }
    reader.finish();

    let mut bounds: Vec<Bound> = Vec::new();
    let mut places: Vec<At<String>> = Vec::new();
    for At { value: (invariant, bound), span } in holds {
        if let Some(first) = places.iter().find(|place| place.value == invariant) {
            log.push(
                Diagnostic::new("scenario::duplicate", span.clone(), format!("`{invariant}` is in `holds` twice"))
                    .label("again")
                    .note(first.span.clone(), "first here"),
            );
        }
        if let Some(excused) = excuses.iter().find(|excuse| excuse.value.invariant == invariant)
            && excused.value.pool.is_none()
        {
            log.push(
                Diagnostic::new(
                    "scenario::contradiction",
                    span.clone(),
                    format!("`{invariant}` both holds and is excused"),
                )
                .label("holds")
                .note(excused.span.clone(), "excused for every pool"),
            );
        }
        if let Some(value) = bound {
            bounds.push(Bound { invariant: invariant.clone(), value });
        }
        places.push(At { value: invariant, span });
    }
    let expect = until.map(|until| Expect {
        until,
        healing,
        bounds,
        excuses: excuses.into_iter().map(|excuse| excuse.value).collect(),
        known,
        violations,
        errors,
        sql,
        needs,
        figures,
        lateness: std::time::Duration::ZERO,
    });
    Some((until, expect))
}

/// Says that a name isn't known, if the names are.
fn known_name(log: &Log<'_>, what: &str, code: &str, name: &str, span: &Span, known: &[&str]) {
    if known.is_empty() || known.contains(&name) {
        return;
    }
    let code = match code {
        "undefined_invariant" => "scenario::undefined_invariant",
        "undefined_pool" => "scenario::undefined_pool",
        _ => "scenario::undefined_capability",
    };
    log.push(
        Diagnostic::new(code, span.clone(), format!("there is no {what} `{name}`"))
            .label(format!("unknown {what}"))
            .maybe_help(suggest(name, known.iter().copied())),
    );
}

/// `"recovery within 1s of server-up"`, `"bounded-bypass at most 3"`, or a name alone.
fn hold(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<At<(String, Option<BoundValue>)>> {
    let text = value.words(log)?;
    match bound(text) {
        Ok((name, bound)) => {
            let at = text.find(name).unwrap_or(0);
            let span = crate::scenario::reader::inside(log.text, &value.span, text, at, at + name.len());
            known_name(log, "invariant", "undefined_invariant", name, &span, names.invariants);
            if let Some(wrong) = bound.and_then(|bound| misfit(name, bound)) {
                log.push(
                    Diagnostic::new("scenario::bad_bound", value.span.clone(), wrong.0)
                        .label("this bound")
                        .help(wrong.1),
                );
            }
            Some(At { value: (name.to_owned(), bound), span })
        }
        Err(wrong) => {
            push_wrong(log, "scenario::bad_bound", text, &value.span, wrong);
            None
        }
    }
}

/// A bound of a kind that the invariant does not have: what is wrong, and what to write instead.
fn misfit(name: &str, bound: BoundValue) -> Option<(String, String)> {
    let meta = invariant::all().iter().find(|meta| meta.name == name)?;
    match (meta.takes, bound) {
        (Takes::Time, BoundValue::Within(_)) | (Takes::Count, BoundValue::AtMost(_)) => None,
        (Takes::Time, _) => {
            Some((format!("`{name}` has no bound in numbers"), format!("write `{name} within DURATION`")))
        }
        (Takes::Count, _) => Some((format!("`{name}` has no bound in time"), format!("write `{name} at most COUNT`"))),
        (Takes::Nothing, _) => {
            Some((format!("`{name}` has no bound: it holds or does not"), format!("write `{name}`")))
        }
    }
}

fn bound(text: &str) -> Result<(&str, Option<BoundValue>), Wrong> {
    const FORMS: &str =
        "a bound is `NAME within DURATION` (for recovery also `… of server-up`) or `NAME at most COUNT`";
    let place = |part: &str| {
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        start..start + part.len()
    };
    let wrong = |part: &str, message: String, label: &str| Wrong {
        help: Some(FORMS.to_owned()),
        ..Wrong::new(place(part), message, label)
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [name] => Ok((name, None)),
        [name, "within", time] | [name @ "recovery", "within", time, "of", "server-up"] => {
            let value =
                units::duration(time).map_err(|bad| wrong(time, format!("`{time}` is not a duration"), &bad.label))?;
            Ok((name, Some(BoundValue::Within(value))))
        }
        [name, "at", "most", count] => match count.parse() {
            Ok(number) if count.bytes().all(|b| b.is_ascii_digit()) => Ok((name, Some(BoundValue::AtMost(number)))),
            _ => Err(wrong(count, format!("`{count}` is not a count"), "expected a whole number")),
        },
        [_, "within"] | [_, "at"] | [_, "at", "most"] => {
            Err(wrong(words[words.len() - 1], "the bound is missing".to_owned(), "expected a bound after this"))
        }
        [_, "within", _, extra, ..] | [_, "at", "most", _, extra, ..] => {
            Err(wrong(extra, format!("`{extra}` is too much"), "nothing is expected here"))
        }
        [_, "at", other, ..] => Err(wrong(other, format!("`most` was expected, not `{other}`"), "expected `most`")),
        [_, other, ..] => Err(wrong(other, format!("`{other}` gives no bound"), "expected `within` or `at most`")),
        [] => Err(wrong(text, "the name is missing".to_owned(), "expected an invariant's name")),
    }
}

/// `[[expect.known]]`
fn known(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<Known> {
    let mut reader = value.table(log)?;
    let pool = reader.need("pool", |v, log| pool(v, log, names));
    let versions = reader.need("versions", known_versions);
    let violates = reader.need("violates", |v, log| invariant(v, log, names));
    let link = reader.need("link", known_link);
    reader.finish();
    Some(Known { pool: pool?, versions: versions?, violates: violates?, link: link? })
}

/// The versions that have a bug, as Cargo writes requirements.
pub(in crate::scenario) fn known_versions(value: &Value<'_, '_>, log: &Log<'_>) -> Option<String> {
    let text = value.words(log)?;
    if let Err(error) = semver::VersionReq::parse(text) {
        log.push(
            Diagnostic::new(
                "scenario::bad_version",
                value.span.clone(),
                format!("`{text}` is not a requirement of versions"),
            )
            .label(error.to_string())
            .help("it is written as in Cargo.toml: `<=0.9.1`, `>=0.8, <0.9`"),
        );
        return None;
    }
    Some(text.to_owned())
}

/// Where a bug is described.
pub(in crate::scenario) fn known_link(value: &Value<'_, '_>, log: &Log<'_>) -> Option<String> {
    let link = value.words(log)?;
    let in_repository =
        link.split_once('#').is_some_and(|(path, section)| path.ends_with(".md") && !section.is_empty());
    if !link.starts_with("https://") && !link.starts_with("http://") && !in_repository {
        log.push(
            Diagnostic::new("scenario::bad_value", value.span.clone(), "this is no link")
                .label("expected an address that begins with `https://`")
                .help("or a section of a file of yours: `known/README.md#the-section`"),
        );
    }
    Some(link.to_owned())
}

/// `[[expect.violation]]`
fn declared(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<Declared> {
    let mut reader = value.table(log)?;
    let invariant = reader.need("invariant", |v, log| invariant(v, log, names));
    let pool = reader.read("pool", |v, log| pool(v, log, names));
    let because = reader.need("because", |v, log| v.words(log));
    reader.finish();
    Some(Declared { invariant: invariant?, pool, because: because?.trim().to_owned() })
}

/// `[[expect.error]]`
fn error(value: &Value<'_, '_>, log: &Log<'_>) -> Option<ErrorCheck> {
    let mut reader = value.table(log)?;
    let text = reader.need("text", |v, log| v.words(log));
    let count = reader.read("count", |v, log| compared(v, log, None));
    let first = reader.read("first", |v, log| compared(v, log, None));
    reader.finish();
    Some(ErrorCheck { text: text?.trim().to_owned(), count, first })
}

/// A comparison.
fn compared(value: &Value<'_, '_>, log: &Log<'_>, figure: Option<&str>) -> Option<Comparison> {
    if let DeValue::Integer(number) = value.raw {
        log.push(
            Diagnostic::new("scenario::bad_comparison", value.span.clone(), "a comparison is a string")
                .label("how is it compared?")
                .help(format!("like \"= {0}\" or \"<= {0}\"", number.as_str())),
        );
        return None;
    }
    let text = value.words(log)?;
    let of_its_unit = |comparison| match figure {
        Some(name) => of_its_unit(name, comparison, text),
        None => Ok(comparison),
    };
    match comparison(text).and_then(of_its_unit) {
        Ok(comparison) => Some(comparison),
        Err(wrong) => {
            push_wrong(log, "scenario::bad_comparison", text, &value.span, wrong);
            None
        }
    }
}

pub(in crate::scenario) fn pool(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<String> {
    let name = value.words(log)?;
    known_name(log, "pool", "undefined_pool", name, &value.span, names.pools);
    Some(name.to_owned())
}

pub(in crate::scenario) fn invariant(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<String> {
    let name = value.words(log)?;
    known_name(log, "invariant", "undefined_invariant", name, &value.span, names.invariants);
    Some(name.to_owned())
}

/// `[[expect.excuse]]`
fn excuse(value: &Value<'_, '_>, log: &Log<'_>, names: &Names<'_>) -> Option<At<Excuse>> {
    let mut reader = value.table(log)?;
    let invariant = reader.need_at("invariant", |v, log| invariant(v, log, names));
    let pool = reader.read("pool", |v, log| pool(v, log, names));
    let why = reader.need("why", |v, log| v.words(log));
    reader.finish();
    let invariant = invariant?;
    Some(At { span: invariant.span, value: Excuse { invariant: invariant.value, pool, why: why?.trim().to_owned() } })
}

/// `[[expect.sql]]`
fn sql(value: &Value<'_, '_>, log: &Log<'_>) -> Option<SqlCheck> {
    let mut reader = value.table(log)?;
    let query = reader.need("query", |v, log| v.words(log));
    let equals = reader.need("equals", |v, log| match v.raw {
        // As the server prints it, not as it prints settings.
        DeValue::Boolean(value) => Some(if *value { "t" } else { "f" }.to_owned()),
        _ => scalar(v, log),
    });
    reader.finish();
    Some(SqlCheck { query: query?.trim().to_owned(), equals: equals? })
}

/// `[expect.figures]`: dotted names may be written as tables.
fn read_figures(
    value: &Value<'_, '_>,
    log: &Log<'_>,
    names: &Names<'_>,
    prefix: &str,
    figures: &mut IndexMap<String, Comparison>,
) {
    for (key, value) in value.named(log).unwrap_or_default() {
        let name = if prefix.is_empty() { key.value.to_owned() } else { format!("{prefix}.{}", key.value) };
        if let DeValue::Table(_) = value.raw {
            read_figures(&value, log, names, &name, figures);
            continue;
        }
        let known = names.figures.iter().any(|known| match known.strip_suffix(".*") {
            Some(stem) => name.strip_prefix(stem).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
            None => *known == name,
        });
        if !known && !names.figures.is_empty() || name.trim().is_empty() {
            log.push(
                Diagnostic::new("scenario::undefined_figure", key.span.clone(), format!("there is no figure `{name}`"))
                    .label("unknown figure")
                    .maybe_help(suggest(&name, names.figures.iter().copied())),
            );
        }
        if let Some(comparison) = compared(&value, log, known.then_some(name.as_str()))
            && figures.insert(name.clone(), comparison).is_some()
        {
            log.push(
                Diagnostic::new("scenario::duplicate", key.span, format!("the figure `{name}` is given twice"))
                    .label("again"),
            );
        }
    }
}

/// A figure that is a time is compared with a time, a share with a share, a count with a count.
fn of_its_unit(name: &str, comparison: Comparison, text: &str) -> Result<Comparison, Wrong> {
    let expected = figures::unit(name);
    if comparison.unit == expected {
        return Ok(comparison);
    }
    let (what, label) = match expected {
        FigureUnit::Seconds => ("a duration", "expected a duration, like `2s` or `250ms`"),
        FigureUnit::Share => ("a share", "expected a share, like `95%`"),
        FigureUnit::Count => ("a count", "expected a plain number"),
    };
    let number = text.trim_start_matches(|c: char| c.is_whitespace() || "<>=".contains(c)).trim_end();
    let start = text.len() - text.trim_start_matches(|c: char| c.is_whitespace() || "<>=".contains(c)).len();
    Err(Wrong::new(start..start + number.len(), format!("`{name}` is {what}, and `{number}` is not"), label))
}

/// `<= 20`, `= 0`, `>= 95%`, `< 2s`.
fn comparison(text: &str) -> Result<Comparison, Wrong> {
    const FORMS: &str = "a comparison is `= 0`, `<= 20`, `>= 95%`, `< 2s` or `> 1`";
    const OPERATORS: [(&str, Operator); 5] = [
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("=", Operator::Equal),
        ("<", Operator::Below),
        (">", Operator::Above),
    ];
    let start = text.len() - text.trim_start().len();
    let trimmed = text.trim();
    let wrong =
        |span, message: String, label: &str| Wrong { help: Some(FORMS.to_owned()), ..Wrong::new(span, message, label) };
    let Some((symbol, operator)) = OPERATORS.into_iter().find(|(symbol, _)| trimmed.starts_with(symbol)) else {
        return Err(wrong(
            start..start + trimmed.len(),
            "this is no comparison".to_owned(),
            "expected `=`, `<=`, `>=`, `<` or `>`",
        ));
    };
    let number = trimmed[symbol.len()..].trim_start();
    let span = start + trimmed.len() - number.len()..start + trimmed.len();
    let plain = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        digits.then(|| text.parse::<f64>().ok()).flatten().filter(|number| *number <= 1e15)
    };
    if let Some(value) = plain(number) {
        return Ok(Comparison { operator, value, unit: FigureUnit::Count });
    }
    if let Some(percent) = number.strip_suffix('%') {
        return match plain(percent.trim_end()) {
            Some(percent) if percent <= 100.0 => {
                Ok(Comparison { operator, value: percent / 100.0, unit: FigureUnit::Share })
            }
            _ => Err(wrong(span, format!("`{number}` is not a share"), "expected `0%` to `100%`")),
        };
    }
    match units::duration(number) {
        Ok(time) => Ok(Comparison { operator, value: time.as_secs_f64(), unit: FigureUnit::Seconds }),
        Err(_) => Err(wrong(
            span,
            if number.is_empty() { "the number is missing".to_owned() } else { format!("`{number}` is no number") },
            "expected a number, a share or a duration",
        )),
    }
}
