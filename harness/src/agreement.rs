//! Whether two worlds agree on a scenario with a pool: what the simulated one shows over its seeds, and what another one showed.
//!
//! The simulated world is a set of runs, one for each seed; what all of them show must show elsewhere, and nothing may show
//! elsewhere that none of them shows. In real time some of that depends on how long this machine takes for a dial, a start or a
//! recovery: there a kind of error may be missing, and the peak may be anything within the pools' bounds. A difference is told, unless `differences.toml` knows it, with its reason and what it
//! means for verdicts.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::model::{Action, App, Scenario, each_step};
use crate::trace::figures::{Came, Figures};
use crate::verdict::{RunReport, Verdict};

/// By what factor times of recovery may differ; and what is added, since a real server's start and a real dial take the time
/// they take.
pub const FACTOR: f64 = 3.0;
/// See [`FACTOR`].
pub const SLACK: Duration = Duration::from_secs(2);

/// So many seeds of the simulated world at least: what they all show must show elsewhere.
pub const SEEDS: u64 = 6;
/// So many where a pair differs: what is rare may show there, too.
pub const SEEDS_WHERE_IT_DIFFERS: u64 = 30;
/// In real time a busy machine makes one run differ: a pair that differs is run again, and must differ each time.
pub const TRIES: usize = 3;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// Pass, or which invariants are violated.
    Verdict,
    /// The kinds of errors that callers saw.
    Errors,
    /// The most connections that were open at once.
    Peak,
    /// From when somebody asked, after an outage, to the first success.
    Recovery,
}

impl Aspect {
    /// As `differences.toml` names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Aspect::Verdict => "verdict",
            Aspect::Errors => "errors",
            Aspect::Peak => "peak",
            Aspect::Recovery => "recovery",
        }
    }
}

/// Where two worlds differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// In what.
    pub aspect: Aspect,
    /// What each shows, in one sentence.
    pub text: String,
    /// The invariants, or the kinds of errors, that only one of the two shows; none for a peak and a recovery.
    pub names: BTreeSet<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.aspect.as_str(), self.text)
    }
}

/// How a scenario with a pool came out in two worlds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// They agree.
    Agrees,
    /// The scenario needs what the pool, or the other world, can't do.
    Unsupported(Vec<String>),
    /// They differ.
    Differs(Vec<Difference>),
}

/// What is different about a world in real time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RealTerms {
    /// Everything took so many times the scenario's time.
    pub scale: f64,
    /// The most connections that all pools of the scenario may have, by their settings and resizes.
    pub bound: u32,
}

impl RealTerms {
    /// Of this scenario, run in `scale` times its time.
    #[must_use]
    pub fn new(scenario: &Scenario, scale: f64) -> RealTerms {
        let of = |(name, app): (&String, &App)| {
            let workloads = scenario.workloads.values().filter(|workload| workload.app == *name);
            let mut size = app.pool.max_size;
            for workload in workloads {
                each_step(&workload.steps, &mut |step| {
                    if let Action::Resize(to) = step.action {
                        size = size.max(to);
                    }
                });
            }
            size.saturating_mul(app.processes.fixed().max(1))
        };
        RealTerms { scale, bound: scenario.apps.iter().map(of).fold(0, u32::saturating_add) }
    }
}

/// Compares the runs of the simulated world with those of another one, which may be in real time.
#[must_use]
pub fn compare(sim: &[RunReport], other: &[RunReport], real: Option<RealTerms>) -> Agreement {
    if let Some(needs) = other.iter().chain(sim).find_map(|run| match &run.verdict {
        Verdict::Unsupported { needs } => Some(needs.clone()),
        _ => None,
    }) {
        return Agreement::Unsupported(needs);
    }
    let mut differences = Vec::new();
    for run in sim.iter().chain(other) {
        if let Verdict::Unknown { reason } = &run.verdict {
            let text = format!("unknown: {reason}");
            let names = BTreeSet::from(["unknown".to_owned()]);
            return Agreement::Differs(vec![Difference { aspect: Aspect::Verdict, text, names }]);
        }
    }
    let mut differ = |aspect, found: Option<(String, BTreeSet<String>)>| {
        differences.extend(found.map(|(text, names)| Difference { aspect, text, names }));
    };
    let unnamed = |text: Option<String>| text.map(|text| (text, BTreeSet::new()));
    let violated = |run: &RunReport| run.counts.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    differ(Aspect::Verdict, sets(sim, other, violated, "violates", true));
    let kinds = |run: &RunReport| run.figures.errors.keys().cloned().collect::<BTreeSet<String>>();
    differ(Aspect::Errors, sets(sim, other, kinds, "shows", real.is_none()));
    differ(Aspect::Peak, unnamed(peaks(sim, other, real)));
    differ(Aspect::Recovery, unnamed(recoveries(sim, other, real.map_or(1.0, |real| real.scale))));
    if differences.is_empty() { Agreement::Agrees } else { Agreement::Differs(differences) }
}

/// What every run shows must show elsewhere, if all must, and nothing else than what some run shows.
fn sets(
    sim: &[RunReport],
    other: &[RunReport],
    shown: impl Fn(&RunReport) -> BTreeSet<String>,
    verb: &str,
    all: bool,
) -> Option<(String, BTreeSet<String>)> {
    let sim: Vec<BTreeSet<String>> = sim.iter().map(&shown).collect();
    let ever: BTreeSet<String> = sim.iter().flatten().cloned().collect();
    let always: BTreeSet<String> =
        ever.iter().filter(|name| sim.iter().all(|run| run.contains(*name))).cloned().collect();
    let seen: BTreeSet<String> = other.iter().flat_map(shown).collect();
    let missing = if all { always.difference(&seen).cloned().collect() } else { BTreeSet::new() };
    let more: BTreeSet<String> = seen.difference(&ever).cloned().collect();
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let text = match (missing.is_empty(), more.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("only the simulation {verb} {}", list(&missing)),
        (true, false) => format!("the simulation never {verb} {}", list(&more)),
        (false, false) => format!("only the simulation {verb} {}, and it never {verb} {}", list(&missing), list(&more)),
    };
    Some((text, missing.union(&more).cloned().collect()))
}

fn peaks(sim: &[RunReport], other: &[RunReport], real: Option<RealTerms>) -> Option<String> {
    let peaks = |runs: &[RunReport]| {
        let peaks = runs.iter().map(|run| run.figures.peaks.connections);
        Some((peaks.clone().min()?, peaks.max()?))
    };
    let ((least, most), (low, high)) = (peaks(sim)?, peaks(other)?);
    // The longer a dial takes, the more are open at the end of a burst; and where connections live on outside of pools' bounds
    // (detached ones, those of pools without a bound, of dropped pools), the longer they live, the more there are.
    let (least, most) = real.map_or((least, most), |real| {
        let outside = most.saturating_sub(real.bound);
        (least.div_ceil(2), real.bound.max(most.saturating_add(outside)))
    });
    let range = |low: u32, high: u32| if low == high { low.to_string() } else { format!("{low} to {high}") };
    (low < least || high > most).then(|| format!("{} open at once, {} expected", range(low, high), range(least, most)))
}

fn recoveries(sim: &[RunReport], other: &[RunReport], scale: f64) -> Option<String> {
    let first = |figures: &Figures| figures.recovery().first_success;
    let all = |runs: &[RunReport]| runs.iter().filter_map(|run| first(&run.figures)).collect::<Vec<Came>>();
    let (sim, other) = (all(sim), all(other));
    let (least, most) = (sim.iter().min()?, sim.iter().max()?);
    let words = |came: Came| match came {
        Came::After(time) => format!("after {:.3} s", time.as_secs_f64()),
        Came::Never => "never".to_owned(),
    };
    let scaled = |came: Came| match came {
        Came::After(time) => Came::After(time.div_f64(scale)),
        Came::Never => Came::Never,
    };
    // What does not shrink with the scenario's time is longer by its measure.
    let slack = SLACK.div_f64(scale.min(1.0));
    let latest = match most {
        Came::After(time) => Came::After(time.mul_f64(FACTOR) + slack),
        Came::Never => Came::Never,
    };
    let soonest = match least {
        Came::After(time) => Came::After(time.div_f64(FACTOR).saturating_sub(slack)),
        Came::Never => Came::Never,
    };
    let strange = other.into_iter().map(scaled).find(|came| *came < soonest || *came > latest)?;
    let range = if least == most { words(*least) } else { format!("{} to {}", words(*least), words(*most)) };
    Some(format!("the first success came {} of the scenario's time, in the simulation {range}", words(strange)))
}

/// A difference that is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The world in which it shows: `postgres`, `turmoil`.
    pub world: String,
    /// The scenarios' files, without their ending; empty means all.
    #[serde(default)]
    pub scenarios: Vec<String>,
    /// The pools; empty means all.
    #[serde(default)]
    pub pools: Vec<String>,
    /// In what they differ.
    pub aspects: Vec<Aspect>,
    /// The invariants and kinds of errors by which they may differ.
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// Why.
    pub reason: String,
    /// What it means for verdicts.
    pub effect: String,
}

impl Known {
    /// Whether it is about this difference.
    #[must_use]
    pub fn is_about(&self, world: &str, scenario: &str, pool: &str, difference: &Difference) -> bool {
        self.world == world
            && (self.scenarios.is_empty() || self.scenarios.iter().any(|known| known == scenario))
            && (self.pools.is_empty() || self.pools.iter().any(|known| known == pool))
            && self.aspects.contains(&difference.aspect)
            && difference.names.is_subset(&self.names)
    }
}

/// The entry that is about a difference in this world, of this scenario with this pool.
#[must_use]
pub fn known_as<'k>(
    known: &'k [Known],
    world: &str,
    scenario: &str,
    pool: &str,
    difference: &Difference,
) -> Option<&'k Known> {
    known.iter().find(|known| known.is_about(world, scenario, pool, difference))
}

/// The differences that are known.
///
/// # Panics
/// Never: a test reads the file.
#[must_use]
pub fn known() -> Vec<Known> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        difference: Vec<Known>,
    }
    let file: File = toml::from_str(include_str!("world/differences.toml")).expect("a test reads it");
    file.difference
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::invariant::Violations;
    use crate::trace::figures::Comeback;

    fn run(violated: &[&'static str], errors: &[&str], peak: u32, recovered: Option<u64>) -> RunReport {
        let mut figures = Figures::default();
        figures.errors = errors.iter().map(|kind| ((*kind).to_owned(), 1)).collect();
        figures.peaks.connections = peak;
        if let Some(millis) = recovered {
            let ms = Duration::from_millis;
            let first_success = (millis > 0).then_some(ms(millis));
            let zero = Duration::ZERO;
            figures.comebacks = vec![Comeback {
                at: zero,
                outage: zero,
                asked: Some(zero),
                first_success,
                full_capacity: zero,
                quiet: None,
            }];
        }
        let mut report = RunReport::judged(1, &Violations::default(), figures, Vec::new());
        report.counts = violated.iter().map(|name| (*name, 1)).collect::<BTreeMap<_, _>>();
        report
    }

    fn differs(sim: &[RunReport], other: RunReport, real: Option<RealTerms>) -> Vec<String> {
        match compare(sim, &[other], real) {
            Agreement::Agrees => Vec::new(),
            Agreement::Differs(differences) => differences.iter().map(ToString::to_string).collect(),
            Agreement::Unsupported(_) => panic!("all is supported"),
        }
    }

    #[test]
    fn what_every_seed_shows_must_show_and_what_none_shows_must_not() {
        let sim = [run(&["demand"], &["a", "b"], 4, None), run(&["demand", "deadline"], &["a"], 5, None)];
        assert!(differs(&sim, run(&["demand"], &["a"], 4, None), None).is_empty());
        assert!(differs(&sim, run(&["demand", "deadline"], &["a", "b"], 5, None), None).is_empty());
        let told = differs(&sim, run(&["recovery"], &["c", "a"], 6, None), None);
        let expected = [
            "verdict: only the simulation violates demand, and it never violates recovery",
            "errors: the simulation never shows c",
            "peak: 6 open at once, 4 to 5 expected",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn in_real_time_peaks_are_bounded_and_errors_may_be_missing() {
        let sim = [run(&["demand"], &["a", "b"], 4, None)];
        let real = Some(RealTerms { scale: 1.0, bound: 9 });
        assert!(differs(&sim, run(&["demand"], &["a"], 9, None), real).is_empty());
        assert!(differs(&sim, run(&["demand"], &[], 2, None), real).is_empty());
        let told = differs(&sim, run(&[], &["c"], 10, None), real);
        let expected = [
            "verdict: only the simulation violates demand",
            "errors: the simulation never shows c",
            "peak: 10 open at once, 2 to 9 expected",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_lives_outside_of_a_pools_bound_may_live_longer() {
        let sim = [run(&[], &[], 15, None)];
        let real = Some(RealTerms { scale: 1.0, bound: 10 });
        assert!(differs(&sim, run(&[], &[], 20, None), real).is_empty());
        assert_eq!(differs(&sim, run(&[], &[], 21, None), real), ["peak: 21 open at once, 8 to 20 expected"]);
    }

    #[test]
    fn a_pool_that_grows_is_bounded_by_its_largest_size() {
        let text = r#"
title = "t"
story = "s"
[app.web]
processes = 2
pool = { max_size = 3 }
[app.other]
pool = { max_size = 4 }
[workload.grow]
app = "web"
arrive = { at = ["1s"] }
steps = ["resize 5", "resize 2"]
[expect]
until = "10s"
"#;
        let scenario = crate::scenario::parse("a test", text).expect("it is right");
        assert_eq!(RealTerms::new(&scenario, 1.0).bound, 14);
    }

    #[test]
    fn recovery_is_compared_in_the_scenarios_time() {
        let sim = [run(&[], &[], 1, Some(10_000))];
        let fifth = Some(RealTerms { scale: 0.2, bound: 3 });
        assert!(differs(&sim, run(&[], &[], 1, Some(3_000)), fifth).is_empty(), "15 s of the scenario's time");
        let late = differs(&sim, run(&[], &[], 1, Some(9_000)), fifth);
        assert_eq!(late.len(), 1, "{late:?}");
        assert!(late[0].contains("after 45.000 s"), "{late:?}");
        let never = differs(&sim, run(&[], &[], 1, Some(0)), None);
        assert!(never[0].contains("came never"), "{never:?}");
        assert!(differs(&[run(&[], &[], 1, Some(0))], run(&[], &[], 1, Some(0)), None).is_empty());
    }

    #[test]
    fn what_is_unknown_or_unsupported_agrees_with_nothing() {
        let sim = [run(&[], &[], 1, None)];
        let needs = vec!["resize".to_owned()];
        let unsupported = RunReport::unsupported(1, needs.clone());
        assert_eq!(compare(&sim, &[unsupported], None), Agreement::Unsupported(needs));
        let Agreement::Differs(differences) = compare(&sim, &[RunReport::unknown(1, "no server")], None) else {
            panic!("an unknown verdict is a difference")
        };
        assert_eq!(differences[0].to_string(), "verdict: unknown: no server");
    }

    #[test]
    fn a_difference_is_known_by_its_names() {
        let known = Known {
            world: "postgres".to_owned(),
            scenarios: vec!["a".to_owned()],
            pools: Vec::new(),
            aspects: vec![Aspect::Verdict],
            names: BTreeSet::from(["deadline".to_owned()]),
            reason: String::new(),
            effect: String::new(),
        };
        let is_known = |sim: &[&'static str], other: &[&'static str]| {
            let Agreement::Differs(differences) = compare(&[run(sim, &[], 1, None)], &[run(other, &[], 1, None)], None)
            else {
                panic!("they differ")
            };
            differences.iter().all(|difference| known.is_about("postgres", "a", "bb8", difference))
        };
        assert!(is_known(&["deadline"], &[]));
        assert!(!is_known(&["deadline"], &["recovery"]));
        assert!(!is_known(&["deadline", "demand"], &[]));
    }

    #[test]
    fn known_differences_have_reasons() {
        for known in known() {
            assert!(!known.reason.is_empty() && !known.effect.is_empty() && !known.aspects.is_empty(), "{known:?}");
            assert!(["postgres", "turmoil"].contains(&known.world.as_str()), "{known:?}");
            let named = known.aspects.iter().all(|aspect| matches!(aspect, Aspect::Peak | Aspect::Recovery));
            assert!(named || !known.names.is_empty(), "any violation, or any error, would be known: {known:?}");
            assert!(!(known.scenarios.is_empty() && known.pools.is_empty()), "everywhere, with every pool: {known:?}");
        }
    }
}
