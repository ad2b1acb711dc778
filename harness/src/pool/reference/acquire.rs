//! An acquire: a place in the queue, a grant, a check, a lease. Each is a type of its own, which says what happens to the
//! connection (or to the place) when the acquire is cancelled there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lease::ReferenceLease;
use super::plant::Plant;
use super::state::{Conn, Phase, Place, Shared, WaiterId};
use crate::pool::{PoolError, PoolErrorKind};

/// How long a check may take, within `acquire_timeout`.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl Shared {
    /// Waits for a connection.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<ReferenceLease, PoolError> {
        let Some(limit) = self.settings.acquire_timeout else {
            return self.lease(None).await;
        };
        if self.planted(Plant::CheckOutsideTimeout) {
            return self.lease(Some(limit)).await;
        }
        let mut lease = std::pin::pin!(self.lease(None));
        loop {
            match timeout(limit, &mut lease).await {
                Ok(ended) => return ended,
                Err(_) if self.planted(Plant::TimeoutIgnoredWhileDialling) && self.dials() => {}
                Err(_) => return Err(self.timed_out(limit)),
            }
        }
    }

    /// Waits for a usable connection. `queue_limit` is for the queue alone.
    async fn lease(self: &Arc<Self>, queue_limit: Option<Duration>) -> Result<ReferenceLease, PoolError> {
        let mut place = Place::Back;
        loop {
            let granted = match queue_limit {
                None => self.wait(place).await?,
                Some(limit) => match timeout(limit, self.wait(place)).await {
                    Ok(granted) => granted?,
                    Err(_) => return Err(self.timed_out(limit)),
                },
            };
            place = Place::Front;
            if self.unusable(granted.conn()) {
                granted.retire();
                continue;
            }
            if self.planted(Plant::AutocommitOff) {
                // If it fails, so will whatever the caller sends.
                let _ = granted.conn().client.batch_execute("BEGIN").await;
            }
            if !self.settings.test_on_acquire {
                return granted.lease();
            }
            if let Some(granted) = Checking::new(granted).check().await {
                return granted.lease();
            }
        }
    }

    /// Waits in the queue.
    async fn wait(self: &Arc<Self>, place: Place) -> Result<Granted, PoolError> {
        let (grant, granted) = oneshot::channel();
        let id = self.update(|state, _| state.enqueue(place, grant, self)).ok_or_else(closed)?;
        let mut waiting = Waiting { shared: self, id, granted };
        self.misbehave(&mut waiting.granted).await;
        (&mut waiting.granted).await.map_err(|_| closed())
    }

    /// Planted bugs of an acquire that has to wait.
    async fn misbehave(&self, granted: &mut oneshot::Receiver<Granted>) {
        let mut hoard = Vec::new();
        while granted.is_empty() && !granted.is_terminated() {
            if self.planted(Plant::GrowsWithoutEnd) && hoard.len() < 1024 {
                hoard.push(vec![1u8; 1 << 20]);
            } else if self.planted(Plant::BlockingSleep) {
                return std::thread::sleep(Duration::from_secs(60));
            } else if !self.planted(Plant::SpinInAcquire) && !self.planted(Plant::GrowsWithoutEnd) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn dials(&self) -> bool {
        self.look(|state| state.slots.count(Phase::Dialling) > 0)
    }

    fn timed_out(&self, limit: Duration) -> PoolError {
        let message = match self.look(|state| state.last_error()) {
            Some(error) => format!("no connection within {limit:?}; the last dial failed: {error}"),
            None => format!("no connection within {limit:?}"),
        };
        PoolError { kind: PoolErrorKind::Timeout, message }
    }
}

fn closed() -> PoolError {
    PoolError { kind: PoolErrorKind::Closed, message: "the pool is closed".to_owned() }
}

/// A place in the queue. Dropped, it is left; what was granted meanwhile goes to the next ([`Granted`]).
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    id: WaiterId,
    granted: oneshot::Receiver<Granted>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.granted.is_terminated() && !self.shared.planted(Plant::WakeToDeadWaiter) {
            self.shared.update(|state, _| state.dequeue(self.id));
        }
    }
}

/// A connection on its way to a waiter. Dropped, it goes to the next one.
pub(super) struct Granted {
    conn: Option<Conn>,
    shared: Arc<Shared>,
}

impl Granted {
    pub(super) fn new(conn: Conn, shared: Arc<Shared>) -> Granted {
        Granted { conn: Some(conn), shared }
    }

    fn conn(&self) -> &Conn {
        self.conn.as_ref().expect("a grant has its connection until it is consumed")
    }

    pub(super) fn into_conn(mut self) -> Conn {
        self.conn.take().expect("a grant has its connection until it is consumed")
    }

    fn retire(self) {
        let shared = Arc::clone(&self.shared);
        let conn = self.into_conn();
        shared.update(|state, after| state.retire(conn, after));
    }

    fn lease(self) -> Result<ReferenceLease, PoolError> {
        if self.shared.look(|state| state.is_closed()) {
            return Err(closed());
        }
        let shared = Arc::clone(&self.shared);
        Ok(ReferenceLease::new(self.into_conn(), shared))
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if conn.fate.is_none() {
            return; // The twin of `Plant::LeaseHandedToTwo`.
        }
        if self.shared.planted(Plant::GrantLostOnCancel) {
            return self.shared.look(|state| state.put_quietly(conn));
        }
        self.shared.update(|state, after| state.refused(conn, &self.shared, after));
    }
}

/// A connection whose check is under way. Dropped, it is given up: its answer is still due.
struct Checking {
    granted: Option<Granted>,
}

impl Checking {
    fn new(granted: Granted) -> Checking {
        Checking { granted: Some(granted) }
    }

    /// The grant, if the server answered.
    async fn check(mut self) -> Option<Granted> {
        let granted = self.granted.as_ref()?;
        let unlimited = granted.shared.planted(Plant::CheckOutsideTimeout);
        let limit = if unlimited { Duration::MAX } else { CHECK_TIMEOUT };
        match timeout(limit, granted.conn().client.simple_query("")).await {
            Ok(Ok(_)) => self.granted.take(),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        let Some(granted) = self.granted.take() else {
            return;
        };
        if granted.shared.planted(Plant::CheckTimeoutReturnsConnection) {
            return;
        }
        let shared = Arc::clone(&granted.shared);
        granted.retire();
        if shared.planted(Plant::PermitLostOnCancelledCheck) {
            shared.look(|state| state.slots.open(Phase::Closing));
        }
    }
}
