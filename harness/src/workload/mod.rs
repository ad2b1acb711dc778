//! The workload interpreter: actors arrive, each runs its workload's steps once against its process's pool, and every
//! call and its outcome goes into the trace.
//!
//! Modelled: arrivals in an open and in a closed loop, an application's ways to use and misuse a lease, its death, and
//! cancellation of any step at an exact poll or wake. Left out: what the pool and the server make of it, which is the
//! business of [`crate::invariant`].
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`program`] | a workload made ready to run: texts prepared, names resolved |
//! | [`arrival`] | when actors arrive |
//! | [`process`] | the processes of the apps, and what an actor gets from its own |
//! | [`traffic`] | all workloads of a scenario: starts, counts and kills actors |
//! | [`worker_loop`] | a worker: one actor after another |
//! | [`slot`] | the place where one actor's future lives, so that it can be killed from outside |
//! | [`actor`] | what an actor does at each step |
//! | [`cancel`] | drops a future at an exact moment |
//! | [`session`] | a thread's session, and what outlives an actor in it |
//! | [`queue`], [`jobs`] | queues of jobs; what an actor does with them |
//! | [`collector`] | what is lost in reference cycles, and who finds it |
//! | [`turn`] | a process in which one actor's statement blocks all others |
//! | [`panics`] | panics as events rather than as output |
//! | [`random`] | a seeded stream for each actor |

pub mod actor;
pub mod arrival;
pub mod cancel;
pub mod collector;
pub mod jobs;
pub mod panics;
pub mod process;
pub mod program;
pub mod queue;
pub mod random;
pub mod session;
pub mod slot;
pub mod traffic;
pub mod turn;
pub mod worker_loop;

#[cfg(test)]
mod application_tests;
#[cfg(test)]
mod tests;

pub use actor::Probe;
pub use panics::{MANAGER_PANIC, PLANNED_PANIC};
pub use process::{Launcher, ProcessContext, Processes, WorldHooks};
pub use program::needs;
pub use traffic::Traffic;
