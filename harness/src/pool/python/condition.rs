//! `threading.Condition`: waiters are woken first come, first served, each by one `notify`.
//!
//! There is no lock: between two awaits nobody else runs. What a woken one waited for may be gone when its turn comes, as
//! with threads. A wait can be cancelled here, which a thread's can't: a wake-up that was not used goes to the next waiter.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Who waits.
#[derive(Default)]
pub(in crate::pool) struct Condition {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
    last: u64,
}

impl Condition {
    /// `wait(timeout)`: until it is notified, or until `end`.
    pub(in crate::pool) async fn wait(&self, end: Option<Instant>) {
        let (sender, woken) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            state.last += 1;
            let id = state.last;
            state.waiters.push_back((id, sender));
            id
        };
        let mut waiting = Waiting { condition: self, id, woken };
        let woken = &mut waiting.woken;
        match end {
            // A sender is in the queue until it is used, or taken out by its own waiter: there is no other end.
            Some(end) => drop(timeout_at(end, woken).await),
            None => drop(woken.await),
        }
    }

    /// `notify()`
    pub(in crate::pool) fn notify(&self) {
        let mut state = self.state.lock();
        while let Some((_, waiter)) = state.waiters.pop_front() {
            if waiter.send(()).is_ok() {
                return;
            }
        }
    }

    /// How many wait.
    pub(in crate::pool) fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }
}

/// A waiter. Dropped, it is none any more.
struct Waiting<'a> {
    condition: &'a Condition,
    id: u64,
    woken: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.condition.state.lock().waiters.retain(|(id, _)| *id != self.id);
        if self.woken.try_recv().is_ok() {
            self.condition.notify();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn wait(condition: &Arc<Condition>, seconds: u64) -> tokio::task::JoinHandle<Duration> {
        let condition = Arc::clone(condition);
        tokio::spawn(async move {
            let began = Instant::now();
            condition.wait(Some(began + Duration::from_secs(seconds))).await;
            began.elapsed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_notify_wakes_one_in_their_order() {
        let condition = Arc::new(Condition::default());
        let (first, second, third) = (wait(&condition, 1), wait(&condition, 1), wait(&condition, 1));
        tokio::task::yield_now().await;
        assert_eq!(condition.waiting(), 3);
        condition.notify();
        condition.notify();
        let ended = [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()];
        assert_eq!(ended, [Duration::ZERO, Duration::ZERO, Duration::from_secs(1)]);
        assert_eq!(condition.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_that_was_not_used_goes_to_the_next() {
        let condition = Arc::new(Condition::default());
        let (first, second) = (wait(&condition, 1), wait(&condition, 1));
        tokio::task::yield_now().await;
        condition.notify();
        first.abort();
        assert_eq!(second.await.unwrap(), Duration::ZERO);
    }
}
