//! A suite: scenario files as the tests of a test executable. Every scenario with every pool is a named test, whose runs are
//! done by worker processes of that same executable.
//!
//! With a pool of one's own, the whole of `tests/pool.rs` beside the pool is
//!
//! ```no_run
//! # mod mine {
//! #     pub use poolproof::pool::reference::Reference as Mine;
//! # }
//! # use mine::Mine;
//! poolproof::main!(Mine);
//! ```
//!
//! with, in `Cargo.toml`, `[[test]] name = "pool"` and `harness = false`. What is run, with which seeds, what is known to go
//! wrong and where stories are kept is said in `poolproof.toml` ([`crate::scenario::settings`]), or by [`Suite`]'s methods:
//!
//! ```no_run
//! # use poolproof::pool::reference::Reference as Mine;
//! fn main() -> std::process::ExitCode {
//!     poolproof::suite!().pool(Mine).built_in(["faults"]).except(["failover"]).scenarios("scenarios").main()
//! }
//! ```
//!
//! What can be asked of the executable:
//!
//! | command | |
//! | --- | --- |
//! | `cargo test --test pool` | everything |
//! | `cargo test --test pool server_crash` | a scenario |
//! | `cargo nextest run --test pool` | the same, a process for each test |
//! | `cargo test --test pool -- poolproof show built-in/faults/server_crash.toml --pool mine --seed 2` | poolproof's command line with this pool: also `run`, `check`, `list`, `new`, … |
//!
//! It stands on what the command line uses for `run`: the same files, the same workers, the same judgement. The command line
//! itself takes files as they are: what `poolproof.toml` declares or chooses is of the tests alone.

mod case;
mod stories;
mod trials;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use semver::Version;

use crate::cli::Engine;
use crate::cli::error::Failure;
use crate::cli::files::{self, ScenarioFile};
use crate::cli::job::Job;
use crate::cli::pairs::pools_of;
use crate::pool::{Adapter, PUBLISHED};
use crate::scenario::built_in;
use crate::scenario::settings::{self, Around, KnownBug, Settings};
use crate::search::Trial;
use crate::worker::become_worker_if_asked;
use crate::world::Place;

pub use case::{Case, Judgement};
#[doc(hidden)]
pub use insta;

/// The `main` of a test target with `harness = false`: every scenario with each of these pools is a test.
///
/// Each is an expression for an [`Adapter`](crate::pool::Adapter). It is the same as
/// `poolproof::suite!().pool(…).main()`; see [`suite`](mod@crate::suite).
#[macro_export]
macro_rules! main {
    ($($adapter:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::suite!()$(.pool($adapter))+.main()
        }
    };
}

/// A [`Suite`](crate::suite::Suite) of the crate in which this stands.
#[macro_export]
macro_rules! suite {
    () => {
        $crate::suite::Suite::new($crate::suite::Home {
            root: ::std::path::PathBuf::from(::std::env!("CARGO_MANIFEST_DIR")),
            test: ::std::module_path!(),
            compare: |pool, story| $crate::suite::insta::assert_snapshot!(pool, story),
        })
    };
}

/// What a suite has to know of the crate that it is in. [`suite!`](crate::suite!) fills it in.
#[derive(Debug, Clone)]
pub struct Home {
    /// The crate's root: where `poolproof.toml` is, and what paths are relative to.
    pub root: PathBuf,
    /// The module of the test target where this stands: it begins with the target's name.
    pub test: &'static str,
    /// Compares a pool's story with the reviewed one. It is here so that insta sees the crate's own source and workspace.
    pub compare: fn(&str, &str),
}

/// Scenarios with pools, as the tests of an executable.
#[derive(Clone)]
pub struct Suite {
    home: Home,
    pools: Vec<Arc<dyn Adapter>>,
    settings: Settings,
}

impl Suite {
    /// A suite of all built-in scenarios, without a pool of one's own: it runs the published pools of this build.
    #[must_use]
    pub fn new(home: Home) -> Suite {
        Suite { home, pools: Vec::new(), settings: Settings::default() }
    }

    /// Runs this pool.
    #[must_use]
    pub fn pool(mut self, adapter: impl Adapter) -> Suite {
        self.pools.push(Arc::new(adapter));
        self
    }

    /// Where `poolproof.toml` is, and what paths are relative to, if that is not the crate's root.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Suite {
        self.home.root = root.into();
        self
    }

    /// Runs the scenarios of this file or folder, too.
    #[must_use]
    pub fn scenarios(mut self, path: impl Into<PathBuf>) -> Suite {
        self.settings.scenarios.push(path.into());
        self
    }

    /// Runs only these built-in scenarios: folders (`faults`) and names (`server_crash`).
    #[must_use]
    pub fn built_in<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Suite {
        self.settings.include = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Runs no built-in scenario.
    #[must_use]
    pub fn own_only(self) -> Suite {
        self.built_in([""; 0])
    }

    /// Leaves these built-in scenarios out.
    #[must_use]
    pub fn except<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Suite {
        self.settings.exclude.extend(names.into_iter().map(Into::into));
        self
    }

    /// Runs every scenario with these seeds instead of its own.
    #[must_use]
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = u64>) -> Suite {
        self.settings.seeds = Some(seeds.into_iter().collect());
        self
    }

    /// Declares what is known to go wrong. It must show, and nothing else may.
    #[must_use]
    pub fn known(mut self, known: KnownBug) -> Suite {
        self.settings.known.push(known);
        self
    }

    /// Keeps each first seed's story below this folder as a snapshot of insta's, and compares it.
    #[must_use]
    pub fn stories(mut self, folder: impl Into<PathBuf>) -> Suite {
        self.settings.stories = Some(folder.into());
        self
    }

    /// The whole of `main`. Call it first: the process may be a worker.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let engine = self.engine();
        become_worker_if_asked::<Job>();
        become_worker_if_asked::<Trial>();
        let mut arguments = std::env::args_os().skip(1).peekable();
        if arguments.peek().is_some_and(|first| first == "poolproof") {
            return crate::cli::run(engine, arguments).into();
        }
        match self.cases(engine) {
            Ok(cases) => trials::run(&cases),
            Err(mistakes) => {
                eprintln!("{mistakes}");
                ExitCode::FAILURE
            }
        }
    }

    /// Every scenario with every pool, for those who make tests of them in a way of their own. Call it first in `main`:
    /// when this process is a worker, it works here, and ends. From then on the root is the current folder.
    ///
    /// # Errors
    /// Text for people: what is wrong with the settings, or mistakes in files, each told with its place.
    pub fn start(self) -> Result<Cases, String> {
        let engine = self.engine();
        become_worker_if_asked::<Job>();
        become_worker_if_asked::<Trial>();
        self.cases(engine)
    }

    fn cases(&self, engine: Engine) -> Result<Cases, String> {
        let root = &self.home.root;
        // Paths in messages are then as a user there would type them.
        std::env::set_current_dir(root).map_err(|error| format!("can't go to {}: {error}", root.display()))?;
        self.check_pools()?;
        let settings = self.settings(&engine)?;
        let mut files = Vec::new();
        for path in built_in::find(Path::new(built_in::FOLDER)).unwrap_or_default() {
            let place = path.strip_prefix(built_in::FOLDER).unwrap_or(&path).with_extension("");
            if settings.chooses(&place) {
                files.push((place, path));
            }
        }
        for given in &settings.scenarios {
            for path in files::find(std::slice::from_ref(given)).map_err(|failure| failure.to_string())? {
                let below = path.strip_prefix(given).ok().filter(|below| !below.as_os_str().is_empty());
                let place = below.or(path.file_name().map(Path::new)).unwrap_or(&path).with_extension("");
                files.push((place, path));
            }
        }
        let (places, paths): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().unzip();
        let files = files::read_all(&engine, &paths).map_err(|failure| failure.to_string())?;
        let mut cases = Vec::new();
        for (file, place) in files.into_iter().zip(places) {
            for adapter in pools_for(&engine, &file)? {
                let file = for_pool(&file, &*adapter, engine.own, &settings);
                cases.push(Case { engine, file, place: place.clone(), adapter, test: self.home.test });
            }
        }
        if cases.is_empty() {
            return Err("no scenario is chosen".to_owned());
        }
        let cases = Cases { cases, stories: settings.stories.clone(), compare: self.home.compare };
        cases.check_names()?;
        cases.check_known(&settings.known)?;
        Ok(cases)
    }

    fn engine(&self) -> Engine {
        Engine::with(self.pools.clone()).install()
    }

    /// What code and `poolproof.toml` say together.
    fn settings(&self, engine: &Engine) -> Result<Settings, String> {
        for name in self.settings.include.iter().flatten().chain(&self.settings.exclude) {
            if !settings::built_in_places().any(|place| settings::is_named(&place, name)) {
                return Err(format!("there is no built-in scenario {name}"));
            }
        }
        let path = Path::new(settings::FILE);
        if !path.exists() {
            return Ok(self.settings.clone());
        }
        let told = |report| Failure::Files(vec![report]).to_string();
        let text = files::text_of(path).map_err(|failure| failure.to_string())?.map_err(told)?;
        let own: Vec<&str> = self.pools.iter().map(|adapter| adapter.name()).collect();
        let pools = engine.all_pools();
        let all: Vec<&str> = pools.iter().map(|adapter| adapter.name()).collect();
        let around = Around {
            invariants: &crate::invariant::names(),
            pools: if own.is_empty() { &all } else { &own },
            scenarios_at: &|path| stems_at(path),
            code: &self.settings,
        };
        let file = settings::parse(settings::FILE, &text, &around).map_err(told)?;
        Ok(file.with(&self.settings))
    }

    /// A pool's name is a part of tests' and files' names; its version is compared.
    fn check_pools(&self) -> Result<(), String> {
        for (place, adapter) in self.pools.iter().enumerate() {
            let (name, version) = (adapter.name(), adapter.version());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("\"{name}\" is no pool's name: lower case letters, digits, _ and -"));
            }
            if self.pools[..place].iter().any(|other| other.name() == name) {
                return Err(format!("two pools are called {name}"));
            }
            if let Err(error) = Version::parse(version) {
                return Err(format!("\"{version}\" is no version of {name}: {error} (a version is like 0.3.1)"));
            }
        }
        Ok(())
    }
}

/// The names of the scenario files at a path.
fn stems_at(path: &Path) -> Result<Vec<String>, String> {
    let files = files::find(&[path.to_owned()]).map_err(|failure| failure.to_string())?;
    Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

/// The pools that a file is run with: as on the command line, but that what this build leaves out is left out here.
fn pools_for(engine: &Engine, file: &ScenarioFile) -> Result<Vec<Arc<dyn Adapter>>, String> {
    let mut file = file.clone();
    if engine.own.is_empty() && !file.scenario.pools.is_empty() {
        let all = engine.all_pools();
        let is_built = |name: &String| all.iter().any(|adapter| adapter.name() == name);
        let pools = &mut Arc::make_mut(&mut file.scenario).pools;
        pools.retain(|name| is_built(name) || !PUBLISHED.contains(&name.as_str()));
        if pools.is_empty() {
            return Ok(Vec::new());
        }
    }
    pools_of(engine, &[], &file, &Place::Sim).map_err(|failure| failure.to_string())
}

/// A scenario as a suite runs it with a pool. What a file that is shipped says of published pools is not meant for a pool of
/// one's own, even if it has the name of one of them.
fn for_pool(file: &ScenarioFile, adapter: &dyn Adapter, own: &[Arc<dyn Adapter>], settings: &Settings) -> ScenarioFile {
    let mut scenario = (*file.scenario).clone();
    let is_own = own.iter().any(|own| own.name() == adapter.name());
    if is_own && file.path.starts_with(built_in::FOLDER) {
        let expect = &mut scenario.expect;
        expect.known.clear();
        expect.excuses.retain(|excuse| excuse.pool.is_none());
        expect.violations.retain(|declared| declared.pool.is_none());
    }
    if let Some(seeds) = &settings.seeds {
        scenario.seeds.clone_from(seeds);
    }
    let name = file.path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    for bug in settings.known.iter().filter(|bug| is_of(bug, name, adapter.name())) {
        scenario.expect.known.push(crate::scenario::model::Known {
            pool: adapter.name().to_owned(),
            versions: bug.versions.clone(),
            violates: bug.violates.clone(),
            link: bug.link.clone(),
        });
    }
    if scenario == *file.scenario {
        return file.clone();
    }
    // Workers are given texts.
    let text = Arc::from(crate::scenario::print(&scenario));
    ScenarioFile { path: file.path.clone(), text, scenario: Arc::new(scenario) }
}

/// Whether a known bug is one of this scenario with this pool.
fn is_of(bug: &KnownBug, scenario: &str, pool: &str) -> bool {
    bug.scenarios.iter().any(|name| name == scenario) && bug.pool.as_deref().is_none_or(|only| only == pool)
}

/// The cases of a suite, in the order of their files.
#[derive(Clone)]
pub struct Cases {
    cases: Vec<Case>,
    /// Where stories are kept.
    stories: Option<PathBuf>,
    compare: fn(&str, &str),
}

impl Cases {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter()
    }

    /// A test's name has no folder in it.
    fn check_names(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        match self.cases.iter().find(|case| !seen.insert(case.name())) {
            None => Ok(()),
            Some(twice) => Err(format!(
                "two scenario files are called {}; a built-in one can be left out with `exclude`",
                twice.stem()
            )),
        }
    }

    /// Code may name a scenario that is not there, and a bug may be declared where nothing can show it.
    fn check_known(&self, known: &[KnownBug]) -> Result<(), String> {
        for bug in known {
            for scenario in &bug.scenarios {
                let shows = |case: &&Case| case.lacks().is_empty() && is_of(bug, scenario, case.pool());
                if !self.cases.iter().filter(|case| case.stem() == scenario).any(|case| shows(&case)) {
                    return Err(format!(
                        "the known bug {} ({}) can't show: no pool of this suite is run with {scenario}",
                        bug.violates, bug.link
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::pool::{Capabilities, Connector, Pool, PoolError, PoolErrorKind, PoolSettings};

    struct Named(&'static str, &'static str);

    #[async_trait]
    impl Adapter for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn version(&self) -> &'static str {
            self.1
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities { max_size: true, ..Capabilities::default() }
        }

        async fn build(&self, _: &PoolSettings, _: Connector) -> Result<Arc<dyn Pool>, PoolError> {
            Err(PoolError::new(PoolErrorKind::Other, "it is never built"))
        }
    }

    fn suite() -> Suite {
        Suite::new(Home { root: PathBuf::from("."), test: "pool", compare: |_, _| () })
    }

    #[test]
    fn a_pool_needs_a_plain_name_of_its_own_and_a_version() {
        let wrong = |suite: Suite| suite.check_pools().unwrap_err();
        suite().pool(Named("my-pool_2", "0.3.1-rc.1")).pool(Named("other", "1.0.0")).check_pools().unwrap();
        assert!(wrong(suite().pool(Named("MyPool", "1.0.0"))).contains("no pool's name"));
        assert!(wrong(suite().pool(Named("", "1.0.0"))).contains("no pool's name"));
        assert!(wrong(suite().pool(Named("my pool", "1.0.0"))).contains("no pool's name"));
        assert!(wrong(suite().pool(Named("one", "1.0.0")).pool(Named("one", "1.0.0"))).contains("two pools"));
        assert!(wrong(suite().pool(Named("one", "1.0"))).contains("no version of one"));
    }

    #[test]
    fn what_code_names_must_be_there() {
        let engine = Engine::standard();
        let wrong = |suite: Suite| suite.settings(&engine).unwrap_err();
        assert_eq!(wrong(suite().built_in(["fautls"])), "there is no built-in scenario fautls");
        assert_eq!(wrong(suite().except(["detatch"])), "there is no built-in scenario detatch");
        let settings = suite().built_in(["lifecycle"]).except(["detach"]).seeds([7]).settings(&engine).unwrap();
        assert!(settings.chooses(Path::new("lifecycle/resize_in_use")));
        assert!(!settings.chooses(Path::new("lifecycle/detach")) && !settings.chooses(Path::new("faults/failover")));
        assert!(!suite().own_only().settings(&engine).unwrap().chooses(Path::new("lifecycle/detach")));
    }

    /// A shipped file's words on published pools are not meant for another pool of that name; all else is as it was, also
    /// in the text that workers are given.
    #[test]
    fn a_pool_of_ones_own_begins_with_no_known_bug_and_may_have_its_own() {
        let path = PathBuf::from("built-in/faults/connect_silent.toml");
        let mut files = files::read_all(&Engine::standard(), &[path]).unwrap();
        let file = files.remove(0);
        assert!(file.scenario.expect.known.iter().any(|known| known.pool == "bb8"));
        let bb8: Arc<dyn Adapter> = Arc::new(Named("bb8", "0.9.1"));
        let known = |settings: &Settings, own: &[Arc<dyn Adapter>]| {
            let file = for_pool(&file, &*bb8, own, settings);
            let told = crate::scenario::parse("told.toml", &file.text).unwrap();
            assert_eq!(told, *file.scenario, "workers are told the same");
            told.expect
                .known
                .into_iter()
                .filter(|known| known.pool == "bb8")
                .map(|known| known.violates)
                .collect::<Vec<_>>()
        };
        let own = [Arc::clone(&bb8)];
        assert!(known(&Settings::default(), &[]).len() > 1, "the published one");
        assert_eq!(known(&Settings::default(), &own), Vec::<String>::new());
        let bug = |scenario: &str, pool: Option<&str>| KnownBug {
            scenarios: vec![scenario.to_owned()],
            violates: "demand".to_owned(),
            link: "https://example.org".to_owned(),
            pool: pool.map(str::to_owned),
            versions: "*".to_owned(),
        };
        let bugs = vec![bug("connect_silent", None), bug("connect_silent", Some("other")), bug("failover", None)];
        assert_eq!(known(&Settings { known: bugs, ..Settings::default() }, &own), ["demand"]);
    }
}
