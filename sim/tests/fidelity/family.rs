//! A family of situations: one file of `situations/`, with the server that they need.

use std::path::Path;

use serde::Deserialize;

use crate::script::{self, Step};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it is about, in a sentence.
    #[expect(dead_code, reason = "for the reader of the file")]
    about: String,
    #[serde(default)]
    pub(crate) server: ServerOptions,
    /// SQL that the role `app` runs in the database `app` before each situation.
    #[serde(default)]
    setup: String,
    #[serde(default)]
    situation: Vec<SituationText>,
    /// Each state with each event is a situation: `STATE__EVENT`.
    #[serde(default)]
    state: Vec<Part>,
    #[serde(default)]
    event: Vec<Part>,
    #[serde(skip)]
    pub(crate) situations: Vec<Situation>,
}

/// What a family's server is started with, besides the role `postgres` (a superuser), the role `app` and its database `app`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerOptions {
    /// `postgresql.conf`.
    pub(crate) settings: std::collections::BTreeMap<String, String>,
    pub(crate) roles: Vec<Role>,
    pub(crate) databases: Vec<Database>,
    /// Everybody has to authenticate by scram-sha-256; otherwise by trust.
    pub(crate) scram: bool,
    /// It is a hot standby (of a primary that nobody talks to).
    pub(crate) standby: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) connection_limit: Option<u32>,
    pub(crate) password: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) connection_limit: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SituationText {
    name: String,
    #[serde(default)]
    setup: String,
    steps: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    steps: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Situation {
    pub(crate) name: String,
    pub(crate) setup: String,
    pub(crate) steps: Vec<Step>,
}

/// All families, in the order of their names. Error: the file and what is wrong in it.
pub(crate) fn load(folder: &Path) -> Result<Vec<Family>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.iter().map(|path| read(path).map_err(|error| format!("{}: {error}", path.display()))).collect()
}

fn read(path: &Path) -> Result<Family, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut family: Family = toml::from_str(&text).map_err(|error| error.to_string())?;
    family.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let with_common = |setup: &str| [family.setup.as_str(), setup].join("\n").trim().to_owned();
    let mut situations = Vec::new();
    for one in &family.situation {
        let steps = script::parse(&one.steps).map_err(|error| format!("{}: {error}", one.name))?;
        situations.push(Situation { name: one.name.clone(), setup: with_common(&one.setup), steps });
    }
    for state in &family.state {
        for event in &family.event {
            let name = format!("{}__{}", state.name, event.name);
            let script = [state.steps.as_str(), event.steps.as_str()].join("\n");
            let steps = script::parse(&script).map_err(|error| format!("{name}: {error}"))?;
            situations.push(Situation { name, setup: with_common(""), steps });
        }
    }
    let mut names: Vec<&str> = situations.iter().map(|situation| situation.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two situations are named {}", pair[0]));
    }
    family.situations = situations;
    Ok(family)
}
