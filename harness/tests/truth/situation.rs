//! `situations.toml` and `records/`, read, and who plays which. `ci/recorder` reads the same file, and is stricter about its
//! mistakes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use poolproof::pool::sqlalchemy::{self, Config, PoolClass, ResetOnReturn};
use poolproof::pool::trac::{self, Trac};
use serde::Deserialize;
use serde_json::Value;

use crate::{driver, trac as trac_driver};

/// The model that plays a situation.
pub(crate) enum Model {
    SqlAlchemy(Config),
    Trac(Trac, trac::Config),
}

/// A deliberate mistake of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flaw {
    SqlAlchemy(sqlalchemy::Flaw),
    Trac(trac::Flaw),
}

/// One situation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Situation {
    pub(crate) name: String,
    pub(crate) about: String,
    class: String,
    #[serde(default)]
    pool: Settings,
    pub(crate) steps: Vec<String>,
}

/// The libraries' own names and units; -1 is "no limit" or "never".
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    pool_size: Option<u32>,
    max_overflow: Option<i64>,
    timeout: Option<f64>,
    recycle: Option<f64>,
    pre_ping: Option<bool>,
    use_lifo: Option<bool>,
    reset_on_return: Option<String>,
    maxsize: Option<u32>,
}

#[derive(Deserialize)]
struct File {
    situation: Vec<Situation>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth")
}

/// Every situation, in the order of the file.
pub(crate) fn all() -> Vec<Situation> {
    let text = std::fs::read_to_string(folder().join("situations.toml")).unwrap();
    toml::from_str::<File>(&text).unwrap_or_else(|error| panic!("situations.toml: {error}")).situation
}

/// The names of all records.
pub(crate) fn record_names() -> Vec<String> {
    let files = std::fs::read_dir(folder().join("records")).unwrap();
    let mut names: Vec<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

impl Situation {
    /// What the real library did.
    pub(crate) fn record(&self) -> Value {
        let path = folder().join("records").join(format!("{}.json", self.name));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; `ci/truth --record` makes it", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// The version of the library that a record must name, and the model's, under the library's name.
    pub(crate) fn version(&self) -> (&'static str, &'static str) {
        match self.model() {
            Model::SqlAlchemy(_) => ("sqlalchemy", sqlalchemy::VERSION),
            // PyPI leaves the last zero out.
            Model::Trac(..) => ("trac", trac::VERSION.trim_end_matches(".0")),
        }
    }

    /// Does the steps with the model, in virtual time. With a mistake of another library's model there is nothing to do.
    pub(crate) fn drive(&self, flaw: Option<Flaw>) -> Option<Vec<Value>> {
        let (name, steps) = (self.name.clone(), self.steps.clone());
        let played = match (self.model(), flaw) {
            (Model::SqlAlchemy(config), None) => run(async move || driver::drive(config, &steps, None).await),
            (Model::SqlAlchemy(config), Some(Flaw::SqlAlchemy(flaw))) => {
                run(async move || driver::drive(config, &steps, Some(flaw)).await)
            }
            (Model::Trac(which, config), None) => run(async move || trac_driver::drive(which, config, &steps).await),
            (Model::Trac(which, config), Some(Flaw::Trac(flaw))) => {
                let config = trac::Config { flaw: Some(flaw), ..config };
                run(async move || trac_driver::drive(which, config, &steps).await)
            }
            _ => return None,
        };
        Some(played.unwrap_or_else(|failure| panic!("{name}: {failure}")))
    }

    fn model(&self) -> Model {
        let pool = &self.pool;
        let class = match self.class.as_str() {
            "QueuePool" => PoolClass::Queue,
            "NullPool" => PoolClass::Null,
            "SingletonThreadPool" => PoolClass::SingletonThread,
            "StaticPool" => PoolClass::Static,
            "ConnectionPool" => return Model::Trac(Trac::Today, self.of_trac()),
            "ConnectionPool2006" => return Model::Trac(Trac::Of2006, self.of_trac()),
            other => panic!("{}: no pool is called {other}", self.name),
        };
        let default = Config::default();
        Model::SqlAlchemy(Config {
            class,
            pool_size: pool.pool_size.unwrap_or(default.pool_size),
            max_overflow: match pool.max_overflow {
                None => default.max_overflow,
                Some(most) => u32::try_from(most).ok(),
            },
            timeout: pool.timeout.map(Duration::from_secs_f64).or(default.timeout),
            recycle: pool.recycle.filter(|seconds| *seconds >= 0.0).map(Duration::from_secs_f64),
            pre_ping: pool.pre_ping.unwrap_or(default.pre_ping),
            use_lifo: pool.use_lifo.unwrap_or(default.use_lifo),
            reset_on_return: match pool.reset_on_return.as_deref() {
                None => default.reset_on_return,
                Some("rollback") => ResetOnReturn::Rollback,
                Some("commit") => ResetOnReturn::Commit,
                Some("none") => ResetOnReturn::None,
                Some(other) => panic!("{}: no reset is called {other}", self.name),
            },
        })
    }

    fn of_trac(&self) -> trac::Config {
        trac::Config {
            max_size: self.pool.maxsize.unwrap_or(10),
            timeout: self.pool.timeout.map(Duration::from_secs_f64),
            implicit_begin: true,
            listener: None,
            flaw: None,
        }
    }
}

/// In virtual time, on a thread of its own.
fn run<F>(play: impl FnOnce() -> F + Send + 'static) -> Result<Vec<Value>, poolproof_sim::runtime::Failure>
where
    F: Future<Output = Vec<Value>> + 'static,
{
    poolproof_sim::runtime::run(1, play)
}
