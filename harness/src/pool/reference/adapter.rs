//! The reference pool and its planted bugs as adapters: `reference` and `planted:NAME`.

use std::sync::Arc;

use async_trait::async_trait;

use super::handle::ReferencePool;
use super::plant::Plant;
use crate::pool::{Adapter, Capabilities, Connector, Pool, PoolError};
use crate::scenario::model::PoolSettings;

/// Builds reference pools.
#[derive(Debug, Clone, Copy)]
pub struct Reference;

/// Builds reference pools with a planted bug.
#[derive(Debug, Clone, Copy)]
pub struct Planted(pub Plant);

const CAPABILITIES: Capabilities = Capabilities {
    max_size: true,
    unlimited: false,
    min_idle: true,
    max_idle: false,
    acquire_timeout: true,
    idle_timeout: true,
    max_lifetime: true,
    test_on_acquire: true,
    reset_rollback: true,
    reset_commit: true,
    reset_discard: true,
    close: true,
    resize: true,
    dispose: false,
    detach: true,
    invalidate: true,
    fair: true,
    fifo: true,
    lifo: true,
    unpooled: false,
    unaware: false,
    per_thread: false,
    shared: false,
    manager: false,
};

const MAPPING: &[(&str, &str)] = &[
    ("max_size", "at most this many sockets and dials, those being closed included"),
    (
        "min_idle",
        "dialled in the background; after a failure with pauses of 50 ms to 400 ms, which grow until it is reached",
    ),
    ("acquire_timeout", "for the whole acquire, check included; bounds a dial, too (5 s at most)"),
    ("idle_timeout", "to the millisecond; spares no min_idle"),
    ("max_lifetime", "to the millisecond, shorter by up to a tenth for each connection"),
    ("test_on_acquire", "an empty query, 2 s at most"),
    (
        "reset_on_return",
        "ROLLBACK; COMMIT; ROLLBACK and DISCARD ALL; or a bare Sync. Right at the return, 2 s at most, in which a waiter waits for it and nobody dials in its stead",
    ),
    ("order", "of idle connections (default fifo); waiters are always first come, first served"),
    ("close", "waits for what is idle, not for leases"),
    ("resize, detach", "at once; leases beyond the bound are closed at their return"),
    ("invalidate", "closed at once, as when it broke"),
];

#[async_trait]
impl Adapter for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        MAPPING
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(Arc::new(ReferencePool::start(settings.clone(), connector, None)))
    }
}

#[async_trait]
impl Adapter for Planted {
    fn name(&self) -> &'static str {
        self.0.adapter_name()
    }

    fn about(&self) -> Option<String> {
        Some(format!("reference with a bug that violates {}: {}", self.0.violates(), self.0.meaning()))
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        MAPPING
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(Arc::new(ReferencePool::start(settings.clone(), connector, Some(self.0))))
    }
}
