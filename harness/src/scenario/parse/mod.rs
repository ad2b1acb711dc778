//! From a file's text to a [`Scenario`], or to all of its mistakes.
//!
//! TOML's own syntax is read by the `toml` crate, which recovers from mistakes; the tree that it leaves is walked here, a
//! file for each part. After a mistake of syntax the tree may lack what stood behind it: then only those mistakes are
//! reported that don't depend on what is absent.

mod arrive;
mod expect;
mod fault;
mod queue;
mod server;
mod traffic;

use toml::de::DeTable;

use super::model::Scenario;
use super::reader::{Log, Reader, Span, Value};
use super::report::{Diagnostic, Report};
use super::{jobs, semantics};

pub(super) use expect::{invariant, known_link, known_versions, pool};
pub use fault::{FAULTS, FaultKind};
pub(super) use traffic::{Draft, DraftStep};

/// The names that a file may use and that the parser can't know. An empty list isn't checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names<'a> {
    /// Invariants: `no-lost-wakeup`.
    pub invariants: &'a [&'a str],
    /// Pools: `bb8`.
    pub pools: &'a [&'a str],
    /// What a pool may be able to do: `idle_timeout`.
    pub capabilities: &'a [&'a str],
    /// Figures: `peak_connections`; a name that ends in `.*` stands for all that begin so.
    pub figures: &'a [&'a str],
}

/// What came of a file.
#[derive(Debug)]
pub struct Checked {
    /// The scenario, unless the file has errors.
    pub scenario: Option<Scenario>,
    /// Errors and warnings; perhaps empty.
    pub report: Report,
}

/// Reads a scenario. `name` is the file's name in the report.
///
/// # Errors
/// All mistakes of the file.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Report> {
    parse_with(name, text, &Names::default())
}

/// Reads a scenario, and checks the names of invariants, pools, capabilities and figures too.
///
/// # Errors
/// All mistakes of the file.
pub fn parse_with(name: &str, text: &str, names: &Names<'_>) -> Result<Scenario, Report> {
    let Checked { scenario, report } = check(name, text, names);
    scenario.ok_or(report)
}

/// Reads a scenario, and gives the warnings as well.
#[must_use]
pub fn check(name: &str, text: &str, names: &Names<'_>) -> Checked {
    let (scenario, report) = document(name, text, |log, document| top(log, document, names));
    Checked { scenario, report }
}

/// Reads a file of any kind: `top` reads its tables.
pub(super) fn document<T>(
    name: &str,
    text: &str,
    top: impl FnOnce(&Log<'_>, &DeTable<'_>) -> Option<T>,
) -> (Option<T>, Report) {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let log = Log::new(text);
    let mut read = top(&log, document.get_ref());
    let mut found = log.into_inner();
    if !syntax.is_empty() {
        let mut syntax: Vec<Diagnostic> = syntax.iter().map(|error| syntax_error(text, error)).collect();
        syntax.sort_by_key(|d| d.span.start);
        // What follows in the same line follows from the first one.
        syntax.dedup_by_key(|d| lines_of(text, &(d.span.start..d.span.start)));
        let lines: Vec<Span> = syntax.iter().map(|d| lines_of(text, &d.span)).collect();
        found.retain(|d| {
            d.code != "scenario::missing_key"
                && !d.code.starts_with("scenario::undefined")
                && !lines.iter().any(|line| d.span.start <= line.end && line.start <= d.span.end)
        });
        found.extend(syntax);
    }
    let report = Report::new(name, text, found);
    if report.has_errors() {
        read = None;
    }
    debug_assert!(read.is_some() || report.has_errors(), "a file was refused without a reason");
    (read, report)
}

fn syntax_error(text: &str, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(text.len()..text.len());
    // "missing value, expected string, integer": the first half says what, the second what was expected.
    let (message, label) = match error.message().split_once(", expected ") {
        Some((what, "nothing")) => (what.to_owned(), "not expected here".to_owned()),
        Some((what, expected)) => (what.to_owned(), format!("expected {expected}")),
        None => (error.message().to_owned(), String::new()),
    };
    let duplicate = message == "duplicate key";
    let diagnostic = Diagnostic::new("scenario::syntax", span, message);
    if duplicate {
        diagnostic.label("this key is here twice")
    } else if label.is_empty() {
        diagnostic.label("not TOML")
    } else {
        diagnostic.label(label)
    }
}

/// The whole lines that a place touches.
fn lines_of(text: &str, span: &Span) -> Span {
    let bytes = text.as_bytes();
    let start = span.start.min(bytes.len());
    let end = span.end.clamp(start, bytes.len());
    let line_start = bytes[..start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line_end = bytes[end..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| end + at);
    line_start..line_end
}

fn top(log: &Log<'_>, document: &DeTable<'_>, names: &Names<'_>) -> Option<Scenario> {
    let first_line = log.text.find('\n').unwrap_or(log.text.len());
    let mut top = Reader::new(log, "", document, 0..first_line);
    let title = top.need("title", |v, log| {
        let title = v.words(log)?;
        if title.contains('\n') {
            log.push(
                Diagnostic::new("scenario::bad_value", v.span.clone(), "`title` has more than one line")
                    .label("one line")
                    .help("what happens is told in `story`"),
            );
        }
        Some(title.trim().to_owned())
    });
    let story = top.need("story", |v, log| Some(v.words(log)?.trim().to_owned()));
    let seeds = top.read("seeds", seeds).unwrap_or_else(|| vec![1, 2, 3, 4]);
    let interleave = top.read("interleave", |v, log| v.integer(log, 0..=LARGEST));
    let pools = top.read("pools", |v, log| v.list(log, |v| expect::pool(v, log, names))).unwrap_or_default();
    let server = server::server(top.take("server"), log);
    let standby = top.read("standby", server::standby);
    let standby_here = standby.is_some();
    let network = server::network(top.take("network"), log);
    let roles: Vec<&str> = server.roles.keys().map(String::as_str).collect();
    let apps = top.need("app", |v, log| traffic::apps(v, log, &roles)).unwrap_or_default();
    let app_names: Vec<&str> = apps.keys().map(String::as_str).collect();
    let queues = top.read("queue", |v, log| queue::queues(v, log, &app_names)).unwrap_or_default();
    let expect = top.need("expect", |v, log| expect::expect(v, log, names));
    let until = expect.as_ref().and_then(|(until, _)| *until);
    let workloads = top.need("workload", |v, log| traffic::workloads(v, log, &app_names, until)).unwrap_or_default();
    let workload_names: Vec<&str> = workloads.keys().map(String::as_str).collect();
    let world = fault::World {
        apps: &apps,
        workloads: &workload_names,
        standby: standby_here,
        version: server.version,
        roles: &roles,
        until,
    };
    let faults = top.read("fault", |v, log| v.list(log, |v| fault::fault(v, log, &world))).unwrap_or_default();
    top.finish();
    semantics::workloads(log, &workloads, &apps);
    jobs::queues(log, &workloads, &queues);

    Some(Scenario {
        title: title?,
        story: story?,
        seeds,
        interleave,
        server,
        standby,
        network,
        pools,
        queues: queues.into_iter().map(|(name, queue)| (name, queue.value)).collect(),
        apps: apps.into_iter().map(|(name, app)| (name, app.value)).collect(),
        workloads: workloads.into_iter().map(|(name, draft)| Some((name, draft.workload?))).collect::<Option<_>>()?,
        faults,
        expect: expect?.1?,
    })
}

/// TOML's integers are signed.
const LARGEST: u64 = i64::MAX as u64;

/// `[1, 2, 3]` or `"1..=8"`.
pub(super) fn seeds(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Vec<u64>> {
    const MOST: u64 = 10_000;
    let wrong = |label: String| {
        log.push(
            Diagnostic::new("scenario::bad_value", value.span.clone(), "these are no seeds")
                .label(label)
                .help("seeds are listed (`[1, 2, 3]`) or given as a range (`\"1..=8\"`)"),
        );
    };
    let Some(text) = value.raw.as_str() else {
        let seeds = value.list(log, |v| v.integer(log, 0..=LARGEST))?;
        if seeds.is_empty() {
            wrong("at least one is needed".to_owned());
            return None;
        }
        return Some(seeds);
    };
    let bounds = text.split_once("..=").and_then(|(first, last)| {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        Some((digits(first)?, digits(last)?))
    });
    match bounds {
        Some((first, last)) if first <= last && last - first < MOST && last <= LARGEST => {
            Some((first..=last).collect())
        }
        Some((first, last)) if first > last => {
            wrong("the smaller one comes first".to_owned());
            None
        }
        Some(_) => {
            wrong(format!("at most {MOST} seeds"));
            None
        }
        None => {
            wrong("expected a range like `1..=8`".to_owned());
            None
        }
    }
}

/// Whether a name of an app or a workload is a plain word; it becomes part of traces and of steps.
fn plain_name(log: &Log<'_>, what: &str, name: &str, span: &Span) {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain || name.len() > 63 {
        log.push(
            Diagnostic::new("scenario::bad_name", span.clone(), format!("`{name}` is no name for {what}"))
                .label("letters, digits, `_` and `-`, up to 63, a letter first"),
        );
    }
}
