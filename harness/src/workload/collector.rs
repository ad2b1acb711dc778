//! A process's garbage collector: what is lost in reference cycles is dropped when it runs, and not before.
//!
//! CPython counts references: what is merely dropped is returned at once, and this is the step `release`, or the actor's
//! end. What is in a cycle waits for the cycle collector, which runs when container allocations outnumber deallocations by
//! a threshold (700 by default), or when it is asked to (`gc.collect()`). Modelled: one generation, allocations by the
//! step `allocate`, and by each acquire, where a pool with a lock that is not reentrant hangs if the collector finds a lease
//! of it there. Left out: older generations (what survived once is looked at ten times less often) and objects
//! that can't be collected (before Python 3.4, a cycle with a `__del__` in it): `collector = "never"` is that.

use std::sync::Arc;

use super::actor::{Actor, Failed, Grip, Hold, StepResult};
use super::process::ProcessContext;
use super::random;
use crate::pool::{Lease, Pool};
use crate::scenario::model::Collector;
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
async fn collect(process: &ProcessContext, recorder: &Recorder, asked: bool) {
    let (leases, pools) = {
        let mut garbage = process.garbage.lock();
        // As in CPython, the count begins anew.
        garbage.allocated = 0;
        (std::mem::take(&mut garbage.leases), std::mem::take(&mut garbage.pools))
    };
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let (found, lost) = (count(leases.len()), count(pools.len()));
    recorder.record(What::Collected { process: process.id, leases: found, pools: lost, asked });
    for (actor, conn, lease) in leases {
        recorder.record(What::Released { actor, conn });
        // A `__del__` runs to its end before the collection goes on.
        lease.give_back().await;
    }
    for (pool, handle) in pools {
        recorder.record(What::PoolDropped { pool });
        drop(handle);
    }
}

impl Actor {
    pub(super) async fn collect(&mut self) {
        collect(&self.process, &self.traffic.recorder, true).await;
    }

    /// Allocates between so many objects and so many.
    pub(super) async fn allocate(&mut self, min: u32, max: u32) {
        let count = if min == max { u64::from(min) } else { random::between(self.rng(), min.into(), max.into()) };
        if self.is_due_after(count) {
            collect(&self.process, &self.traffic.recorder, false).await;
        }
    }

    /// Counts allocations; says whether the collector runs now.
    fn is_due_after(&self, count: u64) -> bool {
        let Some(Collector { threshold, .. }) = self.process.collector else { return false };
        let mut garbage = self.process.garbage.lock();
        garbage.allocated += count;
        garbage.allocated >= u64::from(threshold)
    }

    /// The allocations of an acquire. If the collector runs there, finds a lost lease, and the pool holds a lock that is not
    /// reentrant, then the return waits for the lock that its own thread has: the answer is that the acquire never ends.
    pub(super) async fn hangs_in_acquire(&mut self, pool: &dyn Pool) -> bool {
        let Some(Collector { acquire, .. }) = self.process.collector else { return false };
        if acquire == 0 || !self.is_due_after(acquire.into()) {
            return false;
        }
        if pool.holds_plain_lock() && !self.process.garbage.lock().leases.is_empty() {
            return true;
        }
        collect(&self.process, &self.traffic.recorder, false).await;
        false
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
