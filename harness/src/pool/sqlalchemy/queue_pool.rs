//! `QueuePool`: a queue of `pool_size` records, and `max_overflow` beyond it that are closed when they come back.
//!
//! What is waited for is an item of the queue. A counter that goes down (a failed connect, an overflow connection that is
//! closed) makes room for a new connection and wakes nobody: whoever waits finds that out when its timeout is over.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::base::{Config, Counters, Pool};
use super::error::Error;
use super::flaw::Flaw;
use super::queue::Queue;
use super::record::Record;

/// The queue and the counter.
pub(super) struct QueuePool {
    queue: Queue<Arc<Record>>,
    pool_size: u32,
    /// `_max_overflow`; `None` is -1.
    max_overflow: Option<i64>,
    timeout: Option<Duration>,
    /// `_overflow`: connections in all, less `pool_size`.
    overflow: Mutex<i64>,
    flaw: Option<Flaw>,
}

impl QueuePool {
    pub(super) fn new(config: &Config, flaw: Option<Flaw>) -> QueuePool {
        let pool_size = config.pool_size;
        let queue_size = if flaw == Some(Flaw::OverflowKept) { 0 } else { pool_size as usize };
        let use_lifo = config.use_lifo || flaw == Some(Flaw::LifoForFifo);
        QueuePool {
            queue: Queue::new(queue_size, use_lifo),
            pool_size,
            max_overflow: config.max_overflow.filter(|_| pool_size > 0).map(i64::from),
            timeout: config.timeout,
            overflow: Mutex::new(i64::from(flaw == Some(Flaw::CounterOffByOne)) - i64::from(pool_size)),
            flaw,
        }
    }

    /// `_do_get`
    pub(super) async fn do_get(&self, pool: &Arc<Pool>) -> Result<Arc<Record>, Error> {
        loop {
            let wait = self.is_full();
            let record = if wait { self.queue.get(self.timeout).await } else { self.queue.try_get() };
            if let Some(record) = record {
                return Ok(record);
            }
            if self.is_full() {
                if !wait {
                    continue;
                }
                return Err(Error::Timeout {
                    size: self.pool_size,
                    overflow: self.counters().overflow,
                    timeout: self.timeout.unwrap_or_default(),
                });
            }
            if let Some(counted) = self.inc_overflow() {
                let record = Record::create(pool).await?;
                counted.keep();
                return Ok(record);
            }
        }
    }

    /// No more connections may be made.
    fn is_full(&self) -> bool {
        self.max_overflow.is_some_and(|most| *self.overflow.lock() >= most)
    }

    /// `_inc_overflow`
    fn inc_overflow(&self) -> Option<Counted<'_>> {
        if self.is_full() {
            return None;
        }
        *self.overflow.lock() += 1;
        Some(Counted(Some(self)))
    }

    /// `_dec_overflow`
    fn dec_overflow(&self) {
        *self.overflow.lock() -= 1;
    }

    /// `_do_return_conn`
    pub(super) fn do_return_conn(&self, record: &Arc<Record>) {
        if let Err(record) = self.queue.put(Arc::clone(record)) {
            record.close();
            self.dec_overflow();
        }
    }

    /// `dispose`
    pub(super) fn dispose(&self) {
        while let Some(record) = self.queue.try_get() {
            record.close();
        }
        *self.overflow.lock() = -i64::from(self.pool_size);
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    pub(super) fn counters(&self) -> Counters {
        let (size, overflow) = (i64::from(self.pool_size), *self.overflow.lock());
        let checked_in = i64::try_from(self.queue.len()).unwrap_or(i64::MAX);
        let checked_out = size - checked_in + overflow;
        Counters { size, checked_in, checked_out, overflow: if size > 0 { overflow } else { 0 } }
    }
}

/// One counted in `_overflow` whose connection is not there yet. Dropped, it never came.
struct Counted<'a>(Option<&'a QueuePool>);

impl Counted<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.0
            && pool.flaw != Some(Flaw::FailedConnectCounts)
        {
            pool.dec_overflow();
        }
    }
}
