//! The same scenarios in the simulated world and on a real PostgreSQL: do both tell the same?
//!
//! A chosen set, on servers of local programs (`local::SCENARIO::POOL`) and in containers (`docker::…`), in half of the scenarios'
//! time. Where there is no server the tests are told as ignored, with the reason; with `CI=true` that is a failure. All scenarios
//! are compared by `poolproof agree`. Pools that can't be simulated are run on local servers, too (`real_time_only::…`).

mod real_time_only;
#[path = "../common/skipped.rs"]
mod skipped;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::RwLock;
use poolproof::agreement::{self, Agreement, RealTerms, SEEDS, SEEDS_WHERE_IT_DIFFERS, TRIES};
use poolproof::pool::by_name;
use poolproof::run::{RunSpec, run};
use poolproof::scenario;
use poolproof::world::postgres::Servers;
use poolproof::world::postgres::run_on;
use poolproof::world::postgres::server::{Kind, Wanted};
use poolproof::world::{Place, RealTime};

use skipped::skipped;

/// How much of the scenarios' time the real runs take.
const SCALE: f64 = 0.5;
/// Real runs mostly wait.
const AT_ONCE: usize = 8;
/// Held by all that run at once, or by one that runs alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// On local servers: what befalls servers, locks, slots, callers and the network.
const LOCAL: [&str; 12] = [
    "app_killed",
    "connect_lost",
    "connect_refused",
    "failover",
    "long_timeline_query",
    "server_crash",
    "server_restart_fast",
    "server_restart_immediate",
    "silent_death_old",
    "slot_exhaustion",
    "stuck_transaction",
    "thread_churn",
];
/// In containers.
const DOCKER: [&str; 4] = ["connect_refused", "failover", "server_restart_fast", "stuck_transaction"];
const POOLS: [&str; 2] = ["bb8", "deadpool"];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let compared = Arc::new(AtomicUsize::new(0));
    let mut trials = Vec::new();
    let mut places = Vec::new();
    let find = |kind| {
        let wanted = Wanted::from_environment(None).map(|wanted| Wanted { url: None, kind: Some(kind), ..wanted });
        wanted.and_then(Servers::find).map_err(|error| error.to_string())
    };
    for (kind, name, scenarios) in [(Kind::Local, "local", &LOCAL[..]), (Kind::Docker, "docker", &DOCKER[..])] {
        let servers = find(kind);
        places.push(match &servers {
            Ok(servers) => servers.source().describe(),
            Err(why) => format!("none ({why})"),
        });
        for (scenario, pool) in scenarios.iter().flat_map(|scenario| POOLS.map(|pool| (*scenario, pool))) {
            let (name, compared) = (format!("{name}::{scenario}::{pool}"), Arc::clone(&compared));
            trials.push(match servers.clone() {
                Ok(servers) => Trial::test(name, move || agrees(scenario, pool, servers, &compared)),
                Err(why) => skipped(name, why),
            });
        }
    }
    for &pool in real_time_only::POOLS {
        let servers = find(Kind::Local);
        for (scenario, shows) in real_time_only::SCENARIOS {
            let name = format!("real_time_only::{scenario}::{pool}");
            trials.push(match servers.clone() {
                Ok(servers) => {
                    Trial::test(name, move || real_time_only::does_what_is_known(scenario, pool, servers, shows))
                }
                Err(why) => skipped(name, why),
            });
        }
    }
    let list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !list {
        let compared = compared.load(Ordering::Relaxed);
        println!("agreement: {compared} pairs of scenario and pool compared, on {}", places.join(" and on "));
    }
    conclusion.exit_code()
}

fn agrees(name: &'static str, pool: &str, servers: Arc<Servers>, compared: &AtomicUsize) -> Result<(), Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/faults/{name}.toml"));
    let text = std::fs::read_to_string(&path)?;
    let scenario = scenario::parse(name, &text).map_err(|report| report.to_string())?;
    let adapter = by_name(pool).ok_or("there is no such pool")?;
    let spec = |scenario, seed| RunSpec { scenario: Arc::new(scenario), adapter: Arc::clone(&adapter), seed };

    let mut sim: Vec<_> = (1..=SEEDS).map(|seed| run(&spec(scenario.clone(), seed), None).report).collect();
    let place = Place::Postgres(RealTime { url: None, time_scale: SCALE });
    let terms = Some(RealTerms::new(&scenario, SCALE));
    let known = agreement::known();
    compared.fetch_add(1, Ordering::Relaxed);
    let mut failure = String::new();
    // After the first with the machine for itself.
    for attempt in 0..TRIES {
        if attempt == 1 {
            sim.extend(
                (SEEDS + 1..=SEEDS_WHERE_IT_DIFFERS).map(|seed| run(&spec(scenario.clone(), seed), None).report),
            );
        }
        let (_with_others, _alone);
        if attempt == 0 {
            _with_others = MACHINE.read();
        } else {
            _alone = MACHINE.write();
        }
        let real = run_on(&spec(place.scenario(&scenario).into_owned(), 1), SCALE, Arc::clone(&servers), None);
        let differences = match agreement::compare(&sim, std::slice::from_ref(&real.report), terms) {
            Agreement::Agrees => return Ok(()),
            Agreement::Unsupported(why) => return Err(format!("unsupported: {}", why.join(", ")).into()),
            Agreement::Differs(differences) => differences,
        };
        let is_known = |difference: &_| agreement::known_as(&known, "postgres", name, pool, difference).is_some();
        let unknown: Vec<String> =
            differences.iter().filter(|difference| !is_known(difference)).map(ToString::to_string).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        failure = format!("{}\n{}", unknown.join("\n"), real.story);
    }
    Err(failure.into())
}
