//! Pools of anything: for those that don't know what they keep, and are given a manager that makes it, checks it and resets it.
//!
//! A pool of this kind implements [`ResourceAdapter`], and is run as [`Resources`]: `poolproof::main!(Resources(Mine))`. Its
//! manager calls [`Manager`]'s three methods. What they make is a [`Resource`]: opaque to the pool, in fact a session on the simulated server,
//! so that everything that can befall a connection befalls it, and the server's view judges the pool as it judges any other.
//! Besides, a scenario can make each of the methods misbehave ([`Script`]): faults `manager.fail`, `.hang`, `.slow` and
//! `.panic`, of `connect`, `check` or `reset`. Three built-in scenarios do (`manager_connect`, `manager_check`,
//! `manager_reset`); pools that dial by a [`Connector`] are `unsupported` there.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use poolproof::pool::resource::{Manager, Resource, ResourceAdapter};
//! use poolproof::pool::{Capabilities, Lease, Pool, PoolError, PoolSettings, Status, async_trait};
//! use poolproof::tokio_postgres::Client;
//!
//! struct Shelf;
//!
//! #[async_trait]
//! impl ResourceAdapter for Shelf {
//!     fn name(&self) -> &'static str {
//!         "shelf"
//!     }
//!
//!     fn version(&self) -> &'static str {
//!         "0.1.0"
//!     }
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { test_on_acquire: true, ..Capabilities::default() }
//!     }
//!
//!     async fn build(&self, _: &PoolSettings, manager: Manager) -> Result<Arc<dyn Pool>, PoolError> {
//!         Ok(Arc::new(ShelfPool { manager, idle: Arc::default() }))
//!     }
//! }
//!
//! struct ShelfPool {
//!     manager: Manager,
//!     idle: Arc<Mutex<Vec<Resource>>>,
//! }
//!
//! #[async_trait]
//! impl Pool for ShelfPool {
//!     async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
//!         let taken = self.idle.lock().unwrap().pop();
//!         let mut checked = None;
//!         if let Some(mut resource) = taken
//!             && self.manager.check(&mut resource).await.is_ok()
//!         {
//!             checked = Some(resource);
//!         }
//!         let resource = match checked {
//!             Some(resource) => resource,
//!             None => self.manager.connect().await?,
//!         };
//!         Ok(Box::new(Lent { resource: Some(resource), idle: Arc::clone(&self.idle) }))
//!     }
//!
//!     fn status(&self) -> Option<Status> {
//!         None
//!     }
//! }
//!
//! struct Lent {
//!     resource: Option<Resource>,
//!     idle: Arc<Mutex<Vec<Resource>>>,
//! }
//!
//! impl Lease for Lent {
//!     fn client(&mut self) -> &Client {
//!         self.resource.as_ref().expect("it is there until the drop").client()
//!     }
//! }
//!
//! impl Drop for Lent {
//!     fn drop(&mut self) {
//!         self.idle.lock().unwrap().extend(self.resource.take());
//!     }
//! }
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::Client;

use super::{Adapter, Capabilities, Connector, Pool, PoolError, PoolErrorKind};
use crate::scenario::model::{ManagerCall, Misbehaviour, PoolSettings, Reset};
use crate::workload::MANAGER_PANIC;

/// Builds pools of resources. The second trait for pool authors, beside [`Adapter`]; its methods mean the same.
#[async_trait]
pub trait ResourceAdapter: Send + Sync + 'static {
    /// The pool's name.
    fn name(&self) -> &'static str;

    /// The pool's version.
    fn version(&self) -> &'static str;

    /// What the pool can do.
    fn capabilities(&self) -> Capabilities;

    /// How each common setting is mapped to the pool's own.
    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Builds a pool. Resources are made by `manager` alone. A lease's `client` is its [`Resource::client`].
    ///
    /// # Errors
    /// The pool's own refusal.
    async fn build(&self, settings: &PoolSettings, manager: Manager) -> Result<Arc<dyn Pool>, PoolError>;
}

/// A pool of resources as a pool that can be run.
#[derive(Debug, Clone, Copy)]
pub struct Resources<A>(pub A);

#[async_trait]
impl<A: ResourceAdapter> Adapter for Resources<A> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn version(&self) -> &'static str {
        self.0.version()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { manager: true, ..self.0.capabilities() }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        self.0.mapping()
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        self.0.build(settings, Manager { connector, reset: settings.reset_on_return }).await
    }
}

/// Something that is worth keeping.
pub struct Resource(Client);

impl Resource {
    /// Whether it is known to be broken, without asking it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.is_closed()
    }

    /// What actors use of it, for [`Lease::client`](super::Lease::client).
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0
    }
}

/// Makes resources for one pool, checks them and resets them. Each method may fail, hang, be slow and panic.
#[derive(Clone)]
pub struct Manager {
    connector: Connector,
    reset: Reset,
}

impl Manager {
    /// Makes a resource.
    ///
    /// # Errors
    /// It could not be made.
    pub async fn connect(&self) -> Result<Resource, PoolError> {
        self.connector.connect_scripted().await.map(|connection| Resource(connection.client))
    }

    /// Asks a resource whether it still works.
    ///
    /// # Errors
    /// It doesn't: it is to be dropped.
    pub async fn check(&self, resource: &mut Resource) -> Result<(), PoolError> {
        self.connector.script().meet(ManagerCall::Check).await?;
        ask(resource, "").await
    }

    /// Makes a resource as good as new, as far as the scenario's `reset_on_return` says.
    ///
    /// # Errors
    /// That was not possible: it is to be dropped.
    pub async fn reset(&self, resource: &mut Resource) -> Result<(), PoolError> {
        self.connector.script().meet(ManagerCall::Reset).await?;
        match self.reset {
            Reset::None => Ok(()),
            Reset::Rollback => ask(resource, "ROLLBACK").await,
            Reset::Commit => ask(resource, "COMMIT").await,
            Reset::Discard => {
                ask(resource, "ROLLBACK").await?;
                ask(resource, "DISCARD ALL").await
            }
        }
    }
}

async fn ask(resource: &Resource, query: &str) -> Result<(), PoolError> {
    let asked = resource.0.simple_query(query).await;
    asked.map(|_| ()).map_err(|error| PoolError::of(PoolErrorKind::Check, &error))
}

/// What a scenario makes of managers' methods: one for all pools of a world.
#[derive(Default)]
pub struct Script {
    now: Mutex<[Option<Misbehaviour>; 3]>,
    over: [Notify; 3],
}

impl Script {
    /// From now on this method misbehaves so; `None` ends it, and what hangs then fails.
    pub fn set(&self, call: ManagerCall, how: Option<Misbehaviour>) {
        self.now.lock()[call as usize] = how;
        self.over[call as usize].notify_waiters();
    }

    /// A method is called.
    pub(super) async fn meet(&self, call: ManagerCall) -> Result<(), PoolError> {
        let over = self.over[call as usize].notified();
        let how = self.now.lock()[call as usize];
        match how {
            None => return Ok(()),
            Some(Misbehaviour::Slow(by)) => {
                tokio::time::sleep(by).await;
                return Ok(());
            }
            Some(Misbehaviour::Fail) => {
                // Not in the same instant: a pool that tries again at once would never let time pass.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Some(Misbehaviour::Hang) => over.await,
            Some(Misbehaviour::Panic) => panic!("{MANAGER_PANIC}"),
        }
        let kind = if call == ManagerCall::Connect { PoolErrorKind::Connect } else { PoolErrorKind::Check };
        Err(PoolError::new(kind, format!("the manager's {} failed", call.as_str())))
    }
}
