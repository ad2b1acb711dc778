//! The models of SQLAlchemy's and Trac's pools do what the real ones did: each situation of `situations.toml` is driven against the
//! simulated server in virtual time, and every step is compared with its record, exactly: outcome, counters, pool events,
//! backends. A test for each: `cargo test --test truth dispose_lent`.
//!
//! A match means something only if a mistake would show: models with one deliberate mistake each (`Flaw`) are driven too,
//! and each must differ from the records somewhere.

#![expect(clippy::unwrap_used, reason = "tests")]

mod driver;
mod situation;
mod stage;
mod trac;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use poolproof::pool::{sqlalchemy, trac as trac_model};
use situation::{Flaw, Situation};

fn main() -> ExitCode {
    let situations: Arc<[Situation]> = situation::all().into();
    let mut trials: Vec<Trial> = Vec::new();
    for (place, situation) in situations.iter().enumerate() {
        let all = Arc::clone(&situations);
        trials.push(Trial::test(situation.name.clone(), move || matches_its_record(&all[place])));
    }
    let of_sqlalchemy = sqlalchemy::Flaw::ALL.iter().map(|&flaw| (format!("{flaw:?}"), Flaw::SqlAlchemy(flaw)));
    let of_trac = trac_model::Flaw::ALL.iter().map(|&flaw| (format!("trac::{flaw:?}"), Flaw::Trac(flaw)));
    for (name, flaw) in of_sqlalchemy.chain(of_trac) {
        let all = Arc::clone(&situations);
        trials.push(Trial::test(format!("flaw::{name}"), move || is_noticed(flaw, &all)));
    }
    let all = Arc::clone(&situations);
    trials.push(Trial::test("records_and_situations_belong_together", move || belong_together(&all)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn matches_its_record(situation: &Situation) -> Result<(), Failed> {
    match difference(situation, None) {
        None => Ok(()),
        Some(difference) => Err(format!("{}: {}\n{difference}", situation.name, situation.about).into()),
    }
}

/// A model with this mistake differs somewhere.
fn is_noticed(flaw: Flaw, situations: &[Situation]) -> Result<(), Failed> {
    let noticed = situations.iter().find(|situation| difference(situation, Some(flaw)).is_some());
    noticed.map(|_| ()).ok_or_else(|| format!("no situation notices {flaw:?}").into())
}

/// The first step at which the model and the record differ, with both values.
fn difference(situation: &Situation, flaw: Option<Flaw>) -> Option<String> {
    let record = situation.record();
    let recorded = record["steps"].as_array().unwrap();
    let driven = situation.drive(flaw)?;
    for (number, (step, expected)) in driven.iter().zip(recorded).enumerate() {
        for key in ["step", "outcome", "status", "events", "backends"] {
            if step[key] != expected[key] {
                let place = format!("step {}, `{}`", number + 1, step["step"].as_str().unwrap());
                let (ours, theirs) = (&step[key], &expected[key]);
                return Some(format!("{place}: {key}\n   model: {ours}\n  record: {theirs}"));
            }
        }
    }
    (driven.len() != recorded.len()).then(|| format!("{} steps, but {} recorded", driven.len(), recorded.len()))
}

/// Every situation has a record, of the version that is modelled; and no record is left of one that is gone.
fn belong_together(situations: &[Situation]) -> Result<(), Failed> {
    for situation in situations {
        let record = situation.record();
        let (library, version) = situation.version();
        if record[library] != version {
            let (name, recorded) = (&situation.name, &record[library]);
            return Err(format!("{name} was recorded with {library} {recorded}, modelled is {version}").into());
        }
    }
    let names = situation::record_names();
    let orphans: Vec<_> = names.iter().filter(|name| !situations.iter().any(|known| known.name == **name)).collect();
    if orphans.is_empty() { Ok(()) } else { Err(format!("records without a situation: {orphans:?}").into()) }
}
