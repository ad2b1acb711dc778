//! The pool as its owner holds it. Dropping it closes the pool without waiting.

use std::sync::Arc;

use async_trait::async_trait;

use super::plant::Plant;
use super::reaper;
use super::state::Shared;
use crate::pool::{Connector, Lease, Pool, PoolError, Status};
use crate::scenario::model::PoolSettings;

pub(super) struct ReferencePool {
    shared: Arc<Shared>,
}

impl ReferencePool {
    /// Makes the pool, and starts to dial its `min_idle` without waiting for it.
    pub(super) fn start(settings: PoolSettings, connector: Connector, plant: Option<Plant>) -> ReferencePool {
        let shared = Shared::new(settings, connector, plant);
        reaper::start(&shared);
        shared.update(|_, _| ());
        ReferencePool { shared }
    }
}

#[async_trait]
impl Pool for ReferencePool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        Ok(Box::new(self.shared.acquire().await?))
    }

    fn status(&self) -> Option<Status> {
        Some(self.shared.look(|state| state.status(&self.shared)))
    }

    async fn close(&self) {
        self.shared.update(|state, after| state.close(&self.shared, after));
        loop {
            let mut freed = std::pin::pin!(self.shared.freed.notified());
            freed.as_mut().enable();
            if self.shared.look(|state| state.is_drained()) {
                return;
            }
            freed.await;
        }
    }

    fn resize(&self, max_size: u32) {
        self.shared.update(|state, after| state.resize(max_size, &self.shared, after));
    }
}

impl Drop for ReferencePool {
    fn drop(&mut self) {
        self.shared.update(|state, after| state.close(&self.shared, after));
    }
}
