//! What a run has that a neighbour of its scenario can change: how often each step was polled and woken, and how many messages
//! went each way on each connection.
//!
//! A run has a thread of its own, and so has its census: none is taken unless [`begin`] was called on that thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static CENSUS: RefCell<Option<Census>> = const { RefCell::new(None) };
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// By workload, the step's place in it, and the actor's number in the workload from 1: the most polls and wakes that the
    /// step's future got.
    pub(crate) steps: BTreeMap<(String, u32, u64), (u32, u32)>,
    /// By dial, from 1, and whether it is the app's: whole messages in the fault phase.
    pub(crate) messages: BTreeMap<(u32, bool), u32>,
    /// Faults are over: what goes by from now on can't be struck.
    over: bool,
}

/// Counts from now on, on this thread.
pub(crate) fn begin() {
    CENSUS.with_borrow_mut(|census| *census = Some(Census::default()));
}

/// Ends the count.
pub(crate) fn take() -> Census {
    CENSUS.take().unwrap_or_default()
}

/// Whether this thread's run is counted.
pub(crate) fn is_on() -> bool {
    CENSUS.with_borrow(Option::is_some)
}

/// A step has ended.
pub(crate) fn step(workload: &str, place: u32, actor: u64, polls: u32, wakes: u32) {
    CENSUS.with_borrow_mut(|census| {
        let Some(census) = census else { return };
        let most = census.steps.entry((workload.to_owned(), place, actor)).or_default();
        *most = (most.0.max(polls), most.1.max(wakes));
    });
}

/// So many messages have gone one way on a connection.
pub(crate) fn messages(dial: u32, to_server: bool, count: u32) {
    CENSUS.with_borrow_mut(|census| {
        let Some(census) = census else { return };
        if !census.over {
            census.messages.insert((dial, to_server), count);
        }
    });
}

/// The fault phase is over: messages are not counted any more.
pub(crate) fn faults_are_over() {
    CENSUS.with_borrow_mut(|census| {
        if let Some(census) = census {
            census.over = true;
        }
    });
}
