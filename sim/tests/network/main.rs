//! Network truth: what a program observes of the simulated TCP is what it observes of this kernel's.
//!
//! `probes.toml` holds the probes, `record.txt` what a Linux kernel answered. Each probe is two tests: `sim::PROBE` plays it on
//! the simulated network, `real::PROBE` on real sockets in a network namespace, where this machine allows one; elsewhere
//! it is told as ignored, with the reason; with `CI=true` that is a failure. Both compare with the record. `known.toml`
//! lists where the simulation differs and why. `NETWORK_RECORD=1 cargo test -p poolproof-sim --test network` asks the kernel anew.

mod probe;
mod real;
mod simulated;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use similar::TextDiff;

use probe::{Probe, Probes};
use real::Namespace;

/// A probe is asked so often before a difference of the kernel is believed: a busy machine is late.
const TRIES: usize = 3;
/// The suite shall not shrink unnoticed.
const AT_LEAST: usize = 40;

/// Where the simulation is known to differ: the probe, why, the effect, and what it shows instead.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    probe: String,
    reason: String,
    effect: String,
    simulated: String,
}

#[derive(Debug, Default, serde::Deserialize)]
struct KnownDifferences {
    #[serde(default)]
    difference: Vec<Known>,
}

struct Suite {
    probes: Vec<Probe>,
    record: BTreeMap<String, String>,
    known: KnownDifferences,
    namespace: Result<Namespace, String>,
    /// What the kernel answered to all of them at once.
    asked: OnceLock<Result<BTreeMap<String, String>, String>>,
    simulated: AtomicUsize,
    real: AtomicUsize,
}

/// The parts of a record: `== NAME`, then lines.
fn parse(text: &str) -> BTreeMap<String, String> {
    let parts = text.split("\n== ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, seen)| (name.trim().to_owned(), format!("{}\n", seen.trim_end()))).collect()
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network");
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let probes: Probes = toml::from_str(&read("probes.toml")?).map_err(|error| format!("probes.toml: {error}"))?;
    if real::inner_life(&probes.probe)? {
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::from_args();
    let suite = Arc::new(Suite {
        record: parse(&read("record.txt").unwrap_or_default()),
        known: toml::from_str(&read("known.toml")?).map_err(|error| format!("known.toml: {error}"))?,
        probes: probes.probe,
        namespace: Namespace::find(),
        asked: OnceLock::new(),
        simulated: AtomicUsize::new(0),
        real: AtomicUsize::new(0),
    });
    if std::env::var_os("NETWORK_RECORD").is_some() {
        return suite.write_record(&folder.join("record.txt")).map(|()| ExitCode::SUCCESS);
    }
    let conclusion = libtest_mimic::run(&arguments, trials(&suite));
    if !arguments.list {
        let real = match &suite.namespace {
            Ok(_) => format!("{} on this kernel", suite.real.load(Ordering::Relaxed)),
            Err(why) => format!("none on a kernel ({why})"),
        };
        println!("network: {} probes compared in the simulation, {real}", suite.simulated.load(Ordering::Relaxed));
    }
    Ok(conclusion.exit_code())
}

fn trials(suite: &Arc<Suite>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for probe in &suite.probes {
        let (test, own) = (suite.clone(), probe.clone());
        trials.push(Trial::test(format!("sim::{}", probe.name), move || test.simulate(&own)));
        let name = format!("real::{}", probe.name);
        trials.push(match &suite.namespace {
            Ok(_) => {
                let (test, own) = (suite.clone(), probe.clone());
                Trial::test(name, move || test.ask(&own))
            }
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                let why = why.clone();
                Trial::test(name, move || Err(why.into()))
            }
            Err(why) => Trial::test(name, || Ok(())).with_kind(why.clone()).with_ignored_flag(true),
        });
    }
    let test = suite.clone();
    trials.push(Trial::test("the_data_is_whole", move || test.is_whole()));
    trials
}

fn difference(expected: &str, seen: &str) -> Failed {
    TextDiff::from_lines(expected, seen).unified_diff().context_radius(9).header("record", "seen").to_string().into()
}

impl Suite {
    fn expected(&self, probe: &Probe) -> Result<&String, Failed> {
        self.record.get(&probe.name).ok_or_else(|| "it has no record: NETWORK_RECORD=1 makes one".into())
    }

    fn simulate(&self, probe: &Probe) -> Result<(), Failed> {
        let seen = simulated::run(probe)?;
        if seen != simulated::run(probe)? {
            return Err("two runs of it are not the same".into());
        }
        self.simulated.fetch_add(1, Ordering::Relaxed);
        let recorded = self.expected(probe)?;
        match self.known.difference.iter().find(|known| known.probe == probe.name) {
            Some(known) if seen == *recorded => Err(format!("it differs no more: {}", known.reason).into()),
            Some(known) if seen == known.simulated => Ok(()),
            Some(known) => Err(difference(&known.simulated, &seen)),
            None if seen == *recorded => Ok(()),
            None => Err(difference(recorded, &seen)),
        }
    }

    fn ask(&self, probe: &Probe) -> Result<(), Failed> {
        let namespace = self.namespace.as_ref().map_err(Clone::clone)?;
        let expected = self.expected(probe)?;
        let names = || self.probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>();
        let all = self.asked.get_or_init(|| namespace.run(&names())).as_ref().map_err(Clone::clone)?;
        let mut seen = all.get(&probe.name).cloned().unwrap_or_default();
        for _ in 1..TRIES {
            if seen == *expected {
                break;
            }
            seen = namespace.run(&[&probe.name])?.remove(&probe.name).unwrap_or_default();
        }
        if seen != *expected {
            return Err(difference(expected, &seen));
        }
        self.real.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write_record(&self, path: &PathBuf) -> Result<(), String> {
        let namespace = self.namespace.as_ref().map_err(Clone::clone)?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release: Vec<&str> = release.trim().split('.').take(2).collect();
        let mut text = format!("Linux {}, observed by NETWORK_RECORD=1 cargo test -p poolproof-sim --test network\n", release.join("."));
        let names: Vec<&str> = self.probes.iter().map(|probe| probe.name.as_str()).collect();
        for (name, seen) in namespace.run(&names)? {
            let _ = write!(text, "\n== {name}\n{seen}");
        }
        std::fs::write(path, text).map_err(|error| error.to_string())
    }

    /// Enough probes, and no record or known difference of one that is not there.
    fn is_whole(&self) -> Result<(), Failed> {
        let is_probe = |name: &str| self.probes.iter().any(|probe| probe.name == name);
        if self.probes.len() < AT_LEAST {
            return Err(format!("{} probes, {AT_LEAST} are the least", self.probes.len()).into());
        }
        let strays = self.record.keys().map(String::as_str).chain(self.known.difference.iter().map(|known| known.probe.as_str()));
        match strays.filter(|name| !is_probe(name)).collect::<Vec<_>>().as_slice() {
            [] => {}
            strays => return Err(format!("no probes: {}", strays.join(", ")).into()),
        }
        match self.known.difference.iter().find(|known| known.reason.is_empty() || known.effect.is_empty()) {
            Some(known) => Err(format!("known.toml: {} says neither why nor to what effect", known.probe).into()),
            None => Ok(()),
        }
    }
}
