//! The JSON Schema against the checked-in file, the parser, and whole files.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use poolproof::scenario::schema::schema;
use poolproof::scenario::{FAULTS, Names, check, parse};
use serde_json::Value;

const COMPLETE: &str = include_str!("scenario/complete.toml");

/// `POOLPROOF_UPDATE_SCHEMA=1 cargo test --test scenario_schema` writes the file anew.
#[test]
fn the_schema_in_the_repository_is_current() {
    let path = scenarios().join("scenario.schema.json");
    if std::env::var_os("POOLPROOF_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == schema(), "{} is old: run this test with POOLPROOF_UPDATE_SCHEMA=1", path.display());
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn root() -> Value {
    serde_json::from_str(&schema()).unwrap()
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// What is wrong with a value, by the keywords that our schema uses; any other keyword fails the test.
fn wrong(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    let fail = |what: &str| Some(format!("{path}: {what}: {value}"));
    for (keyword, rule) in schema.as_object()? {
        let found = match keyword.as_str() {
            "$ref" => wrong(root, resolve(root, schema), value, path),
            "type" => {
                let is = |name: &str| match name {
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                let allowed = match rule {
                    Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
                    name => is(name.as_str().unwrap()),
                };
                if allowed { None } else { fail("type") }
            }
            "const" => {
                if rule == value {
                    None
                } else {
                    fail("const")
                }
            }
            "enum" => {
                if rule.as_array()?.contains(value) {
                    None
                } else {
                    fail("enum")
                }
            }
            "pattern" => {
                let pattern = regex_lite::Regex::new(rule.as_str()?).unwrap();
                let matches = value.as_str().is_none_or(|text| pattern.is_match(text));
                if matches { None } else { fail("pattern") }
            }
            "minimum" => {
                if value.as_f64() >= rule.as_f64() {
                    None
                } else {
                    fail("minimum")
                }
            }
            "maximum" => {
                if value.as_f64() <= rule.as_f64() {
                    None
                } else {
                    fail("maximum")
                }
            }
            "oneOf" | "anyOf" => {
                let good = rule.as_array()?.iter().filter(|s| wrong(root, s, value, path).is_none()).count();
                if good == 1 || good > 1 && keyword == "anyOf" { None } else { fail(keyword) }
            }
            "items" => value.as_array().into_iter().flatten().find_map(|item| wrong(root, rule, item, path)),
            "required" => {
                let missing = rule.as_array()?.iter().find(|key| value.get(key.as_str().unwrap()).is_none());
                missing.and_then(|key| fail(&format!("{key} is missing")))
            }
            "properties" => rule
                .as_object()?
                .iter()
                .find_map(|(key, rule)| wrong(root, rule, value.get(key)?, &format!("{path}.{key}"))),
            "additionalProperties" => value.as_object().into_iter().flatten().find_map(|(key, value)| {
                let known = schema["properties"].get(key).is_some();
                match rule {
                    Value::Bool(false) if !known => fail(&format!("{key} is unknown")),
                    rule if !known => wrong(root, rule, value, &format!("{path}.{key}")),
                    _ => None,
                }
            }),
            "$schema" | "$defs" | "title" | "description" | "format" => None,
            other => panic!("the schema uses {other}, which this test doesn't know"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn toml_as_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

#[test]
fn files_that_the_parser_accepts_are_valid() {
    let root = root();
    assert_eq!(wrong(&root, &root, &toml_as_json(COMPLETE), "complete"), None);
    let spoilt = COMPLETE.replace("max_connections = 40", "max_conections = 40");
    assert!(wrong(&root, &root, &toml_as_json(&spoilt), "spoilt").is_some(), "the test can't fail");
    let spoilt = COMPLETE.replace("takes = \"200ms\"", "takes = \"200\"");
    assert!(wrong(&root, &root, &toml_as_json(&spoilt), "spoilt").is_some(), "the test can't fail");
    let kept = scenarios().join("scenario.schema.json").canonicalize().unwrap();
    let mut folders = vec![scenarios()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.display().to_string();
                let report = check(&name, &text, &Names::default()).report;
                assert!(report.diagnostics().is_empty(), "{report:?}");
                assert_eq!(wrong(&root, &root, &toml_as_json(&text), &name), None);
                let schema = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
                let schema = schema.and_then(|schema| path.parent()?.join(schema).canonicalize().ok());
                assert_eq!(schema.as_ref(), Some(&kept), "{name} doesn't point to the schema");
            }
        }
    }
}

/// The keys that the parser knows in a table: it lists them when a key is like none of them.
fn known_to_parser(text: &str) -> BTreeSet<String> {
    let report = parse("t.toml", text).unwrap_err();
    let unknown = report.diagnostics().iter().find(|d| d.message.contains("`qqqqqqqq`")).unwrap();
    let help = unknown.help.as_deref().unwrap();
    help.strip_prefix("there is ").unwrap().split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

fn keys(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_parser_and_the_schema_know_the_same_keys() {
    let root = root();
    let tables = [
        ("qqqqqqqq = 1", "/properties"),
        ("server.qqqqqqqq = 1", "/$defs/Server/properties"),
        ("server.role.x.qqqqqqqq = 1", "/$defs/Role/properties"),
        ("server.cost = [{ like = 'x%', takes = '1s', qqqqqqqq = 1 }]", "/$defs/Cost/properties"),
        ("standby.qqqqqqqq = 1", "/$defs/Standby/properties"),
        ("network.qqqqqqqq = 1", "/$defs/Network/properties"),
        ("network.client.qqqqqqqq = 1", "/$defs/Client/properties"),
        ("network.client.keepalive.qqqqqqqq = 1", "/$defs/Keepalive/properties"),
        ("app.x.qqqqqqqq = 1", "/$defs/App/properties"),
        ("app.x.pool.qqqqqqqq = 1", "/$defs/Pool/properties"),
        ("app.x.collector.qqqqqqqq = 1", "/$defs/Collector/properties"),
        ("queue.x.qqqqqqqq = 1", "/$defs/Queue/properties"),
        ("workload.x.qqqqqqqq = 1", "/$defs/Workload/properties"),
        ("workload.x.steps = [{ qqqqqqqq = 1 }]", "/$defs/Repetition/properties"),
        ("expect.qqqqqqqq = 1", "/$defs/Expect/properties"),
        ("expect.known = [{ qqqqqqqq = 1 }]", "/$defs/Known/properties"),
        ("expect.violation = [{ qqqqqqqq = 1 }]", "/$defs/Declared/properties"),
        ("expect.error = [{ qqqqqqqq = 1 }]", "/$defs/ErrorCheck/properties"),
        ("expect.excuse = [{ qqqqqqqq = 1 }]", "/$defs/Excuse/properties"),
        ("expect.sql = [{ qqqqqqqq = 1 }]", "/$defs/SqlCheck/properties"),
    ];
    for (text, path) in tables {
        let table = root.pointer(path.strip_suffix("/properties").unwrap()).unwrap();
        assert_eq!(known_to_parser(text), keys(table), "{text}");
    }
    let kinds = root.pointer("/$defs/Fault/oneOf").unwrap().as_array().unwrap();
    assert_eq!(kinds.len(), FAULTS.len());
    for (fault, kind) in FAULTS.iter().zip(kinds) {
        let name = fault.name;
        assert_eq!(known_to_parser(&format!("fault = [{{ do = '{name}', qqqqqqqq = 1 }}]")), keys(kind), "{name}");
    }
    // And no table of the schema was left out above.
    let objects = root["$defs"].as_object().unwrap().iter().filter(|(_, schema)| schema.get("properties").is_some());
    assert_eq!(objects.count(), tables.len() - 1);
}

#[test]
fn every_key_is_described() {
    fn walk(schema: &Value, path: &str, bare: &mut Vec<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            if value.get("description").is_none() {
                bare.push(format!("{path}.{key}"));
            }
        }
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), bare)),
            Value::Array(items) => items.iter().for_each(|value| walk(value, path, bare)),
            _ => {}
        }
    }
    let mut bare = Vec::new();
    walk(&root(), "", &mut bare);
    assert!(bare.is_empty(), "{bare:?}");
}
