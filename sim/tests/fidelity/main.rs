//! The fidelity suite: does the simulated server do to its clients what PostgreSQL does?
//!
//! `situations/` holds scripts of client messages and of what befalls the server; `records/15/` what a real PostgreSQL 15
//! answered to each. Each situation is two tests:
//!
//! - `sim::FAMILY::SITUATION` plays it against the simulated server, in virtual time, and compares with the record;
//! - `real::FAMILY::SITUATION` plays it against a real server on loopback, where one is installed, and compares with the
//!   record. Elsewhere it is told as ignored, with the reason; with `CI=true` that is a failure.
//!
//! `FIDELITY_RECORD=1 cargo test -p poolproof-sim --test fidelity [FILTER]` asks the real server anew and rewrites the records.

mod client;
mod family;
mod message;
mod names;
mod observe;
mod play;
mod real;
mod records;
mod script;
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::Mutex;

use family::{Family, Situation};
use real::Installation;
use records::{Difference, KnownDifferences, Record};

/// The major version whose behaviour is simulated here.
const MAJOR: u32 = 15;
/// So many situations at once on real servers, which mostly wait.
const AT_ONCE: usize = 6;
/// A real server on a busy machine is given so much more time, in turn, before a difference is believed.
const PATIENCE: [u32; 3] = [1, 4, 12];
/// The suite shall not shrink unnoticed.
const AT_LEAST: usize = 200;

/// What all tests share.
struct Suite {
    records: PathBuf,
    known: KnownDifferences,
    /// A real server, or why there is none.
    installation: Result<Arc<Installation>, String>,
    recorded: Mutex<BTreeMap<String, Record>>,
    simulated: AtomicUsize,
    real: AtomicUsize,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity");
    let read = family::load(&folder.join("situations"))
        .and_then(|families| Ok((families, KnownDifferences::read(&folder.join("known.toml"))?)));
    let (families, known) = match read {
        Ok(read) => read,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let suite = Arc::new(Suite {
        records: folder.join("records").join(MAJOR.to_string()),
        known,
        installation: real::find(MAJOR).map(Arc::new),
        recorded: Mutex::default(),
        simulated: AtomicUsize::new(0),
        real: AtomicUsize::new(0),
    });
    let recording = std::env::var_os("FIDELITY_RECORD").is_some();
    let conclusion = libtest_mimic::run(&arguments, trials(&suite, &families, recording));
    if let Ok(installation) = &suite.installation {
        installation.finish();
    }
    if recording && let Err(error) = suite.write_records(&families) {
        eprintln!("the records can't be written: {error}");
        return ExitCode::FAILURE;
    }
    if !arguments.list {
        let where_real = match &suite.installation {
            Ok(installation) => format!("{} on {}", suite.real.load(Ordering::Relaxed), installation.version),
            Err(why) => format!("none on a real server ({why})"),
        };
        let simulated = suite.simulated.load(Ordering::Relaxed);
        println!("fidelity: {simulated} situations compared in the simulation, {where_real}");
    }
    conclusion.exit_code()
}

fn trials(suite: &Arc<Suite>, families: &[Family], recording: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for family in families {
        let family = Arc::new(family.clone());
        let record = Arc::new(records::read(&suite.records, &family.name));
        for situation in family.situations.clone() {
            let name = format!("{}::{}", family.name, situation.name);
            if !recording {
                let (suite, family, record, situation) = (suite.clone(), family.clone(), record.clone(), situation.clone());
                let test = move || suite.simulate(&family, &situation, &record);
                trials.push(Trial::test(format!("sim::{name}"), test));
            }
            let (suite, family, record) = (suite.clone(), family.clone(), record.clone());
            trials.push(match suite.installation.clone() {
                Ok(installation) => Trial::test(format!("real::{name}"), move || match recording {
                    true => suite.record(&installation, &family, &situation),
                    false => suite.ask(&installation, &family, &situation, &record),
                }),
                Err(why) => ignored(format!("real::{name}"), why),
            });
        }
    }
    let (suite, families) = (suite.clone(), families.to_vec());
    trials.push(Trial::test("the_data_is_whole", move || suite.is_whole(&families)));
    trials
}

/// Where nothing may be skipped, that is a failure.
fn ignored(name: String, why: String) -> Trial {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Trial::test(name, move || Err(why.into()));
    }
    Trial::test(name, || Ok(())).with_kind(why).with_ignored_flag(true)
}

impl Suite {
    fn simulate(&self, family: &Family, situation: &Situation, record: &Record) -> Result<(), Failed> {
        let seen = simulated::run(family, situation)?;
        if seen != simulated::run(family, situation)? {
            return Err("two runs of it are not the same".into());
        }
        self.simulated.fetch_add(1, Ordering::Relaxed);
        let expected = record.get(&situation.name).ok_or("it has no record: FIDELITY_RECORD=1 makes one")?;
        let difference = Difference::between(expected, &seen);
        match self.known.of(&format!("{}::{}", family.name, situation.name)) {
            None if difference.is_none() => Ok(()),
            None => Err(records::unified(expected, &seen).into()),
            Some(known) if known.real == difference.record && known.simulated == difference.seen => Ok(()),
            Some(known) => {
                let diff = records::unified(expected, &seen);
                Err(format!("not the difference that is known ({}):\n{difference:#?}\n{diff}", known.reason).into())
            }
        }
    }

    fn ask(&self, real: &Arc<Installation>, family: &Family, situation: &Situation, record: &Record) -> Result<(), Failed> {
        let expected = record.get(&situation.name).ok_or("it has no record: FIDELITY_RECORD=1 makes one")?;
        let mut last = String::new();
        for patience in PATIENCE {
            match real.run(family, situation, patience) {
                Ok(seen) if seen == *expected => {
                    self.real.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(seen) => last = records::unified(expected, &seen),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn record(&self, real: &Arc<Installation>, family: &Family, situation: &Situation) -> Result<(), Failed> {
        let seen = real.run(family, situation, PATIENCE[0])?;
        self.real.fetch_add(1, Ordering::Relaxed);
        self.recorded.lock().entry(family.name.clone()).or_default().insert(situation.name.clone(), seen);
        Ok(())
    }

    /// Keeps what was not asked for now, and drops what there is no situation for any more.
    fn write_records(&self, families: &[Family]) -> std::io::Result<()> {
        let Ok(installation) = &self.installation else { return Ok(()) };
        for (name, recorded) in std::mem::take(&mut *self.recorded.lock()) {
            let Some(family) = families.iter().find(|family| family.name == name) else { continue };
            let mut record = records::read(&self.records, &name);
            record.extend(recorded);
            record.retain(|situation, _| family.situations.iter().any(|other| other.name == *situation));
            records::write(&self.records, &name, &installation.version, &record)?;
        }
        Ok(())
    }

    /// Enough situations, no record or known difference without one.
    fn is_whole(&self, families: &[Family]) -> Result<(), Failed> {
        let names: BTreeSet<String> = families
            .iter()
            .flat_map(|family| family.situations.iter().map(|situation| format!("{}::{}", family.name, situation.name)))
            .collect();
        let mut wrong = Vec::new();
        if names.len() < AT_LEAST {
            wrong.push(format!("{} situations, {AT_LEAST} are the least", names.len()));
        }
        for known in &self.known.difference {
            if !names.contains(&known.situation) {
                wrong.push(format!("known.toml: there is no situation {}", known.situation));
            }
            if known.effect.is_empty() || known.reason.is_empty() {
                wrong.push(format!("known.toml: {} says neither why nor to what effect", known.situation));
            }
        }
        for entry in std::fs::read_dir(&self.records)?.filter_map(Result::ok) {
            let family = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for situation in records::read(&self.records, &family).keys() {
                if !names.contains(&format!("{family}::{situation}")) {
                    wrong.push(format!("a record without a situation: {family}::{situation}"));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
    }
}
