//! Workloads: who comes when, and what they do with a lease.
//!
//! Every workload drawn here is fair: what it does is not the pool's mistake to answer for. No lease is leaked, nobody waits
//! for another lease while holding one, and leases end in a transaction only where the pool's settings clean up.

use std::time::Duration;

use super::dice::Dice;
use super::stage::Stage;
use super::swarm::Feature;
use crate::scenario::model::{Action, Arrive, Cancel, OnError, Step, Workload};

/// The table that workloads write to, if [`Stage::table`].
pub(super) const TABLE: &str = "CREATE TABLE note (actor int NOT NULL)";

/// What a workload is there for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Request,
    OwnPool,
    Resize,
    Close,
}

/// One workload of this app.
pub(super) fn workload(dice: &mut Dice, stage: &Stage, app: &str, first: bool) -> Workload {
    let weight = |feature| stage.strength(feature);
    let purpose = if first {
        Purpose::Request
    } else {
        dice.weighted(&[
            (10, Purpose::Request),
            (weight(Feature::OwnPool) * 4, Purpose::OwnPool),
            (weight(Feature::Resize) * 5, Purpose::Resize),
            (weight(Feature::ClosePool) * 2, Purpose::Close),
        ])
    };
    let steps = match purpose {
        Purpose::Request => request(dice, stage),
        Purpose::OwnPool => own_pool(dice, stage),
        Purpose::Resize => resize(dice, stage),
        Purpose::Close => vec![close(dice, stage)],
    };
    let arrive = match purpose {
        Purpose::Request => arrive(dice, stage, &steps),
        Purpose::OwnPool | Purpose::Resize => at(dice, stage, 4),
        Purpose::Close => at(dice, stage, 1),
    };
    let (from, until) = window(dice, stage, &arrive);
    let on_error = if stage.swarm.has(Feature::BadSql) && dice.chance(60) {
        OnError::Continue
    } else {
        dice.weighted(&[(80, OnError::Stop), (10, OnError::Continue), (10, OnError::Rollback)])
    };
    Workload { app: app.to_owned(), arrive, from, until, steps, on_error, finally: Vec::new() }
}

/// A step that is not cancelled.
pub(crate) fn plain(action: Action) -> Step {
    Step { action, cancel: None }
}

fn sql(text: &str) -> Step {
    plain(Action::Sql(text.to_owned()))
}

fn hold(time: Duration) -> Step {
    plain(Action::Hold { min: time, max: time })
}

/// Somebody who takes a lease, does something, and ends it in some way.
fn request(dice: &mut Dice, stage: &Stage) -> Vec<Step> {
    let weight = |feature| stage.strength(feature);
    let deadline = dice.chance(weight(Feature::Deadline) * 25).then(|| deadline(dice, stage));
    let cancelled = dice.chance(weight(Feature::Cancel) * 20);
    let acquire = Step { action: Action::Acquire { deadline }, cancel: cancelled.then(|| cancel(dice, stage)) };
    let mut steps = vec![acquire];
    if cancelled && dice.chance(30) {
        return steps;
    }
    let mut work = Vec::new();
    for _ in 0..dice.weighted(&[(15, 0), (50, 1), (25, 2), (10, 3)]) {
        work.extend(piece(dice, stage));
    }
    if stage.swarm.has(Feature::Crowd) && dice.chance(60) {
        work.push(hold(stage.stretch(dice)));
    }
    if !work.is_empty() && dice.chance(weight(Feature::Abandon) * 20) {
        steps.push(plain(Action::Abandon { after: stage.stretch(dice).min(Duration::from_millis(500)) }));
    }
    let end = dice.weighted(&[
        (20, Some(Action::Release)),
        (5, None),
        (weight(Feature::Panic) * 8, Some(Action::Panic)),
        (weight(Feature::Invalidate) * 8, Some(Action::Invalidate)),
        (weight(Feature::Detach) * 8, Some(Action::Detach)),
    ]);
    match end {
        // It goes on using what it took out of the pool.
        Some(Action::Detach) => {
            let place = dice.place(work.len() + 1);
            work.insert(place, plain(Action::Detach));
        }
        Some(end) => work.push(plain(end)),
        None => {}
    }
    steps.extend(work);
    if stage.swarm.has(Feature::Repeat) && end_is_release(&steps) && dice.chance(50) {
        let times = dice.number(2, 4);
        return vec![plain(Action::Repeat { times, steps })];
    }
    steps
}

fn end_is_release(steps: &[Step]) -> bool {
    steps.last().is_some_and(|step| step.action == Action::Release)
        && !steps.iter().any(|step| matches!(step.action, Action::Abandon { .. }))
}

fn deadline(dice: &mut Dice, stage: &Stage) -> Duration {
    if stage.is_long() {
        dice.millis(&[1_000, 2_000, 5_000])
    } else {
        dice.millis(&[1, 5, 20, 50, 100, 200, 500, 1_000])
    }
}

/// A moment at which a step is dropped.
pub(crate) fn cancel(dice: &mut Dice, stage: &Stage) -> Cancel {
    match dice.number(0, 9) {
        0..=3 => Cancel::AtWake(dice.weighted(&[(50, 1), (25, 2), (15, 3), (10, 4)])),
        4 | 5 => Cancel::AtPoll(dice.weighted(&[(20, 1), (40, 2), (25, 3), (15, 4)])),
        6 => Cancel::EveryPoll,
        _ => {
            let short = [1, 2, 3, 4, 5, 10, 20, 50, 100, 200];
            Cancel::After(if stage.is_long() { stage.stretch(dice) } else { dice.millis(&short) })
        }
    }
}

/// Something that is done with a lease.
fn piece(dice: &mut Dice, stage: &Stage) -> Vec<Step> {
    let weight = |feature| stage.strength(feature);
    let dirty = if stage.may_end_dirty() { weight(Feature::Dirty) } else { 0 };
    let transactions = if stage.may_end_dirty() { weight(Feature::Write) } else { 0 };
    let kind = dice.weighted(&[
        (10, 0),
        (8, 1),
        (weight(Feature::Prepared) * 5, 2),
        (weight(Feature::SlowSql) * 6, 3),
        (weight(Feature::Write) * 6, 4),
        (transactions * 5, 5),
        (dirty * 8, 6),
        (dirty * 4, 7),
        (weight(Feature::BadSql) * 6, 8),
    ]);
    let mut steps = match kind {
        0 => vec![sql("SELECT 1")],
        1 => vec![hold(stage.stretch(dice))],
        2 => vec![plain(Action::Prepared("SELECT 1".to_owned()))],
        3 => {
            // In minutes of traffic, one that lasts for minutes is what keeps everybody from a success.
            let longest = if stage.is_long() { "5" } else { "100" };
            let seconds = dice.one(&["0.01", "0.1", "0.5", "2", "10", longest]);
            vec![sql(&format!("SELECT pg_sleep({seconds})"))]
        }
        4 => vec![sql("INSERT INTO note (actor) VALUES ($actor)")],
        5 => vec![plain(Action::Begin), sql("INSERT INTO note (actor) VALUES ($actor)"), plain(Action::Commit)],
        6 => {
            let mut steps = vec![plain(Action::Begin), sql("INSERT INTO note (actor) VALUES ($actor)")];
            if dice.chance(30) {
                steps.push(sql("SELECT 1 / 0"));
            }
            steps
        }
        7 => {
            vec![sql(dice.one(&["SET statement_timeout = '20s'", "LISTEN news", "CREATE TEMP TABLE scratch (a int)"]))]
        }
        _ => vec![sql("SELECT 1 / 0")],
    };
    let place = dice.place(steps.len());
    let can_wait = !matches!(steps[place].action, Action::Hold { .. });
    if can_wait && dice.chance(weight(Feature::Cancel) * 10) {
        steps[place].cancel = Some(cancel(dice, stage));
    }
    steps
}

/// Somebody with a pool of their own.
fn own_pool(dice: &mut Dice, stage: &Stage) -> Vec<Step> {
    let mut steps = vec![plain(Action::NewPool)];
    if dice.chance(30) {
        steps.push(hold(stage.stretch(dice).min(Duration::from_millis(200))));
    }
    if dice.chance(70) {
        steps.push(plain(Action::Acquire { deadline: None }));
        if dice.chance(60) {
            steps.push(sql("SELECT 1"));
        }
        steps.push(plain(Action::Release));
    }
    if stage.capabilities.close && dice.chance(25) {
        steps.push(close(dice, stage));
    }
    steps.push(plain(Action::DropPool));
    steps
}

/// A close, which its caller may not wait for.
fn close(dice: &mut Dice, stage: &Stage) -> Step {
    let cancelled = dice.chance(stage.strength(Feature::Cancel) * 20);
    Step { action: Action::ClosePool, cancel: cancelled.then(|| cancel(dice, stage)) }
}

fn resize(dice: &mut Dice, stage: &Stage) -> Vec<Step> {
    let mut steps = vec![plain(Action::Resize(dice.number(1, stage.max_size + 2)))];
    if dice.chance(40) {
        steps.push(hold(stage.stretch(dice)));
        steps.push(plain(Action::Resize(dice.number(1, stage.max_size + 2))));
    }
    if dice.chance(30) {
        steps.push(plain(Action::Status));
    }
    steps
}

fn at(dice: &mut Dice, stage: &Stage, most: u32) -> Arrive {
    let mut times: Vec<Duration> = (0..dice.number(1, most)).map(|_| stage.moment(dice)).collect();
    times.sort_unstable();
    Arrive::At(times)
}

/// The most actors that a workload starts, about.
const MOST: u64 = 60;

/// Arrivals, so many that a run stays short.
fn arrive(dice: &mut Dice, stage: &Stage, steps: &[Step]) -> Arrive {
    let crowd = stage.swarm.has(Feature::Crowd);
    let until = u64::try_from(stage.until.as_millis()).unwrap_or(u64::MAX);
    let least = (until / MOST).max(1);
    let kind = dice.weighted(&[
        (25, 0),
        (30, 1),
        (if crowd { 30 } else { 5 }, 2),
        (if crowd { 10 } else { 5 }, 3),
        (if crowd && !stage.is_long() { 15 } else { 0 }, 4),
    ]);
    match kind {
        0 => at(dice, stage, 6),
        1 => {
            let intervals =
                if stage.is_long() { [500, 1_000, 2_000, 5_000, 40_000] } else { [50, 100, 200, 400, 1_000] };
            Arrive::Every(dice.millis(&intervals).max(Duration::from_millis(least)))
        }
        2 => {
            let count = dice.number(2, stage.max_size + 5);
            let intervals = if stage.is_long() { [5_000, 10_000, 40_000] } else { [500, 1_000, 2_000] };
            let every = dice.chance(60).then(|| dice.millis(&intervals));
            Arrive::Burst { count, every }
        }
        3 => {
            let waits = steps.iter().any(|step| matches!(step.action, Action::Hold { .. }));
            let pause = dice.millis(&[50, 100, 200]).max(Duration::from_millis(if waits { least } else { least * 2 }));
            Arrive::Workers { count: dice.number(1, stage.max_size + 2), pause }
        }
        // A dense row: `window` cuts it short.
        _ => Arrive::Every(dice.millis(&[1, 2, 5, 10, 20])),
    }
}

/// From when and until when they come.
fn window(dice: &mut Dice, stage: &Stage, arrive: &Arrive) -> (Duration, Option<Duration>) {
    if matches!(arrive, Arrive::At(_)) {
        return (Duration::ZERO, None);
    }
    let from = if dice.chance(50) { Duration::ZERO } else { stage.moment(dice) };
    match arrive {
        Arrive::Every(interval) if *interval < Duration::from_millis(50) => (from, Some(from + *interval * 20)),
        Arrive::Burst { every: None, .. } => (from, None),
        _ if dice.chance(25) => (from, Some((from + stage.unit * dice.number(1, 10)).max(from + stage.unit))),
        _ => (from, None),
    }
}
