//! `cargo bench`: how fast poolproof is, measured beside what it is compared with, in one run.
//!
//! Each measurement is repeated, the repetitions of all are interleaved, and the median is shown, since other work on the
//! machine comes and goes. What happens on one thread is given by the CPU time of that thread; "runs a second" needs
//! several, and is by the wall clock. Options after `--`: `--smoke` does little of everything once; `--json FILE` writes
//! the figures; `--only WORD` leaves out the rows without that word in their name.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program with a terminal")]
#![allow(missing_docs, unreachable_pub, reason = "not a library")]

mod ceiling;
mod load;
mod stopwatch;
mod toy_server;

use std::collections::BTreeMap;
use std::time::Duration;

use load::{Load, Watched};
use serde_json::{Value, json};
use stopwatch::Spent;

/// One row of the table.
struct Row {
    name: String,
    /// Its name in the JSON.
    key: &'static str,
    /// The entry under that name, where it has several.
    entry: Option<u32>,
    kind: Kind,
    work: Box<dyn Fn() -> Spent>,
    spent: Vec<Spent>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// So many queries a second of CPU time.
    Qps(u64),
    /// Nanoseconds of CPU time for each of so many queries.
    Cost(u64),
    /// Milliseconds of CPU time.
    Millis,
    /// So many queries a second of wall-clock time.
    WallQps(u64),
    /// So many runs a second of wall-clock time.
    Runs(u64),
}

impl Kind {
    fn figure(self, spent: Spent) -> f64 {
        match self {
            Kind::Qps(queries) => queries as f64 / spent.cpu.as_secs_f64(),
            Kind::Cost(queries) => spent.cpu.as_secs_f64() * 1e9 / queries as f64,
            Kind::Millis => spent.cpu.as_secs_f64() * 1e3,
            Kind::WallQps(count) | Kind::Runs(count) => count as f64 / spent.wall.as_secs_f64(),
        }
    }
}

struct Arguments {
    smoke: bool,
    json: Option<String>,
    only: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    // `cargo test --all-targets` starts benches without `--bench`: then little is enough.
    let mut arguments = Arguments { smoke: !std::env::args().any(|word| word == "--bench"), json: None, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--smoke" => arguments.smoke = true,
            "--json" => arguments.json = Some(words.next().ok_or("--json needs a file")?),
            "--only" => arguments.only = Some(words.next().ok_or("--only needs a word")?),
            other => return Err(format!("`{other}`? There are --smoke, --json FILE and --only WORD")),
        }
    }
    Ok(arguments)
}

fn rows(smoke: bool) -> Vec<Row> {
    let scale = if smoke { 20 } else { 1 };
    let mut rows = Vec::new();
    let mut row = |name: String, key, entry, kind, work: Box<dyn Fn() -> Spent>| {
        rows.push(Row { name, key, entry, kind, work, spent: Vec::new() });
    };

    let queries = 200_000 / scale;
    for tasks in [1, 50] {
        row(
            format!("no pool, duplex, toy server, {tasks} task{}", if tasks == 1 { "" } else { "s" }),
            "ceiling_qps",
            None,
            Kind::Qps(queries),
            Box::new(move || ceiling::ceiling(tasks, queries)),
        );
    }

    let queries = 100_000 / scale;
    let base = Load { pool: "bb8", watched: Watched::Story, latency: 0, apps: 1, connections: 10, actors: 50, queries };
    for (name, key, load) in [
        ("bb8, nothing watched", "bb8_qps", Load { watched: Watched::No, ..base }),
        ("bb8, judged, with the story", "bb8_traced_qps", base),
        ("bb8, judged, full JSON trace", "bb8_json_qps", Load { watched: Watched::Json, ..base }),
        ("bb8, 1 ms latency, nothing watched", "bb8_1ms_qps", Load { watched: Watched::No, latency: 1, ..base }),
        ("bb8, 1 ms latency, with the story", "bb8_1ms_traced_qps", Load { latency: 1, ..base }),
        ("deadpool, nothing watched", "deadpool_qps", Load { pool: "deadpool", watched: Watched::No, ..base }),
        ("deadpool, judged, with the story", "deadpool_traced_qps", Load { pool: "deadpool", ..base }),
        ("mobc, judged, with the story", "mobc_traced_qps", Load { pool: "mobc", ..base }),
        ("sqlx, judged, with the story", "sqlx_traced_qps", Load { pool: "sqlx", ..base }),
        ("fast_pool, judged, with the story", "fast_pool_traced_qps", Load { pool: "fast_pool", ..base }),
        // More would wait, and who waits for qp may wait for ever.
        ("qp, judged, with the story, 10 actors", "qp_traced_qps", Load { pool: "qp", actors: 10, ..base }),
        ("reference, judged, with the story", "reference_traced_qps", Load { pool: "reference", ..base }),
    ] {
        row(name.to_owned(), key, None, Kind::Qps(queries), Box::new(move || load.run()));
    }
    let on_turmoil = queries / 2;
    row(
        "bb8 on turmoil, 1 ms latency, toy server".to_owned(),
        "turmoil_qps",
        None,
        Kind::Qps(on_turmoil),
        Box::new(move || ceiling::turmoil(50, on_turmoil, 10)),
    );
    row(
        "bb8 on our network, 1 ms latency, toy server".to_owned(),
        "own_network_qps",
        None,
        Kind::Qps(on_turmoil),
        Box::new(move || ceiling::own_network(50, on_turmoil, 10)),
    );
    row("an idle virtual day".to_owned(), "idle_day_ms", None, Kind::Millis, Box::new(load::idle_day));

    // 200 connections and 200 actors, whatever the number of apps.
    for apps in [1, 20, 200] {
        let load = Load { latency: 1, apps, connections: 200 / apps, actors: 200, ..base };
        row(
            format!("a query, {apps} app{}", if apps == 1 { "" } else { "s" }),
            "cost_ns_by_apps",
            Some(apps),
            Kind::Cost(queries),
            Box::new(move || load.run()),
        );
    }
    // Ten connections, whatever the number of actors. Each of the many does some queries, so that its start is not all.
    let queries = 2 * queries;
    for actors in [10, 1_000, 10_000] {
        let load = Load { latency: 1, actors, queries, ..base };
        row(
            format!("a query, {actors} actors"),
            "cost_ns_by_actors",
            Some(actors),
            Kind::Cost(queries),
            Box::new(move || load.run()),
        );
    }
    for threads in [1, 2] {
        let key = if threads == 1 { "ceiling_wall_qps_1" } else { "ceiling_wall_qps_2" };
        row(
            format!("no pool, duplex, by the wall clock, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            key,
            None,
            Kind::WallQps(queries),
            Box::new(move || ceiling::ceiling_on(threads, 50, queries)),
        );
    }
    let runs = if smoke { 2 } else { 10 };
    row("runs, 1 thread".to_owned(), "runs_per_s_1", None, Kind::Runs(runs), Box::new(move || load::runs(1, runs)));
    row("runs, 2 threads".to_owned(), "runs_per_s_2", None, Kind::Runs(runs), Box::new(move || load::runs(2, runs)));
    rows
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let arguments = arguments().unwrap_or_else(|mistake| {
        eprintln!("{mistake}");
        std::process::exit(2);
    });
    let mut rows = rows(arguments.smoke);
    if let Some(word) = &arguments.only {
        rows.retain(|row| row.name.contains(word.as_str()) || row.key == word);
    }
    for _ in 0..if arguments.smoke { 1 } else { 5 } {
        for row in &mut rows {
            row.spent.push((row.work)());
        }
    }

    let mut figures: BTreeMap<&str, Value> = BTreeMap::new();
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["measured", "figure", "unit", "of the ceiling", "CPU ms", "wall ms"]);
    let of = |row: &Row| median(row.spent.iter().map(|spent| row.kind.figure(*spent)).collect());
    let ceiling = rows.iter().filter(|row| row.key == "ceiling_qps").map(of).fold(0.0, f64::max);
    for row in &rows {
        let figure = of(row);
        let (unit, ratio) = match row.kind {
            Kind::Qps(_) => ("queries/s", figure / ceiling),
            Kind::Cost(_) => ("ns", 1e9 / figure / ceiling),
            Kind::Millis => ("ms", 0.0),
            Kind::WallQps(_) => ("queries/s", 0.0),
            Kind::Runs(_) => ("runs/s", 0.0),
        };
        let ratio = if ratio > 0.0 && ratio.is_finite() { format!("{ratio:.2}") } else { String::new() };
        let millis = |of: fn(&Spent) -> Duration| {
            format!("{:.0}", median(row.spent.iter().map(|spent| of(spent).as_secs_f64() * 1e3).collect()))
        };
        let shown = if figure < 1000.0 { format!("{figure:.1}") } else { format!("{figure:.0}") };
        table.add_row([
            row.name.clone(),
            shown,
            unit.to_owned(),
            ratio,
            millis(|spent| spent.cpu),
            millis(|spent| spent.wall),
        ]);
        let figure = json!((figure * 10.0).round() / 10.0);
        match row.entry {
            Some(entry) => {
                let entries = figures.entry(row.key).or_insert_with(|| json!({}));
                entries[entry.to_string()] = figure;
            }
            // The better of two ceilings is the ceiling.
            None if row.key == "ceiling_qps" => drop(figures.insert(row.key, json!(ceiling.round()))),
            None => drop(figures.insert(row.key, figure)),
        }
    }
    let peak = stopwatch::peak_mib();
    table.add_row(["peak memory of all this".to_owned(), format!("{peak:.1}"), "MiB".to_owned()]);
    figures.insert("peak_mib", json!((peak * 10.0).round() / 10.0));
    println!("{table}");
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures).expect("numbers are JSON") + "\n";
        if let Err(error) = std::fs::write(file, text) {
            eprintln!("{file}: {error}");
            std::process::exit(1);
        }
    }
}
