//! A process's garbage collector: what is lost in reference cycles is dropped when it runs, and not before.
//!
//! CPython counts references: what is merely dropped is returned at once, and this is the step `release`, or the actor's
//! end. What is in a cycle waits for the cycle collector, which runs when container allocations outnumber deallocations by
//! a threshold (700 by default), or when it is asked to (`gc.collect()`). Modelled: one generation, allocations by the
//! step `allocate` alone. Left out: older generations (what survived once is looked at ten times less often) and objects
//! that can't be collected (before Python 3.4, a cycle with a `__del__` in it): `collector = "never"` is that.

use std::sync::Arc;

use super::actor::{Actor, Failed, Grip, Hold, StepResult};
use super::process::ProcessContext;
use super::random;
use crate::pool::{Lease, Pool};
use crate::trace::event::{ActorId, ConnId, PoolId};
use crate::trace::{Recorder, What};

/// What a process has lost in cycles.
#[derive(Default)]
pub(super) struct Garbage {
    leases: Vec<(ActorId, ConnId, Box<dyn Lease>)>,
    pools: Vec<(PoolId, Arc<dyn Pool>)>,
    allocated: u64,
}

/// The collector runs: leases are returned, pools are dropped.
fn collect(process: &ProcessContext, recorder: &Recorder, asked: bool) {
    let (leases, pools) = {
        let mut garbage = process.garbage.lock();
        (std::mem::take(&mut garbage.leases), std::mem::take(&mut garbage.pools))
    };
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let (found, lost) = (count(leases.len()), count(pools.len()));
    recorder.record(What::Collected { process: process.id, leases: found, pools: lost, asked });
    for (actor, conn, lease) in leases {
        recorder.record(What::Released { actor, conn });
        drop(lease);
    }
    for (pool, handle) in pools {
        recorder.record(What::PoolDropped { pool });
        drop(handle);
    }
}

impl Actor {
    pub(super) fn collect(&self) {
        collect(&self.process, &self.traffic.recorder, true);
    }

    /// Allocates between so many objects and so many.
    pub(super) fn allocate(&mut self, min: u32, max: u32) {
        let count = if min == max { u64::from(min) } else { random::between(self.rng(), min.into(), max.into()) };
        let Some(threshold) = self.process.collector else { return };
        let due = {
            let mut garbage = self.process.garbage.lock();
            garbage.allocated += count;
            let due = garbage.allocated >= u64::from(threshold);
            garbage.allocated %= u64::from(threshold);
            due
        };
        if due {
            collect(&self.process, &self.traffic.recorder, false);
        }
    }

    /// Loses the lease.
    pub(super) fn lose(&mut self) -> StepResult {
        match self.grip.take() {
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.in_transaction = false;
                self.traffic.recorder.record(What::Lost { actor: self.id, conn });
                self.process.garbage.lock().leases.push((self.id, conn, lease));
                Ok(())
            }
            other => {
                self.grip = other;
                Err(Failed)
            }
        }
    }

    /// Loses its own pool.
    pub(super) fn lose_pool(&mut self) -> StepResult {
        let (pool, handle) = self.own_pool.take().ok_or(Failed)?;
        self.traffic.recorder.record(What::PoolLost { actor: self.id, pool });
        self.process.garbage.lock().pools.push((pool, handle));
        Ok(())
    }
}
