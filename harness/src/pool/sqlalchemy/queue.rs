//! `sqlalchemy.util.queue.Queue`: a deque and the condition `not_empty`.
//!
//! A waiter is woken by an item, first come, first served, but the item is whoever's who takes it first: one that comes
//! between the wake-up and the woken one's turn gets it, and the woken one waits again, behind all others. `not_full` is left
//! out: QueuePool never waits to put.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pool::python::condition::Condition;

/// A queue of records.
pub(super) struct Queue<T> {
    /// `maxsize`; 0 is without a bound.
    max_size: usize,
    use_lifo: bool,
    items: Mutex<VecDeque<T>>,
    not_empty: Condition,
}

impl<T> Queue<T> {
    pub(super) fn new(max_size: usize, use_lifo: bool) -> Queue<T> {
        Queue { max_size, use_lifo, items: Mutex::default(), not_empty: Condition::default() }
    }

    /// `qsize()`
    pub(super) fn len(&self) -> usize {
        self.items.lock().len()
    }

    /// How many wait to get.
    pub(super) fn waiting(&self) -> usize {
        self.not_empty.waiting()
    }

    /// `put(item, False)`: the item comes back when the queue is full.
    pub(super) fn put(&self, item: T) -> Result<(), T> {
        {
            let mut items = self.items.lock();
            if self.max_size > 0 && items.len() == self.max_size {
                return Err(item);
            }
            items.push_back(item);
        }
        self.not_empty.notify();
        Ok(())
    }

    /// `get(False)`
    pub(super) fn try_get(&self) -> Option<T> {
        let mut items = self.items.lock();
        if self.use_lifo { items.pop_back() } else { items.pop_front() }
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
            self.not_empty.wait(end).await;
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
        // The first was woken for what is gone, and takes what came for the second, which was woken in vain.
        assert_eq!(first.await.unwrap(), Some(2));
        assert_eq!(second.await.unwrap(), None);
    }
}
