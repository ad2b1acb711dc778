//! The place where the future of one actor lives while it runs, so that a SIGKILL can drop it at once, from outside, with
//! everything it holds.
//!
//! A tokio task could be aborted too, but it would be dropped only when it is next scheduled: after the events that follow
//! the death. A worker uses one slot for all its actors, one after another, without an allocation for each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::panics;
use super::process::ProcessContext;
use crate::pool::Caller;
use crate::trace::event::{ActorEnd, ActorId, ProcessId};
use crate::worker::progress;

/// A timer that ends an actor in the middle of a step. Shared between the actor, which sets it, and its slot.
pub(super) type AbandonTimer = Arc<Mutex<Option<Pin<Box<Sleep>>>>>;

/// The place of one actor at a time. For pools it is a thread.
pub(super) struct Slot<F> {
    thread: Caller,
    state: Mutex<State<F>>,
    /// Killed while it was being polled: it ends when that poll returns.
    doomed: AtomicBool,
    /// The process of the actor, to be seen while it is being polled.
    process: AtomicU32,
}

struct State<F> {
    future: Pin<Box<Option<F>>>,
    occupant: Option<Occupant>,
    waker: Option<Waker>,
}

struct Occupant {
    actor: ActorId,
    workload: Arc<str>,
    since: Instant,
    process: Arc<ProcessContext>,
    abandon: Option<AbandonTimer>,
}

/// What dropping an actor from outside came to.
pub(super) struct Killed {
    pub(super) actor: ActorId,
    /// Something that it held panicked when it was dropped.
    pub(super) panic: Option<String>,
}

/// Who is in a slot.
pub(super) struct Seen {
    pub(super) actor: ActorId,
    pub(super) workload: Arc<str>,
    pub(super) since: Instant,
}

/// A slot, whatever its future.
pub(super) trait Kill: Send + Sync {
    /// Who is in it; `None` also while the actor itself is asking.
    fn seen(&self) -> Option<Seen>;

    /// Drops the actor in the slot, if it is of this process (or of any).
    fn kill(&self, of: Option<ProcessId>) -> Option<Killed>;
}

impl<F: Future<Output = ActorEnd> + Send> Slot<F> {
    pub(super) fn new(thread: Caller) -> Arc<Slot<F>> {
        let state = State { future: Box::pin(None), occupant: None, waker: None };
        let (doomed, process) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Slot { thread, state: Mutex::new(state), doomed, process })
    }

    /// Puts an actor in the empty slot.
    pub(super) fn enter(
        &self,
        actor: ActorId,
        workload: &Arc<str>,
        process: Arc<ProcessContext>,
        abandon: Option<AbandonTimer>,
        future: F,
    ) {
        self.process.store(process.id.0, Ordering::Release);
        let mut state = self.state.lock();
        state.occupant =
            Some(Occupant { actor, workload: Arc::clone(workload), since: Instant::now(), process, abandon });
        state.future.set(Some(future));
    }

    /// Runs the actor to its end, and drops it. `None` if it was killed: then that was recorded by the killer.
    pub(super) fn run(&self) -> impl Future<Output = Option<ActorEnd>> + use<'_, F> {
        std::future::poll_fn(|cx| self.poll(cx))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<ActorEnd>> {
        let mut state = self.state.lock();
        let State { future, occupant, waker } = &mut *state;
        let Some(actor) = future.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let _calls = self.thread.enter();
        let _ours = progress::ours();
        let polled = panics::catch(|| actor.poll(cx));
        let mut end = match polled {
            Ok(Poll::Ready(end)) => Some(end),
            Ok(Poll::Pending) => None,
            Err(message) => Some(ActorEnd::Panicked(message)),
        };
        let timer = occupant.as_ref().and_then(|occupant| occupant.abandon.as_ref());
        if end.is_none() && timer.is_some_and(|timer| elapsed(timer, cx)) {
            end = Some(ActorEnd::Abandoned);
        }
        if self.doomed.swap(false, Ordering::AcqRel) {
            end = Some(ActorEnd::Killed);
        }
        let Some(mut end) = end else {
            match waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        // What it holds is dropped here, and that may panic too.
        if let Err(message) = panics::catch(|| future.set(None)) {
            end = ActorEnd::Panicked(message);
        }
        *occupant = None;
        Poll::Ready(Some(end))
    }
}

impl<F: Future<Output = ActorEnd> + Send> Kill for Slot<F> {
    fn seen(&self) -> Option<Seen> {
        let state = self.state.try_lock()?;
        let Occupant { actor, workload, since, .. } = state.occupant.as_ref()?;
        Some(Seen { actor: *actor, workload: Arc::clone(workload), since: *since })
    }

    fn kill(&self, of: Option<ProcessId>) -> Option<Killed> {
        let Some(mut state) = self.state.try_lock() else {
            // Only by something that the actor itself called, on this very thread.
            if of.is_none_or(|id| id.0 == self.process.load(Ordering::Acquire)) {
                self.doomed.store(true, Ordering::Release);
            }
            return None;
        };
        let occupant = state.occupant.take_if(|occupant| of.is_none_or(|id| id == occupant.process.id))?;
        let _calls = self.thread.enter();
        let panic = panics::catch(|| state.future.set(None)).err();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Some(Killed { actor: occupant.actor, panic })
    }
}

fn elapsed(timer: &AbandonTimer, cx: &mut Context<'_>) -> bool {
    let mut timer = timer.lock();
    timer.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
}
