//! A job that was put in a queue is done: none fails for good, none is lost, none stays unfinished.
//!
//! That is the application's promise to itself, with whatever queue it uses; the pool has its part in it when jobs fail for
//! want of a connection. A job that its worker marks as done though one of its steps failed (an `except` that prints, and
//! goes on to `task_done()`) is not done. Jobs that wait for their time (a countdown) at the end are judged, too: a run
//! whose traffic is over gives them the healing phase.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Event, JobChange, JobId, Phase, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "jobs-done",
    meaning: "a job that was put in a queue is done: none fails for good, none is lost or stays unfinished",
    bound: "the end of the healing phase",
    needs: None,
    takes: Takes::Nothing,
};

/// Judges [`META`].
#[derive(Default)]
pub struct JobsDone {
    open: BTreeMap<JobId, (Arc<str>, Duration)>,
}

impl JobsDone {
    fn left(&mut self, now: Duration, out: &mut Violations) {
        for (job, (queue, put)) in std::mem::take(&mut self.open) {
            out.add(&META, || {
                let sentence = format!(
                    "job {} of {queue}, put at {}, was never done, and is still unfinished",
                    job.0,
                    seconds(put)
                );
                Violation::new(&META, now, Who::Run, sentence)
            });
        }
    }
}

impl Judge for JobsDone {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::Job, Kind::Phase], after: &[] }
    }

    fn before(&mut self, event: &Event, _view: &View, out: &mut Violations) {
        match &event.what {
            What::Job { queue, job, actor, change, .. } => {
                let why = match change {
                    JobChange::Put { .. } => {
                        self.open.insert(*job, (Arc::clone(queue), event.at));
                        return;
                    }
                    JobChange::Taken | JobChange::Retried { .. } | JobChange::Redelivered => return,
                    JobChange::Done => {
                        self.open.remove(job);
                        return;
                    }
                    JobChange::DoneBadly => "was marked as done, though a step of it failed",
                    JobChange::Failed => "failed for good",
                    JobChange::Lost => "was lost: its worker is gone, and nobody else has it",
                };
                let put = self.open.remove(job).map_or(event.at, |(_, put)| put);
                out.add(&META, || {
                    let sentence = format!("job {} of {queue}, put at {}, {why}", job.0, seconds(put));
                    Violation::new(&META, event.at, actor.map_or(Who::Run, Who::Actor), sentence)
                });
            }
            What::Phase(Phase::Capacity | Phase::End) => self.left(event.at, out),
            _ => {}
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.left(view.now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::trace::event::{ActorId, JobChange, JobId, Phase, What};
    use std::time::Duration;

    fn job(change: JobChange) -> What {
        What::Job { queue: "mail".into(), job: JobId(1), actor: Some(ActorId(1)), change, unfinished: 1 }
    }

    fn put() -> Case {
        let mut case = Case::new();
        case.at(10).happens(job(JobChange::Put { payload: "7".into(), after: Duration::ZERO }));
        case.at(20).happens(job(JobChange::Taken));
        case
    }

    #[test]
    fn a_job_that_fails_is_lost_or_stays_is_told_once() {
        for change in [JobChange::Failed, JobChange::Lost, JobChange::DoneBadly] {
            put().at(30).happens(job(change)).at(9_000).phase(Phase::Capacity).violates(META.name, 1);
        }
        put().at(9_000).phase(Phase::Capacity).violates(META.name, 1);
    }

    #[test]
    fn a_job_may_be_retried_until_it_is_done() {
        let mut case = put();
        case.at(30).happens(job(JobChange::Retried { after: Duration::from_secs(1), attempt: 1 }));
        case.at(1_030).happens(job(JobChange::Taken)).at(1_040).happens(job(JobChange::Redelivered));
        case.at(1_050).happens(job(JobChange::Taken)).happens(job(JobChange::Done));
        case.at(9_000).phase(Phase::Capacity).is_innocent();
    }
}
