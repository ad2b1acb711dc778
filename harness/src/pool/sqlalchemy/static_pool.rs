//! `StaticPool`: one connection, for all who ask.

use std::sync::Arc;

use parking_lot::Mutex;

use super::base::Pool;
use super::error::Error;
use super::record::Record;
use crate::pool::python::psycopg2::User;

/// The one record, once somebody asked.
#[derive(Default)]
pub(super) struct StaticPool {
    /// `connection`, a memoized property.
    record: Mutex<Option<Arc<Record>>>,
}

impl StaticPool {
    /// `_do_get`
    pub(super) async fn do_get(&self, pool: &Arc<Pool>) -> Result<Arc<Record>, Error> {
        let known = self.record.lock().clone();
        if let Some(record) = known.filter(|record| !record.is_hard_or_soft_invalidated(pool)) {
            return Ok(record);
        }
        *self.record.lock() = None;
        // Two that ask at once make two; the later one stays.
        let record = Record::create(pool).await?;
        *self.record.lock() = Some(Arc::clone(&record));
        Ok(record)
    }

    /// `dispose`
    pub(super) async fn dispose(&self) {
        let known = self.record.lock().take_if(|record| record.connection().is_some());
        if let Some(record) = known {
            record.close_at_rest(User::NONE).await;
        }
    }
}
