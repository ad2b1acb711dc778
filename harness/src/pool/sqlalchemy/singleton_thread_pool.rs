//! `SingletonThreadPool`: a connection for each thread, which stays the thread's while other threads come and go.
//!
//! With more threads than `pool_size`, connections are closed to make room whether they are in use or not; which, is left to
//! chance by a Python set, and to age here. Whoever needs the room waits for the statements on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::base::Pool;
use super::error::Error;
use super::fairy::Fairy;
use super::record::Record;
use crate::pool::python::psycopg2::User;
use crate::pool::{Caller, caller};

/// What each thread has.
pub(super) struct SingletonThreadPool {
    /// `size`
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `_conn`
    records: BTreeMap<Caller, Weak<Record>>,
    /// `_fairy`
    fairies: BTreeMap<Caller, Weak<Fairy>>,
    /// `_all_conns`
    all: Vec<Arc<Record>>,
}

impl SingletonThreadPool {
    pub(super) fn new(size: u32) -> SingletonThreadPool {
        SingletonThreadPool { size: size as usize, state: Mutex::default() }
    }

    /// The calling thread's checkout, if it has one.
    pub(super) fn fairy(&self) -> Option<Arc<Fairy>> {
        self.state.lock().fairies.get(&caller())?.upgrade()
    }

    pub(super) fn set_fairy(&self, fairy: &Arc<Fairy>) {
        self.state.lock().fairies.insert(caller(), Arc::downgrade(fairy));
    }

    /// `_do_get`
    pub(super) async fn do_get(&self, pool: &Arc<Pool>) -> Result<Arc<Record>, Error> {
        let known = self.state.lock().records.get(&caller()).and_then(Weak::upgrade);
        if let Some(record) = known {
            return Ok(record);
        }
        let record = Record::create(pool).await?;
        let thread = caller();
        self.state.lock().records.insert(thread, Arc::downgrade(&record));
        self.clean_up().await;
        self.state.lock().all.push(Arc::clone(&record));
        Ok(record)
    }

    /// `_cleanup`
    async fn clean_up(&self) {
        loop {
            let oldest = {
                let mut state = self.state.lock();
                // A size of 0 would never be reached: Python's `pop` fails on the empty set.
                if state.all.len() < self.size || state.all.is_empty() {
                    return;
                }
                state.all.remove(0)
            };
            oldest.close_at_rest(User::NONE).await;
        }
    }

    /// `_do_return_conn`: the thread that returns it has no checkout any more.
    pub(super) fn do_return_conn(&self) {
        self.state.lock().fairies.remove(&caller());
    }

    /// `dispose`
    pub(super) async fn dispose(&self) {
        let all = std::mem::take(&mut self.state.lock().all);
        for record in all {
            record.close_at_rest(User::NONE).await;
        }
    }
}
