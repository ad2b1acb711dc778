//! What is measured in poolproof's own world: real pools, the whole simulated network and server, driven as any scenario.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use poolproof::pool;
use poolproof::run::{self, RunSpec};
use poolproof::scenario::model::Scenario;
use poolproof::scenario::parse;
use poolproof::trace::recorder::{Options, Watch};

use crate::stopwatch::{Spent, Stopwatch, process_cpu};

/// Who looks at a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nobody.
    No,
    /// The view, every judge, the figures and the story: what `poolproof run` does.
    Story,
    /// They, and every event is written as JSON, to nowhere.
    Json,
}

/// A load of `SELECT 1`: actors that acquire, query and release, over and over.
#[derive(Clone, Copy)]
pub struct Load {
    pub pool: &'static str,
    pub watched: Watched,
    /// One way, in milliseconds.
    pub latency: u32,
    /// Apps, each a host with one process.
    pub apps: u32,
    /// Connections of each app's pool.
    pub connections: u32,
    /// Actors of all apps.
    pub actors: u32,
    /// Queries of all actors.
    pub queries: u64,
}

impl Load {
    fn scenario(&self) -> Scenario {
        let Load { latency, apps, connections, actors, queries, .. } = *self;
        let mut text = format!(
            "title = \"SELECT 1\"\nstory = \"As fast as it goes.\"\n[server]\nmax_connections = {}\n[network]\nlatency = \"{latency}ms\"\n",
            apps * connections + 20
        );
        let repeat = queries / u64::from(actors);
        let each = actors / apps;
        for app in 0..apps {
            let _infallible = write!(
                text,
                "[app.a{app}]\npool = {{ max_size = {connections}, acquire_timeout = \"10m\" }}\n\
                 [workload.w{app}]\napp = \"a{app}\"\narrive = {{ burst = {each} }}\n\
                 steps = [{{ repeat = {repeat}, steps = [\"acquire\", \"sql SELECT 1\", \"release\"] }}]\n",
            );
        }
        text.push_str("[expect]\nuntil = \"10m\"\nholds = [\"bounded-connections\"]\n");
        read("a load", &text)
    }

    /// Does it once. The start of the server and of the pools, and all phases of a run, are part of it.
    pub fn run(&self) -> Spent {
        let queries = self.queries / u64::from(self.actors) * u64::from(self.actors);
        driven(self.scenario(), self.pool, self.watched, Some(queries))
    }
}

/// A day in which nothing happens: one server, one app with ten idle connections, TCP keepalive on at both ends, the pool's
/// own reaper at work. With the story.
pub fn idle_day() -> Spent {
    let text = "title = \"An idle day\"\nstory = \"Nothing happens.\"\n[app.a]\npool = { max_size = 10, min_idle = 10 }\n\
                [workload.w]\napp = \"a\"\narrive = { at = [\"23h\"] }\nsteps = [\"acquire\", \"sql SELECT 1\", \"release\"]\n\
                [expect]\nuntil = \"24h\"\nholds = [\"bounded-connections\"]\n";
    driven(read("an idle day", text), "bb8", Watched::Story, None)
}

fn driven(scenario: Scenario, name: &str, watched: Watched, queries: Option<u64>) -> Spent {
    let adapter = pool::by_name(name).expect("a published pool");
    let capabilities = adapter.capabilities();
    let spec = RunSpec { scenario: Arc::new(scenario), adapter, seed: 1 };
    let ran = poolproof_sim::runtime::run(1, async move || {
        let watch = (watched != Watched::No).then(|| Watch::new(&spec.scenario, capabilities));
        let out = (watched == Watched::Json).then(|| Box::new(std::io::sink()) as Box<_>);
        let stopwatch = Stopwatch::start();
        let driven = run::drive(&spec, Options { watch, out, keep: false }).await.expect("the scenario is in order");
        let spent = stopwatch.read();
        (spent, driven.recorder.finish().expect("a sink takes everything"))
    });
    let (spent, finished) = ran.expect("the run doesn't panic");
    if let Some(finished) = finished {
        // A load that failed halfway would look fast.
        assert!(finished.violations.counts().is_empty(), "{:?}", finished.violations.counts());
        if let Some(queries) = queries {
            assert!(finished.figures.events > queries * 5, "{} events of {queries} queries", finished.figures.events);
        }
    }
    spent
}

fn read(name: &str, text: &str) -> Scenario {
    parse(name, text).unwrap_or_else(|report| panic!("{report:?}\n{text}"))
}

/// Whole runs, as a campaign in one process does them: a scenario of the repository, bb8, judged, `count` seeds on so many
/// threads. The second duration is CPU time of the process.
pub fn runs(threads: usize, count: u64) -> Spent {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/faults/server_restart_fast.toml");
    let text = std::fs::read_to_string(path).expect("the scenario is in the repository");
    let scenario = Arc::new(read(path, &text));
    let adapter = pool::by_name("bb8").expect("a published pool");
    let next = AtomicU64::new(0);
    let (wall, cpu) = (Instant::now(), process_cpu());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let spec = RunSpec { scenario: Arc::clone(&scenario), adapter: Arc::clone(&adapter), seed };
                    let told = run::run(&spec, None);
                    assert!(told.bug.is_none(), "{:?}", told.bug);
                }
            });
        }
    });
    Spent { wall: wall.elapsed(), cpu: process_cpu().saturating_sub(cpu).max(Duration::from_millis(1)) }
}
