//! `list`: what scenarios and commands can name, with its meaning in one sentence.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::engine::Engine;
use super::error::{Code, Result};
use super::terminal::lines;
use super::{ListArgs, Listed};
use crate::pool::version_text;
use crate::scenario::{FAULTS, STEPS};

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'static str>,
    meaning: String,
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
        Entry { name: name.to_owned(), version: None, models: None, meaning: meaning.to_owned(), settings: Vec::new() }
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
        for Setting { name, becomes } in entry.settings {
            table.add_row([format!("  {name}"), becomes.to_owned()]);
        }
    }
    for line in lines(&table) {
        writeln!(out, "{line}")?;
    }
    Ok(Code::Expected)
}

fn entries(engine: &Engine, what: Listed) -> Vec<Entry> {
    match what {
        Listed::Pools => (engine.pools)()
            .iter()
            .map(|adapter| {
                let settings = adapter.mapping().iter();
                let models = adapter.models();
                Entry {
                    name: adapter.name().to_owned(),
                    version: Some(version_text(&**adapter)),
                    models,
                    meaning: match models {
                        None => "how the common settings become its own:".to_owned(),
                        Some(library) => format!("a model of {library}; how the common settings become its own:"),
                    },
                    settings: settings.map(|&(name, becomes)| Setting { name, becomes }).collect(),
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
