//! `list`: what scenarios and commands can name, with its meaning in one sentence.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::engine::Engine;
use super::error::{Code, Result};
use super::terminal::lines;
use super::{ListArgs, Listed};
use crate::pool::{Capabilities, version_text};
use crate::scenario::{FAULTS, STEPS};
use crate::verdict;

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'static str>,
    meaning: String,
    /// What a pool can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    can: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<Setting>,
}

#[derive(Serialize)]
struct Setting {
    name: &'static str,
    becomes: &'static str,
}

impl Entry {
    fn plain(name: &str, meaning: &str) -> Entry {
        let (name, meaning) = (name.to_owned(), meaning.to_owned());
        Entry { name, version: None, models: None, meaning, can: None, settings: Vec::new() }
    }
}

pub(super) fn list(engine: &Engine, args: &ListArgs) -> Result<Code> {
    let entries = entries(engine, args.what);
    let mut out = anstream::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&entries).expect("plain data");
        writeln!(out, "{json}")?;
        return Ok(Code::Expected);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for entry in entries {
        let name = entry.version.map_or(entry.name.clone(), |version| format!("{} {version}", entry.name));
        table.add_row([name, entry.meaning]);
        if let Some(can) = entry.can {
            table.add_row(["  can".to_owned(), can.join(", ")]);
        }
        for Setting { name, becomes } in entry.settings {
            table.add_row([format!("  {name}"), becomes.to_owned()]);
        }
    }
    for line in lines(&table) {
        writeln!(out, "{line}")?;
    }
    Ok(Code::Expected)
}

/// The names of what a pool can do; scenarios ask for them in `needs`.
fn can(engine: &Engine, capabilities: &Capabilities) -> Vec<&'static str> {
    let all = (engine.capabilities)();
    all.into_iter().filter(|name| verdict::can(capabilities, name) == Some(true)).collect()
}

fn entries(engine: &Engine, what: Listed) -> Vec<Entry> {
    match what {
        Listed::Pools => engine
            .all_pools()
            .iter()
            .map(|adapter| {
                let (about, models) = (adapter.about(), adapter.models());
                let settings = if about.is_none() { adapter.mapping() } else { &[] };
                let meaning = about.unwrap_or_else(|| match models {
                    None => "how the common settings become its own:".to_owned(),
                    Some(library) => format!("a model of {library}; how the common settings become its own:"),
                });
                Entry {
                    name: adapter.name().to_owned(),
                    version: Some(version_text(&**adapter)),
                    models,
                    meaning,
                    can: Some(can(engine, &adapter.capabilities())),
                    settings: settings.iter().map(|&(name, becomes)| Setting { name, becomes }).collect(),
                }
            })
            .collect(),
        Listed::Invariants => {
            (engine.invariants)().iter().map(|named| Entry::plain(named.name, named.meaning)).collect()
        }
        Listed::Steps => STEPS.iter().map(|step| Entry::plain(step.form, step.meaning)).collect(),
        Listed::Faults => FAULTS.iter().map(|fault| Entry::plain(fault.name, fault.meaning)).collect(),
    }
}
