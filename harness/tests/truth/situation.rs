//! `situations.toml` and `records/`, read. `ci/recorder` reads the same file, and is stricter about its mistakes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use poolproof::pool::sqlalchemy::{Config, PoolClass, ResetOnReturn};
use serde::Deserialize;
use serde_json::Value;

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

/// SQLAlchemy's own names and units; -1 is "no limit" or "never".
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

    pub(crate) fn config(&self) -> Config {
        let default = Config::default();
        let pool = &self.pool;
        Config {
            class: match self.class.as_str() {
                "QueuePool" => PoolClass::Queue,
                "NullPool" => PoolClass::Null,
                "SingletonThreadPool" => PoolClass::SingletonThread,
                "StaticPool" => PoolClass::Static,
                other => panic!("{}: no pool is called {other}", self.name),
            },
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
        }
    }
}
