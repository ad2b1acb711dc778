//! What is wrong with a scenario file: all mistakes in one report, each with its place, what was expected and how to
//! mend it.
//!
//! A [`Report`] is a [`miette::Diagnostic`] whose related diagnostics are the single mistakes; each of those also says its
//! line and column, for `--json` and for tests.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, SourceCode};

/// Whether a mistake makes the file unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file can't be run.
    Error,
    /// The file can be run, but says something that its author can't have meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Another place that helps to understand a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where, in bytes of the file.
    pub span: Range<usize>,
    /// What is there.
    pub label: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind: `scenario::unknown_key`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What stands at the place, or was expected there.
    pub label: String,
    /// The place, in bytes of the file.
    pub span: Range<usize>,
    /// The place's line, from 1.
    pub line: usize,
    /// The place's column in characters, from 1.
    pub column: usize,
    /// How to mend it.
    pub help: Option<String>,
    /// Other places that belong to it.
    pub notes: Vec<Note>,
}

impl Diagnostic {
    pub(super) fn new(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            label: String::new(),
            span,
            line: 0,
            column: 0,
            help: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    pub(super) fn note(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.notes.push(Note { span, label: label.into() });
        self
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Puts the place inside the text, at the borders of characters, and finds its line and column.
    fn locate(&mut self, text: &str) {
        clamp(&mut self.span, text);
        for note in &mut self.notes {
            clamp(&mut note.span, text);
        }
        let before = &text[..self.span.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.line = before.matches('\n').count() + 1;
        self.column = before[line_start..].chars().count() + 1;
    }
}

fn clamp(span: &mut Range<usize>, text: &str) {
    let floor = |at: usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    span.start = floor(span.start);
    span.end = floor(span.end).max(span.start);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = (!self.label.is_empty()).then(|| self.label.clone());
        let place = LabeledSpan::new_primary_with_span(label, self.span.clone());
        let notes =
            self.notes.iter().map(|note| LabeledSpan::new_with_span(Some(note.label.clone()), note.span.clone()));
        Some(Box::new(std::iter::once(place).chain(notes)))
    }
}

/// All mistakes of one file, in the order of their places.
pub struct Report {
    name: String,
    source: NamedSource<Arc<str>>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(super) fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        for diagnostic in &mut diagnostics {
            diagnostic.locate(text);
        }
        diagnostics.sort_by_key(|told| (told.span.start, told.span.end, told.severity));
        diagnostics.dedup();
        Report {
            name: name.to_owned(),
            source: NamedSource::new(name, Arc::from(text)).with_language("toml"),
            diagnostics,
        }
    }

    /// Of a file that is no text: `lossy` is what can be read of it, `at` the first byte that can't.
    pub(crate) fn not_utf8(name: &str, lossy: &str, at: usize) -> Self {
        let mistake = Diagnostic::new("scenario::not_utf8", at..at, "this is not text in UTF-8")
            .label(format!("byte {at} of the file begins no character"))
            .help("save the file as UTF-8");
        Report::new(name, lossy, vec![mistake])
    }

    /// The name of the file, as it was given to the parser.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mistakes, in the order of their places.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether the file can't be run.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == severity).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |count: usize, word: &str| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {word}{plural}")
        };
        let errors = some(self.count(Severity::Error), "mistake");
        let warnings = some(self.count(Severity::Warning), "warning");
        match (self.has_errors(), self.count(Severity::Warning) > 0) {
            (true, false) => write!(f, "{}: {errors}", self.name),
            (true, true) => write!(f, "{}: {errors}, {warnings}", self.name),
            (false, _) => write!(f, "{}: {warnings}", self.name),
        }
    }
}

impl fmt::Debug for Report {
    /// One line a mistake, so that an `unwrap` in a test shows what was wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self}")?;
        for d in &self.diagnostics {
            let (name, severity) = (&self.name, d.severity.as_str());
            writeln!(f, "{name}:{}:{}: {severity}[{}]: {} ({})", d.line, d.column, d.code, d.message, d.label)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.has_errors() { miette::Severity::Error } else { miette::Severity::Warning })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.diagnostics.iter().map(|d| d as &dyn miette::Diagnostic)))
    }
}
