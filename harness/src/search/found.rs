//! A finding as a file: a scenario like one written by hand, with its story, what it violates, and how to see it again.

use std::collections::BTreeSet;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Value};

use crate::scenario::model::{Known, Scenario};
use crate::scenario::print;

/// What a file is made of.
pub(super) struct Finding<'a> {
    /// What is run.
    pub(super) scenario: &'a Scenario,
    /// The file's name without its extension; its section in the list of findings.
    pub(super) name: &'a str,
    /// The pool.
    pub(super) pool: &'a str,
    /// Its version.
    pub(super) version: &'a str,
    /// What it violates, in words.
    pub(super) title: &'a str,
    /// What happens, a sentence a line.
    pub(super) story: &'a [String],
    /// Every invariant that is violated.
    pub(super) violates: &'a BTreeSet<String>,
}

/// The widest line, as in files written by hand.
const WIDTH: usize = 120;

/// The file's text.
pub(super) fn file(finding: &Finding<'_>) -> String {
    let mut scenario = finding.scenario.clone();
    scenario.title = finding.title.to_owned();
    scenario.story = finding.story.join("\n");
    scenario.pools = vec![finding.pool.to_owned()];
    scenario.expect.known = finding
        .violates
        .iter()
        .map(|violates| Known {
            pool: finding.pool.to_owned(),
            versions: format!("={}", finding.version),
            violates: violates.clone(),
            link: format!("README.md#{}", finding.name),
        })
        .collect();
    let text = print(&scenario);
    let replay = format!("# poolproof show {}.toml --pool {}\n", finding.name, finding.pool);
    let compact = compact(&text).unwrap_or(text);
    match compact.split_once('\n') {
        Some((schema, rest)) => format!("{schema}\n{replay}{rest}"),
        None => compact,
    }
}

/// The same file with short things in one line each, as a hand would write it.
fn compact(text: &str) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    // An empty table says nothing.
    for name in ["server", "network"] {
        if document.get(name).and_then(Item::as_table).is_some_and(toml_edit::Table::is_empty) {
            document.remove(name);
        }
    }
    for (_, app) in document.get_mut("app")?.as_table_mut()?.iter_mut() {
        let Some(app) = app.as_table_mut() else { continue };
        if let Some(Item::Table(pool)) = app.remove("pool") {
            app.insert("pool", Item::Value(Value::InlineTable(inline(pool))));
        }
    }
    for (_, workload) in document.get_mut("workload")?.as_table_mut()?.iter_mut() {
        for name in ["steps", "finally"] {
            let Some(steps) = workload.get_mut(name).and_then(Item::as_array_mut) else { continue };
            one_line(steps);
        }
    }
    let expect = document.get_mut("expect")?.as_table_mut()?;
    if let Some(Item::ArrayOfTables(known)) = expect.remove("known") {
        let mut all: Array = known.into_iter().map(inline).collect();
        if all.len() > 1 {
            for item in all.iter_mut() {
                item.decor_mut().set_prefix("\n  ");
            }
            all.set_trailing("\n");
        }
        expect.insert("known", Item::Value(Value::Array(all)));
    }
    Some(document.to_string())
}

/// `{ a = 1, b = 2 }`
fn inline(mut table: toml_edit::Table) -> InlineTable {
    table.iter_mut().for_each(|(mut key, value)| {
        key.leaf_decor_mut().clear();
        if let Some(value) = value.as_value_mut() {
            value.decor_mut().clear();
        }
    });
    let mut inline = table.into_inline_table();
    inline.fmt();
    inline.decor_mut().clear();
    inline
}

/// A list in one line, if it is no longer than one.
fn one_line(list: &mut Array) {
    let mut short = list.clone();
    short.fmt();
    short.set_trailing("");
    short.set_trailing_comma(false);
    if short.to_string().len() + "steps = ".len() <= WIDTH {
        *list = short;
    }
}

/// The lines of a file that are not its story, nor empty, nor a comment.
pub(super) fn lines_besides_story(text: &str) -> usize {
    let mut in_story = false;
    let mut count = 0;
    for line in text.lines() {
        if in_story {
            in_story = line != "\"\"\"";
        } else if line.starts_with("story = ") {
            in_story = line.ends_with("\"\"\"") && line.len() == "story = \"\"\"".len();
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Adapter;
    use crate::pool::reference::Reference;
    use crate::scenario::{Names, check};
    use crate::strategy::{Dice, Swarm, drawn};

    #[test]
    fn a_found_file_is_read_as_what_was_run() {
        let capabilities = Reference.capabilities();
        for seed in 0..60 {
            let mut dice = Dice::new(seed, "found");
            let swarm = Swarm::draw(&mut dice, &capabilities);
            let scenario = drawn(&mut dice, swarm, &capabilities);
            let violates = BTreeSet::from(["demand".to_owned(), "no-lost-wakeup".to_owned()]);
            let story = ["At 0.100 s caller 1 asks.".to_owned(), "Then nobody \"wakes\" it.".to_owned()];
            let finding = Finding {
                scenario: &scenario,
                name: "a-name",
                pool: "reference",
                version: "0.1.0",
                title: "A title",
                story: &story,
                violates: &violates,
            };
            let text = file(&finding);
            let checked = check("found.toml", &text, &Names::default());
            let read = checked.scenario.unwrap_or_else(|| panic!("{:?}\n{text}", checked.report));
            assert_eq!((&read.workloads, &read.apps), (&scenario.workloads, &scenario.apps), "{text}");
            assert_eq!((&read.server, &read.network), (&scenario.server, &scenario.network), "{text}");
            assert_eq!((&read.faults, &read.seeds), (&scenario.faults, &scenario.seeds), "{text}");
            assert_eq!((read.story, read.title.as_str()), (story.join("\n"), "A title"));
            let known: BTreeSet<String> = read.expect.known.into_iter().map(|known| known.violates).collect();
            assert_eq!(known, violates);
            assert!(lines_besides_story(&text) + 5 < text.lines().count(), "{text}");
        }
    }
}
