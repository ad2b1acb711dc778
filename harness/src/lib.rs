//! poolproof runs real connection pools, with their real driver, in virtual time, against a simulated PostgreSQL server
//! and network that fail on script, and judges them by what the server saw.
//!
//! # A pool of your own
//!
//! Implement three small traits: [`pool::Adapter`] builds pools, [`pool::Pool`] is one, and [`pool::Lease`] is a connection
//! that was acquired. [`main!`] makes a test of each built-in scenario with it; [`suite`](mod@suite) says what else there is,
//! `poolproof.toml` ([`scenario::settings`]) which scenarios are run and what is known to go wrong. The crate's
//! [README](https://github.com/poolproof/poolproof/blob/main/harness/README.md) leads there from an empty directory.
//!
//! This is the whole of `tests/pool.rs`, pool included:
//!
//! ```no_run
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use poolproof::pool::{
//!     Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, PoolSettings, Status, async_trait,
//! };
//! use poolproof::tokio_postgres::Client;
//! use tokio::sync::{OwnedSemaphorePermit, Semaphore};
//!
//! poolproof::main!(Tiny);
//!
//! struct Tiny;
//!
//! #[async_trait]
//! impl Adapter for Tiny {
//!     fn name(&self) -> &'static str {
//!         "tiny"
//!     }
//!
//!     fn version(&self) -> &'static str {
//!         env!("CARGO_PKG_VERSION")
//!     }
//!
//!     // What its documentation promises, and nothing else.
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { max_size: true, acquire_timeout: true, ..Capabilities::default() }
//!     }
//!
//!     async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
//!         Ok(Arc::new(TinyPool {
//!             permits: Arc::new(Semaphore::new(settings.max_size as usize)),
//!             idle: Arc::default(),
//!             timeout: settings.acquire_timeout.unwrap_or(Duration::MAX),
//!             connector,
//!         }))
//!     }
//! }
//!
//! struct TinyPool {
//!     permits: Arc<Semaphore>,
//!     idle: Arc<Mutex<Vec<Client>>>,
//!     timeout: Duration,
//!     connector: Connector,
//! }
//!
//! #[async_trait]
//! impl Pool for TinyPool {
//!     async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
//!         let acquired = tokio::time::timeout(self.timeout, async {
//!             let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
//!             let idle = self.idle.lock().unwrap().pop().filter(|client| !client.is_closed());
//!             let client = match idle {
//!                 Some(client) => client,
//!                 None => {
//!                     let connected = self.connector.connect().await;
//!                     connected.map_err(|error| PoolError::of(PoolErrorKind::Connect, &error))?.client
//!                 }
//!             };
//!             let lease = TinyLease { client: Some(client), idle: Arc::clone(&self.idle), _permit: permit };
//!             Ok(Box::new(lease) as Box<dyn Lease>)
//!         });
//!         acquired.await.unwrap_or_else(|_| Err(PoolError::new(PoolErrorKind::Timeout, "timed out")))
//!     }
//!
//!     fn status(&self) -> Option<Status> {
//!         None
//!     }
//! }
//!
//! struct TinyLease {
//!     client: Option<Client>,
//!     idle: Arc<Mutex<Vec<Client>>>,
//!     _permit: OwnedSemaphorePermit,
//! }
//!
//! impl Lease for TinyLease {
//!     fn client(&mut self) -> &Client {
//!         self.client.as_ref().expect("it is there until the drop")
//!     }
//! }
//!
//! impl Drop for TinyLease {
//!     fn drop(&mut self) {
//!         self.idle.lock().unwrap().extend(self.client.take());
//!     }
//! }
//! ```
//!
//! The test target makes its own tests, so `Cargo.toml` says
//!
//! ```toml
//! [dev-dependencies]
//! poolproof = { version = "0.1", default-features = false }
//!
//! [[test]]
//! name = "pool"
//! harness = false
//! ```
//!
//! # Features
//!
//! Each published pool is one: `bb8`, `deadpool`, `mobc`, `sqlx`, `fast_pool`, `qp`, `r2d2`. All are on by default;
//! `default-features = false` compiles none of them. `postgres` is for real servers, `docker` for those in containers, too,
//! `turmoil` for the world on turmoil's network; they are on by default as well. A workspace that turns `mobc` on needs a line under `[patch.crates-io]`, for mobc's timers
//! run by the wall clock otherwise: see the README.
//!
//! # Determinism
//!
//! The same scenario, pool and seed give the same trace, byte for byte. Where tokio is built without `--cfg tokio_unstable`, a
//! run is reproducible in a process of its own only, and has one.
//!
//! # The other modules
//!
//! [`scenario`] reads files; [`run`](mod@run) does one run of [`world`] and [`workload`]; [`trace`] tells it;
//! [`invariant`] and [`verdict`] judge it; [`campaign`] and [`worker`] do many. [`cli`] is the command line over all of it. These
//! follow the needs of poolproof itself; [`pool`], [`suite`](mod@suite) and the macros are what pool authors stand on.

pub use tokio_postgres;

pub mod agreement;
pub mod apps;
pub mod campaign;
mod census;
pub mod cli;
mod interleave;
pub mod invariant;
pub mod pool;
pub mod report;
pub mod run;
pub mod scenario;
mod search;
pub mod serve;
mod signals;
pub mod strategy;
pub mod suite;
pub mod trace;
pub mod verdict;
pub mod worker;
pub mod workload;
pub mod world;

/// The guide's examples are compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Guide;
