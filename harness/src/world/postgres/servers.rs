//! The servers of this process: looked for once, made for each run, on a runtime of their own.
//!
//! A run's runtime has the pool's tasks and those that are counted as the world's ([`Tasks`](crate::world::tasks::Tasks)); what
//! controls and watches a server spawns tasks as it needs them, and does so here.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::server::{ServerError, Source, Wanted};

/// How long the last tasks of servers may take when nobody needs servers any more.
const END: Duration = Duration::from_secs(5);

/// Where servers come from in this process, until it is dropped.
pub struct Servers {
    wanted: Wanted,
    source: Option<Arc<Source>>,
    runtime: Option<Runtime>,
}

/// Those that are in use.
static OPEN: Mutex<Weak<Servers>> = Mutex::new(Weak::new());

impl Servers {
    /// Those in use, or what is found now. Keep it for as long as runs may follow: what it prepares is prepared once.
    ///
    /// # Errors
    /// There are none: what was tried, and why each failed.
    pub fn open(url: Option<&str>) -> Result<Arc<Servers>, ServerError> {
        let wanted = Wanted::from_environment(url.map(str::to_owned))?;
        let mut open = OPEN.lock();
        if let Some(servers) = open.upgrade().filter(|servers| servers.wanted == wanted) {
            return Ok(servers);
        }
        let servers = Servers::find(wanted)?;
        *open = Arc::downgrade(&servers);
        Ok(servers)
    }

    /// What is found of this kind.
    ///
    /// # Errors
    /// As [`Servers::open`].
    pub fn find(wanted: Wanted) -> Result<Arc<Servers>, ServerError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("poolproof servers").enable_all();
        let runtime = builder.build().map_err(|error| ServerError::Failed(error.to_string()))?;
        let source = runtime.block_on(Source::find(&wanted))?;
        Ok(Arc::new(Servers { wanted, source: Some(source), runtime: Some(runtime) }))
    }

    /// Where they come from.
    ///
    /// # Panics
    /// Never: it is there until this is dropped.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        self.source.as_ref().expect("it goes with this")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it goes with this")
    }

    /// Does something with a server, on the servers' runtime. It goes on when the caller is dropped.
    ///
    /// # Errors
    /// Its own; or it panicked.
    pub async fn with<T, F>(&self, future: F) -> Result<T, ServerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ServerError>> + Send + 'static,
    {
        match self.runtime().spawn(future).await {
            Ok(done) => done,
            Err(error) => Err(ServerError::Failed(format!("the control of the server ended: {error}"))),
        }
    }

    /// Drops something that belongs to a server, on the servers' runtime, and waits for it: a server is stopped so.
    pub fn dispose<T: Send + 'static>(&self, thing: T) {
        let (done, waits) = std::sync::mpsc::channel();
        self.runtime().spawn(async move {
            tokio::task::block_in_place(|| drop(thing));
            let _nobody_waits = done.send(());
        });
        let _it_panicked = waits.recv();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let entered = runtime.enter();
        drop(self.source.take());
        drop(entered);
        runtime.shutdown_timeout(END);
    }
}
