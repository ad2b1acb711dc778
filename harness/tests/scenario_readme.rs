//! `scenarios/README.md` is what authors of scenarios read. Its tables are made from the lists that the program itself
//! uses, and its examples are scenario files: neither can say what isn't so.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use poolproof::cli::Engine;
use poolproof::scenario::schema::schema;
use poolproof::scenario::{FAULTS, Names, STEPS, check};
use poolproof::{invariant, pool, verdict};
use serde_json::Value;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/README.md")
}

/// `POOLPROOF_UPDATE_README=1 cargo test --test scenario_readme` writes the tables anew.
#[test]
#[cfg_attr(
    not(all(
        feature = "bb8",
        feature = "deadpool",
        feature = "mobc",
        feature = "sqlx",
        feature = "fast_pool",
        feature = "qp",
        feature = "r2d2"
    )),
    ignore = "a table names every pool"
)]
fn the_tables_are_current() {
    let kept = std::fs::read_to_string(path()).unwrap();
    let current = with_tables(&kept);
    if std::env::var_os("POOLPROOF_UPDATE_README").is_some() {
        std::fs::write(path(), current).unwrap();
        return;
    }
    assert!(kept == current, "{} is old: run this test with POOLPROOF_UPDATE_README=1", path().display());
}

/// The story that README.md shows is the reviewed one, and its table of invariants that of the program.
/// `POOLPROOF_UPDATE_README=1` writes both anew.
#[test]
fn the_readme_shows_what_is_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("README.md");
    let kept = std::fs::read_to_string(&path).unwrap();
    let snapshot = std::fs::read_to_string(root.join("snapshots/faults/connect_silent/bb8.snap")).unwrap();
    let (_, story) = snapshot.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).unwrap();
    let mut invariants = "| invariant | meaning |\n| --- | --- |\n".to_owned();
    for meta in invariant::all() {
        let _ = writeln!(invariants, "| {} | {} |", meta.name, meta.meaning);
    }
    let mut current = kept.clone();
    for (mark, text) in [("story", format!("```text\n{}\n```\n", story.trim_end())), ("invariants", invariants)] {
        let (before, rest) = current.split_once(&format!("<!-- {mark}:begin -->\n")).expect("README.md has the mark");
        let (_, after) = rest.split_once(&format!("<!-- {mark}:end -->")).expect("the mark has an end");
        current = format!("{before}<!-- {mark}:begin -->\n{text}<!-- {mark}:end -->{after}");
    }
    if std::env::var_os("POOLPROOF_UPDATE_README").is_some() {
        std::fs::write(&path, current).unwrap();
        return;
    }
    assert!(kept == current, "{} is old: run this test with POOLPROOF_UPDATE_README=1", path.display());
}

/// What harness/README.md shows is what CI builds and runs in `ci/outside`. `POOLPROOF_UPDATE_README=1` writes it anew.
#[test]
fn the_guide_shows_the_crate_outside() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = here.join("README.md");
    let kept = std::fs::read_to_string(&path).unwrap();
    let mut current = kept.clone();
    // Only these depend on that crate: they can't be compiled as examples of this one.
    let language = |file: &str| if file.ends_with(".rs") { "rust,ignore" } else { "toml" };
    for file in ["src/lib.rs", "tests/pool.rs", "poolproof.toml", "scenarios/rush_hour.toml"] {
        let text = std::fs::read_to_string(here.join("../ci/outside").join(file)).unwrap();
        let (before, rest) = current.split_once(&format!("<!-- {file}:begin -->\n")).expect("the guide has the mark");
        let (_, after) = rest.split_once(&format!("<!-- {file}:end -->")).expect("the mark has an end");
        let block = format!("```{}\n{text}```\n", language(file));
        current = format!("{before}<!-- {file}:begin -->\n{block}<!-- {file}:end -->{after}");
    }
    if std::env::var_os("POOLPROOF_UPDATE_README").is_some() {
        std::fs::write(&path, current).unwrap();
        return;
    }
    assert!(kept == current, "{} is old: run this test with POOLPROOF_UPDATE_README=1", path.display());
}

#[test]
fn every_example_is_a_scenario_without_a_mistake() {
    let text = std::fs::read_to_string(path()).unwrap();
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split_once("```").expect("the block has an end").0).collect();
    assert!(examples.len() >= 2, "the examples are gone");
    let engine = Engine::standard();
    let pools = [pool::names().as_slice(), pool::PUBLISHED].concat();
    let (capabilities, figures) = ((engine.capabilities)(), (engine.figures)());
    let invariants = invariant::names();
    let names = Names { invariants: &invariants, pools: &pools, capabilities: &capabilities, figures: &figures };
    for example in examples {
        let checked = check("README.md", example, &names);
        assert!(checked.report.diagnostics().is_empty(), "{:?}\n{example}", checked.report);
    }
}

/// Every table that the text asks for with `<!-- table: NAME -->`, in the place of the one that is there.
fn with_tables(text: &str) -> String {
    const BEGIN: &str = "<!-- table: ";
    const END: &str = "<!-- end -->";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->\n").expect("the mark has an end");
        let (_old, after) = after.split_once(END).unwrap_or_else(|| panic!("the table {name} has no end"));
        let _ = write!(out, "{before}{BEGIN}{name} -->\n{}{END}", table(name));
        rest = after;
    }
    out + rest
}

fn table(name: &str) -> String {
    match name {
        "steps" => rows(&["step", "what it does"], STEPS.iter().map(|step| [code(step.form), step.meaning.to_owned()])),
        "faults" => rows(
            &["`do`", "needs", "may have", "what it does"],
            FAULTS.iter().map(|fault| {
                let keys = |keys: &[&str]| keys.iter().map(|key| code(key)).collect::<Vec<_>>().join(", ");
                [code(fault.name), keys(fault.needs), keys(fault.takes), fault.meaning.to_owned()]
            }),
        ),
        "fault keys" => fault_keys(),
        "invariants" => rows(
            &["invariant", "what holds", "within", "judged only with pools that"],
            invariant::all().iter().map(|meta| {
                let needs = meta.needs.map(|need| format!("can do {}", code(need))).unwrap_or_default();
                [code(meta.name), meta.meaning.to_owned(), meta.bound.to_owned(), needs]
            }),
        ),
        "capabilities" => {
            let able = |name: &str| {
                let (published, models) = (pool::published(), pool::models());
                let able = published
                    .iter()
                    .chain(&models)
                    .filter(|pool| verdict::can(&pool.capabilities(), name) == Some(true));
                able.map(|pool| pool.name()).collect::<Vec<_>>().join(", ")
            };
            rows(&["name", "pools that can"], verdict::CAPABILITIES.iter().map(|name| [code(name), able(name)]))
        }
        "figures" => {
            let figures = (Engine::standard().figures)();
            format!("{}\n", figures.iter().map(|name| code(name)).collect::<Vec<_>>().join(", "))
        }
        "arrive" => arrivals(),
        definition => keys(definition),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A table; without a column in which nothing stands.
fn rows<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let used = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let columns: Vec<usize> = (0..N).filter(used).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    line(columns.iter().map(|&column| head[column].to_owned()).collect());
    line(columns.iter().map(|_| "---".to_owned()).collect());
    for row in &rows {
        line(columns.iter().map(|&column| row[column].clone()).collect());
    }
    out
}

fn root() -> Value {
    serde_json::from_str(&schema()).unwrap()
}

/// The keys of a table of the file, from the schema: `Server`, or `Scenario` for the file itself.
fn keys(definition: &str) -> String {
    let root = root();
    let table = if definition == "Scenario" { &root } else { &root["$defs"][definition] };
    let properties = table["properties"].as_object().unwrap_or_else(|| panic!("the schema has no {definition}"));
    let required = |key: &str| {
        table["required"].as_array().is_some_and(|required| required.iter().any(|name| name.as_str() == Some(key)))
    };
    rows(
        &["key", "", "value", "meaning"],
        properties.iter().map(|(key, value)| {
            let needed = if required(key) { "needed" } else { "" };
            [code(key), needed.to_owned(), kind(&root, value), description(value)]
        }),
    )
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// The keys of all faults, each once, with the values that they may have.
fn fault_keys() -> String {
    let root = root();
    let kinds = root["$defs"]["Fault"]["oneOf"].as_array().unwrap();
    let mut keys = serde_json::Map::new();
    for (key, value) in kinds.iter().flat_map(|kind| kind["properties"].as_object().unwrap()) {
        keys.insert(key.clone(), value.clone());
    }
    // The table above has it.
    keys.remove("do");
    rows(
        &["key", "value", "meaning"],
        keys.iter().map(|(key, value)| [code(key), kind(&root, value), description(value)]),
    )
}

/// The ways to arrive, as they are written.
fn arrivals() -> String {
    let root = root();
    let ways = root["$defs"]["Arrive"]["anyOf"].as_array().unwrap().clone();
    rows(
        &["keys", "when actors arrive", "values"],
        ways.iter().map(|way| {
            let Some(properties) = way["properties"].as_object() else {
                return [code("\"never\""), description(way), String::new()];
            };
            let names = properties.keys().map(|key| code(key)).collect::<Vec<_>>().join(", ");
            let values = properties.iter().map(|(key, value)| format!("{}: {}", code(key), description(value)));
            [names, description(way), values.collect::<Vec<_>>().join(" ")]
        }),
    )
}

/// What a value is, in a few words.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return named(root, reference.rsplit('/').next().unwrap());
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let kinds = any.iter().filter(|one| one["type"] != "null").map(|one| kind(root, one));
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        return match pattern {
            never if never.starts_with("^(never|(\\d+d)") => "duration or `\"never\"`".to_owned(),
            duration if duration.starts_with("^(\\d+d)") => "duration".to_owned(),
            bandwidth if bandwidth.contains("B/s") => "bandwidth".to_owned(),
            _ => "text".to_owned(),
        };
    }
    let one = |schema: &Value| match schema.as_str() {
        Some("integer" | "number") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => "list".to_owned(),
        Some("object") => "table".to_owned(),
        _ => "text".to_owned(),
    };
    match &schema["type"] {
        Value::Array(types) => types.iter().find(|name| *name != "null").map_or_else(String::new, one),
        name => one(name),
    }
}

/// A definition: its words when it is a choice of some.
fn named(root: &Value, definition: &str) -> String {
    let schema = &root["$defs"][definition];
    let words = schema["oneOf"].as_array().map(|all| all.iter().filter_map(|one| one["const"].as_str()).collect());
    let words: Option<Vec<&str>> =
        words.or_else(|| schema["enum"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect()));
    match words {
        Some(words) if !words.is_empty() => {
            words.iter().map(|word| code(&format!("\"{word}\""))).collect::<Vec<_>>().join(", ")
        }
        _ if schema["properties"].is_object() => "table".to_owned(),
        _ => match definition {
            "Scalar" => "text, number, true or false".to_owned(),
            "Seeds" => "list or range".to_owned(),
            "Arrive" => "see Arrivals".to_owned(),
            _ => kind(root, schema),
        },
    }
}
