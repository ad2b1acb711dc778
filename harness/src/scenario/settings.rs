//! `poolproof.toml`: which scenarios a suite runs, with which seeds, what is known to go wrong, and where stories are kept.
//!
//! ```toml
//! scenarios = ["scenarios"]             # own files, and folders with them; default none
//! seeds = "1..=8"                       # instead of those of each file
//! stories = "stories"                   # a folder: each story is kept there, and compared; default: none is kept
//!
//! [built_in]
//! include = ["faults", "resize_in_use"] # folders and names; default all
//! exclude = ["lifetime_hours"]
//!
//! [[known]]                             # strict: it must show in each of these, and nothing else may
//! scenarios = ["connect_silent"]
//! violates = "quiescent-capacity"
//! link = "KNOWN.md#a-hung-dial"         # what is known of it: an address, or a section of a file
//! pool = "mine"                         # default: every pool of the suite
//! versions = "<=0.3.1"                  # default: all
//! ```
//!
//! It is read as scenario files are: all mistakes in one report, each at its place.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::built_in;
use super::parse::{self, Names};
use super::reader::{Log, Reader, Value, suggest};
use super::report::{Diagnostic, Report};

/// The file's name, in the root of a crate.
pub const FILE: &str = "poolproof.toml";

/// What a suite is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Files and folders of own scenarios.
    pub scenarios: Vec<PathBuf>,
    /// The seeds, instead of those of each file.
    pub seeds: Option<Vec<u64>>,
    /// The folder where stories are kept.
    pub stories: Option<PathBuf>,
    /// Which of the built-in scenarios are run: their folders and names; `None` is all.
    pub include: Option<Vec<String>>,
    /// Which of these are not.
    pub exclude: Vec<String>,
    /// What is known to go wrong.
    pub known: Vec<KnownBug>,
}

/// What is known to go wrong in some scenarios. Strict: it must show in each, with one seed at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBug {
    /// The scenarios' names.
    pub scenarios: Vec<String>,
    /// The invariant that is violated.
    pub violates: String,
    /// Where it is described.
    pub link: String,
    /// Only with this pool.
    pub pool: Option<String>,
    /// Only in these versions, as Cargo writes requirements.
    pub versions: String,
}

impl Settings {
    /// Whether a built-in scenario is run: `faults/server_crash`.
    #[must_use]
    pub fn chooses(&self, place: &Path) -> bool {
        let named = |names: &[String]| names.iter().any(|name| is_named(place, name));
        self.include.as_deref().is_none_or(named) && !named(&self.exclude)
    }
}

/// Whether a name means this built-in scenario: its folder, its own name, or both.
pub(crate) fn is_named(place: &Path, name: &str) -> bool {
    place.starts_with(name) || place.file_name().is_some_and(|own| own == name)
}

/// The places of all built-in scenarios: `faults/server_crash`.
pub(crate) fn built_in_places() -> impl Iterator<Item = PathBuf> {
    built_in::FILES.iter().map(|(name, _)| Path::new(name).with_extension(""))
}

/// What a suite's file is checked against.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The invariants.
    pub invariants: &'a [&'a str],
    /// The suite's pools.
    pub pools: &'a [&'a str],
    /// The names of the scenario files at a path, or why there are none.
    pub scenarios_at: &'a dyn Fn(&Path) -> Result<Vec<String>, String>,
    /// What code has set already.
    pub code: &'a Settings,
}

/// Reads the file; `name` is its name in the report.
///
/// # Errors
/// All mistakes of the file.
pub fn parse(name: &str, text: &str, around: &Around<'_>) -> Result<Settings, Report> {
    let (settings, report) = parse::document(name, text, |log, document| Some(top(log, document, around)));
    settings.ok_or(report)
}

fn top(log: &Log<'_>, document: &DeTable<'_>, around: &Around<'_>) -> Settings {
    let first_line = log.text.find('\n').unwrap_or(log.text.len());
    let mut top = Reader::new(log, "", document, 0..first_line);
    let mut own = own_names(around);
    let scenarios = top.read("scenarios", |v, log| v.list(log, |v| files(v, log, around, &mut own)));
    let seeds = top.read("seeds", parse::seeds);
    let stories = top.read("stories", |v, log| v.words(log).map(PathBuf::from));
    let built_in = top.read("built_in", |v, log| {
        let mut reader = v.table(log)?;
        let include = reader.read("include", |v, log| v.list(log, |v| built_in_name(v, log)));
        let exclude = reader.read("exclude", |v, log| v.list(log, |v| built_in_name(v, log)));
        reader.finish();
        Some((include, exclude.unwrap_or_default()))
    });
    let (include, exclude) = built_in.unwrap_or_default();
    let mut settings =
        Settings { scenarios: scenarios.unwrap_or_default(), seeds, stories, include, exclude, known: Vec::new() };
    let chosen = settings.clone().with(around.code);
    let places = built_in_places().filter(|place| chosen.chooses(place));
    let names: Vec<String> =
        places.filter_map(|place| Some(place.file_name()?.to_str()?.to_owned())).chain(own).collect();
    settings.known = top.read("known", |v, log| v.list(log, |v| known(v, log, around, &names))).unwrap_or_default();
    top.finish();
    settings
}

impl Settings {
    /// With what code says as well: lists add up, and what code sets stands over what the file sets.
    #[must_use]
    pub fn with(mut self, code: &Settings) -> Settings {
        self.scenarios.extend(code.scenarios.iter().cloned());
        self.exclude.extend(code.exclude.iter().cloned());
        self.known.extend(code.known.iter().cloned());
        Settings {
            seeds: code.seeds.clone().or(self.seeds),
            stories: code.stories.clone().or(self.stories),
            include: code.include.clone().or(self.include),
            ..self
        }
    }
}

/// The names of the scenarios that code brings; what is wrong with them is told elsewhere.
fn own_names(around: &Around<'_>) -> Vec<String> {
    around.code.scenarios.iter().filter_map(|path| (around.scenarios_at)(path).ok()).flatten().collect()
}

/// A path of own scenarios.
fn files(value: &Value<'_, '_>, log: &Log<'_>, around: &Around<'_>, own: &mut Vec<String>) -> Option<PathBuf> {
    let path = PathBuf::from(value.words(log)?);
    match (around.scenarios_at)(&path) {
        Ok(names) => own.extend(names),
        Err(why) => {
            log.push(
                Diagnostic::new("scenario::bad_value", value.span.clone(), why)
                    .label("a scenario file, or a folder with some")
                    .help(format!("paths are relative to {FILE}'s folder")),
            );
            return None;
        }
    }
    Some(path)
}

/// A folder or a name of a built-in scenario.
fn built_in_name(value: &Value<'_, '_>, log: &Log<'_>) -> Option<String> {
    let name = value.words(log)?;
    if !built_in_places().any(|place| is_named(&place, name)) {
        let places: Vec<PathBuf> = built_in_places().collect();
        let known = places.iter().flat_map(|place| [place.parent(), place.file_name().map(Path::new), Some(place)]);
        let mut known: Vec<&str> = known.flatten().filter_map(Path::to_str).collect();
        known.sort_unstable();
        known.dedup();
        push_unknown(log, value, "built-in scenario", name, &known);
    }
    Some(name.to_owned())
}

fn push_unknown(log: &Log<'_>, value: &Value<'_, '_>, what: &str, name: &str, known: &[&str]) {
    log.push(
        Diagnostic::new("scenario::undefined_scenario", value.span.clone(), format!("there is no {what} `{name}`"))
            .label(format!("unknown {what}"))
            .maybe_help(suggest(name, known.iter().copied())),
    );
}

/// `[[known]]`
fn known(value: &Value<'_, '_>, log: &Log<'_>, around: &Around<'_>, scenarios: &[String]) -> Option<KnownBug> {
    let names = Names { invariants: around.invariants, pools: around.pools, ..Names::default() };
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let mut reader = value.table(log)?;
    let of = reader.need("scenarios", |v, log| {
        let of = v.list(log, |v| {
            let name = v.words(log)?;
            if !scenarios.contains(&name) {
                push_unknown(log, v, "scenario in this suite", name, &scenarios);
            }
            Some(name.to_owned())
        })?;
        if of.is_empty() {
            log.push(
                Diagnostic::new("scenario::empty", v.span.clone(), "in no scenario").label("at least one is needed"),
            );
        }
        Some(of)
    });
    let violates = reader.need("violates", |v, log| parse::invariant(v, log, &names));
    let link = reader.need("link", parse::known_link);
    let pool = reader.read("pool", |v, log| parse::pool(v, log, &names));
    let versions = reader.read("versions", parse::known_versions).unwrap_or_else(|| "*".to_owned());
    reader.finish();
    Some(KnownBug { scenarios: of?, violates: violates?, link: link?, pool, versions })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Report> {
        let scenarios_at = |path: &Path| match path.to_str() {
            Some("scenarios") => Ok(vec!["rush_hour".to_owned()]),
            _ => Err(format!("can't read {}: no such file or directory", path.display())),
        };
        let around = Around {
            invariants: &["demand", "quiescent-capacity"],
            pools: &["mine"],
            scenarios_at: &scenarios_at,
            code: &Settings::default(),
        };
        parse(FILE, text, &around)
    }

    #[test]
    fn everything_that_can_stand_in_it() {
        let text = r#"
scenarios = ["scenarios"]
seeds = "3..=4"
stories = "stories"
[built_in]
include = ["faults", "resize_in_use"]
exclude = ["faults/failover"]
[[known]]
scenarios = ["rush_hour", "server_crash"]
violates = "demand"
link = "KNOWN.md#too-many"
[[known]]
scenarios = ["resize_in_use"]
violates = "quiescent-capacity"
link = "https://example.org/1"
pool = "mine"
versions = "<1"
"#;
        let settings = read(text).unwrap();
        assert_eq!(settings.seeds.as_deref(), Some(&[3, 4][..]));
        assert_eq!(settings.stories.as_deref(), Some(Path::new("stories")));
        assert_eq!(settings.known.len(), 2);
        assert_eq!((settings.known[0].pool.as_deref(), settings.known[0].versions.as_str()), (None, "*"));
        let chosen = |place: &str| settings.chooses(Path::new(place));
        assert!(chosen("faults/server_crash") && chosen("lifecycle/resize_in_use"));
        assert!(!chosen("faults/failover") && !chosen("lifecycle/detach"));
    }

    #[test]
    fn an_empty_file_is_the_default_which_chooses_all() {
        let settings = read("").unwrap();
        assert_eq!(settings, Settings::default());
        assert!(built_in_places().all(|place| settings.chooses(&place)));
        let none = read("[built_in]\ninclude = []").unwrap();
        assert!(!built_in_places().any(|place| none.chooses(&place)));
    }

    /// All of them at once, each at its place and with what was meant.
    #[test]
    fn every_mistake_is_told_with_its_place_and_the_nearest_name() {
        let text = r#"scenarios = ["scenarios", "scenarois"]
storys = "stories"
seeds = "8..=1"

[built_in]
exclude = ["conect_silent"]

[[known]]
scenarios = ["rush_hours"]
violates = "demands"
"#;
        let report = read(text).unwrap_err();
        let told: Vec<_> = report
            .diagnostics()
            .iter()
            .map(|d| (d.line, d.column, d.message.as_str(), d.help.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(
            told,
            [
                (
                    1,
                    27,
                    "can't read scenarois: no such file or directory",
                    "paths are relative to poolproof.toml's folder"
                ),
                (2, 1, "`storys` is not a key of the top level", "did you mean `stories`?"),
                (3, 9, "these are no seeds", "seeds are listed (`[1, 2, 3]`) or given as a range (`\"1..=8\"`)"),
                (6, 12, "there is no built-in scenario `conect_silent`", "did you mean `connect_silent`?"),
                (8, 1, "`link` is missing in `known`", ""),
                (9, 14, "there is no scenario in this suite `rush_hours`", "did you mean `rush_hour`?"),
                (10, 12, "there is no invariant `demands`", "did you mean `demand`?"),
            ]
        );
    }

    #[test]
    fn what_code_says_is_added_and_stands_over_the_file() {
        let file = read("seeds = [1]\nscenarios = [\"scenarios\"]\n[built_in]\nexclude = [\"failover\"]").unwrap();
        let code = Settings { seeds: Some(vec![2]), exclude: vec!["detach".to_owned()], ..Settings::default() };
        let both = file.with(&code);
        assert_eq!(both.seeds, Some(vec![2]));
        assert_eq!(both.exclude, ["failover", "detach"]);
        assert_eq!(both.scenarios, [Path::new("scenarios")]);
    }

    #[test]
    fn a_known_bug_of_a_scenario_that_is_left_out_is_a_mistake() {
        let report = read(
            "[built_in]\nexclude = [\"failover\"]\n[[known]]\nscenarios = [\"failover\"]\nviolates = \"demand\"\n\
             link = \"https://example.org\"",
        );
        assert!(format!("{:?}", report.unwrap_err()).contains("there is no scenario in this suite `failover`"));
    }
}
