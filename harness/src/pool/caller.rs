//! Who calls a pool: the thread, for pools that keep something a thread.
//!
//! A run has one thread, on which everything happens. A pool that hands out per thread (SQLAlchemy's SingletonThreadPool,
//! Trac's ConnectionPool) asks [`caller`] instead. In a closed loop a worker is a thread, with all its actors one after
//! another; any other actor is a thread of its own, and so is each of the harness's probes. What runs outside of an actor
//! (a task of the pool's own, the harness itself) is [`Caller::MAIN`]. Numbers are never used again, unlike the thread
//! identifiers of an operating system.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

/// A thread of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller(pub u32);

thread_local! {
    static CALLER: Cell<Caller> = const { Cell::new(Caller::MAIN) };
}

/// The thread that calls now. It is known while a pool's method or a lease's is called, in each poll of its future, and
/// while either is dropped.
#[must_use]
pub fn caller() -> Caller {
    CALLER.get()
}

impl Caller {
    /// Nobody in particular.
    pub const MAIN: Caller = Caller(0);

    /// From now on this thread calls, until what is returned is dropped.
    #[must_use]
    pub fn enter(self) -> Entered {
        Entered { before: CALLER.replace(self) }
    }

    /// The future as a part of this thread: it calls in each poll.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// A thread calls. Dropped, the former one calls again.
#[derive(Debug)]
pub struct Entered {
    before: Caller,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CALLER.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_future_is_polled_by_its_own_caller() {
        let ask = || async {
            let before = caller();
            tokio::task::yield_now().await;
            (before, caller())
        };
        let (first, second) = tokio::join!(Caller(1).scope(ask()), Caller(2).scope(ask()));
        assert_eq!(first, (Caller(1), Caller(1)));
        assert_eq!(second, (Caller(2), Caller(2)));
        assert_eq!(caller(), Caller::MAIN);
    }

    #[test]
    fn a_nested_caller_gives_way_to_the_outer_one() {
        let _outer = Caller(3).enter();
        drop(Caller(4).enter());
        assert_eq!(caller(), Caller(3));
    }
}
