//! `sqlalchemy.util.queue.Queue`: a deque and the condition `not_empty`, as `threading.Condition` is.
//!
//! A waiter is woken by an item, first come, first served, but the item is whoever's who takes it first: one that comes
//! between the wake-up and the woken one's turn gets it, and the woken one waits again, behind all others. `not_full` is left
//! out: QueuePool never waits to put.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// A queue of records.
pub(super) struct Queue<T> {
    /// `maxsize`; 0 is without a bound.
    max_size: usize,
    use_lifo: bool,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    /// `not_empty._waiters`
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
    last_waiter: u64,
}

impl<T> Queue<T> {
    pub(super) fn new(max_size: usize, use_lifo: bool) -> Queue<T> {
        let state = State { items: VecDeque::new(), waiters: VecDeque::new(), last_waiter: 0 };
        Queue { max_size, use_lifo, state: Mutex::new(state) }
    }

    /// `qsize()`
    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// `put(item, False)`: the item comes back when the queue is full.
    pub(super) fn put(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if self.max_size > 0 && state.items.len() == self.max_size {
            return Err(item);
        }
        state.items.push_back(item);
        state.notify();
        Ok(())
    }

    /// `get(False)`
    pub(super) fn try_get(&self) -> Option<T> {
        let mut state = self.state.lock();
        if self.use_lifo { state.items.pop_back() } else { state.items.pop_front() }
    }

    /// `get(True, timeout)`
    pub(super) async fn get(&self, timeout: Option<Duration>) -> Option<T> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(item) = self.try_get() {
                return Some(item);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return None;
            }
            self.wait(end).await;
        }
    }

    /// `not_empty.wait(remaining)`
    async fn wait(&self, end: Option<Instant>) {
        let (sender, woken) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            state.last_waiter += 1;
            let id = state.last_waiter;
            state.waiters.push_back((id, sender));
            id
        };
        let mut waiting = Waiting { queue: self, id, woken };
        let woken = &mut waiting.woken;
        match end {
            // Nobody drops a sender: it is in the queue until it is used, or taken out by its own waiter.
            Some(end) => drop(timeout_at(end, woken).await),
            None => drop(woken.await),
        }
    }

    /// Wakes a waiter without an item: [`Flaw::FailedConnectWakes`](super::Flaw::FailedConnectWakes).
    pub(super) fn wake(&self) {
        self.state.lock().notify();
    }
}

impl<T> State<T> {
    /// `notify()`
    fn notify(&mut self) {
        while let Some((_, waiter)) = self.waiters.pop_front() {
            if waiter.send(()).is_ok() {
                return;
            }
        }
    }
}

/// A waiter. Dropped, it is no longer one; a wake-up that it did not see goes to the next, if there is still something to be
/// had (a thread can't be cancelled, so SQLAlchemy has no case of it).
struct Waiting<'a, T> {
    queue: &'a Queue<T>,
    id: u64,
    woken: oneshot::Receiver<()>,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.waiters.retain(|(id, _)| *id != self.id);
        if self.woken.try_recv().is_ok() && !state.items.is_empty() {
            state.notify();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn first_in_first_out_or_last_in_first_out() {
        for (use_lifo, first) in [(false, 1), (true, 2)] {
            let queue = Queue::new(2, use_lifo);
            queue.put(1).unwrap();
            queue.put(2).unwrap();
            assert_eq!(queue.put(3), Err(3));
            assert_eq!(queue.get(Some(SECOND)).await, Some(first));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_queue_is_given_up_on_time() {
        let queue: Queue<u32> = Queue::new(1, false);
        let began = Instant::now();
        assert_eq!(queue.get(Some(SECOND)).await, None);
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_woken_in_order_unless_one_comes_between() {
        let queue = Arc::new(Queue::new(1, false));
        let wait = |queue: &Arc<Queue<u32>>| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { queue.get(Some(SECOND)).await })
        };
        let (first, second) = (wait(&queue), wait(&queue));
        tokio::task::yield_now().await;
        queue.put(1).unwrap();
        assert_eq!(queue.try_get(), Some(1), "before the woken one's turn");
        queue.put(2).unwrap();
        queue.put(3).unwrap_err();
        // The first was woken in vain, and the second gets what came next.
        assert_eq!(second.await.unwrap(), Some(2));
        assert_eq!(first.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_waiter_passes_its_wake_up_on() {
        let queue = Arc::new(Queue::new(1, false));
        let wait = |queue: &Arc<Queue<u32>>| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { queue.get(Some(SECOND)).await })
        };
        let (first, second) = (wait(&queue), wait(&queue));
        tokio::task::yield_now().await;
        queue.put(1).unwrap();
        first.abort();
        assert_eq!(second.await.unwrap(), Some(1));
    }
}
