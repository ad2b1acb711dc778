//! Drops a future at an exact moment: instead of its n-th poll, or after its n-th wake without another poll.
//!
//! A future dropped between its wake and its poll is where pools lose things: a connection was handed to it, and it
//! never learns. To be exact, the wrapped future gets a waker of its own, and is polled only when *that* was woken: a wake
//! of the surrounding task for another reason counts as nothing. Wakes between two polls count as one, as in any executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::scenario::model::Cancel;

/// With [`Cancel::EveryPoll`], the deepest poll and the deepest wake that are cancelled before it goes round again.
pub const EVERY_POLL_DEPTH: u32 = 8;

/// How a step that may be cancelled ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was complete before its moment.
    Done(T),
    /// It was dropped.
    Cancelled,
}

/// Runs `step` until it is complete or its moment has come. `number` is the actor's number in its workload, from 1, which
/// [`Cancel::EveryPoll`] goes by.
pub async fn cancel_at<T>(
    cancel: Cancel,
    number: u64,
    step: Pin<Box<dyn Future<Output = T> + Send + '_>>,
) -> Outcome<T> {
    match cancel {
        Cancel::After(after) => match tokio::time::timeout(after, step).await {
            Ok(value) => Outcome::Done(value),
            Err(_) => Outcome::Cancelled,
        },
        Cancel::AtPoll(n) => CancelAt::new(step, Moment::Poll(n)).await,
        Cancel::AtWake(n) => CancelAt::new(step, Moment::Wake(n)).await,
        Cancel::AtPollOf { actor, poll } if number == u64::from(actor) => CancelAt::new(step, Moment::Poll(poll)).await,
        Cancel::AtWakeOf { actor, wake } if number == u64::from(actor) => CancelAt::new(step, Moment::Wake(wake)).await,
        Cancel::AtPollOf { .. } | Cancel::AtWakeOf { .. } => Outcome::Done(step.await),
        Cancel::EveryPoll => CancelAt::new(step, Moment::of_actor(number)).await,
    }
}

/// A moment in a future's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Instead of the n-th poll, from 1.
    Poll(u32),
    /// After the n-th wake, from 1, without being polled again.
    Wake(u32),
}

impl Moment {
    /// The moment of the k-th actor: polls 1, 2, … [`EVERY_POLL_DEPTH`], then as many wakes, and round again.
    #[must_use]
    pub fn of_actor(k: u64) -> Moment {
        let place = k.saturating_sub(1) % u64::from(2 * EVERY_POLL_DEPTH);
        let place = u32::try_from(place).expect("below twice the depth");
        if place < EVERY_POLL_DEPTH { Moment::Poll(place + 1) } else { Moment::Wake(place - EVERY_POLL_DEPTH + 1) }
    }
}

/// A future that is dropped at a [`Moment`].
pub struct CancelAt<'a, T> {
    step: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    moment: Moment,
    polls: u32,
    alarm: Arc<Alarm>,
    /// `alarm` as the step sees it.
    waker: Waker,
}

impl<'a, T> CancelAt<'a, T> {
    /// Drops `step` at `moment`.
    #[must_use]
    pub fn new(step: Pin<Box<dyn Future<Output = T> + Send + 'a>>, moment: Moment) -> Self {
        let alarm =
            Arc::new(Alarm { woken: AtomicBool::new(true), wakes: AtomicU32::new(0), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&alarm));
        CancelAt { step: Some(step), moment, polls: 0, alarm, waker }
    }
}

impl<T> Future for CancelAt<'_, T> {
    type Output = Outcome<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<T>> {
        let this = self.get_mut();
        this.alarm.task.register(cx.waker());
        if !this.alarm.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let due = match this.moment {
            Moment::Poll(n) => this.polls + 1 >= n,
            Moment::Wake(n) => this.alarm.wakes.load(Ordering::Acquire) >= n,
        };
        if due {
            this.step = None;
            return Poll::Ready(Outcome::Cancelled);
        }
        this.polls += 1;
        let step = this.step.as_mut().expect("not polled after it was complete");
        let polled = step.as_mut().poll(&mut Context::from_waker(&this.waker));
        polled.map(|value| {
            this.step = None;
            Outcome::Done(value)
        })
    }
}

/// A future of which it is told, at its end or when it is dropped, how often it was polled and woken.
pub struct Counted<'a, T> {
    step: CancelAt<'a, T>,
    told: Box<dyn Fn(u32, u32) + Send + 'a>,
}

impl<'a, T> Counted<'a, T> {
    /// Tells `told` the polls and the wakes.
    #[must_use]
    pub fn new(step: Pin<Box<dyn Future<Output = T> + Send + 'a>>, told: impl Fn(u32, u32) + Send + 'a) -> Self {
        Counted { step: CancelAt::new(step, Moment::Poll(u32::MAX)), told: Box::new(told) }
    }
}

impl<T> Future for Counted<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.get_mut().step).poll(cx) {
            Poll::Ready(Outcome::Done(value)) => Poll::Ready(value),
            // No future is polled four thousand million times.
            Poll::Ready(Outcome::Cancelled) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Counted<'_, T> {
    fn drop(&mut self) {
        (self.told)(self.step.polls, self.step.alarm.wakes.load(Ordering::Acquire));
    }
}

/// The step's waker.
struct Alarm {
    /// Woken since the last poll; at first, as if it had been.
    woken: AtomicBool,
    /// Wakes so far, those between two polls counted once.
    wakes: AtomicU32,
    task: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wakes.fetch_add(1, Ordering::AcqRel);
            self.task.wake();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    /// A future that counts its polls and is complete at the `last`. It gives its waker away.
    #[derive(Clone, Default)]
    struct Probe(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        polls: u32,
        last: u32,
        wakes_itself: bool,
        dropped: bool,
        waker: Option<Waker>,
    }

    struct ProbeFuture(Probe);

    impl Probe {
        fn until(last: u32) -> Probe {
            let probe = Probe::default();
            probe.0.lock().last = last;
            probe
        }
        fn step(&self) -> Pin<Box<dyn Future<Output = u32> + Send>> {
            Box::pin(ProbeFuture(self.clone()))
        }
        fn wake(&self) {
            let waker = self.0.lock().waker.clone().unwrap();
            waker.wake();
        }
        fn polls(&self) -> u32 {
            self.0.lock().polls
        }
        fn dropped(&self) -> bool {
            self.0.lock().dropped
        }
    }

    impl Future for ProbeFuture {
        type Output = u32;
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
            let mut state = self.0.0.lock();
            state.polls += 1;
            state.waker = Some(cx.waker().clone());
            if state.polls == state.last {
                return Poll::Ready(state.polls);
            }
            if state.wakes_itself {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }

    impl Drop for ProbeFuture {
        fn drop(&mut self) {
            self.0.0.lock().dropped = true;
        }
    }

    fn poll<T>(future: &mut CancelAt<'_, T>) -> Poll<Outcome<T>> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn at_poll_one_is_never_polled() {
        let probe = Probe::until(1);
        let mut future = CancelAt::new(probe.step(), Moment::Poll(1));
        assert_eq!(poll(&mut future), Poll::Ready(Outcome::Cancelled));
        assert_eq!(probe.polls(), 0);
        assert!(probe.dropped());
    }

    #[test]
    fn at_poll_n_is_dropped_instead_of_the_nth_poll() {
        let probe = Probe::until(3);
        let mut future = CancelAt::new(probe.step(), Moment::Poll(3));
        for _ in 0..2 {
            assert!(poll(&mut future).is_pending());
            probe.wake();
        }
        assert!(!probe.dropped());
        assert_eq!(poll(&mut future), Poll::Ready(Outcome::Cancelled));
        assert_eq!(probe.polls(), 2);
        assert!(probe.dropped());
    }

    #[test]
    fn a_wake_for_another_reason_is_no_poll() {
        let probe = Probe::until(2);
        let mut future = CancelAt::new(probe.step(), Moment::Poll(3));
        for _ in 0..10 {
            assert!(poll(&mut future).is_pending());
        }
        assert_eq!(probe.polls(), 1);
        probe.wake();
        assert_eq!(poll(&mut future), Poll::Ready(Outcome::Done(2)));
        assert!(probe.dropped(), "a complete step is dropped at once");
    }

    #[test]
    fn at_wake_n_is_not_polled_after_its_nth_wake() {
        let probe = Probe::until(9);
        let mut future = CancelAt::new(probe.step(), Moment::Wake(2));
        assert!(poll(&mut future).is_pending());
        probe.wake();
        probe.wake(); // before the poll: the same wake
        assert!(poll(&mut future).is_pending());
        assert_eq!(probe.polls(), 2);
        probe.wake();
        assert!(!probe.dropped(), "dropped only when it is its turn to run");
        assert_eq!(poll(&mut future), Poll::Ready(Outcome::Cancelled));
        assert_eq!(probe.polls(), 2);
        assert!(probe.dropped());
    }

    #[test]
    fn a_future_that_wakes_itself_while_polled_counts_one_wake_a_poll() {
        let probe = Probe::until(9);
        probe.0.lock().wakes_itself = true;
        let mut future = CancelAt::new(probe.step(), Moment::Wake(3));
        for _ in 0..3 {
            assert!(poll(&mut future).is_pending());
        }
        assert_eq!(poll(&mut future), Poll::Ready(Outcome::Cancelled));
        assert_eq!(probe.polls(), 3);
    }

    #[test]
    fn the_surrounding_task_is_woken_by_the_step() {
        struct Count(AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let probe = Probe::until(9);
        let mut future = CancelAt::new(probe.step(), Moment::Wake(1));
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        probe.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_poll_goes_through_polls_then_wakes_and_round_again() {
        let depth = u64::from(EVERY_POLL_DEPTH);
        assert_eq!(Moment::of_actor(1), Moment::Poll(1));
        assert_eq!(Moment::of_actor(depth), Moment::Poll(EVERY_POLL_DEPTH));
        assert_eq!(Moment::of_actor(depth + 1), Moment::Wake(1));
        assert_eq!(Moment::of_actor(2 * depth), Moment::Wake(EVERY_POLL_DEPTH));
        assert_eq!(Moment::of_actor(2 * depth + 1), Moment::Poll(1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_time() {
        let start = tokio::time::Instant::now();
        let never = Box::pin(std::future::pending::<()>());
        let outcome = cancel_at(Cancel::After(Duration::from_millis(20)), 1, never).await;
        assert_eq!(outcome, Outcome::Cancelled);
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        let soon = Box::pin(tokio::time::sleep(Duration::from_millis(5)));
        assert_eq!(cancel_at(Cancel::After(Duration::from_millis(20)), 1, soon).await, Outcome::Done(()));
    }
}
