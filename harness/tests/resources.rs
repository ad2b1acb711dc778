//! Pools of resources: a small correct one, and what each of a few mistakes in it shows when its manager misbehaves. Each mistake
//! is declared, must show in its scenario, and nothing else may.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poolproof::pool::resource::{Manager, Resource, ResourceAdapter, Resources};
use poolproof::pool::{Capabilities, Lease, Pool, PoolError, PoolErrorKind, PoolSettings, Reset, Status, async_trait};
use poolproof::scenario::settings::KnownBug;
use poolproof::tokio_postgres::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a reset may take.
const RESET: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let all: &[_] = &["manager_check", "manager_connect", "manager_reset"];
    let shows: [(_, &[_], &[_]); 4] = [
        (Mistake::FailedConnectTakesPlace, &["manager_connect"], &["quiescent-capacity", "no-lost-wakeup"]),
        (Mistake::PanicTakesPlace, all, &["quiescent-capacity", "no-lost-wakeup"]),
        (Mistake::CheckOutsideTimeout, &["manager_check", "manager_connect"], &["deadline"]),
        (Mistake::FailedResetIsLent, &["manager_reset"], &["clean-hand-out", "effects"]),
    ];
    let mut suite = poolproof::suite!().built_in(["manager"]).pool(Resources(Keeper(None)));
    for (mistake, scenarios, invariants) in shows {
        let keeper = Keeper(Some(mistake));
        for violates in invariants {
            suite = suite.known(KnownBug {
                scenarios: scenarios.iter().map(ToString::to_string).collect(),
                violates: (*violates).to_owned(),
                link: "https://github.com/poolproof/poolproof/blob/main/harness/tests/resources.rs".to_owned(),
                pool: Some(keeper.name().to_owned()),
                versions: "*".to_owned(),
            });
        }
        suite = suite.pool(Resources(keeper));
    }
    suite.main()
}

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    /// A place is given back by hand, and not where `connect` fails.
    FailedConnectTakesPlace,
    /// A place is given back by hand, and not where the manager panics or the caller gives up.
    PanicTakesPlace,
    /// Only the wait for a place is limited.
    CheckOutsideTimeout,
    /// What could not be reset is kept.
    FailedResetIsLent,
}

struct Keeper(Option<Mistake>);

#[async_trait]
impl ResourceAdapter for Keeper {
    fn name(&self) -> &'static str {
        match self.0 {
            None => "keeper",
            Some(Mistake::FailedConnectTakesPlace) => "failed_connect_takes_place",
            Some(Mistake::PanicTakesPlace) => "panic_takes_place",
            Some(Mistake::CheckOutsideTimeout) => "check_outside_timeout",
            Some(Mistake::FailedResetIsLent) => "failed_reset_is_lent",
        }
    }

    fn version(&self) -> &'static str {
        "0.1.0"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            acquire_timeout: true,
            test_on_acquire: true,
            reset_rollback: true,
            ..Capabilities::default()
        }
    }

    async fn build(&self, settings: &PoolSettings, manager: Manager) -> Result<Arc<dyn Pool>, PoolError> {
        let places = Arc::new(Semaphore::new(settings.max_size as usize));
        let idle = Mutex::default();
        let inner = Inner { manager, places, idle, settings: settings.clone(), mistake: self.0 };
        Ok(Arc::new(KeeperPool(Arc::new(inner))))
    }
}

struct Inner {
    manager: Manager,
    places: Arc<Semaphore>,
    idle: Mutex<VecDeque<Resource>>,
    settings: PoolSettings,
    mistake: Option<Mistake>,
}

impl Inner {
    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn take(&self) -> Option<Resource> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn keep(&self, resource: Resource) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(resource);
    }

    async fn resource(&self) -> Result<Resource, PoolError> {
        while let Some(mut resource) = self.take() {
            if resource.is_broken() {
                continue;
            }
            if !self.settings.test_on_acquire || self.manager.check(&mut resource).await.is_ok() {
                return Ok(resource);
            }
        }
        self.manager.connect().await
    }

    async fn lease(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Result<Box<dyn Lease>, PoolError> {
        if self.has(Mistake::PanicTakesPlace) {
            place.forget();
            let resource = self.resource().await;
            self.places.add_permits(1);
            let place = Arc::clone(&self.places).try_acquire_owned();
            let place = place.map_err(|_| PoolError::new(PoolErrorKind::Other, "somebody was faster"))?;
            return Ok(Box::new(KeeperLease { lent: Some((resource?, place)), inner: Arc::clone(self) }));
        }
        match self.resource().await {
            Ok(resource) => Ok(Box::new(KeeperLease { lent: Some((resource, place)), inner: Arc::clone(self) })),
            Err(error) => {
                if self.has(Mistake::FailedConnectTakesPlace) {
                    place.forget();
                }
                Err(error)
            }
        }
    }
}

struct KeeperPool(Arc<Inner>);

#[async_trait]
impl Pool for KeeperPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let limit = self.0.settings.acquire_timeout.unwrap_or(Duration::MAX);
        let late = |_| PoolError::new(PoolErrorKind::Timeout, "timed out");
        let place = async { Arc::clone(&self.0.places).acquire_owned().await.expect("it is never closed") };
        if self.0.has(Mistake::CheckOutsideTimeout) {
            return self.0.lease(timeout(limit, place).await.map_err(late)?).await;
        }
        timeout(limit, async { self.0.lease(place.await).await }).await.map_err(late)?
    }

    fn status(&self) -> Option<Status> {
        None
    }
}

struct KeeperLease {
    lent: Option<(Resource, OwnedSemaphorePermit)>,
    inner: Arc<Inner>,
}

impl Lease for KeeperLease {
    fn client(&mut self) -> &Client {
        self.lent.as_ref().expect("it is there until the drop").0.client()
    }
}

impl Drop for KeeperLease {
    fn drop(&mut self) {
        let Some((mut resource, place)) = self.lent.take() else { return };
        let inner = Arc::clone(&self.inner);
        if inner.settings.reset_on_return == Reset::None {
            inner.keep(resource);
            return;
        }
        // Nothing can be awaited in a drop. Where there is no runtime any more, nobody needs the resource.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let reset = timeout(RESET, inner.manager.reset(&mut resource)).await;
            if matches!(reset, Ok(Ok(()))) || inner.has(Mistake::FailedResetIsLent) {
                inner.keep(resource);
            }
            drop(place);
        });
    }
}
