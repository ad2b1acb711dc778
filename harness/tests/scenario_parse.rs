//! The scenario parser against whole files, right and wrong.

#![expect(clippy::unwrap_used, reason = "tests")]

use poolproof::scenario::{Checked, FAULTS, Names, Severity, check, parse, parse_with, print};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const COMPLETE: &str = include_str!("scenario/complete.toml");
const FIVE: &str = include_str!("scenario/five_mistakes.toml");

#[test]
fn the_complete_file_is_read() {
    let scenario = parse("complete.toml", COMPLETE).unwrap();
    assert_eq!(scenario.seeds, (1..=8).collect::<Vec<u64>>());
    let names: Vec<_> = scenario.workloads.keys().collect();
    let expected =
        ["request", "impatient", "worker", "job", "engine", "overseer", "executor", "mailer", "page", "nightly"];
    assert_eq!(names, expected);
    assert_eq!(scenario.faults.len(), FAULTS.len(), "the complete file has each fault once");
    let report = check("complete.toml", COMPLETE, &Names::default()).report;
    assert!(report.diagnostics().is_empty(), "{report:?}");
}

#[test]
fn the_complete_file_is_printed_and_read_again() {
    let scenario = parse("complete.toml", COMPLETE).unwrap();
    assert_eq!(parse("printed.toml", &print(&scenario)).unwrap(), scenario);
}

/// As a terminal would show it, without colours.
fn rendered(report: &poolproof::scenario::Report) -> String {
    let mut text = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, report)
        .unwrap();
    text
}

#[test]
fn five_mistakes_are_five_diagnostics() {
    let report = parse("five_mistakes.toml", FIVE).unwrap_err();
    let places: Vec<_> = report.diagnostics().iter().map(|d| (d.line, d.column, d.code)).collect();
    assert_eq!(
        places,
        [
            (5, 1, "scenario::unknown_key"),
            (8, 43, "scenario::missing_unit"),
            (15, 14, "scenario::bad_step"),
            (17, 3, "scenario::lease"),
            (22, 6, "scenario::unknown_fault"),
        ]
    );
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("five_mistakes", rendered(&report));
    });
}

/// The shortest good file.
const SHORTEST: &str = r#"title = "t"
story = "s"
app.web = {}
workload.w = { app = "web", arrive = { every = "1s" }, steps = ["acquire", "release"] }
expect.until = "10s"
"#;

#[test]
fn the_shortest_file_is_short() {
    assert!(parse("shortest.toml", SHORTEST).is_ok());
}

/// A part of [`SHORTEST`] replaced, and the diagnostic that this gives: its code, and the text at its place.
#[track_caller]
fn gives(from: &str, to: &str, code: &str, at: &str) {
    assert!(SHORTEST.contains(from), "the file has no {from}");
    let text = SHORTEST.replacen(from, to, 1);
    let names = Names {
        invariants: &["recovery", "demand", "effects", "deadline"],
        pools: &["bb8"],
        capabilities: &["idle_timeout"],
        figures: &["peak_connections", "wait.worst", "errors.*"],
    };
    let report = check("t.toml", &text, &names).report;
    let found: Vec<_> = report.diagnostics().iter().map(|d| (d.code, &text[d.span.clone()])).collect();
    assert_eq!(found, [(code, at)], "{report:?}");
}

#[test]
fn each_mistake_is_found_at_its_place() {
    let app = "app.web = {}";
    let steps = r#""acquire", "release""#;
    let end = "expect.until = \"10s\"";
    let also = |more: &str| format!("{end}\n{more}");
    for (from, to, code, at) in [
        ("title = \"t\"", "", "scenario::missing_key", ""),
        ("title = \"t\"", "titel = \"t\"", "scenario::unknown_key", "titel"),
        ("\"t\"", "7", "scenario::wrong_type", "7"),
        ("\"t\"", "\" \"", "scenario::empty", "\" \""),
        ("\"1s\"", "1", "scenario::missing_unit", "1"),
        ("\"1s\"", "\"1\"", "scenario::bad_quantity", "\"1\""),
        ("\"1s\"", "\"0s\"", "scenario::out_of_range", "\"0s\""),
        ("every = \"1s\"", "poisson = \"80\"", "scenario::bad_quantity", "\"80\""),
        ("every = \"1s\"", "evry = \"1s\"", "scenario::unknown_key", "evry"),
        ("app = \"web\"", "app = \"wep\"", "scenario::undefined_app", "\"wep\""),
        ("app = \"web\", ", "", "scenario::missing_key", "w"),
        (app, "app.web = { processes = 0 }", "scenario::out_of_range", "0"),
        (app, "app.web = { user = \"root\" }", "scenario::undefined_role", "\"root\""),
        (app, "app.web = { pool.min_idle = 11 }", "scenario::out_of_range", "11"),
        (app, "app.web = { pool.order = \"lilo\" }", "scenario::unknown_value", "\"lilo\""),
        (app, "app.web = {}\nserver.settings.\"a b\" = \"1\"", "scenario::unknown_setting", "\"a b\""),
        (app, "app.web = {}\nserver.settings.foo = \"bar\"", "scenario::unknown_setting", "foo"),
        (
            app,
            "app.web = {}\nserver.settings.transaction_timeout = 5",
            "scenario::unknown_setting",
            "transaction_timeout",
        ),
        (app, "app.web = {}\nserver.settings.lock_timeout = \"soon\"", "scenario::bad_value", "\"soon\""),
        (app, "app.web = {}\nserver.settings.lock_timeout = -2", "scenario::bad_value", "-2"),
        (app, "app.web = {}\nserver.settings.server_version = \"9\"", "scenario::bad_setting", "server_version"),
        (app, "app.web = {}\nserver.sql = \"CREATE TABEL t (id int)\"", "scenario::sql", "TABEL"),
        (app, "app.web = {}\nserver.sql = '''\nSELECT 1;\nINSERT INTO é VALUES (1)'''", "scenario::sql", "é"),
        (app, "app.web = {}\nserver.sql = \"SELECT \\u0031 FROM t\"", "scenario::sql", "\"SELECT \\u0031 FROM t\""),
        (app, "app.web = {}\nserver.sql = 'SELECT 1/0'", "scenario::sql", "'SELECT 1/0'"),
        (app, "app.web = {}\nserver.max_connections = 3", "scenario::out_of_range", "3"),
        (app, "app.web = {}\nserver.cost = [{ like = 'x%\\', takes = \"1s\" }]", "scenario::bad_pattern", "'x%\\'"),
        (app, "app.web = {}\nseeds = []", "scenario::bad_value", "[]"),
        (app, "app.web = {}\nseeds = \"8..=1\"", "scenario::bad_value", "\"8..=1\""),
        (steps, "", "scenario::empty", "[]"),
        (steps, "\"release\"", "scenario::lease", "\"release\""),
        (steps, "\"aquire\", \"release\"", "scenario::bad_step", "aquire"),
        (steps, "\"sql SELECT 1\"", "scenario::lease", "\"sql SELECT 1\""),
        (steps, "\"acquire\", 'acquire'", "scenario::lease", "'acquire'"),
        (steps, "\"acquire\", \"leak\", \"begin\"", "scenario::lease", "\"begin\""),
        (steps, "\"panic\", \"status\"", "scenario::unreachable", "\"status\""),
        (steps, "\"drop pool\"", "scenario::own_pool", "\"drop pool\""),
        (steps, "\"spawn x\"", "scenario::undefined_workload", "x"),
        (steps, "\"spawn w\"", "scenario::spawn", "w"),
        (steps, "{ repeat = 2, steps = [\"acquire\"] }", "scenario::lease", "\"acquire\""),
        (steps, "{ repeat = 0, steps = [\"status\"] }", "scenario::out_of_range", "0"),
        (steps, "{ repeat = 1, steps = [\"hold 1\"] }", "scenario::bad_step", "1"),
        (steps, "\"acquire\", \"sql SELECT $acto\"", "scenario::unknown_variable", "$acto"),
        (end, "", "scenario::missing_key", ""),
        (end, &also("expect.holds = [\"recovry within 1s\"]"), "scenario::undefined_invariant", "recovry"),
        (end, &also("expect.holds = [\"recovery within 1\"]"), "scenario::bad_bound", "1"),
        (end, &also("expect.holds = [\"demand of 3\"]"), "scenario::bad_bound", "of"),
        (end, &also("expect.holds = [\"effects within 2s\"]"), "scenario::bad_bound", "\"effects within 2s\""),
        (end, &also("expect.holds = [\"demand within 2s\"]"), "scenario::bad_bound", "\"demand within 2s\""),
        (end, &also("expect.holds = [\"deadline at most 3\"]"), "scenario::bad_bound", "\"deadline at most 3\""),
        (end, &also("expect.needs = [\"idle\"]"), "scenario::undefined_capability", "\"idle\""),
        (end, &also("expect.figures.peak_connections = \"<= 2s\""), "scenario::bad_comparison", "2s"),
        (end, &also("expect.figures.wait.worst = \"<= 2\""), "scenario::bad_comparison", "2"),
        (end, &also("expect.figures.peek = \"= 1\""), "scenario::undefined_figure", "peek"),
        (end, &also("expect.figures.errors.timeout = \"1\""), "scenario::bad_comparison", "1"),
        (end, &also("expect.figures.errors.timeout = \"<= x\""), "scenario::bad_comparison", "x"),
        (end, &also("expect.excuse = [{ invariant = \"demand\", why = \"\" }]"), "scenario::empty", "\"\""),
        (
            end,
            &also(
                "expect.known = [{ pool = \"bb8\", versions = \"new\", violates = \"demand\", link = \"https://x\" }]",
            ),
            "scenario::bad_version",
            "\"new\"",
        ),
        (end, &also("fault = [{ at = \"10s\", do = \"net.refuse\" }]"), "scenario::out_of_order", "\"10s\""),
        (end, &also("fault = [{ at = \"1s\", do = \"restart\" }]"), "scenario::unknown_fault", "\"restart\""),
        (end, &also("fault = [{ at = \"1s\", do = \"server.sql\", sql = \"SELEC 1\" }]"), "scenario::sql", "SELEC"),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"server.set\", setting = \"statement_timeot\", value = 1 }]"),
            "scenario::unknown_setting",
            "\"statement_timeot\"",
        ),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"server.set\", setting = \"statement_timeout\", value = \"soon\" }]"),
            "scenario::bad_value",
            "\"soon\"",
        ),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"server.set\", setting = \"max_connections\", value = 10 }]"),
            "scenario::bad_setting",
            "\"max_connections\"",
        ),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"net.refuse\", mode = \"fast\" }]"),
            "scenario::unknown_key",
            "mode",
        ),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"server.stop\", server = \"standby\" }]"),
            "scenario::undefined_standby",
            "\"standby\"",
        ),
        (
            end,
            &also("fault = [{ at = \"1s\", do = \"app.kill\", app = \"web\", process = 2 }]"),
            "scenario::out_of_range",
            "2",
        ),
        (
            end,
            &also("workload.x = { app = \"web\", arrive = \"never\", steps = [\"status\"] }"),
            "scenario::never_starts",
            "x",
        ),
        (end, &also("x = = 1"), "scenario::syntax", "="),
    ] {
        if code == "scenario::missing_key" && at.is_empty() {
            let report = parse("t.toml", &SHORTEST.replacen(from, to, 1)).unwrap_err();
            assert_eq!(report.diagnostics().len(), 1, "{report:?}");
            assert_eq!((report.diagnostics()[0].code, report.diagnostics()[0].line), (code, 1));
        } else {
            gives(from, to, code, at);
        }
    }
}

#[test]
fn workloads_that_spawn_each_other_never_end() {
    let circle = r#"
workload.a = { app = "web", arrive = "never", steps = ["spawn b"] }
workload.b = { app = "web", arrive = "never", steps = ["spawn a and wait"] }
"#;
    let report = parse("t.toml", &format!("{SHORTEST}{circle}")).unwrap_err();
    assert_eq!(report.diagnostics().len(), 2, "{report:?}");
    assert!(report.diagnostics().iter().all(|d| d.code == "scenario::spawn_cycle"));
}

#[test]
fn several_mistakes_of_syntax_are_one_report() {
    let text = SHORTEST.replace("\"t\"", "t").replace("expect.until = \"10s\"", "expect.until = \"10\nx = 1 2");
    let report = parse("t.toml", &text).unwrap_err();
    let lines: Vec<_> = report.diagnostics().iter().filter(|d| d.code == "scenario::syntax").map(|d| d.line).collect();
    assert!(lines.contains(&1) && lines.contains(&5) && lines.contains(&6), "{report:?}");
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    for (open, close) in [("[", "]"), ("{a=", "}"), ("{ repeat = 1, steps = [", "] }")] {
        let deep = format!("workload.w.steps = {}{}", open.repeat(5000), close.repeat(5000));
        assert!(parse("deep.toml", &deep).unwrap_err().has_errors());
    }
    let deep = format!("{}x = 1", "a.".repeat(5000));
    assert!(parse("deep.toml", &deep).unwrap_err().has_errors());
}

#[test]
fn unknown_names_are_known_to_the_caller() {
    let names = Names { pools: &["deadpool"], ..Names::default() };
    let report = parse_with("complete.toml", COMPLETE, &names).unwrap_err();
    assert_eq!(report.diagnostics().len(), 5, "{report:?}");
    assert!(report.diagnostics().iter().all(|d| d.code == "scenario::undefined_pool"));
}

/// One way to spoil a file.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    DeleteLine(Index),
    DuplicateLine(Index),
    SwapLines(Index, Index),
    ReplaceToken(Index, &'static str),
    Cut(Index),
}

const DICTIONARY: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\\",
    "0",
    "-1",
    "99999999999999999999",
    "1e999",
    "nan",
    "true",
    "\"5s\"",
    "\"5\"",
    "\"0s\"",
    "\"acquire\"",
    "\"leak\"",
    "\"spawn job\"",
    "\"cancel at every poll: hold 5ms\"",
    "server",
    "app",
    "[[fault]]",
    "[expect]",
    "until",
    "steps",
    "\"<= 1%\"",
    "\"never\"",
    "1979-05-27",
    "é",
    "\u{feff}",
    "\r",
    "\0",
    "\"\\u00e9 \\\n x\"",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        at().prop_map(Mutation::DeleteLine),
        at().prop_map(Mutation::DuplicateLine),
        (at(), at()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        (at(), select(DICTIONARY)).prop_map(|(at, token)| Mutation::ReplaceToken(at, token)),
        at().prop_map(Mutation::Cut),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let count = lines.len();
    match mutation {
        Mutation::Flip(at, byte) => {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = *byte;
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        Mutation::DeleteLine(at) => {
            lines.remove(at.index(count));
        }
        Mutation::DuplicateLine(at) => lines.insert(at.index(count), lines[at.index(count)]),
        Mutation::SwapLines(a, b) => lines.swap(a.index(count), b.index(count)),
        Mutation::ReplaceToken(at, token) => {
            let tokens: Vec<&str> = text.split_inclusive([' ', '\n', ',', '"', '=', '[', ']']).collect();
            let at = at.index(tokens.len());
            return tokens[..at].iter().chain([token]).chain(&tokens[at + 1..]).copied().collect();
        }
        Mutation::Cut(at) => {
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            return text[..at].to_owned();
        }
    }
    lines.concat()
}

/// How many spoilt files are tried. `ci/check` asks for 10 000, which take half a minute in a debug build.
fn mutations() -> u32 {
    std::env::var("POOLPROOF_MUTATIONS").map_or(500, |count| count.parse().expect("POOLPROOF_MUTATIONS is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: mutations(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoilt_file_is_read_or_refused_with_reasons(mutations in vec(mutation(), 1..4)) {
        let text = mutations.iter().fold(COMPLETE.to_owned(), |text, mutation| mutate(&text, mutation));
        let Checked { scenario, report } = check("spoilt.toml", &text, &Names::default());
        prop_assert_eq!(scenario.is_none(), report.has_errors());
        for d in report.diagnostics() {
            prop_assert!(text.get(d.span.clone()).is_some(), "{:?} is not in the text", d.span);
            prop_assert!(d.line >= 1 && d.column >= 1 && !d.message.is_empty() && !d.label.is_empty(), "{:?}", d);
            prop_assert!(d.severity == Severity::Error || !d.code.contains("syntax"));
            for note in &d.notes {
                prop_assert!(text.get(note.span.clone()).is_some());
            }
        }
    }
}
