//! The task behind a permit: it dials, hands the connection to the pool, and watches it until its socket is closed. The
//! permit is in use for as long as this task lives, so there is no way to lose it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::plant::Plant;
use super::state::{Conn, Fate, Phase, Shared, SlotId};
use crate::pool::connector::Connection;
use crate::pool::error::describe;

/// How long a dial may take, startup included; `acquire_timeout` if that is shorter.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a given-up connection may take to end in order: the driver first waits for the answers that are due.
const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// A permit in use.
pub(super) struct Permit {
    shared: Arc<Shared>,
    id: SlotId,
    ended: bool,
}

impl Permit {
    pub(super) fn new(shared: Arc<Shared>, id: SlotId) -> Permit {
        Permit { shared, id, ended: false }
    }
}

impl Drop for Permit {
    /// The task was dropped unfinished: the pool ended its dial, or the runtime itself ends, and the pool with it.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (shared, id) = (&self.shared, self.id);
        shared.update(|state, after| {
            if state.slots.phase(id) != Some(Phase::Closing) {
                state.close(shared, after);
            }
            state.slots.remove(id);
        });
        shared.tell_close();
    }
}

/// Dials, and watches.
pub(super) async fn run(mut permit: Permit) {
    let shared = Arc::clone(&permit.shared);
    let id = permit.id;
    match dial(&shared).await {
        Ok(connection) => {
            let fate = watch(&shared, id, connection).await;
            permit.ended = true;
            if !(fate == End::Detached && shared.planted(Plant::DetachKeepsPermit)) {
                free(&shared, id, fate);
            }
        }
        Err(error) => {
            permit.ended = true;
            shared.update(|state, after| {
                if shared.planted(Plant::PermitLostOnFailedDial) {
                    state.slots.set(id, Phase::Closing);
                } else {
                    state.slots.remove(id);
                }
                state.dial_failed(id, error.into(), &shared, after);
            });
        }
    }
    shared.tell_close();
}

/// How a connection ended for the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Broken,
    Closed,
    Detached,
}

async fn dial(shared: &Shared) -> Result<Connection, String> {
    let limit = shared.settings.acquire_timeout.map_or(DIAL_TIMEOUT, |timeout| timeout.min(DIAL_TIMEOUT));
    let limit = if shared.planted(Plant::DialWithoutTimeout) { Duration::MAX } else { limit };
    match timeout(limit, shared.connector.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err(format!("no session within {limit:?}")),
    }
}

async fn watch(shared: &Arc<Shared>, id: SlotId, connection: Connection) -> End {
    let Connection { client, task: mut driver } = connection;
    let now = Instant::now();
    let lifetime = shared.settings.max_lifetime.map(|limit| limit - share_of_tenth(id, limit));
    if let (true, Some(lifetime)) = (shared.planted(Plant::ReaperClosesLeased), lifetime) {
        shared.look(|state| state.planted().drivers.insert(id, (now + lifetime, driver.abort_handle())));
        shared.wake_reaper.notify_one();
    }
    let (fate, decided) = oneshot::channel();
    let conn = Conn { id, client: Arc::new(client), born: now, idle_since: now, lifetime, fate: Some(fate) };
    shared.update(|state, after| state.dialled(conn, shared, after));
    tokio::select! {
        biased;
        decided = decided => match decided {
            Ok(Fate::Detached) => return End::Detached,
            // Dropped: the pool gave it up.
            Err(_) => {}
        },
        _ = &mut driver => return End::Broken,
    }
    shared.update(|state, _| state.slots.set(id, Phase::Closing));
    if timeout(CLOSE_GRACE, &mut driver).await.is_err() {
        driver.abort();
        // An aborted task ends with an error that says so.
        let _ = driver.await;
    }
    End::Closed
}

fn free(shared: &Arc<Shared>, id: SlotId, end: End) {
    if shared.planted(Plant::NoWakeAfterBroken) {
        return shared.look(|state| state.slots.remove(id));
    }
    shared.update(|state, after| {
        state.slots.remove(id);
        state.ended(id, shared, after);
        if end == End::Broken && shared.planted(Plant::StatusCountsBroken) {
            state.planted().broken += 1;
        }
    });
}

/// A part of a tenth of `limit`, different for each connection, and the same in each run.
fn share_of_tenth(id: SlotId, limit: Duration) -> Duration {
    // The golden ratio's multiples, modulo 1, are spread evenly however many there are.
    let part = (id.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    limit / 10 * (part >> 16) / 0x1_0000
}
